/* Limits at the door (specs/inferno.md 4.5): whose request it is, how much that caller may ask for, and the headers
 * that say so. Loop thread only. */
#ifndef API_ADMIT_H
#define API_ADMIT_H

#include "api/app.h"
#include "auth/limits.h"

/* A route whose access carries this bit is not charged: health, measurements, and what charges its parts (a batch its
 * items, a socket its chats). */
#define API_UNCHARGED (1u << 16)

/* Charges one request to the caller (NULL: to the address) for as long as the arena lives. false: a limit is reached,
 * ERR_RATE_LIMIT_EXCEEDED with details {limit, window, scope} and when to come back. */
bool api_admit(struct app *app, struct arena *arena, const struct caller *caller, struct str address,
               struct limit_state *ret_state, struct err *err);

/* As api_admit for a request that came over HTTP, with its response headers. false: answered. */
bool api_admit_request(struct app *app, struct http_req *req);

/* Tokens that the caller's request took. */
void api_charge_tokens(struct app *app, const struct caller *caller, struct str address, uint64_t tokens);

/* The client's address, behind server.trusted_proxies; in the request's arena, or a slice of its head. */
struct str api_client_address(struct app *app, struct http_req *req);

/* The same where requests are counted by address, else STR_NONE. */
struct str api_limit_address(struct app *app, struct http_req *req);

#endif
