/* Ten thousand joins, cancels, pauses and full caches on the real engine with a tiny model: whatever happens to the
 * others, each stream's text is that of its solo run, and in the end every sequence and cell is accounted for. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "drive.h"

#define PROMPTS 24
#define OPEN    20
#define EVENTS  10000

static struct {
    engine_token tokens[400];
    unsigned count, max_tokens;
    char *text; /* of its solo run */
} prompts[PROMPTS];

static struct drive drive;
static uint64_t state = 7;

static unsigned pick(unsigned limit)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state >> 33) % limit;
}

static void open_tiny(unsigned context, unsigned sequences, uint64_t kv_memory, enum sched_lookup lookup)
{
    struct err err = ERR_INIT;
    const char *path = getenv("INFERD_TINY");
    assert_non_null(path);
    struct engine_config engine = {.path = path,
                                   .context_size = context,
                                   .sequences = sequences,
                                   .gpu_layers = -1,
                                   .kv_type = "f32",
                                   .flash = ENGINE_FLASH_OFF, /* its rounding depends on the batch's shape */
                                   .batch = 128,
                                   .ubatch = 128,
                                   .threads = 1,
                                   .memory_map = true};
    struct sched_config config = {
        .ops = &engine_llama, .queue_size = 16 * OPEN, .kv_memory = kv_memory, .lookup = lookup};
    if (!drive_open_with(&drive, &engine, config, &err))
        fail_msg("%s", err.message);
}

/* A third of them share a long beginning, a third a short one; some fill most of the cache. */
static void make_prompts(void)
{
    for (unsigned i = 0; i < PROMPTS; i++) {
        unsigned shared = i % 3 == 0 ? 90 : i % 3 == 1 ? 20 : 0, own = 5 + pick(i % 8 == 0 ? 200 : 40);
        for (unsigned j = 0; j < shared; j++)
            prompts[i].tokens[j] = (engine_token)(j * 37 % 251);
        for (unsigned j = 0; j < own; j++)
            prompts[i].tokens[shared + j] = (engine_token)pick(256);
        prompts[i].count = shared + own;
        prompts[i].max_tokens = 1 + pick(24);
    }
}

static void submit(struct drive_reply *reply, unsigned prompt)
{
    struct gen_request request = {.kind = GEN_GENERATE,
                                  .tokens = prompts[prompt].tokens,
                                  .token_count = prompts[prompt].count,
                                  .choices = 1,
                                  .params = drive_greedy(prompts[prompt].max_tokens),
                                  .client = pick(3),
                                  .priority = pick(5) == 0};
    request.params.ignore_end = true;
    drive_reply_init(&drive, reply);
    assert_true(drive_submit(&drive, reply, &request));
}

static void run_alone(void)
{
    open_tiny(512, 1, 0, SCHED_LOOKUP_OFF);
    for (unsigned i = 0; i < PROMPTS; i++) {
        struct drive_reply reply;
        submit(&reply, i);
        loop_run(&drive.loop);
        assert_true(reply.done);
        prompts[i].text = strdup(drive_text(&reply, 0));
        drive_reply_release(&reply);
    }
    drive_close(&drive);
}

struct client {
    bool open, paused;
    unsigned prompt;
    struct drive_reply reply;
};

static unsigned differing, ended;

static void finish(struct client *client)
{
    assert_true(client->reply.done);
    differing += strcmp(drive_text(&client->reply, 0), prompts[client->prompt].text) != 0;
    ended++;
    drive_reply_release(&client->reply);
    client->open = false;
}

static bool any_at_work(const struct client *clients)
{
    for (unsigned i = 0; i < OPEN; i++)
        if (clients[i].open && !clients[i].reply.done && !clients[i].paused)
            return true;
    return false;
}

static void one_event(struct client *clients)
{
    struct client *client = &clients[pick(OPEN)];
    unsigned what = pick(20);
    if (!client->open) {
        *client = (struct client){.open = true, .prompt = pick(PROMPTS)};
        submit(&client->reply, client->prompt);
    } else if (client->reply.done) {
        finish(client);
    } else if (what == 0) {
        gen_cancel(client->reply.gen);
        drive.open--;
        drive_reply_release(&client->reply);
        client->open = false;
    } else if (what < 4) {
        client->paused ? gen_resume(client->reply.gen) : gen_pause(client->reply.gen);
        client->paused = !client->paused;
    } else {
        uv_run(&drive.loop.uv, what < 8 || !any_at_work(clients) ? UV_RUN_NOWAIT : UV_RUN_ONCE);
    }
}

static void resume_all(struct client *clients)
{
    for (unsigned i = 0; i < OPEN; i++)
        if (clients[i].open && !clients[i].reply.done && clients[i].paused) {
            gen_resume(clients[i].reply.gen);
            clients[i].paused = false;
        }
}

static bool any_unfinished(const struct client *clients)
{
    for (unsigned i = 0; i < OPEN; i++)
        if (clients[i].open && !clients[i].reply.done)
            return true;
    return false;
}

static void survives_ten_thousand_events(void **unused)
{
    (void)unused;
    static struct client clients[OPEN];
    struct sched_stats stats;
    make_prompts();
    run_alone();
    open_tiny(512, 6, 600 << 10, SCHED_LOOKUP_EAGER);
    for (unsigned i = 0; i < EVENTS; i++) {
        if (i % 50 == 49) /* else all stand still with everyone paused */
            resume_all(clients);
        one_event(clients);
    }
    resume_all(clients);
    while (any_unfinished(clients))
        uv_run(&drive.loop.uv, UV_RUN_ONCE);
    for (unsigned i = 0; i < OPEN; i++)
        if (clients[i].open)
            finish(&clients[i]);
    do
        sched_stats(drive.sched, &stats);
    while (stats.running > 0 || stats.queued > 0);
    printf("%u streams ended, %llu cancelled, %llu pre-empted, %llu states kept, %llu restored\n", ended,
           (unsigned long long)stats.cancelled, (unsigned long long)stats.preempted, (unsigned long long)stats.kv.kept,
           (unsigned long long)stats.kv.restored);
    assert_int_equal(differing, 0);
    assert_true(ended > 500);
    assert_true(stats.preempted > 0 && stats.kv.restored > 0 && stats.cancelled > 100); /* the test tests something */
    assert_int_equal(stats.cells_used, stats.cells_idle);
    drive_close(&drive);
    for (unsigned i = 0; i < PROMPTS; i++)
        free(prompts[i].text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(survives_ten_thousand_events)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
