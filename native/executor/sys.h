/* System calls that musl has no wrapper for, small descriptors' helpers, a formatter and the errors' words.
 *
 * Convention of the whole program: a function returns >= 0, or a negative errno. Nothing here sets or reads errno for
 * its caller. Do not include <linux/mount.h> or <linux/fs.h> beside this file: they clash with <sys/mount.h>. */
#ifndef CORRAL_SYS_H
#define CORRAL_SYS_H

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* ---- numbers: from 424 on they are the same on every architecture ------------------------------------------ */
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_open_tree
#define SYS_open_tree 428
#endif
#ifndef SYS_move_mount
#define SYS_move_mount 429
#endif
#ifndef SYS_fsopen
#define SYS_fsopen 430
#define SYS_fsconfig 431
#define SYS_fsmount 432
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef SYS_statmount
#define SYS_statmount 457
#define SYS_listmount 458
#endif

/* ---- constants that a libc's headers may lack ------------------------------------------------------------- */
#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif
#ifndef AT_NO_AUTOMOUNT
#define AT_NO_AUTOMOUNT 0x800
#endif
#ifndef RESOLVE_NO_XDEV
#define RESOLVE_NO_XDEV 0x01
#define RESOLVE_NO_MAGICLINKS 0x02
#define RESOLVE_NO_SYMLINKS 0x04
#define RESOLVE_BENEATH 0x08
#define RESOLVE_IN_ROOT 0x10
#endif
#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif
#ifndef OPEN_TREE_CLOEXEC
#define OPEN_TREE_CLOEXEC O_CLOEXEC
#endif
#ifndef MOVE_MOUNT_F_EMPTY_PATH
#define MOVE_MOUNT_F_EMPTY_PATH 0x04
#define MOVE_MOUNT_T_EMPTY_PATH 0x40
#endif
#ifndef FSOPEN_CLOEXEC
#define FSOPEN_CLOEXEC 1
#endif
#ifndef FSMOUNT_CLOEXEC
#define FSMOUNT_CLOEXEC 1
#endif
#ifndef FSPICK_CLOEXEC
#define FSPICK_CLOEXEC 1
#endif
#define FSC_SET_FLAG 0 /* FSCONFIG_*: an enum in some headers, absent in others */
#define FSC_SET_STRING 1
#define FSC_SET_FD 5
#define FSC_CMD_CREATE 6
#define FSC_CMD_RECONFIGURE 7
#ifndef MOUNT_ATTR_RDONLY
#define MOUNT_ATTR_RDONLY 0x01
#define MOUNT_ATTR_NOSUID 0x02
#define MOUNT_ATTR_NODEV 0x04
#define MOUNT_ATTR_NOEXEC 0x08
#define MOUNT_ATTR__ATIME 0x70
#define MOUNT_ATTR_RELATIME 0x00
#define MOUNT_ATTR_NOATIME 0x10
#define MOUNT_ATTR_STRICTATIME 0x20
#define MOUNT_ATTR_NODIRATIME 0x80
#endif
#ifndef MOUNT_ATTR_IDMAP
#define MOUNT_ATTR_IDMAP 0x00100000
#endif
#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif
#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
#ifndef CLONE_NEWCGROUP
#define CLONE_NEWCGROUP 0x02000000
#endif
#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif
#define CLONE_INTO_CGROUP_FLAG 0x200000000ull /* clone3, 5.7 (ef2c41cf38a7) */
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC 4
#endif
#ifndef MFD_CLOEXEC
#define MFD_CLOEXEC 1
#define MFD_ALLOW_SEALING 2
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8
#endif
#ifndef MFD_EXEC
#define MFD_EXEC 0x10 /* 6.3 (105ff5339f49); EINVAL before, where every memfd is executable */
#endif
#ifndef PROC_SUPER_MAGIC
#define PROC_SUPER_MAGIC 0x9fa0
#endif
#ifndef SYSFS_MAGIC
#define SYSFS_MAGIC 0x62656572
#endif
#ifndef CGROUP_SUPER_MAGIC
#define CGROUP_SUPER_MAGIC 0x27e0eb
#endif
#ifndef CGROUP2_SUPER_MAGIC
#define CGROUP2_SUPER_MAGIC 0x63677270
#endif
#ifndef TMPFS_MAGIC
#define TMPFS_MAGIC 0x01021994
#endif
#ifndef DEVPTS_SUPER_MAGIC
#define DEVPTS_SUPER_MAGIC 0x1cd1
#endif

/* ---- structures of the system calls, under names of our own so that no libc's clash ----------------------- */
struct k_open_how {
    uint64_t flags, mode, resolve;
};

struct k_mount_attr {
    uint64_t attr_set, attr_clr, propagation, userns_fd;
};

struct k_clone_args {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

/* ---- system calls ----------------------------------------------------------------------------------------- */
int sys_result(long value); /* what syscall(2) returned -> the value or -errno */

int sys_openat2(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve); /* + O_CLOEXEC, EINTR, EAGAIN */
int sys_open_tree(int dir, const char *path, unsigned flags);
int sys_move_mount(int from_dir, const char *from, int to_dir, const char *to, unsigned flags);
int sys_fsopen(const char *fs, unsigned flags);
int sys_fsconfig(int fd, unsigned command, const char *key, const void *value, int aux);
int sys_fsmount(int fd, unsigned flags, unsigned attr);
int sys_mount_setattr(int dir, const char *path, unsigned flags, const struct k_mount_attr *attr);
int sys_clone3(struct k_clone_args *args);
int sys_pidfd_open(pid_t pid, unsigned flags);
int sys_pidfd_send_signal(int pidfd, int sig);
int sys_close_range(unsigned first, unsigned last, unsigned flags);
int sys_faccessat2(int dir, const char *path, int mode, int flags);
int sys_sched_setattr(pid_t pid, const void *attr, unsigned flags);
int sys_ioprio_set(int which, int who, int ioprio);
int sys_set_mempolicy(int mode, const unsigned long *mask, unsigned long bits);
int sys_seccomp(unsigned op, unsigned flags, void *args);
int sys_bpf(int command, void *attr, unsigned size);
int sys_pivot_root(const char *new_root, const char *put_old);
int sys_keyctl(int command, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
int sys_memfd_create(const char *name, unsigned flags);
int sys_setns(int fd, int flags);
int sys_setgroups(size_t n, const uint32_t *groups); /* this thread only, as all identity calls here */
int sys_setresuid(uid_t uid);                        /* real, effective and saved */
int sys_setresgid(gid_t gid);
pid_t sys_getpid(void);
pid_t sys_fork(unsigned long flags); /* raw clone(flags | SIGCHLD) without a new stack; no libc handlers run */

/* ---- descriptors ------------------------------------------------------------------------------------------ */
void close_fd(int *fd); /* closes what is there and stores -1 */
#define cleanup_fd __attribute__((cleanup(close_fd)))
static inline int steal_fd(int *fd) {
    int value = *fd;
    *fd = -1;
    return value;
}

int open_at(int dir, const char *path, int flags, mode_t mode); /* openat + O_CLOEXEC; EINTR handled */
int write_all(int fd, const void *bytes, size_t len);           /* all of it, or -errno */
int write_once(int fd, const void *bytes, size_t len);          /* one write(2): kernel files; short write = -EIO */
int write_file_at(int dir, const char *path, int flags, const void *bytes, size_t len);
/* Reads at most size-1 bytes and ends them with NUL. Returns the count, or -errno. */
int read_file_at(int dir, const char *path, char *buf, size_t size);
int read_all(int fd, void *buf, size_t size); /* until EOF or full; the count or -errno */
int read_link_at(int dir, const char *path, char *buf, size_t size);
int duplicate_fd(int fd, int lowest); /* F_DUPFD_CLOEXEC */
int is_magic(int fd, unsigned long magic); /* 1 if fstatfs(fd).f_type is magic, 0 if not, or -errno */
void fd_path(char buf[40], int fd); /* "/proc/self/fd/N" */

/* ---- time, in milliseconds of CLOCK_MONOTONIC -------------------------------------------------------------- */
int64_t now_ms(void);
void sleep_ms(unsigned ms);
int wait_readable(int fd, int timeout_ms); /* 1 readable or hung up, 0 timeout, or -errno; -1 = no limit */

/* ---- processes -------------------------------------------------------------------------------------------- */
int wait_pid(pid_t pid, int *status);                     /* 0 or -errno; EINTR handled */
int64_t process_start_time(int proc, pid_t pid);          /* field 22 of PROC/PID/stat in clock ticks; proc: fd of a
                                                             procfs or -1 = the mounted /proc; or -errno */
bool process_is_dead(int proc, pid_t pid, int64_t start); /* gone, another, or a zombie */

/* ---- text ------------------------------------------------------------------------------------------------- */
/* snprintf without stdio: %s %c %d %i %u %x %o %p %% with l, ll, z, a width with 0, %.*s and %.5s. Returns the length
 * stored (the text is cut at size-1, always NUL-ended). */
size_t fmt(char *buf, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
size_t fmt_list(char *buf, size_t size, const char *format, va_list args);
void say(int fd, const char *format, ...) __attribute__((format(printf, 2, 3))); /* at most 4 KiB; errors ignored */
const char *error_text(int err);                      /* positive or negative errno -> "no such file or directory" */
bool parse_u64(const char *text, uint64_t *ret);      /* decimal digits only, all of them, no overflow */
bool parse_int(const char *text, int low, int high, int *ret);
bool text_starts(const char *text, const char *prefix);

#endif
