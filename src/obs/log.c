/* Lines are formatted into one buffer and leave in one write, so that lines of several threads and processes that
 * share a descriptor do not mix. */
#include "obs/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json_write.h"

#define LINE_MAX_BYTES 16384

static struct {
    _Atomic int level; /* changes at run time, other threads log, too */
    enum log_format format;
    char component[32];
    char path[4096];
    int fd;
    pthread_mutex_t lock;
} state = {.level = LOG_INFO, .format = LOG_PRETTY, .fd = STDERR_FILENO, .lock = PTHREAD_MUTEX_INITIALIZER};

static const char *const level_names[] = {"trace", "debug", "info", "warn", "error"};

void log_setup(enum log_level level, enum log_format format, const char *component)
{
    state.level = (int)level;
    state.format = format;
    snprintf(state.component, sizeof state.component, "%s", component);
}

void log_set_level(enum log_level level)
{
    state.level = (int)level;
}

bool log_to_file(const char *path, struct err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (fd < 0)
        return err_set(err, ERR_IO, "the log file %s cannot be opened: %s", path, strerror(errno));
    pthread_mutex_lock(&state.lock);
    if (state.fd != STDERR_FILENO)
        close(state.fd);
    state.fd = fd;
    snprintf(state.path, sizeof state.path, "%s", path);
    pthread_mutex_unlock(&state.lock);
    return true;
}

void log_reopen(void)
{
    char path[sizeof state.path];
    snprintf(path, sizeof path, "%s", state.path);
    if (*path)
        log_to_file(path, NULL);
}

bool log_enabled(enum log_level level)
{
    return (int)level >= state.level;
}

/* Control characters would let a request forge lines. */
static void put_clean(struct buf *line, const char *text)
{
    for (const char *p = text; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7F)
            buf_printf(line, "\\x%02x", (unsigned char)*p);
        else
            buf_putc(line, *p);
    }
}

static void put_json(struct buf *line, enum log_level level, const char *time, const char *message, const char *fields)
{
    struct json j;
    json_begin(&j, line);
    json_open_object(&j, NULL);
    json_put_string(&j, "time", time);
    json_put_string(&j, "level", level_names[level]);
    json_put_string(&j, "component", state.component);
    json_put_string(&j, "message", message);
    struct str rest = str_from(fields);
    while (rest.p && rest.n) {
        struct str pair = str_cut(&rest, ' ');
        struct str value = pair;
        struct str key = str_cut(&value, '=');
        if (!value.p)
            continue;
        /* The last pair takes the rest of the line: its value may hold blanks. */
        bool last = !rest.p || !memchr(rest.p, '=', rest.n);
        if (last && rest.p)
            value.n = (size_t)(rest.p + rest.n - value.p);
        char name[64];
        snprintf(name, sizeof name, STR_FMT, STR_ARG(key));
        json_put_text(&j, name, value);
        if (last)
            break;
    }
    json_close(&j);
    json_finish(&j);
}

void log_write(enum log_level level, const char *message, const char *format, ...)
{
    if (!log_enabled(level))
        return;
    char fields[8192] = "";
    char time[CLOCK_RFC3339_SIZE];
    if (format) {
        va_list args;
        va_start(args, format);
        vsnprintf(fields, sizeof fields, format, args);
        va_end(args);
    }
    clock_rfc3339(clock_unix_ms(), time);

    struct buf line;
    buf_init(&line, LINE_MAX_BYTES);
    if (state.format == LOG_JSON) {
        put_json(&line, level, time, message, fields);
    } else {
        buf_printf(&line, "%s %-5s ", state.format == LOG_COMPACT ? time + 11 : time, level_names[level]);
        if (state.format == LOG_PRETTY)
            buf_printf(&line, "%-6s ", state.component);
        buf_puts(&line, message);
        if (*fields) {
            buf_puts(&line, "  ");
            put_clean(&line, fields);
        }
    }
    buf_putc(&line, '\n');
    pthread_mutex_lock(&state.lock);
    /* Nobody can be told that the log itself cannot be written. */
    ssize_t ignored = write(state.fd, line.data ? line.data : "", line.len);
    (void)ignored;
    pthread_mutex_unlock(&state.lock);
    buf_release(&line);
}
