/* Paths of the container, resolved below its rootfs and never beyond it.
 *
 * Whoever made the image, or a process that shares a volume with us, may swap directories for symlinks while we work
 * (CVE-2021-30465). So no path of the container is ever given to a call that resolves it on its own: existing paths
 * are opened by openat2(RESOLVE_IN_ROOT), missing ones are made component by component from a descriptor, and what
 * was made is looked up once more from the root before it is used. */
#include "mount.h"
#include "run.h"

#include <limits.h>
#include <string.h>

#define LINKS_MAX 40 /* as the kernel's MAXSYMLINKS */
#define IN_ROOT (RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)

struct walk {
    int root, at;        /* at: owned */
    char done[PATH_MAX]; /* where `at` is below the root, without symlinks; "" = the root */
    char rest[PATH_MAX]; /* what is still to be walked */
    int links;
    unsigned flags;
    mode_t mode;
    bool made;
};

static void restore_umask(mode_t *mask) { umask(*mask); }

bool same_file(int a, int b) {
    struct stat x, y;
    return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

int target_root(struct context *c) {
    if (c->rootfd < 0) {
        int fd = open_at(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0);
        if (fd < 0)
            return detail(c, fd, "open '/'");
        c->rootfd = fd;
    }
    return c->rootfd;
}

/* Takes the first component off w->rest. Returns 1 with it in `name`, 0 at the end, or -errno. */
static int next_component(struct walk *w, char name[256]) {
    char *p = w->rest;
    while (*p == '/')
        p++;
    size_t len = strcspn(p, "/");
    if (len == 0)
        return 0;
    if (len > 255)
        return -ENAMETOOLONG;
    memcpy(name, p, len);
    name[len] = '\0';
    p += len;
    while (*p == '/')
        p++;
    memmove(w->rest, p, strlen(p) + 1);
    return 1;
}

static int walk_up(struct walk *w) {
    char *slash = strrchr(w->done, '/');
    *(slash ? slash : w->done) = '\0';
    int fd = sys_openat2(w->root, w->done[0] ? w->done : ".", O_PATH | O_DIRECTORY, 0, IN_ROOT | RESOLVE_NO_SYMLINKS);
    if (fd < 0)
        return fd;
    close_fd(&w->at);
    w->at = fd;
    return 0;
}

static int walk_link(struct walk *w, int link) {
    char text[PATH_MAX], joined[PATH_MAX];
    if (w->flags & TARGET_NO_SYMLINKS || ++w->links > LINKS_MAX)
        return -ELOOP;
    int n = read_link_at(link, "", text, sizeof(text));
    if (n < 0)
        return n;
    if ((size_t)n + strlen(w->rest) + 2 > sizeof(joined))
        return -ENAMETOOLONG;
    fmt(joined, sizeof(joined), "%s/%s", text, w->rest);
    memcpy(w->rest, joined, strlen(joined) + 1);
    if (text[0] != '/')
        return 0;
    int fd = duplicate_fd(w->root, 3);
    if (fd < 0)
        return fd;
    close_fd(&w->at);
    w->at = fd;
    w->done[0] = '\0';
    return 0;
}

static int walk_make(struct walk *w, const char *name, bool last) {
    mode_t mask __attribute__((cleanup(restore_umask))) = umask(0);
    (void)mask;
    int r;
    if (last && w->flags & TARGET_FILE)
        r = sys_result(mknodat(w->at, name, S_IFREG | w->mode, 0)); /* unlike open(2) never opens what is there */
    else
        r = sys_result(mkdirat(w->at, name, last ? w->mode : 0755));
    if (r == 0 && last)
        w->made = true;
    return r == -EEXIST ? 0 : r; /* made by somebody else in between: the next look says what it is */
}

/* One component. Returns 1 when `at` is the target, 0 to go on, or -errno. */
static int walk_component(struct walk *w, const char *name) {
    bool last = w->rest[0] == '\0';
    if (strcmp(name, ".") == 0)
        return 0;
    if (strcmp(name, "..") == 0)
        return walk_up(w);
    int fd = open_at(w->at, name, O_PATH | O_NOFOLLOW, 0);
    if (fd == -ENOENT && w->flags & TARGET_CREATE) {
        int r = walk_make(w, name, last);
        if (r < 0)
            return r;
        fd = open_at(w->at, name, O_PATH | O_NOFOLLOW, 0);
    }
    if (fd < 0)
        return fd;
    cleanup_fd int child = fd;
    struct stat st;
    if (fstat(child, &st) < 0)
        return -errno;
    if (S_ISLNK(st.st_mode) && !(last && w->flags & TARGET_NO_FOLLOW))
        return walk_link(w, child);
    if (!last && !S_ISDIR(st.st_mode))
        return -ENOTDIR;
    size_t len = strlen(w->done);
    if (len + strlen(name) + 2 > sizeof(w->done))
        return -ENAMETOOLONG;
    fmt(w->done + len, sizeof(w->done) - len, "%s%s", len ? "/" : "", name);
    close_fd(&w->at);
    w->at = steal_fd(&child);
    return 0;
}

static int walk_start(struct context *c, struct walk *w, const char *path, unsigned flags, mode_t mode) {
    w->root = target_root(c);
    if (w->root < 0)
        return w->root;
    if (strlen(path) >= sizeof(w->rest))
        return detail(c, -ENAMETOOLONG, "'%.64s...'", path);
    memcpy(w->rest, path, strlen(path) + 1);
    w->flags = flags;
    w->mode = mode;
    w->at = duplicate_fd(w->root, 3);
    return w->at < 0 ? detail(c, w->at, "open '%s'", path) : 0;
}

/* Walks all of w->rest; afterwards w->at is the target, proven to be where w->done says. */
static int walk_all(struct context *c, struct walk *w, const char *path) {
    char name[256];
    int r;
    while ((r = next_component(w, name)) > 0)
        if ((r = walk_component(w, name)) < 0)
            break;
    if (r < 0)
        return r == -ENOENT || r == -ENOTDIR ? r : detail(c, r, "make '%s'", path);
    cleanup_fd int again = sys_openat2(w->root, w->done[0] ? w->done : ".", O_PATH | O_NOFOLLOW, 0,
                                       RESOLVE_NO_SYMLINKS | IN_ROOT);
    if (again >= 0 && same_file(again, w->at))
        return 0;
    return detail(c, again < 0 && again != -ENOENT ? again : -ESTALE, "'%s' was replaced while it was being made",
                  path);
}

int target_open(struct context *c, const char *path, unsigned flags, mode_t mode, bool *made) {
    uint64_t open_flags = O_PATH | (flags & TARGET_NO_FOLLOW ? O_NOFOLLOW : 0);
    uint64_t resolve = IN_ROOT | (flags & TARGET_NO_SYMLINKS ? RESOLVE_NO_SYMLINKS : 0);
    int root = target_root(c);
    if (made)
        *made = false;
    if (root < 0)
        return root;
    int fd = sys_openat2(root, path[0] ? path : ".", open_flags, 0, resolve);
    if (fd >= 0 || (fd == -ENOENT && !(flags & TARGET_CREATE)) || fd == -ENOTDIR)
        return fd;
    if (fd != -ENOENT)
        return detail(c, fd, "open '%s'", path);
    struct walk w = {.at = -1};
    int r = walk_start(c, &w, path, flags, mode);
    if (r == 0)
        r = walk_all(c, &w, path);
    if (made)
        *made = w.made;
    if (r < 0)
        close_fd(&w.at);
    return r < 0 ? r : w.at;
}

int target_parent(struct context *c, const char *path, char name[256]) {
    struct walk w = {.at = -1};
    int r = walk_start(c, &w, path, TARGET_CREATE, 0755);
    if (r < 0)
        return r;
    size_t len = strlen(w.rest);
    while (len > 0 && w.rest[len - 1] == '/')
        w.rest[--len] = '\0';
    char *slash = strrchr(w.rest, '/');
    const char *last = slash ? slash + 1 : w.rest;
    if (!last[0] || strcmp(last, ".") == 0 || strcmp(last, "..") == 0 || strlen(last) > 255)
        r = detail(c, -EINVAL, "'%s' names nothing that could be made", path);
    else {
        memcpy(name, last, strlen(last) + 1);
        *(slash ? slash : w.rest) = '\0';
        w.flags &= ~TARGET_NO_FOLLOW;
        r = walk_all(c, &w, path);
        if (r == -ENOENT || r == -ENOTDIR)
            r = detail(c, r, "open the directory of '%s'", path);
    }
    if (r < 0)
        close_fd(&w.at);
    return r < 0 ? r : w.at;
}

int target_reopen(struct context *c, int fd, int flags) {
    char link[40];
    int proc = proc_fd(c);
    if (proc < 0)
        return proc;
    fmt(link, sizeof(link), "self/fd/%d", fd);
    return open_at(proc, link, flags, 0);
}

int mount_path(struct context *c, int fd, char buf[48]) {
    int proc = proc_fd(c);
    if (proc < 0)
        return proc;
    /* mount(2) takes a path only. The verified procfs becomes the working directory, so that no lookup passes a
     * /proc that is the container's. */
    if (fchdir(proc) < 0)
        return detail(c, -errno, "enter /proc");
    fmt(buf, 48, "self/fd/%d", fd);
    return 0;
}

void mount_path_done(struct context *c) {
    (void)c;
    /* Nothing before WORKDIR depends on the working directory, and "/" exists on both sides of PIVOT. */
    (void)!chdir("/");
}
