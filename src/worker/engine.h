/* The engine: two opaque nouns, a loaded model and its numbered sequences, behind a table of functions with two
 * implementations (engine_llama, engine_fake). The scheduler above knows nothing of llama.cpp, and nothing but
 * vision.c, engine_llama.c, the shims and tune.c includes its headers.
 *
 * Threads: vocabulary functions may be called from any thread; everything else only from the decode thread. */
#ifndef WORKER_ENGINE_H
#define WORKER_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/device.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/str.h"

typedef int32_t engine_token;
#define ENGINE_TOKEN_NONE (-1)

enum engine_pooling {
    ENGINE_POOLING_DEFAULT,
    ENGINE_POOLING_NONE,
    ENGINE_POOLING_MEAN,
    ENGINE_POOLING_CLS,
    ENGINE_POOLING_LAST,
    ENGINE_POOLING_RANK
};

enum engine_flash { ENGINE_FLASH_AUTO, ENGINE_FLASH_ON, ENGINE_FLASH_OFF };

/* How something was chosen that can be measured. */
enum engine_choice { ENGINE_CHOICE_DEFAULT, ENGINE_CHOICE_FORCED, ENGINE_CHOICE_MEASURED };

/* The kind of attention, and what was measured when it was. */
struct engine_attention {
    enum engine_choice source;                                           /* DEFAULT: llama.cpp's own choice */
    bool flash;                                                          /* not of DEFAULT */
    double decode_tps_on, decode_tps_off, prompt_tps_on, prompt_tps_off; /* of MEASURED: tokens a second */
};

/* The micro-batch, whose size is in engine_info. */
struct engine_ubatch {
    enum engine_choice source;
    double tps, tps_default; /* of MEASURED: prompt tokens a second with it, and with ENGINE_UBATCH */
};

struct engine_lora {
    const char *path; /* a GGUF file that is an adapter for the model */
    float scale;
};

struct engine_config {
    const char *path;       /* first file of the model */
    unsigned context_size;  /* tokens of one sequence at most; 0: the model's own, capped (see engine_llama.c) */
    unsigned sequences;     /* parallel sequences; 0: automatic */
    unsigned batch;         /* tokens a decode call may carry; 0: default */
    unsigned ubatch;        /* 0: as measured (see tune_dir), else default */
    const char *projector;  /* of a model that sees, or NULL: room is kept for it, and a measured ubatch below the
                               default is not taken, because pictures may have to fit a step */
    unsigned threads;       /* 0: the cores this process may use */
    int gpu_layers;         /* the output counts as one; -1: as many as fit; 0: no GPU is touched */
    bool gpu_required;      /* with -1: no GPU is an error */
    const char *gpu_device; /* names or places of GPUs, with commas; NULL or "": all */
    unsigned gpu_memory_mb[LIMIT_DEVICES]; /* most that may be taken of each of them; 0: what is free */
    enum engine_flash flash;
    const char *tune_dir; /* where measured choices may be kept that flash AUTO takes (see tune.h); or NULL */
    const char *kv_type;  /* "f16" (default when NULL), "q8_0", "q4_0", "f32", "bf16" */
    bool memory_map, memory_lock;
    struct engine_lora loras[LIMIT_LORAS];
    unsigned lora_count;
    enum engine_pooling pooling; /* DEFAULT: the file's, else mean */
    /* Called while loading with 0..1; return false to stop. May be NULL. */
    bool (*on_progress)(void *arg, float fraction);
    void *arg;
};

/* Fixed after open. Strings live as long as the engine. */
struct engine_info {
    const char *name;        /* engine's name: "llama", "fake" */
    const char *build;       /* engine's version, for system_fingerprint */
    const char *description; /* e.g. "llama 135M Q4_1" */
    const char *architecture;
    const char *quantization;
    const char *model_name;      /* general.name or "" */
    const char *chat_template;   /* Jinja source or "" */
    const char *rerank_template; /* a text with {query} and {document}, or "" */
    const char *bos_text, *eos_text;
    uint64_t weight_bytes, parameters;
    uint64_t kv_bytes, compute_bytes; /* as the engine has reserved them; 0: it cannot say */
    unsigned vocabulary;              /* tokens: the length of a row of logits */
    unsigned context;                 /* cells shared by all sequences */
    unsigned context_sequence;        /* tokens one sequence may hold */
    unsigned context_train;
    unsigned embedding_size;
    unsigned gpu_layers;                      /* on GPUs */
    const char *projector_device;             /* where there is room for it; "": on none */
    struct device_use devices[LIMIT_DEVICES]; /* where those are; free is as of after the load */
    unsigned device_count;
    unsigned input_size; /* floats of one cell of an engine_span */
    bool grid;           /* pictures' cells have places in two dimensions, and a picture fewer positions than cells */
    unsigned sequences;  /* that decode at once */
    unsigned holders;    /* sequence ids there are: the rest hold prefixes; at least sequences */
    unsigned batch, ubatch, threads;
    struct engine_attention attention;
    struct engine_ubatch ubatch_choice;
    unsigned outputs;            /* rows of a decode that may ask for logits; more than there are sequences */
    enum engine_pooling pooling; /* what embeddings will use */
    bool add_bos, add_eos, add_sep;
    bool can_trim;       /* a sequence's tail can be dropped (not so for recurrent models) */
    bool whole_states;   /* a state that was loaded can be continued at its end only (sliding windows, recurrence) */
    bool embedding_only; /* encoder model: no logits */
    engine_token bos, eos, sep, fim_prefix, fim_suffix, fim_middle; /* ENGINE_TOKEN_NONE where absent */
    const void *llama_model;                                        /* for chat_shim.cpp; NULL with the fake engine */
};

struct engine;
struct engine_grammar;

/* One token of a batch. */
struct engine_row {
    engine_token token;
    unsigned position;
    unsigned sequence;
    bool logits; /* this row's logits are wanted */
};

/* Where a cell lies in its picture, counted from the first cell's position (M-RoPE). */
struct engine_grid {
    int32_t time, row, column;
};

/* Cells in a row of one sequence that are computed from embeddings instead of tokens: a picture, or a piece of one. */
struct engine_span {
    unsigned sequence, position; /* of the first cell */
    unsigned count;
    const engine_token *ids; /* that stand for the cells outside the engine: see picture.h */
    const float *embeddings; /* count rows of info->input_size */
    bool acausal;            /* its cells see each other whatever their order: all of a picture, info->ubatch at most */
    bool logits;             /* the last cell's are wanted: row count - 1 */
    /* Where info->grid says so, and else of no meaning: */
    unsigned start;                 /* position of the picture's first cell */
    unsigned total;                 /* its cells */
    unsigned steps;                 /* positions that it takes */
    const struct engine_grid *grid; /* of these count cells */
};

enum engine_status {
    ENGINE_OK,
    ENGINE_FULL,        /* no cells left for this batch; nothing was changed */
    ENGINE_INTERRUPTED, /* stopped half-way; nothing was changed */
    ENGINE_FAILED       /* the context is in doubt: the worker must end */
};

struct engine_stop {
    bool (*asked)(void *arg);
    void *arg;
};

struct engine_candidate {
    engine_token token;
    float logit;
};

struct engine_ops {
    const char *name;
    /* Blocking; NULL and *err (ERR_MODEL_LOAD_FAILED, ERR_INSUFFICIENT_MEMORY, ERR_GPU_UNAVAILABLE). */
    struct engine *(*open)(const struct engine_config *config, struct err *err);
    void (*close)(struct engine *engine);
    const struct engine_info *(*info)(const struct engine *engine);

    /* vocabulary, any thread */
    /* Writes at most capacity tokens; returns how many text needs (call again when more). parse_special: control
     * tokens spelled out in text become tokens. Negative: text cannot be tokenised. */
    int (*tokenize)(const struct engine *engine, struct str text, bool add_special, bool parse_special,
                    engine_token *out, int capacity);
    /* Bytes of a token (may split a character); special: render control tokens too, else they are "". Returns the
     * length needed. */
    int (*piece)(const struct engine *engine, engine_token token, bool special, char *out, int capacity);
    bool (*is_end)(const struct engine *engine, engine_token token); /* any end-of-generation token */

    /* decode thread */
    /* stop: NULL, or asked now and then on whatever thread computes; the call gives up (INTERRUPTED) when it says yes.
     * Only with can_trim. */
    enum engine_status (*decode)(struct engine *engine, const struct engine_row *rows, unsigned count,
                                 const struct engine_stop *stop);
    /* The same for a span. */
    enum engine_status (*decode_span)(struct engine *engine, const struct engine_span *span,
                                      const struct engine_stop *stop);
    /* Logits of the row-th row of the last decode (it must have asked for them): info->vocabulary floats, valid until
     * the next decode; the caller may scribble on them. */
    float *(*logits)(struct engine *engine, unsigned row);
    /* Pooled, not yet normalised embedding of one input, computed in a memory of its own: no sequence is touched. out
     * holds info->embedding_size floats; with ENGINE_POOLING_RANK the first is the score. FULL: the input is longer
     * than the engine can pool. */
    enum engine_status (*embed)(struct engine *engine, const engine_token *tokens, unsigned count, float *out);
    void (*sequence_copy)(struct engine *engine, unsigned from, unsigned to, unsigned length); /* first length tokens */
    bool (*sequence_trim)(struct engine *engine, unsigned sequence, unsigned length); /* keep the first length tokens */
    /* Whether all is still there that a token behind the first length ones would look at: engines with sliding windows
     * drop what has left the window of the last token. */
    bool (*sequence_has)(struct engine *engine, unsigned sequence, unsigned length);
    /* The state of a sequence as bytes: how many, and a copy of them (returns the bytes written, 0: failed). They fit
     * any engine opened with the same model and settings. */
    size_t (*state_size)(struct engine *engine, unsigned sequence);
    size_t (*state_save)(struct engine *engine, unsigned sequence, void *out, size_t capacity);
    /* Back into an empty sequence. False: there is no room, or these are no such bytes; it is empty then. */
    bool (*state_load)(struct engine *engine, unsigned sequence, const void *state, size_t size);

    /* Grammars (GBNF). text is checked here: NULL and *err (ERR_INVALID_PARAMETERS) when it does not parse. lazy: the
     * grammar sleeps until one of the trigger patterns (regular expressions over the generated text) or trigger tokens
     * appears. Any thread; one grammar belongs to one thread at a time. */
    struct engine_grammar *(*grammar_new)(const struct engine *engine, const char *text, bool lazy,
                                          const char *const *patterns, size_t pattern_count, const engine_token *tokens,
                                          size_t token_count, struct err *err);
    struct engine_grammar *(*grammar_copy)(const struct engine_grammar *grammar);
    void (*grammar_free)(struct engine_grammar *grammar);
    /* Sets the logit of every candidate that the grammar forbids now to -INFINITY. */
    void (*grammar_mask)(struct engine_grammar *grammar, struct engine_candidate *candidates, size_t count);
    /* The same for a row of logits, the whole vocabulary. Dear where the grammar allows much: up to tens of
     * milliseconds inside a free text with 262 144 tokens; cheap where it allows little. */
    void (*grammar_mask_all)(struct engine_grammar *grammar, float *logits);
    void (*grammar_accept)(struct engine_grammar *grammar, engine_token token);
};

extern const struct engine_ops engine_llama; /* absent from builds without llama.cpp (TSan, fuzzers) */
extern const struct engine_ops engine_fake;

#endif
