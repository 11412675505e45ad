/* Every maximum in one place. A buffer, queue, loop over input, recursion or timeout without a row here is a bug.
 * Sizes are bytes, times milliseconds, unless the name says otherwise. */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

#include <limits.h>

/* HTTP: from the wire */
#define LIMIT_HEAD_BYTES     (64 * 1024)   /* request or response line plus headers */
#define LIMIT_HEADER_COUNT   100           /* header lines in one head */
#define LIMIT_TARGET_BYTES   8192          /* request target */
#define LIMIT_CHUNK_LINE     256           /* a chunk-size line with its extensions */
#define LIMIT_TRAILER_BYTES  8192          /* all trailer lines of one message */
#define LIMIT_BODY_BYTES     (32u << 20)   /* default of server.max_body_mb */
#define LIMIT_BODY_BYTES_MAX (1024u << 20) /* largest server.max_body_mb */
#define LIMIT_PIPELINE_BYTES (64 * 1024)   /* unread bytes held while a request is being answered */

/* HTTP: ours */
#define LIMIT_UNSENT_BYTES     (256 * 1024)  /* a stream with more unsent stops its producer */
#define LIMIT_STALL_MS         30000         /* a stream that makes no progress for so long is closed */
#define LIMIT_PING_MS          15000         /* SSE comment when nothing flows */
#define LIMIT_HEAD_MS          10000         /* default of server.header_timeout_seconds */
#define LIMIT_BODY_MS          60000         /* longest pause between two pieces of a request body */
#define LIMIT_CONNECTIONS      65536         /* most connections one listener may be told to hold */
#define LIMIT_POOL_IDLE        64            /* idle upstream connections kept for one target */
#define LIMIT_CONNECT_MS       5000          /* connecting to an upstream */
#define LIMIT_LINGER_MS        2000          /* reading on after the last reply, so that the client gets to see it */
#define LIMIT_DISCARD_BYTES    (256 * 1024)  /* unwanted body bytes read before the connection is given up */
#define LIMIT_REPLY_BYTES      (1024u << 20) /* unsent bytes of one connection, all told */
#define LIMIT_POOL_IDLE_MS     4000          /* idle upstream connections are closed before the upstream does it */
#define LIMIT_INTERIM_REPLIES  16            /* 1xx replies skipped before a final one */
#define LIMIT_SSE_EVENT        (16u << 20)   /* one event as a reader of streams takes it */
#define LIMIT_ROUTE_SEGMENTS   24            /* of a route's pattern */
#define LIMIT_SENDFILE_TURN    (1u << 20)    /* file bytes sent before others get their turn */
#define LIMIT_BACKLOG          1024          /* connections the kernel holds until they are accepted */
#define LIMIT_FORM_PARTS       64            /* of a multipart form, until the one looked for */
#define LIMIT_WS_MESSAGE       (1u << 20)    /* default of websocket.max_message_kb */
#define LIMIT_WS_MESSAGE_MAX   (64u << 20)   /* largest websocket.max_message_kb */
#define LIMIT_WS_PING_MS       30000         /* default of websocket.ping_seconds */
#define LIMIT_WS_MISSES        2             /* pings in a row that may stay without an answer */
#define LIMIT_WS_CLOSE_MS      5000          /* for the client's answer to our close frame */
#define LIMIT_WS_REASON        123           /* bytes of a close reason */
#define LIMIT_WS_STREAMS       256           /* largest websocket.max_streams */
#define LIMIT_WS_SUBSCRIPTIONS 16            /* of one WebSocket */
#define LIMIT_WS_ID            128           /* bytes of a message's id */
#define LIMIT_WS_BAD           10            /* messages in a row that make no sense */
#define LIMIT_WS_HEARTBEAT_MS  30000         /* of the older dialect */
#define LIMIT_WS_PROGRESS_MS   200           /* between two reports of a model's progress */

/* Buffers */
#define LIMIT_BUF_SURE (256 * 1024) /* a buffer no larger is small: no memory for it ends the process */

/* JSON */
#define LIMIT_JSON_DEPTH   64
#define LIMIT_JSON_TEXT    (1024u << 20) /* largest document written */
#define LIMIT_OPENAPI      (8u << 20)    /* description of the API */
#define LIMIT_SWAGGER_FILE (16u << 20)   /* a file of its page, unpacked */

/* OpenAI requests (specs/inferno.md 1.9) */
#define LIMIT_MODEL_NAME          512
#define LIMIT_MESSAGES            10000
#define LIMIT_PROMPTS             2048
#define LIMIT_EMBED_INPUTS        2048
#define LIMIT_EMBED_TOKENS        300000
#define LIMIT_STOPS               16
#define LIMIT_STOP_BYTES          256
#define LIMIT_CHOICES             128
#define LIMIT_BEST_OF             20
#define LIMIT_TOOLS               128
#define LIMIT_TOOL_NAME           64
#define LIMIT_LOGIT_BIAS          1024
#define LIMIT_DRY_BREAKERS        32
#define LIMIT_DRY_BREAKER_BYTES   40 /* of one of them */
#define LIMIT_TOP_LOGPROBS        20
#define LIMIT_COMPLETION_LOGPROBS 5    /* alternatives per token of /v1/completions */
#define LIMIT_TOKEN_TEXT          1024 /* bytes of one token's text */
#define LIMIT_PARTS               1024 /* content parts of one message */
#define LIMIT_GRAMMAR_BYTES       (1u << 20)

/* Responses and Messages (api/responses, api/anthropic) */
#define LIMIT_RESPONSE_ITEMS       10000               /* of one input */
#define LIMIT_RESPONSE_ID          256                 /* bytes of an id or a name that a client gives back */
#define LIMIT_RESPONSE_OUTPUTS     1024                /* items of one reply */
#define LIMIT_RESPONSE_BYTES       (16u << 20)         /* one text of a reply; one turn as it is kept */
#define LIMIT_RESPONSE_CHAIN       1000                /* kept turns that a conversation is rebuilt from */
#define LIMIT_RESPONSE_CHAIN_BYTES (16u << 20)         /* all of them together */
#define LIMIT_RESPONSES            100000              /* turns kept, of everybody; the oldest go */
#define LIMIT_RESPONSE_KEPT_S      (30 * 24 * 60 * 60) /* seconds that a turn is kept */
#define LIMIT_RESPONSE_PAGE        100                 /* items of one page of a list */
#define LIMIT_METADATA             16                  /* members of "metadata" */
#define LIMIT_METADATA_TEXT        512                 /* bytes of one of its values */

/* Images of chats (openai/image.h, worker/vision.h) */
#define LIMIT_IMAGES        16           /* of one request */
#define LIMIT_IMAGE_BYTES   (20u << 20)  /* of one, as a file */
#define LIMIT_IMAGE_SIDE    16384        /* pixels */
#define LIMIT_IMAGE_PIXELS  (32u << 20)  /* of one; decoding takes some 10 bytes for each */
#define LIMIT_IMAGES_PIXELS (64u << 20)  /* of one request's together */
#define LIMIT_JPEG_SCANS    64           /* passes over the picture that one file may ask for */
#define LIMIT_IMAGE_URL     8192         /* bytes of an http or https one */
#define LIMIT_IMAGE_MS      20000        /* for fetching one from its URL */
#define LIMIT_IMAGE_HOPS    3            /* redirects on the way */
#define LIMIT_IMAGE_CELLS   4            /* an image of fewer cells cannot be told from others for sure */
#define LIMIT_PICTURES      512          /* pieces that one request's images are encoded in */
#define LIMIT_PICTURE_CACHE (128u << 20) /* bytes of encoded images kept for the next turn */
#define LIMIT_SIGHTS        64           /* requests with images that wait for their encoding */

/* Worker */
#define LIMIT_QUEUE              512   /* default of server.queue_size: requests waiting for a sequence */
#define LIMIT_QUEUE_MAX          65536 /* largest server.queue_size */
#define LIMIT_THREADS            1024
#define LIMIT_REQUEST_SECONDS    86400 /* largest --request-timeout */
#define LIMIT_TEMPLATE_BYTES     (4u << 20)
#define LIMIT_WORKER_CONNECTIONS 4096
#define LIMIT_KEEP_ALIVE_MS      75000       /* idle connection between requests */
#define LIMIT_DRAIN_MS           30000       /* for running replies after the first signal */
#define LIMIT_LOGPROB_BYTES      (64u << 20) /* log probabilities kept for one choice */
#define LIMIT_HELD_BYTES         (1u << 20) /* text one choice holds back for a stop string or an unfinished character */
#define LIMIT_UNDELIVERED        256        /* events of one request the loop has not taken yet; more and it sits out */
#define LIMIT_SCORE_BYTES        (16u << 20) /* logits asked for at once when a prompt is scored */
#define LIMIT_STALL_STEP_MS      100         /* prefill added to a step of running decodes */
#define LIMIT_PREFILL_PIECE      256         /* tokens of it at most */
#define LIMIT_SIBLING_TOKENS     32          /* a shorter common prefix is not worth waiting for */
#define LIMIT_RETRY_AFTER_MS     1000        /* told to clients that meet a full queue */
#define LIMIT_GRAMMAR_DEPTH      128         /* parentheses in a GBNF text */
#define LIMIT_TELL_LOAD_MS       250         /* between two words of a worker about how busy it is */
#define LIMIT_TUNE_IDLE_MS       5000        /* without work until a worker measures its attention */
#define LIMIT_TUNE_LOOK_MS       500         /* between two looks whether it has any */
#define LIMIT_SCHEMA_DEPTH       32          /* nesting of a JSON schema */
#define LIMIT_SEQUENCES          256         /* sequences in one context (llama.cpp's own maximum) */
#define LIMIT_PREFILL_LEAST      4           /* tokens of it at least */
#define LIMIT_PREFILL_BURST      64          /* so many at once beside running decodes that had none for a while */
#define LIMIT_STREAMS_HELD       4 /* clients with more streams slow down while another client's prompt is read */
#define LIMIT_KV_MB              (1u << 24) /* largest kv_memory_mb and kv_disk_mb */
#define LIMIT_KV_FILES           4096       /* states on disk of one model */
#define LIMIT_KV_QUIET_MS        500        /* nothing to do for so long: copies are made */
#define LIMIT_KV_FLUSH_MS        4000       /* states are written to disk for so long at the end */
#define LIMIT_RETRY_AFTER_MS     1000       /* told to clients that meet a full queue */
#define LIMIT_GRAMMAR_DEPTH      128        /* parentheses in a GBNF text */
#define LIMIT_TELL_LOAD_MS       250        /* between two words of a worker about how busy it is */
#define LIMIT_SCHEMA_DEPTH       32         /* nesting of a JSON schema */
#define LIMIT_SEQUENCES          256        /* sequences in one context (llama.cpp's own maximum) */
#define LIMIT_RETRY_AFTER_MS     1000       /* told to clients that meet a full queue */
#define LIMIT_GRAMMAR_DEPTH      128        /* parentheses in a GBNF text */
#define LIMIT_TELL_LOAD_MS       250        /* between two words of a worker about how busy it is */
#define LIMIT_SCHEMA_DEPTH       32         /* nesting of a JSON schema */
#define LIMIT_LOOKUP_SLOTS       (1u << 20) /* n-grams of one branch that can be found; 4 bytes each */
#define LIMIT_LOOKUP_MATCH       32         /* tokens of a match that are counted */
#define LIMIT_LOOKUP_FEED        1024       /* tokens indexed in one step: less than one in a hundred of its time */
#define LIMIT_DRAFT_TOKENS       24         /* tokens of one guess */
#define LIMIT_DRAFT_ROWS         64         /* rows of a step that carries guesses, those due included */
#define LIMIT_SAMPLE_HELPERS     7          /* threads that pick tokens besides the decode thread */
#define LIMIT_SEQUENCES          256        /* sequences in one context (llama.cpp's own maximum) */
#define LIMIT_RETRY_AFTER_MS     1000       /* told to clients that meet a full queue */
#define LIMIT_GRAMMAR_DEPTH      128        /* parentheses in a GBNF text */
#define LIMIT_LORAS              8          /* adapters on one model */
#define LIMIT_DEVICES            16         /* GPUs of a machine that are used (llama.cpp's own maximum) */
#define LIMIT_GPU_MB             (1 << 22)  /* largest backend_config.gpu_memory_mb */
#define LIMIT_TELL_LOAD_MS       250        /* between two words of a worker about how busy it is */
#define LIMIT_SCHEMA_DEPTH       32         /* nesting of a JSON schema */
#define LIMIT_SEQUENCES          256        /* sequences in one context (llama.cpp's own maximum) */

/* Instances */
#define LIMIT_MODELS             4096   /* model files known at once */
#define LIMIT_PROJECTORS         64     /* of one folder */
#define LIMIT_MODEL_DIR_DEPTH    4      /* folders below models_dir that are looked into */
#define LIMIT_LOG_RING           16384  /* last output of a child kept in memory */
#define LIMIT_START_MS           600000 /* a child that is not ready by then is ended */
#define LIMIT_WAITERS            4096   /* requests waiting for one start */
#define LIMIT_RESTART_BACKOFF_MS 300000 /* longest pause after a crash */

#define LIMIT_YIELD_MS               2000 /* waited so long, a busy instance takes no new requests and goes after its last */
#define LIMIT_GRACE_FOREVER          UINT_MAX   /* as a grace: until the last reply has ended */
#define LIMIT_STABLE_MS              60000      /* running so long clears the crashes */
#define LIMIT_RESTART_DELAY_LEAST_MS 100        /* a restart_delay of 0 is this: no crash loop without a breath */
#define LIMIT_PROBE_MS               100        /* between two questions for a backend's health */
#define LIMIT_PROBE_ANSWER_MS        5000       /* for the answer */
#define LIMIT_ORPHAN_MS              3000       /* for what a killed daemon left, between asking and killing */
#define LIMIT_ENVIRONMENT            (4u << 20) /* bytes of a process's environment that are looked at */
#define LIMIT_HELP_TEXT              (4u << 20) /* what a program prints for --help */
#define LIMIT_INSTANCES              1024       /* named instances */
#define LIMIT_BACKEND_KEY            512        /* bytes of a backend's own key */
#define LIMIT_NODES                  64
#define LIMIT_NODE_POLL_MS           2000        /* between two looks at another node */
#define LIMIT_NODE_CALL_MS           10000       /* for a node's answer to a management call */
#define LIMIT_NODE_REPLY             (16u << 20) /* bytes of it */
#define LIMIT_INSTANCE_NAME          50
#define LIMIT_OPTIONS_BYTES          (1u << 20)  /* an instance's options as JSON */
#define LIMIT_COMMAND_BYTES          (64 * 1024) /* a command line to be split */
#define LIMIT_FLAGS                  2048        /* of a program's --help */
#define LIMIT_INSTANCES              1024        /* named instances */
#define LIMIT_INSTANCE_NAME          50
#define LIMIT_OPTIONS_BYTES          (1u << 20) /* an instance's options as JSON */

#define LIMIT_LOG_LINE    (1u << 20) /* a longer line of an instance comes in pieces */
#define LIMIT_LOG_WAITING (1u << 20) /* output not written yet; more and the child's pipe is not read */

#define LIMIT_FOLLOW_TAIL (4u << 20) /* bytes of a log sent before its live lines */

/* Store and keys */
#define LIMIT_STORE_CALLS   4096
#define LIMIT_STORE_RESULT  (64u << 20) /* bytes of one statement's result */
#define LIMIT_LEGACY_CHECKS 4           /* presented keys waiting for Argon2id */
#define LIMIT_KEYS          100000
#define LIMIT_KEY_USE_MS    60000 /* a key's time of use waits so long to be stored */

/* Users and tokens */
#define LIMIT_TOKEN_BYTES      8192   /* a token as it is presented */
#define LIMIT_TOKEN_CACHE      4096   /* tokens whose signature was checked and that are remembered */
#define LIMIT_ENDED_TOKENS     100000 /* ended before their time and not expired yet */
#define LIMIT_USERS            10000
#define LIMIT_USER_NAME        64
#define LIMIT_PASSWORD         256   /* bytes */
#define LIMIT_PASSWORD_JOBS    2     /* Argon2id computations at once */
#define LIMIT_PASSWORD_WAITING 64    /* and waiting for their turn */
#define LIMIT_GUESSERS         4096  /* addresses or names whose failures are counted */
#define LIMIT_GUESSES          10    /* failed credentials of an address ... */
#define LIMIT_GUESSES_MS       60000 /* ... within this time; then it waits for the rest of it */
#define LIMIT_LOGIN_FAILURES   5     /* of one name, then each costs a wait ... */
#define LIMIT_LOGIN_WAIT_MS    1000  /* ... that begins with this and doubles */
#define LIMIT_LOGIN_WAIT_MAX   900000
#define LIMIT_LOGIN_MEMORY_MS  3600000 /* failures that long ago are forgotten */
#define LIMIT_KEY_MODELS       64      /* patterns of one key */

/* Downloads */
#define LIMIT_FETCH_JOBS           64           /* jobs kept, ended ones too */
#define LIMIT_FETCH_FILES          4096         /* files of one repository */
#define LIMIT_FETCH_RUNNING        4            /* jobs at work at once; the others are queued */
#define LIMIT_FETCH_THREADS        5            /* files of one job at once */
#define LIMIT_FETCH_PAGES          256          /* pages of one repository's tree */
#define LIMIT_FETCH_PAGE           (16u << 20)  /* one JSON reply of a hub */
#define LIMIT_FETCH_FILE_BYTES     (1ull << 50) /* one file, as a hub declares it */
#define LIMIT_FETCH_URL            8192         /* a hub's link to the next page */
#define LIMIT_FETCH_NAME           96           /* organisation or model name */
#define LIMIT_FETCH_TAG            64
#define LIMIT_FETCH_PATH           1024 /* a file's path in its repository */
#define LIMIT_FETCH_FOLDERS        16   /* folders in it */
#define LIMIT_FETCH_TRIES          6    /* in a row that bring less than LIMIT_FETCH_ADVANCE */
#define LIMIT_FETCH_ADVANCE        (1u << 20)
#define LIMIT_FETCH_BACKOFF_MS     500 /* pause after the first failed try; doubles */
#define LIMIT_FETCH_BACKOFF_MAX_MS 30000
#define LIMIT_FETCH_RETRY_AFTER_MS 60000 /* longest pause that a server may ask for */
#define LIMIT_FETCH_CONNECT_MS     30000
#define LIMIT_FETCH_REDIRECTS      10
#define LIMIT_FETCH_PROGRESS_MS    100      /* between two reports of a job's progress */
#define LIMIT_FETCH_KEPT_MS        86400000 /* an ended job is remembered */

/* GGUF header (registry file reader) */
#define LIMIT_GGUF_KV      65536
#define LIMIT_GGUF_TENSORS 1000000
#define LIMIT_GGUF_STRING  (16u << 20)
#define LIMIT_GGUF_ARRAY   (64u << 20) /* elements */
#define LIMIT_GGUF_SHARDS  1024
#define LIMIT_GGUF_SHOWN   (1u << 20) /* a text that is handed out, such as the chat template */
#define LIMIT_GGUF_LENGTH  (1u << 20) /* a number of the model's shape; larger ones are taken for this */
#define LIMIT_LAYERS       512        /* of a model (llama.cpp's own maximum) */

/* Ollama's API (api/ollama) */
#define LIMIT_OLLAMA_PULL_MS 100         /* between two looks at a download that is waited for */
#define LIMIT_OLLAMA_INFO    (16u << 20) /* all that a model's header says of itself */

/* Measurements, internal calls, limits of callers */
#define LIMIT_SUBJECTS       65536        /* keys, users and addresses whose requests are counted */
#define LIMIT_METRIC_SERIES  4096         /* of one family; what goes beyond is "other" */
#define LIMIT_METRIC_LABELS  4096         /* bytes of one series' labels */
#define LIMIT_USAGE_BYTES    4096         /* of a reply's usage object; a larger one is not looked at */
#define LIMIT_UPSTREAM_REPLY (256u << 20) /* a reply that is collected */

/* Health */
#define LIMIT_HEALTH_CHECK_MS  5000         /* between two looks at the database and the disk */
#define LIMIT_HEALTH_STORE_MS  10000        /* without an answer of the database for so long, it is lost */
#define LIMIT_HEALTH_RECENT_MS 300000       /* trouble that long ago is over */
#define LIMIT_HEALTH_DISK      (256u << 20) /* bytes free for state_dir; fewer is nearly full */
#define LIMIT_HEALTH_PROBLEMS  16           /* told by /health */

/* Traces */
#define LIMIT_TRACE_QUEUE    8192       /* spans waiting to be exported; the oldest go */
#define LIMIT_TRACE_SPAN     (8 * 1024) /* bytes of one as JSON; a longer one is dropped */
#define LIMIT_TRACE_TEXT     256        /* bytes of an attribute that a client chose; more are cut */
#define LIMIT_TRACE_BATCH    512        /* spans of one request to the collector */
#define LIMIT_TRACE_TRIES    5          /* of one batch; then it is dropped */
#define LIMIT_TRACE_CALL_MS  10000      /* for the collector's answer */
#define LIMIT_TRACE_PAUSE_MS 30000      /* longest pause between two tries */
#define LIMIT_TRACE_FLUSH_MS 2000       /* for what is left when the server ends */
#define LIMIT_TRACE_HEADERS  32         /* of observability.otlp_headers */
/* Batches */
#define LIMIT_BATCH_REQUESTS    4096         /* largest batch.max_requests */
#define LIMIT_BATCH_ID          256          /* bytes of an item's id */
#define LIMIT_BATCH_LEAST       4            /* items at once while nobody knows how many sequences there are */
#define LIMIT_BATCH_RUNNING     512          /* items at once */
#define LIMIT_BATCH_WAIT_MS     600000       /* an item that is refused for so long fails */
#define LIMIT_BATCH_HOLD_MS     60000        /* longest pause after a refusal */
#define LIMIT_BATCH_REPLY       (256u << 20) /* the replies of one call together */
#define LIMIT_BATCHES           1000         /* not ended yet */
#define LIMIT_BATCH_LINES       50000        /* largest batch.max_lines */
#define LIMIT_BATCH_LINE        (16u << 20)  /* bytes of one line of an input */
#define LIMIT_BATCH_AHEAD       (8u << 20)   /* bytes of lines read before they are due; of outputs not yet written */
#define LIMIT_BATCH_AHEAD_LINES 64           /* lines read at once */
#define LIMIT_BATCH_ERRORS      100          /* bad lines that are told */
#define LIMIT_BATCH_WINDOW_S    (7 * 86400)  /* longest completion_window, seconds */
#define LIMIT_BATCH_SWEEP_MS    600000       /* between two looks for files that have expired */
#define LIMIT_FILES             10000        /* of one owner */
#define LIMIT_FILE_MB           2048         /* largest batch.max_file_mb */
#define LIMIT_FILE_NAME         255          /* bytes */
#define LIMIT_FILE_PAGE         10000        /* files of one page of a list */
#define LIMIT_BATCH_PAGE        100          /* batches of one page of a list */
#define LIMIT_PART_HEAD         8192         /* the header lines of one part of a form that is read as it comes */
#define LIMIT_PART_FIELD        256          /* bytes of a form's short field */
#define LIMIT_UPLOAD_PIECE      (256 * 1024) /* bytes of an upload that wait to be written; more and it is not read */

/* Configuration */
#define LIMIT_CONFIG_BYTES (1u << 20)
#define LIMIT_TOML_DEPTH   64
#define LIMIT_TOML_KEYS    10000

/* Errors */
#define LIMIT_ERR_MESSAGE 512
#define LIMIT_ERR_PARAM   128
#define LIMIT_ERR_DETAILS 1024

#endif
