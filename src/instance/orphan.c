#include "instance/orphan.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/syscall.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "obs/log.h"

#define MOST_ORPHANS 4096
#define MOST_ROUNDS  8

/* By descriptor, so that a number that is used anew meanwhile is not mistaken for the old process. */
static int process_open(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

static void process_signal(int fd, int signal)
{
    syscall(SYS_pidfd_send_signal, fd, signal, NULL, 0);
}

static bool belongs(pid_t pid, const char *mark)
{
    char path[64];
    bool found = false;
    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    struct buf text;
    buf_init(&text, LIMIT_ENVIRONMENT);
    char piece[4096];
    for (ssize_t n; (n = read(fd, piece, sizeof piece)) > 0;)
        buf_append(&text, piece, (size_t)n);
    close(fd);
    size_t length = strlen(mark) + 1;
    for (size_t at = 0; !found && buf_ok(&text) && at + length <= text.len;) {
        found = memcmp(text.data + at, mark, length) == 0;
        at += strnlen(text.data + at, text.len - at) + 1;
    }
    buf_release(&text);
    return found;
}

static unsigned collect(const char *mark, int *fds)
{
    unsigned count = 0;
    DIR *proc = opendir("/proc");
    if (!proc)
        return 0;
    for (struct dirent *entry; count < MOST_ORPHANS && (entry = readdir(proc));) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid <= 1 || pid == getpid() || !belongs(pid, mark))
            continue;
        int fd = process_open(pid);
        if (fd < 0)
            continue;
        if (belongs(pid, mark)) {
            log_warn("ending what a killed daemon left", "pid=%d", (int)pid);
            fds[count++] = fd;
        } else {
            close(fd);
        }
    }
    closedir(proc);
    return count;
}

static void wait_all(const int *fds, unsigned count, uint64_t until_ms)
{
    for (unsigned i = 0; i < count; i++) {
        struct pollfd gone = {.fd = fds[i], .events = POLLIN};
        uint64_t now = clock_ms();
        poll(&gone, 1, now < until_ms ? (int)(until_ms - now) : 0);
    }
}

static unsigned end_those_there(const char *mark, int *fds)
{
    unsigned count = collect(mark, fds);
    for (unsigned i = 0; i < count; i++)
        process_signal(fds[i], SIGTERM);
    wait_all(fds, count, clock_ms() + LIMIT_ORPHAN_MS);
    for (unsigned i = 0; i < count; i++)
        process_signal(fds[i], SIGKILL);
    wait_all(fds, count, clock_ms() + LIMIT_ORPHAN_MS);
    for (unsigned i = 0; i < count; i++)
        close(fds[i]);
    return count;
}

/* Looked at again until nobody is there: one that is ending may start another. */
unsigned orphans_end(const char *owner)
{
    char mark[96];
    unsigned all = 0, count = 1;
    int *fds = mem_calloc(MOST_ORPHANS, sizeof *fds);
    snprintf(mark, sizeof mark, "INFERD_OWNER=%s", owner);
    for (unsigned round = 0; count > 0 && round < MOST_ROUNDS; round++) {
        count = end_those_there(mark, fds);
        all += count;
    }
    mem_free(fds);
    return all;
}
