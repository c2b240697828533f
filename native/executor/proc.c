/* The one way to /proc: a private procfs where there is one, the mounted one after a check. */
#include <sys/stat.h>

#include "run.h"
#include "sys.h"

#define PROC_ROOT_INODE 1 /* include/linux/proc_fs.h; a bind of a subdirectory has another */

int proc_mounted = -1; /* kept open by the front alone; children close it at birth */

/* A path that an attacker may have arranged is only taken for /proc if it is the root of a procfs: CVE-2019-16884,
 * CVE-2025-52881. */
static int open_mounted_proc(struct context *c) {
    struct stat st;
    cleanup_fd int fd = open_at(AT_FDCWD, "/proc", O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
    if (fd < 0)
        return detail(c, fd, "open '/proc'");
    if (is_magic(fd, PROC_SUPER_MAGIC) != 1 || fstat(fd, &st) < 0 || st.st_ino != PROC_ROOT_INODE)
        return detail(c, -ENOENT, "/proc is no proc filesystem");
    return steal_fd(&fd);
}

int proc_fd(struct context *c) {
    if (c->private_proc >= 0)
        return c->private_proc;
    if (c->actor != ACTOR_FRONT)
        return c->private_proc = open_mounted_proc(c);
    if (proc_mounted < 0)
        proc_mounted = open_mounted_proc(c);
    return proc_mounted;
}

int proc_open(struct context *c, const char *path, int flags) {
    int proc = proc_fd(c);
    if (proc < 0)
        return proc;
    /* "self" and "thread-self" are plain links of procfs, not magic ones; everything magic is refused. */
    int fd = sys_openat2(proc, path, (uint64_t)(unsigned)flags, 0, RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_BENEATH);
    if (fd < 0)
        return detail(c, fd, "open '/proc/%s'", path);
    return fd;
}

int step_private_proc(struct context *c, const struct step *s) {
    (void)s;
    close_fd(&c->private_proc);
    cleanup_fd int fs = sys_fsopen("proc", FSOPEN_CLOEXEC);
    if (fs >= 0 && sys_fsconfig(fs, FSC_CMD_CREATE, NULL, NULL, 0) >= 0)
        c->private_proc =
            sys_fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    if (c->private_proc >= 0)
        return 0;
    /* Refused inside a user namespace whose /proc is partly covered (mount_too_revealing, 4.2), or with pid
     * namespaces that are not ours. */
    c->private_proc = -1;
    int fd = proc_fd(c);
    return fd < 0 ? fd : 0;
}
