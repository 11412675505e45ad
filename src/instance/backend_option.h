/* Options that have a type: one table a backend, read in three directions. JSON to its canonical shape, canonical JSON
 * to arguments, and a command line back to JSON. What is not in a table travels in the object "extra_args". Any thread;
 * used by backend*.c and split.c only. */
#ifndef INSTANCE_BACKEND_OPTION_H
#define INSTANCE_BACKEND_OPTION_H

#include "instance/backend.h"

enum option_kind {
    OPTION_INT,      /* a whole number, or a text that is one */
    OPTION_PORT,     /* 0 to 65535; 0 says nothing and sends nothing */
    OPTION_COUNT,    /* a whole number, also as "32k", "auto" or "all" */
    OPTION_FLOAT,    /* a number, or a text that is one */
    OPTION_TEXT,     /* "" sends nothing */
    OPTION_BOOL,     /* true: the bare flag; false: nothing */
    OPTION_SWITCH,   /* true: --x; false: --no-x. no_x is a key of its own, a bool */
    OPTION_NEGATIVE, /* only --no-x exists: false sends it */
    OPTION_MULTI,    /* an array of texts, or one text: the flag again for each */
    OPTION_PAIR      /* an array of two, or a text with a blank between them: one flag, two arguments */
};

struct option_row {
    const char *name; /* "ctx_size"; NULL ends a table */
    enum option_kind kind;
    const char *flag; /* NULL: name with dashes behind "--" */
};

struct option_alias {
    const char *name, *key; /* key may begin with "no_"; a NULL name ends a table */
};

struct option_table {
    const struct option_row *rows; /* in the order of the command line */
    const struct option_alias *aliases;
    const char *const *programs; /* base names that may begin a command line; NULL-terminated */
    const char *subcommand;      /* that may follow them, or NULL */
    bool strict;                 /* an unknown name is an error, not an extra argument */
};

/* A new object, to be released with json_decref; NULL and *err (param "backend_options.NAME") for a wrong type. */
json_t *option_canonical(const struct option_table *table, const json_t *options, struct err *err);

/* Appends the flags of canonical options in the table's order, then extra_args in theirs. Leaves out the key `except`
 * (NULL: none). */
void option_arguments(const struct option_table *table, struct backend_launch *launch, const json_t *options,
                      const char *except);

/* Canonical options of a command line. A first word that is no flag is the model. */
json_t *option_parse(const struct option_table *table, struct str command, struct err *err);

/* For a backend's own arguments: one more, which must outlive the launch; too many are noticed by backend_command. */
void launch_add(struct backend_launch *launch, const char *argument);
/* The args of its [backends.X] table; not in a container. */
void launch_add_configured(struct backend_launch *launch);

/* backend_split piece by piece: the next word of *rest in *ret_word, NULL at the end. */
bool split_word(struct str *rest, struct arena *arena, const char **ret_word, struct err *err);

/* What holds for the whole text that split_word is given: bounded, no NUL. */
bool split_check(struct str command, struct err *err);

/* Text of a number as JSON and as command lines have it: whole ones in full, others as short as reads back. */
const char *option_number(struct arena *arena, const json_t *number);

/* What each backend_*.c defines for its row. */
#define BACKEND(type, ...)                                                                                             \
    json_t *type##_canonical(const json_t *options, struct err *err);                                                  \
    const char *type##_program(struct backend_launch *launch, const json_t *options);                                  \
    bool type##_arguments(struct backend_launch *launch, const json_t *options, struct err *err);                      \
    json_t *type##_parse(struct str command, struct err *err);                                                         \
    const char *type##_served_model(const json_t *options);
#include "instance/backend.def"
#undef BACKEND

#endif
