/* The two contexts read the same 512 tokens in pieces and then generate at that depth, taking turns step by step, so
 * that whatever else the machine does hits both alike. Each is judged by one of its best steps (the best eighth): other
 * work only ever makes a step slower. 512 tokens deep is where most replies are
 * written; how the two compare at tens of thousands is not measured, and the plain attention's buffers grow with the
 * context, so it has to be faster by a margin to be chosen.
 *
 * Invented tokens do: the time of a step does not depend on which they are. */
#include "worker/tune.h"

#include <ggml-backend.h>
#include <llama.h>

#include "base/clock.h"
#include "base/engine_sizes.h"
#include "base/hash.h"
#include "base/mem.h"

#define DEPTH        512
#define PIECES       (DEPTH / TUNE_PIECE)
#define SKIPPED      2  /* pieces at the beginning that warm up */
#define DECODES      24 /* tokens generated */
#define STEPS        (PIECES + DECODES)
#define CONTEXT      1024
#define MARGIN       1.05 /* how much faster plain attention has to be */
#define PROMPT_SHARE 512  /* the work that is compared: a prompt */
#define DECODE_SHARE 128  /* and its reply */

struct side {
    struct llama_context *context;
    double prompt[PIECES], decode[DECODES]; /* seconds */
    unsigned prompts, decodes;
};

struct tune {
    struct tune_setup setup;
    char path[4096], cpu[TUNED_TEXT];
    struct side sides[2]; /* with flash attention; without */
    unsigned step;        /* 0..2 * STEPS */
    unsigned *last;       /* count that the last step raised, or NULL */
    struct llama_batch batch;
    bool made;
};

static const char *kv_type_of(const struct tune_setup *setup)
{
    return setup->kv_type ? setup->kv_type : ENGINE_KV_TYPE;
}

/* The CPU by its own name, and the features that llama.cpp was built with. */
static void describe_cpu(char out[TUNED_TEXT])
{
    unsigned char hash[HASH_SHA256_SIZE];
    char hex[17];
    const char *features = llama_print_system_info();
    ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    hash_sha256(features, strlen(features), hash);
    snprintf(out, TUNED_TEXT, "%.120s %s", device ? ggml_backend_dev_description(device) : "CPU",
             hash_hex(hash, 8, hex));
}

/* Quantised values can be read by flash attention only. */
static bool type_of(const char *name, enum ggml_type *ret_type)
{
    static const struct {
        const char *name;
        enum ggml_type type;
    } types[] = {{"f16", GGML_TYPE_F16}, {"bf16", GGML_TYPE_BF16}, {"f32", GGML_TYPE_F32}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(name, types[i].name) == 0) {
            *ret_type = types[i].type;
            return true;
        }
    return false;
}

bool tune_lookup(const struct tune_setup *setup, struct tuned *ret_result)
{
    char path[4096], cpu[TUNED_TEXT];
    if (!setup->dir || !tuned_path(setup->dir, setup->path, path, sizeof path) || !tuned_read(path, ret_result))
        return false;
    describe_cpu(cpu);
    return tuned_is_of(ret_result, setup->info->build, cpu, setup->info->threads, kv_type_of(setup));
}

struct tune *tune_new(const struct tune_setup *setup)
{
    const struct engine_info *info = setup->info;
    char path[4096];
    enum ggml_type type;
    if (!setup->dir || !info->llama_model || info->embedding_only || llama_model_is_recurrent(info->llama_model) ||
        !type_of(kv_type_of(setup), &type) || !tuned_path(setup->dir, setup->path, path, sizeof path))
        return NULL;
    struct tune *tune = mem_calloc(1, sizeof *tune);
    tune->setup = *setup;
    memcpy(tune->path, path, sizeof path);
    describe_cpu(tune->cpu);
    return tune;
}

void tune_free(struct tune *tune)
{
    if (!tune)
        return;
    for (int i = 0; i < 2; i++)
        llama_free(tune->sides[i].context);
    if (tune->made)
        llama_batch_free(tune->batch);
    mem_free(tune);
}

static bool make_contexts(struct tune *tune)
{
    struct llama_context_params params = llama_context_default_params();
    type_of(kv_type_of(&tune->setup), &params.type_k);
    params.type_v = params.type_k;
    params.n_ctx = CONTEXT;
    params.n_batch = params.n_ubatch = TUNE_PIECE;
    params.n_seq_max = 1;
    params.n_threads = params.n_threads_batch = (int)tune->setup.info->threads;
    params.no_perf = true;
    for (int i = 0; i < 2; i++) {
        params.flash_attn_type = i == 0 ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
        tune->sides[i].context =
            llama_init_from_model((struct llama_model *)(uintptr_t)tune->setup.info->llama_model, params);
    }
    tune->batch = llama_batch_init(TUNE_PIECE, 0, 1);
    tune->made = true;
    return tune->sides[0].context && tune->sides[1].context;
}

static void fill_batch(struct tune *tune, unsigned position, unsigned count)
{
    unsigned vocabulary = tune->setup.info->vocabulary;
    struct llama_batch *batch = &tune->batch;
    batch->n_tokens = (int)count;
    for (unsigned i = 0; i < count; i++) {
        batch->token[i] = (llama_token)((position + i) * 104729u % vocabulary);
        batch->pos[i] = (llama_pos)(position + i);
        batch->n_seq_id[i] = 1;
        batch->seq_id[i][0] = 0;
        batch->logits[i] = i + 1 == count;
    }
}

static void keep(struct tune *tune, double *times, unsigned *count, double seconds)
{
    times[*count] = seconds;
    ++*count;
    tune->last = count;
}

enum tune_state tune_step(struct tune *tune)
{
    if (!tune->made && !make_contexts(tune))
        return TUNE_FAILED;
    struct side *side = &tune->sides[tune->step % 2];
    unsigned at = tune->step / 2, piece = at < PIECES;
    fill_batch(tune, piece ? at * TUNE_PIECE : DEPTH + at - PIECES, piece ? TUNE_PIECE : 1);
    uint64_t start = clock_ns();
    if (llama_decode(side->context, tune->batch) != 0)
        return TUNE_FAILED;
    llama_synchronize(side->context);
    double seconds = (double)(clock_ns() - start) / 1e9;
    tune->last = NULL;
    if (!piece)
        keep(tune, side->decode, &side->decodes, seconds);
    else if (at >= SKIPPED)
        keep(tune, side->prompt, &side->prompts, seconds);
    return ++tune->step < 2 * STEPS ? TUNE_MORE : TUNE_DONE;
}

void tune_disturbed(struct tune *tune)
{
    if (tune->last)
        --*tune->last;
    tune->last = NULL;
}

/* ---- the result ---- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double good_time(double *times, unsigned count)
{
    qsort(times, count, sizeof *times, by_size);
    return times[count / 8] > 0 ? times[count / 8] : 1e-9;
}

static double cost(double prompt_tps, double decode_tps)
{
    return PROMPT_SHARE / prompt_tps + DECODE_SHARE / decode_tps;
}

bool tune_finish(struct tune *tune, struct tuned *ret_result, struct err *err)
{
    struct side *on = &tune->sides[0], *off = &tune->sides[1];
    unsigned least = DECODES / 2, pieces = (PIECES - SKIPPED) / 2;
    if (on->decodes < least || off->decodes < least || on->prompts < pieces || off->prompts < pieces)
        return err_set(err, ERR_TIMEOUT, "the machine was too busy to compare the kinds of attention");
    struct tuned t = {.threads = tune->setup.info->threads, .measured = clock_unix()};
    snprintf(t.engine, sizeof t.engine, "%s", tune->setup.info->build);
    snprintf(t.cpu, sizeof t.cpu, "%s", tune->cpu);
    snprintf(t.kv_type, sizeof t.kv_type, "%s", kv_type_of(&tune->setup));
    t.prompt_tps_on = TUNE_PIECE / good_time(on->prompt, on->prompts);
    t.prompt_tps_off = TUNE_PIECE / good_time(off->prompt, off->prompts);
    t.decode_tps_on = 1 / good_time(on->decode, on->decodes);
    t.decode_tps_off = 1 / good_time(off->decode, off->decodes);
    t.flash = cost(t.prompt_tps_off, t.decode_tps_off) * MARGIN >= cost(t.prompt_tps_on, t.decode_tps_on);
    *ret_result = t;
    return tuned_write(tune->path, &t, err);
}

bool tune_run(struct tune *tune, void (*on_step)(void *arg, unsigned done, unsigned all), void *arg,
              struct tuned *ret_result, struct err *err)
{
    enum tune_state state = TUNE_MORE;
    if (!tune)
        return err_set(err, ERR_NOT_SUPPORTED, "there is no kind of attention to choose for this model and kv_type");
    while (state == TUNE_MORE) {
        state = tune_step(tune);
        if (on_step)
            on_step(arg, tune->step, 2 * STEPS);
    }
    if (state == TUNE_FAILED)
        return err_set(err, ERR_INSUFFICIENT_MEMORY, "there is no memory for the contexts that are compared");
    return tune_finish(tune, ret_result, err);
}
