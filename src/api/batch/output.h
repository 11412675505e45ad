/* The file that a batch's outcomes of one kind go to, a line each: lines are collected while the ones before are being
 * written, so one fsync serves many. A line counts once it is on the disk. */
#ifndef API_BATCH_OUTPUT_H
#define API_BATCH_OUTPUT_H

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"

struct batch_output {
    struct buf pending;
    size_t pending_lines;
    /* the job's */
    int fd;
    struct buf writing;
    size_t writing_lines;
    uint64_t size; /* of the file */
    char sha256[2 * HASH_SHA256_SIZE + 1];
};

void batch_output_init(struct batch_output *output);
void batch_output_release(struct batch_output *output);

/* What is pending becomes what is to be written. Not while a job writes. */
void batch_output_hand_over(struct batch_output *output);

/* These are for pool threads. Opens, or makes, the file; */
bool batch_output_open(struct batch_output *output, const char *path, struct err *err);
/* writes what was handed over, to the disk: all of it or, by *err, nothing (ERR_INSUFFICIENT_STORAGE, ERR_IO); */
bool batch_output_write(struct batch_output *output, struct err *err);
/* hashes what was written, and unlinks it if that is nothing. */
bool batch_output_finish(struct batch_output *output, const char *path, struct err *err);

#endif
