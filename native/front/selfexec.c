/* Running from a sealed copy of ourselves: a container that gets at /proc/PID/exe of whoever enters it must find
 * nothing that it could overwrite (CVE-2019-5736). */
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "front/front.h"
#include "front/planner.h"

extern char **environ;

/* Marks the second start and carries the path of the first one's file. */
#define MARK "CORRAL_SELF"

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
static int make_detached_mount(void) {
    struct k_mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    cleanup_fd int fd = sys_open_tree(AT_FDCWD, self, OPEN_TREE_CLONE | O_CLOEXEC);
    if (fd < 0)
        return fd;
    int r = sys_mount_setattr(fd, "", AT_EMPTY_PATH, &attr);
    return r < 0 ? r : steal_fd(&fd);
}

/* Last resort, unprivileged on such a host: a copy without a name in the state root, reopened read-only. */
static int make_unlinked_copy(const char *root, int from) {
    char path[40];
    (void)mkdir(root, 0700);
    cleanup_fd int to = open_at(AT_FDCWD, root, O_TMPFILE | O_RDWR, 0500);
    if (to < 0)
        return to;
    int r = copy_file(from, to);
    if (r < 0)
        return r;
    fd_path(path, to);
    return open_at(AT_FDCWD, path, O_RDONLY, 0);
}

/* The mark is only an environment variable, which a caller may have inherited from anywhere; what counts is the file
 * that runs: sealed, without a name, or on a read-only mount. */
static bool is_copy(int own) {
    struct stat st;
    struct statvfs fs;
    int seals = fcntl(own, F_GET_SEALS);
    return (seals >= 0 && seals & F_SEAL_WRITE) || (fstat(own, &st) == 0 && st.st_nlink == 0) || (fstatvfs(own, &fs) == 0 && fs.f_flag & ST_RDONLY);
}

static void exec_copy(int fd, char **argv) {
    syscall(SYS_execveat, fd, "", argv, environ, AT_EMPTY_PATH);
    close(fd);
}

/* Returns 0 once this is the copy, and -errno, after log_error, if there is no way to become one. */
int become_copy(const struct invocation *inv) {
    static char mark[PATH_MAX + sizeof(MARK) + 1];
    char text[PATH_MAX + 128];
    cleanup_fd int own = open_at(AT_FDCWD, "/proc/self/exe", O_RDONLY, 0);
    if (own < 0) {
        fmt(text, sizeof(text), "open '/proc/self/exe': %s", error_text(own));
        log_error(text, "/proc is needed to run containers");
        return own;
    }
    if (getenv(MARK) && is_copy(own)) {
        fmt(self, sizeof(self), "%s", getenv(MARK));
        return unsetenv(MARK);
    }
    /* Planning goes on while this process copies itself. */
    if (planner_ask_early(inv) < 0)
        return -ECANCELED;
    fmt(mark, sizeof(mark), MARK "=%s", self);
    putenv(mark);
    int fd = make_memfd(own);
    if (fd >= 0)
        exec_copy(fd, inv->argv);
    fd = make_detached_mount();
    if (fd >= 0)
        exec_copy(fd, inv->argv);
    lseek(own, 0, SEEK_SET);
    fd = make_unlinked_copy(inv->root, own);
    if (fd >= 0)
        exec_copy(fd, inv->argv);
    int r = fd < 0 ? fd : -errno;
    fmt(text, sizeof(text), "make a private copy of '%s': %s", self, error_text(r));
    log_error(text, "a container could overwrite this program otherwise (CVE-2019-5736)");
    return r;
}

void find_self(void) {
    if (read_link_at(AT_FDCWD, "/proc/self/exe", self, sizeof(self)) < 0)
        self[0] = '\0';
}
