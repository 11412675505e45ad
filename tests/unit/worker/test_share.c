#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "worker/share.h"

struct item {
    struct list link;
};

static void who_had_least_goes_first(void **state)
{
    (void)state;
    struct share_table table;
    struct item items[2];
    share_table_init(&table);
    struct share *many = share_join(&table, 7), *few = share_join(&table, 3);
    list_push(&many->waiting[SHARE_INTERACTIVE], &items[0].link);
    list_push(&few->waiting[SHARE_INTERACTIVE], &items[1].link);
    assert_int_equal(share_charge(&table, many, 100), 0);
    assert_int_equal(share_charge(&table, few, 40), 0);
    assert_ptr_equal(share_next(&table, SHARE_INTERACTIVE, NULL), few);
    assert_ptr_equal(share_next(&table, SHARE_INTERACTIVE, few), many);
    assert_null(share_next(&table, SHARE_INTERACTIVE, many));
    assert_null(share_next(&table, SHARE_BATCH, NULL));
    assert_int_equal(share_charge(&table, few, 100), 40);
    assert_ptr_equal(share_next(&table, SHARE_INTERACTIVE, NULL), many);
    list_remove(&items[0].link);
    assert_ptr_equal(share_next(&table, SHARE_INTERACTIVE, NULL), few);
    list_remove(&items[1].link);
    share_leave(many);
    share_leave(few);
    assert_true(list_empty(&table.shares));
}

static void neither_silence_nor_return_is_worth_anything(void **state)
{
    (void)state;
    struct share_table table;
    share_table_init(&table);
    struct share *a = share_join(&table, 1);
    for (unsigned i = 0; i < 100; i++)
        share_charge(&table, a, 10);
    struct share *b = share_join(&table, 2);
    assert_int_equal(b->served, 990); /* where a's last piece of work began, not 0 */
    share_charge(&table, b, 500);
    share_leave(b);
    b = share_join(&table, 2);
    assert_true(b->served >= 990);
    assert_ptr_equal(share_join(&table, 2), b); /* one share a client */
    share_leave(b);
    share_leave(b);
    share_leave(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_had_least_goes_first),
        cmocka_unit_test(neither_silence_nor_return_is_worth_anything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
