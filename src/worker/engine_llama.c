/* The engine over llama.cpp's C API.
 *
 * One context generates: a unified cache whose cells all sequences share, so that a prefix is copied between
 * sequences by marking cells, and so that sequence ids need not be dense. It computes logits only. Embeddings come
 * from a second context with pooling, made at the first input and remade when one is longer than all before it: it
 * must take the whole input in one micro-batch, because pooling does not span micro-batches. An encoder model has only
 * that second context.
 *
 * Opening does nothing that the first token does not need (no warm-up, no second context, no measurement): the time
 * from spawn to first token is part of the contract. Which attention is faster was measured earlier (tune.c) or is not
 * known; what is found out later counts at the next load, because a change would lose the cache.
 *
 * llama.cpp's log goes to ours. Its callback is global; the last error line is kept per thread, so that a failed open
 * can say llama.cpp's own reason. */
#include <llama.h>
#include <sched.h>
#include <stdatomic.h>

#include "base/engine_sizes.h"
#include "base/mem.h"
#include "base/str.h"
#include "obs/log.h"
#include "worker/engine_llama_private.h"
#include "worker/llama_line.h"
#include "worker/memory_shim.h"
#include "worker/tune.h"

/* ---- log ---- */

static _Thread_local char last_error[LIMIT_ERR_MESSAGE];
static _Thread_local bool giving_up; /* a decode was asked to stop: what llama.cpp calls errors then are none */

static void on_llama_log(enum ggml_log_level level, const char *text, void *arg)
{
    (void)arg;
    struct str line = llama_line(text);
    if (line.n == 0)
        return;
    bool error = level == GGML_LOG_LEVEL_ERROR && !giving_up;
    if (error && !memmem(line.p, line.n, "failed to load model", 20)) /* says nothing that the line before did not */
        snprintf(last_error, sizeof last_error, STR_FMT, STR_ARG(line));
    if (error)
        log_warn("llama.cpp", "line=" STR_FMT, STR_ARG(line));
    else if (log_enabled(LOG_DEBUG))
        log_debug("llama.cpp", "line=" STR_FMT, STR_ARG(line));
}

static void library_init(void)
{
    static atomic_flag done = ATOMIC_FLAG_INIT;
    if (atomic_flag_test_and_set(&done))
        return;
    llama_log_set(on_llama_log, NULL);
    llama_backend_init();
}

/* ---- open ---- */

static unsigned usable_cores(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
    return count > 0 ? (unsigned)count : 1;
}

static const char *keep(struct engine *engine, const char *text)
{
    char *copy = mem_strdup(text);
    engine->strings[engine->string_count++] = copy;
    return copy;
}

static const char *meta(struct engine *engine, const char *key)
{
    char value[512];
    int length = llama_model_meta_val_str(engine->model, key, value, sizeof value);
    return keep(engine, length < 0 ? "" : value);
}

static const char *token_text(struct engine *engine, llama_token token)
{
    char text[256];
    int length =
        token == LLAMA_TOKEN_NULL ? 0 : llama_token_to_piece(engine->vocab, token, text, sizeof text - 1, 0, true);
    text[length > 0 ? length : 0] = '\0';
    return keep(engine, text);
}

static bool cache_type(const char *name, enum ggml_type *ret_type)
{
    static const struct {
        const char *name;
        enum ggml_type type;
    } types[] = {{"f16", GGML_TYPE_F16},
                 {"f32", GGML_TYPE_F32},
                 {"bf16", GGML_TYPE_BF16},
                 {"q8_0", GGML_TYPE_Q8_0},
                 {"q4_0", GGML_TYPE_Q4_0}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(name, types[i].name) == 0) {
            *ret_type = types[i].type;
            return true;
        }
    return false;
}

static enum llama_pooling_type to_llama_pooling(enum engine_pooling pooling)
{
    switch (pooling) {
    case ENGINE_POOLING_DEFAULT: return LLAMA_POOLING_TYPE_UNSPECIFIED;
    case ENGINE_POOLING_NONE: return LLAMA_POOLING_TYPE_NONE;
    case ENGINE_POOLING_MEAN: return LLAMA_POOLING_TYPE_MEAN;
    case ENGINE_POOLING_CLS: return LLAMA_POOLING_TYPE_CLS;
    case ENGINE_POOLING_LAST: return LLAMA_POOLING_TYPE_LAST;
    case ENGINE_POOLING_RANK: return LLAMA_POOLING_TYPE_RANK;
    }
    return LLAMA_POOLING_TYPE_UNSPECIFIED;
}

/* The configured pooling, else the file's, else the mean. */
static enum engine_pooling choose_pooling(const struct engine *engine, enum engine_pooling configured)
{
    static const enum engine_pooling by_number[] = {ENGINE_POOLING_NONE, ENGINE_POOLING_MEAN, ENGINE_POOLING_CLS,
                                                    ENGINE_POOLING_LAST, ENGINE_POOLING_RANK};
    char key[128], value[16];
    uint64_t number;
    if (configured != ENGINE_POOLING_DEFAULT)
        return configured;
    snprintf(key, sizeof key, "%s.pooling_type", engine->info.architecture);
    if (llama_model_meta_val_str(engine->model, key, value, sizeof value) < 0 ||
        !str_u64(str_from(value), 4, &number) || number == 0)
        return ENGINE_POOLING_MEAN;
    return by_number[number];
}

/* A model without causal attention encodes; it has no next token. */
static bool is_encoder(const struct engine *engine)
{
    char key[128], value[16];
    snprintf(key, sizeof key, "%s.attention.causal", engine->info.architecture);
    bool acausal =
        llama_model_meta_val_str(engine->model, key, value, sizeof value) >= 0 && strcmp(value, "false") == 0;
    return acausal || (llama_model_has_encoder(engine->model) && !llama_model_has_decoder(engine->model));
}

static bool on_load_progress(float fraction, void *arg)
{
    const struct engine_config *config = arg;
    return !config->on_progress || config->on_progress(config->arg, fraction);
}

/* Models with layers that guess several tokens have more than llama.cpp counts. */
static bool placed_all(const struct placement *p)
{
    return p->all > 0 && p->layers == p->all;
}

/* sketch: without its weights. */
static bool load_model(struct engine *engine, const struct engine_config *config, bool sketch, struct err *err)
{
    struct llama_model_params params = llama_model_default_params();
    params.devices = engine->placement.devices;
    params.tensor_split = engine->placement.split;
    params.n_gpu_layers = placed_all(&engine->placement) ? ALL_LAYERS : (int)engine->placement.layers;
    params.no_alloc = sketch;
    params.load_mode = sketch               ? LLAMA_LOAD_MODE_NONE
                       : config->memory_map ? (config->memory_lock ? LLAMA_LOAD_MODE_MMAP_MLOCK : LLAMA_LOAD_MODE_MMAP)
                                            : (config->memory_lock ? LLAMA_LOAD_MODE_MLOCK : LLAMA_LOAD_MODE_NONE);
    params.progress_callback = sketch ? NULL : on_load_progress;
    params.progress_callback_user_data = (void *)config;
    last_error[0] = '\0';
    engine->model = llama_model_load_from_file(config->path, params);
    if (!engine->model)
        return err_set(err, ERR_MODEL_LOAD_FAILED, "the model %s cannot be loaded: %s", config->path,
                       *last_error ? last_error : "llama.cpp gave no reason");
    engine->vocab = llama_model_get_vocab(engine->model);
    return true;
}

static bool load_adapters(struct engine *engine, const struct engine_config *config, struct err *err)
{
    for (unsigned i = 0; i < config->lora_count; i++) {
        const struct engine_lora *lora = &config->loras[i];
        last_error[0] = '\0';
        engine->adapters[i] = llama_adapter_lora_init(engine->model, lora->path);
        if (!engine->adapters[i])
            return err_set(err, ERR_MODEL_LOAD_FAILED, "the adapter %s cannot be loaded: %s", lora->path,
                           *last_error ? last_error : "llama.cpp gave no reason");
        if (llama_adapter_get_alora_n_invocation_tokens(engine->adapters[i]) > 0)
            return err_set(
                err, ERR_MODEL_LOAD_FAILED,
                "the adapter %s cannot be loaded: it wakes at certain tokens only, and that is not supported",
                lora->path);
        engine->scales[i] = lora->scale;
        engine->adapter_count = i + 1;
    }
    return true;
}

static void describe_model(struct engine *engine)
{
    struct engine_info *info = &engine->info;
    char text[256];
    info->name = "llama";
    info->build = llama_version();
    llama_model_desc(engine->model, text, sizeof text);
    info->description = keep(engine, text);
    info->architecture = meta(engine, "general.architecture");
    info->quantization = llama_ftype_name(llama_model_ftype(engine->model));
    info->model_name = meta(engine, "general.name");
    const char *chat_template = llama_model_chat_template(engine->model, NULL);
    info->chat_template = chat_template ? chat_template : "";
    const char *rerank_template = llama_model_chat_template(engine->model, "rerank");
    info->rerank_template = rerank_template ? rerank_template : "";
    info->bos = llama_vocab_bos(engine->vocab);
    info->eos = llama_vocab_eos(engine->vocab);
    info->sep = llama_vocab_sep(engine->vocab);
    info->fim_prefix = llama_vocab_fim_pre(engine->vocab);
    info->fim_suffix = llama_vocab_fim_suf(engine->vocab);
    info->fim_middle = llama_vocab_fim_mid(engine->vocab);
    info->bos_text = token_text(engine, info->bos);
    info->eos_text = token_text(engine, info->eos);
    info->weight_bytes = llama_model_size(engine->model);
    info->parameters = llama_model_n_params(engine->model);
    info->vocabulary = (unsigned)llama_vocab_n_tokens(engine->vocab);
    info->context_train = (unsigned)llama_model_n_ctx_train(engine->model);
    info->embedding_size = (unsigned)llama_model_n_embd_out(engine->model);
    info->input_size = (unsigned)llama_model_n_embd_inp(engine->model);
    info->add_bos = llama_vocab_get_add_bos(engine->vocab);
    info->add_eos = llama_vocab_get_add_eos(engine->vocab);
    info->add_sep = llama_vocab_get_add_sep(engine->vocab);
    info->can_trim = !llama_model_is_recurrent(engine->model) && !llama_model_is_hybrid(engine->model);
    info->whole_states = !info->can_trim || llama_model_n_swa(engine->model) > 0;
    info->embedding_only = is_encoder(engine);
    info->llama_model = engine->model;
    enum llama_rope_type rope = llama_model_rope_type(engine->model);
    info->grid = rope == LLAMA_ROPE_TYPE_MROPE || rope == LLAMA_ROPE_TYPE_IMROPE;
}

static unsigned or_default(unsigned value, unsigned fallback)
{
    return value ? value : fallback;
}

/* What was measured when this model was loaded before; all 0: nothing was. */
static struct tuned recall_choices(struct engine *engine, const struct engine_config *config)
{
    const struct tune_setup setup = {
        .info = &engine->info, .path = config->path, .kv_type = config->kv_type, .dir = config->tune_dir};
    struct tuned tuned;
    return config->flash == ENGINE_FLASH_AUTO && tune_lookup(&setup, &tuned) ? tuned : (struct tuned){0};
}

/* What was asked for, else what was measured, else llama.cpp's choice. */
static enum llama_flash_attn_type choose_attention(struct engine *engine, const struct engine_config *config,
                                                   const struct tuned *t)
{
    struct engine_attention *a = &engine->info.attention;
    if (config->flash != ENGINE_FLASH_AUTO)
        *a = (struct engine_attention){.source = ENGINE_CHOICE_FORCED, .flash = config->flash == ENGINE_FLASH_ON};
    else if (t->measured)
        *a = (struct engine_attention){.source = ENGINE_CHOICE_MEASURED,
                                       .flash = t->flash,
                                       .decode_tps_on = t->decode_tps_on,
                                       .decode_tps_off = t->decode_tps_off,
                                       .prompt_tps_on = t->prompt_tps_on,
                                       .prompt_tps_off = t->prompt_tps_off};
    else
        return LLAMA_FLASH_ATTN_TYPE_AUTO;
    return a->flash ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
}

static unsigned choose_ubatch(struct engine *engine, const struct engine_config *config, const struct tuned *t)
{
    struct engine_ubatch *u = &engine->info.ubatch_choice;
    unsigned size = ENGINE_UBATCH;
    if (config->ubatch > 0) {
        *u = (struct engine_ubatch){.source = ENGINE_CHOICE_FORCED};
        size = config->ubatch;
    } else if (t->ubatch > 0 && (!config->projector || t->ubatch >= ENGINE_UBATCH)) {
        *u = (struct engine_ubatch){
            .source = ENGINE_CHOICE_MEASURED, .tps = t->ubatch_tps, .tps_default = t->ubatch_tps_default};
        size = t->ubatch;
    }
    return engine_smaller(size, engine->info.batch);
}

static bool is_stopped(void *arg)
{
    const struct engine *engine = arg;
    giving_up = engine->stop && engine->stop->asked(engine->stop->arg);
    return giving_up;
}

static bool choose_sizes(struct engine *engine, const struct engine_config *config, struct err *err)
{
    struct engine_info *info = &engine->info;
    unsigned cap = info->context_train ? engine_smaller(info->context_train, ENGINE_CONTEXT) : ENGINE_CONTEXT;
    info->context_sequence = or_default(config->context_size, cap);
    info->sequences = engine_smaller(or_default(config->sequences, ENGINE_SEQUENCES), LIMIT_SEQUENCES);
    info->batch = or_default(config->batch, ENGINE_BATCH);
    info->sequences = engine_smaller(info->sequences, info->batch); /* every sequence may have a row in one batch */
    info->threads = or_default(config->threads, usable_cores());
    info->gpu_layers = engine->placement.layers; /* what was measured on the CPU says nothing about these */
    const struct tuned tuned = recall_choices(engine, config);
    info->ubatch = choose_ubatch(engine, config, &tuned);
    info->outputs = engine_outputs(info->vocabulary, info->sequences, info->ubatch);
    /* Others only hold prefixes and cost nothing, but llama.cpp keeps a row of logits for each. */
    info->holders = info->can_trim ? engine_holders(info->sequences, info->outputs) : info->sequences;
    info->pooling = choose_pooling(engine, config->pooling);

    struct llama_context_params *params = &engine->params;
    *params = llama_context_default_params();
    if (!cache_type(config->kv_type ? config->kv_type : ENGINE_KV_TYPE, &params->type_k))
        return err_set(err, ERR_CONFIG, "kv_type \"%s\" is not known; use f16, f32, bf16, q8_0 or q4_0",
                       config->kv_type);
    params->type_v = params->type_k;
    params->n_ctx = info->context_sequence;
    params->n_batch = info->batch;
    params->n_ubatch = info->ubatch;
    params->n_seq_max = info->holders; /* ids beyond it work, but are not written to states */
    /* The compute buffers hold so many rows of logits, and llama.cpp aborts at one more. */
    params->n_outputs_max = info->outputs;
    params->n_threads = params->n_threads_batch = (int)info->threads;
    params->flash_attn_type = choose_attention(engine, config, &tuned);
    params->kv_unified = true;
    params->abort_callback = is_stopped;
    params->abort_callback_data = engine;
    params->no_perf = true;
    return true;
}

static void *make_context(struct engine *engine, struct llama_context_params params, struct err *err)
{
    last_error[0] = '\0';
    struct llama_context *context = llama_init_from_model(engine->model, params);
    if (!context)
        err_set(err, ERR_INSUFFICIENT_MEMORY, "a context of %u tokens cannot be made: %s", params.n_ctx,
                *last_error ? last_error : "llama.cpp gave no reason");
    else if (engine->adapter_count > 0)
        llama_set_adapters_lora(context, engine->adapters, engine->adapter_count, engine->scales);
    return context;
}

static bool make_embedder(struct engine *engine, unsigned count);

static void measure_devices(const struct placement *p, const struct llama_context *context, struct device_use *uses)
{
    for (unsigned d = 0; d < p->count; d++) {
        struct memory_shim memory;
        memory_shim_measure_on(context, p->devices[d], &memory);
        uses[d].weights = memory.weights;
        uses[d].kv = memory.kv;
        uses[d].compute = memory.compute;
    }
}

/* What the model's file has, and where it lies. An encoder's buffers for computing are made with its first input, and
 * are not among this. */
static void describe_devices(struct engine *engine)
{
    struct engine_info *info = &engine->info;
    const struct placement *p = &engine->placement;
    struct device now[LIMIT_DEVICES];
    unsigned count = p->count ? devices_list(now) : 0;
    info->device_count = p->count;
    memcpy(info->devices, p->uses, sizeof info->devices);
    info->projector_device = p->projector && p->count ? p->uses[0].device.name : "";
    if (engine->context)
        measure_devices(p, engine->context, info->devices);
    for (unsigned d = 0; d < p->count; d++) {
        info->devices[d].compute += d == 0 ? p->projector : 0; /* weights and buffers in one */
        if (!engine->context)
            info->devices[d].kv = info->devices[d].compute = 0;
        for (unsigned i = 0; i < count; i++)
            if (strcmp(now[i].name, info->devices[d].device.name) == 0)
                info->devices[d].device = now[i];
    }
}

static bool open_generator(struct engine *engine, struct err *err)
{
    struct engine_info *info = &engine->info;
    engine->context = make_context(engine, engine->params, err);
    if (!engine->context)
        return false;
    info->context = llama_n_ctx(engine->context);
    struct memory_shim memory;
    memory_shim_measure(engine->context, &memory);
    info->kv_bytes = memory.kv;
    info->compute_bytes = memory.compute;
    if (!info->can_trim) /* a recurrent state takes no cells: only the sequences' own length bounds them */
        info->context = info->context_sequence * info->sequences;
    engine->batch = llama_batch_init((int)info->batch, 0, 1);
    if (info->grid) {
        engine->places = place_table_new(info->holders);
        engine->grid = mem_calloc(4 * info->batch, sizeof *engine->grid);
    }
    return true;
}

static void llama_engine_close(struct engine *engine)
{
    if (!engine)
        return;
    if (engine->batch.token)
        llama_batch_free(engine->batch);
    place_table_free(engine->places);
    mem_free(engine->grid);
    piece_tree_free(engine->pieces);
    llama_free(engine->embedder);
    llama_free(engine->context);
    llama_model_free(engine->model);
    for (unsigned i = 0; i < engine->string_count; i++)
        mem_free(engine->strings[i]);
    mem_free(engine);
}

/* The context that a sketch is measured by: the one that generates, or an encoder's for inputs of the usual size. */
static struct llama_context *sketch_context(struct engine *engine, struct err *err)
{
    if (!engine->info.embedding_only)
        return engine->context = make_context(engine, engine->params, err);
    if (!make_embedder(engine, ENGINE_UBATCH))
        err_set(err, ERR_INSUFFICIENT_MEMORY, "a context for embeddings cannot be made: %s",
                *last_error ? last_error : "llama.cpp gave no reason");
    return engine->embedder;
}

bool llama_engine_sketch(const struct engine_config *config, struct placement *placement, struct err *err)
{
    struct engine *engine = mem_calloc(1, sizeof *engine);
    const struct llama_context *context = NULL;
    engine->placement = *placement;
    if (load_model(engine, config, true, err)) {
        describe_model(engine);
        context = choose_sizes(engine, config, err) ? sketch_context(engine, err) : NULL;
        placement->all = (unsigned)llama_model_n_layer(engine->model) + 1;
    }
    bool good = context != NULL;
    if (good)
        measure_devices(placement, context, placement->uses);
    llama_engine_close(engine);
    return good;
}

static struct engine *llama_engine_open(const struct engine_config *config, struct err *err)
{
    struct engine *engine = mem_calloc(1, sizeof *engine);
    engine->pieces = piece_tree_new();
    library_init();
    if (!llama_engine_layers(config, &engine->placement, err) || !load_model(engine, config, false, err) ||
        !load_adapters(engine, config, err))
        goto fail;
    describe_model(engine);
    if (!choose_sizes(engine, config, err))
        goto fail;
    if (engine->info.embedding_only)
        engine->info.context = engine->info.context_sequence;
    else if (!open_generator(engine, err))
        goto fail;
    describe_devices(engine);
    return engine;

fail:
    llama_engine_close(engine);
    return NULL;
}

static const struct engine_info *llama_engine_info(const struct engine *engine)
{
    return &engine->info;
}

/* ---- vocabulary ---- */

static int llama_engine_tokenize(const struct engine *engine, struct str text, bool add_special, bool parse_special,
                                 engine_token *out, int capacity)
{
    if (text.n > INT32_MAX / 2 || llama_vocab_type(engine->vocab) == LLAMA_VOCAB_TYPE_NONE)
        return -1;
    int count =
        llama_tokenize(engine->vocab, text.p ? text.p : "", (int)text.n, out, capacity, add_special, parse_special);
    return count == INT32_MIN ? -1 : count < 0 ? -count : count;
}

static int llama_engine_piece(const struct engine *engine, engine_token token, bool special, char *out, int capacity)
{
    if (token < 0 || (unsigned)token >= engine->info.vocabulary)
        return 0;
    int length = llama_token_to_piece(engine->vocab, token, out, capacity, 0, special);
    return length < 0 ? -length : length;
}

static bool llama_engine_is_end(const struct engine *engine, engine_token token)
{
    return llama_vocab_is_eog(engine->vocab, token);
}

/* ---- decode ---- */

static enum engine_status run(struct engine *engine, struct llama_batch batch, const struct engine_stop *stop)
{
    engine->stop = stop;
    int status = llama_decode(engine->context, batch);
    engine->stop = NULL;
    giving_up = false;
    if (status == 0)
        return ENGINE_OK;
    if (status == 1)
        return ENGINE_FULL;
    if (status == 2) /* llama.cpp has taken the rows of the micro-batch out of the cache again */
        return ENGINE_INTERRUPTED;
    log_error("llama_decode failed", "status=%d rows=%d", status, batch.n_tokens);
    return ENGINE_FAILED;
}

static void place_row(struct llama_batch *batch, unsigned i, unsigned sequence, unsigned position, bool logits)
{
    batch->pos[i] = (llama_pos)position;
    batch->n_seq_id[i] = 1;
    batch->seq_id[i][0] = (llama_seq_id)sequence;
    batch->logits[i] = logits;
}

static enum engine_status llama_engine_decode(struct engine *engine, const struct engine_row *rows, unsigned count,
                                              const struct engine_stop *stop)
{
    struct llama_batch *batch = &engine->batch;
    batch->n_tokens = (int)count;
    for (unsigned i = 0; i < count; i++) {
        batch->token[i] = rows[i].token;
        place_row(batch, i, rows[i].sequence, place_position(engine->places, rows[i].sequence, rows[i].position),
                  rows[i].logits);
    }
    return run(engine, *batch, stop);
}

/* Four positions a cell, one dimension behind the other: time, row, column, and one that is not used. */
static void place_grid(struct engine *engine, struct llama_batch *batch, const struct engine_span *span)
{
    llama_pos first = (llama_pos)place_position(engine->places, span->sequence, span->start);
    unsigned n = span->count;
    for (unsigned i = 0; i < n; i++) {
        engine->grid[i] = first + span->grid[i].time;
        engine->grid[n + i] = first + span->grid[i].row;
        engine->grid[2 * n + i] = first + span->grid[i].column;
        engine->grid[3 * n + i] = 0;
    }
    batch->pos = engine->grid;
}

/* A piece of a picture on a grid cannot be given up: llama.cpp would take out all cells of its position, and those of
 * the pieces before it have the same. */
static enum engine_status llama_engine_decode_span(struct engine *engine, const struct engine_span *span,
                                                   const struct engine_stop *stop)
{
    struct llama_batch batch = engine->batch;
    batch.token = NULL;
    batch.embd = (float *)span->embeddings; /* read only */
    batch.n_tokens = (int)span->count;
    for (unsigned i = 0; i < span->count; i++)
        place_row(&batch, i, span->sequence, span->position + i, span->logits && i + 1 == span->count);
    if (engine->places)
        place_grid(engine, &batch, span);
    if (span->acausal)
        llama_set_causal_attn(engine->context, false);
    enum engine_status status = run(engine, batch, engine->places ? NULL : stop);
    if (span->acausal)
        llama_set_causal_attn(engine->context, true);
    if (status == ENGINE_OK && engine->places)
        place_add(engine->places, span->sequence, &(struct place_run){span->start, span->total, span->steps});
    return status;
}

static float *llama_engine_logits(struct engine *engine, unsigned row)
{
    return llama_get_logits_ith(engine->context, (int)row);
}

/* ---- embeddings ---- */

/* Room for count tokens in one micro-batch: the next power of two, so that a context is remade rarely. */
static bool make_embedder(struct engine *engine, unsigned count)
{
    unsigned size = ENGINE_UBATCH;
    while (size < count)
        size *= 2;
    llama_free(engine->embedder);
    engine->embedder = NULL;
    struct llama_context_params params = engine->params;
    params.abort_callback = NULL;
    params.embeddings = true;
    params.n_outputs_max = 0; /* every token has a row */
    params.pooling_type = to_llama_pooling(engine->info.pooling);
    params.n_ctx = params.n_batch = params.n_ubatch = size;
    params.n_seq_max = 1;
    engine->embedder = make_context(engine, params, NULL);
    engine->embedder_size = engine->embedder ? size : 0;
    return engine->embedder != NULL;
}

static enum engine_status llama_engine_embed(struct engine *engine, const engine_token *tokens, unsigned count,
                                             float *out)
{
    if (count == 0 || count > engine->info.context_sequence)
        return ENGINE_FULL;
    if (engine->embedder_size < count && !make_embedder(engine, count))
        return ENGINE_FULL;
    struct llama_batch batch = llama_batch_init((int)count, 0, 1);
    batch.n_tokens = (int)count;
    for (unsigned i = 0; i < count; i++) {
        batch.token[i] = tokens[i];
        batch.pos[i] = (llama_pos)i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = true;
    }
    llama_memory_t memory = llama_get_memory(engine->embedder);
    if (memory)
        llama_memory_clear(memory, false);
    bool encodes = llama_model_has_encoder(engine->model) && !llama_model_has_decoder(engine->model);
    int status = encodes ? llama_encode(engine->embedder, batch) : llama_decode(engine->embedder, batch);
    llama_batch_free(batch);
    if (status != 0)
        return ENGINE_FAILED;
    const float *pooled = engine->info.pooling == ENGINE_POOLING_NONE ? llama_get_embeddings_ith(engine->embedder, -1)
                                                                      : llama_get_embeddings_seq(engine->embedder, 0);
    if (!pooled)
        return ENGINE_FAILED;
    unsigned size = engine->info.pooling == ENGINE_POOLING_RANK ? 1 : engine->info.embedding_size;
    memcpy(out, pooled, size * sizeof *out);
    return ENGINE_OK;
}

const struct engine_ops engine_llama = {
    .name = "llama",
    .open = llama_engine_open,
    .close = llama_engine_close,
    .info = llama_engine_info,
    .tokenize = llama_engine_tokenize,
    .piece = llama_engine_piece,
    .is_end = llama_engine_is_end,
    .decode = llama_engine_decode,
    .decode_span = llama_engine_decode_span,
    .logits = llama_engine_logits,
    .embed = llama_engine_embed,
    .sequence_copy = llama_engine_copy,
    .sequence_trim = llama_engine_trim,
    .sequence_has = llama_engine_has,
    .state_size = llama_engine_state_size,
    .state_save = llama_engine_state_save,
    .state_load = llama_engine_state_load,
    .grammar_new = llama_engine_grammar_new,
    .grammar_copy = llama_engine_grammar_copy,
    .grammar_free = llama_engine_grammar_free,
    .grammar_mask = llama_engine_grammar_mask,
    .grammar_mask_all = llama_engine_grammar_mask_all,
    .grammar_accept = llama_engine_grammar_accept,
};
