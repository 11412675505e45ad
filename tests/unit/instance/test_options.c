/* Options: the shapes a body may have, merging, what is shown and what is not. */
#include "instance/options.h"

#include "unit/unit.h"

static struct conf conf;

static json_t *parse(const char *text)
{
    json_t *document = json_read(str_from(text), NULL);
    assert_non_null(document);
    return document;
}

static json_t *canonical(const char *text)
{
    struct err err = ERR_INIT;
    json_t *body = parse(text), *document = options_canonical(body, &err);
    json_decref(body);
    if (!document)
        print_error("%s\n", err.message);
    assert_non_null(document);
    return document;
}

/* The canonical form of `text` after merging `patch` equals `expected`. */
static void merges(const char *text, const char *patch_text, const char *expected_text)
{
    struct err err = ERR_INIT;
    json_t *document = canonical(text), *patch = parse(patch_text), *expected = parse(expected_text);
    json_t *merged = options_merge(document, patch, &err);
    char *got = json_dumps(merged, JSON_COMPACT);
    if (!merged || !json_equal(merged, expected))
        print_error("%s + %s = %s %s\n", text, patch_text, got ? got : "", err.message);
    assert_true(merged && json_equal(merged, expected));
    free(got);
    json_decref(merged);
    json_decref(expected);
    json_decref(patch);
    json_decref(document);
}

static void refused(const char *text, const char *param)
{
    struct err err = ERR_INIT;
    json_t *body = parse(text), *document = options_canonical(body, &err);
    if (document)
        print_error("%s was taken\n", text);
    assert_null(document);
    assert_int_equal(err.code, ERR_INVALID_PARAMETERS);
    assert_string_equal(err.param, param);
    json_decref(body);
}

static void test_shapes(void **state)
{
    (void)state;
    json_t *flat = canonical("{\"model\":\"/m.gguf\",\"idle_timeout\":3}");
    json_t *nested =
        canonical("{\"backend_type\":\"llama_cpp\",\"backend_options\":{\"model\":\"/m.gguf\"},\"idle_timeout\":3}");
    assert_true(json_equal(flat, nested));
    json_decref(flat);
    json_decref(nested);
    json_t *alias = canonical("{\"ngl\":0,\"max_restarts\":-4,\"group\":null,\"start\":false,\"name\":\"x\"}");
    json_t *meant = parse("{\"backend_type\":\"llama_cpp\",\"backend_options\":{\"gpu_layers\":0},\"max_restarts\":0}");
    assert_true(json_equal(alias, meant));
    json_decref(alias);
    json_decref(meant);
}

static void test_refused(void **state)
{
    (void)state;
    refused("{\"backend_type\":\"nonsense\"}", "backend_type");
    refused("{\"backend_type\":7}", "backend_type");
    refused("{\"backend_options\":[]}", "backend_options");
    refused("{\"port\":70000}", "backend_options.port");
    refused("{\"environment\":{\"A\":1}}", "environment");
    refused("{\"environment\":{\"A=B\":\"x\"}}", "environment");
    refused("{\"nodes\":\"far\"}", "nodes");
    refused("{\"group\":\"a/b\"}", "group");
    refused("{\"idle_timeout\":\"soon\"}", "idle_timeout");
    refused("{\"preset_ini\":7}", "preset_ini");
    refused("{\"api_key\":\"k\\r\\nX-Other: 1\"}", "backend_options.api_key");
    refused("{\"api_key\":\"a key\"}", "backend_options.api_key");
    refused("{\"backend_type\":\"vllm\",\"backend_options\":{\"model\":\"o/m\",\"api_key\":[\"k\",\"\\n\"]}}",
            "backend_options.api_key");
}

static void test_merging(void **state)
{
    (void)state;
    merges("{\"model\":\"/m\"}", "{\"idle_timeout\":5}",
           "{\"backend_type\":\"llama_cpp\",\"backend_options\":{\"model\":\"/m\"},\"idle_timeout\":5}");
    merges("{\"model\":\"/m\",\"ctx_size\":9}", "{\"backend_options\":{\"ctx_size\":null,\"ngl\":1}}",
           "{\"backend_type\":\"llama_cpp\",\"backend_options\":{\"model\":\"/m\",\"gpu_layers\":1}}");
    merges("{\"model\":\"/m\",\"environment\":{\"A\":\"secret\",\"B\":\"2\"}}",
           "{\"environment\":{\"A\":\"***\",\"B\":null,\"C\":\"3\"}}",
           "{\"backend_type\":\"llama_cpp\",\"backend_options\":{\"model\":\"/"
           "m\"},\"environment\":{\"A\":\"secret\",\"C\":\"3\"}}");
    merges("{\"model\":\"/m\",\"api_key\":\"secret\"}", "{\"backend_options\":{\"api_key\":\"***\"}}",
           "{\"backend_type\":\"llama_cpp\",\"backend_options\":{\"model\":\"/m\",\"api_key\":\"secret\"}}");
    merges("{\"model\":\"/m\",\"ctx_size\":9}", "{\"backend_type\":\"vllm\",\"backend_options\":{\"model\":\"o/m\"}}",
           "{\"backend_type\":\"vllm\",\"backend_options\":{\"model\":\"o/m\"}}");
    merges("{\"idle_timeout\":5}", "{\"idle_timeout\":null}",
           "{\"backend_type\":\"llama_cpp\",\"backend_options\":{}}");
}

static void test_shown(void **state)
{
    struct options options;
    struct err err;
    (void)state;
    json_t *document = canonical("{\"backend_type\":\"vllm\",\"environment\":{\"TOKEN\":\"s3cret\"},"
                                 "\"backend_options\":{\"model\":\"o/m\",\"api_key\":[\"s3cret\"]}}");
    assert_true(options_read(&options, document, &conf, &err));
    json_t *shown = options_shown(&options);
    char *text = json_dumps(shown, JSON_COMPACT);
    assert_null(strstr(text, "s3cret"));
    assert_non_null(strstr(text, "\"TOKEN\":\"***\""));
    assert_int_equal(json_integer_value(json_object_get(shown, "max_restarts")), conf.default_max_restarts);
    free(text);
    json_decref(shown);
    options_release(&options);
}

static void test_backend_key(void **state)
{
    static const struct {
        const char *body, *key;
    } cases[] = {
        {"{\"model\":\"/m\"}", NULL},
        {"{\"api_key\":\"k1\"}", "k1"},
        {"{\"api_key\":\"k1,k2\"}", "k1"},
        {"{\"backend_type\":\"vllm\",\"backend_options\":{\"model\":\"o/m\",\"api_key\":[\"k1\",\"k2\"]}}", "k1"},
    };
    struct options options;
    struct err err;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(options_read(&options, canonical(cases[i].body), &conf, &err));
        struct str key = options_backend_key(&options);
        assert_true(cases[i].key ? str_eq(key, str_from(cases[i].key)) : key.p == NULL);
        options_release(&options);
    }
}

static void test_names(void **state)
{
    static const char *const good[] = {"a", "A.b_c-9", "..."}, *const bad[] = {"", ".", "..", "a/b", "a b", "\xc3\xa4"};
    struct err err;
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(options_check_name(str_from(good[i]), "it", &err));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(options_check_name(str_from(bad[i]), "it", &err));
}

static int set_up(void **state)
{
    (void)state;
    json_setup();
    conf_init(&conf);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    conf_release(&conf);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shapes),      cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_merging),     cmocka_unit_test(test_shown),
                                       cmocka_unit_test(test_backend_key), cmocka_unit_test(test_names)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
