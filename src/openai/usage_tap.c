#include "openai/usage_tap.h"

#include <stdlib.h>
#include <string.h>

#include "base/json_scan.h"
#include "base/limits.h"

static const char needle[] = USAGE_TAP_NEEDLE;
#define NEEDLE_LENGTH (sizeof needle - 1)

void usage_tap_init(struct usage_tap *tap)
{
    *tap = (struct usage_tap){0};
    buf_init(&tap->text, LIMIT_USAGE_BYTES);
}

void usage_tap_release(struct usage_tap *tap)
{
    buf_release(&tap->text);
}

/* Takes the object's bytes from the piece's beginning; returns how many were its. */
static size_t take(struct usage_tap *tap, struct str piece)
{
    size_t n = 0;
    while (n < piece.n && tap->inside) {
        char c = piece.p[n];
        if (tap->depth == 0 && c != '{' && c != ' ') { /* null, as in the chunks before the last */
            tap->inside = false;
            break;
        }
        n++;
        if (tap->in_string) {
            tap->in_string = c != '"' || tap->escaped;
            tap->escaped = c == '\\' && !tap->escaped;
        } else if (c == '"') {
            tap->in_string = true;
        } else if (c == '{') {
            if (tap->depth++ == 0)
                buf_clear(&tap->text);
        } else if (c == '}') {
            tap->inside = --tap->depth > 0;
        }
        if (tap->depth > 0 || c == '}')
            buf_putc(&tap->text, c);
    }
    return n;
}

static void begin(struct usage_tap *tap)
{
    tap->inside = true;
    tap->in_string = tap->escaped = false;
    tap->depth = 0;
}

/* The name may begin in the piece before: whether it does, and how many bytes of this one belong to it. */
static size_t across(const struct usage_tap *tap, struct str piece)
{
    for (size_t before = tap->last_count; before > 0; before--) {
        size_t after = NEEDLE_LENGTH - before;
        if (after <= piece.n && memcmp(tap->last + tap->last_count - before, needle, before) == 0 &&
            memcmp(piece.p, &needle[before], after) == 0)
            return after;
    }
    return 0;
}

static void remember_end(struct usage_tap *tap, struct str piece)
{
    char joined[2 * sizeof tap->last];
    size_t old = tap->last_count, fresh = piece.n < sizeof tap->last ? piece.n : sizeof tap->last;
    memcpy(joined, tap->last, old);
    memcpy(joined + old, piece.p + piece.n - fresh, fresh);
    size_t all = old + fresh, keep = all < sizeof tap->last ? all : sizeof tap->last;
    memcpy(tap->last, joined + all - keep, keep);
    tap->last_count = (unsigned char)keep;
}

void usage_tap_feed(struct usage_tap *tap, struct str piece)
{
    struct str rest = piece;
    if (rest.n == 0)
        return;
    size_t skip = tap->inside ? 0 : across(tap, rest);
    if (skip)
        begin(tap);
    rest = (struct str){rest.p + skip, rest.n - skip};
    for (;;) {
        if (tap->inside) {
            size_t taken = take(tap, rest);
            rest = (struct str){rest.p + taken, rest.n - taken};
        }
        const char *found = rest.n ? memmem(rest.p, rest.n, needle, NEEDLE_LENGTH) : NULL;
        if (tap->inside || !found)
            break;
        size_t at = (size_t)(found - rest.p) + NEEDLE_LENGTH;
        rest = (struct str){rest.p + at, rest.n - at};
        begin(tap);
    }
    remember_end(tap, piece);
}

static uint64_t whole(struct str raw)
{
    uint64_t value = 0;
    return raw.p && str_u64(raw, UINT32_MAX, &value) ? value : 0;
}

struct usage_counts usage_tap_read(const struct usage_tap *tap)
{
    struct usage_counts counts = {.queue_ms = -1};
    struct json_scan members[] = {
        {.key = "prompt_tokens"}, {.key = "completion_tokens"}, {.key = "prompt_tokens_details"}, {.key = "queue_ms"}};
    struct json_scan details[] = {{.key = "cached_tokens"}};
    struct err err;
    if (tap->inside || tap->text.len == 0 || !buf_ok(&tap->text) || !json_scan(buf_view(&tap->text), members, 4, &err))
        return counts;
    counts.known = members[0].raw.p || members[1].raw.p;
    counts.prompt_tokens = whole(members[0].raw);
    counts.completion_tokens = whole(members[1].raw);
    if (members[2].raw.p && *members[2].raw.p == '{' && json_scan(members[2].raw, details, 1, &err))
        counts.cached_tokens = whole(details[0].raw);
    if (members[3].raw.p) /* a number stands before the object's '}': strtod stops there */
        counts.queue_ms = strtod(members[3].raw.p, NULL);
    return counts;
}
