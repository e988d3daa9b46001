/*
 * Preloaded into a server: counts the turns of its event loop that found something, in a file that all of its
 * processes share. libuv, asyncio and uWebSockets wait in one of these.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

static _Atomic uint64_t unread, *turns = &unread;

__attribute__((constructor)) static void share(void) {
    const char *path = getenv("SOCKETSUNDSO_TURNS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *memory = mmap(NULL, sizeof *turns, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory != MAP_FAILED) turns = memory;
    close(fd);
}

static int counted(int ready) {
    if (ready > 0) ++*turns;
    return ready;
}

int epoll_wait(int fd, struct epoll_event *events, int most, int timeout) {
    static int (*wait)(int, struct epoll_event *, int, int);
    if (!wait) wait = (int (*)(int, struct epoll_event *, int, int))dlsym(RTLD_NEXT, "epoll_wait");
    return counted(wait(fd, events, most, timeout));
}

int epoll_pwait(int fd, struct epoll_event *events, int most, int timeout, const sigset_t *mask) {
    static int (*wait)(int, struct epoll_event *, int, int, const sigset_t *);
    if (!wait) wait = (int (*)(int, struct epoll_event *, int, int, const sigset_t *))dlsym(RTLD_NEXT, "epoll_pwait");
    return counted(wait(fd, events, most, timeout, mask));
}

int epoll_pwait2(int fd, struct epoll_event *events, int most, const struct timespec *timeout, const sigset_t *mask) {
    static int (*wait)(int, struct epoll_event *, int, const struct timespec *, const sigset_t *);
    if (!wait)
        wait = (int (*)(int, struct epoll_event *, int, const struct timespec *, const sigset_t *))dlsym(
            RTLD_NEXT, "epoll_pwait2");
    return counted(wait(fd, events, most, timeout, mask));
}
