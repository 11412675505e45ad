#include "base/json_scan.h"

#include "base/json_read.h"

struct scanner {
    const char *p, *end;
};

static void skip_space(struct scanner *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\r' || *s->p == '\t'))
        s->p++;
}

/* At an opening quote: moves behind the closing one. Long strings (images) go at memchr's speed. */
static bool skip_string(struct scanner *s)
{
    const char *p = s->p + 1;
    for (;;) {
        const char *quote = p < s->end ? memchr(p, '"', (size_t)(s->end - p)) : NULL;
        if (!quote)
            return false;
        const char *escape = quote;
        while (escape > p && escape[-1] == '\\')
            escape--;
        p = quote + 1;
        if ((quote - escape) % 2 == 0)
            break;
    }
    s->p = p;
    return true;
}

static bool skip_nested(struct scanner *s)
{
    unsigned depth = 0;
    while (s->p < s->end) {
        char c = *s->p;
        if (c == '"') {
            if (!skip_string(s))
                return false;
            continue;
        }
        s->p++;
        if (c == '{' || c == '[')
            depth++;
        else if ((c == '}' || c == ']') && --depth == 0)
            return true;
    }
    return false;
}

static bool skip_value(struct scanner *s)
{
    if (s->p == s->end)
        return false;
    if (*s->p == '"')
        return skip_string(s);
    if (*s->p == '{' || *s->p == '[')
        return skip_nested(s);
    const char *start = s->p;
    while (s->p < s->end && !memchr(",}] \n\r\t", *s->p, 7))
        s->p++;
    return s->p > start;
}

static bool key_is(struct str raw, const char *key)
{
    struct str inner = {raw.p + 1, raw.n - 2};
    if (!memchr(inner.p, '\\', inner.n))
        return str_eq(inner, str_from(key));
    struct arena arena;
    struct str text;
    arena_init(&arena);
    bool same = json_scan_text(raw, &arena, &text) && str_eq(text, str_from(key));
    arena_dispose(&arena);
    return same;
}

static bool scan_member(struct scanner *s, struct json_scan *wanted, size_t count)
{
    const char *start = s->p;
    if (s->p == s->end || *s->p != '"' || !skip_string(s))
        return false;
    struct str key = {start, (size_t)(s->p - start)};
    skip_space(s);
    if (s->p == s->end || *s->p++ != ':')
        return false;
    skip_space(s);
    start = s->p;
    if (!skip_value(s))
        return false;
    for (size_t i = 0; i < count; i++)
        if (key_is(key, wanted[i].key))
            wanted[i].raw = (struct str){start, (size_t)(s->p - start)};
    skip_space(s);
    return true;
}

static bool scan_object(struct scanner *s, struct json_scan *wanted, size_t count)
{
    skip_space(s);
    if (s->p == s->end || *s->p++ != '{')
        return false;
    skip_space(s);
    if (s->p < s->end && *s->p == '}') {
        s->p++;
        return true;
    }
    for (;;) {
        if (!scan_member(s, wanted, count) || s->p == s->end)
            return false;
        char c = *s->p++;
        if (c == '}')
            return true;
        if (c != ',')
            return false;
        skip_space(s);
    }
}

bool json_scan(struct str text, struct json_scan *wanted, size_t count, struct err *err)
{
    struct scanner s = {text.p, text.p + text.n};
    for (size_t i = 0; i < count; i++)
        wanted[i].raw = STR_NONE;
    if (text.n && scan_object(&s, wanted, count)) {
        skip_space(&s);
        if (s.p == s.end)
            return true;
    }
    json_t *document = json_read(text, err);
    if (document && json_is_object(document))
        err_set(err, ERR_INVALID_JSON, "the body is not valid JSON");
    else if (document)
        err_set(err, ERR_INVALID_JSON, "the body must be a JSON object, but is %s", json_kind_name(document));
    json_decref(document);
    return false;
}

bool json_scan_item(struct str *array, struct str *ret_item)
{
    struct scanner s = {array->p, array->p + array->n};
    if (s.p < s.end && (*s.p == '[' || *s.p == ','))
        s.p++;
    skip_space(&s);
    const char *start = s.p;
    if (s.p == s.end || *s.p == ']' || !skip_value(&s))
        return false;
    *ret_item = (struct str){start, (size_t)(s.p - start)};
    skip_space(&s);
    *array = (struct str){s.p, (size_t)(s.end - s.p)};
    return true;
}

bool json_scan_text(struct str raw, struct arena *arena, struct str *ret_text)
{
    if (raw.n < 2 || raw.p[0] != '"')
        return false;
    json_error_t why;
    json_t *value = json_loadb(raw.p, raw.n, JSON_DECODE_ANY, &why);
    bool good = json_is_string(value);
    if (good)
        *ret_text = arena_str(arena, json_str(value));
    json_decref(value);
    return good;
}
