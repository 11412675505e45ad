#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "openai/chat_request.h"
#include "request_case.h"

#define M          "\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"
#define TOOL(name) "{\"type\":\"function\",\"function\":{\"name\":\"" name "\"}}"
#define WRITTEN(name)                                                                                                  \
    "{\"type\":\"function\",\"function\":{\"name\":\"" name                                                            \
    "\",\"description\":\"\",\"parameters\":{\"type\":\"object\",\"properties\":{}}}}"

static struct openai_chat must_read(const char *body)
{
    struct openai_chat chat;
    struct err err = ERR_INIT;
    if (!openai_chat_read(str_from(body), &OPENAI_CHAT_DEFAULTS, &arena, &chat, &err))
        fail_msg("%s: %s", body, err.message);
    return chat;
}

static bool read_chat(struct str body, struct arena *memory, struct err *err)
{
    struct openai_chat chat;
    return openai_chat_read(body, &OPENAI_CHAT_DEFAULTS, memory, &chat, err);
}

static void test_defaults_are_the_documents(void **state)
{
    (void)state;
    struct openai_chat c = must_read("{" M "}");
    assert_string_equal(c.model.p, "m");
    assert_int_equal(c.sampling.max_tokens, 2048);
    assert_true(c.sampling.temperature == 0.7);
    assert_true(c.sampling.top_p == 1.0 && c.sampling.min_p == 0 && c.sampling.typical_p == 1.0);
    assert_true(c.sampling.repeat_penalty == 1.0);
    assert_int_equal(c.sampling.n, 1);
    assert_false(c.sampling.has_seed);
    assert_true(c.parallel_tool_calls);
    assert_true(c.enable_thinking);
    assert_null(c.tools.p);
    assert_null(c.json_schema.p);
    assert_null(c.template_kwargs.p);
    assert_string_equal(c.messages.p, "[{\"role\":\"user\",\"content\":\"hi\"}]");
}

static void test_null_means_default_for_every_field(void **state)
{
    (void)state;
    struct openai_chat c = must_read(
        "{" M ",\"max_tokens\":null,\"max_completion_tokens\":null,\"temperature\":null,\"top_p\":null,\"n\":null,"
        "\"stream\":null,\"stream_options\":null,\"stop\":null,\"seed\":null,\"logit_bias\":null,\"logprobs\":null,"
        "\"top_logprobs\":null,\"tools\":null,\"tool_choice\":null,\"functions\":null,\"function_call\":null,"
        "\"parallel_tool_calls\":null,\"response_format\":null,\"reasoning_effort\":null,\"modalities\":null,"
        "\"audio\":null,\"top_k\":null,\"min_p\":null,\"grammar\":null,\"chat_template_kwargs\":null,\"user\":null,"
        "\"presence_penalty\":null,\"frequency_penalty\":null,\"suffix\":null}");
    assert_int_equal(c.sampling.max_tokens, 2048);
    assert_true(c.sampling.temperature == 0.7);
    assert_false(c.sampling.stream || c.sampling.has_seed || c.logprobs || c.legacy_functions);
    assert_null(c.sampling.grammar.p);
}

static void test_sampling_fields_arrive(void **state)
{
    (void)state;
    struct openai_chat c = must_read(
        "{" M ",\"max_tokens\":5,\"max_completion_tokens\":16.0,\"temperature\":0,\"top_p\":0.5,\"n\":3,\"seed\":-7,"
        "\"stop\":[\"a\",\"bc\"],\"logit_bias\":{\"12\":-100,\"7\":1.5},\"logprobs\":true,\"top_logprobs\":4,"
        "\"stream\":true,\"stream_options\":{\"include_usage\":true,\"include_obfuscation\":false},\"top_k\":40,"
        "\"presence_penalty\":-2,\"frequency_penalty\":2,\"unknown\":{}}");
    assert_int_equal(c.sampling.max_tokens, 16); /* max_completion_tokens wins */
    assert_true(c.sampling.temperature == 0 && c.sampling.top_p == 0.5);
    assert_int_equal(c.sampling.n, 3);
    assert_true(c.sampling.has_seed && c.sampling.seed == -7);
    assert_int_equal(c.sampling.stop_count, 2);
    assert_string_equal(c.sampling.stops[1].p, "bc");
    assert_int_equal(c.sampling.bias_count, 2);
    assert_int_equal(c.sampling.bias[0].token, 12);
    assert_true(c.sampling.bias[0].bias == -100 && c.sampling.bias[1].bias == 1.5f);
    assert_true(c.logprobs && c.top_logprobs == 4 && c.sampling.stream && c.sampling.include_usage);
    assert_int_equal(c.sampling.top_k, 40);
}

static void test_messages_become_one_form(void **state)
{
    (void)state;
    struct openai_chat c = must_read("{\"model\":\"m\",\"messages\":["
                                     "{\"role\":\"developer\",\"content\":\"rules\"},"
                                     "{\"role\":\"user\",\"name\":\"al\",\"content\":[{\"type\":\"text\",\"text\":"
                                     "\"a\"},{\"type\":\"text\",\"text\":\"b\"}]},"
                                     "{\"role\":\"assistant\",\"content\":null,\"reasoning\":\"hm\",\"tool_calls\":[{"
                                     "\"id\":\"c1\",\"type\":\"function\","
                                     "\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\":1}\"}}]},"
                                     "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"42\"},"
                                     "{\"role\":\"assistant\",\"function_call\":{\"name\":\"g\",\"arguments\":\"{}\"}},"
                                     "{\"role\":\"function\",\"name\":\"g\",\"content\":null},"
                                     "{\"role\":\"assistant\",\"content\":[{\"type\":\"refusal\",\"refusal\":\"no\"}]},"
                                     "{\"role\":\"assistant\",\"refusal\":\"never\"}]}");
    assert_string_equal(
        c.messages.p,
        "[{\"role\":\"system\",\"content\":\"rules\"},"
        "{\"role\":\"user\",\"content\":\"a\\nb\"},"
        "{\"role\":\"assistant\",\"content\":null,\"reasoning_content\":\"hm\",\"tool_calls\":[{\"id\":\"c1\","
        "\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\":1}\"}}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"42\"},"
        "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"g\",\"type\":\"function\","
        "\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"g\",\"name\":\"g\",\"content\":null},"
        "{\"role\":\"assistant\",\"content\":\"no\"},"
        "{\"role\":\"assistant\",\"content\":\"never\"}]");
}

/* The texts and images of a prompt, as "a|0|b": texts, and images by their number. */
static const char *cut(const struct openai_chat *c, struct str text)
{
    static char out[512];
    size_t n = 0;
    while (text.p) {
        size_t index;
        struct str before = openai_image_cut(c, &text, &index);
        n += (size_t)snprintf(out + n, sizeof out - n, STR_FMT, STR_ARG(before));
        if (index != SIZE_MAX)
            n += (size_t)snprintf(out + n, sizeof out - n, "|%zu|", index);
    }
    return out;
}

static void test_images_become_marks(void **state)
{
    (void)state;
    struct openai_chat c =
        must_read("{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
                  "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:x\",\"detail\":\"low\"}},"
                  "{\"type\":\"text\",\"text\":\"b <__media__> <image:0:00>\"},{\"type\":\"text\",\"text\":\"c\"},"
                  "{\"type\":\"image_url\",\"image_url\":{\"url\":\"http://h\"}}]}]}");
    assert_int_equal(c.image_count, 2);
    assert_string_equal(c.images[0].path, "messages[0].content[1].image_url");
    assert_string_equal(c.images[0].url.p, "data:x");
    assert_string_equal(c.images[1].path, "messages[0].content[4].image_url");
    assert_string_equal(
        cut(&c, c.messages),
        "[{\"role\":\"user\",\"content\":\"a|0|b <__media__> <image:0:00>\\nc|1|\"}]"); /* a client's own are text */
    char mark[OPENAI_IMAGE_MARK], first[OPENAI_IMAGE_MARK];
    openai_image_mark(&c, 1, first);
    assert_string_equal(cut(&c, STR("no mark")), "no mark");
    assert_string_equal(cut(&c, str_from(first)), "|1|");
    assert_memory_equal(cut(&c, (struct str){first, strlen(first) - 1}), first, strlen(first) - 1); /* half a mark */
    c = must_read("{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\","
                  "\"image_url\":{\"url\":\"data:x\"}}]}]}");
    assert_memory_not_equal(openai_image_mark(&c, 1, mark), first, strlen(first)); /* another request, other marks */
}

static void test_too_many_images(void **state)
{
    struct openai_chat chat;
    struct err err = ERR_INIT;
    struct buf body;
    (void)state;
    buf_init(&body, 1 << 20);
    buf_puts(&body, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[");
    for (int i = 0; i <= LIMIT_IMAGES; i++)
        buf_printf(&body, "%s{\"type\":\"image_url\",\"image_url\":{\"url\":\"u\"}}", i ? "," : "");
    buf_puts(&body, "]}]}");
    assert_false(openai_chat_read(buf_view(&body), &OPENAI_CHAT_DEFAULTS, &arena, &chat, &err));
    assert_string_equal(err.param, "messages[0].content[16].image_url");
    buf_release(&body);
}

static void test_native_sampling(void **state)
{
    (void)state;
    struct openai_sampling s = must_read("{" M "}").sampling;
    assert_true(s.top_n_sigma < 0 && s.xtc_probability == 0 && s.dynatemp_range == 0 && s.dry_multiplier == 0);
    assert_true(s.mirostat == 0 && s.mirostat_tau == 5 && s.dry_base == 1.75 && s.xtc_threshold == 0.1);
    assert_int_equal(s.dry_breaker_count, 4);
    s = must_read("{" M ",\"top_n_sigma\":1.5,\"xtc_probability\":0.5,\"xtc_threshold\":0.2,\"dynatemp_range\":0.4,"
                  "\"dynatemp_exponent\":2,\"mirostat\":2,\"mirostat_tau\":4,\"mirostat_eta\":0.2,"
                  "\"dry_multiplier\":0.8,\"dry_base\":2,\"dry_allowed_length\":3,\"dry_penalty_last_n\":-1,"
                  "\"dry_sequence_breakers\":[\"x\",\"yz\"],\"repeat_last_n\":-1}")
            .sampling;
    assert_true(s.top_n_sigma == 1.5 && s.xtc_probability == 0.5 && s.xtc_threshold == 0.2);
    assert_true(s.dynatemp_range == 0.4 && s.dynatemp_exponent == 2);
    assert_true(s.mirostat == 2 && s.mirostat_tau == 4 && s.mirostat_eta == 0.2);
    assert_true(s.dry_multiplier == 0.8 && s.dry_base == 2 && s.dry_allowed_length == 3);
    assert_true(s.dry_penalty_last_n == -1 && s.repeat_last_n == -1);
    assert_int_equal(s.dry_breaker_count, 2);
    assert_string_equal(s.dry_sequence_breakers[1].p, "yz");
}

static void test_tools_and_choice(void **state)
{
    (void)state;
    struct openai_chat c =
        must_read("{" M ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"strict\":true,"
                  "\"description\":\"d\",\"parameters\":{\"type\":\"object\"}}}," TOOL("g") "]}");
    assert_int_equal(c.tool_mode, OPENAI_TOOLS_AUTO);
    assert_string_equal(c.tools.p, "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\","
                                   "\"parameters\":{\"type\":\"object\"}}}," WRITTEN("g") "]");
    c = must_read("{" M ",\"tools\":[" TOOL("f") "],\"tool_choice\":\"none\",\"parallel_tool_calls\":false}");
    assert_int_equal(c.tool_mode, OPENAI_TOOLS_NONE);
    assert_false(c.parallel_tool_calls);
    c = must_read("{" M ",\"tools\":[" TOOL("f") "],\"tool_choice\":\"required\"}");
    assert_int_equal(c.tool_mode, OPENAI_TOOLS_REQUIRED);
    c = must_read("{" M ",\"tools\":[" TOOL("f") "," TOOL(
        "g") "],\"tool_choice\":{\"type\":\"function\","
             "\"function\":{\"name\":\"g\"}},\"response_format\":{\"type\":\"json_object\"}}");
    assert_int_equal(c.tool_mode, OPENAI_TOOLS_REQUIRED);
    assert_string_equal(c.tools.p, "[" WRITTEN("g") "]");
    assert_null(c.json_schema.p); /* tools win */
    c = must_read("{" M ",\"tools\":[" TOOL("f") "," TOOL("g") "," TOOL(
        "h") "],\"tool_choice\":{\"type\":\"allowed_tools\","
             "\"allowed_tools\":{\"mode\":\"auto\",\"tools\":[" TOOL("h") "," TOOL("f") "]}}}");
    assert_int_equal(c.tool_mode, OPENAI_TOOLS_AUTO);
    assert_string_equal(c.tools.p, "[" WRITTEN("h") "," WRITTEN("f") "]");
    c = must_read("{" M ",\"tools\":[],\"tool_choice\":\"none\"}");
    assert_null(c.tools.p);
}

static void test_legacy_functions_map_onto_tools(void **state)
{
    (void)state;
    struct openai_chat c =
        must_read("{" M ",\"functions\":[{\"name\":\"f\"},{\"name\":\"g\"}],\"function_call\":{\"name\":\"f\"}}");
    assert_true(c.legacy_functions);
    assert_int_equal(c.tool_mode, OPENAI_TOOLS_REQUIRED);
    assert_string_equal(c.tools.p, "[" WRITTEN("f") "]");
}

static void test_response_formats(void **state)
{
    (void)state;
    assert_null(must_read("{" M ",\"response_format\":{\"type\":\"text\"}}").json_schema.p);
    assert_string_equal(must_read("{" M ",\"response_format\":{\"type\":\"json_object\"}}").json_schema.p,
                        "{\"type\":\"object\"}");
    assert_string_equal(
        must_read("{" M ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\","
                  "\"strict\":true,\"schema\":{\"type\":\"object\",\"properties\":{\"b\":{},\"a\":{}}}}}}")
            .json_schema.p,
        "{\"type\":\"object\",\"properties\":{\"b\":{},\"a\":{}}}");
}

static void test_reasoning_effort(void **state)
{
    (void)state;
    struct openai_chat c = must_read("{" M ",\"reasoning_effort\":\"none\"}");
    assert_false(c.enable_thinking);
    c = must_read("{" M ",\"reasoning_effort\":\"xhigh\",\"chat_template_kwargs\":{\"k\":1}}");
    assert_true(c.enable_thinking);
    assert_string_equal(c.template_kwargs.p, "{\"reasoning_effort\":\"high\",\"k\":1}");
    assert_false(must_read("{" M ",\"chat_template_kwargs\":{\"enable_thinking\":false}}").enable_thinking);
}

#define INVALID         ERR_INVALID_PARAMETERS
#define MESSAGE(fields) "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"\"}," fields "]}"

static const struct request_case refusals[] = {
    {"", ERR_INVALID_JSON, "", "the body is empty; a JSON document was expected"},
    {"[]", INVALID, "", "the body must be an object, but is an array"},
    {"{}", INVALID, "model", "'model' is required"},
    {"{\"model\":\"\"}", INVALID, "model", "'model' has a wrong length: its bytes must be between 1 and 512"},
    {"{\"model\":\"a\\nb\"}", INVALID, "model", "'model' must not contain control characters"},
    {"{\"model\":\"m\"}", INVALID, "messages", "'messages' is required"},
    {"{\"model\":\"m\",\"messages\":\"hi\"}", INVALID, "messages", "'messages' must be an array, but is a string"},
    {"{\"model\":\"m\",\"messages\":[]}", INVALID, "messages",
     "'messages' has a wrong length: its items must be between 1 and 10000"},
    {MESSAGE("1"), INVALID, "messages[1]", "'messages[1]' must be an object, but is an integer"},
    {MESSAGE("{}"), INVALID, "messages[1].role", "'messages[1].role' is required"},
    {MESSAGE("{\"role\":\"x\"}"), INVALID, "messages[1].role",
     "'messages[1].role' must be one of developer, system, user, assistant, tool, function"},
    {MESSAGE("{\"role\":\"user\"}"), INVALID, "messages[1].content", "'messages[1].content' is required"},
    {MESSAGE("{\"role\":\"user\",\"content\":null}"), INVALID, "messages[1].content",
     "'messages[1].content' is required"},
    {MESSAGE("{\"role\":\"user\",\"content\":7}"), INVALID, "messages[1].content",
     "'messages[1].content' must be a string or an array of parts"},
    {MESSAGE("{\"role\":\"user\",\"content\":[]}"), INVALID, "messages[1].content",
     "'messages[1].content' has a wrong length: its items must be between 1 and 1024"},
    {MESSAGE("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"x\"},{\"type\":\"image_url\"}]}"), INVALID,
     "messages[1].content[1].image_url", "'messages[1].content[1].image_url' must be an object with a 'url'"},
    {MESSAGE("{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":7}}]}"), INVALID,
     "messages[1].content[0].image_url.url", "'messages[1].content[0].image_url.url' must be a string"},
    {MESSAGE("{\"role\":\"user\",\"content\":[{\"type\":\"input_audio\"}]}"), ERR_NOT_SUPPORTED,
     "messages[1].content[0]",
     "'messages[1].content[0]' is of type input_audio: texts and images are all that can be read"},
    {MESSAGE("{\"role\":\"user\",\"content\":[{\"type\":\"refusal\",\"refusal\":\"x\"}]}"), INVALID,
     "messages[1].content[0].type", "'messages[1].content[0].type' must be 'text' or 'image_url'"},
    {MESSAGE("{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}"), INVALID, "messages[1].content[0].text",
     "'messages[1].content[0].text' must be a string"},
    {MESSAGE("{\"role\":\"assistant\",\"content\":null}"), INVALID, "messages[1].content",
     "'messages[1].content' is required"},
    {MESSAGE("{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"a\"}]}"), INVALID, "messages[1].tool_calls[0].function",
     "'messages[1].tool_calls[0].function' is required"},
    {MESSAGE("{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\"}}]}"), INVALID,
     "messages[1].tool_calls[0].id", "'messages[1].tool_calls[0].id' is required"},
    {MESSAGE("{\"role\":\"tool\",\"content\":\"x\"}"), INVALID, "messages[1].tool_call_id",
     "'messages[1].tool_call_id' is required: the id of the call answered"},
    {"{" M ",\"temperature\":3}", INVALID, "temperature", "'temperature' is out of range: it must be between 0 and 2"},
    {"{" M ",\"temperature\":\"1\"}", INVALID, "temperature", "'temperature' must be a number, but is a string"},
    {"{" M ",\"top_p\":-0.1}", INVALID, "top_p", "'top_p' is out of range: it must be between 0 and 1"},
    {"{" M ",\"presence_penalty\":2.1}", INVALID, "presence_penalty",
     "'presence_penalty' is out of range: it must be between -2 and 2"},
    {"{" M ",\"max_tokens\":0}", INVALID, "max_tokens",
     "'max_tokens' is out of range: it must be between 1 and 2147483647"},
    {"{" M ",\"max_tokens\":1.5}", INVALID, "max_tokens", "'max_tokens' must be an integer, but is a number"},
    {"{" M ",\"mirostat\":3}", INVALID, "mirostat", "'mirostat' is out of range: it must be between 0 and 2"},
    {"{" M ",\"dry_base\":0.5}", INVALID, "dry_base", "'dry_base' is out of range: it must be between 1 and 100"},
    {"{" M ",\"xtc_probability\":1.1}", INVALID, "xtc_probability",
     "'xtc_probability' is out of range: it must be between 0 and 1"},
    {"{" M ",\"repeat_last_n\":-2}", INVALID, "repeat_last_n",
     "'repeat_last_n' is out of range: it must be between -1 and 2147483647"},
    {"{" M ",\"dry_sequence_breakers\":[]}", INVALID, "dry_sequence_breakers",
     "'dry_sequence_breakers' has a wrong length: its items must be between 1 and 32"},
    {"{" M ",\"dry_sequence_breakers\":[\"a\",7]}", INVALID, "dry_sequence_breakers[1]",
     "'dry_sequence_breakers[1]' must be a string of 1 to 40 bytes"},
    {"{" M ",\"n\":129}", INVALID, "n", "'n' is out of range: it must be between 1 and 128"},
    {"{" M ",\"stop\":5}", INVALID, "stop", "'stop' must be a string or an array of strings, but is an integer"},
    {"{" M ",\"stop\":\"\"}", INVALID, "stop", "'stop' has a wrong length: its bytes must be between 1 and 256"},
    {"{" M ",\"stop\":[\"a\",\"\"]}", INVALID, "stop[1]",
     "'stop[1]' has a wrong length: its bytes must be between 1 and 256"},
    {"{" M ",\"stop\":[\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\","
     "\"a\"]}",
     INVALID, "stop", "'stop' has a wrong length: its items must be between 0 and 16"},
    {"{" M ",\"logit_bias\":{\"x\":1}}", INVALID, "logit_bias",
     "'logit_bias' must map token ids to numbers, but has the key 'x'"},
    {"{" M ",\"logit_bias\":{\"5\":101}}", INVALID, "logit_bias.5",
     "'logit_bias.5' is out of range: it must be between -100 and 100"},
    {"{" M ",\"top_logprobs\":3}", INVALID, "top_logprobs",
     "'top_logprobs' is only allowed together with 'logprobs': true"},
    {"{" M ",\"logprobs\":true,\"top_logprobs\":21}", INVALID, "top_logprobs",
     "'top_logprobs' is out of range: it must be between 0 and 20"},
    {"{" M ",\"stream_options\":{\"include_usage\":true}}", INVALID, "stream_options",
     "'stream_options' is only allowed together with 'stream': true"},
    {"{" M ",\"tool_choice\":\"auto\"}", INVALID, "tool_choice", "'tool_choice' is only allowed together with 'tools'"},
    {"{" M ",\"tools\":[" TOOL("f") "],\"tool_choice\":\"any\"}", INVALID, "tool_choice",
     "'tool_choice' must be 'none', 'auto', 'required' or an object"},
    {"{" M ",\"tools\":[" TOOL("f") "],\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"z\"}}}", INVALID,
     "tool_choice.function.name", "'tool_choice.function.name' names 'z', which is not among 'tools'"},
    {"{" M ",\"tools\":[" TOOL("a b") "]}", INVALID, "tools[0].function.name",
     "'tools[0].function.name' must be 1 to 64 of the characters a-z A-Z 0-9 _ -"},
    {"{" M ",\"tools\":[{\"type\":\"custom\"}]}", ERR_NOT_SUPPORTED, "tools[0].type",
     "'tools[0].type': custom tools are not supported"},
    {"{" M ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":[]}}]}", INVALID,
     "tools[0].function.parameters",
     "'tools[0].function.parameters' must be an object (a JSON schema), but is an array"},
    {"{" M ",\"tools\":[" TOOL("f") "],\"functions\":[{\"name\":\"f\"}]}", INVALID, "functions",
     "'functions' cannot be combined with 'tools'"},
    {"{" M ",\"response_format\":{\"type\":\"xml\"}}", INVALID, "response_format.type",
     "'response_format.type' must be 'text', 'json_object' or 'json_schema'"},
    {"{" M ",\"response_format\":{\"type\":\"json_schema\"}}", INVALID, "response_format.json_schema",
     "'response_format.json_schema' must be an object"},
    {"{" M ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{}}}", INVALID,
     "response_format.json_schema.name", "'response_format.json_schema.name' is required"},
    {"{" M ",\"reasoning_effort\":\"huge\"}", INVALID, "reasoning_effort",
     "'reasoning_effort' must be one of none, minimal, low, medium, high, xhigh, max"},
    {"{" M ",\"modalities\":[\"text\",\"audio\"]}", ERR_NOT_SUPPORTED, "modalities",
     "'modalities' other than text are not supported"},
    {"{" M ",\"audio\":{\"voice\":\"x\"}}", ERR_NOT_SUPPORTED, "audio", "'audio' output is not supported"},
    {"{" M ",\"suffix\":\"x\"}", INVALID, "suffix", "'suffix' belongs to /v1/completions"},
    {"{" M ",\"grammar\":\"root ::= \\\"a\\\"\",\"response_format\":{\"type\":\"json_object\"}}", INVALID, "grammar",
     "'grammar' cannot be combined with 'response_format'"},
};

static void test_refusals(void **state)
{
    (void)state;
    check_refusals(refusals, sizeof refusals / sizeof *refusals, read_chat);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_defaults_are_the_documents, setup, teardown),
        cmocka_unit_test_setup_teardown(test_null_means_default_for_every_field, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sampling_fields_arrive, setup, teardown),
        cmocka_unit_test_setup_teardown(test_messages_become_one_form, setup, teardown),
        cmocka_unit_test_setup_teardown(test_native_sampling, setup, teardown),
        cmocka_unit_test_setup_teardown(test_images_become_marks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_many_images, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tools_and_choice, setup, teardown),
        cmocka_unit_test_setup_teardown(test_legacy_functions_map_onto_tools, setup, teardown),
        cmocka_unit_test_setup_teardown(test_response_formats, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reasoning_effort, setup, teardown),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
