/* The root of the container: prepared, entered, and the way back closed. */
#include "mount.h"
#include "overlay.h"
#include "run.h"

#include <limits.h>
#include <string.h>

static uint64_t root_propagation; /* what ROOT_PROPAGATION set */

int step_root_propagation(struct context *c, const struct step *s) {
    root_propagation = s->arg[0].num;
    int r = sys_result(mount(NULL, "/", NULL, (unsigned long)s->arg[0].num, NULL));
    return r < 0 ? detail(c, r, "set the propagation of '/'") : 0;
}

/* pivot_root(2) refuses a new root whose parent mount is shared, and what we mount would reach the host. A slave is
 * enough: private would cut off volumes on that same mount from what the host mounts below them later. The mount that
 * holds the path is found by trying: EINVAL says "no mount point", so its parent directory is asked next. */
int unshare_holder(struct context *c, const char *path) {
    char at[PATH_MAX];
    if (strlen(path) >= sizeof(at) || path[0] != '/')
        return detail(c, -EINVAL, "the rootfs '%s' is not an absolute path", path);
    memcpy(at, path, strlen(path) + 1);
    for (;;) {
        int r = sys_result(mount(NULL, at, NULL, MS_SLAVE, NULL));
        if (r == 0)
            return 0;
        if (r != -EINVAL || strcmp(at, "/") == 0)
            return detail(c, r, "make the mount of '%s' a slave", path);
        char *slash = strrchr(at, '/');
        slash[slash == at] = '\0';
    }
}

int step_rootfs(struct context *c, const struct step *s) {
    const char *path = s->arg[0].ptr;
    cleanup_fd int place = open_at(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0);
    if (place < 0)
        return detail(c, place, "open the rootfs '%s'", path);
    if (s->arg[1].num & 1) {
        close_fd(&c->rootfd);
        c->rootfd = steal_fd(&place);
        return 0;
    }
    int r = unshare_holder(c, path);
    if (r < 0)
        return r;
    cleanup_fd int tree = sys_open_tree(place, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    if (tree < 0)
        return detail(c, tree, "copy the mount of '%s'", path);
    r = sys_move_mount(tree, "", place, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    if (r < 0)
        return detail(c, r, "mount the rootfs '%s' on itself", path);
    close_fd(&c->rootfd);
    c->rootfd = steal_fd(&tree);
    /* The root itself receives from the host only where the config says slave; shared is made so after PIVOT. */
    return root_propagation & MS_SLAVE ? 0 : mount_propagation(c, c->rootfd, MS_PRIVATE);
}

static int pivot(struct context *c) {
    cleanup_fd int old = open_at(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0);
    if (old < 0)
        return detail(c, old, "open '/'");
    if (fchdir(c->rootfd) < 0)
        return detail(c, -errno, "enter the rootfs");
    /* The old root ends up below the new one, at the same place, and is taken away by its descriptor: no directory
     * of the image is needed, so a read-only image works. */
    int r = sys_pivot_root(".", ".");
    if (r < 0)
        return detail(c, r, "pivot_root");
    if (fchdir(old) < 0)
        return detail(c, -errno, "enter the old root");
    /* Slave first: the unmount must not travel to the host, and busy mounts there must not stop it. */
    if ((r = sys_result(mount(NULL, ".", NULL, MS_SLAVE | MS_REC, NULL))) < 0)
        return detail(c, r, "make the old root a slave");
    if ((r = sys_result(umount2(".", MNT_DETACH))) < 0)
        return detail(c, r, "unmount the old root");
    return 0;
}

/* The 5th and 9th-or-so field of a line of mountinfo: mount point (unescaped in place) and type. */
static bool parse_mountinfo(char *line, char **point, const char **type) {
    char *at = line;
    for (int i = 0; i < 4; i++) {
        at = strchr(at, ' ');
        if (!at)
            return false;
        at++;
    }
    char *end = strchr(at, ' ');
    char *dash = end ? strstr(end, " - ") : NULL;
    if (!dash)
        return false;
    *end = '\0';
    *point = at;
    *type = dash + 3;
    char *to = at;
    for (char *from = at; *from; from++) {
        if (from[0] == '\\' && from[1] && from[2] && from[3]) {
            *to++ = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
            from += 3;
        } else
            *to++ = *from;
    }
    *to = '\0';
    return true;
}

/* One proc or sysfs of the host that would stay visible below the new root: unmounted, or else covered. */
static int hide_host_mount(struct context *c, const char *point) {
    int r = sys_result(mount(NULL, point, NULL, MS_SLAVE | MS_REC, NULL));
    if (r == -ENOENT || r == -EINVAL) /* hidden by another mount, or gone with one of the last ones */
        return 0;
    r = sys_result(umount2(point, MNT_DETACH));
    if (r == -EINVAL || r == -EPERM)
        r = sys_result(mount("tmpfs", point, "tmpfs", MS_RDONLY, "nr_inodes=1"));
    return r < 0 ? detail(c, r, "take away '%s' of the host", point) : 0;
}

static int hide_host_mounts(struct context *c, const char *rootfs) {
    static char text[1 << 20]; /* the table is read in one go, as it changes under our hands */
    cleanup_fd int fd = proc_open(c, "self/mountinfo", O_RDONLY);
    if (fd < 0)
        return fd;
    int n = read_all(fd, text, sizeof(text) - 1);
    if (n < 0)
        return detail(c, n, "read the mount table");
    if ((size_t)n == sizeof(text) - 1)
        return detail(c, -E2BIG, "read the mount table");
    text[n] = '\0';
    size_t len = strlen(rootfs);
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        char *point;
        const char *type;
        *end = '\0';
        if (!parse_mountinfo(line, &point, &type) || !(text_starts(type, "proc ") || text_starts(type, "sysfs ")))
            continue;
        if (strncmp(point, rootfs, len) == 0 && (point[len] == '/' || point[len] == '\0'))
            continue;
        int r = hide_host_mount(c, point);
        if (r < 0)
            return r;
    }
    return 0;
}

/* For a root on an initramfs, which cannot be pivoted away from. The host's tree stays below and is only out of
 * sight, so at least its proc and sysfs go, which would let a container mount its own without any restriction. */
static int move_root(struct context *c) {
    char path[PATH_MAX];
    char link[40];
    int proc = proc_fd(c);
    if (proc < 0)
        return proc;
    fmt(link, sizeof(link), "self/fd/%d", c->rootfd);
    int r = read_link_at(proc, link, path, sizeof(path));
    if (r < 0)
        return detail(c, r, "find the path of the rootfs");
    if ((r = hide_host_mounts(c, path)) < 0)
        return r;
    if (fchdir(c->rootfd) < 0)
        return detail(c, -errno, "enter the rootfs");
    if ((r = sys_result(mount(".", "/", NULL, MS_MOVE, NULL))) < 0)
        return detail(c, r, "move the rootfs to '/'");
    return 0;
}

int step_pivot(struct context *c, const struct step *s) {
    int r = c->rootfd < 0 ? detail(c, -EBADF, "there is no rootfs") : 0;
    if (r == 0 && s->arg[0].num == 0)
        r = pivot(c);
    else if (r == 0 && s->arg[0].num == 1)
        r = move_root(c);
    if (r < 0)
        return r;
    if (s->arg[0].num != 0) {
        if (fchdir(c->rootfd) < 0)
            return detail(c, -errno, "enter the rootfs");
        if (chroot(".") < 0)
            return detail(c, -errno, "chroot");
    }
    if (chdir("/") < 0)
        return detail(c, -errno, "enter '/'");
    int root = open_at(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0);
    if (root < 0)
        return detail(c, root, "open '/'");
    close_fd(&c->rootfd);
    c->rootfd = root;
    c->pivoted = true;
    return 0;
}

int step_readonly_root(struct context *c, const struct step *s) {
    (void)s;
    int root = target_root(c);
    if (root < 0)
        return root;
    int r = mount_make_readonly(c, root);
    return r < 0 ? detail(c, r, "make '/' read-only") : mount_check_readonly(c, root, "/");
}

int step_propagate_root(struct context *c, const struct step *s) {
    int root = target_root(c);
    return root < 0 ? root : mount_propagation(c, root, s->arg[0].num);
}
