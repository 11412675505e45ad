/* Reading side of the cache: what lies there, and removal.
 *
 * A model of the list is what was fetched for one tag (the note in tags/ names commit and paths), and, as one more
 * without a tag, the files of a repository that no note accounts for: other tools fetch too. Whose blob is listed
 * already is not listed again.
 *
 * Removal unlinks by descriptor, never through a link, so it stays below the cache whatever lies there. Blobs go when
 * the last link to them has gone; only those whose links were removed are looked at, because others may be arriving. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/map.h"
#include "base/mem.h"
#include "registry/fetch_cache.h"

#define PREFIX     "models--"
#define TREE_DEPTH (LIMIT_FETCH_FOLDERS + 4)

/* A file of a snapshot. */
struct link {
    const char *commit, *path;
    const char *hash; /* of its blob; "" when it is no link to one */
    uint64_t bytes;
    bool listed;
};

struct links {
    struct link *items;
    size_t count, capacity;
    struct arena *arena;
    const char *commit; /* of the snapshot being walked */
};

/* ---- walking ---- */

static DIR *open_folder(int parent, const char *name)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
    if (!folder && fd >= 0)
        close(fd);
    return folder;
}

static const char *next_name(DIR *folder)
{
    for (struct dirent *entry; (entry = readdir(folder));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            return entry->d_name;
    return NULL;
}

/* "../../blobs/HASH" gives HASH. */
static const char *blob_of(int folder, const char *name, struct arena *arena)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(folder, name, target, sizeof target - 1);
    struct str text = {target, n > 0 ? (size_t)n : 0};
    while (str_starts(text, STR("../")))
        text = (struct str){text.p + 3, text.n - 3};
    if (!str_starts(text, STR("blobs/")))
        return "";
    text = (struct str){text.p + 6, text.n - 6};
    return fetch_commit_allowed(text) ? arena_str(arena, text).p : "";
}

static void add_link(struct links *links, int folder, const char *name, const char *path)
{
    struct stat info;
    struct link link = {.commit = links->commit, .path = path, .hash = blob_of(folder, name, links->arena)};
    link.bytes = fstatat(folder, name, &info, 0) == 0 ? (uint64_t)info.st_size : 0;
    if (links->count == links->capacity) {
        links->capacity = links->capacity ? 2 * links->capacity : 64;
        links->items = mem_realloc(links->items, links->capacity * sizeof *links->items);
    }
    links->items[links->count++] = link;
}

/* prefix: of the folder within its snapshot, "" or ending in '/'. */
static void walk(struct links *links, int parent, const char *name, const char *prefix, int depth)
{
    DIR *folder = depth < TREE_DEPTH ? open_folder(parent, name) : NULL;
    if (!folder)
        return;
    for (const char *entry; (entry = next_name(folder));) {
        struct stat info;
        if (str_starts(str_from(entry), STR(FETCH_HALF_LINK)) ||
            fstatat(dirfd(folder), entry, &info, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        const char *path = arena_printf(links->arena, "%s%s", prefix, entry);
        if (S_ISDIR(info.st_mode))
            walk(links, dirfd(folder), entry, arena_printf(links->arena, "%s/", path), depth + 1);
        else
            add_link(links, dirfd(folder), entry, path);
    }
    closedir(folder);
}

static int by_place(const void *a, const void *b)
{
    const struct link *one = a, *two = b;
    int commits = strcmp(one->commit, two->commit);
    return commits ? commits : strcmp(one->path, two->path);
}

/* All links of a repository's snapshots, in order of commit and path. */
static void read_links(struct links *links, int repo, struct arena *arena)
{
    *links = (struct links){.arena = arena};
    DIR *folder = open_folder(repo, "snapshots");
    if (!folder)
        return;
    for (const char *commit; (commit = next_name(folder));) {
        links->commit = arena_strdup(arena, commit);
        walk(links, dirfd(folder), links->commit, "", 0);
    }
    closedir(folder);
    if (links->count)
        qsort(links->items, links->count, sizeof *links->items, by_place);
}

static struct str read_note(int folder, const char *name, struct arena *arena)
{
    struct stat info;
    int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    char *text = NULL;
    ssize_t n = -1;
    if (fd >= 0 && fstat(fd, &info) == 0 && info.st_size <= (LIMIT_FETCH_PATH + 1) * (LIMIT_FETCH_FILES + 1)) {
        text = arena_alloc(arena, (size_t)info.st_size + 1);
        n = read(fd, text, (size_t)info.st_size);
    }
    if (fd >= 0)
        close(fd);
    return n > 0 ? (struct str){text, (size_t)n} : STR_NONE;
}

/* ---- the list ---- */

struct listing {
    const char *cache;
    struct arena *arena;
    struct cached_model *models;
    size_t count, capacity;
    struct map blobs; /* of the repository at hand: listed hashes */
};

static struct cached_model *begin_model(struct listing *l, const char *repo, const char *tag, size_t most_files)
{
    if (l->count == l->capacity) {
        size_t capacity = l->capacity ? 2 * l->capacity : 16;
        struct cached_model *more = arena_alloc(l->arena, capacity * sizeof *more);
        if (l->count)
            memcpy(more, l->models, l->count * sizeof *more);
        l->models = more;
        l->capacity = capacity;
    }
    struct cached_model *model = &l->models[l->count++];
    *model = (struct cached_model){.repo = repo, .tag = tag};
    model->files = arena_alloc(l->arena, most_files * sizeof *model->files);
    return model;
}

static void add_file(struct listing *l, struct cached_model *model, const char *folder, struct link *link)
{
    link->listed = true;
    if (*link->hash)
        map_put(&l->blobs, str_from(link->hash), link);
    model->files[model->file_count++] = (struct cached_file){
        .name = link->path,
        .path = arena_printf(l->arena, "%s/%s/snapshots/%s/%s", l->cache, folder, link->commit, link->path),
        .bytes = link->bytes,
        .kind = fetch_kind(str_from(link->path))};
    model->bytes += link->bytes;
}

static void list_tag(struct listing *l, const char *repo, const char *folder, const char *tag, struct str note,
                     struct links *links)
{
    if (!note.p || !links->count)
        return;
    struct cached_model *model = begin_model(l, repo, tag, links->count);
    struct str commit = str_cut(&note, '\n');
    struct link key = {.commit = arena_str(l->arena, commit).p};
    while (note.n) {
        key.path = arena_str(l->arena, str_cut(&note, '\n')).p;
        struct link *link = bsearch(&key, links->items, links->count, sizeof *links->items, by_place);
        if (link && model->file_count < links->count)
            add_file(l, model, folder, link);
    }
    if (!model->file_count)
        l->count--;
}

static void list_rest(struct listing *l, const char *repo, const char *folder, struct links *links)
{
    struct cached_model *model = begin_model(l, repo, "", links->count);
    for (size_t i = 0; i < links->count; i++) {
        struct link *link = &links->items[i];
        if (!link->listed && !map_get(&l->blobs, str_from(link->hash)))
            add_file(l, model, folder, link);
    }
    if (!model->file_count)
        l->count--;
}

static void list_repo(struct listing *l, int cache, const char *folder)
{
    DIR *repo = open_folder(cache, folder), *tags = repo ? open_folder(dirfd(repo), "tags") : NULL;
    struct links links;
    if (!repo)
        return;
    struct str name = str_from(arena_strdup(l->arena, folder + sizeof PREFIX - 1));
    const char *dashes = strstr(name.p, "--");
    const char *id = dashes ? arena_printf(l->arena, "%.*s/%s", (int)(dashes - name.p), name.p, dashes + 2) : name.p;
    map_init(&l->blobs);
    read_links(&links, dirfd(repo), l->arena);
    for (const char *tag; tags && (tag = next_name(tags));)
        if (fetch_tag_allowed(str_from(tag)))
            list_tag(l, id, folder, arena_strdup(l->arena, tag), read_note(dirfd(tags), tag, l->arena), &links);
    list_rest(l, id, folder, &links);
    map_release(&l->blobs);
    mem_free(links.items);
    if (tags)
        closedir(tags);
    closedir(repo);
}

static int by_name(const void *a, const void *b)
{
    const struct cached_model *one = a, *two = b;
    int repos = strcmp(one->repo, two->repo);
    return repos ? repos : strcmp(one->tag, two->tag);
}

size_t fetch_cached(const char *cache, struct arena *arena, struct cached_model **ret_models)
{
    struct listing l = {.cache = cache, .arena = arena};
    DIR *folder = opendir(cache);
    for (const char *name; folder && (name = next_name(folder));)
        if (str_starts(str_from(name), STR(PREFIX)))
            list_repo(&l, dirfd(folder), arena_strdup(arena, name));
    if (folder)
        closedir(folder);
    if (l.count)
        qsort(l.models, l.count, sizeof *l.models, by_name);
    *ret_models = l.models;
    return l.count;
}

/* ---- removal ---- */

static bool remove_tree(int parent, const char *name, int depth)
{
    if (unlinkat(parent, name, 0) == 0)
        return true;
    DIR *folder = depth < TREE_DEPTH ? open_folder(parent, name) : NULL;
    if (!folder)
        return false;
    bool good = true;
    for (const char *entry; (entry = next_name(folder));)
        good = remove_tree(dirfd(folder), entry, depth + 1) && good;
    closedir(folder);
    return unlinkat(parent, name, AT_REMOVEDIR) == 0 && good;
}

static bool remove_repo(int cache, const char *folder, const char *repo, struct err *err)
{
    DIR *locks = open_folder(cache, ".locks");
    bool good = remove_tree(cache, folder, 0) ||
                err_set(err, ERR_IO, "%s cannot be removed from the cache: %s", repo, strerror(errno));
    if (locks) {
        remove_tree(dirfd(locks), folder, 0);
        closedir(locks);
    }
    return good;
}

static bool is_weights(const char *path)
{
    struct str text = str_from(path);
    return strcmp(fetch_kind(text), "gguf") == 0 || str_ends(text, STR(".safetensors")) || str_ends(text, STR(".bin"));
}

static bool unlink_file(int repo, const struct link *link, struct arena *arena)
{
    return unlinkat(repo, arena_printf(arena, "snapshots/%s/%s", link->commit, link->path), 0) == 0;
}

/* Removes the links that tag names, then the blobs that only they led to. *ret_kept: weights that stay. */
static bool remove_tag(int repo, struct str tag, struct links *links, size_t *ret_removed, size_t *ret_kept)
{
    struct arena *arena = links->arena;
    struct map kept;
    bool good = true;
    map_init(&kept);
    *ret_removed = *ret_kept = 0;
    for (size_t i = 0; i < links->count; i++) {
        struct link *link = &links->items[i];
        bool named = fetch_tag_in_path(tag, str_from(link->path));
        *ret_removed += named;
        *ret_kept += !named && is_weights(link->path);
        if (named)
            good = unlink_file(repo, link, arena) && good;
        else if (*link->hash)
            map_put(&kept, str_from(link->hash), link);
    }
    for (size_t i = 0; i < links->count; i++) {
        struct link *link = &links->items[i];
        if (!fetch_tag_in_path(tag, str_from(link->path)) || !*link->hash || map_get(&kept, str_from(link->hash)))
            continue;
        if (unlinkat(repo, arena_printf(arena, "blobs/%s", link->hash), 0) != 0 && errno != ENOENT)
            good = false;
    }
    map_release(&kept);
    return good;
}

static void remove_note(int repo, struct str tag)
{
    DIR *tags = open_folder(repo, "tags");
    for (const char *name; tags && (name = next_name(tags));)
        if (str_ieq(str_from(name), tag))
            unlinkat(dirfd(tags), name, 0);
    if (tags)
        closedir(tags);
}

static bool remove_from(int cache, const char *folder, const char *repo, struct str tag, struct arena *arena,
                        struct err *err)
{
    DIR *at = open_folder(cache, folder);
    struct links links;
    size_t removed, kept;
    if (!at)
        return err_set(err, ERR_NOT_FOUND, "%s is not in the cache", repo);
    if (!tag.n) {
        closedir(at);
        return remove_repo(cache, folder, repo, err);
    }
    read_links(&links, dirfd(at), arena);
    bool good = remove_tag(dirfd(at), tag, &links, &removed, &kept);
    if (!removed)
        good = err_set(err, ERR_NOT_FOUND, "no file of %s in the cache is a " STR_FMT, repo, STR_ARG(tag));
    else if (!good)
        err_set(err, ERR_IO, "not every file of %s could be removed from the cache: %s", repo, strerror(errno));
    if (good)
        remove_note(dirfd(at), tag);
    mem_free(links.items);
    closedir(at);
    return good && !kept ? remove_repo(cache, folder, repo, err) : good;
}

bool fetch_remove(const char *cache, struct str repo, struct str tag, struct err *err)
{
    struct arena arena;
    if (!fetch_repo_allowed(repo))
        return err_set_param(err, ERR_INVALID_PARAMETERS, "repo", "repo must be \"organisation/model\"");
    if (tag.n && !fetch_tag_allowed(tag))
        return err_set_param(err, ERR_INVALID_PARAMETERS, "tag", "tag must be a quantization such as Q4_K_M");
    arena_init(&arena);
    const char *name = arena_str(&arena, repo).p;
    DIR *folder = opendir(cache);
    bool good = folder ? remove_from(dirfd(folder), fetch_cache_name(name, &arena), name, tag, &arena, err)
                       : err_set(err, ERR_NOT_FOUND, "%s is not in the cache", name);
    if (folder)
        closedir(folder);
    arena_dispose(&arena);
    return good;
}
