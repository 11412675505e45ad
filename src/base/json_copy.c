#include "base/json_copy.h"

#include <stdlib.h>

void json_put_value(struct json *j, const char *key, const json_t *value)
{
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    if (value && !text)
        j->failed = true;
    else if (value)
        json_put_raw(j, key, str_from(text));
    else
        json_put_null(j, key);
    free(text);
}

struct str json_text(const json_t *value, struct arena *arena)
{
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    struct str copy = text ? arena_str(arena, str_from(text)) : STR_NONE;
    free(text);
    return copy;
}

static void release(void *arg)
{
    json_decref(arg);
}

void json_give(json_t *value, struct arena *arena)
{
    arena_on_dispose(arena, release, value);
}
