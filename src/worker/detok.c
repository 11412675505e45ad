/* Bytes wait in `held` until they can no longer become part of a stop string and form whole characters. A stop is
 * looked for on the raw bytes, only where a new token could have completed one; what may be its beginning (the longest
 * suffix of held that a stop string starts with) stays back.
 *
 * Tokens are counted out with their text: `ends` remembers where each one ends, and a token is out when its last byte
 * is. A token that a stop cuts in two counts as out with its first half, one that lies wholly behind the cut never. */
#include "worker/detok.h"

#include <assert.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/utf8.h"

#define PIECE_GUESS 64

void detok_init(struct detok *detok, const struct engine_ops *ops, const struct engine *engine, bool special,
                const engine_token *preserved, size_t preserved_count, const struct str *stops, size_t stop_count)
{
    *detok = (struct detok){.ops = ops,
                            .engine = engine,
                            .special = special,
                            .preserved = preserved,
                            .preserved_count = preserved_count,
                            .stops = stops,
                            .stop_count = stop_count,
                            .stopped = -1};
    for (size_t i = 0; i < stop_count; i++)
        if (stops[i].n > detok->stop_longest)
            detok->stop_longest = stops[i].n;
    buf_init(&detok->held, LIMIT_HELD_BYTES);
}

void detok_release(struct detok *detok)
{
    buf_release(&detok->held);
    mem_free(detok->ends);
    detok->ends = NULL;
}

static bool is_rendered(const struct detok *detok, engine_token token)
{
    bool rendered = detok->special;
    for (size_t i = 0; i < detok->preserved_count && !rendered; i++)
        rendered = detok->preserved[i] == token;
    return rendered;
}

static void append_piece(struct detok *detok, engine_token token)
{
    bool special = is_rendered(detok, token);
    int room = PIECE_GUESS;
    for (int attempt = 0; attempt < 2; attempt++) {
        char *out = buf_reserve(&detok->held, (size_t)room);
        if (!out)
            return;
        int length = detok->ops->piece(detok->engine, token, special, out, room);
        if (length <= room) {
            buf_commit(&detok->held, length > 0 ? (size_t)length : 0);
            return;
        }
        room = length;
    }
}

static void remember_end(struct detok *detok)
{
    if (detok->end_count == detok->end_capacity) {
        unsigned capacity = detok->end_capacity ? 2 * detok->end_capacity : 32;
        uint64_t *ends = mem_alloc(capacity * sizeof *ends);
        for (unsigned i = 0; i < detok->end_count; i++)
            ends[i] = detok->ends[(detok->end_first + i) % detok->end_capacity];
        mem_free(detok->ends);
        detok->ends = ends;
        detok->end_capacity = capacity;
        detok->end_first = 0;
    }
    detok->ends[(detok->end_first + detok->end_count++) % detok->end_capacity] = detok->given + detok->held.len;
}

/* The stop string that begins first in held; among those, the first in the list. */
static bool find_stop(struct detok *detok)
{
    size_t earliest = SIZE_MAX;
    for (size_t i = 0; i < detok->stop_count; i++) {
        struct str stop = detok->stops[i];
        if (stop.n == 0 || detok->held.len < detok->searched + stop.n)
            continue;
        const char *from = detok->held.data + detok->searched;
        const char *hit = memmem(from, detok->held.len - detok->searched, stop.p, stop.n);
        size_t at = hit ? (size_t)(hit - detok->held.data) : SIZE_MAX;
        if (at < earliest) {
            earliest = at;
            detok->stopped = (int)i;
        }
    }
    if (earliest == SIZE_MAX)
        return false;
    detok->held.len = earliest;
    detok->held.data[earliest] = '\0';
    return true;
}

/* Bytes at the end of held with which a stop string could begin. */
static size_t stop_beginning(const struct detok *detok)
{
    size_t longest = 0;
    for (size_t i = 0; i < detok->stop_count; i++) {
        struct str stop = detok->stops[i];
        size_t n = stop.n ? stop.n - 1 : 0;
        for (n = n < detok->held.len ? n : detok->held.len; n > longest; n--)
            if (memcmp(detok->held.data + detok->held.len - n, stop.p, n) == 0)
                longest = n;
    }
    return longest;
}

bool detok_push(struct detok *detok, engine_token token)
{
    assert(detok->stopped < 0);
    append_piece(detok, token);
    remember_end(detok);
    if (detok->stop_count == 0)
        return false;
    if (find_stop(detok))
        return true;
    detok->searched = detok->held.len >= detok->stop_longest ? detok->held.len - detok->stop_longest + 1 : 0;
    return false;
}

static void append_valid(struct buf *out, const char *text, size_t n)
{
    if (utf8_valid(text, n)) {
        buf_append(out, text, n);
        return;
    }
    for (size_t at = 0; at < n;) {
        unsigned codepoint;
        size_t length = utf8_decode(text + at, n - at, &codepoint);
        if (length)
            buf_append(out, text + at, length);
        else
            buf_puts(out, "\xef\xbf\xbd");
        at += length ? length : 1;
    }
}

/* Counts the tokens that are out now that `given` bytes are. cut: nothing more will come out. */
static unsigned count_out(struct detok *detok, bool cut)
{
    unsigned count = 0;
    while (detok->end_count > 0) {
        uint64_t end = detok->ends[detok->end_first];
        if (end > detok->given && !(cut && detok->out_end < detok->given))
            break;
        detok->out_end = end;
        detok->end_first = (detok->end_first + 1) % detok->end_capacity;
        detok->end_count--;
        count++;
    }
    return count;
}

unsigned detok_take(struct detok *detok, bool final, struct buf *out)
{
    size_t n = detok->held.len;
    bool last = final || detok->stopped >= 0;
    if (!last) {
        n -= stop_beginning(detok);
        n = utf8_complete(detok->held.data ? detok->held.data : "", n);
    }
    if (n > 0) {
        append_valid(out, detok->held.data, n);
        buf_consume(&detok->held, n);
        detok->given += n;
        detok->searched -= detok->searched < n ? detok->searched : n;
    }
    return count_out(detok, detok->stopped >= 0);
}
