/* stdin: TOML; stdout: the tagged JSON that the public toml-test suite compares. Exit 1 when the document is refused.
 */
#include <math.h>

#include "base/buf.h"
#include "base/json_write.h"
#include "conf/toml.h"

/* Keys may hold any character, NUL too, so this one document is written without the writer's C-string keys. */
static void put(struct buf *out, const struct toml *t);

static void put_tagged(struct buf *out, const char *type, struct str value)
{
    buf_printf(out, "{\"type\":\"%s\",\"value\":", type);
    json_escape(out, value);
    buf_putc(out, '}');
}

static void put_children(struct buf *out, const struct toml *t)
{
    buf_putc(out, t->kind == TOML_ARRAY ? '[' : '{');
    for (const struct toml *child = t->children.first; child; child = child->next) {
        if (child != t->children.first)
            buf_putc(out, ',');
        if (t->kind == TOML_TABLE) {
            json_escape(out, child->key);
            buf_putc(out, ':');
        }
        put(out, child);
    }
    buf_putc(out, t->kind == TOML_ARRAY ? ']' : '}');
}

static void put(struct buf *out, const struct toml *t)
{
    static const char *const types[] = {"string",   "integer",        "float",      "bool",
                                        "datetime", "datetime-local", "date-local", "time-local"};
    char text[64];
    switch (t->kind) {
    case TOML_INTEGER: snprintf(text, sizeof text, "%lld", (long long)t->integer); break;
    case TOML_FLOAT:
        snprintf(text, sizeof text,
                 isnan(t->real)   ? "nan"
                 : isinf(t->real) ? (t->real > 0 ? "inf" : "-inf")
                                  : "%.17g",
                 t->real);
        break;
    case TOML_BOOL: snprintf(text, sizeof text, "%s", t->boolean ? "true" : "false"); break;
    case TOML_ARRAY:
    case TOML_TABLE: put_children(out, t); return;
    default: put_tagged(out, types[t->kind], t->text); return;
    }
    put_tagged(out, types[t->kind], str_from(text));
}

int main(void)
{
    struct buf in, out;
    struct arena arena;
    struct err err;
    buf_init(&in, 2 * LIMIT_CONFIG_BYTES);
    buf_init(&out, LIMIT_JSON_TEXT);
    arena_init(&arena);
    for (;;) {
        char *room = buf_reserve(&in, 65536);
        size_t n = room ? fread(room, 1, 65536, stdin) : 0;
        if (!n)
            break;
        buf_commit(&in, n);
    }
    struct toml *root = toml_read(buf_view(&in), "stdin", &arena, &err);
    int status = 1;
    if (root) {
        put(&out, root);
        status = buf_ok(&out) && fwrite(out.data, 1, out.len, stdout) == out.len ? 0 : 2;
    } else {
        fprintf(stderr, "%s\n", err.message);
    }
    arena_dispose(&arena);
    buf_release(&in);
    buf_release(&out);
    return status;
}
