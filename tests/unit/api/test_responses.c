/* The Responses API as pure functions: requests in, chat requests out; chat replies in, responses and events out. */
#include "unit/unit.h"

#include "api/responses/reply.h"
#include "unit/openai/request_case.h"

#define MODEL "\"model\":\"m\","

static struct response_request must_read(const char *body)
{
    struct response_request request;
    struct err err = ERR_INIT;
    if (!response_request_read(str_from(body), &arena, &request, &err))
        fail_msg("%s: %s", body, err.message);
    return request;
}

static bool read_it(struct str body, struct arena *memory, struct err *err)
{
    struct response_request request;
    return response_request_read(body, memory, &request, err);
}

static void check_chat(const char *body, const char *chat)
{
    struct response_request request = must_read(body);
    struct str text;
    struct err err;
    assert_true(response_chat_write(&request, NULL, 0, &arena, &text, &err));
    assert_string_equal(text.p, chat);
}

static void test_input_becomes_messages(void **state)
{
    (void)state;
    check_chat("{" MODEL "\"input\":\"hi\"}",
               "{" MODEL "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"stream\":false}");
    check_chat(
        "{" MODEL "\"instructions\":\"be brief\",\"input\":[{\"role\":\"user\",\"content\":[{\"type\":"
        "\"input_text\",\"text\":\"a\"},{\"type\":\"input_image\",\"image_url\":\"data:x\"}]}]}",
        "{" MODEL "\"messages\":[{\"role\":\"system\",\"content\":\"be brief\"},{\"role\":\"user\",\"content\":["
        "{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:x\",\"detail\":"
        "\"auto\"}}]}],\"stream\":false}");
}

/* What the model did in one turn is one message, whatever items it is in. */
static void test_a_turn_becomes_one_message(void **state)
{
    (void)state;
    check_chat(
        "{" MODEL "\"input\":[{\"type\":\"reasoning\",\"summary\":[],\"content\":[{\"type\":\"reasoning_text\","
        "\"text\":\"hm\"}]},{\"type\":\"message\",\"role\":\"assistant\",\"content\":\"so\"},"
        "{\"type\":\"function_call\",\"call_id\":\"c1\",\"name\":\"f\",\"arguments\":\"{}\"},"
        "{\"type\":\"function_call\",\"call_id\":\"c2\",\"name\":\"f\",\"arguments\":\"{}\"},"
        "{\"type\":\"function_call_output\",\"call_id\":\"c1\",\"output\":\"1\"},"
        "{\"type\":\"function_call_output\",\"call_id\":\"c2\",\"output\":[{\"type\":\"input_text\",\"text\":\"2\"}]"
        "}]}",
        "{" MODEL "\"messages\":[{\"role\":\"assistant\",\"content\":\"so\",\"reasoning_content\":\"hm\","
        "\"tool_calls\":[{\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}},"
        "{\"id\":\"c2\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"1\"},"
        "{\"role\":\"tool\",\"tool_call_id\":\"c2\",\"content\":\"2\"}],\"stream\":false}");
}

static void test_earlier_turns_come_first(void **state)
{
    (void)state;
    struct err err;
    struct str text;
    struct response_request request = must_read("{" MODEL "\"input\":\"b\",\"stream\":true}");
    json_t *input =
        json_read(STR("[{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"a\"}]}]"), &err);
    json_t *output =
        json_read(STR("[{\"type\":\"message\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\","
                      "\"text\":\"A\"}]}]"),
                  &err);
    const json_t *earlier[] = {input, output};
    assert_true(response_chat_write(&request, earlier, 2, &arena, &text, &err));
    assert_string_equal(text.p, "{" MODEL "\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\","
                                "\"content\":\"A\"},{\"role\":\"user\",\"content\":\"b\"}],\"stream\":true,"
                                "\"stream_options\":{\"include_usage\":true}}");
    json_decref(input);
    json_decref(output);
}

static void test_options_go_by_chat_s_names(void **state)
{
    (void)state;
    check_chat("{" MODEL "\"input\":\"x\",\"temperature\":0.5,\"top_p\":1,\"max_output_tokens\":9,\"user\":\"u\","
               "\"reasoning\":{\"effort\":\"low\"},\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"n\","
               "\"schema\":{\"type\":\"object\"},\"strict\":true}}}",
               "{" MODEL "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"response_format\":{\"type\":"
               "\"json_schema\",\"json_schema\":{\"name\":\"n\",\"schema\":{\"type\":\"object\"},\"strict\":true}},"
               "\"temperature\":0.5,\"top_p\":1,\"max_tokens\":9,\"reasoning_effort\":\"low\",\"user\":\"u\","
               "\"stream\":false}");
    check_chat("{" MODEL
               "\"input\":\"x\",\"parallel_tool_calls\":false,\"tool_choice\":{\"type\":\"function\",\"name\":"
               "\"f\"},\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"description\":null,\"parameters\":{\"a\":1},"
               "\"strict\":true}]}",
               "{" MODEL "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[{\"type\":\"function\","
               "\"function\":{\"name\":\"f\",\"parameters\":{\"a\":1},\"strict\":true}}],\"parallel_tool_calls\":false,"
               "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}},\"stream\":false}");
}

#define IN         MODEL "\"input\":\"x\","
#define WRONG      ERR_INVALID_PARAMETERS
#define NOT_HERE   ERR_NOT_SUPPORTED
#define ITEM(text) "{" MODEL "\"input\":[" text "]}"
#define F          "\"tools\":[{\"type\":\"function\",\"name\":\"f\"}],"

static void test_refusals_name_the_field(void **state)
{
    (void)state;
    static const struct request_case cases[] = {
        {"{\"input\":\"x\"}", WRONG, "model", "'model' is required"},
        {"{" MODEL "\"x\":1}", WRONG, "input", "'input' is required"},
        {"{" MODEL "\"input\":7}", WRONG, "input", "'input' must be a string or an array of items"},
        {ITEM("7"), WRONG, "input[0]", "'input[0]' must be an object, but is an integer"},
        {ITEM("{\"type\":\"computer_call\"}"), NOT_HERE, "input[0].type",
         "'input[0].type' is not supported: items are message, function_call, function_call_output and reasoning"},
        {ITEM("{\"type\":1}"), WRONG, "input[0].type", "'input[0].type' must be a string"},
        {ITEM("{\"role\":\"tool\",\"content\":\"\"}"), WRONG, "input[0].role",
         "'input[0].role' must be one of user, assistant, system, developer"},
        {ITEM("{\"role\":\"user\"}"), WRONG, "input[0].content",
         "'input[0].content' must be a string or an array of parts"},
        {ITEM("{\"role\":\"user\",\"content\":[{\"type\":\"input_text\"}]}"), WRONG, "input[0].content[0].text",
         "'input[0].content[0].text' is required"},
        {ITEM("{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":1}]}"), WRONG,
         "input[0].content[0].text", "'input[0].content[0].text' must be a string"},
        {ITEM("{\"role\":\"user\",\"content\":[{\"type\":\"output_text\",\"text\":\"\"}]}"), WRONG,
         "input[0].content[0].type", "'input[0].content[0].type' must be 'input_text' or 'input_image'"},
        {ITEM("{\"role\":\"user\",\"content\":[{\"type\":\"input_file\"}]}"), NOT_HERE, "input[0].content[0].type",
         "'input[0].content[0].type' is not supported: only text and images are"},
        {ITEM("{\"type\":\"function_call\",\"name\":\"f\",\"arguments\":\"\"}"), WRONG, "input[0].call_id",
         "'input[0].call_id' is required"},
        {ITEM("{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\",\"arguments\":{}}"), WRONG,
         "input[0].arguments", "'input[0].arguments' must be a string"},
        {ITEM("{\"type\":\"function_call_output\",\"call_id\":\"c\"}"), WRONG, "input[0].output",
         "'input[0].output' must be a string or an array of parts"},
        {"{" IN "\"temperature\":3}", WRONG, "temperature",
         "'temperature' is out of range: it must be between 0 and 2"},
        {"{" IN "\"max_output_tokens\":0}", WRONG, "max_output_tokens",
         "'max_output_tokens' is out of range: it must be between 1 and 2147483647"},
        {"{" IN "\"store\":\"yes\"}", WRONG, "store", "'store' must be a boolean, but is a string"},
        {"{" IN "\"background\":true}", NOT_HERE, "background",
         "'background' is not supported: ask for a stream instead"},
        {"{" IN "\"conversation\":\"c\"}", NOT_HERE, "conversation",
         "'conversation' is not supported: use previous_response_id"},
        {"{" IN "\"truncation\":\"auto\"}", NOT_HERE, "truncation",
         "'truncation' may be 'disabled' only: no input is dropped"},
        {"{" IN "\"include\":[1]}", WRONG, "include[0]", "'include[0]' must be a string"},
        {"{" IN "\"metadata\":{\"a\":1}}", WRONG, "metadata", "'metadata' must hold strings of at most 512 bytes"},
        {"{" IN "\"tools\":[{\"type\":\"web_search\"}]}", NOT_HERE, "tools[0].type",
         "'tools[0].type' is not supported: only tools of type 'function' are"},
        {"{" IN "\"tools\":[{\"type\":\"function\"}]}", WRONG, "tools[0].name",
         "'tools[0].name' must be 1 to 64 of the characters a-z A-Z 0-9 _ -"},
        {"{" IN "\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"parameters\":1}]}", WRONG, "tools[0].parameters",
         "'tools[0].parameters' must be an object, but is an integer"},
        {"{" IN "\"tool_choice\":\"required\"}", WRONG, "tool_choice",
         "'tool_choice' is only allowed together with 'tools'"},
        {"{" IN F "\"tool_choice\":\"f\"}", WRONG, "tool_choice",
         "'tool_choice' must be 'none', 'auto', 'required' or an object"},
        {"{" IN F "\"tool_choice\":{\"type\":\"function\",\"name\":\"g\"}}", WRONG, "tool_choice.name",
         "'tool_choice.name' names a tool that is not among 'tools'"},
        {"{" IN F "\"tool_choice\":{\"type\":\"file_search\"}}", NOT_HERE, "tool_choice.type",
         "'tool_choice.type' is not supported: it may be 'function' or 'allowed_tools'"},
        {"{" IN "\"text\":{\"format\":{\"type\":\"xml\"}}}", WRONG, "text.format.type",
         "'text.format.type' must be 'text', 'json_object' or 'json_schema'"},
        {"{" IN "\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"n\"}}}", WRONG, "text.format.schema",
         "'text.format.schema' is required"},
        {"{" IN "\"reasoning\":{\"effort\":1}}", WRONG, "reasoning.effort",
         "'reasoning.effort' must be a string, but is an integer"},
    };
    check_refusals(cases, sizeof cases / sizeof *cases, read_it);
}

/* ---- replies ---- */

/* The events' names, and the JSON of the last one. */
struct told {
    struct buf names;
    char last[8192];
    int64_t next;
};

static void note(void *arg, const char *name, struct str data)
{
    struct told *told = arg;
    struct err err;
    json_t *event = json_read(data, &err);
    if (!event)
        fail_msg("%s: " STR_FMT, err.message, STR_ARG(data));
    assert_string_equal(json_string_value(json_object_get(event, "type")), name);
    assert_int_equal(json_integer_value(json_object_get(event, "sequence_number")), told->next++);
    buf_printf(&told->names, "%s%s", told->names.len ? " " : "", strncmp(name, "response.", 9) ? name : name + 9);
    snprintf(told->last, sizeof told->last, STR_FMT, STR_ARG(data));
    json_decref(event);
}

static void check_stream(const char *const *chunks, const char *names, const char *in_last)
{
    struct told told = {0};
    struct err err;
    struct response_reply reply;
    struct response_request request = must_read("{" IN "\"stream\":true}");
    struct arena memory;
    arena_init(&memory);
    buf_init(&told.names, 1 << 16);
    response_reply_init(&reply, &request, &memory, note, &told);
    response_reply_begin(&reply);
    bool good = true;
    for (; *chunks && good; chunks++)
        good = response_reply_feed(&reply, str_from(*chunks), &err);
    if (good)
        response_reply_end(&reply);
    else
        response_reply_fail(&reply, &err);
    response_reply_finish(&reply);
    assert_string_equal(told.names.data, names);
    if (!strstr(told.last, in_last))
        fail_msg("no %s in\n%s", in_last, told.last);
    buf_release(&told.names);
    arena_dispose(&memory);
}

#define DELTA(text)  "{\"choices\":[{\"index\":0,\"delta\":{" text "},\"finish_reason\":null}]}"
#define FINISH(word) "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"" word "\"}]}"
#define USAGE                                                                                                          \
    "{\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,\"total_tokens\":10,"                      \
    "\"prompt_tokens_details\":{\"cached_tokens\":2},\"completion_tokens_details\":{\"reasoning_tokens\":1}}}"
#define TEXT_EVENTS "output_text.done content_part.done output_item.done"

static void test_stream_of_text(void **state)
{
    (void)state;
    const char *chunks[] = {DELTA("\"role\":\"assistant\",\"content\":\"\""),
                            DELTA("\"content\":\"He\""),
                            DELTA("\"content\":\"llo\""),
                            FINISH("stop"),
                            USAGE,
                            NULL};
    check_stream(chunks,
                 "created in_progress output_item.added content_part.added output_text.delta "
                 "output_text.delta " TEXT_EVENTS " completed",
                 "\"usage\":{\"input_tokens\":7,\"input_tokens_details\":{\"cached_tokens\":2},\"output_tokens\":3,"
                 "\"output_tokens_details\":{\"reasoning_tokens\":1},\"total_tokens\":10}");
    check_stream(chunks,
                 "created in_progress output_item.added content_part.added output_text.delta "
                 "output_text.delta " TEXT_EVENTS " completed",
                 "\"text\":\"Hello\"");
}

static void test_stream_cut_by_the_limit(void **state)
{
    (void)state;
    const char *chunks[] = {DELTA("\"content\":\"He\""), FINISH("length"), NULL};
    check_stream(
        chunks, "created in_progress output_item.added content_part.added output_text.delta " TEXT_EVENTS " incomplete",
        "\"incomplete_details\":{\"reason\":\"max_output_tokens\"}");
    const char *nothing[] = {FINISH("stop"), NULL};
    check_stream(nothing, "created in_progress completed", "\"output\":[],\"usage\":null");
}

#define CALL(i, more) DELTA("\"tool_calls\":[{\"index\":" i "," more "}]")

static void test_stream_of_thought_and_calls(void **state)
{
    (void)state;
    const char *chunks[] = {DELTA("\"reasoning_content\":\"hm\""),
                            CALL("0", "\"id\":\"c1\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}"),
                            CALL("0", "\"function\":{\"arguments\":\"{}\"}"),
                            CALL("1", "\"id\":\"c2\",\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}"),
                            FINISH("tool_calls"),
                            NULL};
    check_stream(chunks,
                 "created in_progress output_item.added content_part.added reasoning_text.delta reasoning_text.done "
                 "content_part.done output_item.done output_item.added function_call_arguments.delta "
                 "function_call_arguments.done output_item.done output_item.added function_call_arguments.delta "
                 "function_call_arguments.done output_item.done completed",
                 "\"type\":\"function_call\",\"status\":\"completed\",\"call_id\":\"c2\",\"name\":\"g\",\"arguments\":"
                 "\"{}\"");
}

static void test_stream_that_breaks(void **state)
{
    (void)state;
    const char *error[] = {DELTA("\"content\":\"a\""), "{\"error\":{\"message\":\"gone\",\"code\":\"model_crashed\"}}",
                           NULL};
    check_stream(error, "created in_progress output_item.added content_part.added output_text.delta failed",
                 "\"error\":{\"code\":\"server_error\",\"message\":\"gone\"}");
    const char *nonsense[] = {"[1]", NULL};
    check_stream(nonsense, "created in_progress failed", "the backend's reply is no JSON object");
    const char *back[] = {CALL("0", "\"function\":{\"name\":\"f\"}"), CALL("1", "\"function\":{\"name\":\"f\"}"),
                          CALL("0", "\"function\":{\"arguments\":\"x\"}"), NULL};
    check_stream(back,
                 "created in_progress output_item.added function_call_arguments.done output_item.done "
                 "output_item.added failed",
                 "goes back to a tool call that had ended");
}

static void test_whole_reply(void **state)
{
    (void)state;
    struct response_reply reply;
    struct err err;
    struct buf out;
    struct json j;
    struct response_request request = must_read("{" IN "\"temperature\":0,\"metadata\":{\"k\":\"v\"}}");
    struct arena memory;
    arena_init(&memory);
    response_reply_init(&reply, &request, &memory, NULL, NULL);
    response_reply_begin(&reply);
    assert_true(response_reply_feed(&reply,
                                    STR("{\"choices\":[{\"message\":{\"content\":\"A\",\"tool_calls\":[{\"id\":\"c\","
                                        "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},\"finish_reason\":"
                                        "\"tool_calls\"}]}"),
                                    &err));
    response_reply_end(&reply);
    buf_init(&out, 1 << 16);
    json_begin(&j, &out);
    response_reply_put_output(&reply, &j, NULL);
    assert_true(json_finish(&j));
    assert_non_null(strstr(out.data, "\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"A\","
                                     "\"annotations\":[],\"logprobs\":[]}]},{\"id\":\"fc_"));
    assert_string_equal(reply.status, "completed");
    buf_release(&out);
    arena_dispose(&memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_input_becomes_messages),   cmocka_unit_test(test_a_turn_becomes_one_message),
        cmocka_unit_test(test_earlier_turns_come_first), cmocka_unit_test(test_options_go_by_chat_s_names),
        cmocka_unit_test(test_refusals_name_the_field),  cmocka_unit_test(test_stream_of_text),
        cmocka_unit_test(test_stream_cut_by_the_limit),  cmocka_unit_test(test_stream_of_thought_and_calls),
        cmocka_unit_test(test_stream_that_breaks),       cmocka_unit_test(test_whole_reply),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
