/* What the API's description says of /v1/auth. */
#include "api/docs/doc.h"

#define JSON_BODY(schema)                                                                                              \
    {                                                                                                                  \
        {                                                                                                              \
            "application/json", schema                                                                                 \
        }                                                                                                              \
    }
#define JSON_REPLY(status, schema)                                                                                     \
    {                                                                                                                  \
        status,                                                                                                        \
        {                                                                                                              \
            "application/json", schema                                                                                 \
        }                                                                                                              \
    }
#define EMPTY_REPLY(status)                                                                                            \
    {                                                                                                                  \
        status,                                                                                                        \
        {                                                                                                              \
            NULL, NULL                                                                                                 \
        }                                                                                                              \
    }
#define TAG "Authentication"

const struct api_doc doc_auth_key_create = {
    .tag = TAG,
    .text = "A key is given no more than its maker has: permissions, models, instances, limits, time.",
    .bodies = JSON_BODY("AuthKeyRequest"),
    .replies = {JSON_REPLY(201, "NewAuthKey")},
    .errors = {409, 503},
};

const struct api_doc doc_auth_key_list = {.tag = TAG, .replies = {JSON_REPLY(200, "AuthKeys")}};

const struct api_doc doc_auth_key = {.tag = TAG, .replies = {JSON_REPLY(200, "AuthKey")}, .errors = {404}};

const struct api_doc doc_auth_key_delete = {.tag = TAG, .replies = {EMPTY_REPLY(204)}, .errors = {404, 503}};

const struct api_doc doc_auth_key_rotate = {
    .tag = TAG, .replies = {JSON_REPLY(200, "NewAuthKey")}, .errors = {404, 503}};

const struct api_doc doc_user_create = {
    .tag = TAG,
    .bodies = JSON_BODY("UserRequest"),
    .replies = {JSON_REPLY(201, "User")},
    .errors = {409, 503},
};

const struct api_doc doc_user_list = {.tag = TAG, .replies = {JSON_REPLY(200, "Users")}};

const struct api_doc doc_user = {.tag = TAG, .replies = {JSON_REPLY(200, "User")}, .errors = {404}};

const struct api_doc doc_user_update = {
    .tag = TAG,
    .text = "A new password ends the tokens given out so far.",
    .bodies = JSON_BODY("UserUpdate"),
    .replies = {JSON_REPLY(200, "User")},
    .errors = {404, 409, 503},
};

const struct api_doc doc_user_delete = {.tag = TAG, .replies = {EMPTY_REPLY(204)}, .errors = {404, 409, 503}};

const struct api_doc doc_login = {
    .tag = TAG,
    .text = "After repeated failures a name has to wait, longer each time, and so has an address.",
    .bodies = JSON_BODY("Login"),
    .replies = {JSON_REPLY(200, "Token")},
    .errors = {401, 429, 503},
};

const struct api_doc doc_logout = {.tag = TAG, .replies = {EMPTY_REPLY(204)}, .errors = {409, 503}};

const struct api_doc doc_who_am_i = {.tag = TAG, .replies = {JSON_REPLY(200, "WhoAmI")}};
