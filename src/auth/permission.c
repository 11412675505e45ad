#include "auth/permission.h"

#include <stdio.h>

static const struct row {
    const char *name;
    unsigned bits;
} permissions[] =
    {
#define PERMISSION(name, bit, wire, text) {wire, AUTH_##name},
#define ALIAS(wire, bits)
#include "auth/permission.def"
#undef PERMISSION
#undef ALIAS
},
  aliases[] = {
#define PERMISSION(name, bit, wire, text)
#define ALIAS(wire, bits) {wire, bits},
#include "auth/permission.def"
#undef PERMISSION
#undef ALIAS
};

#define PERMISSIONS (sizeof permissions / sizeof *permissions)

static const struct row roles[ROLE_COUNT] = {
    [ROLE_ADMIN] = {"admin", AUTH_ALL},
    [ROLE_USER] = {"user", AUTH_INFERENCE | AUTH_MODELS_READ | AUTH_METRICS | AUTH_BATCH},
    [ROLE_GUEST] = {"guest", AUTH_INFERENCE | AUTH_MODELS_READ},
    [ROLE_SERVICE] = {"service", AUTH_INFERENCE | AUTH_MODELS_READ | AUTH_METRICS | AUTH_BATCH | AUTH_MODEL_MANAGEMENT},
};

unsigned permission_effective(unsigned bits)
{
    if (bits & AUTH_MANAGEMENT)
        bits |= AUTH_ALL;
    if (bits & AUTH_INFERENCE)
        bits |= AUTH_MODELS_READ;
    return bits | AUTH_ANY;
}

bool permission_allows(unsigned bits, unsigned needed)
{
    return (permission_effective(bits) & needed) == needed;
}

static unsigned find(const struct row *rows, size_t count, struct str name)
{
    for (size_t i = 0; i < count; i++)
        if (str_eq(str_from(rows[i].name), name))
            return rows[i].bits;
    return 0;
}

unsigned permission_parse(struct str name)
{
    if (str_eq(name, STR("*")))
        return AUTH_ALL;
    unsigned bits = find(permissions, PERMISSIONS, name);
    return bits ? bits : find(aliases, sizeof aliases / sizeof *aliases, name);
}

const char *permission_next(unsigned bits, size_t *at)
{
    if ((bits & AUTH_ALL) == AUTH_ALL)
        return (*at)++ == 0 ? "*" : NULL;
    while (*at < PERMISSIONS) {
        const struct row *row = &permissions[(*at)++];
        if (bits & row->bits)
            return row->name;
    }
    return NULL;
}

char *permission_text(unsigned bits, char out[PERMISSIONS_TEXT_SIZE])
{
    size_t at = 0, n = 0;
    out[0] = '\0';
    for (const char *name; n < PERMISSIONS_TEXT_SIZE && (name = permission_next(bits, &at));)
        n += (size_t)snprintf(out + n, PERMISSIONS_TEXT_SIZE - n, "%s%s", n ? " " : "", name);
    return out;
}

unsigned role_permissions(enum role role)
{
    return roles[role].bits;
}

const char *role_name(enum role role)
{
    return roles[role].name;
}

bool role_parse(struct str name, enum role *ret_role)
{
    for (int i = 0; i < ROLE_COUNT; i++)
        if (str_eq(str_from(roles[i].name), name)) {
            *ret_role = (enum role)i;
            return true;
        }
    return false;
}

/* After a mismatch only the last '*' has to take one byte more: an earlier one could not do better. */
bool pattern_matches(struct str pattern, struct str text)
{
    size_t p = 0, t = 0, star = SIZE_MAX, taken = 0;
    while (t < text.n) {
        if (p < pattern.n && pattern.p[p] == '*') {
            star = p++;
            taken = t;
        } else if (p < pattern.n && pattern.p[p] == text.p[t]) {
            p++;
            t++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            t = ++taken;
        } else {
            return false;
        }
    }
    while (p < pattern.n && pattern.p[p] == '*')
        p++;
    return p == pattern.n;
}
