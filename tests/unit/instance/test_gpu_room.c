/* The ledger of GPUs: what is wished for, what is short, what is granted. */
#include "unit/unit.h"

#include "instance/gpu_room.h"

static struct gpu_room two(uint64_t limit0, uint64_t held0, uint64_t limit1, uint64_t held1)
{
    return (struct gpu_room){.count = 2, .limits = {limit0, limit1}, .held = {held0, held1}};
}

static void a_need_is_dealt_by_limits(void **state)
{
    (void)state;
    uint64_t wanted[LIMIT_DEVICES];
    struct gpu_room room = two(3000, 2999, 1000, 0);
    gpu_room_spread(&room, 400, wanted); /* who holds what does not matter: that is for later */
    assert_int_equal(wanted[0], 300);
    assert_int_equal(wanted[1], 100);
    gpu_room_spread(&room, 40000, wanted); /* never more than there is */
    assert_int_equal(wanted[0], 3000);
    assert_int_equal(wanted[1], 1000);
    gpu_room_spread(&room, 0, wanted);
    assert_int_equal(wanted[0] + wanted[1], 0);
    room = two(0, 0, 0, 0);
    gpu_room_spread(&room, 400, wanted);
    assert_int_equal(wanted[0] + wanted[1], 0);
}

static void the_first_that_is_short_is_named(void **state)
{
    (void)state;
    struct gpu_room room = two(100, 40, 50, 50);
    assert_int_equal(gpu_room_short(&room, (const uint64_t[]){60, 0}), -1);
    assert_int_equal(gpu_room_short(&room, (const uint64_t[]){61, 0}), 0);
    assert_int_equal(gpu_room_short(&room, (const uint64_t[]){60, 1}), 1);
    room = two(100, 140, 50, 0); /* a cap that was lowered */
    assert_int_equal(gpu_room_short(&room, (const uint64_t[]){1, 0}), 0);
    assert_int_equal(gpu_room_short(&room, (const uint64_t[]){0, 0}), -1);
    room.count = 0;
    assert_int_equal(gpu_room_short(&room, (const uint64_t[]){0}), -1);
}

static void what_is_left_is_granted(void **state)
{
    (void)state;
    uint64_t granted[LIMIT_DEVICES];
    const struct gpu_room room = two(100, 40, 50, 70);
    gpu_room_grant(&room, (const uint64_t[]){50, 10}, granted);
    assert_int_equal(granted[0], 50);
    assert_int_equal(granted[1], 0);
    gpu_room_grant(&room, (const uint64_t[]){90, 0}, granted);
    assert_int_equal(granted[0], 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_need_is_dealt_by_limits),
        cmocka_unit_test(the_first_that_is_short_is_named),
        cmocka_unit_test(what_is_left_is_granted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
