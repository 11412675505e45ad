/* Writing side of the cache: names, folders, links, notes. The reading side is fetch_cached.c.
 *
 * Folders below a snapshot are walked one by one with O_NOFOLLOW: a hub that lists both "a" and "a/b" would otherwise
 * have the second written through the link of the first. Links and notes appear by rename, so a reader never sees half
 * of one. */
#include "registry/fetch_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/stat.h>

#include "base/buf.h"

/* ---- names ---- */

static bool is_name_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '-' ||
           c == '.';
}

static bool is_name(struct str name, size_t most)
{
    for (size_t i = 0; i < name.n; i++)
        if (!is_name_char(name.p[i]))
            return false;
    return name.n > 0 && name.n <= most;
}

static bool is_edge(char c)
{
    return c == '.' || c == '-';
}

static bool is_repo_part(struct str part)
{
    return is_name(part, LIMIT_FETCH_NAME) && !is_edge(part.p[0]) && !is_edge(part.p[part.n - 1]) &&
           !memmem(part.p, part.n, "--", 2) && !memmem(part.p, part.n, "..", 2);
}

bool fetch_repo_allowed(struct str repo)
{
    struct str org = str_cut(&repo, '/');
    return is_repo_part(org) && repo.p && is_repo_part(repo);
}

bool fetch_tag_allowed(struct str tag)
{
    return is_name(tag, LIMIT_FETCH_TAG) && !is_edge(tag.p[0]) && tag.p[0] != '_';
}

/* ---- folders ---- */

const char *fetch_cache_folder(const char *setting, struct arena *arena)
{
    static const struct {
        const char *variable, *below;
    } places[] = {{"LLAMA_CACHE", ""},
                  {"HF_HUB_CACHE", ""},
                  {"HUGGINGFACE_HUB_CACHE", ""},
                  {"HF_HOME", "/hub"},
                  {"XDG_CACHE_HOME", "/huggingface/hub"},
                  {"HOME", "/.cache/huggingface/hub"}};
    if (setting && *setting)
        return arena_strdup(arena, setting);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const char *value = getenv(places[i].variable);
        if (value && *value)
            return arena_printf(arena, "%s%s", value, places[i].below);
    }
    return "/var/cache/huggingface/hub"; /* a service without a home */
}

static bool make_folders(const char *path, struct err *err)
{
    char part[PATH_MAX];
    size_t n = strlen(path);
    if (n >= sizeof part)
        return err_set(err, ERR_IO, "the path of the cache is too long: %.200s...", path);
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0755) != 0 && errno != EEXIST)
            return err_set(err, errno == ENOSPC ? ERR_INSUFFICIENT_STORAGE : ERR_IO, "%s cannot be made: %s", part,
                           strerror(errno));
    }
    return true;
}

const char *fetch_cache_name(const char *repo, struct arena *arena)
{
    struct str name = str_from(repo), org = str_cut(&name, '/');
    return arena_printf(arena, "models--" STR_FMT "--" STR_FMT, STR_ARG(org), STR_ARG(name));
}

bool fetch_cache_prepare(const char *cache, const char *repo, struct arena *arena, struct fetch_place *ret_place,
                         struct err *err)
{
    const char *name = fetch_cache_name(repo, arena);
    struct fetch_place place = {.repo = arena_printf(arena, "%s/%s", cache, name),
                                .locks = arena_printf(arena, "%s/.locks/%s", cache, name)};
    place.blobs = arena_printf(arena, "%s/blobs", place.repo);
    if (!make_folders(place.blobs, err) || !make_folders(place.locks, err) ||
        !make_folders(arena_printf(arena, "%s/refs", place.repo), err) ||
        !make_folders(arena_printf(arena, "%s/snapshots", place.repo), err))
        return false;
    *ret_place = place;
    return true;
}

/* ---- links ---- */

static int step_into(int folder, const char *name)
{
    if (mkdirat(folder, name, 0755) != 0 && errno != EEXIST)
        return -1;
    return openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* The folder of path below snapshots/commit, made where it is missing; -1 and errno. */
static int open_folder_of(const struct fetch_place *place, const char *commit, struct str path, unsigned *ret_depth)
{
    char part[NAME_MAX + 1];
    char root[PATH_MAX];
    snprintf(root, sizeof root, "%s/snapshots", place->repo);
    int at = open(root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct str name = str_from(commit);
    for (*ret_depth = 0; at >= 0 && name.p; (*ret_depth)++) {
        snprintf(part, sizeof part, STR_FMT, STR_ARG(name));
        int next = step_into(at, part);
        close(at);
        at = next;
        name = memchr(path.p, '/', path.n) ? str_cut(&path, '/') : STR_NONE;
    }
    return at;
}

bool fetch_cache_link(const struct fetch_place *place, const char *commit, const struct fetch_entry *file,
                      struct err *err)
{
    const char *slash = strrchr(file->path, '/'), *name = slash ? slash + 1 : file->path;
    char temporary[40], target[3 * (LIMIT_FETCH_FOLDERS + 2) + 80] = "../";
    unsigned depth;
    int folder = open_folder_of(place, commit, str_from(file->path), &depth);
    for (size_t n = strlen(target); folder >= 0 && depth-- > 0; n += 3)
        memcpy(target + n, "../", 4);
    size_t n = strlen(target);
    snprintf(target + n, sizeof target - n, "blobs/%s", file->hash);
    snprintf(temporary, sizeof temporary, FETCH_HALF_LINK "%d-%lx", (int)getpid(), (unsigned long)pthread_self());
    if (folder >= 0)
        unlinkat(folder, temporary, 0); /* of a process with our number that was killed */
    bool good = folder >= 0 && symlinkat(target, folder, temporary) == 0;
    if (good && renameat(folder, temporary, folder, name) != 0) {
        int problem = errno;
        unlinkat(folder, temporary, 0);
        errno = problem;
        good = false;
    }
    if (!good)
        err_set(err, errno == ENOSPC ? ERR_INSUFFICIENT_STORAGE : ERR_IO, "%s/snapshots/%s/%s cannot be linked: %s",
                place->repo, commit, file->path, strerror(errno));
    if (folder >= 0)
        close(folder);
    return good;
}

/* ---- notes ---- */

static bool write_whole(const char *path, struct str text, struct err *err)
{
    char temporary[PATH_MAX];
    snprintf(temporary, sizeof temporary, "%s.%d-%lx", path, (int)getpid(), (unsigned long)pthread_self());
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    bool good = fd >= 0 && write(fd, text.p, text.n) == (ssize_t)text.n && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    good = good && rename(temporary, path) == 0;
    if (good)
        return true;
    err_set(err, errno == ENOSPC ? ERR_INSUFFICIENT_STORAGE : ERR_IO, "%s cannot be written: %s", path,
            strerror(errno));
    unlink(temporary);
    return false;
}

bool fetch_cache_note(const struct fetch_place *place, const char *commit, const char *tag,
                      const struct fetch_plan *plan, struct err *err)
{
    struct arena arena;
    struct buf text;
    arena_init(&arena);
    bool good = write_whole(arena_printf(&arena, "%s/refs/main", place->repo), str_from(commit), err);
    if (good && *tag) {
        buf_init(&text, (LIMIT_FETCH_PATH + 1) * (LIMIT_FETCH_FILES + 1));
        buf_printf(&text, "%s\n", commit);
        for (size_t i = 0; i < plan->count; i++)
            buf_printf(&text, "%s\n", plan->files[i]->path);
        good = make_folders(arena_printf(&arena, "%s/tags", place->repo), err) &&
               write_whole(arena_printf(&arena, "%s/tags/%s", place->repo, tag), buf_view(&text), err);
        buf_release(&text);
    }
    arena_dispose(&arena);
    return good;
}
