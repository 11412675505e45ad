/* What the files users*.c share. */
#ifndef AUTH_USERS_PRIVATE_H
#define AUTH_USERS_PRIVATE_H

#include "auth/guess.h"
#include "auth/password.h"
#include "auth/users.h"
#include "base/map.h"

struct entry {
    struct user user; /* first: what callers see */
    struct list link; /* in users->all */
    char *phc;
};

struct users {
    struct loop *loop;
    struct store *store;
    struct passwords *passwords;
    struct guesses *guesses; /* by name, known or not */
    struct map by_id, by_name;
    struct list all, dead, changes;
    struct loop_soon bury;
    void (*on_lost)(void *arg, const char *id, bool gone);
    void *on_lost_arg;
};

struct entry *users_entry_new(struct str id, struct str name, enum role role); /* in no list */
void users_entry_free(struct entry *e);
void users_add(struct users *users, struct entry *e);
void users_bury(struct users *users, struct entry *e); /* freed before the loop waits */
void users_forget_changes(struct users *users);

#endif
