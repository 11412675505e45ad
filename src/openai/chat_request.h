/* POST /v1/chat/completions: the body as a struct. Messages, tools and template arguments come out as JSON texts in
 * one normal form, whatever spelling the client used (developer role, content parts, the legacy functions), so that
 * the chat template meets one dialect only. */
#ifndef OPENAI_CHAT_REQUEST_H
#define OPENAI_CHAT_REQUEST_H

#include "openai/request.h"

enum openai_tool_mode { OPENAI_TOOLS_AUTO, OPENAI_TOOLS_NONE, OPENAI_TOOLS_REQUIRED };

struct openai_image {
    struct str url;   /* as the client gave it */
    const char *path; /* of the member that holds it, for errors: "messages[2].content[1].image_url" */
};

#define OPENAI_IMAGE_MARK 48 /* bytes of a mark, its NUL included */

struct openai_chat {
    struct str model;
    struct openai_sampling sampling;
    struct str messages;               /* array; roles system, user, assistant, tool; content a string or null */
    const struct openai_image *images; /* in their order; in messages a mark stands for each (openai_image_mark) */
    size_t image_count;
    char image_secret[24]; /* of the marks: random, so that no text of a client is taken for one */
    struct str tools;      /* array of {type:"function",function}; STR_NONE without tools */
    enum openai_tool_mode tool_mode;
    bool parallel_tool_calls;
    bool legacy_functions;      /* asked with functions: answer with function_call */
    struct str json_schema;     /* what the reply must match; "{}" for json_object; STR_NONE for text */
    struct str template_kwargs; /* object, or STR_NONE */
    bool enable_thinking;
    bool logprobs;
    int64_t top_logprobs;
};

/* The result lives as long as the arena. */
bool openai_chat_read(struct str body, const struct openai_defaults *defaults, struct arena *arena,
                      struct openai_chat *ret_request, struct err *err);

/* The messages alone, e.g. for /apply-template; the other fields are read too when they are there. */
bool openai_chat_from_document(const json_t *document, const struct openai_defaults *defaults, struct arena *arena,
                               struct openai_chat *ret_request, struct err *err);

/* What stands in messages, and so in a prompt made of them, for the image of that index. Returns out. */
char *openai_image_mark(const struct openai_chat *chat, size_t index, char out[OPENAI_IMAGE_MARK]);

/* A prompt's text in front of the first mark, which is cut off it together with the mark. *ret_index: of the mark's
 * image, SIZE_MAX when there was none and the whole text is returned. */
struct str openai_image_cut(const struct openai_chat *chat, struct str *text, size_t *ret_index);

/* 1 to LIMIT_TOOL_NAME of the characters a-z A-Z 0-9 _ - */
bool openai_tool_name_ok(struct str name);

/* Parts of the above, each with its own file. */
bool openai_messages_read(const json_t *body, struct arena *arena, struct openai_chat *chat, struct err *err);
bool openai_tools_read(const json_t *body, struct arena *arena, struct openai_chat *chat, struct err *err);

#endif
