/* What one inference request cost: opened when it comes in, by whatever way, and closed when its arena dies; then it is
 * in the metrics and charged to its caller. The tokens are read from the reply as it passes (openai/usage_tap.h).
 * Loop thread only. */
#ifndef API_ACCOUNT_H
#define API_ACCOUNT_H

#include "api/app.h"
#include "obs/trace.h"

struct account;

/* path: of the route ("/v1/chat/completions"). status: the reply's as long as the arena lives, 0 while there is none;
 * a request that ends so was left by its client. address: the client's, as long-lived as the arena. parent: the span
 * that it belongs to, or NULL. */
struct account *account_open(struct app *app, struct arena *arena, const struct caller *caller, struct str path,
                             struct str address, const int *status, const struct trace_context *parent);
/* The same for a request that came over HTTP. */
struct account *account_open_for(struct app *app, struct http_req *req);
void account_model(struct account *account, const char *model);          /* as long-lived as the arena */
void account_leased(struct account *account, const struct lease *lease); /* the wait for the model is over */
/* For the head of the call to the backend: the lease's lines and the trace's, in arena. */
struct str account_head_lines(const struct account *account, const struct lease *lease, struct arena *arena);
void account_head(struct account *account, const struct http_head *head);
void account_data(struct account *account, struct str piece);
void account_broken(struct account *account); /* the reply broke off */

#endif
