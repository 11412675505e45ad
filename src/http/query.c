#include "http/query.h"

struct str http_query_without(struct str target, const char *pair_name, struct arena *arena)
{
    struct str name = str_from(pair_name);
    struct str query = target, path = str_cut(&query, '?');
    bool found = false;
    for (struct str rest = query; rest.p && !found;) {
        struct str pair = str_cut(&rest, '&');
        found = str_eq(str_cut(&pair, '='), name);
    }
    if (!found)
        return target;
    char *out = arena_alloc(arena, target.n + 1);
    size_t n = path.n;
    memcpy(out, path.p, path.n);
    while (query.p) {
        struct str pair = str_cut(&query, '&'), rest = pair;
        if (str_eq(str_cut(&rest, '='), name))
            continue;
        out[n] = n == path.n ? '?' : '&';
        memcpy(out + n + 1, pair.p, pair.n);
        n += 1 + pair.n;
    }
    out[n] = '\0';
    return (struct str){out, n};
}
