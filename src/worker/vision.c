/* Who computes. Encoding an image is seconds of all cores. On the decode thread it would stop every stream for that
 * long; so it runs on the caller's, a pool thread of the worker, with the engine's number of threads: running streams
 * share the cores with it and go on at part of their speed. One image at a time (the library's context can no more, and
 * memory for unpacked images is bounded by it): a lock, taken for a whole prompt.
 *
 * A prompt is encoded before it is submitted, because only then the scheduler can count its cells. What makes up for
 * encoding what the cache of prefixes may hold already is the cache of pictures: a chat's images come back with every
 * turn.
 *
 * The library is given parts, never a text with markers in it: so no text of a client can be taken for an image. It
 * puts the model's own tokens around each image, and may cut one into several pieces with tokens between; each piece is
 * a picture. Its identity is the SHA-256 of the file, of the piece's number and of what the library says of it, e.g. a
 * padding that depends on the place in the prompt. */
#include "worker/vision.h"

#include <assert.h>
#include <llama.h>
#include <mtmd-helper.h>
#include <mtmd.h>
#include <pthread.h>
#include <stb/stb_image.h>

#include "base/clock.h"
#include "base/mem.h"
#include "obs/log.h"
#include "openai/image.h"
#include "worker/llama_line.h"

#define PROBE_SIDE 1024 /* pixels of the image that is asked about at load */

struct vision {
    const struct engine_info *info;
    mtmd_context *context;
    pthread_mutex_t turn; /* the context's, and the cache's */
    struct picture_cache *cache;
    pthread_mutex_t count;
    struct vision_stats stats; /* under count */
};

/* ---- log ---- */

static _Thread_local char last_error[LIMIT_ERR_MESSAGE];

static void on_mtmd_log(enum ggml_log_level level, const char *text, void *arg)
{
    (void)arg;
    struct str line = llama_line(text);
    if (line.n == 0)
        return;
    if (level == GGML_LOG_LEVEL_ERROR) {
        snprintf(last_error, sizeof last_error, STR_FMT, STR_ARG(line));
        for (char *p = last_error; *p; p++)
            *p = *p == '\n' ? ' ' : *p;
        log_debug("mtmd", "error=%s", last_error);
    } else if (log_enabled(LOG_DEBUG)) {
        log_debug("mtmd", "line=" STR_FMT, STR_ARG(line));
    }
}

static const char *reason(void)
{
    return *last_error ? last_error : "the library gave no reason";
}

/* ---- life ---- */

/* Cells of the largest picture that a square image becomes; 0: the library cannot say. */
static unsigned probe_cells(const struct vision *vision)
{
    mtmd_bitmap *bitmap = mtmd_bitmap_init(PROBE_SIDE, PROBE_SIDE, NULL);
    mtmd_input_chunks *chunks = mtmd_input_chunks_init();
    const struct mtmd_input_part part = {.bitmap = bitmap}, *parts[] = {&part};
    unsigned most = 0;
    bool good = mtmd_tokenize_from_parts(vision->context, chunks, parts, 1, false) == 0;
    for (size_t i = 0; good && i < mtmd_input_chunks_size(chunks); i++) {
        const mtmd_input_chunk *chunk = mtmd_input_chunks_get(chunks, i);
        size_t cells = mtmd_input_chunk_get_n_tokens(chunk);
        if (mtmd_input_chunk_get_type(chunk) == MTMD_INPUT_CHUNK_TYPE_IMAGE && cells > most)
            most = (unsigned)cells;
    }
    mtmd_input_chunks_free(chunks);
    mtmd_bitmap_free(bitmap);
    return most;
}

static bool check_step(const struct vision *vision, const char *path, unsigned *ret_cells, struct err *err)
{
    unsigned cells = probe_cells(vision);
    unsigned room = vision->info->ubatch;
    if (cells <= room || !mtmd_decode_use_non_causal(vision->context, NULL))
        return true;
    if (ret_cells)
        *ret_cells = cells;
    return err_set(err, ERR_MODEL_LOAD_FAILED,
                   "the projector %s makes images of %u cells that must be computed at once, but a step has %u: set "
                   "ubatch_size and batch_size to %u or more",
                   path, cells, room, cells);
}

static bool check_projector(const struct vision *vision, const char *path, unsigned *ret_cells, struct err *err)
{
    if (!mtmd_support_vision(vision->context))
        return err_set(err, ERR_MODEL_LOAD_FAILED, "the projector %s does not take images", path);
    if (strncmp(vision->info->architecture, "hunyuan", 7) == 0) /* its positions depend on the image's number, too */
        return err_set(err, ERR_MODEL_LOAD_FAILED,
                       "the projector %s places images in a way that is not supported; run this model with the "
                       "llama_cpp backend, or without its projector (mmproj = \"\")",
                       path);
    return check_step(vision, path, ret_cells, err);
}

struct vision *vision_load(const struct vision_config *config, unsigned *ret_cells, struct err *err)
{
    struct vision *vision = mem_calloc(1, sizeof *vision);
    struct mtmd_context_params params = mtmd_context_params_default();
    vision->info = config->info;
    vision->cache = picture_cache_new(LIMIT_PICTURE_CACHE);
    pthread_mutex_init(&vision->turn, NULL);
    pthread_mutex_init(&vision->count, NULL);
    mtmd_helper_log_set(on_mtmd_log, NULL);
    params.use_gpu = config->info->projector_device && *config->info->projector_device;
    params.device = params.use_gpu ? ggml_backend_dev_by_name(config->info->projector_device) : NULL;
    params.print_timings = false;
    params.warmup = false; /* opening does nothing that the first image does not need */
    params.n_threads = (int)config->info->threads;
    last_error[0] = '\0';
    if (config->info->llama_model && !config->info->embedding_only)
        vision->context = mtmd_init_from_file(config->path, config->info->llama_model, params);
    else
        snprintf(last_error, sizeof last_error, "this model cannot read images");
    if (!vision->context) {
        err_set(err, ERR_MODEL_LOAD_FAILED, "the projector %s cannot be loaded: %s", config->path, reason());
        goto fail;
    }
    if (!check_projector(vision, config->path, ret_cells, err))
        goto fail;
    return vision;

fail:
    vision_free(vision);
    return NULL;
}

void vision_free(struct vision *vision)
{
    if (!vision)
        return;
    if (vision->context)
        mtmd_free(vision->context);
    picture_cache_free(vision->cache);
    pthread_mutex_destroy(&vision->turn);
    pthread_mutex_destroy(&vision->count);
    mem_free(vision);
}

void vision_prompt_release(struct vision_prompt *prompt)
{
    for (size_t i = 0; i < prompt->picture_count; i++)
        picture_unref(prompt->pictures[i].picture);
    mem_free(prompt->pictures);
    mem_free(prompt->tokens);
    *prompt = (struct vision_prompt){0};
}

void vision_stats(struct vision *vision, struct vision_stats *ret_stats)
{
    pthread_mutex_lock(&vision->count);
    *ret_stats = vision->stats;
    pthread_mutex_unlock(&vision->count);
}

/* ---- files to bitmaps ---- */

/* Says whose error it is. */
static bool blame(const char *name, struct err *err)
{
    struct err cause = *err;
    return err_set_param(err, cause.code, name, "'%s' %s", name, cause.message);
}

static bool check_sizes(const struct vision_part *parts, size_t count, struct err *err)
{
    uint64_t pixels = 0;
    for (size_t i = 0; i < count; i++) {
        struct image_head head;
        if (!parts[i].image)
            continue;
        if (!image_head_read(parts[i].image->file, &head, err))
            return blame(parts[i].image->name, err);
        pixels += (uint64_t)head.width * head.height;
        if (pixels > LIMIT_IMAGES_PIXELS)
            return err_set_param(err, ERR_INVALID_PARAMETERS, parts[i].image->name,
                                 "'%s': the images of a request have more than %u pixels together",
                                 parts[i].image->name, LIMIT_IMAGES_PIXELS);
    }
    return true;
}

/* The decoder's own reading of the size is asked first: what it will allocate follows from that one. (Of a BMP that
 * goes from top to bottom it says a negative height.) */
static mtmd_bitmap *decode(const struct vision *vision, struct str file)
{
    const unsigned char *bytes = (const unsigned char *)file.p;
    int width, height, channels;
    if (!stbi_info_from_memory(bytes, (int)file.n, &width, &height, &channels) || width <= 0 || height == 0)
        return NULL;
    if ((uint64_t)width * (uint64_t)llabs((long long)height) > LIMIT_IMAGE_PIXELS)
        return NULL;
    struct mtmd_helper_init_opt options = mtmd_helper_init_opt_default();
    return mtmd_helper_bitmap_init_from_buf(vision->context, bytes, file.n, false, options).bitmap;
}

/* ---- bitmaps to chunks ---- */

struct reading {
    struct vision *vision;
    const struct vision_part *parts;
    size_t count;
    char (*ids)[2 * HASH_SHA256_SIZE + 1]; /* of the images' files as the library names them; one a part, as below */
    struct mtmd_input_text *texts;
    struct mtmd_input_part *inputs;
    const struct mtmd_input_part **list;
    mtmd_input_chunks *chunks;
    struct vision_prompt *prompt;
    struct err *err;
};

static bool make_inputs(struct reading *r)
{
    for (size_t i = 0; i < r->count; i++) {
        const struct vision_part *part = &r->parts[i];
        r->list[i] = &r->inputs[i];
        if (!part->image) {
            r->texts[i] = (struct mtmd_input_text){
                .text = part->text.n ? part->text.p : "", .text_len = part->text.n, .parse_special = true};
            r->inputs[i].text = &r->texts[i];
            continue;
        }
        mtmd_bitmap *bitmap = decode(r->vision, part->image->file);
        r->inputs[i].bitmap = bitmap;
        if (!bitmap)
            return err_set_param(r->err, ERR_INVALID_PARAMETERS, part->image->name,
                                 "'%s' cannot be decoded: it is damaged, or of a kind that is not supported",
                                 part->image->name);
        snprintf(r->ids[i], sizeof r->ids[i], "%s", mtmd_bitmap_get_id(bitmap));
    }
    return true;
}

/* Bitmaps are large: they go before anything is encoded. */
static bool make_chunks(struct reading *r)
{
    r->ids = mem_calloc(r->count, sizeof *r->ids);
    r->texts = mem_calloc(r->count, sizeof *r->texts);
    r->inputs = mem_calloc(r->count, sizeof *r->inputs);
    r->list = mem_calloc(r->count, sizeof *r->list);
    r->chunks = mtmd_input_chunks_init();
    last_error[0] = '\0';
    bool good = make_inputs(r);
    if (good && mtmd_tokenize_from_parts(r->vision->context, r->chunks, r->list, r->count, true) != 0)
        good = err_set_param(r->err, ERR_INVALID_PARAMETERS, "messages", "the images cannot be prepared: %s", reason());
    for (size_t i = 0; i < r->count; i++)
        if (r->inputs[i].bitmap)
            mtmd_bitmap_free((mtmd_bitmap *)r->inputs[i].bitmap);
    mem_free(r->list);
    mem_free(r->inputs);
    mem_free(r->texts);
    return good;
}

/* ---- chunks to tokens and pictures ---- */

static bool is_image(const mtmd_input_chunk *chunk)
{
    return mtmd_input_chunk_get_type(chunk) == MTMD_INPUT_CHUNK_TYPE_IMAGE;
}

/* Counts what will come, and refuses what cannot be. */
static bool check_chunks(const struct reading *r, size_t *ret_pictures)
{
    const struct engine_info *info = r->vision->info;
    size_t tokens = 0, pictures = 0;
    for (size_t i = 0; i < mtmd_input_chunks_size(r->chunks); i++) {
        const mtmd_input_chunk *chunk = mtmd_input_chunks_get(r->chunks, i);
        size_t cells = mtmd_input_chunk_get_n_tokens(chunk);
        tokens += cells;
        if (!is_image(chunk))
            continue;
        pictures++;
        if (cells < LIMIT_IMAGE_CELLS)
            return err_set_param(r->err, ERR_NOT_SUPPORTED, "messages",
                                 "an image becomes %zu cells with this projector; fewer than %d are not supported",
                                 cells, LIMIT_IMAGE_CELLS);
        if (cells > info->ubatch && mtmd_decode_use_non_causal(r->vision->context, chunk))
            return err_set_param(r->err, ERR_NOT_SUPPORTED, "messages",
                                 "an image becomes %zu cells that must be computed at once, but a step has %u; use a "
                                 "smaller one, or raise ubatch_size",
                                 cells, info->ubatch);
    }
    if (pictures > LIMIT_PICTURES)
        return err_set_param(r->err, ERR_INVALID_PARAMETERS, "messages",
                             "the images become %zu pieces; at most %d are taken", pictures, LIMIT_PICTURES);
    if (tokens > info->context_sequence)
        return err_set_param(
            r->err, ERR_CONTEXT_LENGTH_EXCEEDED, "messages",
            "This model's maximum context length is %u tokens, but the prompt has %zu tokens, those of "
            "its images included; shorten it",
            info->context_sequence, tokens);
    r->prompt->tokens = mem_calloc(tokens + 1, sizeof *r->prompt->tokens);
    r->prompt->pictures = mem_calloc(pictures + 1, sizeof *r->prompt->pictures);
    *ret_pictures = pictures;
    return true;
}

static bool is_same_file(const mtmd_input_chunk *a, const mtmd_input_chunk *b)
{
    return is_image(a) && is_image(b) && strcmp(mtmd_input_chunk_get_id(a), mtmd_input_chunk_get_id(b)) == 0;
}

/* Which piece of its image a chunk is. The library does not say where an image shown twice begins anew, but both times
 * it has the same number of pieces. */
static uint32_t piece_of(const struct reading *r, size_t index)
{
    const mtmd_input_chunk *chunk = mtmd_input_chunks_get(r->chunks, index);
    uint32_t all = 0, before = 0, shown = 0;
    for (size_t i = 0; i < mtmd_input_chunks_size(r->chunks); i++) {
        bool same = is_same_file(mtmd_input_chunks_get(r->chunks, i), chunk);
        all += same;
        before += same && i < index;
    }
    for (size_t i = 0; i < r->count; i++)
        shown += strcmp(r->ids[i], mtmd_input_chunk_get_id(chunk)) == 0;
    uint32_t each = shown && all % shown == 0 ? all / shown : all;
    assert(each > 0 && "the chunk itself is one");
    return before % each;
}

/* The chunk's description holds its file's SHA-256, its size and its padding. */
static void digest(const struct reading *r, size_t index, unsigned char out[HASH_SHA256_SIZE])
{
    const mtmd_input_chunk *chunk = mtmd_input_chunks_get(r->chunks, index);
    uint32_t piece = piece_of(r, index);
    size_t size = 0;
    mtmd_input_chunk_save(chunk, NULL, 0, &size);
    char *bytes = mem_calloc(1, size + sizeof piece);
    int failed = mtmd_input_chunk_save(chunk, bytes, size, &size);
    assert(!failed && size > 0 && "a chunk can be described");
    (void)failed;
    memcpy(bytes + size, &piece, sizeof piece);
    hash_sha256(bytes, size + sizeof piece, out);
    mem_free(bytes);
}

static void count_picture(struct vision *vision, bool found, double seconds)
{
    pthread_mutex_lock(&vision->count);
    vision->stats.found += found;
    vision->stats.encoded += !found;
    vision->stats.seconds += seconds;
    pthread_mutex_unlock(&vision->count);
}

/* Counted from position 0; the engine adds the picture's own. */
static void place_cells(struct picture *picture, const mtmd_input_chunk *chunk)
{
    const mtmd_image_tokens *image = mtmd_input_chunk_get_tokens_image(chunk);
    picture->steps = (unsigned)mtmd_input_chunk_get_n_pos(chunk);
    for (unsigned i = 0; i < picture->count; i++) {
        struct mtmd_decoder_pos at = mtmd_image_tokens_get_decoder_pos(image, 0, i);
        picture->grid[i] = (struct engine_grid){.time = (int32_t)at.t, .row = (int32_t)at.y, .column = (int32_t)at.x};
    }
}

static struct picture *encode(struct reading *r, const mtmd_input_chunk *chunk, const unsigned char *sum)
{
    struct vision *vision = r->vision;
    uint64_t began = clock_ns();
    last_error[0] = '\0';
    struct picture *picture = picture_new(sum, (unsigned)mtmd_input_chunk_get_n_tokens(chunk), vision->info->input_size,
                                          mtmd_decode_use_mrope(vision->context));
    if (!picture || mtmd_encode_chunk(vision->context, chunk) != 0) {
        err_set_param(r->err, picture ? ERR_INTERNAL : ERR_INSUFFICIENT_MEMORY, "messages",
                      "an image cannot be encoded: %s", picture ? reason() : "there is no memory for it");
        picture_unref(picture);
        return NULL;
    }
    memcpy(picture->embeddings, mtmd_get_output_embd(vision->context),
           (size_t)picture->count * picture->width * sizeof(float));
    picture->acausal = mtmd_decode_use_non_causal(vision->context, chunk);
    if (picture->grid)
        place_cells(picture, chunk);
    picture_cache_add(vision->cache, picture);
    count_picture(vision, false, (double)(clock_ns() - began) / 1e9);
    return picture;
}

static bool add_picture(struct reading *r, size_t index)
{
    unsigned char sum[HASH_SHA256_SIZE];
    struct vision_prompt *prompt = r->prompt;
    digest(r, index, sum);
    struct picture *picture = picture_cache_find(r->vision->cache, sum);
    if (picture)
        count_picture(r->vision, true, 0);
    else
        picture = encode(r, mtmd_input_chunks_get(r->chunks, index), sum);
    if (!picture)
        return false;
    assert(prompt->tokens && prompt->pictures && "check_chunks has made room");
    picture_ids(sum, picture->count, prompt->tokens + prompt->count);
    prompt->pictures[prompt->picture_count++] =
        (struct picture_place){.start = (unsigned)prompt->count, .picture = picture};
    prompt->count += picture->count;
    return true;
}

static void add_text(struct reading *r, const mtmd_input_chunk *chunk)
{
    size_t count;
    const llama_token *tokens = mtmd_input_chunk_get_tokens_text(chunk, &count);
    assert(r->prompt->tokens && "check_chunks has made room");
    if (count > 0)
        memcpy(r->prompt->tokens + r->prompt->count, tokens, count * sizeof *tokens);
    r->prompt->count += count;
}

static bool read_all(struct reading *r, const struct engine_stop *stop)
{
    size_t pictures;
    if (!make_chunks(r) || !check_chunks(r, &pictures))
        return false;
    for (size_t i = 0; i < mtmd_input_chunks_size(r->chunks); i++) {
        if (stop && stop->asked(stop->arg))
            return err_set(r->err, ERR_CLIENT_CLOSED, "the request was cancelled");
        if (!is_image(mtmd_input_chunks_get(r->chunks, i)))
            add_text(r, mtmd_input_chunks_get(r->chunks, i));
        else if (!add_picture(r, i))
            return false;
    }
    return true;
}

bool vision_read(struct vision *vision, const struct vision_part *parts, size_t count, const struct engine_stop *stop,
                 struct vision_prompt *ret_prompt, struct err *err)
{
    struct vision_prompt prompt = {0};
    struct reading r = {.vision = vision, .parts = parts, .count = count, .prompt = &prompt, .err = err};
    if (!check_sizes(parts, count, err))
        return false;
    pthread_mutex_lock(&vision->turn);
    bool good = read_all(&r, stop);
    if (r.chunks)
        mtmd_input_chunks_free(r.chunks);
    mem_free(r.ids);
    pthread_mutex_unlock(&vision->turn);
    if (good)
        *ret_prompt = prompt;
    else
        vision_prompt_release(&prompt);
    return good;
}
