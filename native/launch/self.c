/* The file that this program runs from, and copies of it that nobody can write to. */
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "launch/launch.h"

#ifndef F_GET_SEALS
#define F_ADD_SEALS 1033
#define F_GET_SEALS 1034
#define F_SEAL_SEAL 1
#define F_SEAL_SHRINK 2
#define F_SEAL_GROW 4
#define F_SEAL_WRITE 8
#endif

static char self[PATH_MAX];

const char *self_path(void) { return self; }
void set_self_path(const char *path) { fmt(self, sizeof(self), "%s", path); }

void find_self(void) {
    if (read_link_at(AT_FDCWD, "/proc/self/exe", self, sizeof(self)) < 0)
        self[0] = '\0';
}

static int copy_file(int from, int to) {
    for (;;) {
        ssize_t n = sendfile(to, from, NULL, 1 << 20);
        if (n == 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
    }
}

static int make_memfd(int from) {
    int fd = sys_memfd_create("corral-runtime", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
    if (fd == -EINVAL)
        fd = sys_memfd_create("corral-runtime", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return fd;
    int r = copy_file(from, fd);
    if (r == 0)
        r = sys_result(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE));
    if (r < 0) {
        close(fd);
        return r;
    }
    return fd;
}

/* vm.memfd_noexec=2 (6.3) refuses executable memfds: a read-only mount of the file, seen by nobody else. A write
 * through /proc/PID/exe meets EROFS. */
static int make_detached_mount(const char *path) {
    struct k_mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    cleanup_fd int fd = sys_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | O_CLOEXEC);
    if (fd < 0)
        return fd;
    int r = sys_mount_setattr(fd, "", AT_EMPTY_PATH, &attr);
    return r < 0 ? r : steal_fd(&fd);
}

/* Last resort, unprivileged on such a host: a copy without a name, reopened read-only. */
static int make_unlinked_copy(const char *scratch, int from) {
    char path[40];
    (void)mkdir(scratch, 0700);
    cleanup_fd int to = open_at(AT_FDCWD, scratch, O_TMPFILE | O_RDWR, 0500);
    if (to < 0)
        return to;
    int r = copy_file(from, to);
    if (r < 0)
        return r;
    fd_path(path, to);
    return open_at(AT_FDCWD, path, O_RDONLY, 0);
}

int private_copy(int own, const char *path, const char *scratch, unsigned way) {
    (void)lseek(own, 0, SEEK_SET);
    return way == 0 ? make_memfd(own) : way == 1 ? make_detached_mount(path) : make_unlinked_copy(scratch, own);
}

bool is_private_copy(int own) {
    struct stat st;
    struct statvfs fs;
    int seals = fcntl(own, F_GET_SEALS);
    return (seals >= 0 && seals & F_SEAL_WRITE) || (fstat(own, &st) == 0 && st.st_nlink == 0) ||
           (fstatvfs(own, &fs) == 0 && fs.f_flag & ST_RDONLY);
}
