#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "worker/seq.h"

static const engine_token tokens[] = {1, 2, 3, 4, 5, 6, 7, 8};

static void cells_are_counted_once_when_shared(void **state)
{
    (void)state;
    struct seq_table table;
    seq_table_init(&table, 3, 10);
    seq_append(&table, 0, tokens, 6);
    seq_copy(&table, 0, 1, 4);
    seq_copy(&table, 1, 2, 2);
    assert_int_equal(table.cells_used, 6);
    seq_append(&table, 1, tokens, 4);
    assert_int_equal(table.cells_used, 10);
    seq_trim(&table, 0, 0);
    assert_int_equal(table.cells_used, 8); /* four of the six are still held by the copies */
    seq_trim(&table, 1, 2);
    assert_int_equal(table.cells_used, 2);
    seq_trim(&table, 2, 0);
    seq_trim(&table, 1, 0);
    assert_int_equal(table.cells_used, 0);
    seq_append(&table, 0, tokens, 8);
    assert_int_equal(table.cells_used, 8);
    seq_table_release(&table);
}

static void longest_prefix_is_found_idle_first(void **state)
{
    (void)state;
    struct seq_table table;
    seq_table_init(&table, 4, 64);
    seq_append(&table, 0, tokens, 3);
    seq_append(&table, 1, tokens, 5);
    seq_append(&table, 2, tokens, 5);
    seq_take(&table, 1);
    struct seq_match match = seq_match(&table, tokens, 8, false);
    assert_int_equal(match.id, 2);
    assert_int_equal(match.length, 5);
    match = seq_match(&table, tokens, 4, true); /* only sequence 0 lies wholly in the first four */
    assert_int_equal(match.id, 0);
    assert_int_equal(match.length, 3);
    assert_int_equal(seq_match(&table, tokens + 1, 4, false).id, -1);
    seq_table_release(&table);
}

static void the_least_recently_used_goes_first(void **state)
{
    (void)state;
    struct seq_table table;
    seq_table_init(&table, 3, 64);
    for (unsigned i = 0; i < 3; i++) {
        seq_take(&table, i);
        seq_append(&table, i, tokens, 2);
    }
    assert_int_equal(seq_idle_oldest(&table, -1), -1);
    seq_give(&table, 2);
    seq_give(&table, 0);
    seq_give(&table, 1);
    assert_int_equal(seq_idle_oldest(&table, -1), 2);
    assert_int_equal(seq_idle_oldest(&table, 2), 0);
    assert_int_equal(seq_idle_empty(&table), -1);
    seq_trim(&table, 1, 0);
    assert_int_equal(seq_idle_empty(&table), 1);
    seq_table_release(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cells_are_counted_once_when_shared),
        cmocka_unit_test(longest_prefix_is_found_idle_first),
        cmocka_unit_test(the_least_recently_used_goes_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
