/* Which process listens on a TCP port of this machine, as far as we may see it: for messages only. */
#ifndef INSTANCE_PORT_OWNER_H
#define INSTANCE_PORT_OWNER_H

#define PORT_OWNER_SIZE 64

/* "ollama (pid 123)", or "unknown". Looks through /proc: some milliseconds, for the start of the program. Returns out.
 */
char *port_owner(int port, char out[PORT_OWNER_SIZE]);

#endif
