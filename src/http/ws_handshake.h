/* Between ws.c and ws_handshake.c only. */
#ifndef HTTP_WS_HANDSHAKE_H
#define HTTP_WS_HANDSHAKE_H

#include "http/server.h"

/* Checks the upgrade (RFC 6455 4.2.1) and starts the reply with 101; false: answered with an error. */
bool ws_handshake(struct http_req *req, struct str subprotocol);

#endif
