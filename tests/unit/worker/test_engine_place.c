/* Cells and positions where pictures take fewer positions than cells. */
#include "worker/engine_place.h"

#include "unit/unit.h"

static void add(struct place_table *t, unsigned sequence, uint32_t start, uint32_t count, uint32_t positions)
{
    place_add(t, sequence, &(struct place_run){start, count, positions});
}

static void positions_of_cells(void **state)
{
    struct place_table *t = place_table_new(2);
    (void)state;
    assert_int_equal(place_position(NULL, 7, 123), 123);
    add(t, 1, 5, 20, 6);
    add(t, 1, 5, 20, 6); /* its second piece */
    add(t, 1, 30, 8, 4);
    static const uint32_t rows[][2] = {{0, 0},   {4, 4},   {5, 5},   {24, 5}, {25, 11},
                                       {29, 15}, {30, 16}, {37, 16}, {38, 20}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(place_position(t, 1, rows[i][0]), rows[i][1]);
        assert_int_equal(place_position(t, 0, rows[i][0]), rows[i][0]);
    }
    place_copy(t, 1, 0, 30);
    assert_int_equal(place_position(t, 0, 38), 24);
    place_trim(t, 1, 5);
    assert_int_equal(place_position(t, 1, 38), 38);
    add(t, 1, 6, 4, 2); /* another one in its place */
    assert_int_equal(place_position(t, 1, 10), 8);
    place_table_free(t);
    place_table_free(NULL);
}

static void kept_as_bytes(void **state)
{
    struct place_table *t = place_table_new(2);
    unsigned char bytes[256] = "state";
    size_t rest;
    (void)state;
    add(t, 0, 5, 20, 6);
    add(t, 0, 30, 8, 4);
    size_t size = place_save_size(t, 0);
    assert_int_equal(size, 2 * sizeof(struct place_run) + 4);
    place_save(t, 0, bytes + 5);
    assert_true(place_load(t, 1, bytes, 5 + size, &rest));
    assert_int_equal(rest, 5);
    assert_int_equal(place_position(t, 1, 38), 20);
    assert_false(place_load(t, 1, bytes, 3, &rest));
    memset(bytes + 5 + size - 4, 0xff, 4); /* a number of runs that cannot be */
    assert_false(place_load(t, 1, bytes, 5 + size, &rest));
    assert_true(place_load(NULL, 1, bytes, 9, &rest));
    assert_int_equal(rest, 9);
    assert_int_equal(place_save_size(NULL, 0), 0);
    place_table_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(positions_of_cells), cmocka_unit_test(kept_as_bytes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
