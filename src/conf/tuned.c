#include "conf/tuned.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/json_read.h"
#include "base/json_write.h"

#define VERSION     2
#define HEAD_BYTES  4096
#define NAME_BYTES  16 /* of the hash */
#define LIMIT_TUNED 4096
#define UNFINISHED  ".part"

bool tuned_path(const char *dir, const char *model, char *out, size_t size)
{
    struct {
        uint64_t size;
        int64_t seconds, nanoseconds;
        char head[HEAD_BYTES];
    } identity;
    unsigned char hash[HASH_SHA256_SIZE];
    char hex[2 * NAME_BYTES + 1];
    struct stat info;
    memset(&identity, 0, sizeof identity);
    int fd = open(model, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool good = fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode) &&
                pread(fd, identity.head, sizeof identity.head, 0) >= 0;
    if (fd >= 0)
        close(fd);
    if (!good)
        return false;
    identity.size = (uint64_t)info.st_size;
    identity.seconds = info.st_mtim.tv_sec;
    identity.nanoseconds = info.st_mtim.tv_nsec;
    hash_sha256(&identity, sizeof identity, hash);
    hash_hex(hash, NAME_BYTES, hex);
    return (size_t)snprintf(out, size, "%s/%s.json", dir, hex) < size;
}

/* ---- reading ---- */

struct document {
    int64_t version, threads, ubatch, measured;
    struct str engine, cpu, kv_type;
    bool flash;
    double decode_on, decode_off, prompt_on, prompt_off, ubatch_tps, ubatch_tps_default;
};

static const struct json_field fields[] = {
    {"version", JSON_KIND_INT, offsetof(struct document, version), VERSION, VERSION, true},
    {"engine", JSON_KIND_TEXT, offsetof(struct document, engine), 1, TUNED_TEXT - 1, true},
    {"cpu", JSON_KIND_TEXT, offsetof(struct document, cpu), 1, TUNED_TEXT - 1, true},
    {"threads", JSON_KIND_INT, offsetof(struct document, threads), 1, LIMIT_THREADS, true},
    {"kv_type", JSON_KIND_TEXT, offsetof(struct document, kv_type), 1, 7, true},
    {"flash", JSON_KIND_BOOL, offsetof(struct document, flash), 0, 0, true},
    {"decode_tps_on", JSON_KIND_NUMBER, offsetof(struct document, decode_on), 0, 1e9, true},
    {"decode_tps_off", JSON_KIND_NUMBER, offsetof(struct document, decode_off), 0, 1e9, true},
    {"prompt_tps_on", JSON_KIND_NUMBER, offsetof(struct document, prompt_on), 0, 1e9, true},
    {"prompt_tps_off", JSON_KIND_NUMBER, offsetof(struct document, prompt_off), 0, 1e9, true},
    {"ubatch", JSON_KIND_INT, offsetof(struct document, ubatch), 0, TUNED_UBATCH_MOST, true},
    {"ubatch_tps", JSON_KIND_NUMBER, offsetof(struct document, ubatch_tps), 0, 1e9, true},
    {"ubatch_tps_default", JSON_KIND_NUMBER, offsetof(struct document, ubatch_tps_default), 0, 1e9, true},
    {"measured", JSON_KIND_INT, offsetof(struct document, measured), 0, 1e15, true},
};

static void copy_text(char *out, size_t size, struct str text)
{
    snprintf(out, size, STR_FMT, STR_ARG(text));
}

static bool parse(struct str text, struct tuned *ret_tuned)
{
    struct document d = {0};
    json_t *json = json_read(text, NULL);
    bool good = json_is_object(json) && json_fields(json, fields, sizeof fields / sizeof *fields, &d, "", NULL);
    if (good) {
        *ret_tuned = (struct tuned){.threads = (unsigned)d.threads,
                                    .flash = d.flash,
                                    .decode_tps_on = d.decode_on,
                                    .decode_tps_off = d.decode_off,
                                    .prompt_tps_on = d.prompt_on,
                                    .prompt_tps_off = d.prompt_off,
                                    .ubatch = (unsigned)d.ubatch,
                                    .ubatch_tps = d.ubatch_tps,
                                    .ubatch_tps_default = d.ubatch_tps_default,
                                    .measured = d.measured};
        copy_text(ret_tuned->engine, sizeof ret_tuned->engine, d.engine);
        copy_text(ret_tuned->cpu, sizeof ret_tuned->cpu, d.cpu);
        copy_text(ret_tuned->kv_type, sizeof ret_tuned->kv_type, d.kv_type);
    }
    json_decref(json);
    return good;
}

bool tuned_read(const char *path, struct tuned *ret_tuned)
{
    char text[LIMIT_TUNED];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof text);
    close(fd);
    return n > 0 && parse((struct str){text, (size_t)n}, ret_tuned);
}

bool tuned_is_of(const struct tuned *t, const char *engine, const char *cpu, unsigned threads, const char *kv_type)
{
    return t->threads == threads && strcmp(t->engine, engine) == 0 && strcmp(t->cpu, cpu) == 0 &&
           strcmp(t->kv_type, kv_type) == 0;
}

/* ---- writing ---- */

static void put(struct json *j, const struct tuned *t)
{
    json_open_object(j, NULL);
    json_put_int(j, "version", VERSION);
    json_put_string(j, "engine", t->engine);
    json_put_string(j, "cpu", t->cpu);
    json_put_int(j, "threads", t->threads);
    json_put_string(j, "kv_type", t->kv_type);
    json_put_bool(j, "flash", t->flash);
    json_put_number(j, "decode_tps_on", t->decode_tps_on);
    json_put_number(j, "decode_tps_off", t->decode_tps_off);
    json_put_number(j, "prompt_tps_on", t->prompt_tps_on);
    json_put_number(j, "prompt_tps_off", t->prompt_tps_off);
    json_put_int(j, "ubatch", t->ubatch);
    json_put_number(j, "ubatch_tps", t->ubatch_tps);
    json_put_number(j, "ubatch_tps_default", t->ubatch_tps_default);
    json_put_int(j, "measured", t->measured);
    json_close(j);
}

static bool write_file(const char *path, struct str text)
{
    FILE *file = fopen(path, "we");
    if (!file)
        return false;
    bool good = fwrite(text.p, 1, text.n, file) == text.n;
    return fclose(file) == 0 && good;
}

/* All folders on the way; when one cannot be made, opening the file says why. */
static void make_folders(const char *path)
{
    char folder[4096];
    if ((size_t)snprintf(folder, sizeof folder, "%s", path) >= sizeof folder)
        return;
    for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(folder, 0700);
        *slash = '/';
    }
}

bool tuned_write(const char *path, const struct tuned *tuned, struct err *err)
{
    char part[4096];
    struct buf text;
    struct json j;
    buf_init(&text, LIMIT_TUNED);
    json_begin(&j, &text);
    put(&j, tuned);
    make_folders(path);
    bool good = json_finish(&j) && (size_t)snprintf(part, sizeof part, "%s" UNFINISHED, path) < sizeof part &&
                write_file(part, buf_view(&text)) && rename(part, path) == 0;
    if (!good)
        err_set(err, ERR_IO, "%s cannot be written: %s", path, strerror(errno));
    buf_release(&text);
    return good;
}
