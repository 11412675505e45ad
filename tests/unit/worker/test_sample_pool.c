#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>

#include "base/limits.h"
#include "worker/sample_pool.h"

#define JOBS 40

static struct {
    pthread_mutex_t lock;
    pthread_cond_t change;
    unsigned calls[JOBS], inside, most_inside;
    unsigned together; /* jobs wait for one another until so many are inside */
    bool met;
} record = {.lock = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER};

static void job(void *arg, struct sample_space *space, unsigned index)
{
    assert_ptr_equal(arg, &record);
    space->weights[0] = (float)index; /* each thread's own: a race would be seen by a sanitizer */
    pthread_mutex_lock(&record.lock);
    record.calls[index]++;
    record.inside++;
    record.most_inside = record.inside > record.most_inside ? record.inside : record.most_inside;
    record.met |= record.inside >= record.together;
    pthread_cond_broadcast(&record.change);
    while (!record.met)
        pthread_cond_wait(&record.change, &record.lock);
    record.inside--;
    pthread_mutex_unlock(&record.lock);
    assert_true(space->weights[0] == (float)index);
}

static void run(struct sample_pool *pool, struct sample_space *space, unsigned count, unsigned together)
{
    memset(record.calls, 0, sizeof record.calls);
    record.most_inside = 0;
    record.together = together;
    record.met = false;
    sample_pool_run(pool, space, job, &record, count);
    for (unsigned i = 0; i < JOBS; i++)
        assert_int_equal(record.calls[i], i < count);
    assert_int_equal(record.inside, 0);
}

static void every_job_is_done_once_and_side_by_side(void **state)
{
    (void)state;
    struct sample_space space;
    struct sample_pool *pool = sample_pool_new(2, 16);
    assert_non_null(pool);
    sample_space_init(&space, 16);
    run(pool, &space, JOBS, 3); /* hangs if the two do not help */
    assert_int_equal(record.most_inside, 3);
    for (unsigned round = 0; round < 500; round++)
        run(pool, &space, round % JOBS, 0);
    sample_space_release(&space);
    sample_pool_free(pool);
}

static void more_helpers_than_allowed_are_not_made(void **state)
{
    (void)state;
    struct sample_space space;
    struct sample_pool *pool = sample_pool_new(1000, 16);
    sample_space_init(&space, 16);
    run(pool, &space, JOBS, LIMIT_SAMPLE_HELPERS + 1);
    assert_int_equal(record.most_inside, LIMIT_SAMPLE_HELPERS + 1);
    sample_space_release(&space);
    sample_pool_free(pool);
    sample_pool_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_job_is_done_once_and_side_by_side),
        cmocka_unit_test(more_helpers_than_allowed_are_not_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
