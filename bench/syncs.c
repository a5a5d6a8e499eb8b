/* Counts what a process waits for the disk for: preloaded (ld.so(8)), asked by `syncs_so_far`. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>

static atomic_ulong syncs;

unsigned long syncs_so_far(void) { return atomic_load(&syncs); }

static int counted(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    atomic_fetch_add(&syncs, 1);
    return real(fd);
}

int fsync(int fd) { return counted("fsync", fd); }
int fdatasync(int fd) { return counted("fdatasync", fd); }
