/* The WebSocket protocol's text: envelopes, a chat's body, chunks and what is written around them. */
#include "unit/unit.h"

#include "api/ws/frame.h"
#include "base/json_read.h"
#include "base/json_scan.h"

static struct arena arena;

static int begin(void **state)
{
    (void)state;
    arena_init(&arena);
    return 0;
}

static int end(void **state)
{
    (void)state;
    arena_dispose(&arena);
    return 0;
}

static void test_envelope(void **state)
{
    struct ws_envelope e;
    struct err err;
    (void)state;
    assert_true(ws_envelope_read(STR(" {\"data\": {\"a\":[1,\"}\"]}, \"id\" : \"a\\u00e9\", \"type\":\"chat\"}\n"),
                                 &arena, &e, &err));
    assert_str(e.type, "chat");
    assert_str(e.id, "a\xC3\xA9");
    assert_str(e.raw_id, "\"a\\u00e9\"");
    assert_str(e.data, "{\"a\":[1,\"}\"]}");
    assert_true(ws_envelope_read(STR("{\"type\":\"ping\",\"id\":null,\"data\":null}"), &arena, &e, &err));
    assert_null(e.id.p);
    assert_str(e.raw_id, "null");
    assert_str(e.data, "{}");
}

static void test_bad_envelopes(void **state)
{
    static const char *const bad[] = {"",
                                      "{",
                                      "[]",
                                      "1",
                                      "{}",
                                      "{\"type\":1}",
                                      "{\"type\":null}",
                                      "{\"type\":\"\x01\"}",
                                      "{\"type\":\"x\",\"id\":\"\"}",
                                      "{\"type\":\"x\",\"id\":{}}",
                                      "{\"type\":\"x\",\"data\":3}",
                                      "{\"type\":\"x\"}}",
                                      "{\"type\":\"x\"} 1"};
    struct ws_envelope e;
    struct err err;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(ws_envelope_read(str_from(bad[i]), &arena, &e, &err));
        assert_int_equal(err.code, ERR_INVALID_MESSAGE);
        assert_true(*err.message != '\0');
    }
    assert_false(ws_envelope_read(STR("{\"id\":\"known\",\"type\":7}"), &arena, &e, &err));
    assert_str(e.raw_id, "\"known\""); /* so that the error can be told of it */
}

#define OPTIONS STR("{\"o\":1}")

static void check_body(const char *data, const char *body, bool stream, unsigned choices)
{
    struct ws_chat_wish wish;
    struct str result;
    struct err err;
    assert_true(ws_chat_body(str_from(data), OPTIONS, &arena, &result, &wish, &err));
    assert_string_equal(result.p, body);
    assert_int_equal(wish.stream, stream);
    assert_int_equal(wish.choices, choices);
}

static void test_body(void **state)
{
    struct ws_chat_wish wish;
    struct str result;
    struct err err;
    (void)state;
    check_body("{}", "{\"stream\":true,\"stream_options\":{\"o\":1}}", true, 1);
    check_body("{\n\r\t}", "{\n\r\t\"stream\":true,\"stream_options\":{\"o\":1}}", true, 1);
    check_body("{\"stream_options\":1,\"a\":2,\"stream\":null}",
               "{\"stream_options\":{\"o\":1},\"a\":2,\"stream\":true}", true, 1);
    check_body("{\"stream\":null,\"a\":2,\"stream_options\":1}",
               "{\"stream\":true,\"a\":2,\"stream_options\":{\"o\":1}}", true, 1);
    check_body("{ }", "{ \"stream\":true,\"stream_options\":{\"o\":1}}", true, 1);
    check_body("{\"n\":3,\"stream\":true}", "{\"n\":3,\"stream\":true,\"stream_options\":{\"o\":1}}", true, 3);
    check_body("{\"stream\":null,\"n\":129}", "{\"stream\":true,\"n\":129,\"stream_options\":{\"o\":1}}", true, 1);
    check_body("{\"stream_options\":{\"include_usage\":false},\"x\":\"y\"}",
               "{\"stream_options\":{\"o\":1},\"x\":\"y\",\"stream\":true}", true, 1);
    check_body("{\"stream_options\":null}", "{\"stream_options\":{\"o\":1},\"stream\":true}", true, 1);
    check_body("{\"stream\":false,\"n\":\"2\"}", "{\"stream\":false,\"n\":\"2\"}", false, 1);
    assert_false(ws_chat_body(STR("{\"stream\":1}"), OPTIONS, &arena, &result, &wish, &err));
    assert_string_equal(err.param, "stream");
    assert_true(ws_chat_body(STR("{\"stream_options\":1}"), STR_NONE, &arena, &result, &wish, &err));
    assert_str(result, "{\"stream_options\":1,\"stream\":true}");
}

static void test_chunk(void **state)
{
    struct ws_chunk chunk;
    struct ws_choice choice;
    (void)state;
    assert_true(
        ws_chunk_read(STR("{\"id\":\"i\",\"object\":\"o\",\"model\":\"m\",\"usage\":null,\"choices\":["
                          "{\"index\":1,\"delta\":{\"content\":\"],{\"},\"logprobs\":null,\"finish_reason\":null} ,"
                          "{\"delta\":{},\"finish_reason\":\"stop\"}]}"),
                      &chunk));
    assert_str(chunk.id, "\"i\"");
    assert_null(chunk.usage.p);
    assert_true(ws_choice_next(&chunk.choices, &choice));
    assert_int_equal(choice.index, 1);
    assert_str(choice.delta, "{\"content\":\"],{\"}");
    assert_null(choice.logprobs.p);
    assert_null(choice.finish_reason.p);
    assert_true(ws_choice_next(&chunk.choices, &choice));
    assert_int_equal(choice.index, 0);
    assert_str(choice.raw_index, "0");
    assert_str(choice.finish_reason, "\"stop\"");
    assert_false(ws_choice_next(&chunk.choices, &choice));
    assert_true(ws_chunk_read(STR("{\"choices\":[]}"), &chunk));
    assert_false(ws_choice_next(&chunk.choices, &choice));
    assert_true(ws_chunk_read(STR("{}"), &chunk));
    assert_false(ws_choice_next(&chunk.choices, &choice));
    assert_false(ws_chunk_read(STR("[DONE]"), &chunk));
}

static void test_empty_deltas(void **state)
{
    (void)state;
    assert_true(ws_delta_is_empty(STR_NONE));
    assert_true(ws_delta_is_empty(STR("{}")));
    assert_true(ws_delta_is_empty(STR("{\"role\":\"assistant\",\"content\":\"\"}")));
    assert_true(ws_delta_is_empty(STR("{\"role\":\"assistant\",\"content\":null,\"tool_calls\":null}")));
    assert_false(ws_delta_is_empty(STR("{\"role\":\"assistant\",\"content\":\"x\"}")));
    assert_false(ws_delta_is_empty(STR("{\"role\":\"assistant\",\"tool_calls\":[{}]}")));
    assert_false(ws_delta_is_empty(STR("{\"content\":\"\\\"role\\\"\"}")));
}

static void test_error(void **state)
{
    struct buf out;
    struct err err;
    (void)state;
    buf_init(&out, 4096);
    err_set_param(&err, ERR_DUPLICATE_ID, "id", "no \"twice\"");
    ws_error_write(&out, STR("\"x\""), &err);
    assert_string_equal(out.data,
                        "{\"type\":\"error\",\"id\":\"x\",\"data\":{\"error\":{\"message\":\"no \\\"twice\\\"\","
                        "\"type\":\"invalid_request_error\",\"param\":\"id\",\"code\":\"duplicate_id\"}}}");
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_envelope), cmocka_unit_test(test_bad_envelopes), cmocka_unit_test(test_body),
        cmocka_unit_test(test_chunk),    cmocka_unit_test(test_empty_deltas),  cmocka_unit_test(test_error),
    };
    json_setup();
    return cmocka_run_group_tests(tests, begin, end);
}
