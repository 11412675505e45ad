/* Jobs: the loop's side of downloads, and the threads that do them.
 *
 * Design: a running job has one thread that asks the hub, plans, and then works on files beside up to four helpers; at
 * most LIMIT_FETCH_RUNNING jobs run, the others wait in order. The threads are the job's own: libuv's pool has few and
 * belongs to everybody, and a download takes an hour.
 *
 * Sharing: the loop owns struct job. Its threads share `struct run` with it: the stop, two counters, and the plan,
 * which is published once and never changes. The loop looks at those ten times a second while a job runs; the thread's
 * last act is a message, after which the loop joins it and owns all again.
 *
 * A job ends once. What its thread reports decides, except that a job that was asked to stop and did not succeed is
 * cancelled, whatever it stumbled over last. */
#include "registry/fetch.h"

#include <limits.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/mem.h"
#include "obs/log.h"
#include "registry/fetch_cache.h"
#include "registry/fetch_hub.h"

#define DEFAULT_ENDPOINT "https://huggingface.co"

struct run {
    const struct fetch *fetch;
    const char *repo, *tag;
    enum fetch_format format;
    struct fetch_stop stop;
    _Atomic uint64_t done;
    _Atomic(const struct fetch_plan *) plan; /* NULL until it is made */
    atomic_size_t next;                      /* file to take */
    atomic_size_t current;                   /* file begun last */

    /* of the job's threads */
    struct arena arena; /* the first thread's; the helpers only read */
    struct fetch_net net;
    struct fetch_hub hub;
    struct fetch_place place;
    const char *commit;
    uv_mutex_t lock;
    struct err problem; /* guarded by lock: the first */
    bool complete;      /* the first thread's */
};

struct job {
    struct fetch_job seen;
    struct list link;
    struct fetch *fetch;
    struct run run;
    uv_thread_t thread;
    bool running, stopping;
    struct loop_post ended;
    struct deadline forget;
    uint64_t told_done, told_total;
    const char *told_file;
    char *model_path, *problem;
};

struct fetch {
    struct loop *loop;
    struct arena arena; /* settings */
    const char *endpoint, *token, *cache;
    unsigned stall_seconds;
    void (*on_change)(void *arg, const struct fetch_job *job);
    void *arg;
    struct list jobs; /* newest first */
    size_t count, running;
    int64_t last_id;
    struct deadline progress;
    struct loop_soon gone;
    bool freed;
    void (*on_ended)(void *arg);
    void *on_ended_arg;
};

/* ---- the job's threads ---- */

static void fail(struct run *run, const struct err *err)
{
    uv_mutex_lock(&run->lock);
    if (run->problem.code == ERR_NONE)
        run->problem = *err;
    uv_mutex_unlock(&run->lock);
    fetch_stop_set(&run->stop); /* the other files of the job have no use any more */
}

static void on_bytes(void *arg, uint64_t before, uint64_t now)
{
    struct run *run = arg;
    atomic_fetch_add(&run->done, now - before); /* wraps around to a subtraction when now is less */
}

static bool fetch_entry(struct run *run, const struct fetch_entry *file, struct err *err)
{
    struct arena arena;
    arena_init(&arena);
    const char *target = arena_printf(&arena, "%s/%s", run->place.blobs, file->hash);
    struct fetch_transfer transfer = {
        .url = fetch_hub_url(&run->hub, run->commit, file->path, &arena),
        .name = file->path,
        .part = arena_printf(&arena, "%s.incomplete", target),
        .target = target,
        .lock = arena_printf(&arena, "%s/%s.lock", run->place.locks, file->hash),
        .bytes = file->bytes,
        .hash_kind = file->hash_kind,
        .hash = file->hash,
        .on_bytes = on_bytes,
        .arg = run,
    };
    bool good = fetch_file(&run->net, &transfer, err);
    if (!good)
        fetch_hub_explain(&run->hub, err);
    good = good && fetch_cache_link(&run->place, run->commit, file, err);
    arena_dispose(&arena);
    return good;
}

static void take_files(void *arg)
{
    struct run *run = arg;
    const struct fetch_plan *plan = atomic_load(&run->plan);
    for (size_t i; !fetch_stopped(&run->stop) && (i = atomic_fetch_add(&run->next, 1)) < plan->count;) {
        struct err err = ERR_INIT;
        atomic_store(&run->current, i);
        if (!fetch_entry(run, plan->files[i], &err))
            fail(run, &err);
    }
}

static void take_files_together(struct run *run)
{
    uv_thread_t helpers[LIMIT_FETCH_THREADS - 1];
    size_t files = atomic_load(&run->plan)->count, count = 0;
    while (count + 1 < files && count < LIMIT_FETCH_THREADS - 1 &&
           uv_thread_create(&helpers[count], take_files, run) == 0)
        count++;
    take_files(run);
    while (count)
        uv_thread_join(&helpers[--count]);
}

/* What is missing must fit; a part counts for what it has. */
static bool check_room(const struct run *run, const struct fetch_plan *plan, struct err *err)
{
    uint64_t missing = 0;
    char path[PATH_MAX];
    struct stat info;
    for (size_t i = 0; i < plan->count; i++) {
        const struct fetch_entry *file = plan->files[i];
        uint64_t there = 0;
        snprintf(path, sizeof path, "%s/%s", run->place.blobs, file->hash);
        if (stat(path, &info) == 0)
            there = (uint64_t)info.st_size;
        snprintf(path, sizeof path, "%s/%s.incomplete", run->place.blobs, file->hash);
        if (there == 0 && stat(path, &info) == 0)
            there = (uint64_t)info.st_size;
        missing += there < file->bytes ? file->bytes - there : 0;
    }
    return fetch_room(run->place.blobs, missing, err);
}

static bool make_plan(struct run *run, struct err *err)
{
    struct fetch_tree tree;
    struct fetch_plan *plan = arena_calloc(&run->arena, sizeof *plan);
    run->commit = fetch_hub_commit(&run->hub, &run->arena, err);
    if (!run->commit || !fetch_hub_tree(&run->hub, run->commit, &run->arena, &tree, err) ||
        !fetch_plan(&tree, run->format, str_from(run->tag), &run->arena, plan, err))
        return false;
    if (!fetch_cache_prepare(run->fetch->cache, run->repo, &run->arena, &run->place, err) ||
        !check_room(run, plan, err))
        return false;
    atomic_store(&run->plan, plan);
    return true;
}

static void on_thread_ended(struct loop_post *post);

static void run_job(void *arg)
{
    struct job *job = arg;
    struct run *run = &job->run;
    struct err err = ERR_INIT;
    if (make_plan(run, &err))
        take_files_together(run);
    else
        fail(run, &err);
    if (run->problem.code == ERR_NONE && !fetch_stopped(&run->stop)) {
        run->complete = fetch_cache_note(&run->place, run->commit, run->tag, atomic_load(&run->plan), &err);
        if (!run->complete)
            fail(run, &err);
    }
    loop_send(run->fetch->loop, &job->ended, on_thread_ended);
}

/* ---- jobs on the loop ---- */

static void tell(struct job *job)
{
    if (job->fetch->on_change && !job->fetch->freed)
        job->fetch->on_change(job->fetch->arg, &job->seen);
}

static bool is_over(const struct job *job)
{
    return job->seen.status >= FETCH_COMPLETED;
}

static void forget(struct job *job)
{
    deadline_cancel(job->fetch->loop, &job->forget);
    list_remove(&job->link);
    job->fetch->count--;
    uv_mutex_destroy(&job->run.lock);
    fetch_stop_release(&job->run.stop);
    arena_dispose(&job->run.arena);
    mem_free((char *)job->seen.repo);
    mem_free((char *)job->seen.tag);
    mem_free(job->model_path);
    mem_free(job->problem);
    mem_free(job);
}

static void on_forget(struct deadline *deadline)
{
    forget(container_of(deadline, struct job, forget));
}

static void look(struct job *job)
{
    const struct fetch_plan *plan = atomic_load(&job->run.plan);
    if (!plan)
        return;
    job->seen.bytes_total = plan->bytes;
    job->seen.bytes_done = atomic_load(&job->run.done);
    const struct fetch_entry *file = plan->files[atomic_load(&job->run.current)];
    job->seen.current_file = file->path;
    job->seen.current_sha256 = file->hash_kind == FETCH_SHA256 ? file->hash : "";
}

static void on_progress(struct deadline *deadline)
{
    struct fetch *fetch = container_of(deadline, struct fetch, progress);
    if (fetch->running)
        deadline_arm(fetch->loop, &fetch->progress, LIMIT_FETCH_PROGRESS_MS, on_progress);
    list_each (job, &fetch->jobs, struct job, link) {
        if (!job->running)
            continue;
        look(job);
        if (job->seen.bytes_done == job->told_done && job->seen.bytes_total == job->told_total &&
            job->seen.current_file == job->told_file)
            continue;
        job->told_done = job->seen.bytes_done;
        job->told_total = job->seen.bytes_total;
        job->told_file = job->seen.current_file;
        tell(job);
    }
}

static void end(struct job *job, enum fetch_status status)
{
    job->seen.status = status;
    job->seen.current_file = job->seen.current_sha256 = "";
    job->seen.completed_at = clock_unix();
    deadline_arm(job->fetch->loop, &job->forget, LIMIT_FETCH_KEPT_MS, on_forget);
    log_info("download ended", "job=%lld repo=%s status=%s bytes=%llu problem=%s", (long long)job->seen.id,
             job->seen.repo, fetch_status_name(status), (unsigned long long)job->seen.bytes_done, job->seen.problem);
    tell(job);
}

static void start_waiting(struct fetch *fetch);
static void free_when_done(struct fetch *fetch);

static enum fetch_status settle(struct job *job)
{
    struct run *run = &job->run;
    look(job);
    if (run->complete) {
        const char *first = atomic_load(&run->plan)->files[0]->path;
        job->model_path =
            mem_strdup(arena_printf(&run->arena, "%s/snapshots/%s/%s", run->place.repo, run->commit, first));
        job->seen.model_path = job->model_path;
        return FETCH_COMPLETED;
    }
    if (job->stopping)
        return FETCH_CANCELLED;
    job->problem = mem_strdup(run->problem.message);
    job->seen.problem = job->problem;
    return FETCH_FAILED;
}

static void on_thread_ended(struct loop_post *post)
{
    struct job *job = container_of(post, struct job, ended);
    struct fetch *fetch = job->fetch;
    uv_thread_join(&job->thread);
    job->running = false;
    fetch->running--;
    enum fetch_status status = settle(job);
    arena_dispose(&job->run.arena);
    end(job, status);
    start_waiting(fetch);
    free_when_done(fetch);
}

static void begin(struct job *job)
{
    struct fetch *fetch = job->fetch;
    if (uv_thread_create(&job->thread, run_job, job) != 0) {
        job->seen.problem = "no thread could be started";
        end(job, FETCH_FAILED);
        return;
    }
    job->running = true;
    fetch->running++;
    deadline_arm(fetch->loop, &fetch->progress, LIMIT_FETCH_PROGRESS_MS, on_progress);
    job->seen.status = FETCH_DOWNLOADING;
    tell(job);
}

/* Oldest first. */
static void start_waiting(struct fetch *fetch)
{
    for (struct list *at = fetch->jobs.prev; at != &fetch->jobs && fetch->running < LIMIT_FETCH_RUNNING;
         at = at->prev) {
        struct job *job = container_of(at, struct job, link);
        if (job->seen.status == FETCH_QUEUED && !fetch->freed)
            begin(job);
    }
}

/* ---- settings ---- */

static bool is_token(struct str token)
{
    for (size_t i = 0; i < token.n; i++)
        if (token.p[i] <= 0x20 || token.p[i] >= 0x7f)
            return false;
    return str_starts(token, STR("hf_")) && token.n > 3;
}

static const char *choose_token(const struct fetch_settings *settings, struct arena *arena)
{
    const char *token = settings->token ? settings->token : getenv("HF_TOKEN");
    if (!token || !*token)
        return NULL;
    if (is_token(str_trim(str_from(token))))
        return arena_str(arena, str_trim(str_from(token))).p;
    log_warn("the hub token is ignored", "reason=it does not begin with hf_ or has characters that no token has");
    return NULL;
}

static const char *choose_endpoint(const struct fetch_settings *settings, struct arena *arena)
{
    const char *endpoint = settings->endpoint ? settings->endpoint : getenv("HF_ENDPOINT");
    struct str text = str_trim(str_from(endpoint && *endpoint ? endpoint : DEFAULT_ENDPOINT));
    while (str_ends(text, STR("/")))
        text.n--;
    return arena_str(arena, text).p;
}

struct fetch *fetch_new(struct loop *loop, const struct fetch_settings *settings)
{
    struct fetch *fetch = mem_calloc(1, sizeof *fetch);
    fetch_net_setup();
    fetch->loop = loop;
    arena_init(&fetch->arena);
    fetch->endpoint = choose_endpoint(settings, &fetch->arena);
    fetch->token = choose_token(settings, &fetch->arena);
    fetch->cache = fetch_cache_folder(settings->cache, &fetch->arena);
    fetch->stall_seconds = settings->stall_seconds;
    fetch->on_change = settings->on_change;
    fetch->arg = settings->arg;
    list_init(&fetch->jobs);
    if (fetch->token && str_starts(str_from(fetch->endpoint), STR("http:")))
        log_warn("the hub token goes out unencrypted", "reason=the endpoint is http");
    return fetch;
}

static void on_gone(struct loop_soon *soon)
{
    struct fetch *fetch = container_of(soon, struct fetch, gone);
    void (*on_ended)(void *arg) = fetch->on_ended;
    void *arg = fetch->on_ended_arg;
    list_each (job, &fetch->jobs, struct job, link)
        forget(job);
    deadline_cancel(fetch->loop, &fetch->progress);
    arena_dispose(&fetch->arena);
    mem_free(fetch);
    if (on_ended)
        on_ended(arg);
}

static void free_when_done(struct fetch *fetch)
{
    if (fetch->freed && !fetch->running)
        loop_soon(fetch->loop, &fetch->gone, on_gone);
}

void fetch_free(struct fetch *fetch, void (*on_ended)(void *arg), void *arg)
{
    fetch->freed = true;
    fetch->on_ended = on_ended;
    fetch->on_ended_arg = arg;
    list_each (job, &fetch->jobs, struct job, link) {
        job->stopping = true;
        fetch_stop_set(&job->run.stop);
    }
    free_when_done(fetch);
}

/* ---- the interface ---- */

const char *fetch_status_name(enum fetch_status status)
{
    static const char *const names[] = {"queued", "downloading", "completed", "failed", "cancelled"};
    return names[status];
}

const char *fetch_cache(const struct fetch *fetch)
{
    return fetch->cache;
}

static struct job *find(const struct fetch *fetch, int64_t id)
{
    list_each (job, (struct list *)&fetch->jobs, struct job, link)
        if (job->seen.id == id)
            return job;
    return NULL;
}

static bool check_names(struct str repo, struct str tag, enum fetch_format format, struct err *err)
{
    if (!fetch_repo_allowed(repo))
        return err_set_param(err, ERR_INVALID_PARAMETERS, "repo",
                             "repo must be \"organisation/model\" or \"organisation/model:tag\", as on the hub");
    if (tag.n && format == FETCH_SAFETENSORS)
        return err_set_param(err, ERR_INVALID_PARAMETERS, "tag",
                             "a tag chooses among GGUF files; safetensors are taken whole: leave it out");
    if (tag.n && !fetch_tag_allowed(tag))
        return err_set_param(err, ERR_INVALID_PARAMETERS, "tag", "tag must be a quantization such as Q4_K_M");
    return true;
}

static struct job *find_same(struct fetch *fetch, struct str repo, struct str tag, enum fetch_format format)
{
    list_each (job, &fetch->jobs, struct job, link)
        if (!is_over(job) && !job->stopping && job->seen.format == format && str_ieq(str_from(job->seen.repo), repo) &&
            str_ieq(str_from(job->seen.tag), tag))
            return job;
    return NULL;
}

/* The oldest ended job gives way. */
static bool make_space(struct fetch *fetch, struct err *err)
{
    if (fetch->count < LIMIT_FETCH_JOBS)
        return true;
    for (struct list *at = fetch->jobs.prev; at != &fetch->jobs; at = at->prev) {
        struct job *job = container_of(at, struct job, link);
        if (is_over(job)) {
            forget(job);
            return true;
        }
    }
    return err_set(err, ERR_SERVER_OVERLOADED, "%d downloads are waiting or running: wait for one, or cancel one",
                   LIMIT_FETCH_JOBS);
}

static struct job *add_job(struct fetch *fetch, struct str repo, struct str tag, enum fetch_format format)
{
    struct job *job = mem_calloc(1, sizeof *job);
    struct run *run = &job->run;
    job->fetch = fetch;
    job->seen = (struct fetch_job){.id = ++fetch->last_id,
                                   .repo = mem_strndup(repo.p, repo.n),
                                   .tag = mem_strndup(tag.n ? tag.p : "", tag.n),
                                   .format = format,
                                   .current_file = "",
                                   .current_sha256 = "",
                                   .problem = "",
                                   .model_path = "",
                                   .created_at = clock_unix()};
    job->told_file = job->seen.current_file;
    run->fetch = fetch;
    run->repo = job->seen.repo;
    run->tag = job->seen.tag;
    run->format = format;
    fetch_stop_init(&run->stop);
    uv_mutex_init(&run->lock);
    arena_init(&run->arena);
    run->net = (struct fetch_net){.token = fetch->token, .stall_seconds = fetch->stall_seconds, .stop = &run->stop};
    run->hub = (struct fetch_hub){.net = &run->net, .endpoint = fetch->endpoint, .repo = run->repo};
    list_push_front(&fetch->jobs, &job->link);
    fetch->count++;
    return job;
}

const struct fetch_job *fetch_start(struct fetch *fetch, struct str repo, struct str tag, enum fetch_format format,
                                    struct err *err)
{
    struct str behind = repo, name = str_cut(&behind, ':');
    if (behind.p && tag.n && !str_ieq(behind, tag)) {
        err_set_param(err, ERR_INVALID_PARAMETERS, "tag", "repo names the tag " STR_FMT " and tag names " STR_FMT,
                      STR_ARG(behind), STR_ARG(tag));
        return NULL;
    }
    tag = behind.p ? behind : tag;
    if (!check_names(name, tag, format, err))
        return NULL;
    struct job *job = find_same(fetch, name, tag, format);
    if (job)
        return &job->seen;
    if (!make_space(fetch, err))
        return NULL;
    job = add_job(fetch, name, tag, format);
    tell(job);
    start_waiting(fetch);
    return &job->seen;
}

const struct fetch_job *fetch_get(const struct fetch *fetch, int64_t id)
{
    struct job *job = find(fetch, id);
    return job ? &job->seen : NULL;
}

const struct fetch_job *const *fetch_list(const struct fetch *fetch, struct arena *arena)
{
    const struct fetch_job **list = arena_alloc(arena, (fetch->count + 1) * sizeof *list);
    size_t n = 0;
    list_each (job, (struct list *)&fetch->jobs, struct job, link)
        list[n++] = &job->seen;
    list[n] = NULL;
    return list;
}

bool fetch_cancel(struct fetch *fetch, int64_t id)
{
    struct job *job = find(fetch, id);
    if (!job)
        return false;
    if (is_over(job)) {
        forget(job);
        return true;
    }
    job->stopping = true;
    fetch_stop_set(&job->run.stop);
    if (!job->running)
        end(job, FETCH_CANCELLED);
    return true;
}
