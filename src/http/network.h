/* Numeric addresses and networks ("10.0.0.0/8", "2001:db8::/32", "127.0.0.1"), and who sent a request that came through
 * proxies. Pure. */
#ifndef HTTP_NETWORK_H
#define HTTP_NETWORK_H

#include "http/head.h"

struct http_network {
    unsigned char bytes[16]; /* IPv4 as ::ffff:a.b.c.d */
    unsigned prefix;         /* bits, 0..128 */
};

bool http_network_parse(struct str text, struct http_network *ret_network);
bool http_network_has(const struct http_network *network, struct str address);

/* The nearest sender that is no trusted proxy: peer itself unless trusted; else the last such entry of X-Forwarded-For,
 * or its first when all are. Entries that are no addresses end the search: what stands behind them is believed no more.
 * Points into head or is peer. */
struct str http_client_address(const struct http_head *head, struct str peer, const struct http_network *trusted,
                               size_t count);

#endif
