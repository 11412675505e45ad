/* The scheduler driven in-process: what of the bare engine's speed arrives as text.
 *
 *   bench_decode MODEL.gguf [tokens, default 64]
 *
 * Prints tokens a second of one stream behind a prompt of 1 and of 512 tokens (compare `llama-bench -n 64 -d 0` and
 * `-d 512`), and of 1, 4, 8 and 16 streams at once behind short prompts (compare `llama-batched-bench -npp 64`).
 * Decode time only: from each request's first token to its last. */
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "worker/sched.h"

#define STREAMS 16
#define PROMPT  512

struct bench {
    struct loop loop;
    struct sched *sched;
    unsigned vocabulary, open, tokens;
    uint64_t first_ns, last_ns;
    unsigned generated;
};

static void on_event(void *arg, const struct gen_event *event)
{
    struct bench *bench = arg;
    if (event->kind == GEN_EVENT_FAILED) {
        fprintf(stderr, "bench_decode: %s\n", event->err->message);
        exit(1);
    }
    if (event->kind == GEN_EVENT_DONE) {
        bench->generated += event->timings->generated_tokens;
        bench->last_ns = clock_ns();
        if (--bench->open == 0)
            loop_stop(&bench->loop);
    }
}

static struct gen_request make_request(struct bench *bench, engine_token *prompt, unsigned length, unsigned salt)
{
    for (unsigned i = 0; i < length; i++)
        prompt[i] = (engine_token)((salt * 7919u + i * 104729u) % (bench->vocabulary - 512) + 256);
    struct gen_request request = {.kind = GEN_GENERATE, .tokens = prompt, .token_count = length, .choices = 1};
    gen_params_default(&request.params);
    request.params.temperature = 0;
    request.params.ignore_end = true;
    request.params.max_tokens = bench->tokens;
    return request;
}

/* Tokens a second while all streams decode: the scheduler's own clock of decode work. */
static double run(struct bench *bench, unsigned streams, unsigned length, unsigned salt)
{
    engine_token prompt[PROMPT];
    struct err err = ERR_INIT;
    struct sched_stats before, after;
    sched_stats(bench->sched, &before);
    bench->generated = 0;
    for (unsigned i = 0; i < streams; i++) {
        struct gen_request request = make_request(bench, prompt, length, salt * STREAMS + i);
        if (!sched_submit(bench->sched, &request, on_event, bench, &err)) {
            fprintf(stderr, "bench_decode: %s\n", err.message);
            exit(1);
        }
        bench->open++;
    }
    loop_run(&bench->loop);
    sched_stats(bench->sched, &after);
    unsigned firsts = streams; /* a stream's first token comes out of its prefill */
    return (bench->generated - firsts) / (after.decode_seconds - before.decode_seconds);
}

int main(int argc, char **argv)
{
    static const unsigned streams[] = {1, 4, 8, 16};
    struct bench bench = {.tokens = 64};
    struct err err = ERR_INIT;
    uint64_t tokens = 64;
    if (argc < 2 || (argc > 2 && !str_u64(str_from(argv[2]), 1024, &tokens))) {
        fprintf(stderr, "usage: bench_decode MODEL.gguf [tokens]\n");
        return 2;
    }
    bench.tokens = (unsigned)tokens;
    struct engine_config config = {.path = argv[1], .context_size = 8192, .gpu_layers = -1, .memory_map = true};
    struct engine *engine = engine_llama.open(&config, &err);
    if (!engine) {
        fprintf(stderr, "bench_decode: %s\n", err.message);
        return 1;
    }
    bench.vocabulary = engine_llama.info(engine)->vocabulary;
    loop_init(&bench.loop);
    bench.sched = sched_new(
        &(struct sched_config){.ops = &engine_llama, .engine = engine, .loop = &bench.loop, .queue_size = 64});
    run(&bench, 1, 1, 0); /* page in the weights */
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (unsigned round = 1; round <= 3; round++) {
        printf("one stream, depth 0: %.1f t/s; depth 512: %.1f t/s\n", run(&bench, 1, 1, 10 * round),
               run(&bench, 1, PROMPT, 10 * round + 1));
        for (size_t i = 0; i < sizeof streams / sizeof *streams; i++)
            printf("%u streams, depth 64: %.1f t/s\n", streams[i],
                   run(&bench, streams[i], 64, 100 * round + (unsigned)i));
    }
    sched_free(bench.sched);
    loop_release(&bench.loop);
    return 0;
}
