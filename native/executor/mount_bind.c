/* OPEN_TREE, BIND, ATTACH_TREE, REMOUNT, READONLY, MASK and DETACH: mounts of what exists already. */
#include "mount.h"
#include "run.h"

#include <string.h>
#include <sys/sysmacros.h>

static unsigned clone_flags(bool recursive) {
    return OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0);
}

int step_open_tree(struct context *c, const struct step *s) {
    const char *source = s->arg[1].ptr;
    int tree = sys_open_tree(AT_FDCWD, source, clone_flags(s->arg[2].num & 1));
    if (tree < 0)
        return detail(c, tree, "open '%s'", source);
    return slot_put(c, s->arg[0].num, tree);
}

/* A detached copy of the source's mount, owned by the caller. */
static int open_source(struct context *c, const char *source, const struct mount_wish *wish) {
    bool recursive = wish->ms & MS_REC;
    if (!(wish->options & OPT_SOURCE_IN_ROOT)) {
        int tree = sys_open_tree(AT_FDCWD, source, clone_flags(recursive));
        if (tree == -ENOENT && wish->options & OPT_MISSING_OK)
            return tree;
        return tree < 0 ? detail(c, tree, "open '%s'", source) : tree;
    }
    cleanup_fd int fd = target_open(c, source, 0, 0, NULL);
    if (fd < 0)
        return fd == -ENOENT && wish->options & OPT_MISSING_OK ? fd : detail(c, fd, "open '%s' in the rootfs", source);
    int tree = sys_open_tree(fd, "", AT_EMPTY_PATH | clone_flags(recursive));
    return tree < 0 ? detail(c, tree, "copy the mount of '%s'", source) : tree;
}

/* Finds or makes a target of the tree's own kind and puts the tree there. */
static int place(struct context *c, int tree, const char *path, const struct mount_wish *wish) {
    struct stat st;
    if (fstat(tree, &st) < 0)
        return detail(c, -errno, "stat the source");
    bool directory = S_ISDIR(st.st_mode);
    unsigned lookup = target_flags(wish->options & ~OPT_FILE) | (directory ? 0 : TARGET_FILE);
    cleanup_fd int target = target_open(c, path, lookup, directory ? 0755 : 0644, NULL);
    if (wish->options & OPT_ORDINARY && (target == -ELOOP || target == -ENOTDIR))
        return detail(c, -ENOTDIR, "'%s' must be mounted on an ordinary directory", path);
    if (target < 0)
        return c->detail[0] ? target : detail(c, target, "open '%s' in the rootfs", path);
    int r = is_magic(tree, PROC_SUPER_MAGIC) > 0 ? 0 : mount_refuse_inside_proc(c, target, path);
    return r < 0 ? r : mount_place(c, tree, target, path, lookup, wish);
}

int step_bind(struct context *c, const struct step *s) {
    struct mount_wish wish = {s->arg[2].num, s->arg[3].num, s->arg[4].num, s->arg[5].num, (unsigned)s->arg[6].num,
                              s->arg[6].num >> OPT_CLEARED_SHIFT, false};
    int64_t slot = (int64_t)s->arg[7].num;
    /* A tree that the front opened comes from a namespace above ours, but detached as it is the kernel does not lock
     * its flags: what it would have refused, had we opened the source here, is ours to leave alone. */
    wish.keep = slot >= 0;
    if (slot >= 0) {
        int tree = slot_get(c, (uint64_t)slot);
        if (tree < 0)
            return tree;
        int r = place(c, tree, s->arg[1].ptr, &wish);
        close_fd(&c->slot[slot]);
        return r;
    }
    cleanup_fd int tree = open_source(c, s->arg[0].ptr, &wish);
    if (tree == -ENOENT && wish.options & OPT_MISSING_OK)
        return 0;
    return tree < 0 ? tree : place(c, tree, s->arg[1].ptr, &wish);
}

int step_attach_tree(struct context *c, const struct step *s) {
    struct mount_wish wish = {0, s->arg[2].num, s->arg[3].num, s->arg[4].num, (unsigned)s->arg[5].num,
                              s->arg[5].num >> OPT_CLEARED_SHIFT, true};
    int tree = slot_get(c, s->arg[0].num);
    if (tree < 0)
        return tree;
    int r = place(c, tree, s->arg[1].ptr, &wish);
    close_fd(&c->slot[s->arg[0].num]);
    return r;
}

int step_remount(struct context *c, const struct step *s) {
    const char *path = s->arg[0].ptr;
    uint64_t ms = s->arg[1].num;
    cleanup_fd int fd = target_open(c, path, 0, 0, NULL);
    if (fd < 0)
        return c->detail[0] ? fd : detail(c, fd, "open '%s'", path);
    int r;
    if (ms & MS_BIND) {
        r = mount_set_flags(c, fd, ms, 0, false);
        if (r == -ENOSYS)
            r = mount_set_flags_old(c, fd, ms, 0, false);
    } else {
        char by_fd[48];
        if ((r = mount_path(c, fd, by_fd)) < 0)
            return r;
        r = sys_result(mount(NULL, by_fd, NULL, (unsigned long)ms | MS_REMOUNT, s->arg[2].ptr));
        mount_path_done(c);
    }
    return r == 0 && ms & MS_RDONLY ? mount_check_readonly(c, fd, path) : r;
}

static bool is_missing(int err) { return err == -ENOENT || err == -ENOTDIR; }

int step_readonly(struct context *c, const struct step *s) {
    const char *path = s->arg[0].ptr;
    cleanup_fd int target = target_open(c, path, 0, 0, NULL);
    if (target < 0)
        return is_missing(target) ? 0 : target;
    /* The mounts below come along, as a bind of the path alone would uncover what they hide. */
    cleanup_fd int tree = sys_open_tree(target, "", AT_EMPTY_PATH | clone_flags(true));
    if (tree < 0)
        return detail(c, tree, "copy the mount of '%s'", path);
    int r = mount_make_readonly(c, tree);
    bool old_kernel = r == -ENOSYS || r == -EINVAL;
    if (r < 0 && !old_kernel)
        return detail(c, r, "make '%s' read-only", path);
    if ((r = mount_attach(c, tree, target, path, 0)) < 0)
        return r;
    if (old_kernel && (r = mount_make_readonly(c, tree)) < 0)
        return detail(c, r, "make '%s' read-only", path);
    return mount_check_readonly(c, tree, path);
}

/* The container's /dev/null, proven to be it: the image or a racing process may have put something else there, which
 * would then lie writable over every masked file (CVE-2025-31133). Opened once; the descriptor pins the device. */
static int open_null(struct context *c) {
    static int null = -1;
    if (null >= 0)
        return null;
    cleanup_fd int fd = target_open(c, "/dev/null", TARGET_NO_SYMLINKS, 0, NULL);
    if (fd < 0)
        return c->detail[0] ? fd : detail(c, fd, "open '/dev/null' in the container");
    struct stat st;
    if (fstat(fd, &st) < 0)
        return detail(c, -errno, "stat '/dev/null'");
    if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
        return detail(c, -EPERM, "'/dev/null' in the container is not the null device");
    null = steal_fd(&fd);
    return null;
}

/* One empty tmpfs lies over all masked directories. */
static int open_empty(struct context *c, int *ret) {
    static int empty = -1; /* a mount of it that is attached already: only such can be copied before 6.15 */
    if (empty >= 0) {
        int tree = sys_open_tree(empty, "", AT_EMPTY_PATH | clone_flags(false));
        if (tree >= 0) {
            *ret = tree;
            return 0;
        }
    }
    cleanup_fd int fs = sys_fsopen("tmpfs", FSOPEN_CLOEXEC);
    int r = fs < 0 ? fs : sys_fsconfig(fs, FSC_SET_STRING, "source", "tmpfs", 0);
    if (r >= 0)
        r = sys_fsconfig(fs, FSC_SET_FLAG, "ro", NULL, 0);
    if (r >= 0)
        r = sys_fsconfig(fs, FSC_SET_STRING, "mode", "0755", 0);
    if (r >= 0)
        r = sys_fsconfig(fs, FSC_SET_STRING, "nr_inodes", "1", 0);
    if (r >= 0)
        r = sys_fsconfig(fs, FSC_CMD_CREATE, NULL, NULL, 0);
    if (r >= 0)
        r = sys_fsmount(fs, FSMOUNT_CLOEXEC,
                        MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    if (r < 0)
        return detail(c, r, "make an empty file system");
    *ret = r;
    close_fd(&empty);
    empty = duplicate_fd(r, 3);
    return 0;
}

int step_mask(struct context *c, const struct step *s) {
    const char *path = s->arg[0].ptr;
    cleanup_fd int target = target_open(c, path, 0, 0, NULL), tree = -1;
    if (target < 0)
        return is_missing(target) ? 0 : target;
    struct stat st;
    if (fstat(target, &st) < 0)
        return detail(c, -errno, "stat '%s'", path);
    int r;
    if (S_ISDIR(st.st_mode)) {
        if ((r = open_empty(c, &tree)) < 0)
            return r;
    } else {
        int null = open_null(c);
        if (null < 0)
            return null;
        tree = sys_open_tree(null, "", AT_EMPTY_PATH | clone_flags(false));
        if (tree < 0)
            return detail(c, tree, "copy the mount of '/dev/null'");
    }
    return mount_attach(c, tree, target, path, 0);
}

int step_detach(struct context *c, const struct step *s) {
    const char *path = s->arg[0].ptr;
    char by_fd[48];
    cleanup_fd int target = target_open(c, path, 0, 0, NULL);
    if (target < 0)
        return c->detail[0] ? target : detail(c, target, "open '%s'", path);
    int r = mount_path(c, target, by_fd);
    if (r < 0)
        return r;
    r = sys_result(umount2(by_fd, MNT_DETACH));
    mount_path_done(c);
    return r;
}
