/* inferd bench: a model file's speed on this machine, in a process of its own. The file is opened as a worker opens it
 * and driven through the same scheduler. */
#include "cli/commands.h"
#include "cli/local_models.h"

#include "base/engine_sizes.h"
#include "base/json_write.h"
#include "instance/memory.h"
#include "obs/log.h"
#include "worker/bench.h"
#include "worker/tune.h"

#define RUNS        16   /* stream counts of one call */
#define PROMPT_MOST 4096 /* tokens; longer ones measure patience */
#define TOKENS_MOST 4096
#define WARM_TOKENS 8

static const struct cli_option options[] = {
    {"streams", 's', "LIST", "replies at once, one run each; default 1,4,8"},
    {"prompt", 'p', "N", "tokens of each prompt; default 64"},
    {"tokens", 'n', "N", "tokens of each reply; default 64"},
    {"threads", 't', "N", "threads; default: as configured"},
    {"flash-attention", 0, "HOW", "auto, on or off; default: as configured"},
    {"tune", 0, NULL, "first find out which attention is faster, and keep that for later loads"},
    {"config", 'c', "FILE", "read this file after the usual ones"},
    {"json", 0, NULL, "print JSON for scripts"},
    {.name = NULL}};

struct flags {
    unsigned streams[RUNS], runs;
    unsigned prompt, tokens, threads; /* threads 0: as configured */
    int flash;                        /* enum engine_flash; -1: as configured */
    const char *config;
    bool json, tune;
};

/* ---- options ---- */

static bool take_number(struct str text, uint64_t least, uint64_t most, unsigned *ret)
{
    uint64_t number;
    if (!str_u64(text, most, &number) || number < least)
        return false;
    *ret = (unsigned)number;
    return true;
}

static bool take_streams(struct flags *flags, const char *value)
{
    struct str rest = str_from(value);
    flags->runs = 0;
    while (flags->runs < RUNS && rest.n > 0)
        if (!take_number(str_cut(&rest, ','), 1, LIMIT_SEQUENCES, &flags->streams[flags->runs++]))
            return false;
    return rest.n == 0 && flags->runs > 0;
}

static bool take_flash(struct flags *flags, const char *value)
{
    static const char *const names[] = {"auto", "on", "off"}; /* in the order of the enum */
    for (int i = 0; i < 3; i++)
        if (strcmp(value, names[i]) == 0)
            flags->flash = i;
    return flags->flash >= 0;
}

static bool take(struct flags *flags, const char *name, const char *value)
{
    if (strcmp(name, "streams") == 0)
        return take_streams(flags, value);
    if (strcmp(name, "prompt") == 0)
        return take_number(str_from(value), 1, PROMPT_MOST, &flags->prompt);
    if (strcmp(name, "tokens") == 0)
        return take_number(str_from(value), 2, TOKENS_MOST, &flags->tokens);
    if (strcmp(name, "threads") == 0)
        return take_number(str_from(value), 1, LIMIT_THREADS, &flags->threads);
    if (strcmp(name, "flash-attention") == 0)
        return take_flash(flags, value);
    if (strcmp(name, "config") == 0)
        flags->config = value;
    else if (strcmp(name, "tune") == 0)
        flags->tune = true;
    else
        flags->json = true;
    return true;
}

static bool on_option(void *arg, const char *name, const char *value)
{
    if (take(arg, name, value))
        return true;
    fprintf(stderr, "inferd bench: --%s %s: not a good value\n", name, value);
    return false;
}

/* ---- progress, on a terminal only ---- */

static void clear_line(void)
{
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K");
}

static bool on_loading(void *arg, float fraction)
{
    (void)arg;
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[Kloading %3.0f %%", (double)fraction * 100);
    return true;
}

static void on_progress(void *arg, unsigned done, unsigned all)
{
    const struct bench_setup *setup = arg;
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K%u stream%s: %u of %u tokens", setup->streams, setup->streams > 1 ? "s" : "", done,
                all);
}

/* ---- running ---- */

struct bench_session {
    const struct flags *flags;
    const struct engine_info *info;
    struct sched *sched;
    struct loop loop;
    struct bench_result results[RUNS];
};

static unsigned most_streams(const struct flags *flags)
{
    unsigned most = 1;
    for (unsigned i = 0; i < flags->runs; i++)
        most = flags->streams[i] > most ? flags->streams[i] : most;
    return most;
}

/* Room for the largest run; everything else as a worker would have it. */
static struct engine_config configure(const struct flags *flags, const struct conf *conf, const struct model *model,
                                      const char *tune_dir)
{
    struct fit_setup setup;
    unsigned each = flags->prompt + flags->tokens, streams = most_streams(flags);
    memory_setup(model, each, conf, &setup);
    return (struct engine_config){
        .path = strcmp(model->gguf.architecture, "fake") == 0 ? model->gguf.name : model->path,
        .context_size = each * streams > ENGINE_CONTEXT ? each * streams : ENGINE_CONTEXT,
        .sequences = streams > ENGINE_SEQUENCES ? streams : ENGINE_SEQUENCES,
        .batch = (unsigned)conf->batch_size,
        .ubatch = conf->ubatch_size > 0 ? (unsigned)conf->ubatch_size : 0,
        .threads = flags->threads ? flags->threads : (unsigned)conf->cpu_threads,
        .gpu_layers = conf->gpu_enabled == 0 ? 0 : (int)conf->gpu_layers,
        .gpu_required = conf->gpu_enabled == 1,
        .gpu_device = conf->gpu_device,
        .flash = flags->flash >= 0 ? (enum engine_flash)flags->flash : (enum engine_flash)conf->flash_attention,
        .tune_dir = conf->tune_attention || flags->tune ? tune_dir : NULL,
        .kv_type = setup.kv_type,
        .memory_map = conf->memory_map,
        .memory_lock = conf->mlock,
        .on_progress = on_loading};
}

static bool run_one(struct bench_session *s, unsigned streams, unsigned prompt, unsigned tokens, unsigned salt,
                    struct bench_result *ret_result, struct err *err)
{
    struct bench_setup setup = {
        .streams = streams, .prompt = prompt, .tokens = tokens, .salt = salt, .on_progress = on_progress};
    setup.arg = &setup;
    bool good = bench_run(s->sched, &s->loop, s->info->vocabulary, &setup, ret_result, err);
    clear_line();
    return good;
}

static bool run_all(struct bench_session *s, struct err *err)
{
    const struct flags *flags = s->flags;
    struct bench_result warm; /* brings the weights into memory */
    if (!run_one(s, 1, flags->prompt, WARM_TOKENS, RUNS, &warm, err))
        return false;
    for (unsigned i = 0; i < flags->runs; i++)
        if (!run_one(s, flags->streams[i], flags->prompt, flags->tokens, i, &s->results[i], err))
            return false;
    return true;
}

/* ---- printing ---- */

/* The columns of the table and the members of the JSON, in one list. */
static const struct column {
    const char *key, *title;
    int digits;
    size_t offset; /* of a double in struct bench_result */
} columns[] = {
    {"prompt_tokens_per_second", "prompt t/s", 1, offsetof(struct bench_result, prompt_tps)},
    {"tokens_per_second", "total t/s", 1, offsetof(struct bench_result, decode_tps)},
    {"tokens_per_second_per_stream", "each t/s", 1, offsetof(struct bench_result, stream_tps)},
    {"first_token_ms", "first ms", 1, offsetof(struct bench_result, first_ms)},
    {"first_token_worst_ms", "worst ms", 1, offsetof(struct bench_result, first_worst_ms)},
    {"gap_p50_ms", "gap p50", 2, offsetof(struct bench_result, gap_p50_ms)},
    {"gap_p99_ms", "gap p99", 2, offsetof(struct bench_result, gap_p99_ms)},
};
#define COLUMNS (sizeof columns / sizeof *columns)

static double value_of(const struct bench_result *result, const struct column *column)
{
    return *(const double *)((const char *)result + column->offset);
}

static const char *attention_name(const struct engine_attention *a)
{
    return a->source == ENGINE_CHOICE_DEFAULT ? "default" : a->flash ? "flash" : "plain";
}

static void print_table(const struct bench_session *s, const struct model *model)
{
    const struct engine_attention *a = &s->info->attention;
    printf("%s: %s, %u threads, prompts of %u and replies of %u tokens\n", model->id, s->info->description,
           s->info->threads, s->flags->prompt, s->flags->tokens);
    if (a->source == ENGINE_CHOICE_MEASURED)
        printf("%s attention, as measured: decoding %.1f t/s with flash attention, %.1f without; prompts %.1f, %.1f\n",
               attention_name(a), a->decode_tps_on, a->decode_tps_off, a->prompt_tps_on, a->prompt_tps_off);
    printf("%7s", "streams");
    for (size_t k = 0; k < COLUMNS; k++)
        printf(" %10s", columns[k].title);
    printf("\n");
    for (unsigned i = 0; i < s->flags->runs; i++) {
        printf("%7u", s->flags->streams[i]);
        for (size_t k = 0; k < COLUMNS; k++)
            printf(" %10.*f", columns[k].digits, value_of(&s->results[i], &columns[k]));
        printf("\n");
    }
}

static void print_document(const struct bench_session *s, const struct model *model)
{
    struct buf text;
    struct json j;
    buf_init(&text, LIMIT_JSON_TEXT);
    json_begin(&j, &text);
    json_open_object(&j, NULL);
    json_put_string(&j, "model", model->id);
    json_put_string(&j, "description", s->info->description);
    json_put_string(&j, "engine", s->info->build);
    json_put_int(&j, "threads", s->info->threads);
    json_put_int(&j, "prompt_tokens", s->flags->prompt);
    json_put_int(&j, "generated_tokens", s->flags->tokens);
    json_put_string(&j, "attention", attention_name(&s->info->attention));
    json_open_array(&j, "runs");
    for (unsigned i = 0; i < s->flags->runs; i++) {
        json_open_object(&j, NULL);
        json_put_int(&j, "streams", s->flags->streams[i]);
        for (size_t k = 0; k < COLUMNS; k++)
            json_put_number(&j, columns[k].key, value_of(&s->results[i], &columns[k]));
        json_close(&j);
    }
    json_close(&j);
    json_close(&j);
    if (json_finish(&j))
        printf("%s\n", text.data);
    buf_release(&text);
}

/* ---- the command ---- */

static bool check_room(const struct bench_session *s, struct err *err)
{
    unsigned each = s->flags->prompt + s->flags->tokens, trained = s->info->context_train;
    if (s->info->embedding_only)
        return err_set(err, ERR_NOT_SUPPORTED, "this model makes embeddings; it generates no tokens to measure");
    if (most_streams(s->flags) > s->info->sequences)
        return err_set(err, ERR_USAGE, "the engine has %u sequences; --streams asks for more", s->info->sequences);
    if (trained && each > trained)
        return err_set(err, ERR_USAGE, "--prompt and --tokens together are %u; the model was made for %u", each,
                       trained);
    return true;
}

static void on_tune_step(void *arg, unsigned done, unsigned all)
{
    (void)arg;
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[Kattention: %u of %u steps", done, all);
}

/* Before the measurement itself, which opens the model with the result. */
static bool tune(const struct engine_ops *ops, const struct engine_config *config, struct err *err)
{
    struct tuned result;
    struct engine *engine = ops->open(config, err);
    if (!engine)
        return false;
    const struct tune_setup setup = {
        .info = ops->info(engine), .path = config->path, .kv_type = config->kv_type, .dir = config->tune_dir};
    struct tune *t = tune_new(&setup);
    bool good = tune_run(t, on_tune_step, NULL, &result, err);
    clear_line();
    tune_free(t);
    ops->close(engine);
    return good;
}

static bool measure(const struct flags *flags, const struct conf *conf, const struct model *model, struct err *err)
{
    char tune_dir[4096];
    struct bench_session s = {.flags = flags};
    snprintf(tune_dir, sizeof tune_dir, "%s/" MODEL_TUNED_FOLDER, conf->state_dir);
    struct engine_config config = configure(flags, conf, model, tune_dir);
    const struct engine_ops *ops = strcmp(model->gguf.architecture, "fake") == 0 ? &engine_fake : &engine_llama;
    if (flags->tune && !tune(ops, &config, err))
        return false;
    struct engine *engine = ops->open(&config, err);
    clear_line();
    if (!engine)
        return false;
    loop_init(&s.loop);
    s.info = ops->info(engine);
    s.sched =
        sched_new(&(struct sched_config){.ops = ops, .engine = engine, .loop = &s.loop, .queue_size = LIMIT_SEQUENCES});
    bool good = check_room(&s, err) && run_all(&s, err);
    if (good && flags->json)
        print_document(&s, model);
    else if (good)
        print_table(&s, model);
    sched_free(s.sched);
    loop_release(&s.loop);
    return good;
}

static int run(const struct cli_command *command, int argc, char **argv)
{
    struct flags flags = {.streams = {1, 4, 8}, .runs = 3, .prompt = 64, .tokens = 64, .flash = -1};
    struct local_models local;
    struct model model;
    struct err err = ERR_INIT;
    int status;
    int at = cli_parse(command, argc, argv, on_option, &flags, &status);
    if (at < 0)
        return status;
    if (at != argc - 1)
        return cli_usage(command, "name one model or file");
    log_setup(LOG_WARN, LOG_PRETTY, "bench");
    bool good = local_models_open(&local, flags.config, &err) && local_models_find(&local, argv[at], &model, &err) &&
                measure(&flags, &local.conf, &model, &err);
    status = good ? EXIT_OK : cli_fail(&err);
    local_models_close(&local);
    return status;
}

const struct cli_command cmd_bench = {
    "bench",
    "MODEL",
    "measure a model's speed on this machine",
    "MODEL is a GGUF file or a model of the configured folders; no server is asked, and one that runs takes its share\n"
    "of the machine. For each number of streams: prompt tokens a second until the last stream's first token, tokens a\n"
    "second of all streams and of each, time to the first token (mean and worst), and the time between two tokens of "
    "a\n"
    "stream (median and 99th percentile).",
    options,
    run};
