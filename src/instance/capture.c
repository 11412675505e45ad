#include "instance/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/clock.h"

static int start(const char *const *argv, const char *const *environment, int output, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    int rc = posix_spawnp(ret_pid, argv[0], &actions, &attributes, (char **)argv,
                          (char **)(environment ? environment : (const char *const *)environ));
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

/* false: the time is over. */
static bool read_all(int fd, uint64_t until_ms, struct buf *out)
{
    char piece[16384];
    for (;;) {
        uint64_t now = clock_ms();
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (now >= until_ms || poll(&ready, 1, (int)(until_ms - now)) == 0)
            return false;
        ssize_t n = read(fd, piece, sizeof piece);
        if (n > 0)
            buf_append(out, piece, (size_t)n);
        else if (n == 0 || errno != EINTR)
            return true;
    }
}

static bool ended(pid_t pid, uint64_t until_ms)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return true;
    uint64_t now = clock_ms();
    struct pollfd gone = {.fd = fd, .events = POLLIN};
    bool good = poll(&gone, 1, now < until_ms ? (int)(until_ms - now) : 0) > 0;
    close(fd);
    return good;
}

bool capture(const char *const *argv, const char *const *environment, unsigned timeout_ms, struct buf *out,
             int *ret_status, struct err *err)
{
    int ends[2], status = 0;
    pid_t pid;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return err_set(err, ERR_IO, "no pipe: %s", strerror(errno));
    int rc = start(argv, environment, ends[1], &pid);
    close(ends[1]);
    if (rc != 0) {
        close(ends[0]);
        return err_set(err, ERR_START_FAILED, "%s cannot be started: %s", argv[0], strerror(rc));
    }
    uint64_t until_ms = clock_ms() + timeout_ms;
    bool whole = read_all(ends[0], until_ms, out) && ended(pid, until_ms);
    close(ends[0]);
    kill(-pid, SIGKILL); /* what is late, or was left behind */
    waitpid(pid, &status, 0);
    if (ret_status)
        *ret_status = status;
    return whole || err_set(err, ERR_TIMEOUT, "%s did not end within %u s", argv[0], timeout_ms / 1000);
}
