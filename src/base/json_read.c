#include "base/json_read.h"

#include <math.h>
#include <stdio.h>

#include "base/mem.h"

/* jansson's own depth limit is compiled in and generous; ours is checked first, in one pass that knows strings. */
static bool depth_ok(struct str text, struct err *err)
{
    int depth = 0;
    bool string = false;
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                string = false;
        } else if (c == '"') {
            string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > LIMIT_JSON_DEPTH)
                return err_set(err, ERR_INVALID_JSON, "the JSON body is nested deeper than %d levels",
                               LIMIT_JSON_DEPTH);
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return true;
}

void json_setup(void)
{
    json_set_alloc_funcs(mem_alloc, mem_free);
}

json_t *json_read(struct str text, struct err *err)
{
    json_error_t why;
    if (!depth_ok(text, err))
        return NULL;
    if (text.n == 0) {
        err_set(err, ERR_INVALID_JSON, "the body is empty; a JSON document was expected");
        return NULL;
    }
    json_t *document = json_loadb(text.p, text.n, JSON_DECODE_ANY, &why);
    if (!document)
        err_set(err, ERR_INVALID_JSON, "the body is not valid JSON: %s (line %d, column %d)", why.text, why.line,
                why.column);
    return document;
}

const char *json_kind_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a number";
    case JSON_TRUE:
    case JSON_FALSE: return "a boolean";
    default: return "null";
    }
}

static const char *expected(enum json_kind kind)
{
    static const char *const names[] = {"a boolean", "an integer", "a number", "a string",
                                        "an object", "an array",   "a value"};
    return names[kind];
}

char *json_path_member(char *out, size_t size, const char *path, const char *name)
{
    snprintf(out, size, "%s%s%s", path, *path ? "." : "", name);
    return out;
}

char *json_path_index(char *out, size_t size, const char *path, size_t index)
{
    snprintf(out, size, "%s[%zu]", path, index);
    return out;
}

struct str json_str(const json_t *value)
{
    return json_is_string(value) ? (struct str){json_string_value(value), json_string_length(value)} : STR_NONE;
}

static bool out_of_range(const struct json_field *f, double value)
{
    return (f->min != 0 || f->max != 0) && (value < f->min || value > f->max);
}

static bool range_error(const struct json_field *f, const char *param, const char *what, struct err *err)
{
    return err_set_param(err, ERR_INVALID_PARAMETERS, param, "'%s' %s must be between %.15g and %.15g", param, what,
                         f->min, f->max);
}

/* The value of an integer field: a JSON integer, or a real without a fraction. */
static bool integral(const json_t *value, json_int_t *ret)
{
    if (json_is_integer(value)) {
        *ret = json_integer_value(value);
        return true;
    }
    double real = json_is_real(value) ? json_real_value(value) : NAN;
    if (!(fabs(real) < 9007199254740992.0) || floor(real) != real)
        return false;
    *ret = (json_int_t)real;
    return true;
}

static bool read_field(const json_t *value, const struct json_field *f, void *slot, const char *param, struct err *err)
{
    json_int_t integer;
    switch (f->kind) {
    case JSON_KIND_BOOL:
        if (!json_is_boolean(value))
            break;
        *(bool *)slot = json_is_true(value);
        return true;
    case JSON_KIND_INT:
        if (!integral(value, &integer))
            break;
        if (out_of_range(f, (double)integer))
            return range_error(f, param, "is out of range: it", err);
        *(int64_t *)slot = integer;
        return true;
    case JSON_KIND_NUMBER:
        if (!json_is_number(value))
            break;
        if (out_of_range(f, json_number_value(value)))
            return range_error(f, param, "is out of range: it", err);
        *(double *)slot = json_number_value(value);
        return true;
    case JSON_KIND_TEXT:
        if (!json_is_string(value))
            break;
        if (out_of_range(f, (double)json_string_length(value)))
            return range_error(f, param, "has a wrong length: its bytes", err);
        *(struct str *)slot = json_str(value);
        return true;
    case JSON_KIND_ARRAY:
        if (!json_is_array(value))
            break;
        if (out_of_range(f, (double)json_array_size(value)))
            return range_error(f, param, "has a wrong length: its items", err);
        *(const json_t **)slot = value;
        return true;
    case JSON_KIND_OBJECT:
        if (!json_is_object(value))
            break;
        *(const json_t **)slot = value;
        return true;
    case JSON_KIND_ANY: *(const json_t **)slot = value; return true;
    }
    return err_set_param(err, ERR_INVALID_PARAMETERS, param, "'%s' must be %s, but is %s", param, expected(f->kind),
                         json_kind_name(value));
}

bool json_fields(const json_t *object, const struct json_field *fields, size_t count, void *target, const char *path,
                 struct err *err)
{
    char param[LIMIT_ERR_PARAM];
    for (size_t i = 0; i < count; i++) {
        const struct json_field *f = &fields[i];
        const json_t *value = json_object_get(object, f->name);
        json_path_member(param, sizeof param, path, f->name);
        if (!value || json_is_null(value)) {
            if (f->required)
                return err_set_param(err, ERR_INVALID_PARAMETERS, param, "'%s' is required", param);
            continue;
        }
        if (!read_field(value, f, (char *)target + f->offset, param, err))
            return false;
    }
    return true;
}
