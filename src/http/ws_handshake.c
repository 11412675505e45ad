#include "http/ws_handshake.h"

#include "base/hash.h"
#include "http/chars.h"
#include "http/conn.h"
#include "http/ws.h"

#define KEY_LENGTH    24 /* 16 bytes in base64 */
#define ACCEPT_LENGTH 28

static bool is_base64(char c)
{
    return http_is_alnum(c) || c == '+' || c == '/';
}

/* 16 bytes in base64: the 22nd character carries two bits alone, so only four are possible. */
static bool is_key(struct str key)
{
    if (key.n != KEY_LENGTH || !str_ends(key, STR("==")) || !memchr("AQgw", key.p[21], 4))
        return false;
    for (size_t i = 0; i < 21; i++)
        if (!is_base64(key.p[i]))
            return false;
    return true;
}

static void put_accept(struct http_req *req, struct str key)
{
    unsigned char digest[HASH_SHA1_SIZE];
    struct buf text;
    buf_init(&text, 2 * (KEY_LENGTH + ACCEPT_LENGTH));
    buf_str(&text, key);
    buf_puts(&text, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"); /* RFC 6455 1.3 */
    hash_sha1(text.data, text.len, digest);
    buf_clear(&text);
    hash_base64(&text, digest, sizeof digest);
    http_reply_header(req, "Sec-WebSocket-Accept", text.data);
    buf_release(&text);
}

static bool check(struct http_req *req, struct err *err)
{
    const struct http_head *head = &req->head;
    if (head->method != HTTP_GET || head->minor_version < 1 || !head->upgrade ||
        !http_head_has_token(head, "upgrade", "websocket")) {
        http_reply_header(req, "Upgrade", "websocket");
        http_reply_header(req, "Connection", "Upgrade");
        return err_set(err, ERR_UPGRADE_REQUIRED,
                       "This path speaks WebSocket: ask with GET, 'Connection: Upgrade' and 'Upgrade: websocket'.");
    }
    if (!str_eq(http_head_find(head, "sec-websocket-version"), STR("13"))) {
        http_reply_header(req, "Sec-WebSocket-Version", "13");
        return err_set(err, ERR_UPGRADE_REQUIRED, "Sec-WebSocket-Version must be 13.");
    }
    if (!is_key(http_head_find(head, "sec-websocket-key")))
        return err_set(err, ERR_BAD_REQUEST, "Sec-WebSocket-Key must be 16 bytes in base64.");
    if (head->body_kind != HTTP_BODY_NONE && (head->body_kind != HTTP_BODY_LENGTH || head->content_length))
        return err_set(err, ERR_BAD_REQUEST, "A WebSocket request has no body.");
    return true;
}

bool ws_handshake(struct http_req *req, struct str subprotocol)
{
    struct err err;
    if (!check(req, &err)) {
        http_reply_error(req, &err);
        return false;
    }
    put_accept(req, http_head_find(&req->head, "sec-websocket-key"));
    if (subprotocol.n)
        http_reply_header(req, "Sec-WebSocket-Protocol", arena_str(&req->arena, subprotocol).p);
    reply_switch(req, "websocket");
    return true;
}

struct str http_ws_offer(const struct http_req *req, const char *prefix)
{
    for (size_t i = 0; i < req->head.header_count; i++) {
        const struct http_header *h = &req->head.headers[i];
        struct str rest = h->value;
        while (rest.p && str_ieq(h->name, STR("sec-websocket-protocol"))) {
            struct str offer = str_trim(str_cut(&rest, ','));
            if (offer.n && str_starts(offer, str_from(prefix)))
                return offer;
        }
    }
    return STR_NONE;
}
