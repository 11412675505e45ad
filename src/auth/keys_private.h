/* What the files keys*.c share. */
#ifndef AUTH_KEYS_PRIVATE_H
#define AUTH_KEYS_PRIVATE_H

#include "auth/keys.h"
#include "auth/legacy.h"
#include "base/hash.h"
#include "base/map.h"

struct entry {
    struct key key;   /* first: what callers see */
    struct list link; /* in keys->stored, configured or dead */
    struct list used; /* in keys->used: last_used_at is newer than the store's */
    unsigned char sha256[HASH_SHA256_SIZE];
    bool hashed;       /* sha256 is known */
    bool revoked;      /* being deleted: finds nobody any more */
    char *legacy_hash; /* Argon2id while the other is not known, or NULL */
};

struct keys {
    struct loop *loop;
    const struct conf *conf;
    struct store *store;
    struct map by_hash;     /* SHA-256 to struct entry */
    struct map by_id;       /* bytes of key.id to struct entry: all of stored */
    struct list configured; /* struct entry */
    struct list stored;     /* newest first */
    struct list dead;       /* until the loop waits: somebody may still hold a pointer */
    struct list used;       /* by entry.used */
    struct list changes;    /* struct change: on their way to the store */
    struct loop_soon bury;
    struct deadline flush;
    struct legacy *legacy;
    size_t stored_count, legacy_count;
    void (*on_lost)(void *arg); /* NULL: nobody asked */
    void *on_lost_arg;
    size_t inference_count, management_count; /* keys with that very scope, expired ones too */
};

bool entry_usable(const struct entry *entry);
struct entry *entry_new(void); /* in no list */
void entry_free(struct entry *entry);
void entry_set_ids(struct entry *entry, const int64_t *ids, size_t count); /* sorts */
struct entry *keys_entry(struct keys *keys, int64_t id);                   /* stored, or NULL */
void keys_add(struct keys *keys, struct entry *entry);                     /* as the newest of the stored ones */
void keys_revoke(struct keys *keys, struct entry *entry);                  /* no longer found; still listed */
void keys_bury(struct keys *keys, struct entry *entry);                    /* no longer listed either */
void keys_set_hash(struct keys *keys, struct entry *entry, const unsigned char sha256[HASH_SHA256_SIZE]);

void keys_lost(struct keys *keys); /* tells the listener */

bool keys_load(struct keys *keys, struct err *err);
void keys_forget_changes(struct keys *keys);

#endif
