/* TOML 1.0 (toml.io/en/v1.0.0), by recursive descent over one buffer.
 *
 * A value is parsed where it stands; the only difficulty of the format is who may add to which table. Four flags on
 * tables carry all of it (see toml.h): a header may open a table once and only if no dotted key or inline table made
 * it; a dotted key may only walk through tables that dotted keys made; nobody enters a frozen one; [[x]] only extends
 * arrays that [[x]] made. Depth, keys and bytes are bounded (limits.h). */
#include "conf/toml.h"

#include <math.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/utf8.h"

struct reader {
    const char *p, *end;
    unsigned line;
    unsigned keys;
    int depth;
    const char *name;
    struct arena *arena;
    struct err *err;
};

static struct toml *read_value(struct reader *r);

const char *toml_kind_name(enum toml_kind kind)
{
    static const char *const names[] = {"a string",          "an integer", "a float", "a boolean", "a date-time",
                                        "a local date-time", "a date",     "a time",  "an array",  "a table"};
    return names[kind];
}

static bool fail(struct reader *r, const char *what)
{
    return err_set(r->err, ERR_CONFIG, "%s:%u: %s", r->name, r->line, what);
}

static bool fail_key(struct reader *r, struct str key, const char *what)
{
    return err_set(r->err, ERR_CONFIG, "%s:%u: '" STR_FMT "' %s", r->name, r->line, STR_ARG(key), what);
}

struct toml *toml_find(const struct toml *table, struct str key)
{
    for (struct toml *t = table->children.first; t; t = t->next)
        if (str_eq(t->key, key))
            return t;
    return NULL;
}

static struct toml *node_new(struct reader *r, enum toml_kind kind)
{
    struct toml *t = arena_calloc(r->arena, sizeof *t);
    t->kind = kind;
    t->line = r->line;
    return t;
}

static void child_add(struct toml *parent, struct toml *child)
{
    if (parent->children.last)
        parent->children.last->next = child;
    else
        parent->children.first = child;
    parent->children.last = child;
}

/* ---- characters ---- */

static int peek(const struct reader *r)
{
    return r->p < r->end ? (unsigned char)*r->p : -1;
}

static bool looking_at(const struct reader *r, const char *text)
{
    size_t n = strlen(text);
    return (size_t)(r->end - r->p) >= n && memcmp(r->p, text, n) == 0;
}

static void skip_blanks(struct reader *r)
{
    while (peek(r) == ' ' || peek(r) == '\t')
        r->p++;
}

static bool is_control(int c)
{
    return (c < 0x20 && c != '\t') || c == 0x7F;
}

static bool skip_comment(struct reader *r)
{
    if (peek(r) != '#')
        return true;
    while (r->p < r->end && *r->p != '\n' && !looking_at(r, "\r\n")) {
        if (is_control((unsigned char)*r->p))
            return fail(r, "a comment holds a control character");
        r->p++;
    }
    return true;
}

/* true when a line end was taken. */
static bool take_newline(struct reader *r)
{
    if (looking_at(r, "\r\n"))
        r->p++;
    if (peek(r) != '\n')
        return false;
    r->p++;
    r->line++;
    return true;
}

static bool end_of_line(struct reader *r)
{
    skip_blanks(r);
    if (!skip_comment(r))
        return false;
    if (r->p == r->end || take_newline(r))
        return true;
    return fail(r, "something is left over behind the value; one entry a line");
}

/* Blanks, comments and line ends between the elements of an array. */
static bool skip_space(struct reader *r)
{
    do {
        skip_blanks(r);
        if (!skip_comment(r))
            return false;
    } while (take_newline(r));
    return true;
}

/* ---- strings ---- */

static bool read_codepoint(struct reader *r, int digits, struct buf *out)
{
    unsigned codepoint = 0;
    for (int i = 0; i < digits; i++, r->p++) {
        int c = peek(r);
        int value = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (value < 0)
            return fail(r, "\\u takes four and \\U eight hexadecimal digits");
        codepoint = codepoint << 4 | (unsigned)value;
    }
    if (codepoint > 0x10FFFF || (codepoint >= 0xD800 && codepoint < 0xE000))
        return fail(r, "an escape names no Unicode character");
    char bytes[4];
    buf_append(out, bytes, utf8_encode(codepoint, bytes));
    return true;
}

/* Behind a backslash in a multi-line string: the line's rest must be blank, then all white space is dropped. */
static bool skip_line_continuation(struct reader *r)
{
    skip_blanks(r);
    if (!take_newline(r))
        return fail(r, "a backslash must be followed by an escape or end the line");
    do
        skip_blanks(r);
    while (take_newline(r));
    return true;
}

static bool read_escape(struct reader *r, bool multiline, struct buf *out)
{
    static const char names[] = "btnfre\"\\";
    static const char bytes[] = "\b\t\n\f\r?\"\\";
    int c = peek(r);
    if (multiline && (c == '\n' || c == '\r' || c == ' ' || c == '\t'))
        return skip_line_continuation(r);
    r->p++;
    if (c == 'u' || c == 'U')
        return read_codepoint(r, c == 'u' ? 4 : 8, out);
    const char *at = c > 0 ? strchr(names, c) : NULL;
    if (!at || c == 'e')
        return fail(r, "an unknown escape; write \\\\ for a backslash");
    buf_putc(out, bytes[at - names]);
    return true;
}

/* Up to two quotes may stand right before the closing three of a multi-line string. */
static bool at_closing(const struct reader *r, char quote, bool multiline)
{
    size_t run = 0;
    while (r->p + run < r->end && r->p[run] == quote && run < 6)
        run++;
    return multiline ? run == 3 || run == 6 : run > 0;
}

static bool read_string_body(struct reader *r, char quote, bool multiline, struct buf *out)
{
    while (!at_closing(r, quote, multiline)) {
        int c = peek(r);
        if (c < 0)
            return fail(r, "a string is not closed");
        if (c == '\n' || (c == '\r' && looking_at(r, "\r\n"))) {
            if (!multiline)
                return fail(r, "a string is not closed on its line");
            take_newline(r);
            buf_putc(out, '\n');
        } else if (is_control(c)) {
            return fail(r, "a string holds a control character; write it as an escape");
        } else if (c == '\\' && quote == '"') {
            r->p++;
            if (!read_escape(r, multiline, out))
                return false;
        } else {
            buf_putc(out, *r->p++);
        }
    }
    r->p += multiline ? 3 : 1;
    return true;
}

static bool read_string(struct reader *r, bool multiline_allowed, struct str *ret_text)
{
    char quote = *r->p;
    const char three[] = {quote, quote, quote, 0};
    bool multiline = looking_at(r, three);
    if (multiline && !multiline_allowed)
        return fail(r, "a multi-line string cannot be a key");
    struct buf text;
    buf_init(&text, LIMIT_CONFIG_BYTES);
    r->p += multiline ? 3 : 1;
    if (multiline)
        take_newline(r);
    bool good = read_string_body(r, quote, multiline, &text);
    if (good)
        *ret_text = arena_str(r->arena, buf_view(&text));
    buf_release(&text);
    return good;
}

/* ---- keys ---- */

static bool is_bare(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

static bool read_key(struct reader *r, struct str *ret_key)
{
    if (++r->keys > LIMIT_TOML_KEYS)
        return fail(r, "too many keys");
    if (peek(r) == '"' || peek(r) == '\'')
        return read_string(r, false, ret_key);
    const char *start = r->p;
    while (is_bare(peek(r)))
        r->p++;
    if (r->p == start)
        return fail(r, "a key was expected (letters, digits, '_', '-', or quoted)");
    *ret_key = (struct str){start, (size_t)(r->p - start)};
    return true;
}

/* After a key part: true when a dot follows and another part must be read. */
static bool take_dot(struct reader *r)
{
    skip_blanks(r);
    if (peek(r) != '.')
        return false;
    r->p++;
    skip_blanks(r);
    return true;
}

/* ---- numbers, dates, booleans ---- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int digits_at(const char *p, const char *end, int count)
{
    int value = 0;
    if (end - p < count)
        return -1;
    for (int i = 0; i < count; i++) {
        if (!is_digit(p[i]))
            return -1;
        value = value * 10 + (p[i] - '0');
    }
    return value;
}

static bool date_valid(int year, int month, int day)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (year < 0 || month < 1 || month > 12 || day < 1)
        return false;
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return day <= lengths[month - 1] + (month == 2 && leap);
}

/* Length of a time "07:32:00[.999]" at p, or 0. */
static size_t time_length(const char *p, const char *end)
{
    int hour = digits_at(p, end, 2);
    int minute = end - p >= 5 && p[2] == ':' ? digits_at(p + 3, end, 2) : -1;
    int second = end - p >= 8 && p[5] == ':' ? digits_at(p + 6, end, 2) : -1;
    if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60)
        return 0;
    const char *at = p + 8;
    if (at < end && *at == '.') {
        const char *fraction = ++at;
        while (at < end && is_digit(*at))
            at++;
        if (at == fraction)
            return 0;
    }
    return (size_t)(at - p);
}

static size_t offset_length(const char *p, const char *end)
{
    if (p < end && (*p == 'Z' || *p == 'z'))
        return 1;
    if (p == end || (*p != '+' && *p != '-'))
        return 0;
    int hour = digits_at(p + 1, end, 2);
    int minute = end - p >= 6 && p[3] == ':' ? digits_at(p + 4, end, 2) : -1;
    return hour >= 0 && hour <= 23 && minute >= 0 && minute <= 59 ? 6 : 0;
}

static struct toml *date_node(struct reader *r, enum toml_kind kind, size_t n)
{
    struct toml *t = node_new(r, kind);
    char *text = arena_strndup(r->arena, r->p, n);
    if (kind == TOML_DATETIME || kind == TOML_LOCAL_DATETIME)
        text[10] = 'T';
    if (kind == TOML_DATETIME && text[n - 1] == 'z')
        text[n - 1] = 'Z';
    t->text = (struct str){text, n};
    r->p += n;
    return t;
}

static struct toml *read_date(struct reader *r)
{
    const char *p = r->p, *end = r->end;
    int year = digits_at(p, end, 4), month = digits_at(p + 5, end, 2);
    int day = end - p >= 10 && p[7] == '-' ? digits_at(p + 8, end, 2) : -1;
    if (!date_valid(year, month, day))
        return fail(r, "no such date (YYYY-MM-DD)"), NULL;
    bool blank = end - p > 11 && p[10] == ' ' && is_digit(p[11]);
    if (end - p <= 10 || !(p[10] == 'T' || p[10] == 't' || blank))
        return date_node(r, TOML_LOCAL_DATE, 10);
    size_t time = time_length(p + 11, end);
    if (!time)
        return fail(r, "no such time (HH:MM:SS)"), NULL;
    size_t offset = offset_length(p + 11 + time, end);
    return date_node(r, offset ? TOML_DATETIME : TOML_LOCAL_DATETIME, 11 + time + offset);
}

static struct toml *read_time(struct reader *r)
{
    size_t n = time_length(r->p, r->end);
    if (!n)
        return fail(r, "no such time (HH:MM:SS)"), NULL;
    return date_node(r, TOML_LOCAL_TIME, n);
}

static int digit_value(char c)
{
    return is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : 99;
}

/* Digits of a base with underscores between digits only. Returns the end, or NULL. */
static const char *scan_digits(const char *p, const char *end, int base)
{
    bool last_digit = false;
    while (p < end && (digit_value(*p) < base || *p == '_')) {
        if (*p == '_' && (!last_digit || p + 1 == end || digit_value(p[1]) >= base))
            return NULL;
        last_digit = *p != '_';
        p++;
    }
    return last_digit ? p : NULL;
}

static bool based_integer(const char *p, const char *end, int base, uint64_t max, uint64_t *ret)
{
    uint64_t value = 0;
    for (; p < end; p++) {
        if (*p == '_')
            continue;
        unsigned digit = (unsigned)digit_value(*p);
        if (value > (max - digit) / (unsigned)base)
            return false;
        value = value * (unsigned)base + digit;
    }
    *ret = value;
    return true;
}

static struct toml *read_based(struct reader *r, const char *end)
{
    int base = r->p[1] == 'x' ? 16 : r->p[1] == 'o' ? 8 : 2;
    uint64_t value;
    if (scan_digits(r->p + 2, end, base) != end)
        return fail(r, "a malformed number"), NULL;
    if (!based_integer(r->p + 2, end, base, INT64_MAX, &value))
        return fail(r, "a number beyond 64 bits"), NULL;
    struct toml *t = node_new(r, TOML_INTEGER);
    t->integer = (int64_t)value;
    r->p = end;
    return t;
}

static struct toml *read_special_float(struct reader *r, const char *end)
{
    const char *p = r->p;
    bool negative = *p == '-';
    if (*p == '+' || *p == '-')
        p++;
    struct str word = {p, (size_t)(end - p)};
    bool infinite = str_eq(word, STR("inf"));
    if (!infinite && !str_eq(word, STR("nan")))
        return fail(r, "an unknown value; strings need quotes"), NULL;
    struct toml *t = node_new(r, TOML_FLOAT);
    t->real = infinite ? (negative ? -INFINITY : INFINITY) : (double)NAN;
    r->p = end;
    return t;
}

static struct toml *integer_node(struct reader *r, const char *digits, const char *end, bool negative)
{
    uint64_t value;
    uint64_t max = negative ? (uint64_t)INT64_MAX + 1 : INT64_MAX;
    if (!based_integer(digits, end, 10, max, &value))
        return fail(r, "a number beyond 64 bits"), NULL;
    struct toml *t = node_new(r, TOML_INTEGER);
    t->integer = negative ? (int64_t)(0 - value) : (int64_t)value;
    r->p = end;
    return t;
}

/* Behind the integral digits: fraction and exponent. Returns the end or NULL. */
static const char *scan_real(const char *p, const char *end)
{
    if (p < end && *p == '.')
        p = scan_digits(p + 1, end, 10);
    if (p && p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '+' || *p == '-'))
            p++;
        p = scan_digits(p, end, 10);
    }
    return p;
}

static struct toml *float_node(struct reader *r, const char *end)
{
    char text[512];
    size_t n = 0;
    for (const char *p = r->p; p < end; p++) {
        if (*p == '_')
            continue;
        if (n == sizeof text - 1)
            return fail(r, "a number with too many digits"), NULL;
        text[n++] = *p;
    }
    text[n] = '\0';
    struct toml *t = node_new(r, TOML_FLOAT);
    t->real = strtod(text, NULL);
    r->p = end;
    return t;
}

static struct toml *read_number(struct reader *r)
{
    const char *end = r->p;
    while (end < r->end && (is_bare(*end) || *end == '+' || *end == '.'))
        end++;
    const char *p = r->p;
    bool negative = *p == '-';
    if (*p == '0' && end - p > 2 && strchr("xob", p[1]))
        return read_based(r, end);
    if (*p == '+' || *p == '-')
        p++;
    if (p == end || !is_digit(*p))
        return read_special_float(r, end);
    const char *integral = scan_digits(p, end, 10);
    if (!integral)
        return fail(r, "a malformed number"), NULL;
    if (*p == '0' && integral - p > 1)
        return fail(r, "a number must not begin with 0"), NULL;
    if (integral == end)
        return integer_node(r, p, end, negative);
    if (scan_real(integral, end) != end)
        return fail(r, "a malformed number"), NULL;
    return float_node(r, end);
}

static struct toml *read_bool(struct reader *r, bool value)
{
    r->p += value ? 4 : 5;
    if (is_bare(peek(r)))
        return fail(r, "an unknown value; strings need quotes"), NULL;
    struct toml *t = node_new(r, TOML_BOOL);
    t->boolean = value;
    return t;
}

/* ---- arrays and tables ---- */

static struct toml *read_array(struct reader *r)
{
    struct toml *array = node_new(r, TOML_ARRAY);
    r->p++;
    for (;;) {
        if (!skip_space(r))
            return NULL;
        if (peek(r) == ']')
            break;
        struct toml *element = read_value(r);
        if (!element || !skip_space(r))
            return NULL;
        child_add(array, element);
        if (peek(r) == ',')
            r->p++;
        else if (peek(r) != ']')
            return fail(r, "an array is not closed: ',' or ']' was expected"), NULL;
    }
    r->p++;
    return array;
}

static struct toml *table_add(struct reader *r, struct toml *parent, struct str key)
{
    struct toml *table = node_new(r, TOML_TABLE);
    table->key = key;
    child_add(parent, table);
    return table;
}

/* One "key.key = value" into table. */
static bool read_pair(struct reader *r, struct toml *table)
{
    struct str key = STR_NONE;
    int parts = 1;
    if (!read_key(r, &key))
        return false;
    while (take_dot(r)) {
        if (++parts > LIMIT_TOML_DEPTH)
            return fail(r, "a dotted key has too many parts");
        struct toml *next = toml_find(table, key);
        if (next && (next->kind != TOML_TABLE || !next->dotted || next->frozen))
            return fail_key(r, key, "is defined already and cannot be extended by a dotted key");
        if (!next) {
            next = table_add(r, table, key);
            next->dotted = true;
        }
        table = next;
        if (!read_key(r, &key))
            return false;
    }
    if (peek(r) != '=')
        return fail_key(r, key, "lacks its '='");
    if (toml_find(table, key))
        return fail_key(r, key, "is given twice");
    r->p++;
    skip_blanks(r);
    struct toml *value = read_value(r);
    if (!value)
        return false;
    value->key = key;
    child_add(table, value);
    return true;
}

static void freeze(struct toml *table)
{
    table->frozen = true;
    for (struct toml *t = table->children.first; t; t = t->next)
        if (t->kind == TOML_TABLE && !t->frozen)
            freeze(t);
}

static struct toml *read_inline_table(struct reader *r)
{
    struct toml *table = node_new(r, TOML_TABLE);
    r->p++;
    skip_blanks(r);
    if (peek(r) != '}') {
        for (;;) {
            skip_blanks(r);
            if (!read_pair(r, table))
                return NULL;
            skip_blanks(r);
            if (peek(r) != ',')
                break;
            r->p++;
        }
    }
    if (peek(r) != '}')
        return fail(r, "an inline table is not closed: ',' or '}' was expected on the same line"), NULL;
    r->p++;
    freeze(table);
    return table;
}

static struct toml *read_nested(struct reader *r)
{
    if (++r->depth > LIMIT_TOML_DEPTH)
        return fail(r, "values are nested too deeply"), NULL;
    struct toml *t = *r->p == '[' ? read_array(r) : read_inline_table(r);
    r->depth--;
    return t;
}

static struct toml *read_value(struct reader *r)
{
    int c = peek(r);
    if (c == '"' || c == '\'') {
        struct toml *t = node_new(r, TOML_STRING);
        return read_string(r, true, &t->text) ? t : NULL;
    }
    if (c == '[' || c == '{')
        return read_nested(r);
    if (looking_at(r, "true") || looking_at(r, "false"))
        return read_bool(r, c == 't');
    if (digits_at(r->p, r->end, 4) >= 0 && r->end - r->p > 4 && r->p[4] == '-')
        return read_date(r);
    if (digits_at(r->p, r->end, 2) >= 0 && r->end - r->p > 2 && r->p[2] == ':')
        return read_time(r);
    if (c >= 0 && (is_bare(c) || c == '+'))
        return read_number(r);
    fail(r, "a value was expected");
    return NULL;
}

/* Goes from table into its member key on the way to a header's last part; makes it when it is missing. */
static struct toml *header_step(struct reader *r, struct toml *table, struct str key)
{
    struct toml *next = toml_find(table, key);
    if (!next)
        return table_add(r, table, key);
    if (next->kind == TOML_ARRAY && next->elements)
        return next->children.last;
    if (next->kind != TOML_TABLE || next->frozen) {
        fail_key(r, key, "is defined already and is no table that can be extended");
        return NULL;
    }
    return next;
}

static struct toml *header_open(struct reader *r, struct toml *table, struct str key)
{
    struct toml *last = toml_find(table, key);
    if (!last)
        last = table_add(r, table, key);
    else if (last->kind != TOML_TABLE || last->header || last->dotted || last->frozen)
        return fail_key(r, key, "is defined already"), NULL;
    last->header = true;
    last->line = r->line;
    return last;
}

static struct toml *header_append(struct reader *r, struct toml *table, struct str key)
{
    struct toml *array = toml_find(table, key);
    if (!array) {
        array = node_new(r, TOML_ARRAY);
        array->key = key;
        array->elements = true;
        child_add(table, array);
    } else if (array->kind != TOML_ARRAY || !array->elements) {
        return fail_key(r, key, "is defined already and is no array of tables"), NULL;
    }
    struct toml *element = node_new(r, TOML_TABLE);
    element->header = true;
    child_add(array, element);
    return element;
}

/* "[a.b]" or "[[a.b]]": returns the table that the following lines belong to. */
static struct toml *read_header(struct reader *r, struct toml *root)
{
    bool append = looking_at(r, "[[");
    struct toml *table = root;
    struct str key = STR_NONE;
    int parts = 0;
    r->p += append ? 2 : 1;
    skip_blanks(r);
    for (;;) {
        if (++parts > LIMIT_TOML_DEPTH)
            return fail(r, "a header has too many parts"), NULL;
        if (!read_key(r, &key))
            return NULL;
        if (!take_dot(r))
            break;
        table = header_step(r, table, key);
        if (!table)
            return NULL;
    }
    if (!looking_at(r, append ? "]]" : "]"))
        return fail(r, append ? "']]' was expected" : "']' was expected"), NULL;
    r->p += append ? 2 : 1;
    return append ? header_append(r, table, key) : header_open(r, table, key);
}

static bool read_line(struct reader *r, struct toml *root, struct toml **current)
{
    skip_blanks(r);
    int c = peek(r);
    if (c == '[')
        *current = read_header(r, root);
    else if (c >= 0 && c != '#' && c != '\n' && c != '\r' && !read_pair(r, *current))
        return false;
    return *current && end_of_line(r);
}

struct toml *toml_read(struct str text, const char *name, struct arena *arena, struct err *err)
{
    struct reader r = {.p = text.p, .end = text.p + text.n, .line = 1, .name = name, .arena = arena, .err = err};
    if (text.n > LIMIT_CONFIG_BYTES)
        return fail(&r, "the file is larger than 1 MiB"), NULL;
    if (!utf8_valid(text.p, text.n))
        return fail(&r, "the file is not UTF-8"), NULL;
    if (looking_at(&r, "\xEF\xBB\xBF"))
        r.p += 3;
    struct toml *root = node_new(&r, TOML_TABLE), *current = root;
    root->header = true;
    while (r.p < r.end)
        if (!read_line(&r, root, &current))
            return NULL;
    return root;
}
