/* What callers may do, as bits, and the roles of users as sets of them. Pure; any thread. */
#ifndef AUTH_PERMISSION_H
#define AUTH_PERMISSION_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

enum auth_scope {
    AUTH_NONE = 0,
#define PERMISSION(name, bit, wire, text) AUTH_##name = 1 << (bit),
#define ALIAS(wire, bits)
#include "auth/permission.def"
#undef PERMISSION
#undef ALIAS
    AUTH_ANY = 1 << 15, /* what every valid credential has */
    AUTH_ALL = 0
#define PERMISSION(name, bit, wire, text) | 1 << (bit)
#define ALIAS(wire, bits)
#include "auth/permission.def"
#undef PERMISSION
#undef ALIAS
};

enum role { ROLE_ADMIN, ROLE_USER, ROLE_GUEST, ROLE_SERVICE, ROLE_COUNT };

/* What bits stand for once everything that they imply is added, AUTH_ANY too. */
unsigned permission_effective(unsigned bits);

/* Whether who has these bits (as given, not yet effective) may do all that needed asks for. */
bool permission_allows(unsigned bits, unsigned needed);

/* The bits of one name or alias, "*" for all; 0 when there is no such permission. Case counts. */
unsigned permission_parse(struct str name);

/* Walks the names of bits: start with *at = 0; NULL at the end. All bits are the one name "*". */
const char *permission_next(unsigned bits, size_t *at);

/* Writes the names with blanks between them, as the store keeps them. Returns out. */
#define PERMISSIONS_TEXT_SIZE 128
char *permission_text(unsigned bits, char out[PERMISSIONS_TEXT_SIZE]);

unsigned role_permissions(enum role role);
const char *role_name(enum role role);
bool role_parse(struct str name, enum role *ret_role);

/* Whether text fits a pattern whose '*' stand for any bytes, none too. Time: the product of their lengths at most. */
bool pattern_matches(struct str pattern, struct str text);

#endif
