/* Attention. Two contexts read the same 512 tokens in pieces and then generate at that depth, taking turns step by
 * step, so that whatever else the machine does hits both alike. Each is judged by one of its best steps (the best
 * eighth): other work only ever makes a step slower. 512 tokens deep is where most replies are written; how the two
 * compare at tens of thousands is not measured, and the plain attention's buffers grow with the context, so it has to
 * be faster by a margin to be chosen.
 *
 * Micro-batch. With the attention just chosen a third context reads prompts in pieces of each size, in turns. All
 * pieces lie around the middle of the context, so that attention costs a token of each size the same; what lies before
 * them was read first. The smallest size that is as fast as the best, but for a margin, is chosen: it takes the least
 * memory. A model so slow that the default size takes longer than STEP_MOST is left with it: the weights outweigh
 * everything then, and no request should wait for such a step.
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

#define ROUNDS        5    /* over all sizes */
#define MARGIN_UBATCH 1.03 /* how much faster a larger micro-batch has to be */
#define STEP_MOST     4.0  /* seconds that reading one may take */

static const unsigned SIZES[] = {TUNED_UBATCH_MOST, 512, 256, 128}; /* ENGINE_UBATCH is among them */
#define SIZE_COUNT   (sizeof SIZES / sizeof *SIZES)
#define MIDDLE       (CONTEXT / 2)
#define LEAD         (MIDDLE - 64) /* tokens before a piece of the smallest size */
#define LEAD_STEPS   (LEAD / TUNE_PIECE)
#define UBATCH_STEPS (LEAD_STEPS + ROUNDS * (unsigned)SIZE_COUNT)
_Static_assert(LEAD % TUNE_PIECE == 0 && TUNED_UBATCH_MOST <= CONTEXT, "pieces fit");

struct side {
    struct llama_context *context;
    double prompt[PIECES], decode[DECODES]; /* seconds */
    unsigned prompts, decodes;
};

struct tune {
    struct tune_setup setup;
    char path[4096], cpu[TUNED_TEXT];
    struct side sides[2]; /* with flash attention; without */
    struct llama_context *reader;
    double sizes[SIZE_COUNT][ROUNDS]; /* seconds */
    unsigned reads[SIZE_COUNT];
    unsigned step;  /* 0..2 * STEPS, then UBATCH_STEPS more */
    unsigned *last; /* count that the last step raised, or NULL */
    struct llama_batch batch;
    bool made, flash;
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
    if (!setup->dir || setup->info->gpu_layers > 0 || !tuned_path(setup->dir, setup->path, path, sizeof path) ||
        !tuned_read(path, ret_result))
        return false;
    describe_cpu(cpu);
    return tuned_is_of(ret_result, setup->info->build, cpu, setup->info->threads, kv_type_of(setup));
}

struct tune *tune_new(const struct tune_setup *setup)
{
    const struct engine_info *info = setup->info;
    char path[4096];
    enum ggml_type type;
    if (!setup->dir || !info->llama_model || info->gpu_layers > 0 || info->embedding_only ||
        llama_model_is_recurrent(info->llama_model) || !type_of(kv_type_of(setup), &type) ||
        !tuned_path(setup->dir, setup->path, path, sizeof path))
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
    llama_free(tune->reader);
    if (tune->made)
        llama_batch_free(tune->batch);
    mem_free(tune);
}

static struct llama_context *make_context(const struct tune *tune, bool flash, unsigned ubatch)
{
    struct llama_context_params params = llama_context_default_params();
    type_of(kv_type_of(&tune->setup), &params.type_k);
    params.type_v = params.type_k;
    params.n_ctx = CONTEXT;
    params.n_batch = params.n_ubatch = ubatch;
    params.n_seq_max = 1;
    params.n_threads = params.n_threads_batch = (int)tune->setup.info->threads;
    params.no_perf = true;
    params.flash_attn_type = flash ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    return llama_init_from_model((struct llama_model *)(uintptr_t)tune->setup.info->llama_model, params);
}

static bool make_contexts(struct tune *tune)
{
    for (int i = 0; i < 2; i++)
        tune->sides[i].context = make_context(tune, i == 0, TUNE_PIECE);
    tune->batch = llama_batch_init(TUNED_UBATCH_MOST, 0, 1);
    tune->made = true;
    return tune->sides[0].context && tune->sides[1].context;
}

/* ---- judging ---- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* One of the best; the order of the times is lost. */
static double good_time(double *times, unsigned count)
{
    qsort(times, count, sizeof *times, by_size);
    return times[count / 8] > 0 ? times[count / 8] : 1e-9;
}

static double cost(double prompt_tps, double decode_tps)
{
    return PROMPT_SHARE / prompt_tps + DECODE_SHARE / decode_tps;
}

/* false: too few steps were left in peace. */
static bool judge_attention(struct tune *tune, struct tuned *t)
{
    struct side *on = &tune->sides[0], *off = &tune->sides[1];
    unsigned least = DECODES / 2, pieces = (PIECES - SKIPPED) / 2;
    if (on->decodes < least || off->decodes < least || on->prompts < pieces || off->prompts < pieces)
        return false;
    t->prompt_tps_on = TUNE_PIECE / good_time(on->prompt, on->prompts);
    t->prompt_tps_off = TUNE_PIECE / good_time(off->prompt, off->prompts);
    t->decode_tps_on = 1 / good_time(on->decode, on->decodes);
    t->decode_tps_off = 1 / good_time(off->decode, off->decodes);
    t->flash = cost(t->prompt_tps_off, t->decode_tps_off) * MARGIN >= cost(t->prompt_tps_on, t->decode_tps_on);
    return true;
}

/* Leaves it at 0 when the default size was not measured in peace: there is nothing to compare with. */
static void judge_ubatch(struct tune *tune, struct tuned *t)
{
    double tps[SIZE_COUNT] = {0}, best = 0;
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        if (tune->reads[i] >= (ROUNDS - 1) / 2)
            tps[i] = SIZES[i] / good_time(tune->sizes[i], tune->reads[i]);
        if (SIZES[i] == ENGINE_UBATCH)
            t->ubatch_tps_default = tps[i];
        best = tps[i] > best ? tps[i] : best;
    }
    for (size_t i = 0; i < SIZE_COUNT && t->ubatch_tps_default > 0; i++)
        if (tps[i] * MARGIN_UBATCH >= best) { /* the sizes fall: the last one is the smallest */
            t->ubatch = SIZES[i];
            t->ubatch_tps = tps[i];
        }
}

bool tune_finish(struct tune *tune, struct tuned *ret_result, struct err *err)
{
    struct tuned t = {.threads = tune->setup.info->threads, .measured = clock_unix()};
    if (!judge_attention(tune, &t))
        return err_set(err, ERR_TIMEOUT, "the machine was too busy to compare the kinds of attention");
    judge_ubatch(tune, &t);
    snprintf(t.engine, sizeof t.engine, "%s", tune->setup.info->build);
    snprintf(t.cpu, sizeof t.cpu, "%s", tune->cpu);
    snprintf(t.kv_type, sizeof t.kv_type, "%s", kv_type_of(&tune->setup));
    *ret_result = t;
    return tuned_write(tune->path, &t, err);
}

/* ---- steps ---- */

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

/* Seconds; 0: it failed. */
static double time_decode(struct tune *tune, struct llama_context *context)
{
    uint64_t start = clock_ns();
    if (llama_decode(context, tune->batch) != 0)
        return 0;
    llama_synchronize(context);
    return (double)(clock_ns() - start) / 1e9;
}

static bool compare_attention(struct tune *tune)
{
    struct side *side = &tune->sides[tune->step % 2];
    unsigned at = tune->step / 2, piece = at < PIECES;
    fill_batch(tune, piece ? at * TUNE_PIECE : DEPTH + at - PIECES, piece ? TUNE_PIECE : 1);
    double seconds = time_decode(tune, side->context);
    if (!piece)
        keep(tune, side->decode, &side->decodes, seconds);
    else if (at >= SKIPPED)
        keep(tune, side->prompt, &side->prompts, seconds);
    return seconds > 0;
}

/* Whether so many tokens are read soon enough, by the rate of small pieces. */
static bool is_bearable(const struct tune *tune, unsigned size)
{
    const struct side *side = &tune->sides[!tune->flash];
    double fastest = side->prompts > 0 ? side->prompt[0] : STEP_MOST;
    for (unsigned i = 1; i < side->prompts; i++)
        fastest = side->prompt[i] < fastest ? side->prompt[i] : fastest;
    return fastest * size / TUNE_PIECE <= STEP_MOST;
}

static bool read_piece(struct tune *tune)
{
    unsigned at = tune->step - 2 * STEPS, size, from;
    unsigned which = at < LEAD_STEPS ? 0 : (at - LEAD_STEPS) % SIZE_COUNT;
    if (at < LEAD_STEPS) {
        size = TUNE_PIECE;
        from = at * TUNE_PIECE;
    } else {
        size = SIZES[which];
        from = MIDDLE - size / 2;
    }
    if (!is_bearable(tune, size))
        return true;
    llama_memory_seq_rm(llama_get_memory(tune->reader), 0, (llama_pos)from, -1);
    fill_batch(tune, from, size);
    double seconds = time_decode(tune, tune->reader);
    if (at >= LEAD_STEPS + SIZE_COUNT) /* the first round warms up */
        keep(tune, tune->sizes[which], &tune->reads[which], seconds);
    return seconds > 0;
}

/* The attention is known: its two contexts make room for one of another kind. false: no micro-batch can be measured. */
static bool begin_reading(struct tune *tune)
{
    struct tuned t;
    if (!judge_attention(tune, &t))
        return false;
    tune->flash = t.flash;
    for (int i = 0; i < 2; i++) {
        llama_free(tune->sides[i].context);
        tune->sides[i].context = NULL;
    }
    if (is_bearable(tune, ENGINE_UBATCH))
        tune->reader = make_context(tune, tune->flash, TUNED_UBATCH_MOST);
    return tune->reader != NULL;
}

enum tune_state tune_step(struct tune *tune)
{
    if (!tune->made && !make_contexts(tune))
        return TUNE_FAILED;
    tune->last = NULL;
    if (!(tune->step < 2 * STEPS ? compare_attention(tune) : read_piece(tune)))
        return TUNE_FAILED;
    if (++tune->step == 2 * STEPS && !begin_reading(tune))
        return TUNE_DONE;
    return tune->step < 2 * STEPS + UBATCH_STEPS ? TUNE_MORE : TUNE_DONE;
}

void tune_disturbed(struct tune *tune)
{
    if (tune->last)
        --*tune->last;
    tune->last = NULL;
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
            on_step(arg, tune->step, 2 * STEPS + UBATCH_STEPS);
    }
    if (state == TUNE_FAILED)
        return err_set(err, ERR_INSUFFICIENT_MEMORY, "there is no memory for the contexts that are compared");
    return tune_finish(tune, ret_result, err);
}
