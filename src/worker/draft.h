/* The governor of speculation: how many guessed tokens a step should decode besides those that are due. It knows two
 * things, both from watching: what a step of so many rows costs beside one without guesses, and how often a guess
 * behind a match of so many tokens is right. Pure arithmetic on what it is told; decode thread only. Design in draft.c.
 */
#ifndef WORKER_DRAFT_H
#define WORKER_DRAFT_H

#include <stdbool.h>

#include "base/limits.h"

#define DRAFT_BANDS   8  /* of match lengths */
#define DRAFT_KNOTS   12 /* of the curve of costs */
#define DRAFT_SAMPLES 7  /* of one knot */

/* What a branch's guesses have been worth. Zero-initialise. */
struct draft_record {
    float hits[DRAFT_BANDS], trials[DRAFT_BANDS]; /* tokens foretold, by the match's length; older ones count less */
    unsigned wait;                                /* tokens until it may guess again */
    unsigned backoff;                             /* the last wait; doubles with each guess that did not pay */
};

/* What steps of about so many rows took: the last samples, as parts of what was assumed for their rows. */
struct draft_knot {
    double ratios[DRAFT_SAMPLES];
    double ratio;         /* what is believed of them */
    unsigned count, next; /* samples; where the next one goes */
    unsigned stale;       /* steps since the last one */
};

struct draft_governor {
    bool eager;   /* every match, at full length, whatever it costs: for tests */
    double level; /* seconds of a lone row, as all knots together have it now; 0: nothing was measured yet */
    struct draft_knot knots[DRAFT_KNOTS]; /* from one row to LIMIT_DRAFT_ROWS */
    double cost[LIMIT_DRAFT_ROWS + 1];    /* of a step, by its rows, in units of level */
    double credit;                        /* steps of one row that guesses may lose before they have won any */
    struct draft_record all;              /* of all branches: what a new one is taken for */
};

void draft_init(struct draft_governor *governor);

/* A token came behind a match of `matched` tokens: as foretold, or not. Counted whether or not it was guessed. */
void draft_note_token(struct draft_governor *governor, struct draft_record *record, unsigned matched, bool foretold);

/* A branch's guess of `drafted` tokens beside `streams` rows is over. */
void draft_note_guess(const struct draft_governor *governor, struct draft_record *record, unsigned streams,
                      unsigned drafted, unsigned accepted);

/* A step without prefill is over: streams branches, rows of them in all, tokens generated. rows 1.. */
void draft_note_step(struct draft_governor *governor, unsigned streams, unsigned rows, unsigned tokens, double seconds);

struct draft_bid {
    const struct draft_record *record;
    unsigned matched; /* tokens */
    unsigned limit;   /* tokens that may be guessed */
    unsigned length;  /* out: tokens to guess */
    double reach;     /* scratch */
};

/* Shares at most room rows among the bids of a step in which streams branches decode. Returns the rows given. */
unsigned draft_plan(const struct draft_governor *governor, struct draft_bid *bids, unsigned count, unsigned streams,
                    unsigned room);

#endif
