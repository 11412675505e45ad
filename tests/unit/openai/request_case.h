/* What the tests of request readers share: memory for what they read, and a table of bad bodies, each of which must be
 * refused with this code, param and message. Include after cmocka.h. */
#ifndef REQUEST_CASE_H
#define REQUEST_CASE_H

#include "base/arena.h"
#include "base/err.h"

/* What a test reads lives until its group ends. */
static struct arena arena;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_dispose(&arena);
    return 0;
}

struct request_case {
    const char *body;
    enum err_code code;
    const char *param, *message;
};

typedef bool request_reader(struct str body, struct arena *arena, struct err *err);

static inline void check_refusals(const struct request_case *cases, size_t count, request_reader *read)
{
    for (size_t i = 0; i < count; i++) {
        struct arena arena;
        struct err err = ERR_INIT;
        arena_init(&arena);
        if (read(str_from(cases[i].body), &arena, &err))
            fail_msg("was accepted: %s", cases[i].body);
        if (err.code != cases[i].code || strcmp(err.param, cases[i].param) != 0 ||
            strcmp(err.message, cases[i].message) != 0)
            fail_msg("%s\n  gave %s [%s] %s\n  not  %s [%s] %s", cases[i].body, err_wire_code(err.code), err.param,
                     err.message, err_wire_code(cases[i].code), cases[i].param, cases[i].message);
        arena_dispose(&arena);
    }
}

#endif
