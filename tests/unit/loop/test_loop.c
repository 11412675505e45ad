#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loop/loop.h"

static struct loop loop;
static char order[64];

struct item {
    struct deadline deadline;
    struct loop_soon soon;
    struct loop_post post;
    char name;
};

static void note(char name)
{
    order[strlen(order)] = name;
}

static void on_due(struct deadline *d)
{
    note(container_of(d, struct item, deadline)->name);
}

static void on_last(struct deadline *d)
{
    on_due(d);
    loop_stop(&loop);
}

static void test_deadlines_fire_in_order(void **state)
{
    struct item items[LOOP_QUEUES + 8] = {0}, last = {.name = '!'}, never = {.name = '-'};
    size_t n = sizeof items / sizeof *items;
    (void)state;
    memset(order, 0, sizeof order);
    loop_init(&loop);
    for (size_t k = 0; k < n; k++) { /* more durations than queues; those that share the last one come latest first */
        size_t i = k < LOOP_QUEUES - 1 ? k : n - 1 - (k - (LOOP_QUEUES - 1));
        items[i].name = (char)('a' + i);
        deadline_arm(&loop, &items[i].deadline, 10 + 2 * i, on_due);
    }
    deadline_arm(&loop, &never.deadline, 5, on_due);
    deadline_arm(&loop, &last.deadline, 1, on_due);
    deadline_arm(&loop, &last.deadline, 100, on_last); /* moved */
    deadline_cancel(&loop, &never.deadline);
    deadline_cancel(&loop, &never.deadline);
    loop_run(&loop);
    assert_string_equal(order, "abcdefghijklmnopqrstuvwx!");
    loop_release(&loop);
}

static void on_soon(struct loop_soon *soon)
{
    note(container_of(soon, struct item, soon)->name);
}

static void on_post(struct loop_post *post)
{
    struct item *item = container_of(post, struct item, post);
    note(item->name);
    if (item->name == 'z')
        loop_stop(&loop);
}

static void post_all(void *arg)
{
    struct item *items = arg;
    for (int i = 0; i < 26; i++)
        loop_send(&loop, &items[i].post, on_post);
}

static void test_soon_and_posts(void **state)
{
    struct item items[26] = {0}, soon[3] = {{.name = '1'}, {.name = '2'}, {.name = '3'}};
    uv_thread_t thread;
    (void)state;
    memset(order, 0, sizeof order);
    loop_init(&loop);
    for (int i = 0; i < 26; i++)
        items[i].name = (char)('a' + i);
    for (int i = 0; i < 3; i++) {
        loop_soon(&loop, &soon[i].soon, on_soon);
        loop_soon(&loop, &soon[i].soon, on_soon); /* asked twice, runs once */
    }
    loop_soon_cancel(&soon[1].soon);
    uv_run(&loop.uv, UV_RUN_NOWAIT);
    assert_int_equal(uv_thread_create(&thread, post_all, items), 0);
    loop_run(&loop);
    uv_thread_join(&thread);
    assert_string_equal(order, "13abcdefghijklmnopqrstuvwxyz");
    loop_release(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_deadlines_fire_in_order),
                                       cmocka_unit_test(test_soon_and_posts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
