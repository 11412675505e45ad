/* Looks at what a server would meet on this machine and says what to do about it. */
#include "cli/commands.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <errno.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/build.h"
#include "base/json_write.h"
#include "conf/conf.h"
#include "instance/evict.h"
#include "instance/memory.h"
#include "worker/devices.h"

static const struct cli_option options[] = {{"config", 'c', "FILE", "read this file after the usual ones"},
                                            {"json", 0, NULL, "print JSON for scripts"},
                                            {.name = NULL}};

struct flags {
    const char *config;
    bool json;
};

enum verdict { GOOD, NOTE, BAD };

struct report {
    struct json j;
    struct buf text;
    bool json;
    int bad;
};

static void say(struct report *r, enum verdict verdict, const char *what, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void say(struct report *r, enum verdict verdict, const char *what, const char *format, ...)
{
    static const char *const marks[] = {"ok", "note", "BAD"};
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    r->bad += verdict == BAD;
    if (!r->json) {
        printf("%-5s %-12s %s\n", marks[verdict], what, text);
        return;
    }
    json_open_object(&r->j, NULL);
    json_put_string(&r->j, "check", what);
    json_put_string(&r->j, "verdict", verdict == GOOD ? "ok" : verdict == NOTE ? "note" : "bad");
    json_put_string(&r->j, "text", text);
    json_close(&r->j);
}

static bool port_free(const char *address, int port, int *ret_errno)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0 || inet_pton(AF_INET, address, &to.sin_addr) != 1) {
        if (fd >= 0)
            close(fd);
        *ret_errno = 0;
        return true;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    bool good = bind(fd, (struct sockaddr *)&to, sizeof to) == 0;
    *ret_errno = errno;
    close(fd);
    return good;
}

static void check_port(struct report *r, const struct conf *conf)
{
    int why;
    if (port_free(conf->bind_address, (int)conf->port, &why))
        say(r, GOOD, "port", "%s:%lld is free", conf->bind_address, (long long)conf->port);
    else
        say(r, why == EADDRINUSE ? NOTE : BAD, "port", "%s:%lld cannot be used: %s%s", conf->bind_address,
            (long long)conf->port, strerror(why),
            why == EADDRINUSE ? " (is inferd serving already?)" : "; choose another with --port");
}

static void check_folder(struct report *r, const char *what, const char *path, bool writable)
{
    struct statvfs space;
    if (access(path, F_OK) != 0) {
        say(r, NOTE, what, "%s does not exist yet", path);
        return;
    }
    if (access(path, writable ? R_OK | W_OK | X_OK : R_OK | X_OK) != 0) {
        say(r, BAD, what, "%s: %s", path, strerror(errno));
        return;
    }
    char free_text[16] = "?";
    if (statvfs(path, &space) == 0)
        cli_bytes((double)space.f_bavail * (double)space.f_frsize, free_text);
    say(r, GOOD, what, "%s (%s free)", path, free_text);
}

static void check_model(struct report *r, const struct model *m, const struct conf *conf)
{
    uint64_t need = memory_estimate(m, model_context(m, conf), conf), have = evict_memory_available();
    char a[16], b[16];
    if (m->problem.code != ERR_NONE)
        say(r, BAD, "model", "%s: %s", m->id, m->problem.message);
    else if (have && need > have)
        say(r, NOTE, "model", "%s needs about %s, %s are free now", m->id, cli_bytes((double)need, a),
            cli_bytes((double)have, b));
    else
        say(r, GOOD, "model", "%s fits (about %s with a context of %llu)", m->id, cli_bytes((double)need, a),
            (unsigned long long)model_context(m, conf));
}

static void check_gpus(struct report *r, const struct conf *conf)
{
    struct device gpus[LIMIT_DEVICES];
    struct err err;
    unsigned count = 0;
    char a[16], b[16];
    devices_quiet();
    if (!devices_choose(conf->gpu_device, gpus, &count, &err))
        say(r, BAD, "gpu", "%s", err.message);
    else if (count == 0)
        say(r, conf->gpu_enabled == 1 ? BAD : GOOD, "gpu", "none that this program can use (backends: %s)",
            build_backends());
    for (unsigned d = 0; d < count; d++)
        say(r, GOOD, "gpu", "%s, %s: %s free of %s", gpus[d].name, gpus[d].description,
            cli_bytes((double)gpus[d].free, a), cli_bytes((double)gpus[d].total, b));
}

static void check_all(struct report *r, const struct conf *conf)
{
    char a[16], b[16];
    struct rlimit files;
    say(r, GOOD, "config", "%d file%s read", conf->file_count, conf->file_count == 1 ? "" : "s");
    check_port(r, conf);
    check_folder(r, "models_dir", conf->models_dir, false);
    check_folder(r, "state_dir", conf->state_dir, true);
    say(r, GOOD, "memory", "%s free of %s", cli_bytes((double)evict_memory_available(), a),
        cli_bytes((double)evict_memory_total(), b));
    check_gpus(r, conf);
    getrlimit(RLIMIT_NOFILE, &files);
    long long wanted = conf->max_connections * 2 + 64;
    say(r, (long long)files.rlim_max < wanted ? NOTE : GOOD, "files",
        "%llu open files allowed, %lld connections may need %lld", (unsigned long long)files.rlim_max,
        (long long)conf->max_connections, wanted);
    struct model_catalogue *c = model_catalogue_scan(conf, NULL);
    if (c->count == 0)
        say(r, NOTE, "model", "no GGUF file found; put one into %s or name folders in import_dirs", conf->models_dir);
    for (size_t i = 0; i < c->count; i++)
        check_model(r, &c->models[i], conf);
    model_catalogue_free(c);
}

static bool on_option(void *arg, const char *name, const char *value)
{
    struct flags *flags = arg;
    if (strcmp(name, "json") == 0)
        flags->json = true;
    else
        flags->config = value;
    return true;
}

static int run(const struct cli_command *command, int argc, char **argv)
{
    struct flags flags = {0};
    struct report r = {0};
    struct conf conf;
    struct err err;
    int status;
    int at = cli_parse(command, argc, argv, on_option, &flags, &status);
    if (at < 0)
        return status;
    r.json = flags.json;
    buf_init(&r.text, LIMIT_JSON_TEXT);
    json_begin(&r.j, &r.text);
    json_open_array(&r.j, NULL);
    if (conf_load(&conf, flags.config, &err) && conf_finish(&conf, &err)) {
        check_all(&r, &conf);
        status = r.bad ? EXIT_GENERAL : EXIT_OK;
    } else {
        say(&r, BAD, "config", "%s", err.message);
        status = EXIT_BAD_CONFIG;
    }
    json_close(&r.j);
    if (r.json && json_finish(&r.j))
        printf("%s\n", r.text.data);
    buf_release(&r.text);
    conf_release(&conf);
    return status;
}

const struct cli_command cmd_doctor = {"doctor", "",      "look for problems before a server meets them",
                                       NULL,     options, run};
