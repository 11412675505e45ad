/* Backends: what runs behind an instance, and how its options become a command line. Pure functions over JSON and text
 * (specs/llamactl.md 4): nothing here starts anything. A backend is one row of backend.def and one file backend_*.c.
 * Any thread. */
#ifndef INSTANCE_BACKEND_H
#define INSTANCE_BACKEND_H

#include "base/arena.h"
#include "base/err.h"
#include "base/json_read.h"
#include "conf/conf.h"

enum backend_ready {
    BACKEND_READY_NOTIFY, /* says so over CHILD_NOTIFY_FD: our worker */
    BACKEND_READY_HTTP    /* GET health answers 200 */
};

struct backend_launch; /* below */

struct backend {
    const char *type;    /* "llama_cpp": backend_type in the API */
    const char *section; /* [backends.SECTION] */
    enum backend_ready ready;
    const char *health;     /* path of BACKEND_READY_HTTP, unless backend_options.health says another (command) */
    const char *subcommand; /* always behind the program ("worker"), or NULL */
    bool docker;            /* can run in a container */
    const char *cache;      /* folder in that container where downloaded models lie */
    /* Checks backend_options (types of the typed keys, required ones) and puts them in their canonical shape: aliases
     * under their long names, unknown keys folded into extra_args. A new object, or NULL and *err with a param such as
     * "backend_options.port". */
    json_t *(*canonical)(const json_t *options, struct err *err);
    /* What to run when neither the instance nor the configuration says: in launch->arena. */
    const char *(*program)(struct backend_launch *launch, const json_t *options);
    /* Appends what the options stand for, behind the program and subcommand or behind the image of a container. */
    bool (*arguments)(struct backend_launch *launch, const json_t *options, struct err *err);
    json_t *(*parse)(struct str command, struct err *err); /* backend_options of a command line; NULL: cannot */
    /* The name under which the backend itself knows its model, when a request's "model" has to be changed to it, or
     * NULL. */
    const char *(*served_model)(const json_t *options);
};

/* The row of a backend_type, or NULL with ERR_INVALID_PARAMETERS (param "backend_type") that lists them and names the
 * nearest. */
const struct backend *backend_find(struct str type, struct err *err);
const struct backend *const *backend_all(void); /* NULL-terminated */

/* ---- command lines ---- */

#define BACKEND_ARGUMENTS 512

struct backend_input {
    const struct backend *backend;
    const json_t *options;           /* canonical backend_options */
    const struct conf_backend *conf; /* of its section; may be NULL */
    const char *program;             /* this very binary, for the worker */
    const char *command_override;    /* or NULL */
    const char *name;                /* of the instance; a container is called inferd-NAME */
    const char *host;                /* where it shall listen when the options do not say; NULL: not said */
    int port;                        /* 0: none (our worker on a socket) */
    const char *socket;              /* of our worker, and {socket} of a command; or NULL */
    const char *preset_file;         /* --models-preset of llama_cpp; or NULL */
    bool docker;
    /* "NAME=value", NULL-terminated: goes into a container with -e NAME=value, over what conf has. Else the caller's to
     * set, as are conf's. */
    const char *const *environment;
};

struct backend_launch {
    const struct backend_input *in;
    struct arena *arena;
    const char *argv[BACKEND_ARGUMENTS];
    size_t argc;
    bool docker; /* in a container */
    bool full;   /* an argument did not fit */
};

/* The complete command line, NULL-terminated, in launch->argv. Never through a shell. ERR_INVALID_PARAMETERS. */
bool backend_command(const struct backend_input *in, struct arena *arena, struct backend_launch *launch,
                     struct err *err);

/* Splits a command line as a POSIX shell does (quotes, backslashes, no expansion). NULL-terminated, in arena; NULL and
 * *err (ERR_INVALID_PARAMETERS) for an unclosed quote, a blank line, a NUL or an operator such as '|' or ';'. */
const char *const *backend_split(struct str command, struct arena *arena, struct err *err);

/* The options that a command line stands for: {"backend_type", "backend_options"}, and "environment" when there are
 * assignments in front of the program. ERR_INVALID_PARAMETERS. */
json_t *backend_parse_command(const struct backend *backend, struct str command, struct err *err);

/* ---- flags of a real binary ---- */

struct flag_set;

/* Flags named in a program's --help text ("-x", "--long-name" at the beginnings of its lines). NULL when there are
 * none. mem_free by flag_set_free. */
struct flag_set *flag_set_read(struct str help);
void flag_set_free(struct flag_set *flags);
bool flag_set_has(const struct flag_set *flags, struct str flag);
/* For every flag of argv that is not in flags, calls on_unknown with the nearest one that is (or NULL). */
void flag_set_check(const struct flag_set *flags, const char *const *argv,
                    void (*on_unknown)(void *arg, const char *flag, const char *nearest), void *arg);

#endif
