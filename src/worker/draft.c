/* When guessing pays. A step that decodes r guessed rows beside s due ones brings s tokens and, of each guess, as many
 * as come true before the first that does not; it takes longer than a plain step, and every stream in it waits. So the
 * plan is the r with the most expected tokens for its time, and none unless that beats the plain step by MARGIN.
 *
 * Costs. Assumed at first: rows to the power of SHAPE, as on a processor that is busy with one already; on a GPU more
 * rows are nearly free, and that is soon known. Each step without prefill is measured, and said as a part of the
 * assumption and of the level, which all rows share: longer sequences, or a neighbour on the same cores, move the level
 * and no decision. Machines stutter far more often than they hurry, so a knot of the curve believes its second fastest
 * sample of late, and one that was not measured for long forgets, so that no bad moment is held against guesses for
 * ever.
 *
 * Odds. While there is a match, it foretells the next token, and whether that was right is seen when the token comes,
 * guessed or not. So nothing is paid to learn that a text does not repeat itself. Right or wrong is counted by the
 * length of the match, per branch, and begins as it was with all branches before, those as START says: a match of two
 * tokens is chance, one of sixteen is a copy. The chance of the second guessed token is that of a match one longer.
 *
 * Bystanders. A stream without a match gets one token of a step, however long guesses make it. So as long as there is
 * one, a step takes at most PATIENCE times a plain one.
 *
 * Two fuses, for texts on which the odds are wrong: a guess that did not pay makes its branch wait, twice as long as
 * the last time; and all losses together are bounded by credit: FUSE of the time of all steps, plus what guesses have
 * won, neither beyond CREDIT_MOST. */
#include "worker/draft.h"

#include <math.h>

#define SHAPE        0.76
#define DRIFT        0.01 /* of the level with one sample */
#define STALE_STEPS  200
#define MARGIN       1.12
#define LEAST_CHANCE 0.05 /* rows less likely than that to count are not looked at */
#define PRIOR        3.0f /* trials that the odds of all branches count for in one */
#define MEMORY       48.0f
#define MEMORY_ALL   400.0f
#define FUSE         0.007
#define DOUBT        0.93 /* of what was won: costs are known no better */
#define CREDIT_START 6.0
#define CREDIT_MOST  20.0
#define BACKOFF_MOST 64
#define PATIENCE     2.0 /* of a plain step's time: what streams that have no guesses wait for those of others */

/* The match lengths at which the bands begin, and what it is believed to be worth before anything was seen. */
static const struct {
    unsigned from;
    float chance;
} START[DRAFT_BANDS] = {{0, 0.3f},  {3, 0.45f},  {4, 0.65f},  {6, 0.75f},
                        {8, 0.85f}, {12, 0.94f}, {16, 0.97f}, {LIMIT_LOOKUP_MATCH, 0.985f}};

static unsigned band_of(unsigned matched)
{
    unsigned band = DRAFT_BANDS - 1;
    while (matched < START[band].from)
        band--;
    return band;
}

/* ---- costs ---- */

static const unsigned KNOTS[DRAFT_KNOTS] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, LIMIT_DRAFT_ROWS};

static unsigned knot_of(unsigned rows)
{
    unsigned knot = 0;
    while (knot + 1 < DRAFT_KNOTS && rows * rows > KNOTS[knot] * KNOTS[knot + 1]) /* the nearest by its ratio */
        knot++;
    return knot;
}

/* The median; of two, the faster. */
static double believed(const struct draft_knot *knot)
{
    double sorted[DRAFT_SAMPLES];
    for (unsigned i = 0; i < knot->count; i++) {
        unsigned at = i;
        for (; at > 0 && sorted[at - 1] > knot->ratios[i]; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = knot->ratios[i];
    }
    return knot->count > 0 ? sorted[(knot->count - 1) / 2] : 1;
}

/* The ratio at so many rows: between the measured knots around it, and that of the nearest outside them. */
static double ratio_at(const struct draft_governor *governor, unsigned rows)
{
    const struct draft_knot *knots = governor->knots;
    int left = -1, right = -1;
    for (int i = 0; i < DRAFT_KNOTS; i++) {
        if (knots[i].count > 0 && KNOTS[i] <= rows)
            left = i;
        else if (knots[i].count > 0 && right < 0)
            right = i;
    }
    if (left < 0 || right < 0)
        return left < 0 && right < 0 ? 1 : knots[left < 0 ? right : left].ratio;
    double part = (double)(rows - KNOTS[left]) / (KNOTS[right] - KNOTS[left]);
    return knots[left].ratio + part * (knots[right].ratio - knots[left].ratio);
}

static void draw_costs(struct draft_governor *governor)
{
    for (unsigned n = 1; n <= LIMIT_DRAFT_ROWS; n++) {
        double cost = ratio_at(governor, n) * pow(n, SHAPE);
        governor->cost[n] = cost > governor->cost[n - 1] ? cost : governor->cost[n - 1];
    }
}

void draft_init(struct draft_governor *governor)
{
    *governor = (struct draft_governor){.credit = CREDIT_START};
    for (unsigned i = 0; i < DRAFT_BANDS; i++) {
        governor->all.trials[i] = 2 * PRIOR;
        governor->all.hits[i] = 2 * PRIOR * START[i].chance;
    }
    draw_costs(governor);
}

/* Of the knots that were not measured for long, the last sample goes. */
static void forget(struct draft_governor *governor)
{
    for (unsigned i = 0; i < DRAFT_KNOTS; i++) {
        struct draft_knot *knot = &governor->knots[i];
        if (++knot->stale < STALE_STEPS || knot->count == 0)
            continue;
        knot->stale = 0;
        knot->next = --knot->count;
        knot->ratio = believed(knot);
    }
}

static void learn_cost(struct draft_governor *governor, unsigned rows, double seconds)
{
    struct draft_knot *knot = &governor->knots[knot_of(rows)];
    forget(governor);
    knot->stale = 0;
    knot->ratios[knot->next] = seconds / (governor->level * pow(rows, SHAPE));
    knot->next = (knot->next + 1) % DRAFT_SAMPLES;
    knot->count += knot->count < DRAFT_SAMPLES;
    knot->ratio = believed(knot);
    governor->level *= seconds > governor->level * governor->cost[rows] ? 1 + DRIFT : 1 - DRIFT;
    draw_costs(governor);
}

void draft_note_step(struct draft_governor *governor, unsigned streams, unsigned rows, unsigned tokens, double seconds)
{
    if (rows > LIMIT_DRAFT_ROWS || streams == 0 || seconds <= 0)
        return;
    if (governor->level <= 0)
        governor->level = seconds / pow(rows, SHAPE);
    double spent = governor->cost[rows], plain = governor->cost[streams];
    double won = (rows > streams ? DOUBT * plain * tokens / streams - spent : 0) + FUSE * spent;
    double credit = governor->credit + won / governor->cost[1];
    governor->credit = credit < CREDIT_MOST ? credit : CREDIT_MOST;
    learn_cost(governor, rows, seconds);
}

/* ---- odds ---- */

static void count(struct draft_record *record, unsigned band, bool hit, float memory)
{
    record->hits[band] += hit ? 1 : 0;
    record->trials[band] += 1;
    if (record->trials[band] < memory)
        return;
    record->hits[band] /= 2;
    record->trials[band] /= 2;
}

void draft_note_token(struct draft_governor *governor, struct draft_record *record, unsigned matched, bool foretold)
{
    unsigned band = band_of(matched);
    count(record, band, foretold, MEMORY);
    count(&governor->all, band, foretold, MEMORY_ALL);
}

static double chance(const struct draft_governor *governor, const struct draft_record *record, unsigned matched)
{
    unsigned band = band_of(matched);
    float believed = governor->all.hits[band] / governor->all.trials[band];
    return (double)((record->hits[band] + PRIOR * believed) / (record->trials[band] + PRIOR));
}

void draft_note_guess(const struct draft_governor *governor, struct draft_record *record, unsigned streams,
                      unsigned drafted, unsigned accepted)
{
    unsigned rows = streams + drafted < LIMIT_DRAFT_ROWS ? streams + drafted : LIMIT_DRAFT_ROWS;
    double token = governor->cost[streams] / streams;
    bool paid = accepted * token >= governor->cost[rows] - governor->cost[streams];
    record->backoff = paid ? 0 : record->backoff ? 2 * record->backoff : 1;
    if (record->backoff > BACKOFF_MOST)
        record->backoff = BACKOFF_MOST;
    record->wait = record->backoff;
}

/* ---- the plan ---- */

/* The bid whose next row is the likeliest to count; NULL: none is likely enough. */
static struct draft_bid *likeliest(const struct draft_governor *governor, struct draft_bid *bids, unsigned count,
                                   double *ret_reach)
{
    struct draft_bid *best = NULL;
    double most = governor->eager ? -1 : LEAST_CHANCE;
    for (unsigned i = 0; i < count; i++) {
        struct draft_bid *bid = &bids[i];
        double reach = bid->reach * chance(governor, bid->record, bid->matched + bid->length);
        if (bid->length == bid->limit || reach <= most)
            continue;
        best = bid;
        most = reach;
    }
    *ret_reach = most;
    return best;
}

unsigned draft_plan(const struct draft_governor *governor, struct draft_bid *bids, unsigned count, unsigned streams,
                    unsigned room)
{
    struct draft_bid *given[LIMIT_DRAFT_ROWS];
    unsigned rows = 0, best_rows = 0;
    for (unsigned i = 0; i < count; i++) {
        bids[i].length = 0;
        bids[i].reach = 1;
    }
    if (streams == 0 || streams > LIMIT_DRAFT_ROWS || (governor->level <= 0 && !governor->eager))
        return 0;
    double plain = governor->cost[streams], tokens = streams, best = MARGIN * streams / plain, reach;
    while (rows < room && streams + rows < LIMIT_DRAFT_ROWS) {
        double cost = governor->cost[streams + rows + 1];
        if (count < streams && cost > PATIENCE * plain && !governor->eager)
            break;
        struct draft_bid *bid = likeliest(governor, bids, count, &reach);
        if (!bid || (!governor->eager && cost - plain > governor->credit * governor->cost[1]))
            break;
        bid->length++;
        bid->reach = reach;
        tokens += reach;
        given[rows++] = bid;
        if (governor->eager || tokens / cost > best) {
            best = tokens / cost;
            best_rows = rows;
        }
    }
    while (rows > best_rows)
        given[--rows]->length--;
    return rows;
}
