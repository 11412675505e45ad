/* The inside of engine_llama, shared by its files: engine_llama.c (model, contexts, vocabulary, decoding),
 * engine_llama_layers.c (which layers go where), engine_llama_sequence.c, engine_llama_grammar.c. */
#ifndef WORKER_ENGINE_LLAMA_PRIVATE_H
#define WORKER_ENGINE_LLAMA_PRIVATE_H

#include <llama.h>

#include "base/build.h"
#include "worker/devices.h"
#include "worker/engine.h"
#include "worker/engine_place.h"
#include "worker/piece_tree.h"

#define ALL_LAYERS 9999 /* more than any model has */

/* Where a model lies, or would lie. */
struct placement {
    ggml_backend_dev_t devices[LIMIT_DEVICES + 1]; /* ended by NULL; none: the CPU alone */
    float split[LIMIT_DEVICES];                    /* parts of the layers, any scale */
    uint64_t usable[LIMIT_DEVICES];                /* bytes */
    struct device_use uses[LIMIT_DEVICES];
    uint64_t projector;   /* bytes kept free of the first device for it; 0: it stays with the CPU, or there is none */
    unsigned count;       /* of devices */
    unsigned layers, all; /* on them; there are (0: nobody had to know) */
};

struct engine {
    struct engine_info info;
    struct placement placement;
    struct llama_model *model;
    const struct llama_vocab *vocab;
    struct llama_context *context;
    struct llama_batch batch;
    struct place_table *places; /* NULL: a cell's position is its number */
    llama_pos *grid;            /* positions of a span; with places */
    struct llama_context *embedder;
    unsigned embedder_size;
    struct llama_context_params params;
    const struct engine_stop *stop; /* of the decode that runs, or NULL */
    struct piece_tree *pieces;
    struct llama_adapter_lora *adapters[LIMIT_LORAS]; /* the model's: they go with it */
    float scales[LIMIT_LORAS];
    unsigned adapter_count;
    char *strings[8]; /* what info points to */
    unsigned string_count;
};

/* engine_llama_layers.c: chooses devices and layers. Errors: ERR_GPU_UNAVAILABLE, ERR_INSUFFICIENT_MEMORY (for layers
 * that were asked for), or those of a load. */
bool llama_engine_layers(const struct engine_config *config, struct placement *ret_placement, struct err *err);

/* engine_llama.c: what would lie where; fills in all, and the uses' bytes. */
bool llama_engine_sketch(const struct engine_config *config, struct placement *placement, struct err *err);

/* engine_llama_sequence.c; as in engine.h */
void llama_engine_copy(struct engine *engine, unsigned from, unsigned to, unsigned length);
bool llama_engine_trim(struct engine *engine, unsigned sequence, unsigned length);
bool llama_engine_has(struct engine *engine, unsigned sequence, unsigned length);
size_t llama_engine_state_size(struct engine *engine, unsigned sequence);
size_t llama_engine_state_save(struct engine *engine, unsigned sequence, void *out, size_t capacity);
bool llama_engine_state_load(struct engine *engine, unsigned sequence, const void *state, size_t size);

/* engine_llama_grammar.c; as in engine.h */
struct engine_grammar *llama_engine_grammar_new(const struct engine *engine, const char *text, bool lazy,
                                                const char *const *patterns, size_t pattern_count,
                                                const engine_token *tokens, size_t token_count, struct err *err);
struct engine_grammar *llama_engine_grammar_copy(const struct engine_grammar *grammar);
void llama_engine_grammar_free(struct engine_grammar *grammar);
void llama_engine_grammar_mask(struct engine_grammar *grammar, struct engine_candidate *candidates, size_t count);
void llama_engine_grammar_mask_all(struct engine_grammar *grammar, float *logits);
void llama_engine_grammar_accept(struct engine_grammar *grammar, engine_token token);

#endif
