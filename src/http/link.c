/* Links: one connection to an upstream each. A link that is clean after its call goes to its target's pool and is read
 * there too, so that an upstream's close is noticed before the link is used again.
 *
 * Invariants: a link is in its pool's idle list (and counted there) while, and only while, it has no call and is not
 * closed; a freed client lives until its last link is closed. */
#include "http/link.h"

#include "base/mem.h"

/* ---- pools ---- */

struct pool *pool_find(struct http_client *client, const struct http_target *target, bool create)
{
    char key[128];
    int n = snprintf(key, sizeof key, "%d %s", target->port, target->address);
    struct pool *pool = map_get(&client->pools, (struct str){key, (size_t)n});
    if (pool || !create)
        return pool;
    pool = mem_calloc(1, sizeof *pool);
    pool->target = *target;
    list_init(&pool->idle);
    map_put(&client->pools, (struct str){key, (size_t)n}, pool);
    return pool;
}

void client_free_when_done(struct http_client *client)
{
    struct str key;
    void *pool;
    size_t at = 0;
    if (!client->freed || client->links)
        return;
    while (map_next(&client->pools, &at, &key, &pool))
        mem_free(pool);
    map_release(&client->pools);
    mem_free(client);
}

void link_close(struct link *link)
{
    if (!link->call && !list_empty(&link->list))
        link->pool->count--;
    list_remove(&link->list);
    deadline_cancel(link->client->loop, &link->deadline);
    link->call = NULL;
    if (!link->wire.closing)
        wire_close(&link->wire, false);
}

static void on_idle_long(struct deadline *deadline)
{
    link_close(container_of(deadline, struct link, deadline));
}

void pool_put(struct link *link)
{
    struct pool *pool = link->pool;
    list_remove(&link->list);
    link->call = NULL;
    link->fresh = false;
    if (pool->count >= LIMIT_POOL_IDLE || link->client->freed) {
        link_close(link);
        return;
    }
    list_push_front(&pool->idle, &link->list);
    pool->count++;
    deadline_arm(link->client->loop, &link->deadline, LIMIT_POOL_IDLE_MS, on_idle_long);
    wire_read(&link->wire);
}

struct link *pool_take(struct pool *pool)
{
    while (!list_empty(&pool->idle)) {
        struct link *link = list_first(&pool->idle, struct link, list);
        if (!wire_broken(&link->wire)) {
            list_remove(&link->list);
            pool->count--;
            deadline_cancel(link->client->loop, &link->deadline);
            return link;
        }
        link_close(link);
    }
    return NULL;
}

void pool_close_idle(struct pool *pool)
{
    while (!list_empty(&pool->idle))
        link_close(list_first(&pool->idle, struct link, list));
}

/* ---- links ---- */

static void on_connect_late(struct deadline *deadline)
{
    link_gone(container_of(deadline, struct link, deadline), UV_ETIMEDOUT);
}

static void on_connected(uv_connect_t *req, int status)
{
    struct link *link = req->data;
    mem_free(req);
    link->connecting = NULL;
    if (link->wire.closing)
        return;
    deadline_cancel(link->client->loop, &link->deadline);
    if (status < 0) {
        link_gone(link, status);
        return;
    }
    if (link->pool->target.port)
        uv_tcp_nodelay(&link->wire.tcp, 1);
    link_ready(link);
}

int link_connect(struct link *link)
{
    const struct http_target *target = &link->pool->target;
    struct sockaddr_storage at;
    link->connecting = mem_calloc(1, sizeof *link->connecting);
    link->connecting->data = link;
    deadline_arm(link->client->loop, &link->deadline, link->client->connect_ms, on_connect_late);
    if (target->port == 0) {
        uv_pipe_connect(link->connecting, &link->wire.pipe, target->address, on_connected);
        return 0;
    }
    int rc = uv_ip4_addr(target->address, target->port, (struct sockaddr_in *)&at);
    if (rc != 0)
        rc = uv_ip6_addr(target->address, target->port, (struct sockaddr_in6 *)&at);
    if (rc == 0)
        rc = uv_tcp_connect(link->connecting, &link->wire.tcp, (struct sockaddr *)&at, on_connected);
    if (rc != 0) {
        mem_free(link->connecting);
        link->connecting = NULL;
    }
    return rc;
}

struct link *link_new(struct http_client *client, struct pool *pool)
{
    struct link *link = mem_calloc(1, sizeof *link);
    link->client = client;
    link->pool = pool;
    link->fresh = true;
    if (pool->target.port)
        wire_init_tcp(&link->wire, client->loop, &link_events, LIMIT_STALL_MS);
    else
        wire_init_pipe(&link->wire, client->loop, &link_events, LIMIT_STALL_MS);
    buf_init(&link->in, LIMIT_HEAD_BYTES + 2 * LOOP_READ_BYTES);
    list_init(&link->list);
    client->links++;
    return link;
}

void link_closed(struct wire *wire)
{
    struct link *link = container_of(wire, struct link, wire);
    struct http_client *client = link->client;
    buf_release(&link->in);
    mem_free(link);
    client->links--;
    client_free_when_done(client);
}
