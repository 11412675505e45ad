/* Permissions: names, aliases, what implies what, roles, patterns. */
#include "unit/unit.h"

#include "auth/permission.h"

static void test_names(void **state)
{
    char text[PERMISSIONS_TEXT_SIZE];
    (void)state;
    assert_int_equal(permission_parse(STR("inference")), AUTH_INFERENCE);
    assert_int_equal(permission_parse(STR("models.read")), AUTH_MODELS_READ);
    assert_int_equal(permission_parse(STR("RunInference")), AUTH_INFERENCE);
    assert_int_equal(permission_parse(STR("ReadModels")), AUTH_MODELS_READ);
    assert_int_equal(permission_parse(STR("management")), AUTH_MANAGEMENT);
    assert_int_equal(permission_parse(STR("*")), AUTH_ALL);
    assert_int_equal(permission_parse(STR("Inference")), 0);
    assert_int_equal(permission_parse(STR("")), 0);
    assert_string_equal(permission_text(AUTH_ALL, text), "*");
    assert_string_equal(permission_text(AUTH_ALL & ~(unsigned)AUTH_AUDIT, text),
                        "inference admin models.read model_management metrics batch keys users");
    assert_string_equal(permission_text(0, text), "");
}

static void test_implications(void **state)
{
    (void)state;
    assert_true(permission_allows(AUTH_INFERENCE, AUTH_MODELS_READ));
    assert_true(permission_allows(AUTH_INFERENCE, AUTH_INFERENCE | AUTH_MODELS_READ));
    assert_false(permission_allows(AUTH_MODELS_READ, AUTH_INFERENCE));
    assert_false(permission_allows(AUTH_INFERENCE, AUTH_METRICS));
    assert_true(permission_allows(AUTH_MANAGEMENT, AUTH_ALL));
    assert_false(permission_allows(AUTH_ALL & ~(unsigned)AUTH_MANAGEMENT, AUTH_MANAGEMENT));
    assert_true(permission_allows(0, AUTH_ANY));
    assert_false(permission_allows(AUTH_KEYS | AUTH_USERS, AUTH_MANAGEMENT));
}

static void test_roles(void **state)
{
    enum role role = ROLE_ADMIN;
    (void)state;
    for (int i = 0; i < ROLE_COUNT; i++) {
        assert_true(role_parse(str_from(role_name((enum role)i)), &role));
        assert_int_equal(role, i);
    }
    assert_false(role_parse(STR("root"), &role));
    assert_true(permission_allows(role_permissions(ROLE_GUEST), AUTH_INFERENCE | AUTH_MODELS_READ));
    assert_false(permission_allows(role_permissions(ROLE_GUEST), AUTH_METRICS));
    assert_true(permission_allows(role_permissions(ROLE_USER), AUTH_METRICS));
    assert_false(permission_allows(role_permissions(ROLE_USER), AUTH_MODEL_MANAGEMENT));
    assert_true(permission_allows(role_permissions(ROLE_SERVICE), AUTH_MODEL_MANAGEMENT));
    assert_false(permission_allows(role_permissions(ROLE_SERVICE), AUTH_KEYS));
}

static void test_patterns(void **state)
{
    static const struct {
        const char *pattern, *text;
        bool fits;
    } cases[] = {{"*", "", true},
                 {"", "", true},
                 {"", "a", false},
                 {"a", "a", true},
                 {"a", "A", false},
                 {"llama-*", "llama-3", true},
                 {"llama-*", "llama", false},
                 {"*-q4", "x-q4", true},
                 {"*-q4", "x-q4-q4", true},
                 {"*-q4", "x-q40", false},
                 {"a*b*c", "aXbYbZc", true},
                 {"a*b*c", "acb", false},
                 {"**", "x", true},
                 {"a*c", "a*", false},
                 {"a*", "a*b", true},
                 {"?", "a", false}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (pattern_matches(str_from(cases[i].pattern), str_from(cases[i].text)) != cases[i].fits)
            fail_msg("%s %s", cases[i].pattern, cases[i].text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_names), cmocka_unit_test(test_implications),
                                       cmocka_unit_test(test_roles), cmocka_unit_test(test_patterns)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
