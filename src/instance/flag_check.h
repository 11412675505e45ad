/* Whether the program that an instance runs knows the flags it is given. Loop thread only. */
#ifndef INSTANCE_FLAG_CHECK_H
#define INSTANCE_FLAG_CHECK_H

struct instance;
struct instances;

/* Asks argv[0] for its --help on a pool thread (once a program file and modification) and leaves a warning with the
 * nearest known flag at the instance for every flag that is not in it. A program without such a text is not judged. */
void flag_check(struct instance *i, const char *const *argv);
void flag_check_end(struct instances *all); /* releases what was learnt; no check may run any more */

#endif
