/* The options of a named instance: the JSON object of the API (specs/llamactl.md 2.1) and what it means here. */
#ifndef INSTANCE_OPTIONS_H
#define INSTANCE_OPTIONS_H

#include "base/err.h"
#include "base/json_read.h"
#include "conf/conf.h"
#include "instance/backend.h"

struct options {
    json_t *document; /* canonical: only what was said; secrets in clear */
    const struct backend *backend;
    const json_t *backend_options; /* borrowed from document, as the strings below */
    bool auto_restart, on_demand_start, docker, pinned, preload;
    int64_t max_restarts, restart_delay, idle_timeout; /* seconds; minutes */
    const char *command_override, *preset_ini, *group; /* "" when not said */
    const json_t *environment, *nodes;                 /* or NULL */
};

/* The body of a create request in canonical shape: a flat body (keys that are no instance options, no backend_type)
 * becomes backend_options of llama_cpp. A new document, or NULL and *err with the param at fault. */
json_t *options_canonical(const json_t *body, struct err *err);

/* RFC 7396, deep in backend_options and environment: null removes; "***" for a secret keeps the stored one. A new
 * canonical document, or NULL and *err. */
json_t *options_merge(const json_t *document, const json_t *patch, struct err *err);

/* Takes the reference to document over, also on failure. Defaults come from conf. */
bool options_read(struct options *options, json_t *document, const struct conf *conf, struct err *err);
void options_release(struct options *options);

/* The key that the backend asks its callers for: the first of several (a list, or llama-server's comma-separated text).
 * STR_NONE when it asks for none. Fit for a header line: options_read has looked. */
struct str options_backend_key(const struct options *options);

/* As the API shows it: defaults filled in, environment values and keys as "***". A new document. */
json_t *options_shown(const struct options *options);

/* An explicit backend_options.port, or 0. */
int options_port(const json_t *document);

/* ERR_INVALID_PARAMETERS unless 1..50 of A-Z a-z 0-9 . _ - and neither "." nor "..". */
bool options_check_name(struct str name, const char *what, struct err *err);

#endif
