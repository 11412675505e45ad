/* What may be used of a GPU, and how one is named. */
#include "unit/unit.h"

#include "base/device.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

static uint64_t usable(uint64_t total, uint64_t unused, uint64_t cap)
{
    const struct device d = {.total = total, .free = unused};
    return device_usable(&d, cap);
}

static void a_reserve_is_kept(void **state)
{
    (void)state;
    assert_int_equal(usable(8 * GIB, 8 * GIB, 0), 8 * GIB - 8 * GIB / 20);
    assert_int_equal(usable(80 * GIB, 60 * GIB, 0), 59 * GIB);    /* a gigabyte is enough */
    assert_int_equal(usable(1 * GIB, 512 * MIB, 0), 384 * MIB);   /* of a small one, more */
    assert_int_equal(usable(8 * GIB, 100 * MIB, 0), 0);           /* others have it */
    assert_int_equal(usable(0, 0, 0), 0);                         /* it does not say */
    assert_int_equal(usable(8 * GIB, 8 * GIB, 2 * GIB), 2 * GIB); /* as configured */
    assert_int_equal(usable(8 * GIB, 1 * GIB, 2 * GIB), GIB - 8 * GIB / 20);
}

static void one_is_called_by_name_or_place(void **state)
{
    static const struct device devices[] = {{.name = "CUDA0"}, {.name = "Vulkan0"}};
    (void)state;
    assert_int_equal(device_find(devices, 2, STR("CUDA0")), 0);
    assert_int_equal(device_find(devices, 2, STR("vulkan0")), 1);
    assert_int_equal(device_find(devices, 2, STR("1")), 1);
    assert_int_equal(device_find(devices, 2, STR("2")), -1);
    assert_int_equal(device_find(devices, 2, STR("Vulkan")), -1);
    assert_int_equal(device_find(devices, 2, STR("")), -1);
    assert_int_equal(device_find(devices, 0, STR("0")), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reserve_is_kept),
        cmocka_unit_test(one_is_called_by_name_or_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
