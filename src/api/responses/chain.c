/* Chains in the store.
 *
 * A turn keeps only its own input and its response; the conversation is put together again when it goes on. So that a
 * chain that has become too long is refused before it is read, each turn also keeps how long the chain up to it is. No
 * turn refers to the one before it by a constraint, since that may be deleted: then fewer turns are found than the
 * length says, and the chain cannot go on. */
#include "api/responses/chain.h"

#include "base/clock.h"

#define OWNER_NONE (-1)

struct chain_call {
    struct arena *arena;
    struct store_call *call;
    struct arena_disposer *disposer;
    struct str id;
    void (*on_loaded)(void *arg, const struct chain *chain, const struct err *err);
    void (*on_found)(void *arg, struct str input, struct str body, const struct err *err);
    void (*on_changed)(void *arg, const struct err *err);
    void *arg;
};

int64_t chain_owner(const struct http_req *req)
{
    const struct caller *caller = req->caller;
    return caller ? caller->key_id : OWNER_NONE;
}

static void forget(void *arg)
{
    struct chain_call *c = arg;
    store_call_forget(c->call);
}

static struct chain_call *call_new(struct arena *arena, struct str id, void *arg)
{
    struct chain_call *c = arena_calloc(arena, sizeof *c);
    *c = (struct chain_call){.arena = arena, .id = arena_str(arena, id), .arg = arg};
    return c;
}

static void call_start(struct app *app, struct chain_call *c, const struct store_statement *statements, size_t count,
                       void (*on_done)(void *arg, const struct store_result *results, const struct err *err))
{
    c->call = store_transact(app->store, statements, count, on_done, c);
    c->disposer = arena_on_dispose(c->arena, forget, c);
}

static void set_not_found(const struct chain_call *c, struct err *err)
{
    err_set(err, ERR_NOT_FOUND, "Response with id '" STR_FMT "' not found", c->id.n > 64 ? 64 : (int)c->id.n, c->id.p);
}

/* ---- going on ---- */

static bool check_length(const struct chain_call *c, const struct store_result *head, struct chain *chain,
                         struct err *err)
{
    if (head->rows == 0)
        return err_set_param(err, ERR_PREVIOUS_RESPONSE_NOT_FOUND, "previous_response_id",
                             "Previous response with id '" STR_FMT "' not found", c->id.n > 64 ? 64 : (int)c->id.n,
                             c->id.p);
    chain->length = head->values[0].integer;
    chain->bytes = head->values[1].integer;
    if (chain->length < LIMIT_RESPONSE_CHAIN && chain->bytes <= LIMIT_RESPONSE_CHAIN_BYTES)
        return true;
    return err_set_param(err, ERR_INVALID_PARAMETERS, "previous_response_id",
                         "the conversation has become too long: at most %d turns of %u bytes together",
                         LIMIT_RESPONSE_CHAIN, LIMIT_RESPONSE_CHAIN_BYTES);
}

static bool read_turns(const struct chain_call *c, const struct store_result *turns, struct chain *chain,
                       struct err *err)
{
    if ((int64_t)turns->rows != chain->length)
        return err_set_param(err, ERR_PREVIOUS_RESPONSE_NOT_FOUND, "previous_response_id",
                             "an earlier response of this conversation was deleted or has expired");
    chain->items = arena_alloc(c->arena, 2 * turns->rows * sizeof *chain->items);
    for (size_t i = 0; i < turns->rows; i++) {
        json_t *input = json_read(turns->values[2 * i].text, err);
        json_t *body = json_read(turns->values[2 * i + 1].text, err);
        json_give(input, c->arena);
        json_give(body, c->arena);
        if (!input || !body)
            return err_set(err, ERR_INTERNAL, "a kept response cannot be read");
        chain->items[chain->count++] = input;
        chain->items[chain->count++] = json_object_get(body, "output");
    }
    return true;
}

static void on_turns(void *arg, const struct store_result *results, const struct err *store_err)
{
    struct chain_call *c = arg;
    struct chain chain = {0};
    struct err err;
    arena_forget(c->disposer);
    if (store_err)
        c->on_loaded(c->arg, NULL, store_err);
    else if (check_length(c, &results[0], &chain, &err) && read_turns(c, &results[1], &chain, &err))
        c->on_loaded(c->arg, &chain, NULL);
    else
        c->on_loaded(c->arg, NULL, &err);
}

void chain_load(struct app *app, struct arena *arena, int64_t owner, struct str id,
                void (*on_loaded)(void *arg, const struct chain *chain, const struct err *err), void *arg)
{
    struct chain_call *c = call_new(arena, id, arg);
    int64_t now = clock_unix();
    c->on_loaded = on_loaded;
    const struct store_statement statements[] = {
        {.sql = "SELECT chain_length, chain_bytes FROM responses WHERE id = $1 AND owner = $2 AND expires_at > $3",
         .params = {store_text(c->id), store_int(owner), store_int(now)}},
        {.sql =
             "WITH RECURSIVE chain (id, previous_id, depth) AS ("
             " SELECT id, previous_id, chain_length FROM responses"
             " WHERE id = $1 AND owner = $2 AND expires_at > $3 AND chain_length < $4 AND chain_bytes <= $5"
             " UNION ALL SELECT r.id, r.previous_id, c.depth - 1 FROM responses r JOIN chain c ON r.id = c.previous_id"
             " WHERE r.owner = $2 AND r.expires_at > $3)"
             " SELECT r.input, r.body FROM chain c JOIN responses r ON r.id = c.id ORDER BY c.depth",
         .params = {store_text(c->id), store_int(owner), store_int(now), store_int(LIMIT_RESPONSE_CHAIN),
                    store_int(LIMIT_RESPONSE_CHAIN_BYTES)}},
    };
    call_start(app, c, statements, 2, on_turns);
}

/* ---- one turn ---- */

static void on_changed(void *arg, const struct store_result *results, const struct err *err)
{
    struct chain_call *c = arg;
    (void)results;
    arena_forget(c->disposer);
    c->on_changed(c->arg, err);
}

void chain_save(struct app *app, struct arena *arena, int64_t owner, const struct chain_turn *turn,
                void (*on_saved)(void *arg, const struct err *err), void *arg)
{
    struct chain_call *c = call_new(arena, str_from(turn->id), arg);
    c->on_changed = on_saved;
    const struct store_statement statements[] = {
        {.sql = "DELETE FROM responses WHERE expires_at <= $1", .params = {store_int(clock_unix())}},
        {.sql = "UPDATE counters SET value = value + 1 WHERE name = 'responses'"},
        {.sql = "DELETE FROM responses WHERE number <= (SELECT value FROM counters WHERE name = 'responses') - $1",
         .params = {store_int(LIMIT_RESPONSES)}},
        {.sql = "INSERT INTO responses (id, number, owner, previous_id, created_at, expires_at, chain_length,"
                " chain_bytes, input, body) VALUES ($1, (SELECT value FROM counters WHERE name = 'responses'), $2, $3,"
                " $4, $5, $6, $7, $8, $9)",
         .params = {store_text(c->id), store_int(owner),
                    turn->previous_id.p ? store_text(turn->previous_id) : (struct store_value){.type = STORE_NULL},
                    store_int(turn->created_at), store_int(turn->created_at + LIMIT_RESPONSE_KEPT_S),
                    store_int(turn->length), store_int(turn->bytes), store_text(turn->input), store_text(turn->body)}},
    };
    call_start(app, c, statements, 4, on_changed);
}

static void on_row(void *arg, const struct store_result *results, const struct err *store_err)
{
    struct chain_call *c = arg;
    struct err err;
    arena_forget(c->disposer);
    if (!store_err && results->rows) {
        c->on_found(c->arg, results->values[0].text, results->values[1].text, NULL);
        return;
    }
    set_not_found(c, &err);
    c->on_found(c->arg, STR_NONE, STR_NONE, store_err ? store_err : &err);
}

void chain_find(struct app *app, struct arena *arena, int64_t owner, struct str id,
                void (*on_found)(void *arg, struct str input, struct str body, const struct err *err), void *arg)
{
    struct chain_call *c = call_new(arena, id, arg);
    c->on_found = on_found;
    const struct store_statement statement = {
        .sql = "SELECT input, body FROM responses WHERE id = $1 AND owner = $2 AND expires_at > $3",
        .params = {store_text(c->id), store_int(owner), store_int(clock_unix())}};
    call_start(app, c, &statement, 1, on_row);
}

static void on_gone(void *arg, const struct store_result *results, const struct err *store_err)
{
    struct chain_call *c = arg;
    struct err err;
    arena_forget(c->disposer);
    if (!store_err && results->changed == 0) {
        set_not_found(c, &err);
        store_err = &err;
    }
    c->on_changed(c->arg, store_err);
}

void chain_delete(struct app *app, struct arena *arena, int64_t owner, struct str id,
                  void (*on_deleted)(void *arg, const struct err *err), void *arg)
{
    struct chain_call *c = call_new(arena, id, arg);
    c->on_changed = on_deleted;
    const struct store_statement statement = {.sql = "DELETE FROM responses WHERE id = $1 AND owner = $2",
                                              .params = {store_text(c->id), store_int(owner)}};
    call_start(app, c, &statement, 1, on_gone);
}
