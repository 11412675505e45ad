/* What is not counted as it happens but looked at when somebody asks. */
#include "api/system/gauges.h"

#include "api/system/machine.h"
#include "base/clock.h"
#include "base/version.h"
#include "http/ws.h"

static void set_reserved(struct metrics *metrics, const char *name, const struct worker_memory *memory)
{
    const struct {
        const char *kind;
        uint64_t bytes;
    } rows[] = {{"weights", memory->weights}, {"kv", memory->kv}, {"compute", memory->compute}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        metrics_set(metrics, METRIC_MODEL_RESERVED, (const char *const[]){name, rows[i].kind}, (double)rows[i].bytes);
}

static void set_reserved_on(struct metrics *metrics, const char *model, const struct worker_device *d)
{
    const struct {
        const char *kind;
        uint64_t bytes;
    } rows[] = {{"weights", d->weights}, {"kv", d->kv}, {"compute", d->compute}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        metrics_set(metrics, METRIC_MODEL_GPU, (const char *const[]){model, d->name, rows[i].kind},
                    (double)rows[i].bytes);
    metrics_set(metrics, METRIC_MODEL_GPU_LAYERS, (const char *const[]){model, d->name}, d->layers);
}

/* A series for each GPU there is, so that one that was left shows zero. */
static void set_model_on_gpus(struct metrics *metrics, const char *model, const struct worker_memory *memory,
                              const struct gpu_status *gpus, unsigned count)
{
    for (unsigned g = 0; g < count; g++) {
        struct worker_device none = {.layers = 0};
        const struct worker_device *found = &none;
        memcpy(none.name, gpus[g].device.name, sizeof none.name);
        for (unsigned d = 0; d < memory->device_count; d++)
            if (strcmp(memory->devices[d].name, none.name) == 0)
                found = &memory->devices[d];
        set_reserved_on(metrics, model, found);
    }
}

static void set_gpus(struct metrics *metrics, const struct gpu_status *gpus, unsigned count)
{
    for (unsigned g = 0; g < count; g++) {
        const char *const name[] = {gpus[g].device.name};
        metrics_set(metrics, METRIC_GPU_TOTAL, name, (double)gpus[g].device.total);
        metrics_set(metrics, METRIC_GPU_FREE, name, (double)gpus[g].device.free);
        metrics_set(metrics, METRIC_GPU_USED, name, (double)gpus[g].used);
    }
}

static void set_model(struct metrics *metrics, const char *name, const struct instance_status *s)
{
    const char *const model[] = {name};
    bool loaded = strcmp(s->model_state, "loaded") == 0;
    metrics_set(metrics, METRIC_MODEL_LOADED, model, loaded);
    metrics_set(metrics, METRIC_MODEL_MEMORY, model, (double)s->memory_bytes);
    metrics_set(metrics, METRIC_ACTIVE_REQUESTS, model, s->active);
    metrics_set(metrics, METRIC_QUEUE_PENDING, model, s->waiting + s->load.queued);
    metrics_set(metrics, METRIC_MODEL_LOAD_ERRORS, model, (double)s->counters->start_failures);
    set_reserved(metrics, name, &s->reserved);
    if (s->load_ms > 0)
        metrics_set(metrics, METRIC_MODEL_LOAD_SECONDS, model, s->load_ms / 1000);
    if (s->load.known) {
        metrics_set(metrics, METRIC_BATCH_SIZE, model, s->load.running);
        metrics_set(metrics, METRIC_KV_USED, model, s->load.cells ? (double)s->load.cells_used / s->load.cells : 0);
    }
}

static void set_models(struct app *app, struct arena *arena)
{
    struct gpu_status gpus[LIMIT_DEVICES];
    unsigned loaded = 0, gpu_count = instances_gpus(app->instances, gpus);
    set_gpus(app->metrics, gpus, gpu_count);
    for (struct instance **i = instances_list(app->instances, true, arena); *i; i++) {
        struct instance_status s;
        instance_status(*i, &s);
        set_model(app->metrics, instance_name(*i), &s);
        set_model_on_gpus(app->metrics, instance_name(*i), &s.reserved, gpus, gpu_count);
        loaded += strcmp(s.model_state, "loaded") == 0;
    }
    metrics_set(app->metrics, METRIC_LOADED_MODELS, NULL, loaded);
}

static void set_machine(struct app *app)
{
    struct machine_load load;
    machine_load(app->machine, &load);
    if (load.cpu_known)
        metrics_set(app->metrics, METRIC_CPU, NULL, load.cpu_percent);
    metrics_set(app->metrics, METRIC_MEMORY, NULL, (double)load.memory_used);
    metrics_set(app->metrics, METRIC_MEMORY_TOTAL, NULL, (double)load.memory_total);
    metrics_set(app->metrics, METRIC_PROCESS_MEMORY, NULL, (double)load.process_memory);
}

void gauges_set(struct app *app, struct arena *arena)
{
    const char *const version[] = {INFERD_VERSION};
    struct worker_load load;
    instances_load_now(app->instances, &load);
    set_models(app, arena);
    set_machine(app);
    metrics_set(app->metrics, METRIC_QUEUE_CAPACITY, NULL, (double)app->conf->queue_size);
    metrics_set(app->metrics, METRIC_TOKENS_DECODED, NULL, (double)load.generated);
    metrics_set(app->metrics, METRIC_CONNECTIONS, NULL, (double)http_server_connections(app->server));
    metrics_set(app->metrics, METRIC_WS_CONNECTIONS, NULL, (double)http_ws_count(app->server));
    metrics_set(app->metrics, METRIC_UPTIME, NULL, (double)(clock_ms() - app->started_ms) / 1000);
    metrics_set(app->metrics, METRIC_BUILD, version, 1);
}
