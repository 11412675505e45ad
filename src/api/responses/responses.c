/* The routes of OpenAI's Responses API, and those of them that look at turns that were kept. */
#include "api/responses/responses.h"

#include "api/docs/doc.h"
#include "api/responses/chain.h"
#include "http/query.h"

#define PAGE_DEFAULT 20

/* ---- a response, its end ---- */

static void on_response(void *arg, struct str input, struct str body, const struct err *err)
{
    struct http_req *req = arg;
    (void)input;
    if (err)
        http_reply_error(req, err);
    else
        http_reply(req, 200, "application/json", body);
}

static void look(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    struct str stream;
    struct err err;
    if (http_query_find(&req->arena, req->head.query, "stream", &stream) && str_eq(stream, STR("true"))) {
        err_set_param(&err, ERR_NOT_SUPPORTED, "stream", "'stream': a finished response is not streamed again");
        http_reply_error(req, &err);
        return;
    }
    chain_find(app, &req->arena, chain_owner(req), match->captures[0], on_response, req);
}

struct removal {
    struct http_req *req;
    struct str id;
};

static void on_deleted(void *arg, const struct err *err)
{
    const struct removal *removal = arg;
    if (err) {
        http_reply_error(removal->req, err);
        return;
    }
    struct json *j = api_json_begin(removal->req);
    json_open_object(j, NULL);
    json_put_text(j, "id", removal->id);
    json_put_string(j, "object", "response");
    json_put_bool(j, "deleted", true);
    json_close(j);
    api_reply_json(removal->req, 200, j);
}

static void delete (void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    struct removal *removal = arena_alloc(&req->arena, sizeof *removal);
    *removal = (struct removal){req, match->captures[0]};
    chain_delete(app, &req->arena, chain_owner(req), removal->id, on_deleted, removal);
}

static void on_cancelled(void *arg, struct str input, struct str body, const struct err *err)
{
    struct http_req *req = arg;
    struct err refusal;
    (void)input;
    (void)body;
    err_set(&refusal, ERR_INVALID_PARAMETERS, "only a background response can be cancelled; this one is complete");
    http_reply_error(req, err ? err : &refusal);
}

static void cancel(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    chain_find(app, &req->arena, chain_owner(req), match->captures[0], on_cancelled, req);
}

/* ---- input items ---- */

struct page {
    struct http_req *req;
    uint64_t limit;
    bool ascending;
    struct str after;
};

static const json_t *item_at(const struct page *page, const json_t *items, size_t i)
{
    return json_array_get(items, page->ascending ? i : json_array_size(items) - 1 - i);
}

static void put_id(struct json *j, const char *key, const json_t *item)
{
    json_put_value(j, key, json_object_get(item, "id"));
}

static void write_page(const struct page *page, const json_t *items, struct json *j)
{
    size_t count = json_array_size(items), from = 0;
    for (size_t i = 0; page->after.n && i < count; i++)
        if (str_eq(json_str(json_object_get(item_at(page, items, i), "id")), page->after))
            from = i + 1;
    size_t end = count - from > page->limit ? from + page->limit : count;
    json_open_object(j, NULL);
    json_put_string(j, "object", "list");
    json_open_array(j, "data");
    for (size_t i = from; i < end; i++)
        json_put_value(j, NULL, item_at(page, items, i));
    json_close(j);
    put_id(j, "first_id", from < end ? item_at(page, items, from) : NULL);
    put_id(j, "last_id", from < end ? item_at(page, items, end - 1) : NULL);
    json_put_bool(j, "has_more", end < count);
    json_close(j);
}

static void on_items(void *arg, struct str input, struct str body, const struct err *err)
{
    const struct page *page = arg;
    struct err unreadable;
    (void)body;
    json_t *items = err ? NULL : json_read(input, &unreadable);
    if (!items) {
        http_reply_error(page->req, err ? err : &unreadable);
        return;
    }
    struct json *j = api_json_begin(page->req);
    write_page(page, items, j);
    json_decref(items);
    api_reply_json(page->req, 200, j);
}

static bool read_page(struct page *page, struct err *err)
{
    struct http_req *req = page->req;
    struct str limit, order;
    http_query_find(&req->arena, req->head.query, "after", &page->after);
    if (http_query_find(&req->arena, req->head.query, "limit", &limit) &&
        (!str_u64(limit, LIMIT_RESPONSE_PAGE, &page->limit) || page->limit == 0))
        return err_set_param(err, ERR_INVALID_PARAMETERS, "limit", "'limit' must be between 1 and %d",
                             LIMIT_RESPONSE_PAGE);
    if (!http_query_find(&req->arena, req->head.query, "order", &order))
        return true;
    page->ascending = str_eq(order, STR("asc"));
    return page->ascending || str_eq(order, STR("desc")) ||
           err_set_param(err, ERR_INVALID_PARAMETERS, "order", "'order' must be 'asc' or 'desc'");
}

static void items(void *arg, struct http_req *req, const struct http_match *match)
{
    struct app *app = arg;
    struct page *page = arena_calloc(&req->arena, sizeof *page);
    struct err err;
    *page = (struct page){.req = req, .limit = PAGE_DEFAULT};
    if (read_page(page, &err))
        chain_find(app, &req->arena, chain_owner(req), match->captures[0], on_items, page);
    else
        http_reply_error(req, &err);
}

/* ---- routes ---- */

#define JSON_TYPE "application/json"

static const struct api_doc doc_response_create = {
    .tag = "Responses",
    .text = "Answered by a chat completion of the model. A response is kept for 30 days, for whoever presents the same "
            "key, unless store is false; previous_response_id goes on from it.",
    .bodies = {{JSON_TYPE, "ResponseRequest"}},
    .replies = {{200, {JSON_TYPE, "Response"}}, {200, {"text/event-stream", "ResponseStream"}}},
    .errors = {404, 409, 502, 503, 504},
    .passes = true,
};

static const struct api_doc doc_response = {
    .tag = "Responses",
    .replies = {{200, {JSON_TYPE, "Response"}}},
    .errors = {404},
};

static const struct api_doc doc_response_delete = {
    .tag = "Responses",
    .replies = {{200, {JSON_TYPE, "ResponseDeleted"}}},
    .errors = {404},
};

/* The 400 that answers every call is among those that each route has. */
static const struct api_doc doc_response_cancel = {
    .tag = "Responses",
    .text = "No response runs in the background, so none can be cancelled.",
    .body_optional = true,
    .replies = {{200, {JSON_TYPE, "Response"}}},
    .errors = {404},
};

static const struct api_doc doc_response_items = {
    .tag = "Responses",
    .params = {{"limit", "integer", "1 to 100 items of a page; 20 when it is not given", false},
               {"order", "string", "asc, or desc: the last one first", false},
               {"after", "string", "the id of the item behind which the page begins", false}},
    .replies = {{200, {JSON_TYPE, "ResponseItems"}}},
    .errors = {404},
};

#define OPENAI (void *)&openai_dialect

static const struct http_route routes[] = {
    {"POST", "/v1/responses", response_create, OPENAI, "A response, kept for the next turn", AUTH_INFERENCE,
     &doc_response_create},
    {"GET", "/v1/responses/{id}", look, OPENAI, "A response that was kept", AUTH_INFERENCE, &doc_response},
    {"DELETE", "/v1/responses/{id}", delete, OPENAI, "Forget a response", AUTH_INFERENCE, &doc_response_delete},
    {"POST", "/v1/responses/{id}/cancel", cancel, OPENAI, "Refused: no response runs in the background", AUTH_INFERENCE,
     &doc_response_cancel},
    {"GET", "/v1/responses/{id}/input_items", items, OPENAI, "The items that one response was asked with",
     AUTH_INFERENCE, &doc_response_items},
};

void responses_routes(struct http_router *router)
{
    http_router_add(router, routes, sizeof routes / sizeof *routes);
}
