/* The buffers for computing. llama.cpp lays one graph of a full micro-batch into memory, reusing what is no longer
 * needed, so they are as large as the largest of three moments:
 *
 *   attention   the mask (two, when some layers see a window only), a row of scores a head unless flash attention
 *               keeps them in registers, and some copies of queries, keys and the stream between layers
 *   feed-forward the mask, gate, up and their product, four copies of the stream; with experts the chosen ones' rows
 *   output      the rows of logits that may be asked for, with their inputs
 *
 * The factors were read off reservations (llama_get_memory_breakdown, no weights loaded) of shapes of Llama 1B and 8B,
 * Qwen 2.5 0.5B and 7B, Qwen 3 30B-A3B, Mixtral, Gemma 3 4B, LFM2, Mamba and DeepSeek 2 Lite at contexts from 512 to
 * 32 768: dense ones come out within 7 %, those with experts between -5 % and +25 %. */
#include "registry/fit.h"

#include "base/engine_sizes.h"
#include "registry/kernel.h"

#define CONTEXT_STEP  256 /* llama.cpp rounds up to this */
#define MOST_CONTEXT  (1u << 26)
#define MOST_UBATCH   65536
#define COLUMN        sizeof(float)
#define PROGRAM_BYTES (16u << 20) /* the worker itself; measured */
#define TOKEN_BYTES   192         /* of the vocabulary in memory, with its hash tables; measured */

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Bytes that n elements of the cache take. Rows are whole blocks: nothing else can be quantised. */
static uint64_t cell_bytes(const char *kv_type, uint64_t n)
{
    static const struct {
        const char *name;
        unsigned elements, bytes;
    } types[] = {{"f16", 1, 2}, {"bf16", 1, 2}, {"f32", 1, 4}, {"q8_0", 32, 34}, {"q4_0", 32, 18}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(kv_type, types[i].name) == 0)
            return n / types[i].elements * types[i].bytes;
    return n * 2;
}

/* What a prediction is computed with: the setup, its blanks filled. */
struct sizes {
    const struct gguf_shape *shape;
    uint64_t context, sequences, rows, outputs; /* rows: tokens of a micro-batch; sequences: ids there are */
    const char *kv_type;
    bool flash, causal;
};

static struct sizes fill(const struct gguf *gguf, const struct fit_setup *setup)
{
    unsigned sequences = engine_smaller(setup->sequences ? setup->sequences : ENGINE_SEQUENCES, LIMIT_SEQUENCES);
    unsigned ubatch = engine_smaller(setup->ubatch ? setup->ubatch : ENGINE_UBATCH, MOST_UBATCH);
    uint64_t context = setup->context < MOST_CONTEXT ? setup->context : MOST_CONTEXT;
    struct sizes s = {.shape = &gguf->shape,
                      .context = (context + CONTEXT_STEP - 1) / CONTEXT_STEP * CONTEXT_STEP,
                      .sequences = sequences,
                      .kv_type = setup->kv_type ? setup->kv_type : ENGINE_KV_TYPE,
                      .flash = setup->flash,
                      .causal = gguf->causal};
    s.outputs = engine_outputs((unsigned)s.shape->vocabulary, sequences, ubatch);
    if (s.shape->state_elements == 0) /* it can be cut */
        s.sequences = engine_holders(sequences, (unsigned)s.outputs);
    s.rows = s.context < ubatch ? s.context : ubatch;
    s.rows = (s.rows + s.sequences - 1) / s.sequences * s.sequences;
    s.outputs = s.outputs < s.rows ? s.outputs : s.rows;
    return s;
}

static uint64_t masks(const struct sizes *s)
{
    uint64_t count = s->shape->heads == 0 ? 0 : s->shape->slides ? 2 : 1;
    return count * s->context * s->rows * (s->flash ? 2 : COLUMN);
}

static uint64_t attention(const struct sizes *s)
{
    const struct gguf_shape *m = s->shape;
    uint64_t scores = s->flash ? 0 : s->context * s->rows * m->heads * COLUMN;
    uint64_t columns = (s->flash ? 2 : 3) * m->embedding + 2 * m->queries + 2 * m->keys;
    return masks(s) + scores + s->rows * COLUMN * columns;
}

static uint64_t feed_forward(const struct sizes *s)
{
    const struct gguf_shape *m = s->shape;
    uint64_t stream = m->embedding, expert = m->expert_feed_forward, used = m->experts_used;
    uint64_t dense = 3 * m->feed_forward + 4 * stream;
    /* The freed gate and up have room for the experts' results, or they have not. */
    uint64_t experts = 2 * expert >= stream ? 3 * expert * used + 4 * stream : 2 * (stream + expert) * used;
    uint64_t recurrent = 7 * m->inner;
    return masks(s) + s->rows * COLUMN * larger(recurrent, larger(dense, used ? experts : 0));
}

static uint64_t output(const struct sizes *s)
{
    const struct gguf_shape *m = s->shape;
    return COLUMN * (s->outputs * (m->vocabulary + 2 * m->embedding) + 2 * s->rows * m->embedding);
}

void fit_predict(const struct gguf *gguf, const struct fit_setup *setup, struct fit *ret_fit)
{
    struct sizes s = fill(gguf, setup);
    const struct gguf_shape *m = s.shape;
    struct fit f = {.weights = gguf->tensor_bytes + setup->projector,
                    .projector = setup->projector,
                    .program = PROGRAM_BYTES + m->vocabulary * TOKEN_BYTES};
    if (!m->has_output && m->embedding_bytes && kernel_is_fast(gguf_tensor_type(m->embedding_type)))
        f.copies = m->embedding_bytes;
    if (s.causal) { /* an encoder keeps nothing between two inputs */
        f.kv_token = cell_bytes(s.kv_type, m->key_elements) + cell_bytes(s.kv_type, m->value_elements);
        f.kv = f.kv_token * s.context;
        f.state = m->state_elements * s.sequences * sizeof(float);
        f.output = s.sequences * m->vocabulary * sizeof(float);
    }
    f.compute = larger(attention(&s), feed_forward(&s));
    f.compute = larger(f.compute, s.causal ? output(&s) : 0);
    f.total = f.weights + f.copies + f.kv + f.state + f.compute + f.output + f.program;
    *ret_fit = f;
}

uint64_t fit_on_gpus(const struct gguf *gguf, const struct fit *fit, uint64_t layers, unsigned devices)
{
    const struct gguf_shape *m = &gguf->shape;
    uint64_t blocks = gguf->block_count, kept = m->embedding_bytes + m->output_bytes + fit->projector;
    if (layers == 0 || devices == 0)
        return 0;
    uint64_t taken = layers - 1 < blocks ? layers - 1 : blocks;
    uint64_t of_blocks = (fit->weights > kept ? fit->weights - kept : 0) + fit->kv + fit->state;
    double part = blocks ? (double)taken / (double)blocks : 0;
    return fit->projector + (m->has_output ? m->output_bytes : m->embedding_bytes) +
           (uint64_t)((double)of_blocks * part) + fit->compute * devices;
}

static bool fits(const struct gguf *gguf, const struct fit_setup *setup, uint64_t steps, uint64_t bytes)
{
    struct fit_setup tried = *setup;
    struct fit fit;
    tried.context = steps * CONTEXT_STEP;
    fit_predict(gguf, &tried, &fit);
    return fit.total <= bytes;
}

uint64_t fit_longest_context(const struct gguf *gguf, const struct fit_setup *setup, uint64_t bytes, uint64_t most)
{
    uint64_t good = 0, bad = most / CONTEXT_STEP + 1;
    while (bad - good > 1) { /* more context never takes less */
        uint64_t middle = good + (bad - good) / 2;
        if (fits(gguf, setup, middle, bytes))
            good = middle;
        else
            bad = middle;
    }
    return good * CONTEXT_STEP;
}
