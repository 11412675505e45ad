/* When the server is well, and what is worse than what. */
#include "unit/unit.h"

#include "api/system/condition.h"
#include "base/limits.h"

static void test_rules(void **state)
{
    static const struct {
        struct condition_facts facts;
        enum condition condition;
    } rows[] = {
        /* draining, store lost, folder lost, store failed, model trouble, disk free */
        {{false, false, false, CONDITION_NEVER, CONDITION_NEVER, UINT64_MAX}, HEALTHY},
        {{false, false, false, CONDITION_NEVER, 0, UINT64_MAX}, DEGRADED},
        {{false, false, false, CONDITION_NEVER, LIMIT_HEALTH_RECENT_MS - 1, UINT64_MAX}, DEGRADED},
        {{false, false, false, CONDITION_NEVER, LIMIT_HEALTH_RECENT_MS, UINT64_MAX}, HEALTHY},
        {{false, false, false, 1000, CONDITION_NEVER, UINT64_MAX}, DEGRADED},
        {{false, false, false, LIMIT_HEALTH_RECENT_MS, CONDITION_NEVER, UINT64_MAX}, HEALTHY},
        {{false, false, false, CONDITION_NEVER, CONDITION_NEVER, LIMIT_HEALTH_DISK}, HEALTHY},
        {{false, false, false, CONDITION_NEVER, CONDITION_NEVER, LIMIT_HEALTH_DISK - 1}, DEGRADED},
        {{true, false, false, CONDITION_NEVER, CONDITION_NEVER, UINT64_MAX}, DRAINING},
        {{true, false, false, CONDITION_NEVER, CONDITION_NEVER, 0}, DRAINING},
        {{false, true, false, CONDITION_NEVER, CONDITION_NEVER, UINT64_MAX}, UNHEALTHY},
        {{false, false, true, CONDITION_NEVER, CONDITION_NEVER, UINT64_MAX}, UNHEALTHY},
        {{true, true, false, CONDITION_NEVER, CONDITION_NEVER, UINT64_MAX}, UNHEALTHY},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (condition_of(&rows[i].facts) != rows[i].condition)
            fail_msg("row %zu is %s", i, condition_name(condition_of(&rows[i].facts)));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(test_rules)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
