/* Counts what a process asks the kernel for: preloaded (ld.so(8)), asked by `syncs_so_far` and `locks_so_far`. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>

static atomic_ulong syncs, locks;

unsigned long syncs_so_far(void) { return atomic_load(&syncs); }
unsigned long locks_so_far(void) { return atomic_load(&locks); }

static int counted(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    atomic_fetch_add(&syncs, 1);
    return real(fd);
}

int fsync(int fd) { return counted("fsync", fd); }
int fdatasync(int fd) { return counted("fdatasync", fd); }

/* Locks on ranges of files, be they taken, freed or asked for; whatever else fcntl(2) does is passed on. */
static int controlled(const char *name, int fd, int command, void *argument) {
    int (*real)(int, int, ...) = (int (*)(int, int, ...))dlsym(RTLD_NEXT, name);
    switch (command) {
    case F_GETLK: case F_SETLK: case F_SETLKW: case F_OFD_GETLK: case F_OFD_SETLK: case F_OFD_SETLKW:
        atomic_fetch_add(&locks, 1);
    }
    return real(fd, command, argument);
}

#define LAST(from) (va_start(rest, from), last = va_arg(rest, void *), va_end(rest), last)

int fcntl(int fd, int command, ...) { va_list rest; void *last; return controlled("fcntl", fd, command, LAST(command)); }
int fcntl64(int fd, int command, ...) { va_list rest; void *last; return controlled("fcntl64", fd, command, LAST(command)); }
