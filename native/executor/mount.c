/* Mounts on descriptors: flags, attachment and read-back. Where a mount goes is target.c's business. */
#include "mount.h"

#include <string.h>
#include <sys/statfs.h>

#define K_STATX_MNT_ID 0x1000u /* 5.8 (fa2fcf4f1df1) */

/* The part of struct statx that no libc of this age knows. */
struct k_statx {
    uint32_t mask, before[35];
    uint64_t mnt_id, after[13];
};
_Static_assert(__builtin_offsetof(struct k_statx, mnt_id) == 0x90, "struct statx");
_Static_assert(sizeof(struct k_statx) == 0x100, "struct statx");

static int mount_id(int fd, uint64_t *ret) {
    struct k_statx st = {0};
    int r = sys_result(syscall(SYS_statx, fd, "", AT_EMPTY_PATH, K_STATX_MNT_ID, &st));
    if (r < 0)
        return r;
    *ret = st.mnt_id;
    return st.mask & K_STATX_MNT_ID ? 0 : -EOPNOTSUPP;
}

unsigned target_flags(unsigned options) {
    unsigned flags = options & OPT_NO_CREATE ? 0 : TARGET_CREATE;
    if (options & OPT_FILE)
        flags |= TARGET_FILE;
    if (options & OPT_NO_FOLLOW)
        flags |= TARGET_NO_FOLLOW;
    if (options & OPT_ORDINARY)
        flags |= TARGET_NO_SYMLINKS;
    return flags;
}

uint64_t mount_attributes(uint64_t ms) {
    static const struct {
        unsigned long ms;
        unsigned attr;
    } table[] = {
        {MS_RDONLY, MOUNT_ATTR_RDONLY},         {MS_NOSUID, MOUNT_ATTR_NOSUID},
        {MS_NODEV, MOUNT_ATTR_NODEV},           {MS_NOEXEC, MOUNT_ATTR_NOEXEC},
        {MS_NODIRATIME, MOUNT_ATTR_NODIRATIME}, {MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW},
    };
    uint64_t attr = 0;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (ms & table[i].ms)
            attr |= table[i].attr;
    if (ms & MS_STRICTATIME)
        attr |= MOUNT_ATTR_STRICTATIME;
    else if (ms & MS_NOATIME)
        attr |= MOUNT_ATTR_NOATIME;
    return attr;
}

static bool asks_atime(uint64_t ms) { return ms & (MS_NOATIME | MS_RELATIME | MS_STRICTATIME | MS_NODIRATIME); }

/* Whether the mount has the access-time policy that `ms` asks for already (statfs(2)'s f_flags). */
static bool has_atime(const struct statfs *fs, uint64_t ms) {
    bool noatime = fs->f_flags & 1024, relatime = fs->f_flags & 4096;
    if (ms & MS_NOATIME)
        return noatime;
    if (ms & MS_STRICTATIME)
        return !noatime && !relatime;
    return !(ms & MS_RELATIME) || relatime;
}

static int set_attr(int tree, uint64_t set, uint64_t clear, unsigned flags) {
    struct k_mount_attr attr = {.attr_set = set, .attr_clr = clear};
    return sys_mount_setattr(tree, "", AT_EMPTY_PATH | flags, &attr);
}

int mount_set_flags(struct context *c, int tree, uint64_t ms, uint64_t cleared, bool keep) {
    uint64_t set = mount_attributes(ms);
    uint64_t clear = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |
                     MOUNT_ATTR_NOSYMFOLLOW;
    uint64_t atime = asks_atime(ms) ? MOUNT_ATTR__ATIME : 0; /* mount(2) keeps the policy if none is named */
    int r = keep ? -EPERM : set_attr(tree, set, (clear & ~set) | atime, 0);
    if (r == -EINVAL && !(set & MOUNT_ATTR_NOSYMFOLLOW)) /* the flag came with 5.14 (dd8b477f9a3d) */
        r = set_attr(tree, set, (clear & ~set & ~(uint64_t)MOUNT_ATTR_NOSYMFOLLOW) | atime, 0);
    if (r != -EPERM)
        return r == -ENOSYS ? r : r < 0 ? detail(c, r, "set the mount's flags") : 0;
    /* A mount from a more privileged namespace has its flags locked (mount_namespaces(7)): what is set stays set. */
    cleared &= ~set & ~(uint64_t)MOUNT_ATTR__ATIME;
    r = set_attr(tree, set, cleared | atime, 0);
    if (r == -EPERM && atime) {
        struct statfs fs;
        if (fstatfs(tree, &fs) == 0 && has_atime(&fs, ms))
            r = set_attr(tree, set & ~(uint64_t)(MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME), cleared, 0);
    }
    return r < 0 ? detail(c, r, "set the mount's flags, some of which are locked") : 0;
}

static uint64_t flags_of(int tree) {
    /* statfs(2) reports the mount's flags with the values of mount(2), but for two. */
    struct statfs fs;
    if (fstatfs(tree, &fs) < 0)
        return 0;
    uint64_t same = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME;
    uint64_t ms = (uint64_t)fs.f_flags & same;
    if (fs.f_flags & 4096)
        ms |= MS_RELATIME;
    if (fs.f_flags & 8192)
        ms |= MS_NOSYMFOLLOW;
    return ms;
}

/* mount(NULL, tree, NULL, flags) */
static int change_by_path(struct context *c, int tree, uint64_t flags) {
    char path[48];
    int r = mount_path(c, tree, path);
    if (r < 0)
        return r;
    r = sys_result(mount(NULL, path, NULL, (unsigned long)flags, NULL));
    mount_path_done(c);
    return r;
}

int mount_set_flags_old(struct context *c, int tree, uint64_t ms, uint64_t cleared, bool keep) {
    uint64_t has = flags_of(tree);
    bool contradicts = mount_attributes(has) & cleared;
    int r = keep && !contradicts ? -EPERM : change_by_path(c, tree, MS_REMOUNT | MS_BIND | (ms & MS_ATTRIBUTES));
    if (r == -EPERM && !contradicts)
        r = change_by_path(c, tree, MS_REMOUNT | MS_BIND | (ms & MS_ATTRIBUTES) | has);
    return r < 0 ? detail(c, r, "set the mount's flags") : 0;
}

int mount_make_readonly(struct context *c, int tree) {
    int r = set_attr(tree, MOUNT_ATTR_RDONLY, 0, 0);
    if (r == -ENOSYS)
        r = change_by_path(c, tree, MS_REMOUNT | MS_BIND | MS_RDONLY | flags_of(tree));
    return r;
}

int mount_propagation(struct context *c, int tree, uint64_t propagation) {
    if (!propagation)
        return 0;
    struct k_mount_attr attr = {.propagation = propagation & (MS_PRIVATE | MS_SLAVE | MS_SHARED | MS_UNBINDABLE)};
    int r = sys_mount_setattr(tree, "", AT_EMPTY_PATH | (propagation & MS_REC ? AT_RECURSIVE : 0), &attr);
    if (r == -ENOSYS || r == -EINVAL)
        r = change_by_path(c, tree, propagation);
    return r < 0 ? detail(c, r, "set the mount's propagation") : 0;
}

int mount_verify(struct context *c, int tree, const char *path, unsigned lookup) {
    uint64_t want, is;
    cleanup_fd int fd = target_open(c, path, lookup & ~TARGET_CREATE, 0, NULL);
    if (fd < 0)
        return detail(c, fd, "'%s' was replaced while it was being mounted on", path);
    int r = mount_id(tree, &want);
    if (r == 0)
        r = mount_id(fd, &is);
    if (r < 0)
        return detail(c, r, "look at the mount on '%s'", path);
    return want == is && same_file(fd, tree) ? 0 : detail(c, -ESTALE, "'%s' does not lead to its mount", path);
}

int mount_attach(struct context *c, int tree, int target, const char *path, unsigned lookup) {
    struct stat from, to;
    if (fstat(tree, &from) < 0 || fstat(target, &to) < 0)
        return detail(c, -errno, "stat '%s'", path);
    if (S_ISDIR(from.st_mode) != S_ISDIR(to.st_mode))
        return detail(c, -ENOTDIR, S_ISDIR(from.st_mode) ? "the source is a directory, '%s' is not"
                                                         : "the source is not a directory, '%s' is", path);
    if (same_file(target, target_root(c)))
        return detail(c, -EBUSY, "'%s' is the rootfs itself", path);
    int r = sys_move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    if (r < 0)
        return detail(c, r, "attach the mount to '%s'", path);
    return mount_verify(c, tree, path, lookup);
}

/* What a mount may cover inside procfs: files that tell a container about its own limits, as lxcfs makes them. */
static bool may_cover_proc(const char *path) {
    static const char *const names[] = {"cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg",
                                        "slabinfo", "net/dev", "sys/kernel/ns_last_pid", "sys/crypto/fips_enabled"};
    while (*path == '/')
        path++;
    if (!text_starts(path, "proc/"))
        return false;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(path + 5, names[i]) == 0)
            return true;
    return false;
}

int mount_refuse_inside_proc(struct context *c, int target, const char *path) {
    int r = is_magic(target, PROC_SUPER_MAGIC);
    if (r < 0)
        return detail(c, r, "look at '%s'", path);
    if (!r || may_cover_proc(path))
        return 0;
    return detail(c, -EPERM, "'%s' cannot be mounted because it is inside /proc", path);
}

int mount_check_readonly(struct context *c, int tree, const char *path) {
    return flags_of(tree) & MS_RDONLY ? 0 : detail(c, -EIO, "'%s' is writable though asked to be read-only", path);
}

static bool wants_flags(const struct mount_wish *wish) {
    return wish->ms & MS_ATTRIBUTES || wish->cleared;
}

int mount_place(struct context *c, int tree, int target, const char *path, unsigned lookup,
                const struct mount_wish *wish) {
    uint64_t ms = wish->options & OPT_LATE_READONLY ? wish->ms & ~(uint64_t)MS_RDONLY : wish->ms;
    int r = wants_flags(wish) ? mount_set_flags(c, tree, ms, wish->cleared, wish->keep) : 0;
    bool old_kernel = r == -ENOSYS;
    if (r < 0 && !old_kernel)
        return r;
    if (wish->set || wish->clear) {
        uint64_t atime = wish->set & MOUNT_ATTR__ATIME ? MOUNT_ATTR__ATIME : 0;
        r = set_attr(tree, wish->set, wish->clear | atime, AT_RECURSIVE);
        if (r < 0)
            return detail(c, r, "set the flags of the mount and all below it");
    }
    if ((r = mount_attach(c, tree, target, path, lookup)) < 0)
        return r;
    if (old_kernel && (r = mount_set_flags_old(c, tree, ms, wish->cleared, wish->keep)) < 0)
        return r;
    if ((r = mount_propagation(c, tree, wish->propagation)) < 0)
        return r;
    bool readonly = ms & MS_RDONLY || wish->set & MOUNT_ATTR_RDONLY;
    return readonly && !(wish->clear & MOUNT_ATTR_RDONLY) ? mount_check_readonly(c, tree, path) : 0;
}
