#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "worker/serve_tools.h"

#define TOOL(name) "{\"type\":\"function\",\"function\":{\"name\":\"" name "\",\"parameters\":{\"type\":\"object\"}}}"
#define CALL(name)                                                                                                     \
    "{\"type\":\"object\",\"properties\":{\"name\":{\"const\":\"" name                                                 \
    "\"},\"arguments\":{\"type\":\"object\"}},\"required\":[\"name\",\"arguments\"],\"additionalProperties\":false}"
#define TAIL "\\nAnswer with one call as JSON: {\\\"name\\\": the tool's name, \\\"arguments\\\": {...}}"

static void test_rewrite(void **state)
{
    (void)state;
    struct arena arena;
    struct err err = ERR_INIT;
    struct chat_request one = {.messages = STR("[{\"role\":\"user\",\"content\":\"q\"}]"),
                               .tools = STR("[" TOOL("f") "]"),
                               .tool_choice = CHAT_TOOLS_REQUIRED};
    arena_init(&arena);
    assert_true(serve_tools_rewrite(&one, &arena, &err));
    assert_null(one.tools.p);
    assert_string_equal(one.json_schema.p, CALL("f"));
    assert_string_equal(
        one.messages.p,
        "[{\"role\":\"system\",\"content\":\"You can call these tools:\\n[{\\\"type\\\":\\\"function\\\","
        "\\\"function\\\":{\\\"name\\\":\\\"f\\\",\\\"parameters\\\":{\\\"type\\\":\\\"object\\\"}}}]" TAIL
        "\"},{\"role\":\"user\",\"content\":\"q\"}]");
    struct chat_request two = {.messages = STR("[{\"role\":\"system\",\"content\":\"old\"}]"),
                               .tools = STR("[" TOOL("f") "," TOOL("g") "]"),
                               .tool_choice = CHAT_TOOLS_REQUIRED};
    assert_true(serve_tools_rewrite(&two, &arena, &err));
    assert_string_equal(two.json_schema.p, "{\"anyOf\":[" CALL("f") "," CALL("g") "]}");
    assert_non_null(strstr(two.messages.p, TAIL "\\n\\nold\"}]"));
    arena_dispose(&arena);
}

static void test_read(void **state)
{
    (void)state;
    struct arena arena;
    struct str name, arguments;
    arena_init(&arena);
    assert_true(serve_tools_read(STR(" {\"name\": \"f\", \"arguments\": {\"a\": [1]}}"), &arena, &name, &arguments));
    assert_string_equal(name.p, "f");
    assert_string_equal(arguments.p, "{\"a\":[1]}");
    assert_false(serve_tools_read(STR("{\"name\": \"f\", \"argum"), &arena, &name, &arguments));
    assert_false(serve_tools_read(STR("{\"name\": \"f\", \"arguments\": 1}"), &arena, &name, &arguments));
    arena_dispose(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rewrite), cmocka_unit_test(test_read)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
