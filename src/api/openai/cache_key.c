#include "api/openai/cache.h"
#include "base/json_read.h"

/* Members that change nothing in the reply. A name that is not here counts, known to us or not. */
static const char *const idle_members[] = {
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_options"};

static bool is_deterministic(const json_t *body)
{
    const json_t *temperature = json_object_get(body, "temperature");
    return (json_is_number(temperature) && json_number_value(temperature) == 0) ||
           json_is_integer(json_object_get(body, "seed"));
}

/* What lies behind a URL can change: an image that is fetched anew may be another one. */
static bool looks_elsewhere(const json_t *body)
{
    size_t i, n;
    const json_t *message, *part;
    json_array_foreach(json_object_get(body, "messages"), i, message)
        json_array_foreach(json_object_get(message, "content"), n, part)
    {
        struct str url = json_str(json_object_get(json_object_get(part, "image_url"), "url"));
        if (url.n >= 4 && str_ieq((struct str){url.p, 4}, STR("http")))
            return true;
    }
    return false;
}

static bool is_cacheable(struct str path, const json_t *body)
{
    if (str_eq(path, STR("/v1/embeddings")))
        return true;
    return (str_eq(path, STR("/v1/chat/completions")) || str_eq(path, STR("/v1/completions"))) &&
           is_deterministic(body) && !looks_elsewhere(body);
}

static bool digest(struct str path, json_t *body, const char *model_id, int64_t tenant, struct cache_key *key)
{
    for (size_t i = 0; i < sizeof idle_members / sizeof *idle_members; i++)
        json_object_del(body, idle_members[i]);
    json_object_set_new(body, "model", json_string(model_id)); /* however the client calls it */
    char *text = json_dumps(body, JSON_COMPACT | JSON_SORT_KEYS);
    if (!text)
        return false;
    struct buf all;
    buf_init(&all, LIMIT_BODY_BYTES_MAX);
    buf_printf(&all, STR_FMT "\n%lld\n", STR_ARG(path), (long long)tenant);
    buf_puts(&all, text);
    free(text);
    bool good = buf_ok(&all);
    if (good)
        hash_sha256(all.data, all.len, key->digest);
    buf_release(&all);
    return good;
}

bool cache_key_of(struct str path, struct str body, const char *model_id, int64_t tenant, struct cache_key *ret_key)
{
    struct err err;
    json_t *document = json_read(body, &err);
    bool good = json_is_object(document) && is_cacheable(path, document);
    if (good) {
        ret_key->streamed = json_is_true(json_object_get(document, "stream"));
        good = digest(path, document, model_id, tenant, ret_key);
    }
    json_decref(document);
    return good;
}
