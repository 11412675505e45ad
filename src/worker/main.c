/* inferd worker: options, then serve_run. One table is the parser, the checks and the help. */
#include "base/engine_sizes.h"
#include "worker/worker.h"

#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "obs/log.h"
#include "worker/devices.h"
#include "worker/serve.h"
#include "worker/tune.h"

enum { EXIT_GENERAL = 1, EXIT_USAGE = 2, EXIT_MODEL = 4 };

struct worker_options {
    struct serve_options serve;
    enum log_level log_level;
    enum log_format log_format;
    int parent; /* 0: not supervised */
    bool help, tune, list_devices, no_gpu;
    char address[64]; /* --listen without its port */
    char lora_paths[LIMIT_LORAS][PATH_MAX];
};

struct option_row {
    const char *name, *argument, *help; /* argument NULL: a flag */
    bool (*set)(struct worker_options *options, const char *value);
};

/* ---- setters: false when the value is none ---- */

static bool set_number(const char *value, uint64_t max, unsigned *ret)
{
    uint64_t number;
    if (!str_u64(str_from(value), max, &number))
        return false;
    *ret = (unsigned)number;
    return true;
}

/* Index of value among the names; -1 when it is none of them. */
static int set_word(const char *value, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(value, names[i]) == 0)
            return (int)i;
    return -1;
}

static bool set_model(struct worker_options *o, const char *value)
{
    o->serve.engine.path = value;
    return *value != '\0';
}

static bool set_socket(struct worker_options *o, const char *value)
{
    o->serve.socket = value;
    return *value != '\0';
}

/* ADDR:PORT, [ADDR6]:PORT */
static bool set_listen(struct worker_options *o, const char *value)
{
    const char *colon = strrchr(value, ':');
    uint64_t port;
    if (!colon || !str_u64(str_from(colon + 1), 65535, &port))
        return false;
    struct str address = {value, (size_t)(colon - value)};
    if (address.n >= 2 && address.p[0] == '[' && address.p[address.n - 1] == ']')
        address = (struct str){address.p + 1, address.n - 2};
    if (address.n == 0 || address.n >= sizeof o->address)
        return false;
    snprintf(o->address, sizeof o->address, STR_FMT, STR_ARG(address));
    o->serve.address = o->address;
    o->serve.port = (int)port;
    return true;
}

static bool set_alias(struct worker_options *o, const char *value)
{
    o->serve.alias = value;
    return *value && strlen(value) <= LIMIT_MODEL_NAME;
}

static bool set_context(struct worker_options *o, const char *value)
{
    return set_number(value, INT32_MAX, &o->serve.engine.context_size);
}

static bool set_parallel(struct worker_options *o, const char *value)
{
    return set_number(value, LIMIT_SEQUENCES, &o->serve.engine.sequences);
}

static bool set_batch(struct worker_options *o, const char *value)
{
    return set_number(value, INT32_MAX, &o->serve.engine.batch);
}

static bool set_ubatch(struct worker_options *o, const char *value)
{
    return set_number(value, INT32_MAX, &o->serve.engine.ubatch);
}

static bool set_threads(struct worker_options *o, const char *value)
{
    return set_number(value, LIMIT_THREADS, &o->serve.engine.threads);
}

static bool set_gpu_layers(struct worker_options *o, const char *value)
{
    unsigned layers;
    if (strcmp(value, "auto") == 0 || strcmp(value, "-1") == 0) {
        o->serve.engine.gpu_layers = -1;
        return true;
    }
    bool all = strcmp(value, "all") == 0;
    if (!all && !set_number(value, INT32_MAX, &layers))
        return false;
    o->serve.engine.gpu_layers = all ? INT32_MAX : (int)layers;
    return true;
}

static bool set_gpu(struct worker_options *o, const char *value)
{
    static const char *const names[] = {"auto", "on", "off"};
    int at = set_word(value, names, 3);
    o->serve.engine.gpu_required = at == 1;
    o->no_gpu = at == 2;
    return at >= 0;
}

static bool set_gpu_device(struct worker_options *o, const char *value)
{
    o->serve.engine.gpu_device = value;
    return *value != '\0';
}

/* A number, or one a device; the last one counts for the rest. */
static bool set_gpu_memory(struct worker_options *o, const char *value)
{
    struct str rest = str_from(value);
    unsigned *caps = o->serve.engine.gpu_memory_mb, count = 0;
    uint64_t cap = 0;
    while (rest.n && count < LIMIT_DEVICES) {
        if (!str_u64(str_cut(&rest, ','), LIMIT_GPU_MB, &cap))
            return false;
        caps[count++] = (unsigned)cap;
    }
    for (unsigned i = count; i < LIMIT_DEVICES; i++)
        caps[i] = (unsigned)cap;
    return count > 0 && !rest.n;
}

static bool set_list_devices(struct worker_options *o, const char *value)
{
    (void)value;
    o->list_devices = true;
    return true;
}

static bool set_flash(struct worker_options *o, const char *value)
{
    static const char *const names[] = {"auto", "on", "off"}; /* in the order of the enum */
    int at = set_word(value, names, 3);
    o->serve.engine.flash = (enum engine_flash)(at < 0 ? 0 : at);
    return at >= 0;
}

static bool set_tune_dir(struct worker_options *o, const char *value)
{
    o->serve.engine.tune_dir = value;
    return *value != '\0';
}

static bool set_tune(struct worker_options *o, const char *value)
{
    (void)value;
    o->tune = true;
    return true;
}

static bool set_kv_type(struct worker_options *o, const char *value)
{
    static const char *const names[] = {"f16", "q8_0", "q4_0", "f32", "bf16"};
    o->serve.engine.kv_type = value;
    return set_word(value, names, 5) >= 0;
}

static bool set_no_mmap(struct worker_options *o, const char *value)
{
    (void)value;
    o->serve.engine.memory_map = false;
    return true;
}

static bool set_mlock(struct worker_options *o, const char *value)
{
    (void)value;
    o->serve.engine.memory_lock = true;
    return true;
}

static bool set_pooling(struct worker_options *o, const char *value)
{
    static const char *const names[] = {"default", "none", "mean",
                                        "cls",     "last", "rank"}; /* in the order of the enum */
    int at = set_word(value, names, 6);
    o->serve.engine.pooling = (enum engine_pooling)(at < 0 ? 0 : at);
    return at >= 0;
}

static bool read_real(const char *text, double *ret)
{
    char *end;
    *ret = strtod(text, &end);
    return *text && !*end && isfinite(*ret);
}

/* FILE or FILE=SCALE; what follows an '=' and is no number belongs to the file's name. */
static bool set_lora(struct worker_options *o, const char *value)
{
    struct engine_config *engine = &o->serve.engine;
    const char *equals = strrchr(value, '=');
    double scale = 1;
    bool scaled = equals && read_real(equals + 1, &scale);
    size_t length = scaled ? (size_t)(equals - value) : strlen(value);
    if (engine->lora_count == LIMIT_LORAS || length == 0 || length >= PATH_MAX)
        return false;
    char *path = o->lora_paths[engine->lora_count];
    memcpy(path, value, length);
    path[length] = '\0';
    engine->loras[engine->lora_count++] = (struct engine_lora){.path = path, .scale = scaled ? (float)scale : 1};
    return true;
}

static bool set_queue(struct worker_options *o, const char *value)
{
    return set_number(value, LIMIT_QUEUE_MAX, &o->serve.queue_size) && o->serve.queue_size > 0;
}

static bool set_kv_memory(struct worker_options *o, const char *value)
{
    if (strcmp(value, "auto") == 0) {
        o->serve.kv_memory_mb = KV_MEMORY_AUTO;
        return true;
    }
    return set_number(value, LIMIT_KV_MB, &o->serve.kv_memory_mb);
}

static bool set_kv_disk(struct worker_options *o, const char *value)
{
    return set_number(value, LIMIT_KV_MB, &o->serve.kv_disk_mb);
}

static bool set_kv_folder(struct worker_options *o, const char *value)
{
    o->serve.kv_folder = value;
    return *value == '/';
}

static bool set_lookup(struct worker_options *o, const char *value)
{
    static const char *const names[] = {"off", "auto"}; /* in the order of the enum */
    int at = set_word(value, names, 2);
    o->serve.lookup = (enum sched_lookup)(at < 0 ? 0 : at);
    return at >= 0;
}

static bool set_timeout(struct worker_options *o, const char *value)
{
    unsigned seconds;
    if (!set_number(value, LIMIT_REQUEST_SECONDS, &seconds))
        return false;
    o->serve.request_timeout_ms = seconds * 1000;
    return true;
}

static bool set_projector(struct worker_options *o, const char *value)
{
    o->serve.projector = *value ? value : NULL;
    return true;
}

static bool set_private_images(struct worker_options *o, const char *value)
{
    (void)value;
    o->serve.private_images = true;
    return true;
}

static bool set_template(struct worker_options *o, const char *value)
{
    o->serve.template_file = value;
    return *value != '\0';
}

static bool set_engine(struct worker_options *o, const char *value)
{
    static const struct engine_ops *const engines[] = {&engine_llama, &engine_fake};
    for (size_t i = 0; i < 2; i++)
        if (strcmp(value, engines[i]->name) == 0)
            o->serve.ops = engines[i];
    return strcmp(value, o->serve.ops->name) == 0;
}

static bool set_max_tokens(struct worker_options *o, const char *value)
{
    unsigned tokens;
    if (!set_number(value, INT32_MAX, &tokens) || tokens == 0)
        return false;
    o->serve.chat.max_tokens = o->serve.completion.max_tokens = tokens;
    return true;
}

static bool set_log_level(struct worker_options *o, const char *value)
{
    static const char *const names[] = {"trace", "debug", "info", "warn", "error"}; /* in the order of the enum */
    int at = set_word(value, names, 5);
    o->log_level = (enum log_level)(at < 0 ? 0 : at);
    return at >= 0;
}

static bool set_log_format(struct worker_options *o, const char *value)
{
    static const char *const names[] = {"pretty", "compact", "json"}; /* in the order of the enum */
    int at = set_word(value, names, 3);
    o->log_format = (enum log_format)(at < 0 ? 0 : at);
    return at >= 0;
}

static bool set_real(const char *value, double max, double *ret)
{
    return read_real(value, ret) && *ret >= 0 && *ret <= max;
}

static bool set_temperature(struct worker_options *o, const char *value)
{
    return set_real(value, 2, &o->serve.chat.temperature);
}

static bool set_completion_temperature(struct worker_options *o, const char *value)
{
    return set_real(value, 2, &o->serve.completion.temperature);
}

static bool set_top_p(struct worker_options *o, const char *value)
{
    bool good = set_real(value, 1, &o->serve.chat.top_p);
    o->serve.completion.top_p = o->serve.chat.top_p;
    return good;
}

static bool set_max_body(struct worker_options *o, const char *value)
{
    unsigned mib;
    if (!set_number(value, LIMIT_BODY_BYTES_MAX >> 20, &mib) || mib == 0)
        return false;
    o->serve.max_body = (uint64_t)mib << 20;
    return true;
}

static bool set_supervised(struct worker_options *o, const char *value)
{
    unsigned pid;
    if (!set_number(value, INT32_MAX, &pid) || pid == 0)
        return false;
    o->parent = (int)pid;
    return true;
}

static bool set_notify_fd(struct worker_options *o, const char *value)
{
    unsigned fd;
    if (!set_number(value, 1024, &fd))
        return false;
    o->serve.notify_fd = (int)fd;
    return true;
}

static bool set_help(struct worker_options *o, const char *value)
{
    (void)value;
    o->help = true;
    return true;
}

static const struct option_row rows[] = {
    {"model", "PATH", "GGUF file, or the first of several (required)", set_model},
    {"socket", "PATH", "listen on this Unix socket", set_socket},
    {"listen", "ADDR:PORT", "listen on this TCP address; port 0 takes a free one", set_listen},
    {"alias", "NAME", "the model's name; default: its file's", set_alias},
    {"context-size", "N", "tokens one sequence may hold; 0: the model's own (default)", set_context},
    {"parallel", "N", "sequences at once; 0: automatic (default)", set_parallel},
    {"batch-size", "N", "tokens one decode call may carry; 0: default", set_batch},
    {"ubatch-size", "N", "tokens computed at once; 0: as measured, else 512", set_ubatch},
    {"threads", "N", "threads; 0: the cores this process may use (default)", set_threads},
    {"gpu-layers", "N|all|auto", "layers on the GPU; auto: as many as fit (default); 0: it is not touched",
     set_gpu_layers},
    {"gpu", "auto|on|off", "off: as --gpu-layers 0; on: having none is an error; default: auto", set_gpu},
    {"gpu-device", "NAME,...", "GPUs to use, by name or place in --list-devices; default: all", set_gpu_device},
    {"gpu-memory-mb", "N,...", "most to take of each; the last number is for the rest; 0: what is free (default)",
     set_gpu_memory},
    {"list-devices", NULL, "print the GPUs as JSON and end", set_list_devices},
    {"flash-attention", "auto|on|off", "default: auto", set_flash},
    {"tune-dir", "DIR", "keep there, and use, what was measured while idle: which attention, what micro-batch",
     set_tune_dir},
    {"tune", NULL, "measure that now, print it and end; needs --tune-dir, not --socket", set_tune},
    {"kv-type", "TYPE", "cells of the context: f16 (default), q8_0, q4_0, f32, bf16", set_kv_type},
    {"no-mmap", NULL, "read the file instead of mapping it", set_no_mmap},
    {"mlock", NULL, "keep the weights in memory", set_mlock},
    {"pooling", "KIND", "embeddings: default, none, mean, cls, last, rank", set_pooling},
    {"lora", "FILE[=SCALE]", "adapter on the model, scale 1 by default; again for more, 8 at most", set_lora},
    {"queue-size", "N", "prompts that may wait for a sequence; default 512", set_queue},
    {"kv-memory-mb", "N|auto", "memory for prefixes that left the context; auto: a part of the machine's (default)",
     set_kv_memory},
    {"kv-folder", "PATH", "absolute; prefixes are written here at the end and found again by the next worker",
     set_kv_folder},
    {"kv-disk-mb", "N", "what the folder may hold, all models together; default 2048", set_kv_disk},
    {"lookup", "auto|off", "guess tokens from what stood in the text before, where that pays; default: auto",
     set_lookup},
    {"request-timeout", "SECONDS", "longest life of a request; 0: none; default 300", set_timeout},
    {"max-tokens", "N", "tokens generated when a request does not say; default 2048", set_max_tokens},
    {"mmproj", "FILE", "GGUF projector of a model that sees; \"\": none (default)", set_projector},
    {"private-images", NULL, "images may be fetched from private, local and reserved addresses", set_private_images},
    {"chat-template", "FILE", "Jinja template in place of the model's own", set_template},
    {"engine", "llama|fake", "fake: deterministic text without a model, for tests", set_engine},
    {"log-level", "LEVEL", "trace, debug, info (default), warn, error", set_log_level},
    {"log-format", "FORMAT", "pretty (default), compact, json", set_log_format},
    {"temperature", "X", "of chats that name none; default 0.7", set_temperature},
    {"completion-temperature", "X", "of completions that name none; default 1", set_completion_temperature},
    {"top-p", "X", "of requests that name none; default 1", set_top_p},
    {"max-body-mb", "N", "largest request body, MiB; default 32", set_max_body},
    {"supervised", "PID", "end when this parent process ends", set_supervised},
    {"notify-fd", "N", "say there when the model is ready, as a supervisor wants it", set_notify_fd},
    {"help", NULL, "this list", set_help},
};

#define ROW_COUNT (sizeof rows / sizeof *rows)

static void print_help(FILE *out)
{
    fprintf(out, "usage: inferd worker --model PATH (--socket PATH | --listen ADDR:PORT) [options]\n\n");
    for (size_t i = 0; i < ROW_COUNT; i++)
        fprintf(out, "  --%s %-*s %s\n", rows[i].name, (int)(28 - strlen(rows[i].name)),
                rows[i].argument ? rows[i].argument : "", rows[i].help);
}

static bool read_options(int argc, char **argv, struct worker_options *o)
{
    struct option table[ROW_COUNT + 1] = {0};
    int at;
    for (size_t i = 0; i < ROW_COUNT; i++)
        table[i] = (struct option){
            .name = rows[i].name, .has_arg = rows[i].argument ? required_argument : no_argument, .val = (int)i + 256};
    optind = 0; /* the program may have parsed its own options before */
    while ((at = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (at < 256)
            return false; /* getopt has said why */
        const struct option_row *row = &rows[at - 256];
        if (row->set(o, optarg))
            continue;
        fprintf(stderr, "worker: --%s %s: not a good value (%s: %s)\n", row->name, optarg, row->argument, row->help);
        return false;
    }
    if (optind < argc)
        fprintf(stderr, "worker: unknown argument '%s'\n", argv[optind]);
    return optind >= argc;
}

static bool check_options(const struct worker_options *o)
{
    if (!o->serve.engine.path)
        fprintf(stderr, "worker: --model is required\n");
    else if (o->tune && !o->serve.engine.tune_dir)
        fprintf(stderr, "worker: --tune needs --tune-dir\n");
    else if (!o->tune && !o->serve.socket && !o->serve.address)
        fprintf(stderr, "worker: one of --socket and --listen is required\n");
    else
        return true;
    return false;
}

/* The daemon's death must not leave workers behind. The parent may have died before the call: then another process is
 * our parent by now. */
static void follow_parent(int parent)
{
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGTERM);
#endif
    if (getppid() != parent)
        raise(SIGTERM);
}

/* Opens the model only to measure it. */
static int tune_now(const struct serve_options *o)
{
    struct engine_config config = o->engine;
    struct err err = ERR_INIT;
    struct tuned t;
    config.flash = ENGINE_FLASH_AUTO;
    struct engine *engine = o->ops->open(&config, &err);
    if (!engine) {
        fprintf(stderr, "worker: %s\n", err.message);
        return EXIT_MODEL;
    }
    const struct tune_setup setup = {
        .info = o->ops->info(engine), .path = config.path, .kv_type = config.kv_type, .dir = config.tune_dir};
    struct tune *tune = tune_new(&setup);
    bool good = tune_run(tune, NULL, NULL, &t, &err);
    if (good)
        printf("flash attention %s: on %.1f, off %.1f tokens/s (prompts: on %.1f, off %.1f)\n", t.flash ? "on" : "off",
               t.decode_tps_on, t.decode_tps_off, t.prompt_tps_on, t.prompt_tps_off);
    if (good && t.ubatch)
        printf("micro-batch %u: prompts %.1f tokens/s, %.1f with %d\n", t.ubatch, t.ubatch_tps, t.ubatch_tps_default,
               ENGINE_UBATCH);
    if (!good)
        fprintf(stderr, "worker: %s\n", err.message);
    tune_free(tune);
    o->ops->close(engine);
    return good ? 0 : EXIT_GENERAL;
}

/* A line of JSON, however many there are: the gateway reads it. */
static int list_devices(void)
{
    struct device devices[LIMIT_DEVICES];
    devices_quiet();
    unsigned count = devices_list(devices);
    struct buf text;
    struct json j;
    buf_init(&text, LIMIT_JSON_TEXT);
    json_begin(&j, &text);
    json_open_array(&j, NULL);
    for (unsigned i = 0; i < count; i++) {
        json_open_object(&j, NULL);
        device_put(&j, &devices[i]);
        json_close(&j);
    }
    json_close(&j);
    bool good = json_finish(&j) && printf("%s\n", text.data) > 0;
    buf_release(&text);
    return good ? 0 : EXIT_GENERAL;
}

int worker_main(int argc, char **argv)
{
    struct worker_options options = {
        .serve = {.engine = {.gpu_layers = -1, .memory_map = true},
                  .ops = &engine_llama,
                  .queue_size = LIMIT_QUEUE,
                  .kv_memory_mb = KV_MEMORY_AUTO,
                  .kv_disk_mb = 2048,
                  .lookup = SCHED_LOOKUP_AUTO,
                  .request_timeout_ms = 300000,
                  .max_body = LIMIT_BODY_BYTES,
                  .notify_fd = -1,
                  .chat = OPENAI_CHAT_DEFAULTS,
                  .completion = OPENAI_COMPLETION_DEFAULTS},
        .log_level = LOG_INFO,
    };
    bool good = read_options(argc, argv, &options);
    if (good && options.list_devices)
        return list_devices();
    if (!good || (!options.help && !check_options(&options))) {
        fprintf(stderr, "worker: see inferd worker --help\n");
        return EXIT_USAGE;
    }
    if (options.help) {
        print_help(stdout);
        return 0;
    }
    if (options.no_gpu)
        options.serve.engine.gpu_layers = 0;
    log_setup(options.log_level, options.log_format, "worker");
    signal(SIGPIPE, SIG_IGN);
    if (options.parent)
        follow_parent(options.parent);
    return options.tune ? tune_now(&options.serve) : serve_run(&options.serve);
}
