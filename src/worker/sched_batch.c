/* What a step decodes: one row for every decoding branch, then as much prefill as the step may carry. */
#include "worker/sched_private.h"

static void add_rows(struct sched *sched, struct branch *branch, unsigned count)
{
    branch->first_row = sched->row_count;
    branch->row_count = count;
    bool scoring = branch_is_scoring(branch);
    for (unsigned i = 0; i < count; i++) {
        unsigned position = branch->done + i;
        sched->rows[sched->row_count++] = (struct engine_row){
            .token = branch->tokens[position],
            .position = position,
            .sequence = (unsigned)branch->sequence,
            .logits = position + 1 == branch->count || (scoring && position + 1 >= branch->gen->scored_count)};
    }
}

/* Prefill tokens that this step may carry: all that fits one micro-batch, or, beside running decodes, what delays
 * them by LIMIT_STALL_STEP_MS. */
static unsigned prefill_budget(const struct sched *sched)
{
    unsigned room = sched->row_limit - sched->decode_rows;
    if (sched->decode_rows == 0)
        return room;
    unsigned piece = LIMIT_PREFILL_PIECE;
    if (sched->prefill_rate > 0 && sched->prefill_rate * LIMIT_STALL_STEP_MS / 1000 < piece)
        piece = (unsigned)(sched->prefill_rate * LIMIT_STALL_STEP_MS / 1000);
    piece = piece < 16 ? 16 : piece;
    return piece < room ? piece : room;
}

void sched_build_batch(struct sched *sched)
{
    sched->row_count = sched->decode_rows = 0;
    for (unsigned i = 0; i < sched->running_count; i++) {
        struct branch *branch = sched->running[i];
        branch->row_count = 0;
        if (branch_is_decoding(branch) && !gen_sits_out(branch->gen) && !branch_is_held(sched, branch) &&
            sched->row_count < sched->row_limit)
            add_rows(sched, branch, 1);
    }
    sched->decode_rows = sched->row_count;
    unsigned budget = prefill_budget(sched);
    unsigned scores = sched->info->outputs - sched->info->sequences; /* every sequence may want one row besides */
    for (unsigned i = 0; i < sched->running_count && budget > 0; i++) {
        struct branch *branch = sched->running[i];
        unsigned count = branch->count - branch->done;
        if (branch_is_decoding(branch) || gen_sits_out(branch->gen) || branch_is_held(sched, branch))
            continue;
        count = count < budget ? count : budget;
        if (branch_is_scoring(branch)) {
            count = count < scores ? count : scores;
            scores -= count;
        }
        add_rows(sched, branch, count);
        budget -= count;
    }
}
