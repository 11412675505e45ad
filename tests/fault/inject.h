/* Makes the n-th fallible call of one kind fail. Everything a scenario does counts once it is armed: allocations of
 * our code (jansson's go through it) and of libuv, and the system calls of our code and libuv. */
#ifndef TESTS_FAULT_INJECT_H
#define TESTS_FAULT_INJECT_H

#include <stdbool.h>

enum fault_kind {
    FAULT_MEMORY,    /* malloc, calloc, realloc of our code */
    FAULT_UV_MEMORY, /* the same of libuv */
    FAULT_CALL,      /* a system call fails for good */
    FAULT_INTERRUPT, /* it was interrupted: it must be tried again */
    FAULT_SHORT,     /* it transfers one byte: the rest must follow */
    FAULT_KINDS
};

struct fault {
    enum fault_kind kind;
    unsigned nth;  /* counted from 1 */
    bool lasting;  /* all later ones fail too */
    unsigned seen; /* out: calls of that kind */
    bool hit;      /* out */
    char where[24];
};

/* fault lies in memory shared with the parent, which reads what came of it. */
void fault_arm(struct fault *fault);
void fault_disarm(void);

#endif
