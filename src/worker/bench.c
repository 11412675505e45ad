#include "worker/bench.h"

#include "base/clock.h"
#include "base/mem.h"

#define CONTROL_TOKENS                                                                                                 \
    256 /* at the beginning and the end of a vocabulary lie tokens that mean something to a model                      \
         */
#define PROGRESS_MS 200

struct stream {
    struct bench *bench;
    struct gen *gen; /* NULL: ended */
    uint64_t first_ns, last_ns;
    unsigned tokens;
};

struct bench {
    struct loop *loop;
    const struct bench_setup *setup;
    struct stream *streams;
    double *gaps; /* ms, one a token behind a stream's first */
    size_t gap_count, gap_capacity;
    unsigned open, done;
    uint64_t start_ns, told_ms;
    struct err err;
};

static void note_gaps(struct bench *bench, double ms, unsigned tokens)
{
    for (unsigned i = 0; i < tokens && bench->gap_count < bench->gap_capacity; i++)
        bench->gaps[bench->gap_count++] = ms / tokens;
}

static void tell_progress(struct bench *bench)
{
    const struct bench_setup *setup = bench->setup;
    uint64_t now = clock_ms();
    if (!setup->on_progress || now - bench->told_ms < PROGRESS_MS)
        return;
    bench->told_ms = now;
    setup->on_progress(setup->arg, bench->done, setup->streams * setup->tokens);
}

/* A character may take several tokens: they come as one event, and share the time. */
static void on_tokens(struct stream *stream, unsigned count)
{
    uint64_t now = clock_ns();
    if (count == 0)
        return;
    if (stream->tokens == 0)
        stream->first_ns = now;
    else
        note_gaps(stream->bench, (double)(now - stream->last_ns) / 1e6, count);
    stream->last_ns = now;
    stream->tokens += count;
    stream->bench->done += count;
    tell_progress(stream->bench);
}

static void on_end(struct stream *stream)
{
    stream->gen = NULL;
    if (--stream->bench->open == 0)
        loop_stop(stream->bench->loop);
}

static void on_event(void *arg, const struct gen_event *event)
{
    struct stream *stream = arg;
    switch (event->kind) {
    case GEN_EVENT_TEXT: on_tokens(stream, event->token_count); break;
    case GEN_EVENT_DONE: on_end(stream); break;
    case GEN_EVENT_FAILED:
        stream->bench->err = *event->err;
        on_end(stream);
        break;
    default: break;
    }
}

static bool submit(struct bench *bench, struct sched *sched, unsigned vocabulary, struct stream *stream, unsigned salt)
{
    const struct bench_setup *setup = bench->setup;
    engine_token *prompt = mem_calloc(setup->prompt, sizeof *prompt);
    unsigned plain = vocabulary > 4 * CONTROL_TOKENS ? vocabulary - 2 * CONTROL_TOKENS : 1;
    for (unsigned i = 0; i < setup->prompt; i++)
        prompt[i] = (engine_token)((salt * 7919u + i * 104729u) % plain + (plain > 1 ? CONTROL_TOKENS : 0));
    struct gen_request request = {.kind = GEN_GENERATE, .tokens = prompt, .token_count = setup->prompt, .choices = 1};
    gen_params_default(&request.params);
    request.params.temperature = 0;
    request.params.ignore_end = true;
    request.params.max_tokens = setup->tokens;
    stream->bench = bench;
    stream->gen = sched_submit(sched, &request, on_event, stream, &bench->err);
    mem_free(prompt);
    bench->open += stream->gen != NULL;
    return stream->gen != NULL;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *sorted, size_t count, double part)
{
    return count ? sorted[(size_t)(part * (double)(count - 1) + 0.5)] : 0;
}

static double seconds(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? (double)(to_ns - from_ns) / 1e9 : 1e-9;
}

static void sum_up(struct bench *bench, struct bench_result *r)
{
    const struct bench_setup *setup = bench->setup;
    uint64_t first = UINT64_MAX, first_of_last = 0, last = 0;
    unsigned behind_first = 0;
    *r = (struct bench_result){0};
    for (unsigned i = 0; i < setup->streams; i++) {
        const struct stream *s = &bench->streams[i];
        double waited_ms = seconds(bench->start_ns, s->first_ns) * 1000;
        if (s->tokens == 0)
            continue;
        first = s->first_ns < first ? s->first_ns : first;
        first_of_last = s->first_ns > first_of_last ? s->first_ns : first_of_last;
        last = s->last_ns > last ? s->last_ns : last;
        behind_first += s->tokens - 1;
        r->stream_tps += (s->tokens - 1) / seconds(s->first_ns, s->last_ns) / setup->streams;
        r->first_ms += waited_ms / setup->streams;
        r->first_worst_ms = waited_ms > r->first_worst_ms ? waited_ms : r->first_worst_ms;
    }
    qsort(bench->gaps, bench->gap_count, sizeof *bench->gaps, by_size);
    r->prompt_tps = (double)setup->prompt * setup->streams / seconds(bench->start_ns, first_of_last);
    r->decode_tps = behind_first / seconds(first, last);
    r->gap_p50_ms = quantile(bench->gaps, bench->gap_count, 0.5);
    r->gap_p99_ms = quantile(bench->gaps, bench->gap_count, 0.99);
    r->seconds = seconds(bench->start_ns, last);
}

bool bench_run(struct sched *sched, struct loop *loop, unsigned vocabulary, const struct bench_setup *setup,
               struct bench_result *ret_result, struct err *err)
{
    struct bench bench = {.loop = loop, .setup = setup, .err = ERR_INIT};
    bench.streams = mem_calloc(setup->streams, sizeof *bench.streams);
    bench.gap_capacity = (size_t)setup->streams * setup->tokens;
    bench.gaps = mem_calloc(bench.gap_capacity, sizeof *bench.gaps);
    bench.start_ns = clock_ns();
    unsigned i = 0;
    while (i < setup->streams &&
           submit(&bench, sched, vocabulary, &bench.streams[i], setup->salt * LIMIT_SEQUENCES + i))
        i++;
    if (i < setup->streams)
        for (unsigned k = 0; k < i; k++)
            gen_cancel(bench.streams[k].gen);
    else
        loop_run(loop);
    bool good = bench.err.code == ERR_NONE;
    if (good)
        sum_up(&bench, ret_result);
    else
        *err = bench.err;
    mem_free(bench.gaps);
    mem_free(bench.streams);
    return good;
}
