#include "instance/flag_check.h"

#include <sys/stat.h>

#include "base/mem.h"
#include "instance/capture.h"
#include "instance/instance_private.h"
#include "obs/log.h"

#define HELP_MS 20000

struct known_flags {
    struct timespec modified;
    struct flag_set *flags; /* NULL: the program has no such text */
};

struct check {
    struct loop_job job;
    struct arena arena;
    struct instances *all;
    const char *instance; /* by name: it may be gone when the answer comes */
    const char *const *argv;
    struct timespec modified;
    struct flag_set *flags;
};

static struct timespec modified(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? st.st_mtim : (struct timespec){0};
}

static void ask(struct loop_job *job)
{
    struct check *c = container_of(job, struct check, job);
    const char *const help[] = {c->argv[0], "--help", NULL};
    struct buf text;
    buf_init(&text, LIMIT_HELP_TEXT);
    if (capture(help, NULL, HELP_MS, &text, NULL, NULL))
        c->flags = flag_set_read(buf_view(&text));
    buf_release(&text);
}

static void on_unknown(void *arg, const char *flag, const char *nearest)
{
    struct instance *i = arg;
    char text[256];
    snprintf(text, sizeof text, "%s does not know %.80s%s%.80s%s", i->options.backend->type, flag,
             nearest ? "; did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
    log_warn("unknown flag", "instance=%s reason=%s", i->name, text);
    json_array_append_new(i->warnings, json_string(text));
}

static void judge(struct instance *i, const struct flag_set *flags, const char *const *argv)
{
    json_decref(i->warnings);
    i->warnings = json_array();
    if (flags)
        flag_set_check(flags, argv, on_unknown, i);
    if (json_array_size(i->warnings) > 0) {
        watchers_tell(i);
    } else {
        json_decref(i->warnings);
        i->warnings = NULL;
    }
}

static void forget(struct known_flags *known)
{
    if (known) {
        flag_set_free(known->flags);
        mem_free(known);
    }
}

static void answered(struct loop_job *job)
{
    struct check *c = container_of(job, struct check, job);
    struct instance *i = instances_find(c->all, str_from(c->instance));
    struct known_flags *known = mem_calloc(1, sizeof *known);
    *known = (struct known_flags){c->modified, c->flags};
    forget(map_put(&c->all->flags, str_from(c->argv[0]), known));
    if (i && !i->going)
        judge(i, c->flags, c->argv);
    c->all->jobs--;
    instances_check_stopped(c->all);
    arena_dispose(&c->arena);
    mem_free(c);
}

void flag_check(struct instance *i, const char *const *argv)
{
    const struct known_flags *known = map_get(&i->all->flags, str_from(argv[0]));
    struct timespec now = modified(argv[0]);
    if (strcmp(i->options.backend->type, "command") == 0)
        return;
    if (known && known->modified.tv_sec == now.tv_sec && known->modified.tv_nsec == now.tv_nsec) {
        judge(i, known->flags, argv);
        return;
    }
    struct check *c = mem_calloc(1, sizeof *c);
    c->all = i->all;
    c->modified = now;
    arena_init(&c->arena);
    c->instance = arena_strdup(&c->arena, i->name);
    size_t count = 0;
    while (argv[count])
        count++;
    const char **copy = arena_calloc(&c->arena, (count + 1) * sizeof *copy);
    for (size_t n = 0; n < count; n++)
        copy[n] = arena_strdup(&c->arena, argv[n]);
    c->argv = copy;
    c->all->jobs++;
    loop_work(c->all->loop, &c->job, ask, answered);
}

void flag_check_end(struct instances *all)
{
    size_t at = 0;
    struct str program;
    void *value;
    while (map_next(&all->flags, &at, &program, &value))
        forget(value);
    map_release(&all->flags);
}
