/* Anthropic's Messages API as pure functions: requests in, chat requests out; chat replies in, messages and events out.
 */
#include "unit/unit.h"

#include "api/anthropic/reply.h"
#include "api/anthropic/request.h"
#include "unit/openai/request_case.h"

#define HEAD  "\"model\":\"m\",\"max_tokens\":5,"
#define M     HEAD "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]"
#define CHAT  "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]"
#define TAIL  ",\"max_tokens\":5,\"stream\":false}"
#define TOOLS "\"tools\":[{\"name\":\"f\",\"description\":\"d\",\"input_schema\":{\"type\":\"object\"}}]"
#define TOOLS_CHAT                                                                                                     \
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\",\"parameters\":{\"type\":"   \
    "\"object\"}}}]"

static bool read_it(struct str body, struct arena *memory, struct err *err)
{
    struct anthropic_request request;
    return anthropic_request_read(body, false, memory, &request, err);
}

static void check_chat(const char *body, const char *chat)
{
    struct anthropic_request request;
    struct err err = ERR_INIT;
    if (!anthropic_request_read(str_from(body), false, &arena, &request, &err))
        fail_msg("%s: %s", body, err.message);
    assert_string_equal(request.chat.p, chat);
}

static void test_blocks_become_messages(void **state)
{
    (void)state;
    check_chat("{" HEAD "\"system\":[{\"type\":\"text\",\"text\":\"a\",\"cache_control\":{\"type\":\"ephemeral\"}},"
               "{\"type\":\"text\",\"text\":\"b\"}],\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\","
               "\"source\":{\"type\":\"base64\",\"media_type\":\"image/png\",\"data\":\"QQ==\"}},{\"type\":\"text\","
               "\"text\":\"c\"}]}]}",
               "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"a\\nb\"},{\"role\":\"user\","
               "\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,QQ==\"}},"
               "{\"type\":\"text\",\"text\":\"c\"}]}]" TAIL);
}

static void test_tools_go_round(void **state)
{
    (void)state;
    check_chat("{" HEAD "\"messages\":[{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"hm\","
               "\"signature\":\"\"},{\"type\":\"text\",\"text\":\"so\"},{\"type\":\"tool_use\",\"id\":\"t\",\"name\":"
               "\"f\",\"input\":{\"a\":1}}]},{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":"
               "\"t\",\"content\":[{\"type\":\"text\",\"text\":\"1\"}]},{\"type\":\"text\",\"text\":\"go\"}]}]}",
               "{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"content\":\"so\",\"reasoning_content\":\"hm\","
               "\"tool_calls\":[{\"id\":\"t\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":"
               "\"{\\\"a\\\":1}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"t\",\"content\":\"1\"},{\"role\":\"user\","
               "\"content\":[{\"type\":\"text\",\"text\":\"go\"}]}]" TAIL);
}

static void test_options_go_by_chat_s_names(void **state)
{
    (void)state;
    check_chat("{" M
               ",\"stop_sequences\":[\"X\"],\"temperature\":0.5,\"top_p\":1,\"top_k\":3,\"metadata\":{\"user_id\":"
               "\"u\"},\"thinking\":{\"type\":\"disabled\"},\"stream\":true}",
               CHAT ",\"stop\":[\"X\"],\"chat_template_kwargs\":{\"enable_thinking\":false},\"user\":\"u\","
                    "\"max_tokens\":5,\"temperature\":0.5,\"top_p\":1,\"top_k\":3,\"stream\":true,\"stream_options\":"
                    "{\"include_usage\":true}}");
    check_chat("{" M "," TOOLS ",\"tool_choice\":{\"type\":\"any\",\"disable_parallel_tool_use\":true}}",
               CHAT "," TOOLS_CHAT ",\"parallel_tool_calls\":false,\"tool_choice\":\"required\"" TAIL);
    check_chat("{" M "," TOOLS ",\"tool_choice\":{\"type\":\"tool\",\"name\":\"f\"}}",
               CHAT "," TOOLS_CHAT ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}" TAIL);
    check_chat("{" M ",\"output_config\":{\"effort\":\"low\",\"format\":{\"type\":\"json_schema\",\"schema\":{\"a\":1}}"
               "}}",
               CHAT ",\"reasoning_effort\":\"low\",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":"
                    "{\"name\":\"output\",\"schema\":{\"a\":1}}}" TAIL);
}

#define WRONG      ERR_INVALID_PARAMETERS
#define NOT_HERE   ERR_NOT_SUPPORTED
#define USER(text) "{" HEAD "\"messages\":[{\"role\":\"user\",\"content\":[" text "]}]}"
#define AT         "messages[0].content[0]"

static void test_refusals_name_the_field(void **state)
{
    (void)state;
    static const struct request_case cases[] = {
        {"{\"max_tokens\":5}", WRONG, "model", "'model' is required"},
        {"{\"model\":\"m\",\"messages\":[]}", WRONG, "max_tokens", "'max_tokens' is required"},
        {"{" HEAD "\"x\":1}", WRONG, "messages", "'messages' is required"},
        {"{" HEAD "\"messages\":[1]}", WRONG, "messages[0]", "'messages[0]' must be an object, but is an integer"},
        {"{" HEAD "\"messages\":[{\"role\":\"system\",\"content\":\"\"}]}", WRONG, "messages[0].role",
         "'messages[0].role' must be 'user' or 'assistant'"},
        {"{" HEAD "\"messages\":[{\"role\":\"user\"}]}", WRONG, "messages[0].content",
         "'messages[0].content' is required"},
        {USER("1"), WRONG, AT, "'" AT "' must be an object, but is an integer"},
        {USER("{\"type\":\"text\",\"text\":1}"), WRONG, AT ".text", "'" AT ".text' must be a string"},
        {USER("{\"type\":\"document\"}"), NOT_HERE, AT ".type",
         "'" AT ".type' is not supported: it may be text, image or tool_result"},
        {USER("{\"type\":\"image\"}"), WRONG, AT ".source", "'" AT ".source' is required"},
        {USER("{\"type\":\"image\",\"source\":{\"type\":\"file\"}}"), NOT_HERE, AT ".source.type",
         "'" AT ".source.type' must be 'base64' or 'url'"},
        {USER("{\"type\":\"tool_result\"}"), WRONG, AT ".tool_use_id", "'" AT ".tool_use_id' is required"},
        {USER("{\"type\":\"tool_result\",\"tool_use_id\":\"t\",\"content\":[{\"type\":\"image\"}]}"), NOT_HERE,
         AT ".content[0].type", "'" AT ".content[0].type' is not supported here: it must be 'text'"},
        {"{" HEAD "\"messages\":[{\"role\":\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":\"t\",\"name\":"
         "\"f\",\"input\":\"{}\"}]}]}",
         WRONG, AT ".input", "'" AT ".input' must be an object"},
        {"{" M ",\"system\":7}", WRONG, "system", "'system' must be a string or an array of blocks"},
        {"{" M ",\"temperature\":1.5}", WRONG, "temperature",
         "'temperature' is out of range: it must be between 0 and 1"},
        {"{" M ",\"top_k\":\"1\"}", WRONG, "top_k", "'top_k' must be an integer, but is a string"},
        {"{" M ",\"stream\":1}", WRONG, "stream", "'stream' must be a boolean, but is an integer"},
        {"{" M ",\"stop_sequences\":[1]}", WRONG, "stop_sequences[0]",
         "'stop_sequences[0]' must be a string of 1 to 256 bytes"},
        {"{" M ",\"tools\":[{\"type\":\"bash_20250124\",\"name\":\"bash\"}]}", NOT_HERE, "tools[0].type",
         "'tools[0].type' is not supported: only tools that the client runs are"},
        {"{" M ",\"tools\":[{\"name\":\"f\"}]}", WRONG, "tools[0].input_schema", "'tools[0].input_schema' is required"},
        {"{" M ",\"tool_choice\":{\"type\":\"any\"}}", WRONG, "tool_choice",
         "'tool_choice' is only allowed together with 'tools'"},
        {"{" M "," TOOLS ",\"tool_choice\":{\"type\":\"tool\",\"name\":\"g\"}}", WRONG, "tool_choice.name",
         "'tool_choice.name' must name one of 'tools'"},
        {"{" M "," TOOLS ",\"tool_choice\":{\"type\":\"all\"}}", WRONG, "tool_choice.type",
         "'tool_choice.type' must be 'auto', 'any', 'tool' or 'none'"},
        {"{" M ",\"thinking\":{\"type\":\"enabled\"}}", WRONG, "thinking.budget_tokens",
         "'thinking.budget_tokens' is required"},
        {"{" M ",\"metadata\":{\"user_id\":1}}", WRONG, "metadata.user_id",
         "'metadata.user_id' must be a string, but is an integer"},
    };
    check_refusals(cases, sizeof cases / sizeof *cases, read_it);
}

/* ---- replies ---- */

struct told {
    struct buf names, all;
};

static void note(void *arg, const char *name, struct str data)
{
    struct told *told = arg;
    struct err err;
    json_t *event = json_read(data, &err);
    if (!event)
        fail_msg("%s: " STR_FMT, err.message, STR_ARG(data));
    assert_string_equal(json_string_value(json_object_get(event, "type")), name);
    buf_printf(&told->names, "%s%s", told->names.len ? " " : "", name);
    buf_str(&told->all, data);
    json_decref(event);
}

static void check_stream(const char *const *chunks, const char *names, const char *among)
{
    struct told told;
    struct err err;
    struct anthropic_reply reply;
    struct arena memory;
    arena_init(&memory);
    buf_init(&told.names, 1 << 16);
    buf_init(&told.all, 1 << 16);
    anthropic_reply_init(&reply, STR("m"), &memory, note, &told);
    anthropic_reply_begin(&reply);
    bool good = true;
    for (; *chunks && good; chunks++)
        good = anthropic_reply_feed(&reply, str_from(*chunks), &err);
    if (good)
        anthropic_reply_end(&reply);
    else
        anthropic_reply_fail(&reply, &err);
    assert_string_equal(told.names.data, names);
    if (!strstr(told.all.data, among))
        fail_msg("no %s in\n%s", among, told.all.data);
    buf_release(&told.names);
    buf_release(&told.all);
    arena_dispose(&memory);
}

#define DELTA(text)   "{\"choices\":[{\"index\":0,\"delta\":{" text "},\"finish_reason\":null}]}"
#define FINISH(more)  "{\"choices\":[{\"index\":0,\"delta\":{}," more "}]}"
#define CALL(i, more) DELTA("\"tool_calls\":[{\"index\":" i "," more "}]")
#define USAGE                                                                                                          \
    "{\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,\"prompt_tokens_details\":"                \
    "{\"cached_tokens\":2}}}"

static void test_stream_of_text(void **state)
{
    (void)state;
    const char *chunks[] = {DELTA("\"role\":\"assistant\",\"content\":\"\""),
                            DELTA("\"content\":\"He\""),
                            DELTA("\"content\":\"llo\""),
                            FINISH("\"finish_reason\":\"stop\""),
                            USAGE,
                            NULL};
    check_stream(chunks,
                 "message_start content_block_start ping content_block_delta content_block_delta content_block_stop "
                 "message_delta message_stop",
                 "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},"
                 "\"usage\":{\"input_tokens\":5,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":2,"
                 "\"output_tokens\":3}}");
}

static void test_reasons_to_stop(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {FINISH("\"finish_reason\":\"length\""), "\"stop_reason\":\"max_tokens\",\"stop_sequence\":null"},
        {FINISH("\"finish_reason\":\"content_filter\""), "\"stop_reason\":\"refusal\",\"stop_sequence\":null"},
        {FINISH("\"finish_reason\":\"stop\",\"stop_reason\":\"X\""),
         "\"stop_reason\":\"stop_sequence\",\"stop_sequence\":\"X\""},
        {FINISH("\"finish_reason\":\"stop\",\"stop_reason\":2"), "\"stop_reason\":\"end_turn\",\"stop_sequence\":null"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *chunks[] = {rows[i][0], NULL};
        check_stream(chunks, "message_start message_delta message_stop", rows[i][1]);
    }
}

static void test_stream_of_thought_and_calls(void **state)
{
    (void)state;
    const char *chunks[] = {DELTA("\"reasoning_content\":\"hm\""),
                            CALL("0", "\"id\":\"c1\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}"),
                            CALL("0", "\"function\":{\"arguments\":\"{}\"}"),
                            CALL("1", "\"id\":\"c2\",\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}"),
                            FINISH("\"finish_reason\":\"tool_calls\""),
                            NULL};
    const char *names = "message_start content_block_start ping content_block_delta content_block_stop "
                        "content_block_start content_block_delta content_block_stop content_block_start "
                        "content_block_delta content_block_stop message_delta message_stop";
    check_stream(chunks, names,
                 "{\"type\":\"content_block_start\",\"index\":2,\"content_block\":{\"type\":\"tool_use\",\"id\":\"c2\","
                 "\"name\":\"g\",\"input\":{}}}");
    check_stream(chunks, names, "\"stop_reason\":\"tool_use\"");
    check_stream(chunks, names, "\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}");
}

static void test_stream_that_breaks(void **state)
{
    (void)state;
    const char *chunks[] = {DELTA("\"content\":\"a\""), "{\"error\":{\"message\":\"gone\",\"code\":\"model_crashed\"}}",
                            NULL};
    check_stream(chunks, "message_start content_block_start ping content_block_delta error",
                 "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"gone\"}}");
}

static bool write_message(const char *chat, struct buf *out, struct err *err)
{
    buf_init(out, 1 << 16);
    return anthropic_message_write(STR("m"), str_from(chat), out, err);
}

#define WHOLE(arguments, finish)                                                                                       \
    "{\"choices\":[{\"message\":{\"content\":\"A\",\"reasoning_content\":\"hm\",\"tool_calls\":[{\"id\":\"c\","        \
    "\"function\":{\"name\":\"f\",\"arguments\":\"" arguments "\"}}]},\"finish_reason\":\"" finish "\"}]}"
#define BEFORE                                                                                                         \
    "\"role\":\"assistant\",\"model\":\"m\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"hm\",\"signature\":"    \
    "\"\"},{\"type\":\"text\",\"text\":\"A\",\"citations\":null}"

static void test_whole_message(void **state)
{
    (void)state;
    struct buf out;
    struct err err;
    assert_true(write_message(WHOLE("{\\\"a\\\":1}", "tool_calls"), &out, &err));
    assert_non_null(strstr(out.data, BEFORE ",{\"type\":\"tool_use\",\"id\":\"c\",\"name\":\"f\",\"input\":{\"a\":1}}],"
                                            "\"stop_reason\":\"tool_use\",\"stop_sequence\":null,\"usage\":"));
    buf_release(&out);
    assert_true(write_message(WHOLE("{\\\"a", "length"), &out, &err)); /* cut off: left out */
    assert_non_null(strstr(out.data, BEFORE "],\"stop_reason\":\"max_tokens\""));
    buf_release(&out);
    assert_false(write_message(WHOLE("{\\\"a", "tool_calls"), &out, &err));
    assert_int_equal(err.code, ERR_BAD_GATEWAY);
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_become_messages),
        cmocka_unit_test(test_tools_go_round),
        cmocka_unit_test(test_options_go_by_chat_s_names),
        cmocka_unit_test(test_refusals_name_the_field),
        cmocka_unit_test(test_stream_of_text),
        cmocka_unit_test(test_reasons_to_stop),
        cmocka_unit_test(test_stream_of_thought_and_calls),
        cmocka_unit_test(test_stream_that_breaks),
        cmocka_unit_test(test_whole_message),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
