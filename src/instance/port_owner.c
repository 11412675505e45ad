#include "instance/port_owner.h"

#include <ctype.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TCP_LISTEN 0x0A /* the state as the kernel writes it */

/* The inode of the listening socket on that port, 0: none seen. */
static unsigned long listening_inode(const char *table, int port)
{
    char line[512];
    unsigned long found = 0;
    FILE *file = fopen(table, "re");
    while (file && !found && fgets(line, sizeof line, file)) {
        unsigned local = 0, state = 0;
        unsigned long inode = 0;
        if (sscanf(line, " %*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*s %*s %lu", &local, &state,
                   &inode) == 3 &&
            (int)local == port && state == TCP_LISTEN)
            found = inode;
    }
    if (file)
        fclose(file);
    return found;
}

static bool has_socket(const char *process, const char *wanted)
{
    char folder[64], link[320], target[64];
    bool found = false;
    snprintf(folder, sizeof folder, "/proc/%.20s/fd", process);
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && !found && (entry = readdir(dir));) {
        snprintf(link, sizeof link, "%s/%s", folder, entry->d_name);
        ssize_t n = readlink(link, target, sizeof target - 1);
        target[n > 0 ? n : 0] = '\0';
        found = strcmp(target, wanted) == 0;
    }
    if (dir)
        closedir(dir);
    return found;
}

static void describe(const char *process, char out[PORT_OWNER_SIZE])
{
    char path[64], name[32] = "";
    snprintf(path, sizeof path, "/proc/%.20s/comm", process);
    FILE *file = fopen(path, "re");
    if (file) {
        if (!fgets(name, sizeof name, file))
            name[0] = '\0';
        fclose(file);
    }
    name[strcspn(name, "\n")] = '\0';
    snprintf(out, PORT_OWNER_SIZE, "%s (pid %.20s)", *name ? name : "a process", process);
}

char *port_owner(int port, char out[PORT_OWNER_SIZE])
{
    char wanted[40];
    unsigned long inode = listening_inode("/proc/net/tcp", port);
    if (!inode)
        inode = listening_inode("/proc/net/tcp6", port);
    snprintf(out, PORT_OWNER_SIZE, "unknown");
    snprintf(wanted, sizeof wanted, "socket:[%lu]", inode);
    DIR *dir = inode ? opendir("/proc") : NULL;
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        if (isdigit((unsigned char)entry->d_name[0]) && has_socket(entry->d_name, wanted)) {
            describe(entry->d_name, out);
            break;
        }
    }
    if (dir)
        closedir(dir);
    return out;
}
