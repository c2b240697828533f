/* MKDIR, SYMLINK and MKNOD: entries made below the rootfs. */
#include "mount.h"

#include <limits.h>
#include <string.h>

int step_mkdir(struct context *c, const struct step *s) {
    const char *path = s->arg[0].ptr;
    cleanup_fd int fd = target_open(c, path, TARGET_CREATE, (mode_t)s->arg[1].num & 07777, NULL);
    if (fd < 0)
        return fd;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return detail(c, -errno, "stat '%s'", path);
    return S_ISDIR(st.st_mode) ? 0 : detail(c, -ENOTDIR, "'%s'", path);
}

#define LINK_EXISTS_IS_FINE 1u
#define LINK_REPLACES 2u

int step_symlink(struct context *c, const struct step *s) {
    const char *target = s->arg[0].ptr, *path = s->arg[1].ptr;
    char name[256], is[PATH_MAX];
    cleanup_fd int parent = target_parent(c, path, name);
    if (parent < 0)
        return parent;
    int r = sys_result(symlinkat(target, parent, name));
    if (r == -EEXIST && s->arg[2].num & LINK_EXISTS_IS_FINE)
        return 0;
    if (r == -EEXIST && read_link_at(parent, name, is, sizeof(is)) >= 0 && strcmp(is, target) == 0)
        return 0;
    if (r == -EEXIST && s->arg[2].num & LINK_REPLACES) {
        if ((r = sys_result(unlinkat(parent, name, 0))) == 0)
            r = sys_result(symlinkat(target, parent, name));
    }
    return r < 0 ? detail(c, r, "link '%s'", path) : 0;
}

static void restore_umask(mode_t *mask) { umask(*mask); }

static bool is_node(const struct stat *st, mode_t mode, dev_t dev) {
    return (st->st_mode & S_IFMT) == (mode & S_IFMT) && (S_ISFIFO(mode) || st->st_rdev == dev);
}

/* In a user namespace nobody may make devices: the host's own node of that name is mounted instead, if it is the one
 * that was asked for. */
static int bind_node(struct context *c, const char *path, mode_t mode, dev_t dev) {
    struct stat st;
    cleanup_fd int tree = sys_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (c->pivoted || tree < 0 || fstat(tree, &st) < 0 || !is_node(&st, mode, dev))
        return detail(c, -EPERM, "make the device '%s'", path);
    cleanup_fd int target = target_open(c, path, TARGET_CREATE | TARGET_FILE | TARGET_NO_FOLLOW, 0644, NULL);
    return target < 0 ? target : mount_attach(c, tree, target, path, TARGET_NO_FOLLOW);
}

int step_mknod(struct context *c, const struct step *s) {
    const char *path = s->arg[0].ptr;
    mode_t mode = (mode_t)s->arg[1].num;
    dev_t dev = (dev_t)s->arg[2].num;
    char name[256];
    cleanup_fd int parent = target_parent(c, path, name);
    if (parent < 0)
        return parent;
    mode_t mask __attribute__((cleanup(restore_umask))) = umask(0);
    (void)mask;
    int made = sys_result(mknodat(parent, name, mode, dev));
    if (made == -EPERM)
        return bind_node(c, path, mode, dev);
    if (made < 0 && made != -EEXIST)
        return detail(c, made, "make '%s'", path);
    /* What is there now is looked at before it is trusted or given away: made or found, it must be the very device. */
    cleanup_fd int fd = open_at(parent, name, O_PATH | O_NOFOLLOW, 0);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return detail(c, fd < 0 ? fd : -errno, "open '%s'", path);
    if (!is_node(&st, mode, dev))
        return detail(c, -EEXIST, "'%s' is there and is not this device", path);
    if (made == 0 && fchownat(fd, "", (uid_t)s->arg[3].num, (gid_t)s->arg[4].num, AT_EMPTY_PATH) < 0)
        return detail(c, -errno, "change the owner of '%s'", path);
    return 0;
}
