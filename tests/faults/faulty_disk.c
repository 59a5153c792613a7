/* A disk that fails on demand: preloaded before libc, it refuses chosen calls on files whose path has a pattern in it.

   disk_fail(pattern, calls, error, skip): from now on, after `skip` such calls, they set errno to `error` and do
   nothing. calls: 1 opening for writing, making folders and renaming; 2 writing and syncing; 4 reading. error 0
   ends it. disk_failed() says how many calls were refused. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CHANGE = 1, WRITE = 2, READ = 4 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char pattern[4096];
static int calls, error;
static long skip, refused;

void disk_fail(const char *new_pattern, int new_calls, int new_error, long new_skip) {
    pthread_mutex_lock(&lock);
    snprintf(pattern, sizeof pattern, "%s", new_pattern);
    calls = new_calls, error = new_error, skip = new_skip, refused = 0;
    pthread_mutex_unlock(&lock);
}

long disk_failed(void) { return refused; }

static int fails(int call, const char *path) {
    int is_hit = 0;
    if (!error || !(calls & call) || !path) return 0;
    pthread_mutex_lock(&lock);
    if (error && (calls & call) && strstr(path, pattern)) {
        if (skip > 0) skip--;
        else is_hit = 1, refused++, errno = error;
    }
    pthread_mutex_unlock(&lock);
    return is_hit;
}

static int fails_fd(int call, int fd) {
    char link[64], path[4096];
    if (!error || !(calls & call)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return fails(call, path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define IS_CHANGE(flags) (((flags) & O_ACCMODE) != O_RDONLY || ((flags) & O_CREAT))
#define MODE(flags, last) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { va_list rest; va_start(rest, last); mode = va_arg(rest, int); va_end(rest); }

int open(const char *path, int flags, ...) {
    MODE(flags, flags)
    return IS_CHANGE(flags) && fails(CHANGE, path) ? -1 : REAL(open)(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE(flags, flags)
    return IS_CHANGE(flags) && fails(CHANGE, path) ? -1 : REAL(open64)(path, flags, mode);
}
int openat(int folder, const char *path, int flags, ...) {
    MODE(flags, flags)
    return IS_CHANGE(flags) && fails(CHANGE, path) ? -1 : REAL(openat)(folder, path, flags, mode);
}
int openat64(int folder, const char *path, int flags, ...) {
    MODE(flags, flags)
    return IS_CHANGE(flags) && fails(CHANGE, path) ? -1 : REAL(openat64)(folder, path, flags, mode);
}
int mkdir(const char *path, mode_t mode) { return fails(CHANGE, path) ? -1 : REAL(mkdir)(path, mode); }
int rename(const char *from, const char *to) {
    return fails(CHANGE, from) || fails(CHANGE, to) ? -1 : REAL(rename)(from, to);
}
ssize_t write(int fd, const void *data, size_t n) { return fails_fd(WRITE, fd) ? -1 : REAL(write)(fd, data, n); }
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) {
    return fails_fd(WRITE, fd) ? -1 : REAL(pwrite)(fd, data, n, at);
}
ssize_t writev(int fd, const struct iovec *data, int n) { return fails_fd(WRITE, fd) ? -1 : REAL(writev)(fd, data, n); }
int fsync(int fd) { return fails_fd(WRITE, fd) ? -1 : REAL(fsync)(fd); }
ssize_t read(int fd, void *data, size_t n) { return fails_fd(READ, fd) ? -1 : REAL(read)(fd, data, n); }
ssize_t pread(int fd, void *data, size_t n, off_t at) { return fails_fd(READ, fd) ? -1 : REAL(pread)(fd, data, n, at); }
ssize_t pread64(int fd, void *data, size_t n, off64_t at) {
    return fails_fd(READ, fd) ? -1 : REAL(pread64)(fd, data, n, at);
}
