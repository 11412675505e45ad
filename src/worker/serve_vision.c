/* A closed job for a pool thread: it has copies of all it needs, because the request, with its document and its arena,
 * may be gone long before an image is encoded. Fetching, base64 and everything that looks into a file happen there.
 *
 * The job belongs to the loop until it is handed over and after it is done; in between the pool thread has it, but for
 * `gone`, by which the loop says that nobody waits any more. */
#include "worker/serve_vision.h"

#include "base/base64.h"
#include "base/clock.h"
#include "base/mem.h"
#include "openai/image.h"
#include "worker/image_fetch.h"

#define PARTS (2 * LIMIT_IMAGES + 1)

struct source { /* an image, as it was asked for */
    char *url, *name;
    size_t url_length;
    struct buf file;
};

struct sight {
    struct loop_job job;
    struct serve *serve;
    serve_vision_done *on_done;
    void *arg;
    atomic_bool gone;
    bool running;
    uint64_t deadline_ms; /* clock_ms; 0: none */
    char *text;
    struct source *sources; /* LIMIT_IMAGES */
    size_t source_count;
    struct vision_image *images; /* one a source */
    struct vision_part *parts;   /* the text, cut at its marks: PARTS */
    size_t part_count;
    struct vision_prompt prompt;
    struct err err;
};

bool serve_vision_check(const struct serve *serve, const struct openai_chat *chat, struct err *err)
{
    if (chat->image_count == 0 || serve->vision)
        return true;
    return err_set_param(err, ERR_NOT_SUPPORTED, chat->images[0].path,
                         "'%s' is an image, but '%s' reads text only: it has no projector", chat->images[0].path,
                         serve->model);
}

/* ---- pool thread ---- */

static bool is_over(void *arg)
{
    const struct sight *sight = arg;
    return atomic_load(&sight->gone) || (sight->deadline_ms && clock_ms() >= sight->deadline_ms);
}

static bool unpack(struct str base64, struct buf *out, struct err *err)
{
    size_t n;
    char *room = buf_reserve(out, base64_room(base64.n));
    if (!room || !base64_decode(base64, (unsigned char *)room, &n))
        return err_set(err, ERR_INVALID_PARAMETERS, room ? "is not good base64" : "is too large");
    buf_commit(out, n);
    return true;
}

static bool load_source(struct sight *sight, struct source *source)
{
    enum image_place place;
    struct str data, url = {source->url, source->url_length};
    struct err err = ERR_INIT;
    if (!image_url_read(url, &place, &data, &err))
        goto fail;
    if (place == IMAGE_REMOTE) {
        const struct image_fetch fetch = {
            .url = source->url, .allow_private = sight->serve->options->private_images, .stop = is_over, .arg = sight};
        if (!image_fetch(&fetch, &source->file, &err))
            goto fail;
    } else if (!unpack(data, &source->file, &err)) {
        goto fail;
    }
    mem_free(source->url); /* as large as the file, and of no use any more */
    source->url = NULL;
    return true;

fail:
    if (err.code == ERR_CLIENT_CLOSED)
        sight->err = err;
    else
        err_set_param(&sight->err, err.code, source->name, "'%s' %s", source->name, err.message);
    return false;
}

static void work(struct loop_job *job)
{
    struct sight *sight = container_of(job, struct sight, job);
    const struct engine_stop stop = {.asked = is_over, .arg = sight};
    bool good = true;
    for (size_t i = 0; i < sight->source_count && good; i++) {
        struct source *source = &sight->sources[i];
        good = load_source(sight, source);
        sight->images[i] = (struct vision_image){.file = buf_view(&source->file), .name = source->name};
    }
    if (good)
        vision_read(sight->serve->vision, sight->parts, sight->part_count, &stop, &sight->prompt, &sight->err);
    for (size_t i = 0; i < sight->source_count; i++)
        buf_release(&sight->sources[i].file);
    if (sight->err.code == ERR_CLIENT_CLOSED && !atomic_load(&sight->gone))
        err_set(&sight->err, ERR_TIMEOUT, "the images were not read before the request's deadline");
}

/* ---- loop ---- */

static void release(struct sight *sight)
{
    for (size_t i = 0; i < sight->source_count; i++) {
        mem_free(sight->sources[i].url);
        mem_free(sight->sources[i].name);
        buf_release(&sight->sources[i].file);
    }
    vision_prompt_release(&sight->prompt);
    mem_free(sight->text);
    mem_free(sight->sources);
    mem_free(sight->images);
    mem_free(sight->parts);
    mem_free(sight);
}

static void on_dispose(void *arg)
{
    struct sight *sight = arg;
    atomic_store(&sight->gone, true);
    if (!sight->running)
        release(sight);
}

static void done(struct loop_job *job)
{
    struct sight *sight = container_of(job, struct sight, job);
    struct serve *serve = sight->serve;
    serve->sights--;
    sight->running = false;
    if (atomic_load(&sight->gone))
        release(sight);
    else if (sight->err.code == ERR_NONE)
        sight->on_done(sight->arg, &sight->prompt, NULL);
    else
        sight->on_done(sight->arg, NULL, &sight->err);
    serve_maybe_stop(serve);
}

/* The text between the marks, and the images in their place. Every image must come, once and in order: a template that
 * drops a message drops what the client asked about. */
static bool cut_text(struct sight *sight, const struct openai_chat *chat, struct str text, struct err *err)
{
    size_t index, next = 0;
    while (text.p && sight->part_count < PARTS) {
        struct str before = openai_image_cut(chat, &text, &index);
        if (before.n)
            sight->parts[sight->part_count++].text = before;
        if (index != next || next == chat->image_count) /* SIZE_MAX behind the last */
            break;
        sight->parts[sight->part_count++].image = &sight->images[next++];
    }
    if (text.p == NULL && next == chat->image_count)
        return true;
    return err_set_param(err, ERR_NOT_SUPPORTED, chat->images[next < chat->image_count ? next : 0].path,
                         "the model's chat template does not pass this image on, or moves it");
}

static void copy_sources(struct sight *sight, const struct openai_chat *chat)
{
    for (size_t i = 0; i < chat->image_count; i++) {
        struct source *source = &sight->sources[sight->source_count++];
        source->url = mem_strndup(chat->images[i].url.p, chat->images[i].url.n);
        source->url_length = chat->images[i].url.n;
        source->name = mem_strdup(chat->images[i].path);
        buf_init(&source->file, LIMIT_IMAGE_BYTES + 64);
    }
}

bool serve_vision_start(struct serve *serve, const struct openai_chat *chat, struct str text, struct arena *arena,
                        serve_vision_done *on_done, void *arg, struct err *err)
{
    if (serve->sights >= LIMIT_SIGHTS) {
        err_set(err, ERR_SERVER_OVERLOADED, "%u requests with images are waiting already; try again later",
                serve->sights);
        err->retry_after_ms = LIMIT_RETRY_AFTER_MS;
        return false;
    }
    struct sight *sight = mem_calloc(1, sizeof *sight);
    *sight = (struct sight){.serve = serve, .on_done = on_done, .arg = arg, .err = ERR_INIT};
    sight->text = mem_strndup(text.p, text.n);
    sight->sources = mem_calloc(LIMIT_IMAGES, sizeof *sight->sources);
    sight->images = mem_calloc(LIMIT_IMAGES, sizeof *sight->images);
    sight->parts = mem_calloc(PARTS, sizeof *sight->parts);
    if (!cut_text(sight, chat, (struct str){sight->text, text.n}, err)) {
        release(sight);
        return false;
    }
    copy_sources(sight, chat);
    unsigned timeout = serve->options->request_timeout_ms;
    sight->deadline_ms = timeout ? clock_ms() + timeout : 0;
    arena_on_dispose(arena, on_dispose, sight);
    sight->running = true;
    serve->sights++;
    loop_work(&serve->loop, &sight->job, work, done);
    return true;
}
