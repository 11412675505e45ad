/* One folder an identity, so that a model finds its own states without opening the others'; the quota goes over all of
 * them, by the files' times. Two workers may prune at once: a file that is gone already is no error, and a file that is
 * mapped stays readable after it was removed. */
#include "worker/kv_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/rand.h"
#include "obs/log.h"

#define VERSION    1
#define SUFFIX     ".kv"
#define PATH_SIZE  4096
#define NAME_BYTES 8 /* of an identity's digest in its folder's name */

static const char MAGIC[8] = {'i', 'n', 'f', 'e', 'r', 'd', 'K', 'V'};

struct header {
    char magic[8];
    uint32_t version, tokens;
    uint64_t state_size;
    unsigned char identity[HASH_SHA256_SIZE];
    uint64_t token_sum; /* of what stands before it and the tokens */
    uint64_t state_sum;
};

/* Four independent lanes of multiply and rotate: fast enough to be nothing beside the copy it goes with. */
static uint64_t checksum(uint64_t seed, const void *bytes, size_t size)
{
    const uint64_t prime = 0x9e3779b97f4a7c15u;
    const unsigned char *p = bytes;
    uint64_t lane[4] = {seed, seed ^ prime, ~seed, seed + size};
    for (; size >= 32; size -= 32, p += 32) {
        uint64_t word[4];
        memcpy(word, p, sizeof word);
        for (unsigned i = 0; i < 4; i++) {
            lane[i] = (lane[i] ^ word[i]) * prime;
            lane[i] = (lane[i] << 29) | (lane[i] >> 35);
        }
    }
    for (size_t i = 0; i < size; i++)
        lane[i % 4] = (lane[i % 4] ^ p[i]) * prime;
    uint64_t sum = 0;
    for (unsigned i = 0; i < 4; i++)
        sum = (sum ^ lane[i] ^ (lane[i] >> 31)) * prime;
    return sum ^ (sum >> 32);
}

static uint64_t token_sum(const struct header *header, const engine_token *tokens)
{
    uint64_t seed = checksum(0, header, offsetof(struct header, token_sum));
    return checksum(seed, tokens, header->tokens * sizeof *tokens);
}

static void digest(const char *identity, unsigned char out[HASH_SHA256_SIZE])
{
    hash_sha256(identity, strlen(identity), out);
}

/* FOLDER/DIGEST */
static void folder_of(const char *folder, const char *identity, char out[PATH_SIZE])
{
    unsigned char bytes[HASH_SHA256_SIZE];
    char hex[2 * NAME_BYTES + 1];
    digest(identity, bytes);
    snprintf(out, PATH_SIZE, "%s/%s", folder, hash_hex(bytes, NAME_BYTES, hex));
}

/* ---- reading ---- */

static bool header_is_sound(const struct header *header, const char *identity, uint64_t file_size)
{
    unsigned char wanted[HASH_SHA256_SIZE];
    digest(identity, wanted);
    uint64_t tokens = (uint64_t)header->tokens * sizeof(engine_token);
    return memcmp(header->magic, MAGIC, sizeof MAGIC) == 0 && header->version == VERSION && header->tokens > 0 &&
           memcmp(header->identity, wanted, sizeof wanted) == 0 && header->state_size > 0 &&
           header->state_size < file_size && sizeof *header + tokens + header->state_size == file_size;
}

bool kv_file_open(struct kv_file *file, const char *path, const char *identity)
{
    struct stat st;
    *file = (struct kv_file){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool sized = fstat(fd, &st) == 0 && st.st_size > (off_t)sizeof(struct header);
    void *map = sized ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0) : MAP_FAILED;
    close(fd);
    if (map == MAP_FAILED)
        return false;
    const struct header *header = map;
    const engine_token *tokens = (const engine_token *)(header + 1);
    file->map = map;
    file->map_size = (size_t)st.st_size;
    if (!header_is_sound(header, identity, (uint64_t)st.st_size) || token_sum(header, tokens) != header->token_sum)
        goto fail;
    file->state = tokens + header->tokens;
    file->state_size = (size_t)header->state_size;
    if (checksum(0, file->state, file->state_size) != header->state_sum)
        goto fail;
    return true;

fail:
    kv_file_close(file);
    return false;
}

void kv_file_close(struct kv_file *file)
{
    if (file->map)
        munmap(file->map, file->map_size);
    *file = (struct kv_file){0};
}

/* ---- folders ---- */

struct found {
    char *path;
    struct timespec time;
    uint64_t size;
};

struct listing {
    struct found *files;
    size_t count;
};

static bool has_suffix(const char *name)
{
    size_t length = strlen(name);
    return length > strlen(SUFFIX) && strcmp(name + length - strlen(SUFFIX), SUFFIX) == 0;
}

static void list_folder(struct listing *listing, const char *folder)
{
    DIR *dir = opendir(folder);
    struct dirent *item;
    while (dir && listing->count < LIMIT_KV_FILES && (item = readdir(dir))) {
        char path[PATH_SIZE];
        struct stat st;
        int length = snprintf(path, sizeof path, "%s/%s", folder, item->d_name);
        if (length >= PATH_SIZE || !has_suffix(item->d_name) || lstat(path, &st) != 0 || !S_ISREG(st.st_mode))
            continue;
        listing->files = mem_realloc(listing->files, (listing->count + 1) * sizeof *listing->files);
        listing->files[listing->count++] =
            (struct found){.path = mem_strdup(path), .time = st.st_mtim, .size = (uint64_t)st.st_size};
    }
    if (dir)
        closedir(dir);
}

static int older_first(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    if (x->time.tv_sec != y->time.tv_sec)
        return x->time.tv_sec < y->time.tv_sec ? -1 : 1;
    return (x->time.tv_nsec > y->time.tv_nsec) - (x->time.tv_nsec < y->time.tv_nsec);
}

static void release(struct listing *listing)
{
    for (size_t i = 0; i < listing->count; i++)
        mem_free(listing->files[i].path);
    mem_free(listing->files);
}

static void sort(struct listing *listing)
{
    if (listing->count > 1)
        qsort(listing->files, listing->count, sizeof *listing->files, older_first);
}

/* Header and tokens of a file, tokens in *ret_tokens (the caller frees them). */
static bool read_head(const char *path, const char *identity, struct header *header, engine_token **ret_tokens)
{
    struct stat st;
    *ret_tokens = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool sound = fstat(fd, &st) == 0 && read(fd, header, sizeof *header) == (ssize_t)sizeof *header &&
                 header_is_sound(header, identity, (uint64_t)st.st_size);
    if (sound) {
        size_t size = header->tokens * sizeof **ret_tokens;
        *ret_tokens = mem_alloc(size);
        sound = read(fd, *ret_tokens, size) == (ssize_t)size && token_sum(header, *ret_tokens) == header->token_sum;
    }
    close(fd);
    return sound;
}

void kv_file_scan(const char *folder, const char *identity,
                  void (*on_file)(void *arg, const char *path, const engine_token *tokens, unsigned count, size_t size),
                  void *arg)
{
    char own[PATH_SIZE];
    struct listing listing = {0};
    folder_of(folder, identity, own);
    list_folder(&listing, own);
    sort(&listing);
    for (size_t i = 0; i < listing.count; i++) {
        struct header header;
        engine_token *tokens;
        if (read_head(listing.files[i].path, identity, &header, &tokens))
            on_file(arg, listing.files[i].path, tokens, header.tokens, (size_t)header.state_size);
        else
            kv_file_remove(listing.files[i].path);
        mem_free(tokens);
    }
    release(&listing);
}

void kv_file_remove(const char *path)
{
    if (unlink(path) != 0 && errno != ENOENT)
        log_warn("a KV state cannot be removed", "file=%s error=%s", path, strerror(errno));
}

void kv_file_touch(const char *path)
{
    utimensat(AT_FDCWD, path, NULL, 0); /* a file that is gone needs no time */
}

void kv_file_prune(const char *folder, uint64_t limit)
{
    struct listing listing = {0};
    struct dirent *item;
    uint64_t total = 0;
    DIR *dir = opendir(folder);
    while (dir && (item = readdir(dir))) {
        char path[PATH_SIZE];
        if (*item->d_name != '.' && snprintf(path, sizeof path, "%s/%s", folder, item->d_name) < PATH_SIZE)
            list_folder(&listing, path);
    }
    if (dir)
        closedir(dir);
    sort(&listing);
    for (size_t i = 0; i < listing.count; i++)
        total += listing.files[i].size;
    for (size_t i = 0; i < listing.count && total > limit; i++) {
        kv_file_remove(listing.files[i].path);
        total -= listing.files[i].size;
    }
    release(&listing);
}

/* ---- writing ---- */

static bool write_all(int fd, const void *bytes, size_t size)
{
    const char *p = bytes;
    while (size > 0) {
        ssize_t n = write(fd, p, size < (1u << 30) ? size : 1u << 30);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        size -= (size_t)n;
    }
    return true;
}

char *kv_file_write(const char *folder, const char *identity, const engine_token *tokens, unsigned count,
                    const void *state, size_t size, struct err *err)
{
    char own[PATH_SIZE], draft[PATH_SIZE + 32], path[PATH_SIZE + 32];
    struct header header = {.version = VERSION, .tokens = count, .state_size = size};
    uint64_t number;
    folder_of(folder, identity, own);
    if ((mkdir(folder, 0700) != 0 && errno != EEXIST) || (mkdir(own, 0700) != 0 && errno != EEXIST)) {
        err_set(err, ERR_IO, "the folder %s cannot be made: %s", own, strerror(errno));
        return NULL;
    }
    memcpy(header.magic, MAGIC, sizeof MAGIC);
    digest(identity, header.identity);
    header.token_sum = token_sum(&header, tokens);
    header.state_sum = checksum(0, state, size);
    rand_bytes(&number, sizeof number);
    snprintf(path, sizeof path, "%s/%016llx" SUFFIX, own, (unsigned long long)number);
    snprintf(draft, sizeof draft, "%s/%016llx.part", own, (unsigned long long)number);
    int fd = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool written = fd >= 0 && write_all(fd, &header, sizeof header) && write_all(fd, tokens, count * sizeof *tokens) &&
                   write_all(fd, state, size);
    int error = errno;
    if (fd >= 0 && close(fd) != 0)
        written = false;
    if (written && rename(draft, path) == 0)
        return mem_strdup(path);
    unlink(draft);
    err_set(err, ERR_IO, "%s cannot be written: %s", path, strerror(error));
    return NULL;
}
