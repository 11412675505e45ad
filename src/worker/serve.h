/* The worker's I/O side: an HTTP server on one loop that turns requests into submissions to the scheduler and its
 * events into replies. Everything here belongs to the loop's thread, except the loading of the model, which runs on a
 * pool thread while the server already answers /health. */
#ifndef WORKER_SERVE_H
#define WORKER_SERVE_H

#include <stdatomic.h>

#include "http/route.h"
#include "http/server.h"
#include "openai/reply.h"
#include "openai/request.h"
#include "worker/chat.h"
#include "worker/engine.h"
#include "worker/sched.h"
#include "worker/serve_tune.h"
#include "worker/vision.h"

#define KV_MEMORY_AUTO UINT32_MAX

struct serve_options {
    struct engine_config engine;
    const struct engine_ops *ops;
    const char *socket;  /* Unix socket, or NULL */
    const char *address; /* TCP, or NULL */
    int port;
    const char *alias;         /* the model's name; NULL: its file's */
    const char *projector;     /* of a model that sees; or NULL */
    bool private_images;       /* images may come from URLs at private addresses */
    const char *template_file; /* overrides the model's chat template; or NULL */
    unsigned queue_size;
    enum sched_lookup lookup;
    unsigned kv_memory_mb, kv_disk_mb; /* for states outside the cache; KV_MEMORY_AUTO: chosen by the machine */
    const char *kv_folder;             /* for those that outlive the worker, or NULL */
    unsigned request_timeout_ms;       /* 0: none */
    uint64_t max_body;                 /* bytes */
    int notify_fd;                     /* for notify.h, or -1 */
    struct openai_defaults chat, completion;
};

enum serve_state { SERVE_LOADING, SERVE_READY, SERVE_STOPPING };

struct serve {
    const struct serve_options *options;
    struct loop loop;
    struct http_server *http;
    struct http_router *router;
    uv_signal_t terminate, interrupt;
    enum serve_state state;
    unsigned stops; /* signals so far */
    bool drained;
    int exit_code;

    struct loop_job load; /* running while loading is true */
    bool loading;
    atomic_uint progress; /* of loading, in thousandths; written by the pool thread */
    atomic_bool abandon;  /* tells the pool thread to stop loading */
    struct err load_error;

    struct engine *engine; /* owned by sched once that exists */
    const struct engine_info *info;
    struct vision *vision; /* NULL: the model reads text only */
    unsigned sights;       /* requests whose images are being read: see serve_vision.h */
    struct sched *sched;
    struct serve_tune tune;
    struct deadline tell_load; /* to the parent */
    struct sched_stats told;
    struct chat_templates *templates; /* NULL: the model has none */
    struct err template_error;        /* why */
    char model[LIMIT_MODEL_NAME + 1];
    struct buf kv_identity; /* what a state of the cache depends on, as text */
    char fingerprint[OPENAI_FINGERPRINT_SIZE];
    int64_t created; /* the model file's time */
};

/* Runs until a signal or a failure; returns the exit status. */
int serve_run(const struct serve_options *options);

/* ---- for the surfaces, each a file with one table of routes ---- */

struct serve_routes {
    const struct http_route *routes;
    size_t count;
};
extern const struct serve_routes serve_chat_routes, serve_completion_routes, serve_embedding_routes,
    serve_rerank_routes, serve_native_routes, serve_stats_routes;

/* Reads a JSON body for a handler once the model is loaded; otherwise the request is answered here. on_body finds
 * the worker in req->user. */
void serve_read_body(struct serve *serve, struct http_req *req, void (*on_body)(struct http_req *req, struct str body));

/* Ends the loop when everything has: to be called when what kept it from that is over. */
void serve_maybe_stop(struct serve *serve);

/* Answers 200 with a finished JSON buffer, or with an error when it failed; releases it. */
void serve_reply_json(struct http_req *req, struct buf *body);

/* Text to tokens in the arena. More than one sequence holds is ERR_CONTEXT_LENGTH_EXCEEDED. name is the member that
 * errors speak of. */
struct serve_tokens {
    engine_token *ids;
    size_t count;
};
bool serve_tokenize(const struct serve *serve, struct str text, bool add_special, const char *name, struct arena *arena,
                    struct serve_tokens *ret_tokens, struct err *err);

/* An input as the prompt of a completion or an embedding; name is the member it came from. */
bool serve_input_tokens(const struct serve *serve, const struct openai_input *input, const char *name,
                        struct arena *arena, struct serve_tokens *ret_tokens, struct err *err);

/* Fill in the middle: what stands before and behind the gap, and the start of what fills it. ERR_NOT_SUPPORTED (param
 * name) when the model was not made for it. */
bool serve_fim_tokens(const struct serve *serve, struct str prefix, struct str suffix, struct str middle,
                      const char *name, struct arena *arena, struct serve_tokens *ret_tokens, struct err *err);

/* A token's bytes in the arena; special: control tokens are spelled out. */
struct str serve_piece(const struct serve *serve, engine_token token, bool special, struct arena *arena);

/* The scheduler's log probabilities as the replies want them, appended to tokens (in the arena). */
void serve_logprobs(const struct serve *serve, const struct gen_event *event, struct arena *arena,
                    struct openai_token **tokens, size_t *count, size_t *capacity);

/* Sampling fields to the scheduler's; biases lie in the arena. */
bool serve_params(const struct serve *serve, const struct openai_sampling *sampling, struct arena *arena,
                  struct gen_params *ret_params, struct err *err);

/* How a request that says nothing is sampled. */
void serve_default_params(const struct openai_defaults *defaults, struct gen_params *ret_params);

/* The sampling parameters as members of an object. */
void serve_put_sampling(struct json *j, const struct gen_params *params);

#endif
