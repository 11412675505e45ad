/* Calls: a request and its reply over a link (link.c), which a call owns while it runs.
 *
 * A reused link can still die in the moment of use. Then nobody knows whether the request was carried out, so it is
 * sent again, once and on a fresh link, only if nothing was written at all, or the method is idempotent and the whole
 * request is at hand (kept only in that case, until the first byte of the reply).
 *
 * The head of a request whose body follows later is held back until its first piece, at the latest until the loop
 * waits, so that both leave in one system call.
 *
 * A tunnel is a call whose reply's body is bare and so is, from its 101 on, what is written. sent_all then means that
 * our direction is finished; it is shut down when everything is written, and the call ends when both directions have.
 *
 * Invariants: call->link->call == call while both live; events come from the loop only, never from inside an http_call_
 * function; a call is freed right before its on_end or on_error, or in http_call_cancel. */
#include "http/client.h"

#include <assert.h>

#include "base/arena.h"
#include "base/mem.h"
#include "http/link.h"

enum reply_state { REPLY_HEAD, REPLY_BODY };

struct http_call {
    struct link *link;
    const struct http_call_events *events;
    void *arg;
    struct http_body body;
    size_t scanned;
    int64_t body_left; /* of the request's; -1: chunked */
    char *again;       /* the request, while it may be sent once more; NULL: it may not */
    size_t again_length;
    char *head; /* held back; NULL: sent */
    size_t head_length;
    struct loop_soon soon, uncork;
    enum http_method method;
    enum reply_state state;
    unsigned interims;
    bool sent_all, blocked, paused, keep_alive, heard;
    bool may_upgrade, tunnel;
    bool upstream_ended; /* its direction of the tunnel */
};

/* ---- the end of a call ---- */

/* Frees the call; its link is the caller's to close or keep. */
static void call_free(struct http_call *call)
{
    loop_soon_cancel(&call->soon);
    loop_soon_cancel(&call->uncork);
    mem_free(call->again);
    mem_free(call->head);
    mem_free(call);
}

static void call_fail(struct http_call *call, const struct err *err)
{
    const struct http_call_events *events = call->events;
    void *arg = call->arg;
    if (call->link)
        link_close(call->link);
    call_free(call);
    events->on_error(arg, err);
}

static void call_end(struct http_call *call)
{
    const struct http_call_events *events = call->events;
    void *arg = call->arg;
    struct link *link = call->link;
    if (call->keep_alive && call->sent_all && link->in.len == 0 && !wire_unsent(&link->wire))
        pool_put(link);
    else
        link_close(link);
    call_free(call);
    events->on_end(arg);
}

void http_call_cancel(struct http_call *call)
{
    if (call->link)
        link_close(call->link);
    call_free(call);
}

/* ---- connecting ---- */

static void call_failed_soon(struct loop_soon *soon)
{
    struct http_call *call = container_of(soon, struct http_call, soon);
    struct err err;
    err_set(&err, ERR_BAD_GATEWAY, "No connection to the upstream.");
    call_fail(call, &err);
}

/* Gives the call a fresh link. false: not even a beginning. */
static bool call_connect(struct http_call *call, struct http_client *client, struct pool *pool)
{
    struct link *link = link_new(client, pool);
    list_push(&client->busy, &link->list);
    link->call = call;
    call->link = link;
    if (link_connect(link) != 0) {
        link_close(link);
        call->link = NULL;
        return false;
    }
    return true;
}

/* Gives the call an idle link, or else a fresh one. */
static bool call_take_link(struct http_call *call, struct http_client *client, struct pool *pool)
{
    struct link *link = pool_take(pool);
    if (!link)
        return call_connect(call, client, pool);
    link->call = call;
    call->link = link;
    list_push(&client->busy, &link->list);
    return true;
}

/* Sends the kept request again over a fresh link; one whose head is still held back only changes its link. */
static bool call_again(struct http_call *call)
{
    struct link *old = call->link;
    if (old->fresh || call->heard || (!call->again && !call->head))
        return false;
    struct http_client *client = old->client;
    struct pool *pool = old->pool;
    link_close(old);
    if (!call_connect(call, client, pool)) {
        loop_soon(client->loop, &call->soon, call_failed_soon);
        return true;
    }
    if (!call->head)
        wire_write(&call->link->wire, &(struct str){call->again, call->again_length}, 1);
    return true;
}

void link_ready(struct link *link)
{
    wire_read(&link->wire);
    if (link->call->paused)
        wire_pause(&link->wire, false);
}

void link_gone(struct link *link, int status)
{
    struct http_call *call = link->call;
    struct err err;
    if (!call) {
        link_close(link);
        return;
    }
    if (call->state == REPLY_BODY && call->body.kind == HTTP_BODY_UNTIL_CLOSE && status == UV_EOF && !link->in.len) {
        call->keep_alive = false;
        call_end(call);
        return;
    }
    if (call_again(call))
        return;
    if (call->upstream_ended) { /* it said all it had to say and does not listen any more */
        call_end(call);
        return;
    }
    if (status == UV_ETIMEDOUT)
        err_set(&err, ERR_TIMEOUT, "The upstream does not answer.");
    else if (call->heard)
        err_set(&err, ERR_BAD_GATEWAY, "The upstream broke off its reply: %s.", uv_strerror(status));
    else
        err_set(&err, ERR_BAD_GATEWAY, "The upstream cannot be reached: %s.", uv_strerror(status));
    call_fail(call, &err);
}

/* ---- the reply ---- */

static void bad_reply(struct http_call *call, const char *what)
{
    struct err err;
    err_set(&err, ERR_BAD_GATEWAY, "%s", what);
    call_fail(call, &err);
}

/* What follows the 101, in both directions, is no HTTP any more. */
static void begin_tunnel(struct http_call *call)
{
    call->tunnel = true;
    call->sent_all = false;
    wire_half_open(&call->link->wire);
}

/* Takes a head from the bytes: how many it was, 0 to wait for more or when the call is gone. */
static size_t take_head(struct http_call *call, struct str bytes)
{
    struct link *link = call->link;
    size_t n = http_head_length(bytes.p, bytes.n, &call->scanned);
    if (n == 0) {
        if (bytes.n > LIMIT_HEAD_BYTES)
            bad_reply(call, "The upstream's reply has a head that is too large.");
        return 0;
    }
    call->scanned = 0;
    struct arena arena;
    struct http_head head;
    struct err err;
    arena_init(&arena);
    if (!http_head_parse_response(bytes.p, n, call->method, &arena, &head, &err)) {
        call_fail(call, &err);
    } else if (head.status == 101 && !(call->may_upgrade && head.upgrade)) {
        bad_reply(call, "The upstream switches to a protocol that nobody asked for.");
    } else if (head.status != 101 && head.status < 200 && ++call->interims > LIMIT_INTERIM_REPLIES) {
        bad_reply(call, "The upstream's reply does not come to an end of its interim replies.");
    } else if (head.status == 101 || head.status >= 200) {
        bool tunnel = head.status == 101;
        http_body_init(&call->body, tunnel ? HTTP_BODY_UNTIL_CLOSE : head.body_kind, head.content_length);
        call->keep_alive = head.keep_alive && !tunnel;
        call->state = REPLY_BODY;
        if (tunnel)
            begin_tunnel(call);
        call->events->on_head(call->arg, &head);
    }
    arena_dispose(&arena);
    return link->call ? n : 0; /* a call that ended has no link, or its link another call or none */
}

/* Hands on one piece of the body. As take_head. */
static size_t take_body(struct http_call *call, struct str bytes)
{
    struct str piece;
    size_t n = http_body_feed(&call->body, bytes.p, bytes.n, &piece);
    if (n == SIZE_MAX) {
        bad_reply(call, "The upstream's reply is not in chunked coding.");
        return 0;
    }
    if (piece.n)
        call->events->on_data(call->arg, piece);
    return n;
}

/* Works through the bytes; returns those that are left, none when the call has ended. */
static struct str process(struct link *link, struct str bytes)
{
    struct http_call *call = link->call;
    while (link->call == call && !call->paused) {
        if (call->state == REPLY_BODY && call->body.done) {
            if (bytes.n)
                call->keep_alive = false; /* more than was asked for: this upstream lost count */
            call_end(call);
            return STR_NONE;
        }
        if (bytes.n == 0)
            return bytes;
        size_t n = call->state == REPLY_HEAD ? take_head(call, bytes) : take_body(call, bytes);
        if (link->call != call)
            return STR_NONE;
        if (n == 0)
            break;
        bytes.p += n;
        bytes.n -= n;
    }
    return link->call == call ? bytes : STR_NONE;
}

static void link_process(struct link *link)
{
    struct str rest = process(link, buf_view(&link->in));
    if (!link->call)
        return;
    buf_consume(&link->in, link->in.len - rest.n);
    if (link->in.len == 0)
        buf_release(&link->in);
    if (link->call->paused)
        wire_pause(&link->wire, false);
    else
        wire_read(&link->wire);
}

static void on_bytes(struct wire *wire, const char *bytes, size_t n)
{
    struct link *link = container_of(wire, struct link, wire);
    if (!link->call) { /* an idle upstream has nothing to say */
        link_close(link);
        return;
    }
    link->call->heard = true;
    mem_free(link->call->again);
    link->call->again = NULL;
    if (link->in.len) {
        buf_append(&link->in, bytes, n);
        link_process(link);
        return;
    }
    struct str rest = process(link, (struct str){bytes, n});
    if (!link->call)
        return;
    buf_append(&link->in, rest.p, rest.n);
    if (link->call->paused)
        wire_pause(&link->wire, false);
}

static void on_gone(struct wire *wire, int status)
{
    link_gone(container_of(wire, struct link, wire), status);
}

static void tunnel_sent(struct http_call *call)
{
    if (call->upstream_ended)
        call_end(call);
    else
        wire_shutdown(&call->link->wire);
}

/* The upstream ended its direction of a tunnel; a wire that is half-open has read everything before. */
static void on_upstream_end(struct wire *wire)
{
    struct http_call *call = container_of(wire, struct link, wire)->call;
    call->upstream_ended = true;
    if (!call->sent_all)
        call->events->on_half_end(call->arg);
    else if (wire_unsent(wire) == 0)
        call_end(call);
}

static void on_sent(struct wire *wire)
{
    struct link *link = container_of(wire, struct link, wire);
    struct http_call *call = link->call;
    if (call && call->tunnel && call->sent_all) {
        tunnel_sent(call);
        return;
    }
    if (!call || !call->blocked)
        return;
    call->blocked = false;
    if (call->events->on_proceed)
        call->events->on_proceed(call->arg);
}

const struct wire_events link_events = {
    .on_bytes = on_bytes, .on_gone = on_gone, .on_end = on_upstream_end, .on_sent = on_sent, .on_closed = link_closed};

/* ---- the request ---- */

/* Writes the beginning of the request. A reused link that fails without having taken a byte gives way to another. */
static void write_first(struct http_call *call, const struct str *pieces, size_t count)
{
    struct http_client *client = call->link->client;
    struct pool *pool = call->link->pool;
    for (;;) {
        struct link *link = call->link;
        wire_write(&link->wire, pieces, count);
        if (link->fresh || !wire_broken(&link->wire))
            return;
        link_close(link);
        if (!call_take_link(call, client, pool)) {
            loop_soon(client->loop, &call->soon, call_failed_soon);
            return;
        }
    }
}

/* Writes what follows the head, and the head if it was held back. */
static void write_on(struct http_call *call, const struct str *pieces, size_t count)
{
    struct str all[5];
    size_t n = 0;
    if (!call->head) {
        wire_write(&call->link->wire, pieces, count);
        return;
    }
    char *head = call->head;
    all[n++] = (struct str){head, call->head_length};
    for (size_t i = 0; i < count; i++)
        all[n++] = pieces[i];
    loop_soon_cancel(&call->uncork);
    call->head = NULL;
    write_first(call, all, n);
    mem_free(head);
}

static void on_uncork(struct loop_soon *soon)
{
    write_on(container_of(soon, struct http_call, uncork), NULL, 0);
}

static void write_body(struct http_call *call, struct str piece)
{
    char size_line[24];
    struct str all[] = {{size_line, 0}, piece, STR("\r\n")};
    if (piece.n == 0)
        return;
    if (call->tunnel) {
        wire_write(&call->link->wire, &piece, 1);
        return;
    }
    if (call->body_left < 0) {
        all[0].n = (size_t)snprintf(size_line, sizeof size_line, "%zx\r\n", piece.n);
        write_on(call, all, 3);
        return;
    }
    assert((uint64_t)call->body_left >= piece.n);
    call->body_left -= (int64_t)piece.n;
    call->sent_all = call->body_left == 0;
    write_on(call, &piece, 1);
}

static enum http_method method_from(struct str method)
{
    return str_eq(method, STR("HEAD")) ? HTTP_HEAD : str_eq(method, STR("GET")) ? HTTP_GET : HTTP_OTHER;
}

static bool is_idempotent(struct str method)
{
    static const char *const names[] = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_eq(method, str_from(names[i])))
            return true;
    return false;
}

static char *join(const struct str *pieces, size_t count, size_t *ret_length)
{
    size_t n = 0, at = 0;
    for (size_t i = 0; i < count; i++)
        n += pieces[i].n;
    char *text = mem_alloc(n + 1);
    for (size_t i = 0; i < count; i++) {
        if (pieces[i].n)
            memcpy(text + at, pieces[i].p, pieces[i].n);
        at += pieces[i].n;
    }
    *ret_length = n;
    return text;
}

static struct str host_line(const struct http_target *target, char *out, size_t size)
{
    bool v6 = target->port && strchr(target->address, ':');
    int n = target->port ? snprintf(out, size, " HTTP/1.1\r\nHost: %s%s%s:%d\r\n", v6 ? "[" : "", target->address,
                                    v6 ? "]" : "", target->port)
                         : snprintf(out, size, " HTTP/1.1\r\nHost: localhost\r\n");
    return (struct str){out, (size_t)n};
}

struct http_call *http_call_startv(struct http_client *client, const struct http_target *target, struct str method,
                                   struct str path_and_query, struct str head_lines, int64_t body_length,
                                   const struct str *body, size_t body_count, const struct http_call_events *events,
                                   void *arg)
{
    char host[160], framing[64];
    struct str pieces[6 + HTTP_CALL_PIECES];
    struct http_call *call = mem_calloc(1, sizeof *call);
    size_t n = 0, given = 0;
    assert(body_count <= HTTP_CALL_PIECES);
    call->events = events;
    call->arg = arg;
    call->method = method_from(method);
    for (size_t i = 0; i < body_count; i++)
        given += body[i].n;
    assert(body_length < 0 ? given == 0 : (uint64_t)body_length >= given);
    call->body_left = body_length < 0 ? -1 : body_length - (int64_t)given;
    call->sent_all = call->body_left == 0;
    pieces[n++] = method;
    pieces[n++] = STR(" ");
    pieces[n++] = path_and_query;
    pieces[n++] = host_line(target, host, sizeof host);
    pieces[n++] = head_lines;
    if (body_length < 0)
        pieces[n++] = STR("Transfer-Encoding: chunked\r\n\r\n");
    else if (body_length == 0 && is_idempotent(method))
        pieces[n++] = STR("\r\n");
    else
        pieces[n++] = (struct str){
            framing, (size_t)snprintf(framing, sizeof framing, "Content-Length: %lld\r\n\r\n", (long long)body_length)};
    for (size_t i = 0; i < body_count; i++)
        pieces[n++] = body[i];
    struct pool *pool = pool_find(client, target, true);
    if (call->sent_all && is_idempotent(method) && !list_empty(&pool->idle))
        call->again = join(pieces, n, &call->again_length);
    if (!call_take_link(call, client, pool)) {
        loop_soon(client->loop, &call->soon, call_failed_soon);
    } else if (call->sent_all || given) {
        write_first(call, pieces, n);
    } else {
        call->head = join(pieces, n, &call->head_length);
        loop_soon(client->loop, &call->uncork, on_uncork);
    }
    return call;
}

struct http_call *http_call_start(struct http_client *client, const struct http_target *target, struct str method,
                                  struct str path_and_query, struct str head_lines, int64_t body_length,
                                  struct str body, const struct http_call_events *events, void *arg)
{
    if (body_length >= 0)
        return http_call_startv(client, target, method, path_and_query, head_lines, body_length, &body, 1, events, arg);
    struct http_call *call =
        http_call_startv(client, target, method, path_and_query, head_lines, -1, NULL, 0, events, arg);
    if (call->link)
        write_body(call, body);
    return call;
}

bool http_call_write(struct http_call *call, struct str piece)
{
    if (!call->link)
        return false;
    write_body(call, piece);
    if (!call->link)
        return false;
    call->blocked = wire_broken(&call->link->wire) || wire_unsent(&call->link->wire) > LIMIT_UNSENT_BYTES;
    return !call->blocked;
}

void http_call_may_upgrade(struct http_call *call)
{
    assert(call->events->on_half_end && call->sent_all);
    call->may_upgrade = true;
}

bool http_call_is_tunnel(const struct http_call *call)
{
    return call->tunnel;
}

size_t http_call_unsent(const struct http_call *call)
{
    return call->link ? wire_unsent(&call->link->wire) : 0;
}

static void on_finished(struct loop_soon *soon)
{
    call_end(container_of(soon, struct http_call, uncork));
}

static void finish_tunnel(struct http_call *call)
{
    call->sent_all = true;
    if (wire_unsent(&call->link->wire))
        return;
    if (call->upstream_ended)
        loop_soon(call->link->client->loop, &call->uncork, on_finished);
    else
        wire_shutdown(&call->link->wire);
}

void http_call_finish(struct http_call *call)
{
    if (call->tunnel) {
        finish_tunnel(call);
        return;
    }
    if (call->link && call->body_left < 0 && !call->sent_all)
        write_on(call, &STR("0\r\n\r\n"), 1);
    assert(call->body_left <= 0);
    call->sent_all = true;
}

void http_call_pause(struct http_call *call)
{
    call->paused = true;
    if (call->link && !call->link->connecting)
        wire_pause(&call->link->wire, false);
}

static void on_resume(struct loop_soon *soon)
{
    struct http_call *call = container_of(soon, struct http_call, soon);
    link_process(call->link);
}

void http_call_resume(struct http_call *call)
{
    if (!call->paused)
        return;
    call->paused = false;
    if (call->link && !call->link->connecting)
        loop_soon(call->link->client->loop, &call->soon, on_resume);
}

/* ---- the client ---- */

struct http_client *http_client_new(struct loop *loop)
{
    struct http_client *client = mem_calloc(1, sizeof *client);
    client->loop = loop;
    client->connect_ms = LIMIT_CONNECT_MS;
    map_init(&client->pools);
    list_init(&client->busy);
    return client;
}

void http_client_connect_within(struct http_client *client, unsigned ms)
{
    client->connect_ms = ms;
}

void http_client_forget(struct http_client *client, const struct http_target *target)
{
    struct pool *pool = pool_find(client, target, false);
    if (pool)
        pool_close_idle(pool);
}

void http_client_free(struct http_client *client)
{
    struct str key;
    void *pool;
    size_t at = 0;
    if (!client)
        return;
    client->freed = true;
    while (!list_empty(&client->busy))
        http_call_cancel(list_first(&client->busy, struct link, list)->call);
    while (map_next(&client->pools, &at, &key, &pool))
        pool_close_idle(pool);
    client_free_when_done(client);
}
