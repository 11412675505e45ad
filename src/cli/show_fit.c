#include "cli/show_fit.h"

#include "base/engine_sizes.h"
#include "base/json_write.h"
#include "cli/cli.h"
#include "cli/local_models.h"
#include "instance/evict.h"
#include "instance/memory.h"
#include "worker/devices.h"
#include "worker/offload.h"

#define CONTEXT_MOST (1u << 20) /* of a model that does not say what it was trained on */

const char *show_advice(const struct gguf *gguf, char out[SHOW_ADVICE_SIZE])
{
    struct kernel_advice a;
    kernel_advise(gguf, &a);
    out[0] = '\0';
    if (!a.slow)
        return out;
    int n = snprintf(out, SHOW_ADVICE_SIZE, "%s has no fast (repacked) kernel on this CPU, %s has", a.type, a.better);
    if (a.prompt_gain > 0 && n > 0 && n < SHOW_ADVICE_SIZE)
        snprintf(out + n, SHOW_ADVICE_SIZE - (size_t)n,
                 "; measured on an EPYC with AVX-512: prompts %.1f x, decoding %.1f x as fast", a.prompt_gain,
                 a.decode_gain);
    return out;
}

struct report {
    const struct model *model;
    struct fit_setup setup;
    struct fit fit;
    uint64_t free_bytes; /* 0: the system does not say */
    uint64_t longest;    /* context that fits, tokens */
    struct device gpus[LIMIT_DEVICES];
    unsigned gpu_count, gpu_layers, all_layers; /* layers that would lie on them; 0 gpu_count: none is used */
    unsigned dealt[LIMIT_DEVICES];              /* of those, on each */
    uint64_t on_gpus;                           /* bytes */
    char advice[SHOW_ADVICE_SIZE];
};

/* What lies on GPUs with memory of their own is not taken from this machine's. */
static bool fits(const struct report *r)
{
    uint64_t elsewhere = r->gpu_count && !r->gpus[0].integrated ? r->on_gpus : 0;
    return !r->free_bytes || r->fit.total <= r->free_bytes + elsewhere;
}

/* ---- GPUs ---- */

struct trial {
    const struct report *report;
    uint64_t usable; /* of all GPUs together */
};

static bool fits_gpus(void *arg, unsigned layers)
{
    const struct trial *t = arg;
    const struct report *r = t->report;
    return fit_on_gpus(&r->model->gguf, &r->fit, layers, r->gpu_count) <= t->usable;
}

/* As a worker would decide, by prediction instead of measurement. */
static void place(struct report *r, const struct conf *conf)
{
    struct err err;
    struct trial trial = {.report = r};
    float parts[LIMIT_DEVICES];
    int64_t own = r->model->overrides ? r->model->overrides->gpu_layers : -1;
    int64_t wanted = own >= 0 ? own : conf->gpu_layers;
    devices_quiet();
    if (conf->gpu_enabled == 0 || wanted == 0 || !devices_choose(conf->gpu_device, r->gpus, &r->gpu_count, &err))
        return;
    for (unsigned d = 0; d < r->gpu_count; d++) {
        uint64_t usable = device_usable(&r->gpus[d], (uint64_t)conf->gpu_memory_mb << 20);
        trial.usable += usable;
        parts[d] = (float)usable;
    }
    r->all_layers = r->model->gguf.block_count + 1;
    if (r->gpu_count == 0 || trial.usable == 0)
        return;
    r->gpu_layers = wanted > 0 ? (unsigned)(wanted < r->all_layers ? wanted : r->all_layers)
                               : offload_most(r->all_layers, fits_gpus, &trial);
    r->on_gpus = fit_on_gpus(&r->model->gguf, &r->fit, r->gpu_layers, r->gpu_count);
    offload_deal(parts, r->gpu_count, r->gpu_layers, r->dealt);
}

static void compute(struct report *r, const struct model *m, uint64_t context, const struct conf *conf)
{
    uint64_t trained = m->gguf.context_length ? m->gguf.context_length : CONTEXT_MOST;
    r->model = m;
    memory_setup(m, context ? context : model_context(m, conf), conf, &r->setup);
    fit_predict(&m->gguf, &r->setup, &r->fit);
    place(r, conf);
    r->free_bytes = evict_memory_available();
    r->longest = fit_longest_context(&m->gguf, &r->setup, r->free_bytes ? r->free_bytes : UINT64_MAX, trained);
    show_advice(&m->gguf, r->advice);
}

/* ---- printing ---- */

/* The parts, in the order of the table; those that are zero are left out of it. */
struct part {
    const char *key, *label;
    uint64_t bytes;
};

#define PARTS 7
static void list_parts(const struct fit *f, struct part out[PARTS])
{
    const struct part parts[PARTS] = {
        {"weight_bytes", "weights", f->weights},  {"copy_bytes", "weights, again", f->copies},
        {"kv_bytes", "KV cache", f->kv},          {"state_bytes", "states", f->state},
        {"compute_bytes", "compute", f->compute}, {"output_bytes", "logits", f->output},
        {"program_bytes", "program", f->program},
    };
    memcpy(out, parts, sizeof parts);
}

static void print_table(const struct report *r)
{
    struct part parts[PARTS];
    char text[16], more[16];
    list_parts(&r->fit, parts);
    printf("%s with a context of %llu (%s cells, %s attention)\n", r->model->id, (unsigned long long)r->setup.context,
           r->setup.kv_type, r->setup.flash ? "flash" : "plain");
    for (size_t i = 0; i < PARTS; i++)
        if (parts[i].bytes)
            printf("  %-16s %10s\n", parts[i].label, cli_bytes((double)parts[i].bytes, text));
    printf("  %-16s %10s\n", "total", cli_bytes((double)r->fit.total, text));
    printf("  %-16s %10s\n", "KV per token", cli_bytes((double)r->fit.kv_token, text));
    if (r->free_bytes)
        printf("  %-16s %10s\n", "free now", cli_bytes((double)r->free_bytes, text));
    for (unsigned d = 0; d < r->gpu_count; d++)
        printf("  %-16s %10u of %u layers (%s free of %s)\n", r->gpus[d].name, r->dealt[d], r->all_layers,
               cli_bytes((double)r->gpus[d].free, text), cli_bytes((double)r->gpus[d].total, more));
    if (r->gpu_count)
        printf("  %-16s %10s\n", "on GPUs", cli_bytes((double)r->on_gpus, text));
    printf("  %-16s %10s\n", "fits", fits(r) ? "yes" : "no");
    printf("  %-16s %10llu\n", "longest context", (unsigned long long)r->longest);
    if (*r->advice)
        printf("  %s\n", r->advice);
}

static void print_document(const struct report *r)
{
    struct part parts[PARTS];
    struct buf text;
    struct json j;
    list_parts(&r->fit, parts);
    buf_init(&text, LIMIT_JSON_TEXT);
    json_begin(&j, &text);
    json_open_object(&j, NULL);
    json_put_string(&j, "model", r->model->id);
    json_put_int(&j, "context", (int64_t)r->setup.context);
    json_put_string(&j, "kv_type", r->setup.kv_type);
    json_put_bool(&j, "flash_attention", r->setup.flash);
    for (size_t i = 0; i < PARTS; i++)
        json_put_int(&j, parts[i].key, (int64_t)parts[i].bytes);
    json_put_int(&j, "total_bytes", (int64_t)r->fit.total);
    json_put_int(&j, "kv_bytes_per_token", (int64_t)r->fit.kv_token);
    json_put_int(&j, "free_bytes", (int64_t)r->free_bytes);
    json_open_array(&j, "gpus");
    for (unsigned d = 0; d < r->gpu_count; d++) {
        json_open_object(&j, NULL);
        device_put(&j, &r->gpus[d]);
        json_put_int(&j, "layers", r->dealt[d]);
        json_close(&j);
    }
    json_close(&j);
    json_put_int(&j, "gpu_layers", r->gpu_layers);
    json_put_int(&j, "gpu_bytes", (int64_t)r->on_gpus);
    json_put_bool(&j, "fits", fits(r));
    json_put_int(&j, "longest_context", (int64_t)r->longest);
    json_put_string(&j, "advice", *r->advice ? r->advice : NULL);
    json_close(&j);
    if (json_finish(&j))
        printf("%s\n", text.data);
    buf_release(&text);
}

int show_fit(const char *name, unsigned context, const char *config, bool json)
{
    struct local_models local;
    struct report report = {0};
    struct model model;
    struct err err = ERR_INIT;
    int status;
    if (!local_models_open(&local, config, &err) || !local_models_find(&local, name, &model, &err)) {
        status = cli_fail(&err);
        goto done;
    }
    compute(&report, &model, context, &local.conf);
    if (json)
        print_document(&report);
    else
        print_table(&report);
    status = fits(&report) ? EXIT_OK : EXIT_RESOURCES;

done:
    local_models_close(&local);
    return status;
}
