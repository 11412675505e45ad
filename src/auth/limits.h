/* How much a caller may ask for (specs/inferno.md 4.5): requests a minute in a window of 60 s that starts with the
 * first of them, a bucket of `burst` requests that refills evenly at the same rate, tokens a minute charged once they
 * are known, and requests at once. A refused request is charged to nothing. All arithmetic is on whole numbers; time is
 * the caller's, so tests own it. Memory is bounded: at most LIMIT_SUBJECTS are remembered, of idle ones the least
 * recently seen is forgotten first. Loop thread only; a check is a hash look-up, some 50 ns. */
#ifndef AUTH_LIMITS_H
#define AUTH_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

/* 0: no limit. With requests_per_minute alone, burst is the same number. */
struct limit_rates {
    uint32_t requests_per_minute, burst, tokens_per_minute, concurrent;
};

enum limit_kind { LIMIT_BY_KEY = 1, LIMIT_BY_USER, LIMIT_BY_ADDRESS };

/* Whose requests are counted together. Make one with limit_by_*: its bytes are compared. */
struct limit_subject {
    uint8_t bytes[24];
};
struct limit_subject limit_by_number(enum limit_kind kind, int64_t number);
struct limit_subject limit_by_text(enum limit_kind kind, struct str text); /* by its hash */
/* A numeric address: an IPv4 one counts for itself (also when it comes as ::ffff:), an IPv6 one with its /64 network;
 * anything else ("" of a Unix socket) is one subject. */
struct limit_subject limit_by_address(const char *address);

enum limit_name { LIMIT_NONE, LIMIT_REQUESTS, LIMIT_BURST, LIMIT_TOKENS, LIMIT_CONCURRENT };
extern const char *const limit_names[]; /* as metrics and errors say them */

/* What the headers say, and after a refusal why and for how long. */
struct limit_state {
    enum limit_name refused; /* LIMIT_NONE: let in */
    uint32_t retry_after_ms; /* of a refusal; 0: nobody knows (concurrent) */
    struct limit_rates rates;
    uint32_t requests_left, tokens_left;
    uint64_t reset_ms; /* from now until the window ends */
};

struct limits;
typedef uint32_t limit_hold;                /* a request that was let in; 0: none */
struct limits *limits_new(size_t capacity); /* subjects remembered; LIMIT_SUBJECTS in the program */
void limits_free(struct limits *limits);
size_t limits_count(const struct limits *limits);

/* Charges one request at now_ms (monotonic) when every limit allows it. The hold is given back with limits_end. 0: it
 * is refused (ret_state->refused), or (LIMIT_NONE) no limit applies at these rates and nothing is remembered. */
limit_hold limits_begin(struct limits *limits, const struct limit_subject *subject, const struct limit_rates *rates,
                        uint64_t now_ms, struct limit_state *ret_state);
void limits_end(struct limits *limits, limit_hold hold); /* the request is over; 0: nothing happens */
/* Tokens that a request of the subject took: charged to the present window when the subject is still remembered. */
void limits_charge(struct limits *limits, const struct limit_subject *subject, uint64_t tokens, uint64_t now_ms);

#endif
