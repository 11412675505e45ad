/* The table of fast kernels is the source's; what this CPU can do is asked once and must agree with itself. */
#include "unit/unit.h"

#include "registry/kernel.h"

static struct kernel_advice advise(unsigned type)
{
    struct gguf g = {0};
    struct kernel_advice a;
    g.shape.matrix_bytes[type] = 1000;
    g.shape.matrix_bytes[0] = 10; /* some norms */
    kernel_advise(&g, &a);
    return a;
}

static void a_slow_type_is_told_with_a_faster_one(void **state)
{
    (void)state;
    struct kernel_advice a = advise(3); /* Q4_1 */
    assert_string_equal(a.type, "Q4_1");
    assert_int_equal(a.slow, !kernel_is_fast("Q4_1") && kernel_is_fast("Q4_0"));
    if (!a.slow)
        return;
    assert_string_equal(a.better, "Q4_0");
    assert_true(a.prompt_gain > 3 && a.decode_gain > 1);
}

static void what_nobody_measured_has_no_figure(void **state)
{
    (void)state;
    struct kernel_advice a = advise(14); /* Q6_K */
    assert_string_equal(a.type, "Q6_K");
    assert_true(a.prompt_gain == 0 && a.decode_gain == 0);
}

static void fast_and_unquantised_types_are_not_talked_about(void **state)
{
    (void)state;
    assert_false(advise(1).slow); /* F16 */
    assert_false(advise(6).slow); /* Q5_0 */
    assert_false(advise(8).slow); /* Q8_0 */
    struct kernel_advice a = advise(2);
    assert_false(a.slow);
    assert_null(a.better);
    struct gguf nothing = {0};
    kernel_advise(&nothing, &a);
    assert_string_equal(a.type, "");
    assert_false(a.slow);
    assert_false(kernel_is_fast(""));
}

#if defined __x86_64__
static void what_avx2_brings(void **state)
{
    (void)state;
    if (!__builtin_cpu_supports("avx2"))
        skip();
    assert_true(kernel_is_fast("Q4_0") && kernel_is_fast("Q4_K") && kernel_is_fast("IQ4_NL"));
    assert_int_equal(kernel_is_fast("Q2_K"), __builtin_cpu_supports("avx512f") != 0);
    assert_false(kernel_is_fast("Q5_1"));
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slow_type_is_told_with_a_faster_one),
        cmocka_unit_test(what_nobody_measured_has_no_figure),
        cmocka_unit_test(fast_and_unquantised_types_are_not_talked_about),
#if defined __x86_64__
        cmocka_unit_test(what_avx2_brings),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
