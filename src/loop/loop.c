/* The loop itself: starting, ending, and the two ways of calling a function later (soon, or from another thread).
 *
 * Posts: a mutex guards one list; only the post that makes it non-empty wakes the loop, which takes the whole list at
 * once. So a burst costs one wake-up, and the lock is never held while callbacks run.
 * Soon: libuv's prepare phase runs right before every wait; its handle is active only while something is asked for. */
#include "loop/loop.h"

#include <assert.h>
#include <signal.h>

#include "base/mem.h"
#include "loop/deadline.h"

static void on_prepare(uv_prepare_t *handle)
{
    struct loop *loop = container_of(handle, struct loop, before_wait);
    while (!list_empty(&loop->soon)) {
        struct loop_soon *soon = list_first(&loop->soon, struct loop_soon, link);
        list_remove(&soon->link);
        soon->on_soon(soon);
    }
    uv_prepare_stop(handle);
}

void loop_soon(struct loop *loop, struct loop_soon *soon, void (*on_soon)(struct loop_soon *soon))
{
    soon->on_soon = on_soon;
    if (soon->link.next && !list_empty(&soon->link))
        return;
    if (list_empty(&loop->soon))
        uv_prepare_start(&loop->before_wait, on_prepare);
    list_push(&loop->soon, &soon->link);
}

void loop_soon_cancel(struct loop_soon *soon)
{
    if (soon->link.next)
        list_remove(&soon->link);
}

static void on_wake(uv_async_t *handle)
{
    struct loop *loop = container_of(handle, struct loop, post_wake);
    struct list taken;
    list_init(&taken);
    uv_mutex_lock(&loop->post_lock);
    if (!list_empty(&loop->posts)) {
        taken = loop->posts;
        taken.next->prev = taken.prev->next = &taken;
        list_init(&loop->posts);
    }
    uv_mutex_unlock(&loop->post_lock);
    while (!list_empty(&taken)) {
        struct loop_post *post = list_first(&taken, struct loop_post, link);
        list_remove(&post->link);
        post->on_post(post);
    }
}

void loop_send(struct loop *loop, struct loop_post *post, void (*on_post)(struct loop_post *post))
{
    post->on_post = on_post;
    uv_mutex_lock(&loop->post_lock);
    bool first = list_empty(&loop->posts);
    list_push(&loop->posts, &post->link);
    uv_mutex_unlock(&loop->post_lock);
    if (first)
        uv_async_send(&loop->post_wake);
}

void loop_init(struct loop *loop)
{
    *loop = (struct loop){0};
    signal(SIGPIPE, SIG_IGN); /* a write to a closed socket is an error code, not the end of the process */
    list_init(&loop->posts);
    list_init(&loop->soon);
    loop->read_buffer = mem_alloc(LOOP_READ_BYTES);
    int rc = uv_loop_init(&loop->uv);
    if (rc == 0)
        rc = uv_mutex_init(&loop->post_lock);
    if (rc == 0)
        rc = uv_async_init(&loop->uv, &loop->post_wake, on_wake);
    if (rc != 0) {
        fprintf(stderr, "inferd: no event loop: %s\n", uv_strerror(rc));
        exit(MEM_EXIT);
    }
    uv_prepare_init(&loop->uv, &loop->before_wait);
    deadline_setup(loop);
}

void loop_run(struct loop *loop)
{
    uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void loop_stop(struct loop *loop)
{
    uv_stop(&loop->uv);
}

void loop_release(struct loop *loop)
{
    loop->closing = true;
    on_prepare(&loop->before_wait);
    uv_close((uv_handle_t *)&loop->deadline_timer, NULL);
    uv_close((uv_handle_t *)&loop->before_wait, NULL);
    uv_close((uv_handle_t *)&loop->post_wake, NULL);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    int rc = uv_loop_close(&loop->uv);
    assert(rc == 0 && "a user of the loop left a handle open");
    (void)rc;
    uv_mutex_destroy(&loop->post_lock);
    mem_free(loop->read_buffer);
}

uint64_t loop_now_ms(struct loop *loop)
{
    return uv_now(&loop->uv);
}

static void run_job(uv_work_t *uv)
{
    struct loop_job *job = container_of(uv, struct loop_job, uv);
    job->work(job);
}

static void finish_job(uv_work_t *uv, int status)
{
    struct loop_job *job = container_of(uv, struct loop_job, uv);
    assert(status == 0 && "nobody cancels jobs");
    (void)status;
    job->done(job);
}

void loop_work(struct loop *loop, struct loop_job *job, void (*work)(struct loop_job *),
               void (*done)(struct loop_job *))
{
    job->work = work;
    job->done = done;
    uv_queue_work(&loop->uv, &job->uv, run_job, finish_job);
}
