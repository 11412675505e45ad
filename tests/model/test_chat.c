/* Templates, schemas and tool calls with a real template and real tokens. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json_read.h"
#include "drive.h"
#include "worker/chat.h"

static struct drive drive;
static struct chat_templates *templates;
static struct arena arena;

static int setup(void **state)
{
    static char path[4096];
    const char *folder = getenv("INFERD_MODELS");
    struct err err = ERR_INIT;
    (void)state;
    snprintf(path, sizeof path, "%s/SmolLM2-135M-Instruct.Q4_1.gguf", folder ? folder : "INFERD_MODELS-is-not-set");
    struct engine_config config = {.path = path, .context_size = 4096, .memory_map = true};
    if (!drive_open(&drive, &engine_llama, &config, 64, &err))
        fail_msg("%s (run scripts/models.sh and set INFERD_MODELS)", err.message);
    templates = chat_templates_new(engine_llama.info(drive.engine), NULL, &err);
    assert_non_null(templates);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    chat_templates_free(templates);
    drive_close(&drive);
    return 0;
}

static int fresh_arena(void **state)
{
    (void)state;
    arena_init(&arena);
    return 0;
}

static int drop_arena(void **state)
{
    (void)state;
    arena_dispose(&arena);
    return 0;
}

#define USER(text) STR("[{\"role\":\"user\",\"content\":\"" text "\"}]")
#define WEATHER                                                                                                        \
    STR("[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"description\":\"Weather of a city\","        \
        "\"parameters\":{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\",\"maxLength\":12}},"        \
        "\"required\":[\"city\"]}}}]")

static struct chat_request request_of(struct str messages)
{
    return (struct chat_request){.messages = messages, .add_generation_prompt = true};
}

static struct chat_prompt render(const struct chat_request *request)
{
    struct chat_prompt prompt = {0};
    struct err err = ERR_INIT;
    if (!chat_render(templates, &engine_llama, drive.engine, request, &arena, &prompt, &err))
        fail_msg("%s", err.message);
    return prompt;
}

static void generate(const struct chat_prompt *prompt, unsigned max_tokens, struct drive_reply *reply)
{
    struct gen_params params = drive_greedy(max_tokens);
    params.stops = prompt->stops;
    params.stop_count = prompt->stop_count;
    params.preserved = prompt->preserved;
    params.preserved_count = prompt->preserved_count;
    params.grammar = prompt->grammar;
    params.grammar_lazy = prompt->grammar_lazy;
    params.trigger_patterns = prompt->trigger_patterns;
    params.trigger_pattern_count = prompt->trigger_pattern_count;
    params.trigger_tokens = prompt->trigger_tokens;
    params.trigger_token_count = prompt->trigger_token_count;
    params.grammar_prefill = prompt->grammar_prefill;
    drive_reply_init(&drive, reply);
    if (!drive_text_request(&drive, reply, prompt->text.p, &params))
        fail_msg("%s", reply->err.message);
    loop_run(&drive.loop);
    assert_true(reply->done);
}

struct parsed {
    char content[4096], reasoning[4096], name[128], id[128], arguments[4096];
    int calls, names;
};

static void append(char *to, size_t size, struct str text)
{
    size_t have = strlen(to);
    snprintf(to + have, size - have, STR_FMT, STR_ARG(text));
}

static void on_delta(void *arg, const struct chat_delta *delta)
{
    struct parsed *parsed = arg;
    append(parsed->content, sizeof parsed->content, delta->content);
    append(parsed->reasoning, sizeof parsed->reasoning, delta->reasoning);
    if (delta->tool_index < 0)
        return;
    parsed->calls = delta->tool_index + 1 > parsed->calls ? delta->tool_index + 1 : parsed->calls;
    parsed->names += delta->tool_name.n > 0;
    append(parsed->name, sizeof parsed->name, delta->tool_name);
    append(parsed->id, sizeof parsed->id, delta->tool_id);
    append(parsed->arguments, sizeof parsed->arguments, delta->tool_arguments);
}

static struct parsed parse(const struct chat_prompt *prompt, const char *text, size_t piece)
{
    static struct parsed parsed;
    parsed = (struct parsed){0};
    struct chat_parser *parser = chat_parser_new(prompt);
    for (size_t at = 0, n = strlen(text); at < n; at += piece)
        chat_parser_feed(parser, (struct str){text + at, n - at < piece ? n - at : piece}, false, on_delta, &parsed);
    chat_parser_feed(parser, STR(""), true, on_delta, &parsed);
    chat_parser_free(parser);
    return parsed;
}

static void renders_the_models_template(void **state)
{
    (void)state;
    struct chat_request request = request_of(USER("Hello"));
    struct chat_prompt prompt = render(&request);
    assert_true(chat_templates_explicit(templates));
    assert_non_null(strstr(prompt.text.p, "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"));
    assert_null(prompt.grammar);
    struct parsed parsed = parse(&prompt, "Hi <there> {\"a\": 1}", 3);
    assert_string_equal(parsed.content, "Hi <there> {\"a\": 1}");
}

static void bad_messages_are_an_error(void **state)
{
    (void)state;
    struct chat_request request = request_of(STR("[{\"content\":\"x\"}]"));
    struct chat_prompt prompt = {0};
    struct err err = ERR_INIT;
    assert_false(chat_render(templates, &engine_llama, drive.engine, &request, &arena, &prompt, &err));
    assert_int_equal(err.code, ERR_INVALID_PARAMETERS);
    assert_non_null(strstr(err.message, "role"));
}

static void schema_constrains_the_reply(void **state)
{
    (void)state;
    struct chat_request request = request_of(USER("Describe a cat"));
    request.json_schema = STR("{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":8},"
                              "\"age\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":30}},"
                              "\"required\":[\"name\",\"age\"],\"additionalProperties\":false}");
    struct chat_prompt prompt = render(&request);
    struct drive_reply reply;
    struct err err = ERR_INIT;
    assert_non_null(prompt.grammar);
    generate(&prompt, 60, &reply);
    struct parsed parsed = parse(&prompt, drive_text(&reply, 0), 5);
    json_t *document = json_read(str_from(parsed.content), &err);
    assert_non_null(document);
    assert_true(json_is_string(json_object_get(document, "name")));
    assert_true(json_is_integer(json_object_get(document, "age")));
    json_decref(document);
    drive_reply_release(&reply);
}

static void required_tool_is_called(void **state)
{
    (void)state;
    struct chat_request request = request_of(USER("What is the weather in Rome?"));
    request.tools = WEATHER;
    request.tool_choice = CHAT_TOOLS_REQUIRED;
    struct chat_prompt prompt = render(&request);
    struct drive_reply reply;
    struct err err = ERR_INIT;
    assert_non_null(prompt.grammar);
    assert_false(prompt.grammar_lazy);
    assert_non_null(strstr(prompt.text.p, "get_weather"));
    generate(&prompt, 120, &reply);
    for (size_t piece = 1; piece < 40; piece += 6) {
        struct parsed parsed = parse(&prompt, drive_text(&reply, 0), piece);
        assert_int_equal(parsed.calls, 1);
        assert_int_equal(parsed.names, 1);
        assert_string_equal(parsed.name, "get_weather");
        assert_int_equal(strlen(parsed.id), strlen("call_") + 24);
        json_t *arguments = json_read(str_from(parsed.arguments), &err);
        assert_non_null(arguments);
        assert_true(json_is_string(json_object_get(arguments, "city")));
        json_decref(arguments);
    }
    drive_reply_release(&reply);
}

static void automatic_tools_are_lazy(void **state)
{
    (void)state;
    struct chat_request request = request_of(USER("Say hello"));
    request.tools = WEATHER;
    struct chat_prompt prompt = render(&request);
    struct drive_reply reply;
    assert_true(prompt.grammar && prompt.grammar_lazy);
    assert_true(prompt.trigger_pattern_count + prompt.trigger_token_count > 0);
    generate(&prompt, 20, &reply);
    drive_reply_release(&reply);
    struct parsed parsed = parse(&prompt, "plain words, no call", 4);
    assert_string_equal(parsed.content, "plain words, no call");
    assert_int_equal(parsed.calls, 0);
}

static void what_cannot_be_parsed_is_content(void **state)
{
    (void)state;
    struct chat_request request = request_of(USER("x"));
    request.tools = WEATHER;
    request.tool_choice = CHAT_TOOLS_REQUIRED;
    struct chat_prompt prompt = render(&request);
    struct parsed parsed = parse(&prompt, "no call at all", 4);
    assert_string_equal(parsed.content, "no call at all");
}

static void schema_keywords(void **state)
{
    (void)state;
    static const struct {
        const char *schema, *keyword; /* NULL: can be enforced */
    } cases[] = {
        {"{}", NULL},
        {"{\"type\":\"object\",\"title\":\"T\",\"properties\":{\"a\":{\"type\":\"number\",\"description\":\"d\"}}}",
         NULL},
        {"{\"type\":\"number\",\"minimum\":3}", "minimum"},
        {"{\"type\":\"integer\",\"minimum\":3}", NULL},
        {"{\"type\":\"integer\",\"multipleOf\":2}", "multipleOf"},
        {"{\"type\":\"string\",\"format\":\"email\"}", "format"},
        {"{\"type\":\"string\",\"format\":\"date-time\"}", NULL},
        {"{\"type\":\"string\",\"pattern\":\"^[a-z]+$\"}", NULL},
        {"{\"type\":\"string\",\"pattern\":\"[a-z]+\"}", "pattern"},
        {"{\"type\":\"array\",\"uniqueItems\":true}", "uniqueItems"},
        {"{\"type\":\"array\",\"items\":{\"type\":\"string\",\"not\":{}}}", "not"},
        {"{\"type\":\"object\",\"patternProperties\":{}}", "patternProperties"},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"object\",\"minProperties\":1}}}", "minProperties"},
        {"{\"type\":\"object\",\"properties\":{},\"required\":[\"b\"]}", "required"},
        {"{\"$ref\":\"#/$defs/a\",\"$defs\":{\"a\":{\"type\":\"object\",\"properties\":{\"n\":{\"$ref\":\"#/$defs/"
         "a\"}}}}}",
         NULL},
        {"{\"$ref\":\"http://x/y\"}", "$ref"},
        {"{\"anyOf\":[{\"type\":\"null\"},{\"type\":\"string\",\"contentEncoding\":\"x\"}]}", NULL},
        {"{\"allOf\":[{\"type\":\"string\"}]}", "allOf"},
        {"{\"if\":{},\"then\":{}}", "if"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = ERR_INIT;
        const char *grammar = chat_schema_to_grammar(str_from(cases[i].schema), &arena, &err);
        if (!grammar != !!cases[i].keyword)
            fail_msg("%s: %s", cases[i].schema, grammar ? "taken" : err.message);
        if (cases[i].keyword && !strstr(err.message, cases[i].keyword))
            fail_msg("%s: %s does not name %s", cases[i].schema, err.message, cases[i].keyword);
    }
}

static void deep_and_broken_schemas_are_refused(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct buf text;
    buf_init(&text, 1u << 20);
    for (int i = 0; i < 60; i++)
        buf_puts(&text, "{\"type\":\"array\",\"items\":");
    buf_puts(&text, "{}");
    for (int i = 0; i < 60; i++)
        buf_putc(&text, '}');
    assert_null(chat_schema_to_grammar(buf_view(&text), &arena, &err));
    assert_non_null(strstr(err.message, "deeper"));
    buf_release(&text);
    assert_null(chat_schema_to_grammar(STR("[1"), &arena, &err));
    assert_null(chat_schema_to_grammar(STR("7"), &arena, &err));
}

static void fake_engine_gets_a_generic_template(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct engine_config config = {.path = "fake:"};
    struct engine *engine = engine_fake.open(&config, &err);
    struct chat_templates *generic = chat_templates_new(engine_fake.info(engine), NULL, &err);
    struct chat_request request = request_of(USER("Hello"));
    struct chat_prompt prompt = {0};
    assert_non_null(generic);
    assert_false(chat_templates_explicit(generic));
    assert_true(chat_render(generic, &engine_fake, engine, &request, &arena, &prompt, &err));
    assert_non_null(strstr(prompt.text.p, "Hello"));
    assert_string_equal(parse(&prompt, "text", 2).content, "text");
    chat_templates_free(generic);
    engine_fake.close(engine);
}

#define WITH_ARENA(test) cmocka_unit_test_setup_teardown(test, fresh_arena, drop_arena)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_ARENA(renders_the_models_template),
        WITH_ARENA(bad_messages_are_an_error),
        WITH_ARENA(schema_constrains_the_reply),
        WITH_ARENA(required_tool_is_called),
        WITH_ARENA(automatic_tools_are_lazy),
        WITH_ARENA(what_cannot_be_parsed_is_content),
        WITH_ARENA(schema_keywords),
        WITH_ARENA(deep_and_broken_schemas_are_refused),
        WITH_ARENA(fake_engine_gets_a_generic_template),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
