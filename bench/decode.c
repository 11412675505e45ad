/* The scheduler driven in-process: what of the bare engine's speed arrives as text.
 *
 *   bench_decode MODEL.gguf [tokens, default 128] [rounds, default 3] [auto|on|off: flash attention]
 *
 * Prints tokens a second of one stream behind a prompt of 1 and of 512 tokens (compare `llama-bench -n 128 -d 0` and
 * `-d 512`), and of 1, 4, 8 and 16 streams at once behind prompts of 64 tokens of their own (compare
 * `llama-batched-bench -npp 64`) and behind one of 512 that all share (`-npp 512 -pps`). Time and tokens are counted
 * while all streams generate: from the last one's first token to the first one's last, picking, text and events
 * included. Nothing is guessed: the bare engine does not either. */
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "worker/sched.h"

#define STREAMS 16
#define PROMPT  512

struct stream {
    struct bench *bench;
    unsigned tokens;
};

struct bench {
    struct loop loop;
    struct sched *sched;
    unsigned vocabulary, tokens; /* a stream's */
    struct stream streams[STREAMS];
    unsigned count, open, started;
    unsigned generated;          /* of all, so far */
    unsigned counted;            /* of them before the count began */
    uint64_t began_ns, ended_ns; /* when all generate; 0: not yet */
};

static void on_tokens(struct stream *stream, unsigned count)
{
    struct bench *bench = stream->bench;
    bool first = stream->tokens == 0 && count > 0;
    stream->tokens += count;
    bench->generated += count;
    if (first && ++bench->started == bench->count) {
        bench->counted = bench->generated;
        bench->began_ns = clock_ns();
    }
}

static void on_end(struct stream *stream)
{
    struct bench *bench = stream->bench;
    if (bench->open == bench->count) {
        bench->ended_ns = clock_ns();
        bench->counted = bench->generated - bench->counted;
    }
    if (--bench->open == 0)
        loop_stop(&bench->loop);
}

static void on_event(void *arg, const struct gen_event *event)
{
    struct stream *stream = arg;
    switch (event->kind) {
    case GEN_EVENT_TEXT: on_tokens(stream, event->token_count); break;
    case GEN_EVENT_DONE: on_end(stream); break;
    case GEN_EVENT_FAILED: fprintf(stderr, "bench_decode: %s\n", event->err->message); exit(1);
    default: break;
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

/* Tokens a second while all streams generate. */
static double run(struct bench *bench, unsigned streams, unsigned length, unsigned salt, bool shared)
{
    engine_token prompt[PROMPT];
    struct err err = ERR_INIT;
    bench->count = bench->open = streams;
    bench->started = bench->generated = bench->counted = 0;
    bench->began_ns = 0;
    for (unsigned i = 0; i < streams; i++) {
        struct gen_request request = make_request(bench, prompt, length, salt * STREAMS + (shared ? 0 : i));
        bench->streams[i] = (struct stream){.bench = bench};
        if (!sched_submit(bench->sched, &request, on_event, &bench->streams[i], &err)) {
            fprintf(stderr, "bench_decode: %s\n", err.message);
            exit(1);
        }
    }
    loop_run(&bench->loop);
    if (bench->began_ns == 0 || bench->counted == 0) {
        fprintf(stderr, "bench_decode: the first stream ended before the last began: ask for more tokens\n");
        exit(1);
    }
    return bench->counted / ((double)(bench->ended_ns - bench->began_ns) / 1e9);
}

int main(int argc, char **argv)
{
    static const unsigned streams[] = {1, 4, 8, 16};
    static const char *const flash[] = {"auto", "on", "off"};
    struct bench bench = {0};
    struct err err = ERR_INIT;
    uint64_t tokens = 128, rounds = 3;
    struct engine_config config = {.gpu_layers = -1, .context_size = 16384, .memory_map = true};
    if (argc < 2 || (argc > 2 && !str_u64(str_from(argv[2]), 1024, &tokens)) ||
        (argc > 3 && !str_u64(str_from(argv[3]), 1000, &rounds))) {
        fprintf(stderr, "usage: bench_decode MODEL.gguf [tokens] [rounds] [auto|on|off]\n");
        return 2;
    }
    for (unsigned i = 0; argc > 4 && i < 3; i++)
        if (strcmp(argv[4], flash[i]) == 0)
            config.flash = (enum engine_flash)i;
    bench.tokens = (unsigned)tokens;
    config.path = argv[1];
    struct engine *engine = engine_llama.open(&config, &err);
    if (!engine) {
        fprintf(stderr, "bench_decode: %s\n", err.message);
        return 1;
    }
    bench.vocabulary = engine_llama.info(engine)->vocabulary;
    loop_init(&bench.loop);
    bench.sched = sched_new(&(struct sched_config){.ops = &engine_llama,
                                                   .engine = engine,
                                                   .loop = &bench.loop,
                                                   .queue_size = 64,
                                                   .kv_memory = 512 << 20,
                                                   .lookup = SCHED_LOOKUP_OFF});
    run(&bench, 1, 1, 0, false); /* page in the weights */
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (unsigned round = 1; round <= rounds; round++) {
        printf("one stream, depth 0: %.1f t/s; depth 512: %.1f t/s\n", run(&bench, 1, 1, 10 * round, false),
               run(&bench, 1, PROMPT, 10 * round + 1, false));
        for (size_t i = 0; i < sizeof streams / sizeof *streams; i++)
            printf("%u streams, depth 64: %.1f t/s; depth 512 shared: %.1f t/s\n", streams[i],
                   run(&bench, streams[i], 64, 100 * round + (unsigned)i, false),
                   run(&bench, streams[i], PROMPT, 100 * round + 50 + (unsigned)i, true));
    }
    sched_free(bench.sched);
    loop_release(&bench.loop);
    return 0;
}
