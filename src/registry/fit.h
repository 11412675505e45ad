/* What memory a worker will take for a model, computed from the header alone. Weights and cache are exact; the buffers
 * for computing follow formulas fitted to what llama.cpp v0.5.0 reserves (within 10 % for dense models, see
 * docs in fit.c). Everything is counted as if it lay in this machine's memory; fit_on_gpus says what of it a GPU takes.
 * Pure; any thread; bytes. */
#ifndef REGISTRY_FIT_H
#define REGISTRY_FIT_H

#include "registry/gguf.h"

struct fit_setup {
    uint64_t context;           /* tokens of the whole cache, 1.. */
    unsigned sequences, ubatch; /* 0: the engine's own */
    const char *kv_type;        /* NULL: the engine's own */
    bool flash;                 /* flash attention; what llama.cpp chooses on a CPU when nobody says */
    uint64_t projector;         /* bytes of the file that lets the model see; 0: there is none */
};

struct fit {
    uint64_t weights;   /* tensors, once each, and the projector's */
    uint64_t projector; /* of these */
    uint64_t copies;    /* weights that are laid out anew although the file's are needed, too */
    uint64_t kv;        /* keys and values of all of the context */
    uint64_t kv_token;  /* of these, for one token */
    uint64_t state;     /* of recurrent layers, all sequences */
    uint64_t compute;   /* what one micro-batch is computed in */
    uint64_t output;    /* logits of one step of all sequences */
    uint64_t program;   /* vocabulary, program and the rest: an estimate */
    uint64_t total;
};

void fit_predict(const struct gguf *gguf, const struct fit_setup *setup, struct fit *ret_fit);

/* Of a prediction, what lies on GPUs with so many layers there: the output is the first and counts as one, the others
 * are taken for equally large, and each device computes in buffers of its own. The matrix of the input's tokens stays
 * with the CPU, so that an output without a matrix of its own gets a copy of it; a projector goes along. Layers beyond
 * block_count + 1 are not there. */
uint64_t fit_on_gpus(const struct gguf *gguf, const struct fit *fit, uint64_t layers, unsigned devices);

/* The longest context that takes at most bytes, in steps of 256 tokens up to most; 0: not even the shortest. The
 * setup's own context is not looked at. */
uint64_t fit_longest_context(const struct gguf *gguf, const struct fit_setup *setup, uint64_t bytes, uint64_t most);

#endif
