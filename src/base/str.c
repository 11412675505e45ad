#include "base/str.h"

static char fold(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

bool str_ieq(struct str a, struct str b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (fold(a.p[i]) != fold(b.p[i]))
            return false;
    return true;
}

bool str_starts(struct str text, struct str prefix)
{
    return text.n >= prefix.n && (prefix.n == 0 || memcmp(text.p, prefix.p, prefix.n) == 0);
}

bool str_ends(struct str text, struct str suffix)
{
    return text.n >= suffix.n && (suffix.n == 0 || memcmp(text.p + text.n - suffix.n, suffix.p, suffix.n) == 0);
}

struct str str_trim(struct str text)
{
    while (text.n && (text.p[0] == ' ' || text.p[0] == '\t')) {
        text.p++;
        text.n--;
    }
    while (text.n && (text.p[text.n - 1] == ' ' || text.p[text.n - 1] == '\t'))
        text.n--;
    return text;
}

struct str str_cut(struct str *rest, char separator)
{
    struct str head = *rest;
    const char *at = rest->n ? memchr(rest->p, separator, rest->n) : NULL;
    if (!at) {
        *rest = STR_NONE;
        return head;
    }
    head.n = (size_t)(at - head.p);
    *rest = (struct str){at + 1, rest->n - head.n - 1};
    return head;
}

bool str_u64(struct str text, uint64_t max, uint64_t *ret_value)
{
    if (text.n == 0 || text.n > 20)
        return false;
    uint64_t value = 0;
    for (size_t i = 0; i < text.n; i++) {
        unsigned digit = (unsigned)(unsigned char)text.p[i] - '0';
        if (digit > 9 || value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    if (value > max)
        return false;
    *ret_value = value;
    return true;
}

unsigned str_distance(struct str a, struct str b, unsigned limit)
{
    unsigned row[65];
    if (a.n > 64 || b.n > 64)
        return limit + 1;
    for (unsigned j = 0; j <= b.n; j++)
        row[j] = j;
    for (unsigned i = 1; i <= a.n; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= b.n; j++) {
            unsigned replace = diagonal + (fold(a.p[i - 1]) != fold(b.p[j - 1]));
            unsigned best = row[j] + 1 < row[j - 1] + 1 ? row[j] + 1 : row[j - 1] + 1;
            diagonal = row[j];
            row[j] = replace < best ? replace : best;
        }
    }
    return row[b.n] > limit ? limit + 1 : row[b.n];
}

const char *str_nearest(struct str text, const char *const *names, size_t count)
{
    unsigned best = text.n < 6 ? 2 : (unsigned)(text.n > 36 ? 12 : text.n / 3);
    const char *nearest = NULL;
    for (size_t i = 0; i < count; i++) {
        struct str name = str_from(names[i]);
        unsigned distance = str_distance(text, name, best);
        if (distance > best && text.n >= 3 && name.n > text.n && str_ieq((struct str){name.p, text.n}, text))
            distance = best; /* the beginning of a longer name */
        if (distance < best || (distance == best && !nearest)) {
            best = distance;
            nearest = names[i];
        }
    }
    return nearest;
}
