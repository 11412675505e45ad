/* KV states as files, one a state: FOLDER/IDENTITY/NUMBER.kv, where IDENTITY is a digest of what the states depend on.
 * A file is written beside its name, then renamed, and carries checksums, so a kill or a torn write leaves either a
 * whole state or something that is found out. Blocking: for the decode thread in moments when nobody waits, and for a
 * restore that replaces seconds of prefill.
 *
 * Format, integers little-endian: "inferdKV", u32 version (1), u32 tokens, u64 bytes of state, 32 bytes SHA-256 of the
 * identity, u64 checksum of the header before it and the tokens, u64 checksum of the state; then the tokens (i32 each);
 * then the state. The checksums find damage, not malice: the folder belongs to the server. */
#ifndef WORKER_KV_FILE_H
#define WORKER_KV_FILE_H

#include "worker/engine.h"

/* Calls on_file for each sound file of the identity, oldest first, at most LIMIT_KV_FILES; removes damaged ones. Reads
 * headers and tokens only. tokens are valid during the call. */
void kv_file_scan(const char *folder, const char *identity,
                  void (*on_file)(void *arg, const char *path, const engine_token *tokens, unsigned count, size_t size),
                  void *arg);

/* Returns the path (the caller frees it), or NULL and *err (ERR_IO). */
char *kv_file_write(const char *folder, const char *identity, const engine_token *tokens, unsigned count,
                    const void *state, size_t size, struct err *err);

struct kv_file {
    const void *state;
    size_t state_size;
    void *map;
    size_t map_size;
};
bool kv_file_open(struct kv_file *file, const char *path, const char *identity); /* false: damaged, foreign or gone */
void kv_file_close(struct kv_file *file);

void kv_file_remove(const char *path);
void kv_file_touch(const char *path); /* it was used: it is the newest now */
void kv_file_prune(const char *folder,
                   uint64_t limit); /* oldest files of all identities go until limit bytes are left */

#endif
