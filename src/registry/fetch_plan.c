/* The list comes as JSON pages of {"type":"file","path":...,"oid":...,"size":...,"lfs":{"oid":...,"size":...}}: large
 * files carry the SHA-256 of their bytes in lfs.oid, small ones only git's blob hash in oid. A list with a path that
 * must not be written is refused whole: who sends one has nothing else we want. */
#include "registry/fetch_plan.h"

#include <inttypes.h>
#include <strings.h>

#include "base/buf.h"
#include "base/json_read.h"
#include "base/utf8.h"

#define NAME_BYTES 255 /* what file systems allow */

/* ---- checks ---- */

static bool is_word(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

bool fetch_path_allowed(struct str path)
{
    unsigned folders = 0;
    if (path.n == 0 || path.n > LIMIT_FETCH_PATH || !utf8_valid(path.p, path.n))
        return false;
    for (size_t i = 0; i < path.n; i++)
        if ((unsigned char)path.p[i] < 0x20 || path.p[i] == 0x7f || path.p[i] == '\\')
            return false;
    if (path.p[path.n - 1] == '/')
        return false;
    while (path.p) {
        struct str part = str_cut(&path, '/');
        if (part.n == 0 || part.n > NAME_BYTES || str_eq(part, STR(".")) || str_eq(part, STR("..")))
            return false;
        if (path.p && ++folders > LIMIT_FETCH_FOLDERS)
            return false;
    }
    return true;
}

static bool is_hex(struct str text, size_t n)
{
    for (size_t i = 0; i < text.n; i++)
        if (!memchr("0123456789abcdef", text.p[i], 16))
            return false;
    return text.n == n;
}

bool fetch_commit_allowed(struct str commit)
{
    return is_hex(commit, 40) || is_hex(commit, 64);
}

/* ---- reading ---- */

void fetch_tree_init(struct fetch_tree *tree, struct arena *arena)
{
    tree->files = arena_alloc(arena, LIMIT_FETCH_FILES * sizeof *tree->files);
    tree->count = 0;
}

static bool read_size(const json_t *value, uint64_t *ret_bytes)
{
    json_int_t size = json_is_integer(value) ? json_integer_value(value) : -1;
    if (size < 0 || (uint64_t)size > LIMIT_FETCH_FILE_BYTES)
        return false;
    *ret_bytes = (uint64_t)size;
    return true;
}

static bool read_file(struct fetch_tree *tree, const json_t *item, struct arena *arena, struct err *err)
{
    struct str path = json_str(json_object_get(item, "path"));
    const json_t *lfs = json_object_get(item, "lfs");
    const json_t *source = json_is_object(lfs) ? lfs : item;
    struct str hash = json_str(json_object_get(source, "oid"));
    struct fetch_entry entry = {.hash_kind = source == lfs ? FETCH_SHA256 : FETCH_GIT_BLOB};
    if (!fetch_path_allowed(path))
        return err_set(err, ERR_BAD_GATEWAY, "the hub lists a file whose path is not allowed: \"%.*s\"",
                       (int)utf8_cut(path.n ? path.p : "", path.n < 80 ? path.n : 80), path.n ? path.p : "");
    if (!is_hex(hash, source == lfs ? 64 : 40))
        return err_set(err, ERR_BAD_GATEWAY, "the hub lists " STR_FMT " without a usable hash", STR_ARG(path));
    if (!read_size(json_object_get(source, "size"), &entry.bytes))
        return err_set(err, ERR_BAD_GATEWAY, "the hub lists " STR_FMT " without a usable size", STR_ARG(path));
    if (tree->count == LIMIT_FETCH_FILES)
        return err_set(err, ERR_NOT_SUPPORTED, "the repository has more than %d files", LIMIT_FETCH_FILES);
    entry.path = arena_str(arena, path).p;
    entry.hash = arena_str(arena, hash).p;
    tree->files[tree->count++] = entry;
    return true;
}

bool fetch_tree_read(struct fetch_tree *tree, struct str json, struct arena *arena, struct err *err)
{
    struct err problem;
    json_t *page = json_read(json, &problem);
    bool good = json_is_array(page);
    if (!good)
        err_set(err, ERR_BAD_GATEWAY, "the hub's list of files is no JSON array: is the endpoint a Hugging Face hub?");
    for (size_t i = 0; good && i < json_array_size(page); i++) {
        const json_t *item = json_array_get(page, i);
        if (str_eq(json_str(json_object_get(item, "type")), STR("file")))
            good = read_file(tree, item, arena, err);
    }
    json_decref(page);
    return good;
}

/* ---- what a path is ---- */

static bool ends(const char *path, const char *suffix)
{
    size_t n = strlen(path), m = strlen(suffix);
    return n >= m && strcasecmp(path + n - m, suffix) == 0;
}

static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool is_projector(const char *path)
{
    return ends(path, ".gguf") && strcasestr(file_name(path), "mmproj");
}

/* An importance matrix may be a GGUF file too; nobody can run it. */
static bool is_model(const char *path)
{
    return ends(path, ".gguf") && !is_projector(path) && !strcasestr(file_name(path), "imatrix");
}

const char *fetch_kind(struct str path)
{
    char text[LIMIT_FETCH_PATH + 1];
    snprintf(text, sizeof text, STR_FMT, STR_ARG(path));
    if (is_projector(text))
        return "mmproj";
    if (ends(text, ".gguf"))
        return "gguf";
    return strcmp(file_name(text), "preset.ini") == 0 ? "preset" : "other";
}

/* "q4_0", "iq2_xs", "bf16", "mxfp4": letters, then a digit. */
static bool begins_like_quantization(struct str tag)
{
    size_t letters = 0;
    while (letters < tag.n && is_word(tag.p[letters]) && tag.p[letters] > '9' && tag.p[letters] != '_')
        letters++;
    return letters > 0 && letters < tag.n && tag.p[letters] >= '0' && tag.p[letters] <= '9';
}

bool fetch_tag_in_path(struct str tag, struct str path)
{
    bool after_underscore = begins_like_quantization(tag);
    for (size_t at = 0; tag.n && at + tag.n <= path.n; at++) {
        if (strncasecmp(path.p + at, tag.p, tag.n) != 0)
            continue;
        char before = at ? path.p[at - 1] : '/', after = at + tag.n < path.n ? path.p[at + tag.n] : '/';
        if (!is_word(after) && (!is_word(before) || (before == '_' && after_underscore)))
            return true;
    }
    return false;
}

/* "name-00002-of-00005.gguf": number and count of a part; false for a whole file. */
static bool read_part(const char *path, unsigned *ret_number, unsigned *ret_count)
{
    enum { SUFFIX = sizeof "-00001-of-00005.gguf" - 1 };
    size_t n = strlen(path);
    uint64_t number, count;
    if (n <= SUFFIX || !ends(path, ".gguf"))
        return false;
    const char *p = path + n - SUFFIX;
    if (p[0] != '-' || strncasecmp(p + 6, "-of-", 4) != 0 || !str_u64((struct str){p + 1, 5}, 99999, &number) ||
        !str_u64((struct str){p + 10, 5}, 99999, &count))
        return false;
    *ret_number = (unsigned)number;
    *ret_count = (unsigned)count;
    return true;
}

/* ---- choosing ---- */

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct fetch_entry *)a)->path, ((const struct fetch_entry *)b)->path);
}

static const struct fetch_entry *find(const struct fetch_tree *tree, const char *path)
{
    struct fetch_entry key = {.path = path};
    return bsearch(&key, tree->files, tree->count, sizeof *tree->files, by_path);
}

static void add(struct fetch_plan *plan, const struct fetch_entry *file)
{
    plan->files[plan->count++] = file;
    plan->bytes += file->bytes;
}

/* A file that stands for a model: whole, or the first of its parts. */
static bool stands_for_model(const char *path, bool *ret_split)
{
    unsigned number = 1, count = 1;
    *ret_split = read_part(path, &number, &count);
    return is_model(path) && number == 1;
}

static const struct fetch_entry *find_tagged(const struct fetch_tree *tree, struct str tag)
{
    const struct fetch_entry *best = NULL;
    bool split;
    for (size_t i = 0; i < tree->count; i++) {
        const struct fetch_entry *file = &tree->files[i];
        if (!stands_for_model(file->path, &split) || !fetch_tag_in_path(tag, str_from(file->path)))
            continue;
        if (!best || strlen(file->path) < strlen(best->path))
            best = file;
    }
    return best;
}

static const struct fetch_entry *find_any(const struct fetch_tree *tree, bool whole_only)
{
    bool split;
    for (size_t i = 0; i < tree->count; i++)
        if (stands_for_model(tree->files[i].path, &split) && !(whole_only && split))
            return &tree->files[i];
    return NULL;
}

static const struct fetch_entry *find_model(const struct fetch_tree *tree, struct str tag)
{
    if (tag.n)
        return find_tagged(tree, tag);
    const struct fetch_entry *file = find_tagged(tree, STR("Q4_K_M"));
    if (!file)
        file = find_tagged(tree, STR("Q4_0"));
    if (!file)
        file = find_any(tree, true);
    return file ? file : find_any(tree, false);
}

static bool add_parts(struct fetch_plan *plan, const struct fetch_tree *tree, const struct fetch_entry *first,
                      struct err *err)
{
    unsigned number, count;
    char path[LIMIT_FETCH_PATH + 1];
    if (!read_part(first->path, &number, &count)) {
        add(plan, first);
        return true;
    }
    if (count == 0 || count > LIMIT_GGUF_SHARDS)
        return err_set(err, ERR_NOT_SUPPORTED, "%s says it is one of %u parts; 1 to %d are possible", first->path,
                       count, LIMIT_GGUF_SHARDS);
    snprintf(path, sizeof path, "%s", first->path);
    char *digits = path + strlen(path) - (sizeof "00001-of-00005.gguf" - 1);
    for (number = 1; number <= count; number++) {
        char text[8];
        snprintf(text, sizeof text, "%05u", number % 100000);
        memcpy(digits, text, 5);
        const struct fetch_entry *part = find(tree, path);
        if (!part)
            return err_set(err, ERR_MODEL_NOT_FOUND, "the repository lacks %s, one of %u parts", path, count);
        add(plan, part);
    }
    return true;
}

/* Projectors differ only in precision; 16 bits are what vision code is tested with. */
static const struct fetch_entry *find_projector(const struct fetch_tree *tree)
{
    static const char *const wanted[] = {"F16", "BF16", ""};
    for (size_t w = 0; w < sizeof wanted / sizeof *wanted; w++)
        for (size_t i = 0; i < tree->count; i++) {
            const char *path = tree->files[i].path;
            if (is_projector(path) && (!*wanted[w] || fetch_tag_in_path(str_from(wanted[w]), str_from(path))))
                return &tree->files[i];
        }
    return NULL;
}

static bool no_model(const struct fetch_tree *tree, struct str tag, struct err *err)
{
    struct buf list;
    bool split;
    buf_init(&list, LIMIT_ERR_MESSAGE / 2);
    for (size_t i = 0; i < tree->count && buf_ok(&list); i++)
        if (stands_for_model(tree->files[i].path, &split))
            buf_printf(&list, "%s%s", list.len ? ", " : "", file_name(tree->files[i].path));
    if (!list.len)
        err_set(err, ERR_MODEL_NOT_FOUND, "the repository has no GGUF model; format safetensors takes other weights");
    else
        err_set(err, ERR_MODEL_NOT_FOUND, "no GGUF model of the repository is a " STR_FMT "; there are %s%s",
                STR_ARG(tag), list.data, buf_ok(&list) ? "" : " and more");
    buf_release(&list);
    return false;
}

static bool plan_gguf(const struct fetch_tree *tree, struct str tag, struct fetch_plan *plan, struct err *err)
{
    const struct fetch_entry *model = find_model(tree, tag), *projector = find_projector(tree);
    if (!model)
        return no_model(tree, tag, err);
    if (!add_parts(plan, tree, model, err))
        return false;
    if (projector)
        add(plan, projector);
    for (size_t i = 0; i < tree->count; i++)
        if (strcmp(tree->files[i].path, "preset.ini") == 0 || ends(tree->files[i].path, ".jinja"))
            add(plan, &tree->files[i]);
    return true;
}

static void add_ending(struct fetch_plan *plan, const struct fetch_tree *tree, const char *suffix)
{
    for (size_t i = 0; i < tree->count; i++)
        if (ends(tree->files[i].path, suffix))
            add(plan, &tree->files[i]);
}

static bool plan_safetensors(const struct fetch_tree *tree, struct fetch_plan *plan, struct err *err)
{
    static const char *const beside[] = {".json", ".txt", ".model", ".py", ".jinja"};
    add_ending(plan, tree, ".safetensors");
    if (!plan->count)
        add_ending(plan, tree, ".bin");
    if (!plan->count)
        return err_set(err, ERR_MODEL_NOT_FOUND, "the repository has neither *.safetensors nor *.bin files");
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++)
        add_ending(plan, tree, beside[i]);
    return true;
}

bool fetch_plan(struct fetch_tree *tree, enum fetch_format format, struct str tag, struct arena *arena,
                struct fetch_plan *ret_plan, struct err *err)
{
    size_t room = tree->count + LIMIT_GGUF_SHARDS; /* a hub may name a file twice, a plan must not trust it */
    *ret_plan = (struct fetch_plan){.files = arena_alloc(arena, room * sizeof *ret_plan->files)};
    if (tree->count)
        qsort(tree->files, tree->count, sizeof *tree->files, by_path);
    return format == FETCH_GGUF ? plan_gguf(tree, tag, ret_plan, err) : plan_safetensors(tree, ret_plan, err);
}
