/* Chat templates, tool-call and reasoning parsing, JSON schema to grammar: a C cover over llama.cpp's C++ `common`
 * (chat_shim.cpp is the only C++ in the tree). No exception crosses this line. Loop thread only; all text is UTF-8. */
#ifndef WORKER_CHAT_H
#define WORKER_CHAT_H

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include "worker/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

struct chat_templates;

/* info->chat_template, or the override when not NULL. Without a template at all ("" base models): NULL and
 * ERR_NOT_SUPPORTED when strict; see chat_templates_explicit. */
struct chat_templates *chat_templates_new(const struct engine_info *info, const char *override, struct err *err);
void chat_templates_free(struct chat_templates *templates);
bool chat_templates_explicit(
    const struct chat_templates *templates);                       /* the file carries one; else a generic stands in */
bool chat_templates_think(const struct chat_templates *templates); /* the template knows enable_thinking */

enum chat_tool_choice { CHAT_TOOLS_AUTO, CHAT_TOOLS_NONE, CHAT_TOOLS_REQUIRED };

/* All documents are OpenAI-shaped JSON texts, already validated by the caller; STR_NONE where absent. */
struct chat_request {
    struct str messages; /* array; roles system, user, assistant, tool; content string, parts or null */
    struct str tools;    /* array of {type:function,...}; a forced single tool is an array of one + REQUIRED */
    enum chat_tool_choice tool_choice;
    bool parallel_tool_calls;
    struct str json_schema;     /* response_format's schema; "{}" for json_object */
    struct str grammar;         /* caller's own GBNF */
    struct str template_kwargs; /* object */
    bool enable_thinking;
    bool add_generation_prompt;
};

/* What to feed the scheduler with. Everything lies in the arena given to chat_render. */
struct chat_prompt {
    struct str text;
    const char *grammar; /* NULL: none */
    bool grammar_lazy;
    const char *const *trigger_patterns;
    size_t trigger_pattern_count;
    const engine_token *trigger_tokens;
    size_t trigger_token_count;
    const engine_token *preserved;
    size_t preserved_count;
    const struct str *stops; /* the template's additional stop strings */
    size_t stop_count;
    const char *grammar_prefill; /* generation prompt that the grammar must accept first, or NULL */
    struct chat_format *format;  /* for chat_parser_new; freed with the arena */
};

/* ERR_INVALID_PARAMETERS with the template's own words when it refuses the messages; with param "response_format" or
 * "tools" when a schema cannot be honoured. */
bool chat_render(struct chat_templates *templates, const struct engine_ops *ops, const struct engine *engine,
                 const struct chat_request *request, struct arena *arena, struct chat_prompt *ret_prompt,
                 struct err *err);

/* JSON schema to GBNF, in the arena; NULL and *err naming the keyword that cannot be enforced. */
const char *chat_schema_to_grammar(struct str schema, struct arena *arena, struct err *err);

/* Turns a growing reply into typed deltas. */
struct chat_parser;

struct chat_delta {
    struct str content, reasoning; /* "" where nothing new */
    int tool_index;                /* -1: none */
    struct str tool_id, tool_name; /* set in a call's first delta only */
    struct str tool_arguments;     /* a fragment of JSON text */
};

struct chat_parser *chat_parser_new(const struct chat_prompt *prompt);
void chat_parser_free(struct chat_parser *parser);
/* Adds text; calls on_delta for each new piece (valid during the call). final: the reply is complete. Text that cannot
 * be parsed as the format promises is given out as content, never lost. */
void chat_parser_feed(struct chat_parser *parser, struct str text, bool final,
                      void (*on_delta)(void *arg, const struct chat_delta *delta), void *arg);

#ifdef __cplusplus
}
#endif

#endif
