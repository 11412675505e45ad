/* What a daemon that was killed has left running. */
#ifndef INSTANCE_ORPHAN_H
#define INSTANCE_ORPHAN_H

/* Ends every process of this user whose environment carries INFERD_OWNER=owner: asks first, kills after
 * LIMIT_ORPHAN_MS, and returns when all are gone. The owner is a random text that the store keeps, so nobody else's
 * process can be meant, whatever its name or number. Blocking; at the start, before anything of ours runs. Returns how
 * many there were; 0 where /proc does not exist. */
unsigned orphans_end(const char *owner);

#endif
