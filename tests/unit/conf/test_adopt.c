/* What of a configuration changes at run time. */
#include "conf/adopt.h"

#include "unit/unit.h"

static struct conf live, fresh;
static char seen[1000];

static int setup(void **state)
{
    (void)state;
    conf_init(&live);
    conf_init(&fresh);
    seen[0] = '\0';
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    conf_release(&fresh);
    conf_release(&live);
    return 0;
}

static void note(void *arg, const struct conf_change *change)
{
    size_t n = strlen(seen);
    (void)arg;
    snprintf(seen + n, sizeof seen - n, "%s.%s=%d ", change->table, change->name, change->applied);
}

static void set(struct conf *conf, const char *name, const char *value)
{
    struct err err;
    assert_true(conf_set(conf, name, value, "test", &err));
}

static size_t adopt(void)
{
    return conf_adopt(&live, &fresh, note, NULL);
}

static void test_nothing_changed(void **state)
{
    (void)state;
    assert_int_equal(adopt(), 0);
    assert_string_equal(seen, "");
}

static void test_what_may_and_what_may_not(void **state)
{
    (void)state;
    set(&fresh, "server.port", "9");
    set(&fresh, "security.rate_limit", "77");
    set(&fresh, "cache.always_warm", "a,b");
    set(&fresh, "auth.require_inference_auth", "false");
    set(&fresh, "security.auth_enabled", "true");
    set(&fresh, "inference.default_temperature", "0.25");
    assert_int_equal(adopt(), 3);
    assert_string_equal(seen, "server.port=0 inference.default_temperature=1 cache.always_warm=1 "
                              "auth.require_inference_auth=0 security.rate_limit=1 security.auth_enabled=0 ");
    assert_int_equal(live.port, 8080);
    assert_int_equal(live.rate_limit, 77);
    assert_string_equal(live.always_warm[1], "b");
    assert_false(live.auth_enabled);
    seen[0] = '\0';
    assert_int_equal(adopt(), 0); /* what needs a restart is told again */
    assert_string_equal(seen, "server.port=0 auth.require_inference_auth=0 security.auth_enabled=0 ");
}

static void test_models_one_by_one(void **state)
{
    struct err err;
    (void)state;
    assert_true(conf_add_model(&live, STR("same"), "/s.gguf", &err));
    assert_true(conf_add_model(&live, STR("other"), "/a.gguf", &err));
    assert_true(conf_add_model(&live, STR("gone"), "/g.gguf", &err));
    assert_true(conf_add_model(&fresh, STR("same"), "/s.gguf", &err));
    assert_true(conf_add_model(&fresh, STR("other"), "/b.gguf", &err));
    assert_true(conf_add_model(&fresh, STR("new"), "/n.gguf", &err));
    assert_int_equal(adopt(), 3);
    assert_null(strstr(seen, "same"));
    assert_non_null(strstr(seen, "models.other=1 "));
    assert_non_null(strstr(seen, "models.new=1 "));
    assert_non_null(strstr(seen, "models.gone=1 "));
    assert_string_equal(conf_model_find(&live, STR("other"))->file, "/b.gguf");
    assert_null(conf_model_find(&live, STR("gone")));
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {CASE(test_nothing_changed), CASE(test_what_may_and_what_may_not),
                                       CASE(test_models_one_by_one)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
