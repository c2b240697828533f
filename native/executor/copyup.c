/* tmpcopyup: a directory's content copied from descriptor to descriptor. No symlink is ever followed, and ".." is
 * never looked up, so whatever happens to the source meanwhile, nothing outside of it is read or written. */
#include "mount.h"

#include <dirent.h>
#include <limits.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/xattr.h>

#define DEPTH_MAX 100 /* each level holds two descriptors */

struct k_dirent {
    uint64_t ino;
    int64_t off;
    uint16_t reclen;
    uint8_t type;
    char name[];
};

static int copy_directory(struct context *c, int from, int to, int depth);

/* Best effort: tmpfs knows few attributes, and a user namespace may set fewer. */
static void copy_xattrs(int from, int to) {
    char names[4096], value[4096];
    ssize_t len = flistxattr(from, names, sizeof(names));
    for (char *name = names; len > 0 && name < names + len; name += strlen(name) + 1) {
        ssize_t n = fgetxattr(from, name, value, sizeof(value));
        if (n >= 0)
            (void)fsetxattr(to, name, value, (size_t)n, 0);
    }
}

/* Owner first: chown clears the set-id bits that chmod then restores. Owners that have no id here stay as they are. */
static int copy_attributes(int from, int to, const struct stat *st) {
    struct timespec times[2] = {st->st_atim, st->st_mtim};
    bool owned = fchown(to, st->st_uid, st->st_gid) == 0;
    mode_t mode = st->st_mode & (owned ? 07777 : 01777);
    copy_xattrs(from, to);
    if (fchmod(to, mode) < 0)
        return -errno;
    (void)futimens(to, times);
    return 0;
}

static int copy_bytes(int from, int to) {
    for (;;) {
        ssize_t n = sendfile(to, from, NULL, 1 << 20);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : 0;
    }
}

static int copy_file(int from_dir, int to_dir, const char *name) {
    struct stat st;
    cleanup_fd int from = open_at(from_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
    if (from < 0)
        return from;
    if (fstat(from, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EAGAIN; /* it was a file a moment ago */
    cleanup_fd int to = open_at(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    if (to < 0)
        return to;
    int r = copy_bytes(from, to);
    return r < 0 ? r : copy_attributes(from, to, &st);
}

static int copy_link(int from_dir, int to_dir, const char *name, const struct stat *st) {
    char text[PATH_MAX];
    int r = read_link_at(from_dir, name, text, sizeof(text));
    if (r >= 0)
        r = sys_result(symlinkat(text, to_dir, name));
    if (r >= 0)
        (void)!fchownat(to_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW);
    return r < 0 ? r : 0;
}

static int copy_subdirectory(struct context *c, int from_dir, int to_dir, const char *name, int depth) {
    struct stat st;
    cleanup_fd int from = open_at(from_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    if (from < 0)
        return from;
    if (fstat(from, &st) < 0 || mkdirat(to_dir, name, 0700) < 0)
        return -errno;
    cleanup_fd int to = open_at(to_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    if (to < 0)
        return to;
    int r = copy_directory(c, from, to, depth + 1);
    return r < 0 ? r : copy_attributes(from, to, &st);
}

static int copy_entry(struct context *c, int from, int to, const char *name, int depth) {
    struct stat st;
    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    if (S_ISDIR(st.st_mode))
        return copy_subdirectory(c, from, to, name, depth);
    if (S_ISREG(st.st_mode))
        return copy_file(from, to, name);
    if (S_ISLNK(st.st_mode))
        return copy_link(from, to, name, &st);
    if (S_ISSOCK(st.st_mode))
        return 0; /* nobody listens behind a copy */
    if (mknodat(to, name, (st.st_mode & S_IFMT) | 0600, st.st_rdev) < 0)
        return errno == EPERM ? 0 : -errno; /* devices cannot be made in a user namespace */
    (void)!fchownat(to, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW);
    return fchmodat(to, name, st.st_mode & 07777, 0) < 0 ? -errno : 0;
}

static int copy_directory(struct context *c, int from, int to, int depth) {
    char buf[2048] __attribute__((aligned(8)));
    if (depth > DEPTH_MAX)
        return detail(c, -ELOOP, "more than %d directories deep", DEPTH_MAX);
    for (;;) {
        int n = sys_result(syscall(SYS_getdents64, from, buf, sizeof(buf)));
        if (n <= 0)
            return n;
        for (int at = 0; at < n;) {
            const struct k_dirent *entry = (const struct k_dirent *)(buf + at);
            at += entry->reclen;
            if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0)
                continue;
            int r = copy_entry(c, from, to, entry->name, depth);
            if (r == -ENOENT) /* removed while we were looking */
                continue;
            if (r < 0)
                return c->detail[0] ? r : detail(c, r, "copy '%s' from the image", entry->name);
        }
    }
}

int copy_up(struct context *c, int from, int to) {
    struct stat st;
    cleanup_fd int into = open_at(to, ".", O_RDONLY | O_DIRECTORY, 0);
    if (into < 0)
        return detail(c, into, "open the new file system");
    int r = copy_directory(c, from, into, 0);
    if (r == 0 && fstat(from, &st) == 0)
        (void)!fchown(into, st.st_uid, st.st_gid);
    return r;
}
