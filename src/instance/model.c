/* One walk over the folders collects candidate files; shards ("-00001-of-00003") are folded into the first one, vision
 * projectors are kept apart and given to the models beside them, and what is broken stays in the list with its reason,
 * so that asking for it explains why it cannot be had. */
#include "instance/model.h"

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/engine_sizes.h"
#include "base/json_write.h"
#include "base/mem.h"
#include "conf/tuned.h"
#include "instance/projector.h"
#include "obs/log.h"

struct walk {
    struct model_catalogue *catalogue;
    const struct model_catalogue *previous; /* or NULL */
    size_t capacity;
};

/* "-00002-of-00005" at the end of a name: its parts; false when there is none. */
static bool shard_suffix(struct str name, uint64_t *ret_number, uint64_t *ret_count)
{
    if (name.n < 16 || name.p[name.n - 15] != '-' || memcmp(name.p + name.n - 9, "-of-", 4) != 0)
        return false;
    return str_u64((struct str){name.p + name.n - 14, 5}, 99999, ret_number) &&
           str_u64((struct str){name.p + name.n - 5, 5}, 99999, ret_count) && *ret_number >= 1 &&
           *ret_number <= *ret_count;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static struct str stem(const char *path)
{
    struct str name = str_from(base_name(path));
    if (name.n > 5 && str_ieq((struct str){name.p + name.n - 5, 5}, STR(".gguf")))
        name.n -= 5;
    return name;
}

/* Whatever is wrong with its files, to a caller it is a model that cannot be loaded. */
static void set_problem(struct model *m, const struct err *err)
{
    m->problem = *err;
    m->problem.code = ERR_MODEL_LOAD_FAILED;
}

static void add_shards(struct model *m, struct str name, uint64_t count)
{
    struct err err;
    size_t folder = (size_t)(base_name(m->path) - m->path);
    char path[4096];
    for (uint64_t i = 2; i <= count && i <= LIMIT_GGUF_SHARDS; i++) {
        struct gguf shard;
        snprintf(path, sizeof path, "%.*s%.*s-%05llu-of-%05llu.gguf", (int)folder, m->path, (int)name.n - 15, name.p,
                 (unsigned long long)i, (unsigned long long)count);
        if (!gguf_read(path, &shard, &err)) {
            set_problem(m, &err);
            return;
        }
        m->gguf.parameters += shard.parameters;
        m->gguf.tensor_bytes += shard.tensor_bytes;
        m->gguf.file_bytes += shard.file_bytes;
    }
}

static struct model *model_add(struct walk *w)
{
    struct model_catalogue *c = w->catalogue;
    if (c->count == w->capacity) {
        w->capacity = w->capacity ? w->capacity * 2 : 16;
        c->models = mem_realloc(c->models, w->capacity * sizeof *c->models);
    }
    return memset(&c->models[c->count++], 0, sizeof *c->models);
}

/* The header as it was read last time, when nothing has touched the file since; sharded and broken ones are read anew.
 */
static bool known_header(const struct walk *w, const char *path, const struct stat *info, struct gguf *ret_gguf)
{
    for (size_t i = 0; w->previous && i < w->previous->count; i++) {
        const struct model *m = &w->previous->models[i];
        if (strcmp(m->path, path) != 0 || m->problem.code != ERR_NONE || m->gguf.split_count > 1)
            continue;
        if (m->first_bytes != (uint64_t)info->st_size || m->modified.tv_sec != info->st_mtim.tv_sec ||
            m->modified.tv_nsec != info->st_mtim.tv_nsec)
            return false;
        *ret_gguf = m->gguf;
        return true;
    }
    return false;
}

static void add_projector(struct walk *w, const char *path)
{
    struct model_catalogue *c = w->catalogue;
    bool known = c->projector_count == LIMIT_MODELS;
    for (size_t i = 0; i < c->projector_count && !known; i++)
        known = strcmp(c->projectors[i], path) == 0;
    if (known)
        return;
    if ((c->projector_count & (c->projector_count + 1)) == 0) /* one less than a power of two, or none */
        c->projectors = mem_realloc(c->projectors, (2 * c->projector_count + 2) * sizeof *c->projectors);
    c->projectors[c->projector_count++] = arena_strdup(&c->arena, path);
}

static void consider(struct walk *w, const char *path, const char *id)
{
    struct stat info = {0};
    struct err err = ERR_INIT;
    struct gguf gguf = {0};
    struct str name = stem(path);
    uint64_t number = 1, count = 1;
    bool sharded = shard_suffix(name, &number, &count);
    if (w->catalogue->count >= LIMIT_MODELS || number != 1)
        return;
    bool good = stat(path, &info) == 0;
    if (!good && errno == ENOENT && !id) /* removed in this very moment */
        return;
    if (good)
        good = (!sharded && known_header(w, path, &info, &gguf)) || gguf_read(path, &gguf, &err);
    else
        err_set(&err, ERR_IO, "%s cannot be read: %s", path, strerror(errno));
    if (good && gguf.is_projector)
        add_projector(w, path);
    if (good && (gguf.is_projector || gguf.split_number != 0))
        return;
    struct model *m = model_add(w);
    m->path = arena_strdup(&w->catalogue->arena, path);
    m->id = id ? id : arena_strndup(&w->catalogue->arena, name.p, sharded ? name.n - 15 : name.n);
    m->gguf = gguf;
    m->created = info.st_mtime;
    m->modified = info.st_mtim;
    m->first_bytes = (uint64_t)info.st_size;
    if (!good)
        set_problem(m, &err);
    if (good && sharded)
        add_shards(m, name, count);
}

static bool is_gguf(const char *name)
{
    struct str s = str_from(name);
    return s.n > 5 && *name != '.' && str_ieq((struct str){s.p + s.n - 5, 5}, STR(".gguf"));
}

static void warn_unreadable(const char *path)
{
    if (errno != ENOENT)
        log_warn("models cannot be read", "path=%s reason=%s", path, strerror(errno));
}

static void walk_folder(struct walk *w, const char *folder, int depth);

static void walk_entry(struct walk *w, const char *folder, const char *name, int depth)
{
    char path[4096];
    struct stat info;
    if (name[0] == '.' || (size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path)
        return;
    if (stat(path, &info) != 0)
        warn_unreadable(path);
    else if (S_ISDIR(info.st_mode) && depth < LIMIT_MODEL_DIR_DEPTH)
        walk_folder(w, path, depth + 1);
    else if (S_ISREG(info.st_mode) && is_gguf(name))
        consider(w, path, NULL);
}

static void walk_folder(struct walk *w, const char *folder, int depth)
{
    struct dirent *entry;
    DIR *dir = opendir(folder);
    if (!dir) {
        warn_unreadable(folder);
        return;
    }
    for (errno = 0; (entry = readdir(dir)); errno = 0)
        walk_entry(w, folder, entry->d_name, depth);
    if (errno)
        warn_unreadable(folder);
    closedir(dir);
}

static void walk_projectors(struct walk *w, const char *folder)
{
    char path[4096];
    struct dirent *entry;
    DIR *dir = opendir(folder);
    while (dir && (entry = readdir(dir)))
        if (is_gguf(entry->d_name) && strcasestr(entry->d_name, "mmproj") &&
            (size_t)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) < sizeof path)
            consider(w, path, NULL);
    if (dir)
        closedir(dir);
}

/* A file that a table names, and the projectors in its folder, which need not be among those that are walked. */
static void consider_beside(struct walk *w, const char *file, const char *id)
{
    char folder[4096];
    consider(w, file, id);
    snprintf(folder, sizeof folder, "%.*s", (int)(base_name(file) - file), file);
    size_t n = strlen(folder);
    if (n > 1)
        folder[n - 1] = '\0'; /* as the walk has it: no slash at the end */
    if (n > 0)
        walk_projectors(w, folder);
}

/* A model that somebody else serves: no file, only an address. */
static void add_upstream(struct walk *w, const struct conf_model *overrides)
{
    struct arena *arena = &w->catalogue->arena;
    struct http_target *target = arena_calloc(arena, sizeof *target);
    struct model *m = model_add(w);
    m->id = m->path = arena_strdup(arena, overrides->name);
    m->upstream = target;
    m->gguf.causal = true;
    http_target_parse(overrides->upstream, target, &m->problem);
}

static int by_id(const void *a, const void *b)
{
    const struct model *x = a, *y = b;
    int order = strcmp(x->id, y->id);
    return order ? order : strcmp(x->path, y->path);
}

/* Two files of one name: all but the first get their folder's name in front. The same file twice is dropped. */
static void make_unique(struct model_catalogue *c)
{
    size_t kept = 0;
    qsort(c->models, c->count, sizeof *c->models, by_id);
    for (size_t i = 0; i < c->count; i++) {
        struct model *m = &c->models[i], *last = kept ? &c->models[kept - 1] : NULL;
        if (last && strcmp(last->path, m->path) == 0)
            continue;
        if (last && strcmp(last->id, m->id) == 0) {
            const char *name = base_name(m->path), *folder = name > m->path + 1 ? name - 1 : name;
            while (folder > m->path && folder[-1] != '/')
                folder--;
            m->id = arena_printf(&c->arena, "%.*s%s", (int)(name - folder), folder, m->id);
        }
        c->models[kept++] = *m;
    }
    c->count = kept;
    qsort(c->models, c->count, sizeof *c->models, by_id);
}

/* ---- projectors ---- */

static int by_path(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Bytes of a path's folder, its slash included. */
static size_t folder_bytes(const char *path)
{
    return (size_t)(base_name(path) - path);
}

static bool is_beside(const char *a, const char *b)
{
    size_t n = folder_bytes(a);
    return n == folder_bytes(b) && memcmp(a, b, n) == 0;
}

static bool is_folder_of(const char *root, const char *path)
{
    size_t n = strlen(root), folder = folder_bytes(path);
    while (n > 0 && root[n - 1] == '/')
        n--;
    while (folder > 0 && path[folder - 1] == '/')
        folder--;
    return folder == n && memcmp(root, path, n) == 0;
}

/* Folders below those that are configured are repositories: what lies in one belongs together. In a configured one
 * itself, anything may lie. */
static bool is_repository(const struct conf *conf, const char *path)
{
    bool root = is_folder_of(conf->models_dir, path);
    for (const char *const *dir = conf->import_dirs; *dir; dir++)
        root |= is_folder_of(*dir, path);
    return !root;
}

static bool is_alone(const struct model_catalogue *c, const struct model *m)
{
    size_t beside = 0;
    for (size_t i = 0; i < c->count; i++)
        beside += !c->models[i].upstream && is_beside(c->models[i].path, m->path);
    return beside == 1;
}

static const char *find_projector(const struct model_catalogue *c, const struct model *m, const struct conf *conf)
{
    const char *names[LIMIT_PROJECTORS];
    uint64_t number, count;
    struct projector_question q = {.model = stem(m->path), .names = names};
    size_t first = 0;
    while (first < c->projector_count && !is_beside(c->projectors[first], m->path))
        first++;
    for (size_t i = first; i < c->projector_count && q.count < LIMIT_PROJECTORS; i++)
        if (is_beside(c->projectors[i], m->path))
            names[q.count++] = base_name(c->projectors[i]);
    if (q.count == 0)
        return NULL;
    if (shard_suffix(q.model, &number, &count))
        q.model.n -= 15;
    q.shares = is_repository(conf, m->path) || is_alone(c, m);
    int chosen = projector_choose(&q);
    return chosen < 0 ? NULL : c->projectors[first + (size_t)chosen];
}

/* "auto": the one that lies beside it; "": none; else the file that is named. */
static void pair_projector(struct model_catalogue *c, struct model *m, const struct conf *conf)
{
    struct stat info;
    const char *named = m->overrides ? m->overrides->mmproj : "auto";
    if (m->upstream || m->problem.code != ERR_NONE || !m->gguf.causal || !*named)
        return;
    m->projector = strcmp(named, "auto") == 0 ? find_projector(c, m, conf) : arena_strdup(&c->arena, named);
    m->projector_bytes = m->projector && stat(m->projector, &info) == 0 ? (uint64_t)info.st_size : 0;
}

void model_read_tuned(struct model *m, const struct conf *conf)
{
    char dir[4096], path[4096];
    struct tuned tuned;
    if (!conf->tune_attention || m->upstream || m->problem.code != ERR_NONE)
        return;
    snprintf(dir, sizeof dir, "%s/" MODEL_TUNED_FOLDER, conf->state_dir);
    bool found = tuned_path(dir, m->path, path, sizeof path) && tuned_read(path, &tuned);
    m->plain_attention = found && !tuned.flash;
    m->ubatch = found ? tuned.ubatch : 0;
}

struct model_catalogue *model_catalogue_scan(const struct conf *conf, const struct model_catalogue *previous)
{
    struct model_catalogue *c = mem_calloc(1, sizeof *c);
    struct walk w = {.catalogue = c, .previous = previous};
    arena_init(&c->arena);
    walk_folder(&w, conf->models_dir, 0);
    for (const char *const *dir = conf->import_dirs; *dir; dir++)
        walk_folder(&w, *dir, 0);
    for (const struct conf_model *m = conf->models; m; m = m->next)
        if (*m->upstream)
            add_upstream(&w, m);
        else if (*m->file)
            consider_beside(&w, m->file, m->name);
    if (c->count)
        make_unique(c);
    if (c->projector_count)
        qsort(c->projectors, c->projector_count, sizeof *c->projectors, by_path);
    for (size_t i = 0; i < c->count; i++) {
        c->models[i].overrides = conf_model_find(conf, str_from(c->models[i].id));
        model_read_tuned(&c->models[i], conf);
        pair_projector(c, &c->models[i], conf);
    }
    c->scanned_ms = clock_ms();
    return c;
}

void model_catalogue_free(struct model_catalogue *c)
{
    if (!c)
        return;
    arena_dispose(&c->arena);
    mem_free(c->models);
    mem_free(c->projectors);
    mem_free(c);
}

/* ---- names ---- */

static char plain(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (char)(c + 32);
    return c == '_' || c == '.' || c == ':' ? '-' : c;
}

static bool loosely_equal(struct str a, struct str b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (plain(a.p[i]) != plain(b.p[i]))
            return false;
    return true;
}

static bool has_alias(const struct model *m, struct str name)
{
    if (!m->overrides)
        return false;
    for (const char *const *alias = m->overrides->aliases; *alias; alias++)
        if (str_eq(name, str_from(*alias)))
            return true;
    return false;
}

const struct model *model_find(const struct model_catalogue *c, struct str name)
{
    struct str bare = name;
    if (bare.n > 5 && str_ieq((struct str){bare.p + bare.n - 5, 5}, STR(".gguf")))
        bare.n -= 5;
    for (size_t i = 0; i < c->count; i++)
        if (str_eq(name, str_from(c->models[i].id)) || has_alias(&c->models[i], name))
            return &c->models[i];
    for (size_t i = 0; i < c->count; i++)
        if (str_eq(bare, str_from(c->models[i].id)) || str_eq(name, str_from(base_name(c->models[i].path))))
            return &c->models[i];
    const struct model *found = NULL;
    for (size_t i = 0; i < c->count; i++) {
        if (!loosely_equal(bare, str_from(c->models[i].id)))
            continue;
        if (found)
            return NULL;
        found = &c->models[i];
    }
    return found;
}

static void put_details(const struct model_catalogue *c, const char *nearest, struct err *err)
{
    struct buf text;
    struct json j;
    buf_init(&text, sizeof err->details - 1);
    json_begin(&j, &text);
    json_open_object(&j, NULL);
    json_open_array(&j, "available_models");
    for (size_t i = 0; i < c->count && i < 20 && text.len < sizeof err->details - 300; i++)
        json_put_string(&j, NULL, c->models[i].id);
    json_close(&j);
    json_put_string(&j, "suggestion", nearest ? nearest : "Use 'GET /v1/models' to see available models");
    json_close(&j);
    if (json_finish(&j))
        memcpy(err->details, text.data, text.len + 1);
    buf_release(&text);
}

void model_not_found(const struct model_catalogue *c, struct str name, struct err *ret_err)
{
    const char **ids = mem_calloc(c->count + 1, sizeof *ids);
    for (size_t i = 0; i < c->count; i++)
        ids[i] = c->models[i].id;
    const char *nearest = str_nearest(name, ids, c->count);
    int shown = name.n > 128 ? 128 : (int)name.n;
    err_set_param(ret_err, ERR_MODEL_NOT_FOUND, "model", "The requested model '%.*s' was not found%s%s%s", shown,
                  name.p, nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
    put_details(c, nearest, ret_err);
    mem_free(ids);
}

uint64_t model_context(const struct model *m, const struct conf *conf)
{
    int64_t wanted = m->overrides && m->overrides->context_size >= 0 ? m->overrides->context_size : conf->context_size;
    if (wanted > 0)
        return (uint64_t)wanted;
    uint64_t trained = m->gguf.context_length ? m->gguf.context_length : ENGINE_CONTEXT;
    return trained < ENGINE_CONTEXT ? trained : ENGINE_CONTEXT;
}
