/* Whose a file or a batch is, as the store keeps it: "key:<id>", "user:<id>", "config" (the keys of the configuration
 * are one owner), or "anyone" where no key is needed. Loop thread only. */
#ifndef API_BATCH_OWNER_H
#define API_BATCH_OWNER_H

#include "api/app.h"

/* In the request's arena. */
struct str owner_of(struct http_req *req);

/* Whether work may go on in its name when the request is over: a token of another issuer ends with its request. */
bool owner_may_leave(const struct app *app, const struct http_req *req, struct err *err);

/* Who the owner is now, in arena: *ret_caller may be NULL for "anyone". false: its right has ended (*err says how). */
bool owner_caller(struct app *app, struct arena *arena, struct str owner, const struct caller **ret_caller,
                  struct err *err);

#endif
