#include "auth/users_private.h"

#include "base/clock.h"
#include "base/mem.h"
#include "obs/log.h"

/* ---- entries ---- */

void users_entry_free(struct entry *e)
{
    if (!e)
        return;
    list_remove(&e->link);
    mem_free((char *)e->user.id);
    mem_free((char *)e->user.name);
    mem_free(e->phc);
    mem_free(e);
}

struct entry *users_entry_new(struct str id, struct str name, enum role role)
{
    struct entry *e = mem_calloc(1, sizeof *e);
    list_init(&e->link);
    e->user = (struct user){.id = mem_strndup(id.p, id.n), .name = mem_strndup(name.p, name.n), .role = role};
    return e;
}

void users_add(struct users *users, struct entry *e)
{
    list_push(&users->all, &e->link);
    map_put(&users->by_id, str_from(e->user.id), e);
    map_put(&users->by_name, str_from(e->user.name), e);
}

static void on_bury(struct loop_soon *soon)
{
    struct users *users = container_of(soon, struct users, bury);
    list_each (e, &users->dead, struct entry, link) {
        users_entry_free(e);
    }
}

void users_bury(struct users *users, struct entry *e)
{
    map_remove(&users->by_id, str_from(e->user.id));
    map_remove(&users->by_name, str_from(e->user.name));
    list_remove(&e->link);
    list_push(&users->dead, &e->link);
    loop_soon(users->loop, &users->bury, on_bury);
}

/* ---- the start ---- */

enum { ID, NAME, ROLE, HASH, DISABLED, VERSION, CREATED, UPDATED, LOGIN, COLUMNS };

static void read_row(struct users *users, const struct store_value *row)
{
    enum role role;
    if (!role_parse(row[ROLE].text, &role)) {
        log_warn("a stored user has a role that nobody knows; it is left out", "id=" STR_FMT, STR_ARG(row[ID].text));
        return;
    }
    struct entry *e = users_entry_new(row[ID].text, row[NAME].text, role);
    e->phc = mem_strndup(row[HASH].text.p, row[HASH].text.n);
    e->user.disabled = row[DISABLED].integer != 0;
    e->user.token_version = row[VERSION].integer;
    e->user.created_at = row[CREATED].integer;
    e->user.updated_at = row[UPDATED].integer;
    e->user.last_login_at = row[LOGIN].integer;
    users_add(users, e);
}

static bool load(struct users *users, struct err *err)
{
    static const struct store_statement read = {
        .sql = "SELECT id, username, role, password_hash, disabled, token_version, created_at, updated_at,"
               " last_login_at FROM users ORDER BY created_at, id"};
    struct arena arena;
    struct store_result rows;
    arena_init(&arena);
    bool good = store_transact_now(users->store, &read, 1, &arena, &rows, err);
    for (size_t i = 0; good && i < rows.rows; i++)
        read_row(users, rows.values + i * COLUMNS);
    arena_dispose(&arena);
    return good;
}

struct users *users_new(struct loop *loop, struct store *store, struct err *err)
{
    static const struct guess_rules rules = {.free = LIMIT_LOGIN_FAILURES,
                                             .window_ms = LIMIT_LOGIN_MEMORY_MS,
                                             .wait_ms = LIMIT_LOGIN_WAIT_MS,
                                             .wait_max_ms = LIMIT_LOGIN_WAIT_MAX};
    struct users *users = mem_calloc(1, sizeof *users);
    users->loop = loop;
    users->store = store;
    users->passwords = passwords_new(loop);
    users->guesses = guesses_new(&rules);
    map_init(&users->by_id);
    map_init(&users->by_name);
    list_init(&users->all);
    list_init(&users->dead);
    list_init(&users->changes);
    if (load(users, err))
        return users;
    users_free(users);
    return NULL;
}

void users_free(struct users *users)
{
    if (!users)
        return;
    passwords_free(users->passwords);
    users_forget_changes(users);
    loop_soon_cancel(&users->bury);
    list_each (e, &users->all, struct entry, link) {
        users_entry_free(e);
    }
    list_each (e, &users->dead, struct entry, link) {
        users_entry_free(e);
    }
    guesses_free(users->guesses);
    map_release(&users->by_id);
    map_release(&users->by_name);
    mem_free(users);
}

void users_on_lost(struct users *users, void (*on_lost)(void *arg, const char *id, bool gone), void *arg)
{
    users->on_lost = on_lost;
    users->on_lost_arg = arg;
}

/* ---- looking ---- */

const struct user *users_get(const struct users *users, struct str id)
{
    const struct entry *e = map_get(&users->by_id, id);
    return e ? &e->user : NULL;
}

const struct user *users_find(const struct users *users, struct str name)
{
    const struct entry *e = map_get(&users->by_name, name);
    return e ? &e->user : NULL;
}

bool users_have_admin(const struct users *users)
{
    list_each (e, &users->all, struct entry, link) {
        if (e->user.role == ROLE_ADMIN && !e->user.disabled)
            return true;
    }
    return false;
}

size_t users_count(const struct users *users)
{
    return users->by_id.count;
}

const struct user *const *users_list(struct users *users, struct arena *arena)
{
    const struct user **all = arena_alloc(arena, (users->by_id.count + 1) * sizeof *all);
    size_t count = 0;
    list_each (e, &users->all, struct entry, link) {
        all[count++] = &e->user;
    }
    all[count] = NULL;
    return all;
}

/* ---- logging in ---- */

struct login {
    struct users *users;
    char *name;
    struct str id; /* STR_NONE: nobody */
    users_on_done *on_done;
    void *arg;
};

static void note_login(struct users *users, struct entry *e)
{
    e->user.last_login_at = clock_unix();
    const struct store_statement write = {
        .sql = "UPDATE users SET last_login_at = $1 WHERE id = $2",
        .params = {store_int(e->user.last_login_at), store_text(str_from(e->user.id))}};
    store_transact(users->store, &write, 1, NULL, NULL);
}

static void on_checked(void *arg, bool right)
{
    const struct login *l = arg;
    struct err err;
    struct entry *e = l->id.p ? map_get(&l->users->by_id, l->id) : NULL;
    if (!right || !e || e->user.disabled) {
        guesses_failed(l->users->guesses, str_from(l->name), clock_ms());
        err_set(&err, ERR_AUTHENTICATION_FAILED, "Invalid user name or password");
        l->on_done(l->arg, NULL, &err);
        return;
    }
    guesses_forget(l->users->guesses, str_from(l->name));
    note_login(l->users, e);
    l->on_done(l->arg, &e->user, NULL);
}

void users_login(struct users *users, struct str name, struct str password, struct arena *arena, users_on_done *on_done,
                 void *arg)
{
    struct err err;
    uint64_t wait = guesses_wait_ms(users->guesses, name, clock_ms());
    const struct entry *e = map_get(&users->by_name, name);
    struct login *l = arena_calloc(arena, sizeof *l);
    *l = (struct login){.users = users,
                        .name = arena_strndup(arena, name.p, name.n),
                        .id = e ? arena_str(arena, str_from(e->user.id)) : STR_NONE,
                        .on_done = on_done,
                        .arg = arg};
    if (wait) {
        err_set(&err, ERR_RATE_LIMIT_EXCEEDED, "Too many failed logins with this name; wait %llu s.",
                (unsigned long long)(wait + 999) / 1000);
        err.retry_after_ms = (unsigned)wait;
        on_done(arg, NULL, &err);
    } else if (!passwords_check(users->passwords, password, e ? e->phc : NULL, arena, on_checked, l)) {
        err_set(&err, ERR_SERVER_OVERLOADED, "Too many passwords are being checked; try again shortly.");
        on_done(arg, NULL, &err);
    }
}
