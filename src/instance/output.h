/* An instance's output: a file that is appended to, rotated by size, read back from its end, and followed live.
 * Nothing here blocks the loop: bytes collect in memory while a pool job writes the ones before them; when too many
 * wait, the caller is told to stop reading the child's pipe, so that a flood slows the child and loses nothing. A full
 * disk is logged once a minute and counted; the last LIMIT_LOG_RING bytes are in memory in any case. Loop thread. */
#ifndef INSTANCE_OUTPUT_H
#define INSTANCE_OUTPUT_H

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include "loop/loop.h"

struct output;

struct output_options {
    const char *path;              /* of the file; its folder exists */
    uint64_t rotate_bytes;         /* 0: never */
    unsigned rotated_files;        /* kept beside it as PATH.1 (newest) ... PATH.N; more are deleted */
    bool compress;                 /* as PATH.N.gz, made by a job of its own */
    void (*on_proceed)(void *arg); /* after output_write returned false: there is room again */
    void *arg;
};

struct output *output_new(struct loop *loop, const struct output_options *options);
/* Writes what waits, then releases, in later turns of the loop. */
void output_free(struct output *output);

/* At most LIMIT_LOG_WAITING bytes at once. false: stop until on_proceed; the bytes are kept. */
bool output_write(struct output *output, struct str bytes);
/* A line of ours between the child's: "=== Instance NAME started at ... ===\n" is the caller's to word. */
void output_mark(struct output *output, struct str line);

struct str output_ring(const struct output *output); /* the last bytes, from a line's start */
uint64_t output_lost(const struct output *output);   /* bytes that could not be written */

/* An open descriptor and the byte range that holds the last `lines` lines (< 1: everything), found from the end on a
 * pool thread; what was written before the call is in it. on_found gets fd -1 and the error, or owns the descriptor;
 * not called when the arena dies first. No file yet: an empty range of /dev/null. */
void output_tail(struct output *output, int64_t lines, struct arena *arena,
                 void (*on_found)(void *arg, int fd, uint64_t offset, uint64_t length, const struct err *err),
                 void *arg);

/* Calls on_line with every complete line from now on, without its newline (a line of more than LIMIT_LOG_LINE bytes
 * comes in pieces), until the arena dies. */
void output_follow(struct output *output, struct arena *arena, void (*on_line)(void *arg, struct str line), void *arg);

#endif
