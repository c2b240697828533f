/* MOUNT_FS: a new file system, made detached, filled if asked, then attached below the rootfs. */
#include "mount.h"

#include <string.h>
#include <sys/statfs.h>

#define DATA_MAX 4096 /* a page: what mount(2) takes */

struct fs_step {
    const char *type, *source, *target, *data;
    struct mount_wish wish;
    unsigned lookup;
    char mode[16]; /* "mode=0755": the tmpfs looks as the directory that it covers */
    bool copy;
};

/* One superblock serves many mounts of these, the host's among them: read-only is a matter of the mount alone. */
static bool superblock_is_shared(const char *type) {
    static const char *const types[] = {"proc", "sysfs", "cgroup", "cgroup2", "mqueue", "securityfs", "debugfs",
                                        "tracefs", "bpf", "devtmpfs", "binfmt_misc", "resctrl", "efivarfs"};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (strcmp(type, types[i]) == 0)
            return true;
    return false;
}

/* Cuts the next option off *rest, at a comma outside of quotes, and removes the quotes (context="u:r:t:c1,c2"). */
static char *next_option(char **rest) {
    char *from = *rest, *to = from, *start = from;
    bool quoted = false;
    for (; *from && (quoted || *from != ','); from++) {
        if (*from == '"')
            quoted = !quoted;
        else
            *to++ = *from;
    }
    *rest = *from ? from + 1 : from;
    *to = '\0';
    return start;
}

static int set_option(int fs, char *option) {
    char *equals = strchr(option, '=');
    if (!option[0])
        return 0;
    if (!equals)
        return sys_fsconfig(fs, FSC_SET_FLAG, option, NULL, 0);
    *equals = '\0';
    return sys_fsconfig(fs, FSC_SET_STRING, option, equals + 1, 0);
}

static int set_options(int fs, const char *data) {
    char copy[DATA_MAX], *rest = copy;
    if (strlen(data) >= sizeof(copy))
        return -EINVAL;
    memcpy(copy, data, strlen(data) + 1);
    while (*rest) {
        int r = set_option(fs, next_option(&rest));
        if (r < 0)
            return r;
    }
    return 0;
}

static int set_superblock_flags(int fs, uint64_t ms, bool readonly) {
    static const struct {
        unsigned long ms;
        const char *name;
    } table[] = {{MS_SYNCHRONOUS, "sync"}, {MS_DIRSYNC, "dirsync"}, {MS_MANDLOCK, "mand"}, {1ul << 25, "lazytime"}};
    int r = readonly ? sys_fsconfig(fs, FSC_SET_FLAG, "ro", NULL, 0) : 0;
    for (size_t i = 0; r >= 0 && i < sizeof(table) / sizeof(table[0]); i++)
        if (ms & table[i].ms)
            r = sys_fsconfig(fs, FSC_SET_FLAG, table[i].name, NULL, 0);
    /* "posixacl" and "iversion" exist for mount(2) alone. */
    return r < 0 ? r : ms & (MS_POSIXACL | MS_I_VERSION) ? -EINVAL : 0;
}

/* What the file system said about the refusal: "e tmpfs: Unknown parameter 'x'". */
static void read_complaint(int fs, char *buf, size_t size) {
    ssize_t n = read(fs, buf, size - 1);
    buf[n > 0 ? n : 0] = '\0';
    if (n > 2 && buf[1] == ' ')
        memmove(buf, buf + 2, (size_t)n - 1);
    buf[strcspn(buf, "\n")] = '\0';
}

static uint64_t attributes(const struct fs_step *f, bool readonly) {
    uint64_t attr = mount_attributes(f->wish.ms) & ~(uint64_t)MOUNT_ATTR_RDONLY;
    if (readonly)
        attr |= MOUNT_ATTR_RDONLY;
    if (f->wish.set & MOUNT_ATTR__ATIME)
        attr &= ~(uint64_t)MOUNT_ATTR__ATIME;
    return (attr | f->wish.set) & ~f->wish.clear;
}

/* A detached mount, by the new API. -EINVAL, -ENOSYS and the like: mount(2) may know how. */
static int make_detached(struct context *c, const struct fs_step *f, bool readonly) {
    cleanup_fd int fs = sys_fsopen(f->type, FSOPEN_CLOEXEC);
    if (fs < 0)
        return fs == -ENODEV ? detail(c, fs, "the kernel does not know file system type '%s'", f->type) : fs;
    int r = f->source[0] ? sys_fsconfig(fs, FSC_SET_STRING, "source", f->source, 0) : 0;
    if (r >= 0)
        r = set_superblock_flags(fs, f->wish.ms, readonly && !superblock_is_shared(f->type));
    if (r >= 0 && f->mode[0])
        r = sys_fsconfig(fs, FSC_SET_STRING, "mode", f->mode + 5, 0);
    if (r >= 0)
        r = set_options(fs, f->data);
    if (r >= 0)
        r = sys_fsconfig(fs, FSC_CMD_CREATE, NULL, NULL, 0);
    if (r < 0) {
        char text[200];
        read_complaint(fs, text, sizeof(text));
        return text[0] ? detail(c, r, "%s", text) : r;
    }
    return sys_fsmount(fs, FSMOUNT_CLOEXEC, (unsigned)attributes(f, readonly));
}

/* mount(2) on the target's descriptor. Returns the descriptor of the new mount's root. */
static int make_attached(struct context *c, const struct fs_step *f, int target) {
    char path[48], data[DATA_MAX + 32];
    if (strlen(f->data) >= DATA_MAX)
        return detail(c, -E2BIG, "the options are longer than a page");
    fmt(data, sizeof(data), "%s%s%s", f->mode, f->mode[0] && f->data[0] ? "," : "", f->data);
    const uint64_t others = MS_BIND | MS_REMOUNT | MS_REC | MS_PRIVATE | MS_SLAVE | MS_SHARED | MS_UNBINDABLE;
    uint64_t ms = f->wish.ms & ~others;
    if (f->copy || f->wish.options & OPT_LATE_READONLY || superblock_is_shared(f->type))
        ms &= ~(uint64_t)MS_RDONLY;
    int r = mount_path(c, target, path);
    if (r < 0)
        return r;
    r = sys_result(mount(f->source[0] ? f->source : f->type, path, f->type, (unsigned long)ms, data));
    mount_path_done(c);
    if (r < 0)
        return r;
    return target_open(c, f->target, f->lookup & ~TARGET_CREATE, 0, NULL);
}

/* Data for tmpcopyup is what the image has at the place, and not what lies below after the mount. */
static int fill(struct context *c, const struct fs_step *f, int target, int tree) {
    if (!f->copy)
        return 0;
    cleanup_fd int from = open_at(target, ".", O_RDONLY | O_DIRECTORY, 0);
    if (from < 0)
        return detail(c, from, "read '%s'", f->target);
    return copy_up(c, from, tree);
}

static int place_attached(struct context *c, const struct fs_step *f, int target, int tree, bool readonly) {
    int r = fill(c, f, target, tree);
    uint64_t ms = f->wish.ms & ~(uint64_t)(f->wish.options & OPT_LATE_READONLY ? MS_RDONLY : 0);
    if (r == 0 && ms & MS_ATTRIBUTES) {
        r = mount_set_flags(c, tree, ms, 0, false);
        if (r == -ENOSYS)
            r = mount_set_flags_old(c, tree, ms, 0, false);
    }
    if (r == 0 && (f->wish.set || f->wish.clear)) {
        struct k_mount_attr attr = {.attr_set = f->wish.set, .attr_clr = f->wish.clear};
        if (f->wish.set & MOUNT_ATTR__ATIME)
            attr.attr_clr |= MOUNT_ATTR__ATIME;
        r = sys_mount_setattr(tree, "", AT_EMPTY_PATH, &attr);
    }
    if (r == 0)
        r = mount_propagation(c, tree, f->wish.propagation);
    return r == 0 && readonly ? mount_check_readonly(c, tree, f->target) : r;
}

static int place_detached(struct context *c, const struct fs_step *f, int target, int tree, bool readonly) {
    bool after = false;
    int r = fill(c, f, target, tree);
    if (r == 0 && readonly && f->copy) {
        r = mount_make_readonly(c, tree);
        after = r < 0; /* before 5.12 only an attached mount can change */
        r = 0;
    }
    if (r == 0)
        r = mount_attach(c, tree, target, f->target, f->lookup);
    if (r == 0 && after && (r = mount_make_readonly(c, tree)) < 0)
        detail(c, r, "make '%s' read-only", f->target);
    if (r == 0)
        r = mount_propagation(c, tree, f->wish.propagation);
    return r == 0 && readonly ? mount_check_readonly(c, tree, f->target) : r;
}

/* Overlayfs turns read-only without a word when it cannot write its work directory. */
static int check_writable(struct context *c, const struct fs_step *f, int tree, bool readonly) {
    struct statfs fs;
    if (readonly || strcmp(f->type, "overlay") != 0 || !strstr(f->data, "upperdir="))
        return 0;
    if (fstatfs(tree, &fs) == 0 && fs.f_flags & MS_RDONLY)
        return detail(c, -EROFS, "the kernel made '%s' read-only though it was asked to be writable", f->target);
    return 0;
}

static int open_place(struct context *c, struct fs_step *f) {
    bool made = false;
    int target = target_open(c, f->target, f->lookup, f->lookup & TARGET_FILE ? 0644 : 0755, &made);
    if (f->wish.options & OPT_ORDINARY && (target == -ELOOP || target == -ENOTDIR))
        return detail(c, -ENOTDIR, "'%s' must be mounted on an ordinary directory", f->target);
    if (target < 0)
        return target;
    struct stat st;
    int r = fstat(target, &st) < 0 ? -errno : 0;
    if (r == 0 && f->wish.options & OPT_ORDINARY && !S_ISDIR(st.st_mode))
        r = detail(c, -ENOTDIR, "'%s' must be mounted on an ordinary directory", f->target);
    if (r == 0 && strcmp(f->type, "proc") != 0)
        r = mount_refuse_inside_proc(c, target, f->target);
    if (r < 0) {
        close(target);
        return r;
    }
    /* As every runtime does it: a tmpfs without a mode of its own takes that of the directory below. */
    bool has_mode = text_starts(f->data, "mode=") || strstr(f->data, ",mode=");
    if (strcmp(f->type, "tmpfs") == 0 && !made && !has_mode)
        fmt(f->mode, sizeof(f->mode), "mode=%04o", (unsigned)st.st_mode & 07777);
    return target;
}

int step_mount_fs(struct context *c, const struct step *s) {
    struct fs_step f = {
        .type = s->arg[0].ptr, .source = s->arg[1].ptr, .target = s->arg[2].ptr, .data = s->arg[3].ptr,
        .wish = {s->arg[4].num, s->arg[5].num, s->arg[6].num, s->arg[7].num, (unsigned)s->arg[8].num, 0, false},
    };
    f.lookup = target_flags(f.wish.options);
    f.copy = f.wish.options & OPT_COPY_UP;
    bool readonly = (f.wish.ms & MS_RDONLY && !(f.wish.options & OPT_LATE_READONLY)) || f.wish.set & MOUNT_ATTR_RDONLY;
    readonly = readonly && !(f.wish.clear & MOUNT_ATTR_RDONLY);
    cleanup_fd int target = open_place(c, &f);
    if (target < 0)
        return target;
    cleanup_fd int tree = make_detached(c, &f, readonly && !f.copy);
    bool retry = tree == -EINVAL || tree == -ENOSYS || tree == -EOPNOTSUPP;
    if (!retry && tree < 0)
        return tree;
    int r;
    if (retry) {
        char said[sizeof(c->detail)];
        memcpy(said, c->detail, sizeof(said));
        c->detail[0] = '\0';
        tree = make_attached(c, &f, target);
        if (tree == -EINVAL) /* then the reason of the new API is the better one */
            memcpy(c->detail, said, sizeof(said));
        if (tree < 0)
            return tree;
        r = place_attached(c, &f, target, tree, readonly);
    } else
        r = place_detached(c, &f, target, tree, readonly);
    return r == 0 ? check_writable(c, &f, tree, readonly) : r;
}
