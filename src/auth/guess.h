/* Failures counted by who made them (an address, a user's name): how long he must wait before the next try. Bounded:
 * of more than LIMIT_GUESSERS the one whose last failure is oldest is forgotten. Pure but for its memory: the time (any
 * clock that only goes forward, milliseconds) is an argument. One thread. */
#ifndef AUTH_GUESS_H
#define AUTH_GUESS_H

#include "base/str.h"

struct guesses;

struct guess_rules {
    unsigned free;      /* failures that cost nothing but the last of them */
    uint64_t window_ms; /* counted from the first; then all are forgotten */
    uint64_t wait_ms;   /* the first wait, which doubles with each failure; 0: to the window's end */
    uint64_t wait_max_ms;
};

struct guesses *guesses_new(const struct guess_rules *rules); /* copied */
void guesses_free(struct guesses *guesses);

void guesses_failed(struct guesses *guesses, struct str who, uint64_t now_ms);
void guesses_forget(struct guesses *guesses, struct str who); /* he got it right */

/* 0: he may try. */
uint64_t guesses_wait_ms(const struct guesses *guesses, struct str who, uint64_t now_ms);

#endif
