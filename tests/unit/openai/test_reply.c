/* Golden bytes: what the SDKs' typed models are fed with. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "openai/chat_reply.h"
#include "openai/completion_reply.h"
#include "openai/embedding_reply.h"
#include "openai/error.h"

static const struct openai_identity identity = {
    .id = "chatcmpl-1", .created = 1700000000, .model = {"org/m", 5}, .fingerprint = "fp_0a"};
static const struct openai_usage usage = {.prompt_tokens = 8, .completion_tokens = 3, .cached_tokens = 4};
static const struct openai_timings timings = {
    .cached_tokens = 4, .prompt_tokens = 8, .generated_tokens = 3, .prompt_ms = 8, .generated_ms = 1.5};

#define HEAD(object)                                                                                                   \
    "{\"id\":\"chatcmpl-1\",\"object\":\"" object                                                                      \
    "\",\"created\":1700000000,\"model\":\"org/m\",\"system_fingerprint\":\"fp_0a\",\"choices\":["
#define USAGE                                                                                                          \
    "\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":3,\"total_tokens\":11,\"prompt_tokens_details\":"            \
    "{\"cached_tokens\":4},\"completion_tokens_details\":{\"reasoning_tokens\":0}}"
#define TIMINGS                                                                                                        \
    "\"timings\":{\"cache_n\":4,\"prompt_n\":4,\"prompt_ms\":8,\"prompt_per_token_ms\":2,\"prompt_per_second\":500,"   \
    "\"predicted_n\":3,\"predicted_ms\":1.5,\"predicted_per_token_ms\":0.5,\"predicted_per_second\":2000}"

static void check(struct buf *out, const char *expected)
{
    assert_true(buf_ok(out));
    assert_string_equal(out->data, expected);
    buf_release(out);
}

static void check_chunk(struct str chunk, const char *expected)
{
    assert_string_equal(chunk.p, expected);
    assert_int_equal(chunk.n, strlen(expected));
}

static void test_chat_reply(void **state)
{
    (void)state;
    struct openai_call calls[] = {{STR("call_1"), STR("f"), STR("{\"a\":1}")}};
    struct openai_chat_choice choices[] = {
        {.content = STR("h\xC3\xA9\"\n"), .reasoning = STR("why"), .finish_reason = "stop"},
        {.content = STR(""), .calls = calls, .call_count = 1, .finish_reason = "tool_calls"},
        {.content = STR(""), .calls = calls, .call_count = 1, .legacy = true, .finish_reason = "function_call"},
    };
    struct buf out;
    buf_init(&out, 65536);
    assert_true(openai_chat_write(&out, &identity, choices, 3, &usage, &timings));
    check(&out, HEAD("chat.completion") "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"
                                        "\"h\xC3\xA9\\\"\\n\",\"refusal\":null,"
                                        "\"reasoning_content\":\"why\"},\"logprobs\":null,\"finish_reason\":\"stop\"},"
                                        "{\"index\":1,\"message\":{\"role\":\"assistant\",\"content\":null,\"refusal\":"
                                        "null,\"tool_calls\":[{\"id\":"
                                        "\"call_1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":"
                                        "\"{\\\"a\\\":1}\"}}]},"
                                        "\"logprobs\":null,\"finish_reason\":\"tool_calls\"},"
                                        "{\"index\":2,\"message\":{\"role\":\"assistant\",\"content\":null,\"refusal\":"
                                        "null,\"function_call\":"
                                        "{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}},\"logprobs\":null,\"finish_"
                                        "reason\":\"function_call\"}]," USAGE "," TIMINGS "}");
}

static void test_chat_logprobs(void **state)
{
    (void)state;
    struct openai_token top[] = {{.text = STR("A"), .logprob = -0.5f}, {.text = STR("\xC3"), .logprob = -INFINITY}};
    struct openai_token tokens[] = {{.text = STR("A"), .logprob = -0.5f, .top = top, .top_count = 2}};
    struct openai_stream stream;
    openai_stream_init(&stream, OPENAI_CHAT_CHUNK, &identity, false);
    check_chunk(openai_chat_chunk_content(&stream, 1, STR("A"), tokens, 1, true),
                HEAD("chat.completion.chunk") "{\"index\":1,\"delta\":{\"content\":\"A\"},\"logprobs\":{\"content\":[{"
                                              "\"token\":\"A\",\"logprob\":-0.5,"
                                              "\"bytes\":[65],\"top_logprobs\":[{\"token\":\"A\",\"logprob\":-0.5,"
                                              "\"bytes\":[65]},{\"token\":"
                                              "\"\xEF\xBF\xBD\",\"logprob\":-9999,\"bytes\":[195]}]}],\"refusal\":null}"
                                              ",\"finish_reason\":null}]}");
    openai_stream_release(&stream);
}

static void test_chat_chunks(void **state)
{
    (void)state;
    struct openai_stream s;
    openai_stream_init(&s, OPENAI_CHAT_CHUNK, &identity, true);
#define CHUNK(delta, reason)                                                                                           \
    HEAD("chat.completion.chunk")                                                                                      \
    "{\"index\":0,\"delta\":{" delta "},\"logprobs\":null,\"finish_reason\":" reason "}],\"usage\":null}"
    check_chunk(openai_chat_chunk_role(&s, 0), CHUNK("\"role\":\"assistant\",\"content\":\"\"", "null"));
    check_chunk(openai_chat_chunk_content(&s, 0, STR("hi"), NULL, 0, false), CHUNK("\"content\":\"hi\"", "null"));
    check_chunk(openai_chat_chunk_reasoning(&s, 0, STR("so")), CHUNK("\"reasoning_content\":\"so\"", "null"));
    check_chunk(
        openai_chat_chunk_call(&s, 0, 1, STR("call_x"), STR("f")),
        CHUNK("\"tool_calls\":[{\"index\":1,\"id\":\"call_x\",\"type\":\"function\",\"function\":{\"name\":\"f\","
              "\"arguments\":\"\"}}]",
              "null"));
    check_chunk(openai_chat_chunk_arguments(&s, 0, 1, STR("{\"")),
                CHUNK("\"tool_calls\":[{\"index\":1,\"function\":{\"arguments\":\"{\\\"\"}}]", "null"));
    check_chunk(openai_chat_chunk_function(&s, 0, STR("f"), STR("")),
                CHUNK("\"function_call\":{\"name\":\"f\",\"arguments\":\"\"}", "null"));
    check_chunk(openai_chat_chunk_finish(&s, 0, "length", STR_NONE), CHUNK("", "\"length\""));
    check_chunk(openai_chat_chunk_finish(&s, 0, "stop", STR("X")), CHUNK("", "\"stop\",\"stop_reason\":\"X\""));
    check_chunk(openai_chunk_usage(&s, &usage, &timings), HEAD("chat.completion.chunk") "]," USAGE "," TIMINGS "}");
    openai_stream_release(&s);
}

static void test_completion_reply(void **state)
{
    (void)state;
    struct openai_token top[] = {{.text = STR("\xC3\xA9"), .logprob = -1}, {.text = STR("b"), .logprob = -2}};
    struct openai_token tokens[] = {{.text = STR("\xC3\xA9"), .unknown = true},
                                    {.text = STR("b"), .logprob = -2, .top = top, .top_count = 2}};
    struct openai_text_choice choices[] = {{.text = STR("\xC3\xA9"
                                                        "b"),
                                            .tokens = tokens,
                                            .token_count = 2,
                                            .logprobs = true,
                                            .finish_reason = "length"},
                                           {.text = STR("c"), .finish_reason = "stop"}};
    struct buf out;
    buf_init(&out, 65536);
    assert_true(openai_completion_write(&out, &identity, choices, 2, &usage, &timings));
    check(&out,
          HEAD("text_completion") "{\"text\":\"\xC3\xA9"
                                  "b\",\"index\":0,\"logprobs\":{\"tokens\":[\"\xC3\xA9\",\"b\"],\"token_logprobs\":["
                                  "null,-2],"
                                  "\"top_logprobs\":[null,{\"\xC3\xA9\":-1,\"b\":-2}],\"text_offset\":[0,1]},\"finish_"
                                  "reason\":\"length\"},"
                                  "{\"text\":\"c\",\"index\":1,\"logprobs\":null,\"finish_reason\":\"stop\"}]," USAGE
                                  "," TIMINGS "}");
}

static void test_completion_chunks_go_on_counting(void **state)
{
    (void)state;
    struct openai_token token = {.text = STR("ab"), .logprob = -1};
    struct openai_text_choice choice = {.text = STR("ab"), .tokens = &token, .token_count = 1, .logprobs = true};
    struct openai_stream s;
    size_t offset = 0;
    openai_stream_init(&s, OPENAI_COMPLETION_OBJECT, &identity, false);
    openai_completion_chunk(&s, 2, &choice, &offset);
    choice.finish_reason = "stop";
    check_chunk(openai_completion_chunk(&s, 2, &choice, &offset),
                HEAD("text_completion") "{\"text\":\"ab\",\"index\":2,\"logprobs\":{\"tokens\":[\"ab\"],\"token_"
                                        "logprobs\":[-1],\"top_logprobs\":"
                                        "[{}],\"text_offset\":[2]},\"finish_reason\":\"stop\"}]}");
    assert_int_equal(offset, 4);
    openai_stream_release(&s);
}

static void test_nothing_measured_is_null(void **state)
{
    (void)state;
    struct openai_timings none = {0};
    struct json j;
    struct buf out;
    buf_init(&out, 65536);
    json_begin(&j, &out);
    json_open_object(&j, NULL);
    openai_put_timings(&j, &none);
    json_close(&j);
    assert_true(json_finish(&j));
    check(&out, "{\"timings\":{\"cache_n\":0,\"prompt_n\":0,\"prompt_ms\":0,\"prompt_per_token_ms\":null,"
                "\"prompt_per_second\":null,\"predicted_n\":0,\"predicted_ms\":0,\"predicted_per_token_ms\":null,"
                "\"predicted_per_second\":null}}");
}

static void test_guesses_are_told_when_there_were_some(void **state)
{
    (void)state;
    struct openai_timings guessed = {.generated_tokens = 9, .draft_tokens = 8, .draft_accepted = 5};
    struct json j;
    struct buf out;
    buf_init(&out, 65536);
    json_begin(&j, &out);
    json_open_object(&j, NULL);
    openai_put_timings(&j, &guessed);
    json_close(&j);
    assert_true(json_finish(&j));
    check(&out, "{\"timings\":{\"cache_n\":0,\"prompt_n\":0,\"prompt_ms\":0,\"prompt_per_token_ms\":null,"
                "\"prompt_per_second\":null,\"predicted_n\":9,\"predicted_ms\":0,\"predicted_per_token_ms\":0,"
                "\"predicted_per_second\":null,\"draft_n\":8,\"draft_n_accepted\":5}}");
}

static void test_a_queue_is_told_when_there_was_one(void **state)
{
    (void)state;
    struct openai_timings waited = {.queue_position = 3, .queue_ms = 12.5};
    struct json j;
    struct buf out;
    buf_init(&out, 65536);
    json_begin(&j, &out);
    json_open_object(&j, NULL);
    openai_put_timings(&j, &waited);
    json_close(&j);
    assert_true(json_finish(&j));
    check(&out, "{\"timings\":{\"cache_n\":0,\"prompt_n\":0,\"prompt_ms\":0,\"prompt_per_token_ms\":null,"
                "\"prompt_per_second\":null,\"predicted_n\":0,\"predicted_ms\":0,\"predicted_per_token_ms\":null,"
                "\"predicted_per_second\":null,\"queue_position\":3,\"queue_ms\":12.5}}");
}

static void test_embedding_reply(void **state)
{
    (void)state;
    float vectors[] = {3, 4, 0, 0};
    struct buf out;
    openai_embedding_normalise(vectors, 2);
    openai_embedding_normalise(vectors + 2, 2);
    buf_init(&out, 65536);
    assert_true(openai_embedding_write(&out, STR("m"), vectors, 2, 2, false, 7));
    check(&out, "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"embedding\":[0.6,0.8],\"index\":0},"
                "{\"object\":\"embedding\",\"embedding\":[0,0],\"index\":1}],\"model\":\"m\","
                "\"usage\":{\"prompt_tokens\":7,\"total_tokens\":7}}");
    assert_true(openai_embedding_write(&out, STR("m"), vectors, 1, 2, true, 7));
    check(&out, "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"embedding\":\"mpkZP83MTD8=\",\"index\":0}],"
                "\"model\":\"m\",\"usage\":{\"prompt_tokens\":7,\"total_tokens\":7}}");
}

static void test_model_object(void **state)
{
    (void)state;
    struct openai_model model = {.id = "a/b:c", .owned_by = "local", .created = 5, .extra = STR("{\"x\":1}")};
    struct json j;
    struct buf out;
    buf_init(&out, 65536);
    json_begin(&j, &out);
    openai_put_model(&j, &model);
    assert_true(json_finish(&j));
    check(&out, "{\"id\":\"a/b:c\",\"object\":\"model\",\"created\":5,\"owned_by\":\"local\",\"permission\":[],"
                "\"root\":\"a/b:c\",\"parent\":null,\"inferno\":{\"x\":1}}");
}

static void test_ids(void **state)
{
    (void)state;
    char a[OPENAI_ID_SIZE], b[OPENAI_ID_SIZE], f[OPENAI_FINGERPRINT_SIZE], g[OPENAI_FINGERPRINT_SIZE];
    assert_int_equal(strlen(openai_id(a, "chatcmpl-")), 38);
    assert_string_not_equal(a, openai_id(b, "chatcmpl-"));
    assert_int_equal(strlen(openai_fingerprint(f, "build", "model")), 13);
    assert_string_equal(f, openai_fingerprint(g, "build", "model"));
    assert_string_not_equal(f, openai_fingerprint(g, "build", "other"));
}

static void test_errors(void **state)
{
    (void)state;
    struct err err = ERR_INIT, back = ERR_INIT;
    struct buf out;
    buf_init(&out, 65536);
    err_set_param(&err, ERR_INVALID_PARAMETERS, "stop[1]", "bad \"stop\"");
    openai_error_write(&out, &err);
    assert_true(openai_error_read(buf_view(&out), 400, &back));
    assert_int_equal(back.code, ERR_INVALID_PARAMETERS);
    assert_string_equal(back.param, "stop[1]");
    check(&out, "{\"error\":{\"message\":\"bad \\\"stop\\\"\",\"type\":\"invalid_request_error\",\"param\":\"stop[1]\","
                "\"code\":\"invalid_parameters\"}}");
    err_set(&err, ERR_SERVER_OVERLOADED, "full");
    snprintf(err.details, sizeof err.details, "{\"queue\":512}");
    openai_error_write(&out, &err);
    check(&out, "{\"error\":{\"message\":\"full\",\"type\":\"server_error\",\"param\":null,"
                "\"code\":\"server_overloaded\",\"details\":{\"queue\":512}}}");
    assert_true(openai_error_read(STR("{\"error\":\"text\",\"code\":\"conflict\"}"), 409, &back));
    assert_string_equal(back.message, "text");
    assert_int_equal(back.code, ERR_CONFLICT);
    assert_false(openai_error_read(STR("{\"error\":7}"), 500, &back));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat_reply),
        cmocka_unit_test(test_chat_logprobs),
        cmocka_unit_test(test_chat_chunks),
        cmocka_unit_test(test_completion_reply),
        cmocka_unit_test(test_completion_chunks_go_on_counting),
        cmocka_unit_test(test_nothing_measured_is_null),
        cmocka_unit_test(test_guesses_are_told_when_there_were_some),
        cmocka_unit_test(test_a_queue_is_told_when_there_was_one),
        cmocka_unit_test(test_embedding_reply),
        cmocka_unit_test(test_model_object),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
