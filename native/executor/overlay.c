/* OVERLAY and ROOTFS_TREE: a root of layers, made as a mount that nobody but the container ever sees. */
#include "overlay.h"

#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statfs.h>

#include "mount.h"
#include "run.h"

#define VALUE_MAX 255      /* fsconfig(2) takes no longer string */
#define LOCK_MS   5000

/* ---- the mount, by the new mount API ------------------------------------------------------------------------- */

/* What the file system says about a refusal ("overlay: ..."), into `said`. */
static void read_reason(int fs, char *said, size_t size) {
    ssize_t n = read(fs, said, size - 1);
    said[n > 0 ? n : 0] = '\0';
    said[strcspn(said, "\n")] = '\0';
    if (text_starts(said, "e ") || text_starts(said, "w "))
        memmove(said, said + 2, strlen(said + 2) + 1);
}

static int set(int fs, const char *key, const char *value) {
    return sys_fsconfig(fs, FSC_SET_STRING, key, value, 0);
}

/* One directory of the stack: by its path, which shows in the mount table, or by a descriptor if that is too long. */
static int set_directory(struct context *c, int fs, const char *key, const char *path) {
    if (strlen(path) <= VALUE_MAX)
        return set(fs, key, path);
    cleanup_fd int fd = open_at(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0);
    char by_fd[40];
    if (fd < 0)
        return detail(c, fd, "open '%s'", path);
    fd_path(by_fd, fd);
    return set(fs, key, by_fd);
}

/* A copy of the layer's mount with the ids of `userns`, if that is >= 0; owned by the caller. */
static int open_layer(struct context *c, const char *path, int userns) {
    cleanup_fd int tree = sys_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (tree < 0)
        return detail(c, tree, "open the layer '%s'", path);
    if (userns < 0)
        return steal_fd(&tree);
    struct k_mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)userns};
    int r = sys_mount_setattr(tree, "", AT_EMPTY_PATH, &attr);
    if (r == -EINVAL || r == -ENOSYS)
        return detail(c, -EOPNOTSUPP, "map the ids of '%s': its file system or this kernel has no idmapped mounts", path);
    return r < 0 ? detail(c, r, "map the ids of '%s'", path) : steal_fd(&tree);
}

/* Trees of mapped layers: each is dissolved with its descriptor, and so must outlive the making of the stack. */
static int mapped[STACK_MAX];
static int n_mapped;

static void close_mapped(void) {
    while (n_mapped > 0)
        close_fd(&mapped[--n_mapped]);
}

static int set_layers(struct context *c, const struct stack *stack, int fs) {
    const char *path = NULL;
    while ((path = vec_next(stack->lower, path)) != NULL) {
        int r;
        if (stack->userns >= 0) {
            int tree = n_mapped == STACK_MAX ? detail(c, -E2BIG, "more than %d layers", STACK_MAX)
                                             : open_layer(c, path, stack->userns);
            if (tree < 0)
                return tree;
            mapped[n_mapped++] = tree;
            r = sys_fsconfig(fs, FSC_SET_FD, "lowerdir+", NULL, tree); /* 6.13 (a08557d19ef4) */
        } else
            r = set_directory(c, fs, "lowerdir+", path); /* 6.7 (24e16e385f22) */
        if (r < 0)
            return c->detail[0] ? r : detail(c, r, "add the layer '%s'", path);
    }
    return 0;
}

/* index and xino would tie the stack to inode numbers, metacopy and redirects let an image's attributes lead to files
 * of other layers. */
static const char *const settings[][2] = {
    {"index", "off"}, {"xino", "off"}, {"metacopy", "off"}, {"redirect_dir", "nofollow"}};
#define SETTINGS (sizeof(settings) / sizeof(settings[0]))

static int set_options(struct context *c, const struct stack *stack, int fs) {
    int r = 0;
    for (size_t i = 0; i < SETTINGS && r == 0; i++)
        /* In a user namespace the last two are off, and not ours to name (ovl_fs_params_verify). */
        if (!(stack->flags & STACK_USER_XATTR && i >= 2))
            r = set(fs, settings[i][0], settings[i][1]);
    if (r == 0 && stack->flags & STACK_USER_XATTR)
        r = sys_fsconfig(fs, FSC_SET_FLAG, "userxattr", NULL, 0);
    if (r == 0 && stack->flags & STACK_VOLATILE)
        r = sys_fsconfig(fs, FSC_SET_FLAG, "volatile", NULL, 0);
    if (r == 0 && stack->label[0])
        r = set(fs, "context", stack->label);
    return r < 0 ? detail(c, r, "set the overlay's options") : 0;
}

static int set_writable(struct context *c, const struct stack *stack, int fs) {
    char path[PATH_MAX];
    for (int i = 0; i < 2; i++) {
        if (fmt(path, sizeof(path), "%s/%s", stack->writable, i ? "work" : "upper") == sizeof(path) - 1)
            return detail(c, -ENAMETOOLONG, "open '%s'", stack->writable);
        int r = set_directory(c, fs, i ? "workdir" : "upperdir", path);
        if (r < 0)
            return c->detail[0] ? r : detail(c, r, "use '%s'", path);
    }
    return 0;
}

/* A detached mount of the stack, or -errno with a detail. */
static int make_by_fsopen(struct context *c, const struct stack *stack) {
    char reason[200];
    cleanup_fd int fs = sys_fsopen("overlay", FSOPEN_CLOEXEC);
    if (fs < 0)
        return detail(c, fs, "open an overlay");
    int r = set(fs, "source", "overlay");
    if (r == 0)
        r = set_layers(c, stack, fs);
    if (r == 0)
        r = set_options(c, stack, fs);
    if (r == 0 && stack->writable[0])
        r = set_writable(c, stack, fs);
    if (r < 0)
        return r;
    r = sys_fsconfig(fs, FSC_CMD_CREATE, NULL, NULL, 0);
    if (r < 0) {
        read_reason(fs, reason, sizeof(reason));
        return detail(c, r, "put the layers together%s%s", reason[0] ? ": " : "", reason);
    }
    r = sys_fsmount(fs, FSMOUNT_CLOEXEC, stack->writable[0] ? 0 : MOUNT_ATTR_RDONLY);
    return r < 0 ? detail(c, r, "mount the layers") : r;
}

/* ---- who else uses the writable directory --------------------------------------------------------------------- */

/* Whether a live overlay writes to `upper` now. The kernel knows (I_OVL_INUSE of the inode), and tells whoever mounts
 * that directory as a lower layer with index=on; otherwise it only logs a second use (ovl_report_in_use). So a stack
 * of throwaway directories is asked. 1 = in use, 0 = free or no answer, -errno with a detail. */
static int is_in_use(struct context *c, const struct stack *stack, int writable) {
    if (faccessat(writable, "work/work", F_OK, AT_SYMLINK_NOFOLLOW) < 0)
        return 0; /* never mounted yet: the first mount makes it */
    char path[PATH_MAX];
    if ((mkdirat(writable, "probe", 0700) < 0 && errno != EEXIST) ||
        (mkdirat(writable, "probe/upper", 0700) < 0 && errno != EEXIST) ||
        (mkdirat(writable, "probe/work", 0700) < 0 && errno != EEXIST))
        return detail(c, -errno, "make a directory in '%s'", stack->writable);
    int in_use = 0;
    cleanup_fd int fs = sys_fsopen("overlay", FSOPEN_CLOEXEC);
    fmt(path, sizeof(path), "%s/upper", stack->writable);
    int r = fs < 0 ? fs : set_directory(c, fs, "lowerdir", path);
    fmt(path, sizeof(path), "%s/probe/upper", stack->writable);
    r = r < 0 ? r : set_directory(c, fs, "upperdir", path);
    fmt(path, sizeof(path), "%s/probe/work", stack->writable);
    r = r < 0 ? r : set_directory(c, fs, "workdir", path);
    r = r < 0 ? r : set(fs, "index", "on");
    if (r == 0 && stack->flags & STACK_USER_XATTR)
        r = sys_fsconfig(fs, FSC_SET_FLAG, "userxattr", NULL, 0);
    if (r == 0)
        in_use = sys_fsconfig(fs, FSC_CMD_CREATE, NULL, NULL, 0) == -EBUSY;
    close_fd(&fs); /* the superblock is gone with it, so that its directories can be removed */
    c->detail[0] = '\0';
    static const char *const parts[] = {"probe/work/work", "probe/work/index", "probe/work", "probe/upper", "probe"};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        (void)unlinkat(writable, parts[i], AT_REMOVEDIR);
    return in_use;
}

/* Opens and locks the writable directory: two starts at once must not both find it free. The lock ends with the
 * descriptor, after the mount is made: from then on the kernel itself is the witness. */
static int lock_writable(struct context *c, const struct stack *stack) {
    cleanup_fd int fd = open_at(AT_FDCWD, stack->writable, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return detail(c, fd, "open '%s'", stack->writable);
    int64_t end = now_ms() + LOCK_MS;
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK)
            return detail(c, -errno, "lock '%s'", stack->writable);
        if (now_ms() > end)
            return detail(c, -EBUSY, "'%s' is being mounted by another process", stack->writable);
        sleep_ms(2);
    }
    /* Who was killed at it takes a moment to go, and its mount with it. */
    int r;
    while ((r = is_in_use(c, stack, fd)) > 0 && now_ms() < end)
        sleep_ms(20);
    if (r > 0)
        return detail(c, -EBUSY, "'%s/upper' is mounted by a process that still lives", stack->writable);
    return r < 0 ? r : steal_fd(&fd);
}

/* ---- the steps --------------------------------------------------------------------------------------------------- */

/* A stack that cannot be written to becomes read-only without a word when the kernel dislikes its work directory. */
static int check_writable(struct context *c, int tree, const char *writable) {
    struct statfs fs;
    if (fstatfs(tree, &fs) < 0)
        return detail(c, -errno, "look at the overlay");
    if (writable[0] && fs.f_flags & 1 /* ST_RDONLY */)
        return detail(c, -EROFS, "the overlay on '%s/upper' came out read-only", writable);
    return 0;
}

/* An overlay needs two directories; one that is never written to is mounted as it is. */
static int make_plain(struct context *c, const struct stack *stack) {
    const char *path = vec_next(stack->lower, NULL);
    cleanup_fd int tree = open_layer(c, path, stack->userns);
    if (tree < 0)
        return tree;
    struct k_mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    int r = sys_mount_setattr(tree, "", AT_EMPTY_PATH, &attr);
    return r < 0 ? detail(c, r, "make '%s' read-only", path) : steal_fd(&tree);
}

static int make_stack(struct context *c, const struct stack *stack) {
    if (!stack->writable[0] && vec_count(stack->lower) == 1)
        return make_plain(c, stack);
    int tree = make_by_fsopen(c, stack);
    close_mapped();
    if (tree != -EINVAL && tree != -ENOSYS && tree != -EBADF && tree != -EOPNOTSUPP)
        return tree;
    /* Perhaps only a kernel that takes no layers one by one, or none by descriptor (EOPNOTSUPP on 6.1). */
    c->detail[0] = '\0';
    return make_in_private_namespace(c, stack);
}

int step_overlay(struct context *c, const struct step *s) {
    struct stack stack = {&s->arg[1], s->arg[2].ptr, s->arg[3].ptr, (unsigned)s->arg[4].num, -1};
    cleanup_fd int userns = -1, lock = -1, tree = -1;
    if (!vec_next(stack.lower, NULL))
        return detail(c, -EINVAL, "no layers");
    if (stack.flags & STACK_MAPPED) {
        if ((userns = open_init_userns(c)) < 0)
            return userns;
        stack.userns = userns;
    }
    if (stack.writable[0] && (lock = lock_writable(c, &stack)) < 0)
        return lock;
    if ((tree = make_stack(c, &stack)) < 0)
        return tree;
    int r = check_writable(c, tree, stack.writable);
    return r < 0 ? r : slot_put(c, s->arg[0].num, steal_fd(&tree));
}

int step_rootfs_tree(struct context *c, const struct step *s) {
    const char *path = s->arg[0].ptr;
    int tree = slot_get(c, s->arg[1].num);
    if (tree < 0)
        return tree;
    cleanup_fd int place = open_at(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0);
    /* The path is for hooks that look there. Where root of a user namespace cannot reach it (the engine's directories
     * are closed), any place will do, as the root is known by its descriptor: "/" is reached by all. */
    if (place == -EACCES && (place = open_at(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0)) >= 0)
        path = "/";
    if (place < 0)
        return detail(c, place, "open the rootfs '%s'", path);
    int r = unshare_holder(c, path);
    if (r < 0)
        return r;
    r = sys_move_mount(tree, "", place, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    if (r < 0)
        return detail(c, r, "mount the root on '%s'", path);
    close_fd(&c->rootfd);
    c->rootfd = steal_fd(&c->slot[s->arg[1].num]);
    return mount_propagation(c, c->rootfd, MS_PRIVATE);
}
