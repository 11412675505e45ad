/* Our own code is linked with --wrap, which reaches what libc would not let itself be replaced in (stdio, folders,
 * malloc under a sanitizer). libuv lives in a shared library: its allocator is replaced through its own function, and
 * its system calls are found in the program first, which defines them here and goes to the kernel directly.
 *
 * Left alone, because libuv aborts by design when they fail and no program can see it coming: reads and writes of its
 * own pipes and eventfds, and epoll_ctl. */
#include "fault/inject.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <uv.h>

static struct fault *armed;

static bool strikes(enum fault_kind kind, const char *where)
{
    if (!armed || armed->kind != kind)
        return false;
    armed->seen++;
    if (armed->seen != armed->nth && !(armed->lasting && armed->seen > armed->nth))
        return false;
    if (!armed->hit)
        snprintf(armed->where, sizeof armed->where, "%s", where);
    armed->hit = true;
    return true;
}

static bool fails(const char *where, int error)
{
    if (!strikes(FAULT_CALL, where))
        return false;
    errno = error;
    return true;
}

/* ---- memory ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

void *__wrap_malloc(size_t size)
{
    return strikes(FAULT_MEMORY, "malloc") ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return strikes(FAULT_MEMORY, "calloc") ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return strikes(FAULT_MEMORY, "realloc") ? NULL : __real_realloc(old, size);
}

static void *uv_alloc(size_t size)
{
    return strikes(FAULT_UV_MEMORY, "uv malloc") ? NULL : __real_malloc(size);
}

static void *uv_zeroed(size_t count, size_t size)
{
    return strikes(FAULT_UV_MEMORY, "uv calloc") ? NULL : __real_calloc(count, size);
}

static void *uv_resized(void *old, size_t size)
{
    return strikes(FAULT_UV_MEMORY, "uv realloc") ? NULL : __real_realloc(old, size);
}

void fault_arm(struct fault *fault)
{
    uv_replace_allocator(uv_alloc, uv_resized, uv_zeroed, free);
    armed = fault;
}

void fault_disarm(void)
{
    armed = NULL;
}

/* ---- bytes in and out ---- */

static bool is_ours(int fd)
{
    struct stat info;
    return armed && fd > 2 && syscall(SYS_fstat, fd, &info) == 0 && (S_ISSOCK(info.st_mode) || S_ISREG(info.st_mode));
}

static bool is_socket(int fd)
{
    struct stat info;
    return syscall(SYS_fstat, fd, &info) == 0 && S_ISSOCK(info.st_mode);
}

/* Decides a transfer's fate. false: it fails, errno is set. *n is what it may transfer. */
static bool transfer(int fd, const char *where, size_t *n)
{
    if (!is_ours(fd))
        return true;
    if (fails(where, is_socket(fd) ? ECONNRESET : EIO))
        return false;
    if (is_socket(fd) && strikes(FAULT_INTERRUPT, where)) {
        errno = EINTR;
        return false;
    }
    if (*n > 1 && strikes(FAULT_SHORT, where))
        *n = 1;
    return true;
}

ssize_t read(int fd, void *bytes, size_t n)
{
    return transfer(fd, "read", &n) ? syscall(SYS_read, fd, bytes, n) : -1;
}

ssize_t write(int fd, const void *bytes, size_t n)
{
    return transfer(fd, "write", &n) ? syscall(SYS_write, fd, bytes, n) : -1;
}

ssize_t writev(int fd, const struct iovec *pieces, int count)
{
    size_t n = 0;
    for (int i = 0; i < count; i++)
        n += pieces[i].iov_len;
    size_t allowed = n;
    if (!transfer(fd, "writev", &allowed))
        return -1;
    return allowed < n ? syscall(SYS_write, fd, pieces[0].iov_base, (size_t)1) : syscall(SYS_writev, fd, pieces, count);
}

ssize_t pread(int fd, void *bytes, size_t n, off_t offset)
{
    if (strikes(FAULT_INTERRUPT, "pread")) {
        errno = EINTR;
        return -1;
    }
    return transfer(fd, "pread", &n) ? syscall(SYS_pread64, fd, bytes, n, offset) : -1;
}

/* ---- descriptors ---- */

int socket(int domain, int type, int protocol)
{
    return fails("socket", EMFILE) ? -1 : (int)syscall(SYS_socket, domain, type, protocol);
}

int accept4(int fd, struct sockaddr *restrict address, socklen_t *restrict n, int flags)
{
    if (fails("accept4", EMFILE))
        return -1;
    if (strikes(FAULT_INTERRUPT, "accept4")) {
        errno = EINTR;
        return -1;
    }
    return (int)syscall(SYS_accept4, fd, address, n, flags);
}

int connect(int fd, const struct sockaddr *address, socklen_t n)
{
    return fails("connect", ECONNREFUSED) ? -1 : (int)syscall(SYS_connect, fd, address, n);
}

int bind(int fd, const struct sockaddr *address, socklen_t n)
{
    return fails("bind", EADDRNOTAVAIL) ? -1 : (int)syscall(SYS_bind, fd, address, n);
}

int listen(int fd, int backlog)
{
    return fails("listen", EADDRINUSE) ? -1 : (int)syscall(SYS_listen, fd, backlog);
}

int epoll_create1(int flags)
{
    return fails("epoll_create1", EMFILE) ? -1 : (int)syscall(SYS_epoll_create1, flags);
}

int eventfd(unsigned count, int flags)
{
    return fails("eventfd", EMFILE) ? -1 : (int)syscall(SYS_eventfd2, count, flags);
}

/* ---- files ---- */

int __real_open(const char *path, int flags, ...);
int __real_stat(const char *path, struct stat *info);
int __real_fstat(int fd, struct stat *info);
FILE *__real_fopen(const char *path, const char *mode);
DIR *__real_opendir(const char *path);
struct dirent *__real_readdir(DIR *dir);
int __wrap_open(const char *path, int flags, ...);
int __wrap_stat(const char *path, struct stat *info);
int __wrap_fstat(int fd, struct stat *info);
FILE *__wrap_fopen(const char *path, const char *mode);
DIR *__wrap_opendir(const char *path);
struct dirent *__wrap_readdir(DIR *dir);

int __wrap_open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    return fails("open", EMFILE) ? -1 : __real_open(path, flags, mode);
}

int __wrap_stat(const char *path, struct stat *info)
{
    return fails("stat", EIO) ? -1 : __real_stat(path, info);
}

int __wrap_fstat(int fd, struct stat *info)
{
    return fails("fstat", EIO) ? -1 : __real_fstat(fd, info);
}

static ssize_t cookie_read(void *cookie, char *bytes, size_t n)
{
    return read((int)(intptr_t)cookie, bytes, n);
}

static int cookie_close(void *cookie)
{
    return close((int)(intptr_t)cookie);
}

/* A stream whose reads come through here. */
FILE *__wrap_fopen(const char *path, const char *mode)
{
    if (!armed || *mode != 'r')
        return __real_fopen(path, mode);
    if (fails("fopen", EMFILE))
        return NULL;
    int fd = __real_open(path, O_RDONLY | O_CLOEXEC);
    cookie_io_functions_t functions = {.read = cookie_read, .close = cookie_close};
    return fd < 0 ? NULL : fopencookie((void *)(intptr_t)fd, mode, functions);
}

DIR *__wrap_opendir(const char *path)
{
    return fails("opendir", EMFILE) ? NULL : __real_opendir(path);
}

struct dirent *__wrap_readdir(DIR *dir)
{
    return fails("readdir", EIO) ? NULL : __real_readdir(dir);
}
