/* Options come as JSON and stay JSON: a canonical document is what the store keeps and what merges apply to; struct
 * options is a reading of it that is made anew whenever it changes. Only what was said is kept, so that a changed
 * default of the configuration reaches every instance that never spoke of it. */
#include "instance/options.h"

#define SECRET_SHOWN "***"

static const char *const option_names[] = {
    "auto_restart", "max_restarts", "restart_delay",  "on_demand_start",  "idle_timeout",
    "environment",  "nodes",        "docker_enabled", "command_override", "preset_ini",
    "group",        "pinned",       "preload",        "backend_type",     "backend_options",
};
/* What an exported instance or our own clients send beside options. */
static const char *const other_names[] = {"start", "id", "name", "status", "created", "warnings", "options"};

static bool is_one_of(const char *key, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(key, names[i]) == 0)
            return true;
    return false;
}

static bool is_option(const char *key)
{
    return is_one_of(key, option_names, sizeof option_names / sizeof *option_names);
}

static bool is_secret(const char *key)
{
    static const char *const secrets[] = {"api_key", "hf_token"};
    return is_one_of(key, secrets, sizeof secrets / sizeof *secrets);
}

bool options_check_name(struct str name, const char *what, struct err *err)
{
    bool good = name.n >= 1 && name.n <= LIMIT_INSTANCE_NAME && !str_eq(name, STR(".")) && !str_eq(name, STR(".."));
    for (size_t i = 0; good && i < name.n; i++) {
        char c = name.p[i];
        good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
               c == '-';
    }
    return good || err_set(err, ERR_INVALID_PARAMETERS,
                           "%s must have 1 to %d of the characters A-Z a-z 0-9 . _ - and be neither '.' nor '..'", what,
                           LIMIT_INSTANCE_NAME);
}

/* ---- the shapes a body may have ---- */

/* A flat body says backend_options at the top. */
static json_t *unflattened(const json_t *body)
{
    const char *key;
    json_t *value;
    json_t *out = json_object(), *backend = NULL;
    bool flat = !json_object_get(body, "backend_type") && !json_object_get(body, "backend_options");
    json_object_foreach((json_t *)body, key, value)
    {
        if (is_option(key)) {
            json_object_set(out, key, value);
        } else if (flat && !is_one_of(key, other_names, sizeof other_names / sizeof *other_names)) {
            if (!backend)
                backend = json_object();
            json_object_set(backend, key, value);
        }
    }
    if (backend)
        json_object_set_new(out, "backend_options", backend);
    return out;
}

static bool check_environment(const json_t *environment, struct err *err)
{
    const char *key;
    json_t *value;
    if (!environment || json_is_null(environment))
        return true;
    if (!json_is_object(environment))
        return err_set_param(err, ERR_INVALID_PARAMETERS, "environment", "'environment' must be an object of strings");
    json_object_foreach((json_t *)environment, key, value)
    {
        if (!json_is_string(value))
            return err_set_param(err, ERR_INVALID_PARAMETERS, "environment", "'environment.%s' must be a string", key);
        if (!*key || strchr(key, '=') || strlen(json_string_value(value)) != json_string_length(value))
            return err_set_param(err, ERR_INVALID_PARAMETERS, "environment",
                                 "'environment' has a name that is empty or holds '=', or a value with a NUL in it");
    }
    return true;
}

static bool check_nodes(const json_t *nodes, struct err *err)
{
    size_t index;
    json_t *value;
    if (!nodes || json_is_null(nodes))
        return true;
    if (!json_is_array(nodes) || json_array_size(nodes) > LIMIT_NODES)
        return err_set_param(err, ERR_INVALID_PARAMETERS, "nodes", "'nodes' must be an array of at most %d names",
                             LIMIT_NODES);
    json_array_foreach((json_t *)nodes, index, value) if (!json_is_string(value)) return err_set_param(
        err, ERR_INVALID_PARAMETERS, "nodes", "'nodes' must be an array of names");
    return true;
}

static bool check_group(const json_t *group, struct err *err)
{
    struct str name = json_str(group);
    if (!group || json_is_null(group) || (json_is_string(group) && name.n == 0))
        return true;
    if (json_is_string(group) && options_check_name(name, "'group'", err))
        return true;
    if (!json_is_string(group))
        err_set(err, ERR_INVALID_PARAMETERS, "'group' must be a string");
    snprintf(err->param, sizeof err->param, "group");
    return false;
}

/* It goes into a header of every request to the backend. */
static bool fits_a_header(struct str key)
{
    bool good = key.n <= LIMIT_BACKEND_KEY;
    for (size_t i = 0; good && i < key.n; i++)
        good = key.p[i] > ' ' && key.p[i] < 0x7f;
    return good;
}

static bool check_keys(const json_t *keys, struct err *err)
{
    size_t index;
    json_t *key;
    bool good = fits_a_header(json_str(keys));
    json_array_foreach((json_t *)keys, index, key) good = good && fits_a_header(json_str(key));
    return good || err_set_param(err, ERR_INVALID_PARAMETERS, "backend_options.api_key",
                                 "'backend_options.api_key' must be printable ASCII without blanks, at most %d bytes",
                                 LIMIT_BACKEND_KEY);
}

struct str options_backend_key(const struct options *o)
{
    const json_t *keys = json_object_get(o->backend_options, "api_key");
    struct str all = json_str(json_is_array(keys) ? json_array_get(keys, 0) : keys);
    struct str first = all.p ? str_cut(&all, ',') : STR_NONE;
    return first.n ? first : STR_NONE;
}

/* llamactl turns negative numbers into 0; so do we. */
static void raise_to_zero(json_t *document, const char *key)
{
    json_t *value = json_object_get(document, key);
    if (json_is_number(value) && json_number_value(value) < 0)
        json_object_set_new(document, key, json_integer(0));
}

static bool put_canonical_backend(json_t *document, struct err *err)
{
    const json_t *type = json_object_get(document, "backend_type"),
                 *given = json_object_get(document, "backend_options");
    if (!type || json_is_null(type))
        json_object_set_new(document, "backend_type", json_string("llama_cpp"));
    else if (!json_is_string(type))
        return err_set_param(err, ERR_INVALID_PARAMETERS, "backend_type", "'backend_type' must be a string");
    if (given && !json_is_object(given) && !json_is_null(given))
        return err_set_param(err, ERR_INVALID_PARAMETERS, "backend_options", "'backend_options' must be an object");
    const struct backend *backend = backend_find(json_str(json_object_get(document, "backend_type")), err);
    json_t *empty = json_object();
    json_t *canonical = backend ? backend->canonical(json_is_object(given) ? given : empty, err) : NULL;
    json_decref(empty);
    if (!canonical)
        return false;
    json_object_set_new(document, "backend_options", canonical);
    return true;
}

static void remove_nulls(json_t *document)
{
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(document, next, key, value) if (json_is_null(value)) json_object_del(document, key);
}

/* Takes document over. */
static json_t *checked(json_t *document, struct err *err)
{
    struct options options;
    remove_nulls(document);
    raise_to_zero(document, "max_restarts");
    raise_to_zero(document, "restart_delay");
    raise_to_zero(document, "idle_timeout");
    struct conf conf;
    conf_init(&conf);
    json_t *result = NULL;
    if (put_canonical_backend(document, err) && options_read(&options, json_incref(document), &conf, err)) {
        options_release(&options);
        result = json_incref(document);
    }
    conf_release(&conf);
    json_decref(document);
    return result;
}

json_t *options_canonical(const json_t *body, struct err *err)
{
    return checked(unflattened(body), err);
}

/* ---- merging ---- */

static bool keeps(const char *table, const char *key, const json_t *value)
{
    bool hidden = strcmp(table, "environment") == 0 || is_secret(key);
    return hidden && json_is_string(value) && strcmp(json_string_value(value), SECRET_SHOWN) == 0;
}

static void merge_into(json_t *target, const json_t *patch, const char *table)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)patch, key, value)
    {
        json_t *old = json_object_get(target, key);
        if (keeps(table, key, value))
            continue;
        if (json_is_null(value)) {
            json_object_del(target, key);
        } else if (json_is_object(value)) {
            json_t *inner = json_is_object(old) ? json_copy(old) : json_object();
            merge_into(inner, value, key);
            json_object_set_new(target, key, inner);
        } else {
            json_object_set(target, key, value);
        }
    }
}

/* A patch names a flag by any of its names: it is brought into canonical shape first, nulls aside. */
static bool canonical_patch(json_t *patch, const json_t *document, struct err *err)
{
    json_t *given = json_object_get(patch, "backend_options");
    const json_t *type = json_object_get(patch, "backend_type");
    const char *key;
    json_t *value;
    if (!json_is_object(given))
        return true;
    const struct backend *backend =
        backend_find(json_str(json_is_string(type) ? type : json_object_get(document, "backend_type")), err);
    if (!backend)
        return false;
    json_t *result = json_object(), *values = json_object();
    json_object_foreach(given, key, value)
    {
        if (json_is_null(value))
            json_object_set(result, key, value);
        else
            json_object_set(values, key, value);
    }
    /* Required keys may stand in the document only: what they say is not part of the patch. */
    json_t *probe = json_copy(json_object_get(document, "backend_options"));
    json_object_update(probe, values);
    json_t *canonical = backend->canonical(probe, err);
    bool good = canonical != NULL;
    if (good) {
        json_t *before = json_object_get(document, "backend_options");
        json_object_foreach(canonical, key, value) if (!json_equal(json_object_get(before, key), value))
            json_object_set(result, key, value);
        json_object_set(patch, "backend_options", result);
    }
    json_decref(canonical);
    json_decref(probe);
    json_decref(values);
    json_decref(result);
    return good;
}

json_t *options_merge(const json_t *document, const json_t *patch, struct err *err)
{
    json_t *change = unflattened(patch), *merged = json_deep_copy(document);
    const json_t *type = json_object_get(change, "backend_type");
    bool other = json_is_string(type) && !json_equal(type, json_object_get(document, "backend_type"));
    if (other) /* another program's options mean nothing to this one */
        json_object_del(merged, "backend_options");
    if (!other && !canonical_patch(change, document, err)) {
        json_decref(change);
        json_decref(merged);
        return NULL;
    }
    merge_into(merged, change, "");
    json_decref(change);
    return checked(merged, err);
}

/* ---- reading ---- */

int options_port(const json_t *document)
{
    return (int)json_integer_value(json_object_get(json_object_get(document, "backend_options"), "port"));
}

static const char *text_of(const json_t *document, const char *key)
{
    const char *text = json_string_value(json_object_get(document, key));
    return text ? text : "";
}

bool options_read(struct options *o, json_t *document, const struct conf *conf, struct err *err)
{
    *o = (struct options){.document = document,
                          .auto_restart = conf->default_auto_restart,
                          .on_demand_start = conf->default_on_demand_start,
                          .max_restarts = conf->default_max_restarts,
                          .restart_delay = conf->default_restart_delay,
                          .idle_timeout = conf->default_idle_timeout};
    static const struct json_field fields[] = {
        JSON_FIELD(struct options, auto_restart, "auto_restart", JSON_KIND_BOOL, 0, 0),
        JSON_FIELD(struct options, on_demand_start, "on_demand_start", JSON_KIND_BOOL, 0, 0),
        JSON_FIELD(struct options, docker, "docker_enabled", JSON_KIND_BOOL, 0, 0),
        JSON_FIELD(struct options, pinned, "pinned", JSON_KIND_BOOL, 0, 0),
        JSON_FIELD(struct options, preload, "preload", JSON_KIND_BOOL, 0, 0),
        JSON_FIELD(struct options, max_restarts, "max_restarts", JSON_KIND_INT, 0, 1000000),
        JSON_FIELD(struct options, restart_delay, "restart_delay", JSON_KIND_INT, 0, 86400),
        JSON_FIELD(struct options, idle_timeout, "idle_timeout", JSON_KIND_INT, 0, 525600),
    };
    static const char *const texts[] = {"command_override", "preset_ini"};
    o->backend = backend_find(str_from(text_of(document, "backend_type")), err);
    if (!o->backend)
        goto bad;
    const struct conf_backend *section = conf_backend_find(conf, str_from(o->backend->section));
    o->docker = section && section->docker_enabled;
    if (!json_fields(document, fields, sizeof fields / sizeof *fields, o, "", err))
        goto bad;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const json_t *value = json_object_get(document, texts[i]);
        if (value && (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value))) {
            err_set_param(err, ERR_INVALID_PARAMETERS, texts[i], "'%s' must be a string without NUL characters",
                          texts[i]);
            goto bad;
        }
    }
    o->environment = json_object_get(document, "environment");
    o->nodes = json_object_get(document, "nodes");
    if (!check_environment(o->environment, err) || !check_nodes(o->nodes, err) ||
        !check_group(json_object_get(document, "group"), err) ||
        !check_keys(json_object_get(json_object_get(document, "backend_options"), "api_key"), err))
        goto bad;
    o->docker = o->docker && o->backend->docker;
    o->backend_options = json_object_get(document, "backend_options");
    o->command_override = o->docker ? "" : text_of(document, "command_override");
    o->preset_ini = text_of(document, "preset_ini");
    o->group = text_of(document, "group");
    return true;
bad:
    options_release(o);
    return false;
}

void options_release(struct options *o)
{
    json_decref(o->document);
    *o = (struct options){0};
}

/* ---- showing ---- */

static void hide(json_t *object, bool all)
{
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(object, next, key, value) if (all || is_secret(key))
        json_object_set_new(object, key, json_string(SECRET_SHOWN));
}

json_t *options_shown(const struct options *o)
{
    json_t *shown = json_object(), *copy = json_deep_copy(o->document);
    json_object_set_new(shown, "auto_restart", json_boolean(o->auto_restart));
    json_object_set_new(shown, "max_restarts", json_integer(o->max_restarts));
    json_object_set_new(shown, "restart_delay", json_integer(o->restart_delay));
    json_object_set_new(shown, "on_demand_start", json_boolean(o->on_demand_start));
    json_object_set_new(shown, "idle_timeout", json_integer(o->idle_timeout));
    json_object_set_new(shown, "docker_enabled", json_boolean(o->docker));
    json_object_set_new(shown, "pinned", json_boolean(o->pinned));
    json_object_update(copy, shown);
    json_decref(shown);
    hide(json_object_get(copy, "environment"), true);
    hide(json_object_get(copy, "backend_options"), false);
    return copy;
}
