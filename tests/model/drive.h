/* Drives a scheduler from a test: submits, runs the loop until the requests have ended, keeps what came. */
#ifndef TESTS_MODEL_DRIVE_H
#define TESTS_MODEL_DRIVE_H

#include <stdlib.h>

#include "base/buf.h"
#include "worker/sched.h"

#define DRIVE_CHOICES 16

struct drive {
    struct loop loop;
    struct sched *sched;
    const struct engine_ops *ops;
    struct engine *engine;
    unsigned open; /* requests that have not ended */
};

struct drive_reply {
    struct drive *drive;
    struct gen *gen;
    struct buf text[DRIVE_CHOICES];
    enum gen_finish finish[DRIVE_CHOICES];
    unsigned tokens[DRIVE_CHOICES], finished, started;
    unsigned logprob_count, prompt_logprob_count, top_count;
    double logprob_sum, probability_low, probability_high, mean_logprob[DRIVE_CHOICES];
    struct gen_timings timings;
    struct err err;
    float *embedding; /* embedding_size floats when wanted */
    bool done, failed;
};

static inline void drive_note_logprobs(struct drive_reply *reply, const struct gen_event *event)
{
    for (size_t i = 0; i < event->logprob_count; i++) {
        const struct gen_logprob *logprob = &event->logprobs[i];
        reply->logprob_sum += logprob->first ? 0 : logprob->logprob;
        reply->top_count += logprob->top_count;
    }
    if (event->kind == GEN_EVENT_PROMPT)
        reply->prompt_logprob_count += event->logprob_count;
    else
        reply->logprob_count += event->logprob_count;
}

static inline void drive_on_event(void *arg, const struct gen_event *event)
{
    struct drive_reply *reply = arg;
    switch (event->kind) {
    case GEN_EVENT_STARTED: reply->started++; break;
    case GEN_EVENT_PROMPT: drive_note_logprobs(reply, event); break;
    case GEN_EVENT_TEXT:
        buf_str(&reply->text[event->choice], event->text);
        drive_note_logprobs(reply, event);
        break;
    case GEN_EVENT_FINISHED:
        reply->finish[event->choice] = event->finish;
        reply->tokens[event->choice] = event->generated_tokens;
        reply->mean_logprob[event->choice] = event->mean_logprob;
        reply->finished++;
        break;
    case GEN_EVENT_EMBEDDING:
        if (reply->embedding)
            memcpy(reply->embedding, event->embedding,
                   reply->drive->ops->info(reply->drive->engine)->embedding_size * sizeof(float));
        break;
    case GEN_EVENT_DONE:
        reply->timings = *event->timings;
        reply->done = true;
        break;
    case GEN_EVENT_FAILED:
        reply->err = *event->err;
        reply->failed = true;
        break;
    }
    if ((reply->done || reply->failed) && --reply->drive->open == 0)
        loop_stop(&reply->drive->loop);
}

static inline void drive_reply_init(struct drive *drive, struct drive_reply *reply)
{
    *reply = (struct drive_reply){.drive = drive};
    for (unsigned i = 0; i < DRIVE_CHOICES; i++)
        buf_init(&reply->text[i], 1u << 20);
}

static inline void drive_reply_release(struct drive_reply *reply)
{
    for (unsigned i = 0; i < DRIVE_CHOICES; i++)
        buf_release(&reply->text[i]);
    free(reply->embedding);
}

static inline const char *drive_text(const struct drive_reply *reply, unsigned choice)
{
    return buf_view(&reply->text[choice]).p;
}

static inline bool drive_submit(struct drive *drive, struct drive_reply *reply, const struct gen_request *request)
{
    reply->gen = sched_submit(drive->sched, request, drive_on_event, reply, &reply->err);
    drive->open += reply->gen != NULL;
    return reply->gen != NULL;
}

/* Tokenises text into out (room for capacity); returns how many. */
static inline size_t drive_tokenize(struct drive *drive, const char *text, engine_token *out, int capacity)
{
    int count = drive->ops->tokenize(drive->engine, str_from(text), true, true, out, capacity);
    return count > 0 && count <= capacity ? (size_t)count : 0;
}

static inline bool drive_text_request(struct drive *drive, struct drive_reply *reply, const char *text,
                                      const struct gen_params *params)
{
    static engine_token tokens[65536];
    struct gen_request request = {.kind = GEN_GENERATE, .tokens = tokens, .choices = 1, .params = *params};
    request.token_count = drive_tokenize(drive, text, tokens, 65536);
    return drive_submit(drive, reply, &request);
}

/* config says how; what a drive knows itself is filled in. */
static inline bool drive_open_with(struct drive *drive, const struct engine_config *engine, struct sched_config config,
                                   struct err *err)
{
    *drive = (struct drive){.ops = config.ops};
    drive->engine = config.ops->open(engine, err);
    if (!drive->engine)
        return false;
    loop_init(&drive->loop);
    config.engine = drive->engine;
    config.loop = &drive->loop;
    drive->sched = sched_new(&config);
    return true;
}

static inline bool drive_open(struct drive *drive, const struct engine_ops *ops, const struct engine_config *config,
                              unsigned queue, struct err *err)
{
    return drive_open_with(drive, config, (struct sched_config){.ops = ops, .queue_size = queue}, err);
}

static inline bool drive_open_lookup(struct drive *drive, const struct engine_ops *ops,
                                     const struct engine_config *config, unsigned queue, enum sched_lookup lookup,
                                     struct err *err)
{
    return drive_open_with(drive, config, (struct sched_config){.ops = ops, .queue_size = queue, .lookup = lookup},
                           err);
}

static inline void drive_close(struct drive *drive)
{
    sched_free(drive->sched);
    loop_release(&drive->loop);
}

static inline struct gen_params drive_greedy(unsigned max_tokens)
{
    struct gen_params params = {0};
    gen_params_default(&params);
    params.temperature = 0;
    params.max_tokens = max_tokens;
    return params;
}

#endif
