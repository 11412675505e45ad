#include "auth/lifetime.h"

static const struct unit {
    char letter;
    int64_t seconds;
} units[] = {{'y', 365 * 86400}, {'w', 7 * 86400}, {'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}};

#define UNITS (sizeof units / sizeof *units)

static size_t unit_of(char letter)
{
    size_t i = 0;
    while (i < UNITS && units[i].letter != letter)
        i++;
    return i;
}

/* Takes the digits at the front of *rest. */
static bool take_number(struct str *rest, int64_t *ret_value)
{
    size_t n = 0;
    uint64_t value;
    while (n < rest->n && rest->p[n] >= '0' && rest->p[n] <= '9')
        n++;
    if (!str_u64((struct str){rest->p, n}, LIFETIME_SECONDS_MAX, &value))
        return false;
    *ret_value = (int64_t)value;
    *rest = (struct str){rest->p + n, rest->n - n};
    return true;
}

bool lifetime_parse(struct str text, int64_t *ret_seconds)
{
    int64_t total = 0, number;
    size_t next = 0; /* the largest unit that may still come */
    bool bare = true;
    while (text.n) {
        if (!take_number(&text, &number))
            return false;
        size_t unit = text.n ? unit_of(*text.p) : UNITS - 1;
        if (unit >= UNITS || unit < next || (!text.n && !bare) || number > LIFETIME_SECONDS_MAX / units[unit].seconds)
            return false;
        total += number * units[unit].seconds;
        if (total > LIFETIME_SECONDS_MAX)
            return false;
        next = unit + 1;
        bare = false;
        if (text.n)
            text = (struct str){text.p + 1, text.n - 1};
    }
    *ret_seconds = total;
    return total > 0;
}
