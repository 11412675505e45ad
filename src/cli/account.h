/* What the commands for keys and users share: calls to /v1/auth. */
#ifndef CLI_ACCOUNT_H
#define CLI_ACCOUNT_H

#include "cli/api_client.h"

/* "/v1/auth/" collection "/" id suffix, the id percent-encoded; free with mem_free. */
char *account_path(const char *collection, const char *id, const char *suffix);

/* A call whose answer is JSON; body is stolen and may be NULL. NULL and *err. */
json_t *account_call(struct api_client *api, const char *method, const char *path, json_t *body, struct err *err);

/* A DELETE, told with "NAME: removed". Returns the exit status. */
int account_remove(struct api_client *api, const char *collection, const char *id, const char *name, struct err *err);

const char *account_text(const json_t *object, const char *member); /* "-" for what is null or no text */

/* "a, b" as a JSON array of texts, blanks around them cut; NULL for NULL. */
json_t *account_list(const char *commas);

/* A password: asked for twice without echo on a terminal, else the first line of standard input. Free with mem_free
 * after wiping. NULL and *err (ERR_USAGE). */
char *account_password(struct err *err);

#endif
