#include "api/admit.h"

#include "base/clock.h"

#define AUTOMATIC_RATE 1000 /* requests a minute with security.auth_enabled, when nothing else is said */

struct admission {
    struct limits *limits;
    limit_hold hold;
};

static void on_dispose(void *arg)
{
    struct admission *a = arg;
    limits_end(a->limits, a->hold);
}

static struct limit_rates rates_of(const struct app *app, const struct caller *caller)
{
    const struct conf *conf = app->conf;
    int64_t rate = conf->rate_limit;
    if (rate == CONF_AUTO_VALUE)
        rate = conf->auth_enabled ? AUTOMATIC_RATE : 0;
    if (caller && caller->limits.requests_per_minute)
        rate = caller->limits.requests_per_minute;
    struct limit_rates rates = {.requests_per_minute = (uint32_t)rate,
                                .burst = rate ? (uint32_t)conf->burst_limit : 0,
                                .tokens_per_minute = (uint32_t)conf->tokens_per_minute,
                                .concurrent = (uint32_t)conf->concurrent_requests};
    if (caller && caller->limits.burst)
        rates.burst = (uint32_t)caller->limits.burst;
    if (caller && caller->limits.tokens_per_minute)
        rates.tokens_per_minute = (uint32_t)caller->limits.tokens_per_minute;
    if (caller && caller->limits.concurrent)
        rates.concurrent = (uint32_t)caller->limits.concurrent;
    return rates;
}

/* Keys of the configuration have no number: their bearers are told apart by where they are. */
static enum limit_kind counts_by(const struct caller *caller)
{
    if (!caller)
        return LIMIT_BY_ADDRESS;
    return caller->by_token ? LIMIT_BY_USER : caller->key_id ? LIMIT_BY_KEY : LIMIT_BY_ADDRESS;
}

static struct limit_subject subject_of(const struct caller *caller, struct str address)
{
    char text[HTTP_PEER_SIZE] = "";
    if (counts_by(caller) == LIMIT_BY_KEY)
        return limit_by_number(LIMIT_BY_KEY, caller->key_id);
    if (counts_by(caller) == LIMIT_BY_USER)
        return limit_by_text(LIMIT_BY_USER, str_from(caller->user_id));
    if (address.n < sizeof text)
        memcpy(text, address.p, address.n);
    return limit_by_address(text);
}

static void explain(const struct limit_state *s, const struct caller *caller, struct err *err)
{
    const struct limit_rates *r = &s->rates;
    static const char *const scopes[] = {
        [LIMIT_BY_KEY] = "key", [LIMIT_BY_USER] = "user", [LIMIT_BY_ADDRESS] = "address"};
    const char *scope = scopes[counts_by(caller)];
    uint32_t limit = s->refused == LIMIT_TOKENS       ? r->tokens_per_minute
                     : s->refused == LIMIT_CONCURRENT ? r->concurrent
                     : s->refused == LIMIT_BURST      ? r->burst
                                                      : r->requests_per_minute;
    if (s->refused == LIMIT_CONCURRENT)
        err_set(err, ERR_RATE_LIMIT_EXCEEDED, "this %s has as many requests running as it may have (%u)", scope, limit);
    else
        err_set(err, ERR_RATE_LIMIT_EXCEEDED, "this %s has reached its limit of %u %s; try again in %.1f s", scope,
                limit,
                s->refused == LIMIT_TOKENS  ? "tokens a minute"
                : s->refused == LIMIT_BURST ? "requests in one burst"
                                            : "requests a minute",
                s->retry_after_ms / 1000.0);
    snprintf(err->details, sizeof err->details, "{\"limit\":%u,\"window\":\"%s\",\"scope\":\"%s\",\"kind\":\"%s\"}",
             limit, s->refused == LIMIT_CONCURRENT ? "running" : "60s", scope, limit_names[s->refused]);
    err->retry_after_ms = s->retry_after_ms ? s->retry_after_ms : LIMIT_RETRY_AFTER_MS;
}

bool api_admit(struct app *app, struct arena *arena, const struct caller *caller, struct str address,
               struct limit_state *ret_state, struct err *err)
{
    struct limit_rates rates = rates_of(app, caller);
    struct limit_subject subject = subject_of(caller, address);
    limit_hold hold = limits_begin(app->limits, &subject, &rates, clock_ms(), ret_state);
    if (ret_state->refused != LIMIT_NONE) {
        const char *const label[] = {limit_names[ret_state->refused]};
        metrics_add(app->metrics, METRIC_RATE_LIMITED, label, 1);
        explain(ret_state, caller, err);
        return false;
    }
    if (hold) {
        struct admission *admission = arena_alloc(arena, sizeof *admission);
        *admission = (struct admission){app->limits, hold};
        arena_on_dispose(arena, on_dispose, admission);
    }
    return true;
}

void api_charge_tokens(struct app *app, const struct caller *caller, struct str address, uint64_t tokens)
{
    struct limit_subject subject = subject_of(caller, address);
    limits_charge(app->limits, &subject, tokens, clock_ms());
}

/* ---- headers ---- */

static void put(struct http_req *req, const char *name, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    http_reply_header(req, name, text);
}

/* OpenAI's form of a span: "1s", "6m0s", "120ms". */
static void put_span(struct http_req *req, const char *name, uint64_t ms)
{
    char text[32];
    uint64_t seconds = (ms + 999) / 1000;
    if (ms < 1000)
        snprintf(text, sizeof text, "%llums", (unsigned long long)ms);
    else if (seconds < 60)
        snprintf(text, sizeof text, "%llus", (unsigned long long)seconds);
    else
        snprintf(text, sizeof text, "%llum%llus", (unsigned long long)(seconds / 60),
                 (unsigned long long)(seconds % 60));
    http_reply_header(req, name, text);
}

static void put_headers(struct http_req *req, const struct limit_state *s)
{
    if (s->rates.requests_per_minute) {
        put(req, "X-RateLimit-Limit", s->rates.requests_per_minute);
        put(req, "X-RateLimit-Remaining", s->requests_left);
        put(req, "X-RateLimit-Reset", (uint64_t)(clock_unix_ms() + (int64_t)s->reset_ms + 999) / 1000);
        put(req, "x-ratelimit-limit-requests", s->rates.requests_per_minute);
        put(req, "x-ratelimit-remaining-requests", s->requests_left);
        put_span(req, "x-ratelimit-reset-requests", s->reset_ms);
    }
    if (s->rates.tokens_per_minute) {
        put(req, "x-ratelimit-limit-tokens", s->rates.tokens_per_minute);
        put(req, "x-ratelimit-remaining-tokens", s->tokens_left);
        put_span(req, "x-ratelimit-reset-tokens", s->reset_ms);
    }
}

bool api_admit_request(struct app *app, struct http_req *req)
{
    struct limit_state state;
    struct err err;
    const struct caller *caller = req->caller;
    struct str address = api_limit_address(app, req);
    bool let_in = api_admit(app, &req->arena, caller, address, &state, &err);
    put_headers(req, &state);
    if (!let_in)
        http_reply_error(req, &err);
    return let_in;
}

struct str api_limit_address(struct app *app, struct http_req *req)
{
    return counts_by(req->caller) == LIMIT_BY_ADDRESS ? api_client_address(app, req) : STR_NONE;
}

struct str api_client_address(struct app *app, struct http_req *req)
{
    char peer[HTTP_PEER_SIZE];
    struct str direct = str_from(http_req_peer(req, peer));
    struct str client = http_client_address(&req->head, direct, app->trusted, app->trusted_count);
    return client.p == direct.p ? arena_str(&req->arena, direct) : client;
}
