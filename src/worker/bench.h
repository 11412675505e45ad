/* Measures a loaded model through its scheduler: so many streams at once, each a prompt of its own that nothing in the
 * cache begins like, then so many tokens. What clients would see, without the HTTP. */
#ifndef WORKER_BENCH_H
#define WORKER_BENCH_H

#include "worker/sched.h"

struct bench_setup {
    unsigned streams;        /* 1..LIMIT_SEQUENCES and the engine's sequences */
    unsigned prompt, tokens; /* of each stream; 1.., 2.. */
    unsigned salt;           /* other prompts for every run */
    /* Called a few times a second with the tokens that have come; may be NULL. */
    void (*on_progress)(void *arg, unsigned done, unsigned all);
    void *arg;
};

struct bench_result {
    double prompt_tps;               /* tokens of all prompts, until the last stream's first token */
    double decode_tps;               /* tokens of all streams behind their first ones, first to last */
    double stream_tps;               /* mean over the streams of each one's own */
    double first_ms, first_worst_ms; /* until a stream's first token: mean and longest */
    double gap_p50_ms, gap_p99_ms;   /* between two tokens of a stream */
    double seconds;                  /* of all of it */
};

/* Runs on the caller's loop, which must be the scheduler's and have nothing else to do. false and *err: a stream failed
 * or was refused. */
bool bench_run(struct sched *sched, struct loop *loop, unsigned vocabulary, const struct bench_setup *setup,
               struct bench_result *ret_result, struct err *err);

#endif
