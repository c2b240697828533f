/* System calls and descriptors. Knows nothing of containers. */
#include "sys.h"

#include <poll.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <time.h>

int sys_result(long value) { return value < 0 ? -errno : (int)value; }

int sys_openat2(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve) {
    struct k_open_how how = {.flags = flags | O_CLOEXEC, .mode = mode, .resolve = resolve};
    int fd;
    /* EAGAIN: a rename raced with the walk through "..", the lookup is to be tried again (fs/namei.c, 5.6). */
    for (int tries = 0; tries < 128; tries++) {
        fd = sys_result(syscall(SYS_openat2, dir, path, &how, sizeof(how)));
        if (fd != -EINTR && fd != -EAGAIN)
            break;
    }
    return fd;
}

int sys_open_tree(int dir, const char *path, unsigned flags) {
    return sys_result(syscall(SYS_open_tree, dir, path, flags));
}

int sys_move_mount(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    return sys_result(syscall(SYS_move_mount, from_dir, from, to_dir, to, flags));
}

int sys_fsopen(const char *fs, unsigned flags) { return sys_result(syscall(SYS_fsopen, fs, flags)); }

int sys_fsconfig(int fd, unsigned command, const char *key, const void *value, int aux) {
    return sys_result(syscall(SYS_fsconfig, fd, command, key, value, aux));
}

int sys_fsmount(int fd, unsigned flags, unsigned attr) { return sys_result(syscall(SYS_fsmount, fd, flags, attr)); }

int sys_mount_setattr(int dir, const char *path, unsigned flags, const struct k_mount_attr *attr) {
    return sys_result(syscall(SYS_mount_setattr, dir, path, flags, attr, sizeof(*attr)));
}

int sys_clone3(struct k_clone_args *args) { return sys_result(syscall(SYS_clone3, args, sizeof(*args))); }

int sys_pidfd_open(pid_t pid, unsigned flags) { return sys_result(syscall(SYS_pidfd_open, pid, flags)); }

int sys_pidfd_send_signal(int pidfd, int sig) {
    return sys_result(syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0));
}

int sys_close_range(unsigned first, unsigned last, unsigned flags) {
    return sys_result(syscall(SYS_close_range, first, last, flags));
}

int sys_faccessat2(int dir, const char *path, int mode, int flags) {
    return sys_result(syscall(SYS_faccessat2, dir, path, mode, flags));
}

int sys_sched_setattr(pid_t pid, const void *attr, unsigned flags) {
    return sys_result(syscall(SYS_sched_setattr, pid, attr, flags));
}

int sys_ioprio_set(int which, int who, int ioprio) { return sys_result(syscall(SYS_ioprio_set, which, who, ioprio)); }

int sys_set_mempolicy(int mode, const unsigned long *mask, unsigned long bits) {
    return sys_result(syscall(SYS_set_mempolicy, mode, mask, bits));
}

int sys_seccomp(unsigned op, unsigned flags, void *args) { return sys_result(syscall(SYS_seccomp, op, flags, args)); }

int sys_bpf(int command, void *attr, unsigned size) { return sys_result(syscall(SYS_bpf, command, attr, size)); }

int sys_pivot_root(const char *new_root, const char *put_old) {
    return sys_result(syscall(SYS_pivot_root, new_root, put_old));
}

int sys_keyctl(int command, unsigned long a, unsigned long b, unsigned long c, unsigned long d) {
    return sys_result(syscall(SYS_keyctl, command, a, b, c, d));
}

int sys_memfd_create(const char *name, unsigned flags) { return sys_result(syscall(SYS_memfd_create, name, flags)); }

int sys_setns(int fd, int flags) { return sys_result(syscall(SYS_setns, fd, flags)); }

int sys_setgroups(size_t n, const uint32_t *groups) { return sys_result(syscall(SYS_setgroups, n, groups)); }

int sys_setresuid(uid_t uid) { return sys_result(syscall(SYS_setresuid, uid, uid, uid)); }

int sys_setresgid(gid_t gid) { return sys_result(syscall(SYS_setresgid, gid, gid, gid)); }

pid_t sys_getpid(void) { return (pid_t)syscall(SYS_getpid); }

/* Raw, because fork(3) runs atfork handlers and takes locks of the libc, and the flags are ours to choose. The flags
 * come first on x86-64 and aarch64; only s390 swaps them. */
pid_t sys_fork(unsigned long flags) { return sys_result(syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0)); }

void close_fd(int *fd) {
    if (*fd >= 0)
        close(*fd); /* EINTR: Linux has closed it all the same */
    *fd = -1;
}

int open_at(int dir, const char *path, int flags, mode_t mode) {
    int fd;
    do
        fd = sys_result(openat(dir, path, flags | O_CLOEXEC, mode));
    while (fd == -EINTR);
    return fd;
}

int write_all(int fd, const void *bytes, size_t len) {
    const char *at = bytes;
    while (len > 0) {
        ssize_t n = write(fd, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

int write_once(int fd, const void *bytes, size_t len) {
    ssize_t n;
    do
        n = write(fd, bytes, len);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : (size_t)n == len ? 0 : -EIO;
}

int write_file_at(int dir, const char *path, int flags, const void *bytes, size_t len) {
    cleanup_fd int fd = open_at(dir, path, O_WRONLY | flags, 0600);
    return fd < 0 ? fd : write_once(fd, bytes, len);
}

int read_all(int fd, void *buf, size_t size) {
    size_t got = 0;
    while (got < size) {
        ssize_t n = read(fd, (char *)buf + got, size - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        got += (size_t)n;
    }
    return (int)got;
}

int read_file_at(int dir, const char *path, char *buf, size_t size) {
    cleanup_fd int fd = open_at(dir, path, O_RDONLY, 0);
    if (fd < 0)
        return fd;
    int n = read_all(fd, buf, size - 1);
    buf[n < 0 ? 0 : n] = '\0';
    return n;
}

int read_link_at(int dir, const char *path, char *buf, size_t size) {
    ssize_t n = readlinkat(dir, path, buf, size);
    if (n < 0)
        return -errno;
    if ((size_t)n >= size)
        return -ENAMETOOLONG;
    buf[n] = '\0';
    return (int)n;
}

int duplicate_fd(int fd, int lowest) { return sys_result(fcntl(fd, F_DUPFD_CLOEXEC, lowest)); }

int is_magic(int fd, unsigned long magic) {
    struct statfs fs;
    if (fstatfs(fd, &fs) < 0)
        return -errno;
    return (unsigned long)fs.f_type == magic;
}

void fd_path(char buf[40], int fd) { fmt(buf, 40, "/proc/self/fd/%d", fd); }

int64_t now_ms(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void sleep_ms(unsigned ms) {
    struct timespec ts = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
        ;
}

int wait_readable(int fd, int timeout_ms) {
    int64_t end = now_ms() + timeout_ms;
    for (;;) {
        struct pollfd pfd = {.fd = fd, .events = POLLIN};
        int left = timeout_ms < 0 ? -1 : (int)(end - now_ms());
        int n = poll(&pfd, 1, timeout_ms >= 0 && left < 0 ? 0 : left);
        if (n >= 0)
            return n > 0;
        if (errno != EINTR)
            return -errno;
    }
}

int wait_pid(pid_t pid, int *status) {
    int ignored;
    while (waitpid(pid, status ? status : &ignored, __WALL) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

/* The text of PID's stat after the command's name, which itself may hold blanks and brackets. */
static int read_stat(int proc, pid_t pid, char *buf, size_t size, const char **fields) {
    char path[40];
    fmt(path, sizeof(path), proc < 0 ? "/proc/%d/stat" : "%d/stat", pid);
    int n = read_file_at(proc < 0 ? AT_FDCWD : proc, path, buf, size);
    if (n < 0)
        return n == -ENOENT ? -ESRCH : n;
    const char *end = strrchr(buf, ')');
    if (!end || end[1] != ' ')
        return -EPROTO;
    *fields = end + 2; /* field 3: the state */
    return 0;
}

static int64_t stat_start_time(const char *fields) {
    uint64_t value = 0;
    for (int field = 3; field < 22; field++) {
        fields = strchr(fields, ' ');
        if (!fields)
            return -EPROTO;
        fields++;
    }
    while (*fields >= '0' && *fields <= '9')
        value = value * 10 + (uint64_t)(*fields++ - '0');
    return (int64_t)value;
}

int64_t process_start_time(int proc, pid_t pid) {
    char buf[1024];
    const char *fields;
    int r = read_stat(proc, pid, buf, sizeof(buf), &fields);
    return r < 0 ? r : stat_start_time(fields);
}

bool process_is_dead(int proc, pid_t pid, int64_t start) {
    char buf[1024];
    const char *fields;
    if (read_stat(proc, pid, buf, sizeof(buf), &fields) < 0)
        return true;
    return fields[0] == 'Z' || fields[0] == 'X' || stat_start_time(fields) != start;
}
