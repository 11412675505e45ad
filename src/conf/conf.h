/* Configuration: one table of options (conf.def), read from files, the environment and flags, later ones winning.
 * Everything is checked against the table; an error names file, line, the values allowed and the nearest name. */
#ifndef CONF_CONF_H
#define CONF_CONF_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

enum conf_kind {
    CONF_TEXT,
    CONF_PATH,
    CONF_INT,
    CONF_NUMBER,
    CONF_BOOL,
    CONF_CHOICE,
    CONF_LIST,
    CONF_AUTO,
    CONF_SWITCH,  /* true, false or "auto" */
    CONF_RANGE,   /* two numbers, the first not above the second: [low, high], as text "low-high" */
    CONF_MAP,     /* a table of strings or whole numbers */
    CONF_SECRETS, /* a list that is never printed */
    CONF_SECRET   /* a text that is never printed */
};

#define CONF_AUTO_VALUE (-1) /* of CONF_AUTO and CONF_SWITCH options */

/* What each kind is in the structs below; strings live in the configuration's arena. */
typedef const char *conf_TEXT;
typedef const char *conf_PATH; /* '~/' at its front is the home folder */
typedef int64_t conf_INT;
typedef double conf_NUMBER;
typedef bool conf_BOOL;
typedef int conf_CHOICE;              /* index into the row's choices */
typedef const char *const *conf_LIST; /* NULL-terminated; never NULL */
typedef int64_t conf_AUTO;            /* CONF_AUTO_VALUE or a number */
typedef int conf_SWITCH;              /* CONF_AUTO_VALUE, 0 or 1 */
typedef struct conf_range {
    int64_t low, high;
} conf_RANGE;
typedef const char *const *conf_MAP; /* "name=value", NULL-terminated; never NULL */
typedef conf_LIST conf_SECRETS;
typedef conf_TEXT conf_SECRET;

struct conf_model {
    const char *name;
    struct conf_model *next;
#define OPTION(field, kind, table, key, value, least, most, choices, help) conf_##kind field;
#include "conf/model.def"
#undef OPTION
};

/* A [backends.NAME] table; llama-cpp, vllm and mlx have one even when no file does. */
struct conf_backend {
    const char *name;
    struct conf_backend *next;
#define OPTION(field, kind, table, key, value, least, most, choices, help) conf_##kind field;
#include "conf/backend.def"
#undef OPTION
};

/* A [nodes.NAME] table: another machine that manages instances. */
struct conf_node {
    const char *name;
    struct conf_node *next;
#define OPTION(field, kind, table, key, value, least, most, choices, help) conf_##kind field;
#include "conf/node.def"
#undef OPTION
};

struct conf {
    struct arena arena;
    struct conf_model *models;
    struct conf_backend *backends; /* llama-cpp, vllm and mlx always */
    struct conf_node *nodes;       /* in the order of the file */
    const char *files[8];          /* read, in order; NULL behind the last */
    int file_count;
#define OPTION(field, kind, table, key, value, least, most, choices, help) conf_##kind field;
#include "conf/conf.def"
#undef OPTION
};

struct conf_option {
    const char *table, *key;
    enum conf_kind kind;
    size_t offset;
    const char *value; /* default */
    double least, most;
    const char *choices; /* blank-separated */
    const char *help;
};

/* All rows, ended by one whose key is NULL. */
extern const struct conf_option conf_options[];
extern const struct conf_option conf_model_options[];
extern const struct conf_option conf_backend_options[];
extern const struct conf_option conf_node_options[];

/* Tables of tables, [models.NAME] and their like, ended by one without a name. Every record begins with its name and
 * the next one. */
struct conf_record {
    const char *name;
    struct conf_record *next;
};

extern const struct conf_table {
    const char *table;
    const struct conf_option *rows;
    size_t size, list; /* of a record; offset of the list's head in struct conf */
} conf_tables[];

void conf_init(struct conf *conf); /* all defaults */
void conf_release(struct conf *conf);

/* Defaults, the usual files, explicit_file (NULL: $INFERNO_CONFIG), then the environment. Usual files that do not
 * exist are passed over. false: *err is ERR_CONFIG. */
bool conf_load(struct conf *conf, const char *explicit_file, struct err *err);

bool conf_read_file(struct conf *conf, const char *path, struct err *err);

/* Sets one option by "table.key" (or "key") from text, as flags do: lists are comma-separated. origin prefixes errors.
 */
bool conf_set(struct conf *conf, const char *name, const char *text, const char *origin, struct err *err);

/* A model named on the command line: as [models."NAME"] file = "PATH". */
bool conf_add_model(struct conf *conf, struct str name, const char *path, struct err *err);

/* After all sources: fills the folders that depend on the environment and checks what spans options. */
bool conf_finish(struct conf *conf, struct err *err);

const struct conf_model *conf_model_find(const struct conf *conf, struct str name); /* or NULL */
const struct conf_backend *conf_backend_find(const struct conf *conf, struct str name);
const struct conf_node *conf_node_find(const struct conf *conf, struct str name);

/* The value of name in a CONF_MAP, or NULL. */
const char *conf_map_find(conf_MAP map, struct str name);

/* The name that choice index stands for. */
const char *conf_choice_name(const char *choices, int index, char *out, size_t size);

/* Prints the effective configuration as TOML with a comment a key. */
void conf_print(const struct conf *conf, FILE *out);

#endif
