#include "api/system/check.h"

#include <sys/statvfs.h>

#include "base/clock.h"
#include "base/mem.h"

struct check {
    struct app *app;
    struct deadline due;
    struct store_call *call; /* the question on its way */
    uint64_t asked_ms;
    struct err store_problem; /* of the last answer */
    struct loop_job job;
    bool looking;
    struct folder {
        bool known, usable;
        uint64_t free;
    } found, folder; /* found: the pool thread's while looking */
};

static void look(struct loop_job *job)
{
    struct check *c = container_of(job, struct check, job);
    const char *path = c->app->conf->state_dir;
    struct statvfs fs;
    c->found = (struct folder){.known = true};
    if (access(path, W_OK | X_OK) == 0 && statvfs(path, &fs) == 0) {
        c->found.usable = true;
        c->found.free = (uint64_t)fs.f_bavail * fs.f_frsize;
    }
}

static void on_looked(struct loop_job *job)
{
    struct check *c = container_of(job, struct check, job);
    c->looking = false;
    c->folder = c->found;
}

static void on_answer(void *arg, const struct store_result *results, const struct err *err)
{
    struct check *c = arg;
    (void)results;
    c->call = NULL;
    c->store_problem = err ? *err : ERR_INIT;
}

static void on_due(struct deadline *deadline)
{
    static const struct store_statement question = {.sql = "SELECT value FROM counters"};
    struct check *c = container_of(deadline, struct check, due);
    if (!c->call) {
        c->asked_ms = clock_ms();
        c->call = store_transact(c->app->store, &question, 1, on_answer, c);
    }
    if (!c->looking) {
        c->looking = true;
        loop_work(c->app->loop, &c->job, look, on_looked);
    }
    deadline_arm(c->app->loop, &c->due, LIMIT_HEALTH_CHECK_MS, on_due);
}

struct check *check_new(struct app *app)
{
    struct check *c = mem_calloc(1, sizeof *c);
    c->app = app;
    c->store_problem = ERR_INIT;
    on_due(&c->due);
    return c;
}

void check_stop(struct check *c)
{
    if (!c)
        return;
    deadline_cancel(c->app->loop, &c->due);
    if (c->call)
        store_call_forget(c->call);
}

void check_free(struct check *c)
{
    mem_free(c);
}

struct check_result check_now(const struct check *c)
{
    bool silent = c->call && clock_ms() - c->asked_ms > LIMIT_HEALTH_STORE_MS;
    bool failed = c->store_problem.code == ERR_IO;
    return (struct check_result){.store_lost = silent || failed,
                                 .folder_lost = c->folder.known && !c->folder.usable,
                                 .store_problem = silent   ? "the database does not answer"
                                                  : failed ? c->store_problem.message
                                                           : "",
                                 .disk_free = c->folder.known && c->folder.usable ? c->folder.free : UINT64_MAX};
}
