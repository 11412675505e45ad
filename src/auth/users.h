/* People and services with a name and a password. Memory is the truth for reading; every change is on disk before it
 * counts here and its caller is told. Loop thread only. */
#ifndef AUTH_USERS_H
#define AUTH_USERS_H

#include "auth/permission.h"
#include "base/arena.h"
#include "base/err.h"
#include "store/store.h"

struct user {
    const char *id; /* "user_..." */
    const char *name;
    enum role role;
    bool disabled;
    int64_t token_version;                         /* of its tokens that count */
    int64_t created_at, updated_at, last_login_at; /* unix seconds; 0: never */
};

struct users;

#define USER_ID_PREFIX "user_"
#define PASSWORD_LEAST 12 /* bytes */

/* Reads the users, blocking: for the start of the program. NULL and *err. */
struct users *users_new(struct loop *loop, struct store *store, struct err *err);
void users_free(struct users *users);

/* on_lost(arg, id) runs after the rights of a user shrank; gone: there is no such user any more. For one listener. */
void users_on_lost(struct users *users, void (*on_lost)(void *arg, const char *id, bool gone), void *arg);

/* Pointers are valid until the loop's next turn. */
const struct user *users_get(const struct users *users, struct str id);
const struct user *users_find(const struct users *users, struct str name);
const struct user *const *users_list(struct users *users, struct arena *arena); /* oldest first, NULL-terminated */
bool users_have_admin(const struct users *users);                               /* one who may log in */
size_t users_count(const struct users *users);

typedef void users_on_done(void *arg, const struct user *user, const struct err *err); /* user NULL: err says why */

/* name: 1 to LIMIT_USER_NAME of [A-Za-z0-9._@-]; password: PASSWORD_LEAST to LIMIT_PASSWORD bytes; else
 * ERR_INVALID_PARAMETERS at once. ERR_CONFLICT: the name is taken, or there are LIMIT_USERS. ERR_SERVER_OVERLOADED: too
 * many passwords are being computed. on_done is not called when the arena dies first. */
void users_create(struct users *users, struct str name, struct str password, enum role role, struct arena *arena,
                  users_on_done *on_done, void *arg);

struct user_patch {
    bool has_role, has_disabled, has_password;
    enum role role;
    bool disabled;
    struct str password; /* also ends the tokens given out so far */
};

/* As users_create; ERR_NOT_FOUND; ERR_CONFLICT: no admin who may log in would be left. */
void users_update(struct users *users, struct str id, const struct user_patch *patch, struct arena *arena,
                  users_on_done *on_done, void *arg);

/* on_done gets the user that is gone, valid during the call. Errors as users_update. */
void users_delete(struct users *users, struct str id, struct arena *arena, users_on_done *on_done, void *arg);

/* Whom name and password belong to. Takes as long for a name that does not exist. ERR_AUTHENTICATION_FAILED: they do
 * not fit; ERR_RATE_LIMIT_EXCEEDED: the name failed too often and has to wait (known or not). */
void users_login(struct users *users, struct str name, struct str password, struct arena *arena, users_on_done *on_done,
                 void *arg);

/* Stores the first user, an admin of that name; blocking, at the start. */
bool users_create_now(struct users *users, struct str name, struct str password, struct err *err);

#endif
