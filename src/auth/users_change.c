/* A change is computed, stored, and then applied: who asked is told last. It carries only what it changes, so that two
 * on their way do not undo each other; that an admin is left is checked by the statement itself. */
#include "auth/users_private.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/rand.h"

#define ID_RANDOM 16

enum change_kind { CHANGE_CREATE, CHANGE_UPDATE, CHANGE_DELETE };

struct change {
    struct list link;
    enum change_kind kind;
    struct users *users;
    struct store_call *call;         /* NULL: the password is being computed */
    struct arena_disposer *disposer; /* NULL: nobody waits */
    users_on_done *on_done;
    void *arg;
    struct entry *entry; /* creating: not in users yet */
    char *id;
    struct user_patch patch; /* password: only whether there is one */
    char *phc;
};

static void change_free(struct change *c)
{
    list_remove(&c->link);
    arena_forget(c->disposer);
    users_entry_free(c->entry);
    mem_free(c->id);
    mem_free(c->phc);
    mem_free(c);
}

void users_forget_changes(struct users *users)
{
    list_each (c, &users->changes, struct change, link) {
        if (c->call)
            store_call_forget(c->call);
        change_free(c);
    }
}

static struct entry *make_entry(struct str name, enum role role)
{
    char id[sizeof USER_ID_PREFIX + ID_RANDOM] = USER_ID_PREFIX;
    rand_text(id + sizeof USER_ID_PREFIX - 1, ID_RANDOM);
    struct entry *e = users_entry_new(str_from(id), name, role);
    e->user.created_at = e->user.updated_at = clock_unix();
    return e;
}

static void tell(struct change *c, const struct user *user, const struct err *err)
{
    if (!c->disposer)
        return;
    arena_forget(c->disposer);
    c->disposer = NULL;
    c->on_done(c->arg, user, err);
}

static void lost(struct users *users, const char *id, bool gone)
{
    if (users->on_lost)
        users->on_lost(users->on_lost_arg, id, gone);
}

static const struct user *apply_create(struct change *c)
{
    struct entry *e = c->entry;
    c->entry = NULL;
    users_add(c->users, e);
    return &e->user;
}

static const struct user *apply_update(struct change *c, struct entry *e)
{
    if (c->patch.has_role)
        e->user.role = c->patch.role;
    if (c->patch.has_disabled)
        e->user.disabled = c->patch.disabled;
    if (c->phc) {
        mem_free(e->phc);
        e->phc = c->phc;
        c->phc = NULL;
        e->user.token_version++;
    }
    e->user.updated_at = clock_unix();
    lost(c->users, e->user.id, false);
    return &e->user;
}

static const struct user *apply_delete(struct change *c, struct entry *e)
{
    users_bury(c->users, e);
    lost(c->users, e->user.id, true);
    return &e->user;
}

static const struct user *apply(struct change *c)
{
    struct entry *e = c->id ? map_get(&c->users->by_id, str_from(c->id)) : NULL;
    if (c->kind == CHANGE_CREATE)
        return apply_create(c);
    if (!e)
        return NULL;
    return c->kind == CHANGE_UPDATE ? apply_update(c, e) : apply_delete(c, e);
}

/* A statement that found no row, though the user is here, was kept from taking the last admin. */
static void explain(const struct change *c, bool stored, struct err *err)
{
    if (c->entry && c->kind == CHANGE_CREATE && err->code == ERR_CONFLICT)
        err_set_param(err, ERR_CONFLICT, "username", "There is a user '%s' already.", c->entry->user.name);
    else if (stored && users_get(c->users, str_from(c->id)))
        err_set(err, ERR_CONFLICT, "No admin who may log in would be left: make another one first.");
    else if (stored)
        err_set(err, ERR_NOT_FOUND, "The user was deleted meanwhile.");
}

static void on_stored(void *arg, const struct store_result *results, const struct err *err)
{
    struct change *c = arg;
    struct err problem = err ? *err : ERR_INIT;
    const struct user *user = results && results[0].changed == 1 ? apply(c) : NULL;
    if (!user)
        explain(c, results != NULL, &problem);
    tell(c, user, user ? NULL : &problem);
    change_free(c);
}

static void forget_caller(void *arg)
{
    struct change *c = arg;
    c->disposer = NULL;
    if (!c->call)
        change_free(c); /* nothing is stored yet, and nobody was promised anything */
}

static struct change *change_new(struct users *users, enum change_kind kind, struct arena *arena,
                                 users_on_done *on_done, void *arg)
{
    struct change *c = mem_calloc(1, sizeof *c);
    c->kind = kind;
    c->users = users;
    c->on_done = on_done;
    c->arg = arg;
    c->disposer = arena_on_dispose(arena, forget_caller, c);
    list_push(&users->changes, &c->link);
    return c;
}

static struct store_statement create_statement(const struct entry *e)
{
    return (struct store_statement){
        .sql = "INSERT INTO users (id, username, role, password_hash, disabled, token_version, created_at, updated_at)"
               " VALUES ($1, $2, $3, $4, 0, 0, $5, $5)",
        .params = {store_text(str_from(e->user.id)), store_text(str_from(e->user.name)),
                   store_text(str_from(role_name(e->user.role))), store_text(str_from(e->phc)),
                   store_int(e->user.created_at)}};
}

#define ADMIN_LEFT                                                                                                     \
    " (role <> 'admin' OR disabled = 1 OR EXISTS"                                                                      \
    " (SELECT 1 FROM users AS other WHERE other.role = 'admin' AND other.disabled = 0 AND other.id <> users.id))"

static struct store_statement update_statement(const struct change *c)
{
    const struct user_patch *p = &c->patch;
    bool demotes = (p->has_role && p->role != ROLE_ADMIN) || (p->has_disabled && p->disabled);
    struct store_statement s = {
        .sql = demotes ? "UPDATE users SET role = COALESCE($1, role), disabled = COALESCE($2, disabled),"
                         " password_hash = COALESCE($3, password_hash), token_version = token_version + $4,"
                         " updated_at = $5 WHERE id = $6 AND" ADMIN_LEFT
                       : "UPDATE users SET role = COALESCE($1, role), disabled = COALESCE($2, disabled),"
                         " password_hash = COALESCE($3, password_hash), token_version = token_version + $4,"
                         " updated_at = $5 WHERE id = $6",
        .params = {[3] = store_int(c->phc != NULL), store_int(clock_unix()), store_text(str_from(c->id))}};
    if (p->has_role)
        s.params[0] = store_text(str_from(role_name(p->role)));
    if (p->has_disabled)
        s.params[1] = store_int(p->disabled);
    if (c->phc)
        s.params[2] = store_text(str_from(c->phc));
    return s;
}

static void store_change(struct change *c)
{
    static const char remove[] = "DELETE FROM users WHERE id = $1 AND" ADMIN_LEFT;
    struct store_statement statement;
    if (c->kind == CHANGE_CREATE)
        statement = create_statement(c->entry);
    else if (c->kind == CHANGE_UPDATE)
        statement = update_statement(c);
    else
        statement = (struct store_statement){.sql = remove, .params = {store_text(str_from(c->id))}};
    c->call = store_transact(c->users->store, &statement, 1, on_stored, c);
}

static void on_hash(void *arg, const char *phc)
{
    struct change *c = arg;
    struct err err;
    if (!phc) {
        err_set(&err, ERR_INSUFFICIENT_MEMORY, "There is no memory to compute a password's hash.");
        tell(c, NULL, &err);
        change_free(c);
        return;
    }
    *(c->kind == CHANGE_CREATE ? &c->entry->phc : &c->phc) = mem_strdup(phc);
    store_change(c);
}

static bool check_password(struct str password, struct err *err)
{
    if (password.n >= PASSWORD_LEAST && password.n <= LIMIT_PASSWORD)
        return true;
    return err_set_param(err, ERR_INVALID_PARAMETERS, "password", "'password' must have %d to %d bytes", PASSWORD_LEAST,
                         LIMIT_PASSWORD);
}

static bool check_name(struct str name, struct err *err)
{
    bool good = name.n >= 1 && name.n <= LIMIT_USER_NAME;
    for (size_t i = 0; good && i < name.n; i++) {
        char c = name.p[i];
        good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("._@-", c));
    }
    return good || err_set_param(err, ERR_INVALID_PARAMETERS, "username",
                                 "'username' must be 1 to %d letters, digits or . _ @ -", LIMIT_USER_NAME);
}

/* The arena of the request: when it dies before the hash is there, the change dies with it. Its own disposer is older,
 * so the password's waiter is gone first. */
static void hash_and_store(struct change *c, struct str password, struct arena *arena)
{
    struct err err;
    if (passwords_hash(c->users->passwords, password, arena, on_hash, c))
        return;
    err_set(&err, ERR_SERVER_OVERLOADED, "Too many passwords are being computed; try again shortly.");
    tell(c, NULL, &err);
    change_free(c);
}

void users_create(struct users *users, struct str name, struct str password, enum role role, struct arena *arena,
                  users_on_done *on_done, void *arg)
{
    struct err err;
    bool good = check_name(name, &err) && check_password(password, &err);
    if (good && users->by_id.count >= LIMIT_USERS)
        good = err_set(&err, ERR_CONFLICT, "There are %d users, the most there may be.", LIMIT_USERS);
    if (good && map_get(&users->by_name, name))
        good = err_set_param(&err, ERR_CONFLICT, "username", "There is a user '" STR_FMT "' already.", STR_ARG(name));
    if (!good) {
        on_done(arg, NULL, &err);
        return;
    }
    struct change *c = change_new(users, CHANGE_CREATE, arena, on_done, arg);
    c->entry = make_entry(name, role);
    hash_and_store(c, password, arena);
}

static bool check_known(const struct users *users, struct str id, struct err *err)
{
    return map_get(&users->by_id, id) ||
           err_set(err, ERR_NOT_FOUND, "There is no user '" STR_FMT "'.", (int)(id.n < 64 ? id.n : 64), id.p);
}

void users_update(struct users *users, struct str id, const struct user_patch *patch, struct arena *arena,
                  users_on_done *on_done, void *arg)
{
    struct err err;
    if (!check_known(users, id, &err) || (patch->has_password && !check_password(patch->password, &err))) {
        on_done(arg, NULL, &err);
        return;
    }
    struct change *c = change_new(users, CHANGE_UPDATE, arena, on_done, arg);
    c->id = mem_strndup(id.p, id.n);
    c->patch = *patch;
    c->patch.password = STR_NONE;
    if (patch->has_password)
        hash_and_store(c, patch->password, arena);
    else
        store_change(c);
}

void users_delete(struct users *users, struct str id, struct arena *arena, users_on_done *on_done, void *arg)
{
    struct err err;
    if (!check_known(users, id, &err)) {
        on_done(arg, NULL, &err);
        return;
    }
    struct change *c = change_new(users, CHANGE_DELETE, arena, on_done, arg);
    c->id = mem_strndup(id.p, id.n);
    store_change(c);
}

bool users_create_now(struct users *users, struct str name, struct str password, struct err *err)
{
    char phc[PASSWORD_PHC_SIZE];
    struct arena arena;
    if (!check_name(name, err) || !check_password(password, err))
        return false;
    if (!password_hash_now(password, phc))
        return err_set(err, ERR_INSUFFICIENT_MEMORY, "There is no memory to compute a password's hash.");
    struct entry *e = make_entry(name, ROLE_ADMIN);
    e->phc = mem_strdup(phc);
    const struct store_statement write = create_statement(e);
    struct store_result result;
    arena_init(&arena);
    bool good = store_transact_now(users->store, &write, 1, &arena, &result, err);
    arena_dispose(&arena);
    if (good)
        users_add(users, e);
    else
        users_entry_free(e);
    return good;
}
