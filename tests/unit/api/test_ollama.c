/* Ollama's API as pure functions: requests in, chat requests out; chat replies in, objects and lines out. */
#include "unit/unit.h"

#include "api/ollama/reply.h"
#include "unit/openai/request_case.h"

#define HELLO "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]"
#define CHAT  "{\"model\":\"m\"," HELLO
#define M     "\"model\":\"m\","

static void check(enum ollama_form form, const char *body, const char *wanted)
{
    struct ollama_request request;
    struct err err = ERR_INIT;
    if (!ollama_request_read(str_from(body), form, &arena, &request, &err))
        fail_msg("%s: %s", body, err.message);
    assert_string_equal(request.body.p, wanted);
}

static void test_messages_become_chat_s(void **state)
{
    (void)state;
    check(OLLAMA_CHAT, "{" M "\"stream\":false," HELLO "}", CHAT ",\"stream\":false}");
    check(OLLAMA_CHAT,
          "{" M
          "\"stream\":false,\"messages\":[{\"role\":\"user\",\"content\":\"c\",\"images\":[\"iVBORw0KGgoAAA\"]}]}",
          "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"c\"},"
          "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,iVBORw0KGgoAAA\"}}]}],"
          "\"stream\":false}");
}

/* The second answer names its call, so that the first is left for the one that names none. */
static void test_answers_find_their_calls(void **state)
{
    (void)state;
    check(
        OLLAMA_CHAT,
        "{" M "\"stream\":false,\"messages\":[{\"role\":\"assistant\",\"thinking\":\"hm\",\"tool_calls\":["
        "{\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}},{\"id\":\"z\",\"function\":{\"name\":\"g\"}}]},"
        "{\"role\":\"tool\",\"tool_name\":\"g\",\"content\":\"2\"},{\"role\":\"tool\",\"content\":\"1\"}]}",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"call_1_0\","
        "\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}},{\"id\":\"z\",\"type\":"
        "\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}}],\"reasoning_content\":\"hm\"},{\"role\":"
        "\"tool\",\"content\":\"2\",\"tool_call_id\":\"z\"},{\"role\":\"tool\",\"content\":\"1\",\"tool_call_id\":"
        "\"call_1_0\"}],\"stream\":false}");
}

static void test_options_go_by_chat_s_names(void **state)
{
    (void)state;
    check(OLLAMA_CHAT,
          "{" M HELLO ",\"options\":{\"num_predict\":3,\"temperature\":0.5,\"top_k\":2,\"seed\":7,\"repeat_last_n\":-1,"
          "\"num_ctx\":99,\"stop\":\"E\"},\"format\":\"json\",\"think\":false}",
          CHAT ",\"response_format\":{\"type\":\"json_object\"},\"chat_template_kwargs\":{\"enable_thinking\":false},"
               "\"temperature\":0.5,\"top_k\":2,\"max_tokens\":3,\"repeat_last_n\":2147483647,\"seed\":7,\"stop\":["
               "\"E\"],\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
    check(OLLAMA_CHAT,
          "{" M HELLO ",\"stream\":false,\"options\":{\"num_predict\":-1},\"format\":{\"a\":1},\"think\":\"low\"}",
          CHAT
          ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"format\",\"schema\":{\"a\":1}}"
          "},\"reasoning_effort\":\"low\",\"max_tokens\":2147483647,\"stream\":false}");
}

static void test_prompts(void **state)
{
    (void)state;
    check(
        OLLAMA_GENERATE, "{" M "\"stream\":false,\"prompt\":\"x\",\"system\":\"s\",\"context\":[1]}",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"x\"}]"
        ",\"stream\":false}");
    check(OLLAMA_GENERATE, "{" M "\"stream\":false,\"prompt\":\"x\",\"raw\":true}",
          "{\"model\":\"m\",\"prompt\":\"x\",\"stream\":false}");
    check(OLLAMA_GENERATE, "{" M "\"stream\":false,\"prompt\":\"x\",\"suffix\":\"y\"}",
          "{\"model\":\"m\",\"prompt\":\"x\",\"suffix\":\"y\",\"stream\":false}");
    check(OLLAMA_EMBED, "{" M "\"input\":[\"a\"],\"dimensions\":4}",
          "{\"model\":\"m\",\"input\":[\"a\"],\"encoding_format\":\"float\",\"dimensions\":4}");
    check(OLLAMA_EMBEDDINGS, "{" M "\"prompt\":\"a\"}",
          "{\"model\":\"m\",\"input\":\"a\",\"encoding_format\":\"float\"}");
}

static void test_names(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"m", "m"},         {"m:latest", "m"},     {"m:q4", "m:q4"},       {"hf.co/o/r-GGUF:Q4_0", "r:Q4_0"},
        {"hf.co/o/r", "r"}, {"i/m:latest", "i/m"}, {":latest", ":latest"}, {"hf.co/", ""}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct str name = ollama_model_name(str_from(rows[i][0]), &arena);
        assert_true(str_eq(name, str_from(rows[i][1])));
    }
}

static int64_t kept(const char *value)
{
    struct ollama_request request;
    struct err err;
    const char *body = arena_printf(&arena, "{" M "\"keep_alive\":%s}", value);
    if (!ollama_request_read(str_from(body), OLLAMA_CHAT, &arena, &request, &err))
        return -100;
    assert_true(request.empty);
    return request.keep.given ? request.keep.seconds : -200;
}

static void test_keep_alive(void **state)
{
    (void)state;
    assert_int_equal(kept("null"), -200);
    assert_int_equal(kept("0"), 0);
    assert_int_equal(kept("-1"), -1);
    assert_int_equal(kept("300"), 300);
    assert_int_equal(kept("\"5m\""), 300);
    assert_int_equal(kept("\"1h1m1.5s\""), 3662);
    assert_int_equal(kept("\"-5m\""), -1);
    assert_int_equal(kept("\"0\""), 0);
    assert_int_equal(kept("1e300"), -1);
    static const char *const bad[] = {"\"\"",    "\"5\xC3\xA4\"", "\"m\"", "\"1h2\"",
                                      "\"5mm\"", "true",          "\"-\"", "\"..s\""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(kept(bad[i]), -100);
}

static bool read_chat(struct str body, struct arena *memory, struct err *err)
{
    struct ollama_request request;
    return ollama_request_read(body, OLLAMA_CHAT, memory, &request, err);
}

static bool read_generate(struct str body, struct arena *memory, struct err *err)
{
    struct ollama_request request;
    return ollama_request_read(body, OLLAMA_GENERATE, memory, &request, err);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct request_case chats[] = {
        {"[]", ERR_INVALID_PARAMETERS, "", "the body must be an object, but is an array"},
        {"{}", ERR_INVALID_PARAMETERS, "model", "'model' is required"},
        {"{" M HELLO ",\"options\":{\"top_p\":2}}", ERR_INVALID_PARAMETERS, "options.top_p",
         "'options.top_p' is out of range: it must be between 0 and 1"},
        {"{" M HELLO ",\"options\":{\"stop\":[\"\"]}}", ERR_INVALID_PARAMETERS, "options.stop",
         "'options.stop' must be a string of 1 to 256 bytes, or an array of such"},
        {"{" M HELLO ",\"options\":{\"mirostat\":3}}", ERR_INVALID_PARAMETERS, "options.mirostat",
         "'options.mirostat' is out of range: it must be between 0 and 2"},
        {"{" M "\"messages\":[{\"role\":\"tool\"}]}", ERR_INVALID_PARAMETERS, "messages[0].tool_name",
         "'messages[0].tool_name' answers no call of the message before"},
    };
    static const struct request_case prompts[] = {
        {"{" M "\"prompt\":\"x\",\"template\":\"t\"}", ERR_NOT_SUPPORTED, "template",
         "'template' is not supported: the model's own is used; send 'raw' with a finished prompt instead"},
        {"{" M "\"prompt\":\"x\",\"raw\":true,\"format\":\"json\"}", ERR_NOT_SUPPORTED, "format",
         "'format' is not supported together with 'raw'"},
        {"{" M "\"prompt\":\"x\",\"images\":[1]}", ERR_INVALID_PARAMETERS, "images[0]",
         "'images[0]' must be a JPEG, PNG, GIF or WebP image in base64"},
    };
    check_refusals(chats, sizeof chats / sizeof *chats, read_chat);
    check_refusals(prompts, sizeof prompts / sizeof *prompts, read_generate);
}

/* ---- replies ---- */

static struct {
    struct buf text;
} told;

/* Without the two members that the clock makes. */
static void on_line(void *arg, struct str line)
{
    (void)arg;
    assert_int_equal(line.p[line.n - 1], '\n');
    json_t *object = json_read((struct str){line.p, line.n - 1}, NULL);
    assert_non_null(object);
    if (!json_object_get(object, "error"))
        assert_int_equal(json_object_del(object, "created_at"), 0);
    json_object_del(object, "total_duration");
    struct str text = json_text(object, &arena);
    json_decref(object);
    buf_str(&told.text, text);
}

static struct ollama_reply *reply_of(enum ollama_form form)
{
    struct ollama_request request = {.form = form, .model = STR("m")};
    struct ollama_reply *reply = arena_alloc(&arena, sizeof *reply);
    buf_clear(&told.text);
    ollama_reply_init(reply, &request, &arena, on_line, NULL);
    return reply;
}

static void feed(struct ollama_reply *reply, const char *chunk)
{
    struct err err;
    if (!ollama_reply_feed(reply, str_from(chunk), &err))
        fail_msg("%s: %s", chunk, err.message);
}

static void test_a_stream(void **state)
{
    (void)state;
    struct ollama_reply *r = reply_of(OLLAMA_CHAT);
    struct err err;
    feed(r, "{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}");
    feed(r, "{\"choices\":[{\"delta\":{\"reasoning_content\":\"h\"}}]}");
    feed(r, "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"function\":{\"name\":\"f\"}}]}}]}");
    feed(r,
         "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"a\\\":\"}}]}}]}");
    feed(r, "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"1}\"}}]}}]}");
    feed(r, "{\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}");
    feed(r, "{\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2},"
            "\"timings\":{\"prompt_ms\":1.5,\"predicted_ms\":2}}");
    assert_true(ollama_reply_end(r, &err));
    assert_string_equal(
        arena_str(&arena, buf_view(&told.text)).p,
        "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"\",\"thinking\":\"h\"},\"done\":false}"
        "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"c\","
        "\"function\":{\"index\":0,\"name\":\"f\",\"arguments\":{\"a\":1}}}]},\"done\":false}"
        "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\","
        "\"prompt_eval_count\":3,\"prompt_eval_duration\":1500000,\"eval_count\":2,\"eval_duration\":2000000}");
}

static void test_what_is_unknown_is_absent(void **state)
{
    (void)state;
    struct ollama_reply *r = reply_of(OLLAMA_GENERATE);
    struct err err;
    feed(r, "{\"choices\":[{\"text\":\"a\",\"finish_reason\":\"length\"}]}");
    assert_true(ollama_reply_end(r, &err));
    assert_string_equal(arena_str(&arena, buf_view(&told.text)).p,
                        "{\"model\":\"m\",\"response\":\"a\",\"done\":false}"
                        "{\"model\":\"m\",\"response\":\"\",\"done\":true,\"done_reason\":\"length\"}");
}

static void test_bad_chunks(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "[]", "{\"error\":{\"message\":\"x\"}}", "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":-1}]}}]}",
        "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"x\"}}]}}]}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err err = ERR_INIT;
        assert_false(ollama_reply_feed(reply_of(OLLAMA_CHAT), str_from(bad[i]), &err));
        assert_true(*err.message);
    }
    struct ollama_reply *r = reply_of(OLLAMA_CHAT);
    struct err err = ERR_INIT;
    feed(r, "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\",\"arguments\":\"[\"}}]"
            "}}]}");
    assert_false(ollama_reply_end(r, &err));
    assert_int_equal(err.code, ERR_BAD_GATEWAY);
}

static int teardown_all(void **state)
{
    buf_release(&told.text);
    return teardown(state);
}

static int setup_all(void **state)
{
    buf_init(&told.text, 1 << 20);
    return setup(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_become_chat_s),
        cmocka_unit_test(test_answers_find_their_calls),
        cmocka_unit_test(test_options_go_by_chat_s_names),
        cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_a_stream),
        cmocka_unit_test(test_what_is_unknown_is_absent),
        cmocka_unit_test(test_bad_chunks),
    };
    return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
