#include "worker/sample_pool.h"

#include <pthread.h>

#include "base/limits.h"
#include "base/mem.h"

struct helper {
    struct sample_pool *pool;
    pthread_t thread;
    struct sample_space space;
};

struct sample_pool {
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    /* under lock */
    sample_job *job;
    void *arg;
    unsigned next, count; /* indices not taken yet */
    unsigned busy;        /* helpers in a job */
    bool stopping;
    /* fixed */
    struct helper helpers[LIMIT_SAMPLE_HELPERS];
    unsigned helper_count;
};

/* Takes indices until none is left. With the lock held, which is let go during each job. */
static void take_jobs(struct sample_pool *pool, struct sample_space *space)
{
    while (pool->next < pool->count) {
        unsigned index = pool->next++;
        sample_job *job = pool->job;
        void *arg = pool->arg;
        pthread_mutex_unlock(&pool->lock);
        job(arg, space, index);
        pthread_mutex_lock(&pool->lock);
    }
}

static void *help(void *arg)
{
    struct helper *helper = arg;
    struct sample_pool *pool = helper->pool;
    pthread_mutex_lock(&pool->lock);
    while (!pool->stopping) {
        if (pool->next == pool->count) {
            pthread_cond_wait(&pool->work, &pool->lock);
            continue;
        }
        pool->busy++;
        take_jobs(pool, &helper->space);
        if (--pool->busy == 0)
            pthread_cond_signal(&pool->done);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static bool add_helper(struct sample_pool *pool, unsigned vocabulary)
{
    struct helper *helper = &pool->helpers[pool->helper_count];
    helper->pool = pool;
    sample_space_init(&helper->space, vocabulary);
    if (pthread_create(&helper->thread, NULL, help, helper) == 0) {
        pool->helper_count++;
        return true;
    }
    sample_space_release(&helper->space);
    return false;
}

struct sample_pool *sample_pool_new(unsigned helpers, unsigned vocabulary)
{
    struct sample_pool *pool = mem_calloc(1, sizeof *pool);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->done, NULL);
    for (unsigned i = 0; i < helpers && i < LIMIT_SAMPLE_HELPERS; i++)
        if (!add_helper(pool, vocabulary))
            break;
    if (pool->helper_count > 0)
        return pool;
    sample_pool_free(pool);
    return NULL;
}

void sample_pool_free(struct sample_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->helper_count; i++) {
        pthread_join(pool->helpers[i].thread, NULL);
        sample_space_release(&pool->helpers[i].space);
    }
    pthread_cond_destroy(&pool->work);
    pthread_cond_destroy(&pool->done);
    pthread_mutex_destroy(&pool->lock);
    mem_free(pool);
}

void sample_pool_run(struct sample_pool *pool, struct sample_space *space, sample_job *job, void *arg, unsigned count)
{
    pthread_mutex_lock(&pool->lock);
    pool->job = job;
    pool->arg = arg;
    pool->next = 0;
    pool->count = count;
    pthread_cond_broadcast(&pool->work);
    take_jobs(pool, space);
    while (pool->busy > 0)
        pthread_cond_wait(&pool->done, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}
