/* What the worker says about itself: /health, /props, /slots, /metrics, /v1/models. Every number is the scheduler's or
 * the engine's own. */
#include "base/version.h"
#include "worker/serve.h"

/* ---- health ---- */

/* llama-server's shape while loading, with how far it has come. */
static void write_loading(const struct serve *serve, struct buf *out)
{
    struct json j;
    json_begin(&j, out);
    json_open_object(&j, NULL);
    json_open_object(&j, "error");
    json_put_int(&j, "code", 503);
    json_put_string(&j, "message", "Loading model");
    json_put_string(&j, "type", "unavailable_error");
    json_close(&j);
    json_put_string(&j, "status", "loading");
    json_put_number(&j, "progress", atomic_load(&serve->progress) / 1000.0);
    json_close(&j);
    json_finish(&j);
}

static void get_health(void *arg, struct http_req *req, const struct http_match *match)
{
    struct serve *serve = arg;
    struct buf out;
    struct json j;
    (void)match;
    buf_init(&out, LIMIT_JSON_TEXT);
    if (serve->state == SERVE_LOADING) {
        write_loading(serve, &out);
    } else {
        json_begin(&j, &out);
        json_open_object(&j, NULL);
        json_put_string(&j, "status", serve->state == SERVE_READY ? "ok" : "draining");
        json_close(&j);
        json_finish(&j);
    }
    http_reply(req, serve->state == SERVE_READY ? 200 : 503, "application/json", buf_view(&out));
    buf_release(&out);
}

/* Answers in place of the handler while there is no model. */
static bool is_loaded(struct serve *serve, struct http_req *req)
{
    struct err err;
    if (serve->sched)
        return true;
    err_set(&err, ERR_MODEL_LOADING, "the model '%s' is being loaded (%u%%)", serve->model,
            atomic_load(&serve->progress) / 10);
    err.retry_after_ms = 1000;
    http_reply_error(req, &err);
    return false;
}

/* Starts the JSON of a reply about the model. false: it is not loaded yet, and that has been answered. */
static bool begin_document(struct serve *serve, struct http_req *req, struct buf *out, struct json *j)
{
    if (!is_loaded(serve, req))
        return false;
    buf_init(out, LIMIT_JSON_TEXT);
    json_begin(j, out);
    return true;
}

/* ---- models ---- */

static void write_about(const struct serve *serve, struct buf *out)
{
    const struct engine_info *info = serve->info;
    struct json j;
    json_begin(&j, out);
    json_open_object(&j, NULL);
    json_put_string(&j, "status", "loaded");
    json_put_string(&j, "backend", info->name);
    json_put_string(&j, "format", "gguf");
    json_put_string(&j, "arch", info->architecture);
    json_put_string(&j, "quantization", info->quantization);
    json_put_int(&j, "parameters", (int64_t)info->parameters);
    json_put_int(&j, "context_length", info->context_sequence);
    json_put_int(&j, "context_length_trained", info->context_train);
    json_put_int(&j, "embedding_length", info->embedding_size);
    json_put_int(&j, "size_bytes", (int64_t)info->weight_bytes);
    json_open_array(&j, "capabilities");
    if (!info->embedding_only) {
        json_put_string(&j, NULL, "completion");
        if (serve->templates)
            json_put_string(&j, NULL, "chat");
    }
    json_put_string(&j, NULL, "embedding");
    json_close(&j);
    json_close(&j);
    json_finish(&j);
}

static void put_model(const struct serve *serve, struct json *j)
{
    struct buf about;
    buf_init(&about, LIMIT_JSON_TEXT);
    write_about(serve, &about);
    struct openai_model model = {
        .id = serve->model, .owned_by = "local", .created = serve->created, .extra = buf_view(&about)};
    openai_put_model(j, &model);
    buf_release(&about);
}

static void get_models(void *arg, struct http_req *req, const struct http_match *match)
{
    struct serve *serve = arg;
    struct buf out;
    struct json j;
    (void)match;
    if (!begin_document(serve, req, &out, &j))
        return;
    json_open_object(&j, NULL);
    json_put_string(&j, "object", "list");
    json_open_array(&j, "data");
    put_model(serve, &j);
    json_close(&j);
    json_close(&j);
    json_finish(&j);
    serve_reply_json(req, &out);
}

static void get_model(void *arg, struct http_req *req, const struct http_match *match)
{
    struct serve *serve = arg;
    struct err err;
    struct buf out;
    struct json j;
    if (!is_loaded(serve, req))
        return;
    if (!str_eq(match->captures[0], str_from(serve->model))) {
        err_set(&err, ERR_MODEL_NOT_FOUND, "the model '" STR_FMT "' is not here; this worker serves '%s'",
                STR_ARG(match->captures[0]), serve->model);
        http_reply_error(req, &err);
        return;
    }
    buf_init(&out, LIMIT_JSON_TEXT);
    json_begin(&j, &out);
    put_model(serve, &j);
    json_finish(&j);
    serve_reply_json(req, &out);
}

/* ---- llama-server's views ---- */

static void put_default_settings(const struct serve *serve, struct json *j)
{
    struct gen_params params = {0};
    serve_default_params(&serve->options->chat, &params);
    json_open_object(j, "default_generation_settings");
    json_put_int(j, "n_ctx", serve->info->context_sequence);
    json_open_object(j, "params");
    json_put_int(j, "n_predict", params.max_tokens);
    serve_put_sampling(j, &params);
    json_close(j);
    json_close(j);
}

/* As the engine has reserved it, in all and of that on GPUs; the file's weights may be mapped and not all in memory. */
static void put_memory(const struct engine_info *info, struct json *j)
{
    json_open_object(j, "memory");
    json_put_int(j, "weight_bytes", (int64_t)info->weight_bytes);
    json_put_int(j, "kv_bytes", (int64_t)info->kv_bytes);
    json_put_int(j, "compute_bytes", (int64_t)info->compute_bytes);
    json_put_int(j, "gpu_layers", info->gpu_layers);
    json_open_array(j, "devices");
    for (unsigned d = 0; d < info->device_count; d++) {
        json_open_object(j, NULL);
        device_put_use(j, &info->devices[d]);
        json_put_int(j, "total_bytes", (int64_t)info->devices[d].device.total);
        json_put_int(j, "free_bytes", (int64_t)info->devices[d].device.free);
        json_close(j);
    }
    json_close(j);
    json_close(j);
}

static const char *const choices[] = {"default", "forced", "measured"}; /* in the order of enum engine_choice */

static void put_attention(const struct engine_attention *a, struct json *j)
{
    json_open_object(j, "attention");
    if (a->source == ENGINE_CHOICE_DEFAULT)
        json_put_null(j, "flash"); /* llama.cpp has chosen, and does not say what */
    else
        json_put_bool(j, "flash", a->flash);
    json_put_string(j, "source", choices[a->source]);
    if (a->source == ENGINE_CHOICE_MEASURED) {
        json_put_number(j, "decode_tps_on", a->decode_tps_on);
        json_put_number(j, "decode_tps_off", a->decode_tps_off);
        json_put_number(j, "prompt_tps_on", a->prompt_tps_on);
        json_put_number(j, "prompt_tps_off", a->prompt_tps_off);
    }
    json_close(j);
}

static void put_ubatch(const struct engine_info *info, struct json *j)
{
    const struct engine_ubatch *u = &info->ubatch_choice;
    json_open_object(j, "ubatch");
    json_put_int(j, "size", info->ubatch);
    json_put_string(j, "source", choices[u->source]);
    if (u->source == ENGINE_CHOICE_MEASURED) {
        json_put_number(j, "prompt_tps", u->tps);
        json_put_number(j, "prompt_tps_default", u->tps_default);
    }
    json_close(j);
}

static void get_props(void *arg, struct http_req *req, const struct http_match *match)
{
    struct serve *serve = arg;
    struct buf out;
    struct json j;
    (void)match;
    if (!begin_document(serve, req, &out, &j))
        return;
    json_open_object(&j, NULL);
    put_default_settings(serve, &j);
    json_put_int(&j, "total_slots", serve->info->sequences);
    json_put_string(&j, "model_alias", serve->model);
    json_put_string(&j, "model_path", serve->options->engine.path);
    json_put_string(&j, "chat_template", serve->info->chat_template);
    json_put_string(&j, "bos_token", serve->info->bos_text);
    json_put_string(&j, "eos_token", serve->info->eos_text);
    json_open_object(&j, "modalities");
    json_put_bool(&j, "vision", serve->vision != NULL);
    json_put_bool(&j, "audio", false);
    json_close(&j);
    put_memory(serve->info, &j);
    put_attention(&serve->info->attention, &j);
    put_ubatch(serve->info, &j);
    json_put_string(&j, "build_info", INFERD_VERSION);
    json_put_string(&j, "engine", serve->info->build);
    json_close(&j);
    json_finish(&j);
    serve_reply_json(req, &out);
}

static void get_slots(void *arg, struct http_req *req, const struct http_match *match)
{
    struct serve *serve = arg;
    struct sched_slot slot;
    struct buf out;
    struct json j;
    (void)match;
    if (!begin_document(serve, req, &out, &j))
        return;
    json_open_array(&j, NULL);
    for (unsigned i = 0; i < LIMIT_SEQUENCES && sched_slot(serve->sched, i, &slot); i++) {
        json_open_object(&j, NULL);
        json_put_int(&j, "id", slot.id);
        json_put_int(&j, "n_ctx", serve->info->context_sequence);
        json_put_bool(&j, "is_processing", slot.busy);
        json_put_bool(&j, "is_prefilling", slot.prefilling);
        json_put_bool(&j, "is_paused", slot.paused);
        json_put_int(&j, "n_past", slot.tokens);
        json_put_int(&j, "n_prompt", slot.prompt_tokens);
        json_put_int(&j, "n_decoded", slot.generated_tokens);
        json_close(&j);
    }
    json_close(&j);
    json_finish(&j);
    serve_reply_json(req, &out);
}

/* ---- Prometheus ---- */

static void put_metric(struct buf *out, const char *name, const char *type, const char *help, double value)
{
    buf_printf(out, "# HELP inferd_worker_%s %s\n# TYPE inferd_worker_%s %s\ninferd_worker_%s %.17g\n", name, help,
               name, type, name, value);
}

static void get_metrics(void *arg, struct http_req *req, const struct http_match *match)
{
    struct serve *serve = arg;
    struct sched_stats s;
    struct vision_stats seen = {0};
    struct buf out;
    (void)match;
    if (!is_loaded(serve, req))
        return;
    sched_stats(serve->sched, &s);
    if (serve->vision)
        vision_stats(serve->vision, &seen);
    const struct {
        const char *name, *type, *help;
        double value;
    } rows[] = {
        {"requests_total", "counter", "Prompts answered in full.", (double)s.requests},
        {"cancelled_total", "counter", "Prompts whose client left before the end.", (double)s.cancelled},
        {"prompt_tokens_total", "counter", "Prompt tokens, those from the cache included.", (double)s.prompt_tokens},
        {"cached_tokens_total", "counter", "Prompt tokens that were found in the cache.", (double)s.cached_tokens},
        {"generated_tokens_total", "counter", "Tokens generated.", (double)s.generated_tokens},
        {"draft_tokens_total", "counter", "Tokens guessed by prompt lookup.", (double)s.draft_tokens},
        {"draft_tokens_accepted_total", "counter", "Guessed tokens that were right.", (double)s.draft_accepted},
        {"steps_total", "counter", "Decode steps.", (double)s.steps},
        {"decode_seconds_total", "counter", "Time in steps that generated.", s.decode_seconds},
        {"sample_seconds_total", "counter", "Time between the engine's steps: scoring, picking, text.",
         s.sample_seconds},
        {"prefill_seconds_total", "counter", "Time in steps that read prompts.", s.prefill_seconds},
        {"preempted_total", "counter", "Sequences that gave way to others and went on later.", (double)s.preempted},
        {"interrupted_total", "counter", "Steps of batch work cut short for interactive work.", (double)s.interrupted},
        {"kv_kept_total", "counter", "Prefix states copied out of the cache.", (double)s.kv.kept},
        {"kv_restored_total", "counter", "Prefix states copied back into the cache.", (double)s.kv.restored},
        {"kv_evicted_total", "counter", "Prefix states dropped for want of memory.", (double)s.kv.evicted},
        {"kv_states", "gauge", "Prefix states in memory.", s.kv.states},
        {"kv_memory_bytes", "gauge", "Memory they take.", (double)s.kv.memory_bytes},
        {"kv_files", "gauge", "Prefix states on disk.", s.kv.files},
        {"kv_disk_bytes", "gauge", "Disk they take.", (double)s.kv.disk_bytes},
        {"images_encoded_total", "counter", "Pictures computed from images.", (double)seen.encoded},
        {"images_found_total", "counter", "Pictures found encoded already.", (double)seen.found},
        {"image_seconds_total", "counter", "Time spent on encoding pictures.", seen.seconds},
        {"queued", "gauge", "Prompts waiting for a sequence.", s.queued},
        {"running", "gauge", "Sequences at work.", s.running},
        {"sequences", "gauge", "Sequences there are.", s.sequences},
        {"cells_used", "gauge", "Cells of the context in use.", s.cells_used},
        {"cells_idle", "gauge", "Of these, cells of prefixes that nobody uses now.", s.cells_idle},
        {"cells", "gauge", "Cells of the context.", s.cells},
        {"weight_bytes", "gauge", "Bytes of the model's weights.", (double)serve->info->weight_bytes},
        {"kv_bytes", "gauge", "Bytes reserved for keys, values and states.", (double)serve->info->kv_bytes},
        {"compute_bytes", "gauge", "Bytes reserved for computing.", (double)serve->info->compute_bytes},
    };
    buf_init(&out, LIMIT_JSON_TEXT);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        put_metric(&out, rows[i].name, rows[i].type, rows[i].help, rows[i].value);
    http_reply(req, 200, "text/plain; version=0.0.4; charset=utf-8", buf_view(&out));
    buf_release(&out);
}

static const struct http_route routes[] = {
    {.method = "GET", .pattern = "/health", .handler = get_health, .summary = "Is the model ready?", 0, NULL},
    {.method = "GET", .pattern = "/v1/models", .handler = get_models, .summary = "The model as a list of one", 0, NULL},
    {.method = "GET", .pattern = "/v1/models/{id...}", .handler = get_model, .summary = "The model", 0, NULL},
    {.method = "GET", .pattern = "/props", .handler = get_props, .summary = "Properties of model and engine", 0, NULL},
    {.method = "GET", .pattern = "/slots", .handler = get_slots, .summary = "State of every sequence", 0, NULL},
    {.method = "GET", .pattern = "/metrics", .handler = get_metrics, .summary = "Prometheus metrics", 0, NULL},
};

const struct serve_routes serve_stats_routes = {routes, sizeof routes / sizeof *routes};
