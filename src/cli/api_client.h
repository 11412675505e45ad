/* A command's line to a server: the public API, called and waited for. */
#ifndef CLI_API_CLIENT_H
#define CLI_API_CLIENT_H

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"

struct api_client;

/* url NULL: $INFERD_URL, else http://127.0.0.1:8080. "http://HOST:PORT" with a numeric host or localhost, or
 * "unix:PATH". The key, if any, is $INFERD_API_KEY. NULL and *err (ERR_USAGE) for anything else. */
struct api_client *api_client_new(const char *url, struct err *err);
void api_client_free(struct api_client *api);

/* One call: the reply's body in *body (initialised by the caller). An HTTP error becomes *err with the server's own
 * code and words; no server: ERR_BAD_GATEWAY that says how to start one. */
bool api_client_call(struct api_client *api, const char *method, const char *path, struct str request, struct buf *body,
                     struct err *err);
json_t *api_client_json(struct api_client *api, const char *method, const char *path, struct str request,
                        struct err *err);

/* A POST of another content type than JSON. */
json_t *api_client_form(struct api_client *api, const char *path, const char *content_type, struct str form,
                        struct err *err);

/* A streamed call: on_data for each event's data but [DONE]; false from it ends the call. Ctrl-C ends the stream, not
 * the program: then the call succeeds and *ret_interrupted is true. */
bool api_client_stream(struct api_client *api, const char *method, const char *path, struct str request,
                       bool (*on_data)(void *arg, struct str data), void *arg, bool *ret_interrupted, struct err *err);

/* "/v1/models/MODEL" + suffix, percent-encoded; free with mem_free. */
char *api_client_model_path(const char *model, const char *suffix);

/* Loads a model and waits; on_progress gets 0..1 a few times a second while it is being loaded, never when it is
 * loaded already. */
bool api_client_load(struct api_client *api, const char *model, void (*on_progress)(float fraction), struct err *err);

/* Opens what the user called MODEL: a file (served by a private server of our own unless url is given), or a name known
 * to the server. *ret_name is what to send as "model"; free it with mem_free. */
struct api_client *api_client_for_model(const char *url, const char *model, char **ret_name, struct err *err);

/* Starts a server of our own for this command when none was asked for: "inferd serve" on a private Unix socket,
 * serving file as name. Ends with api_client_free. */
struct api_client *api_client_private(const char *name, const char *file, struct err *err);

#endif
