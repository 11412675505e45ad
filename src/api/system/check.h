/* Looks every few seconds whether the database answers and what room state_dir has, so that /health never waits for
 * either. Loop thread only. */
#ifndef API_SYSTEM_CHECK_H
#define API_SYSTEM_CHECK_H

#include "api/app.h"

struct check;

struct check *check_new(struct app *app); /* the first look is at once; app->store is there */
void check_stop(struct check *check);     /* before the store closes; NULL is fine */
void check_free(struct check *check);     /* after the loop has ended */

struct check_result {
    bool store_lost, folder_lost;
    const char *store_problem; /* why, or "" */
    uint64_t disk_free;        /* UINT64_MAX: not known */
};

struct check_result check_now(const struct check *check); /* as of the last look */

#endif
