/* The file side of an instance's output: appending, rotating, compressing, and finding the last lines. Everything here
 * blocks and is meant for pool threads; output.c sees to it that one thread at a time writes a file. */
#ifndef INSTANCE_OUTPUT_FILE_H
#define INSTANCE_OUTPUT_FILE_H

#include "base/str.h"
#include "instance/output.h"

struct output_file {
    const char *path;
    uint64_t rotate_bytes; /* 0: never */
    unsigned rotated_files;
    int fd; /* -1: not open */
    uint64_t size;
    bool mid_line;      /* the file ends within a line */
    bool torn;          /* ... and what belonged behind it was lost */
    int error;          /* errno of the last failure; 0 */
    uv_mutex_t renames; /* held while the file has another name or none */
};

void output_file_init(struct output_file *file, const struct output_options *options);
void output_file_release(struct output_file *file);

/* Appends as much as may be: everything, unless a file became full. Then *ret_full is set and the bytes left over are
 * for after output_file_rotate. What cannot be written is counted in *ret_lost and used up all the same. Returns the
 * bytes used up. */
size_t output_file_append(struct output_file *file, struct str bytes, uint64_t *ret_lost, bool *ret_full);

/* PATH becomes PATH.1, that PATH.2 ...; the next append begins a new file. false: it goes on in the old one, *ret_error
 * says why. */
bool output_file_rotate(struct output_file *file, int *ret_error);

/* PATH.1 becomes PATH.1.gz. false: it stays as it is, *ret_error says why. */
bool output_file_compress(const char *path, int *ret_error);

/* The file as it is now, for reading: a descriptor and its size. No file yet: /dev/null. -1: *ret_error. */
int output_file_open(struct output_file *file, uint64_t *ret_size, int *ret_error);

/* Where the last `lines` lines of fd's first `size` bytes begin. */
uint64_t output_file_last_lines(int fd, uint64_t size, int64_t lines);

#endif
