#include "api/batch/entry.h"

#include "base/json_copy.h"
#include "base/map.h"

static struct str own_id(const json_t *item)
{
    struct str id = json_str(json_object_get(item, "id"));
    return id.p && id.n > 0 && id.n <= LIMIT_BATCH_ID ? id : STR_NONE;
}

static bool streams(const json_t *object)
{
    return json_is_true(json_object_get(object, "stream"));
}

static bool check_stream(const struct batch_entries *entries, struct err *err)
{
    char path[LIMIT_ERR_PARAM] = "stream";
    bool found = streams(entries->defaults);
    for (size_t i = 0; i < entries->count && !found; i++) {
        found = streams(json_array_get(entries->items, i));
        snprintf(path, sizeof path, "requests[%zu].stream", i);
    }
    return !found || err_set_param(err, ERR_INVALID_PARAMETERS, path, "'stream': a batch is answered as a whole");
}

static bool name_all(struct batch_entries *entries, struct arena *arena, struct err *err)
{
    struct map seen;
    char path[LIMIT_ERR_PARAM];
    bool good = true;
    map_init(&seen);
    entries->ids = arena_calloc(arena, (entries->count + 1) * sizeof *entries->ids);
    for (size_t i = 0; i < entries->count && good; i++) {
        struct str id = own_id(json_array_get(entries->items, i));
        entries->ids[i] = id.p ? id : str_from(arena_printf(arena, "req-%zu", i));
        if (!map_put(&seen, entries->ids[i], arena))
            continue;
        snprintf(path, sizeof path, "requests[%zu].id", i);
        good = err_set_param(err, ERR_INVALID_PARAMETERS, path, "'%s': the id '%.*s' is there twice", path,
                             entries->ids[i].n > 64 ? 64 : (int)entries->ids[i].n, entries->ids[i].p);
    }
    map_release(&seen);
    return good;
}

bool batch_entries_read(struct str body, unsigned max, struct arena *arena, struct batch_entries *ret_entries,
                        struct err *err)
{
    json_t *document = json_read(body, err);
    if (!document)
        return false;
    json_give(document, arena);
    if (!json_is_object(document))
        return err_set(err, ERR_INVALID_JSON, "the body must be a JSON object, but is %s", json_kind_name(document));
    const json_t *items = json_object_get(document, "requests");
    if (!json_is_array(items))
        return err_set_param(err, ERR_INVALID_PARAMETERS, "requests", "'requests' must be an array");
    struct batch_entries entries = {.defaults = document, .items = items, .count = json_array_size(items)};
    if (entries.count == 0 || entries.count > max)
        return err_set_param(err, ERR_INVALID_PARAMETERS, "requests", "'requests' must have 1 to %u items, not %zu",
                             max, entries.count);
    if (!check_stream(&entries, err) || !name_all(&entries, arena, err))
        return false;
    *ret_entries = entries;
    return true;
}

static bool is_given(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return value && !json_is_null(value);
}

/* What the item asks with, "messages" or "prompt": its own, else the default; NULL and *err when that is not one. */
static const char *question(const json_t *defaults, const json_t *item, struct err *err)
{
    const json_t *from = is_given(item, "messages") || is_given(item, "prompt") ? item : defaults;
    bool chat = is_given(from, "messages"), text = is_given(from, "prompt");
    if (chat != text)
        return chat ? "messages" : "prompt";
    err_set_param(err, ERR_INVALID_PARAMETERS, "messages",
                  chat ? "a request has 'messages' or 'prompt', not both" : "a request needs 'messages' or 'prompt'");
    return NULL;
}

bool batch_entry_check(const struct batch_entries *entries, size_t i, struct str *ret_path, struct err *err)
{
    const json_t *item = json_array_get(entries->items, i), *id = json_object_get(item, "id");
    if (!json_is_object(item))
        return err_set(err, ERR_INVALID_PARAMETERS, "a request of a batch must be an object, but is %s",
                       json_kind_name(item));
    if (id && !json_is_null(id) && !own_id(item).p)
        return err_set_param(err, ERR_INVALID_PARAMETERS, "id", "'id' must be a string of 1 to %d bytes",
                             LIMIT_BATCH_ID);
    const char *asked = question(entries->defaults, item, err);
    if (!asked)
        return false;
    *ret_path = strcmp(asked, "messages") == 0 ? STR("/v1/chat/completions") : STR("/v1/completions");
    return true;
}

/* Shallow: values are shared with the document. */
struct str batch_entry_body(const struct batch_entries *entries, size_t i, struct arena *arena)
{
    json_t *item = json_array_get(entries->items, i), *merged = json_copy((json_t *)entries->defaults);
    const char *asked = question(entries->defaults, item, NULL);
    json_object_del(merged, "requests");
    json_object_del(merged, strcmp(asked, "messages") == 0 ? "prompt" : "messages");
    json_object_update(merged, item);
    json_object_del(merged, "id");
    struct str body = json_text(merged, arena);
    json_decref(merged);
    return body;
}
