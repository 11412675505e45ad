/* TOML 1.0 reader: strict, bounded, with the line of every value. Any thread; the document lies in the arena. */
#ifndef CONF_TOML_H
#define CONF_TOML_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

enum toml_kind {
    TOML_STRING,
    TOML_INTEGER,
    TOML_FLOAT,
    TOML_BOOL,
    TOML_DATETIME, /* with offset */
    TOML_LOCAL_DATETIME,
    TOML_LOCAL_DATE,
    TOML_LOCAL_TIME,
    TOML_ARRAY,
    TOML_TABLE
};

struct toml {
    enum toml_kind kind;
    unsigned line;     /* 1.. */
    struct str key;    /* name in the table it stands in, else STR_NONE; may hold any characters */
    struct toml *next; /* next member or element, in order of appearance */
    union {
        struct str text; /* strings; dates and times normalised: 'T', 'Z' upper case */
        int64_t integer;
        double real;
        bool boolean;
        struct {
            struct toml *first, *last;
        } children;
    };
    /* How a table came to be decides what may be added to it; the reader's business. */
    bool header;   /* by [name] or as an element of [[name]] */
    bool dotted;   /* by a dotted key */
    bool frozen;   /* inline: complete */
    bool elements; /* array grown by [[name]] */
};

/* Reads a document of at most LIMIT_CONFIG_BYTES. NULL and *err (ERR_CONFIG, "NAME:LINE: what") otherwise. */
struct toml *toml_read(struct str text, const char *name, struct arena *arena, struct err *err);

/* The member of that name, or NULL. */
struct toml *toml_find(const struct toml *table, struct str key);

const char *toml_kind_name(enum toml_kind kind); /* "a string"... */

#endif
