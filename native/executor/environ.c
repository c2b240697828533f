/* ENTER, HOSTNAME, DOMAINNAME, SYSCTL, WORKDIR and FIND_HOME: what the container's process finds around it. */
#include "mount.h"
#include "run.h"

#include <limits.h>
#include <string.h>

/* Hooks run in the bundle, as runc's do. */
int step_enter(struct context *c, const struct step *s) {
    int r = sys_result(chdir(s->arg[0].ptr));
    return r < 0 ? detail(c, r, "enter '%s'", s->arg[0].ptr) : 0;
}

int step_hostname(struct context *c, const struct step *s) {
    (void)c;
    return sys_result(sethostname(s->arg[0].ptr, s->arg[0].len));
}

int step_domainname(struct context *c, const struct step *s) {
    (void)c;
    return sys_result(setdomainname(s->arg[0].ptr, s->arg[0].len));
}

int step_sysctl(struct context *c, const struct step *s) {
    char path[PATH_MAX];
    const char *key = s->arg[0].ptr;
    if (strlen(key) + 5 > sizeof(path))
        return -ENAMETOOLONG;
    fmt(path, sizeof(path), "sys/%s", key);
    cleanup_fd int fd = proc_open(c, path, O_WRONLY);
    if (fd < 0)
        return fd;
    /* proc_open does not leave the mount; that the mount is procfs, and not something made to look like it
     * (CVE-2025-52881), is asked of the descriptor that is written to. */
    if (is_magic(fd, PROC_SUPER_MAGIC) != 1)
        return detail(c, -EPERM, "'/proc/sys/%s' is not a file of procfs", key);
    int r = write_once(fd, s->arg[1].ptr, s->arg[1].len);
    return r < 0 ? detail(c, r, "write '/proc/sys/%s'", key) : 0;
}

#define WORKDIR_MAKE 1u
#define WORKDIR_MAYBE_LATER 2u /* a refusal puts it off to the WORKDIR after CREDENTIALS */
#define WORKDIR_IF_LATER 4u    /* that one: does something only if the first was refused */

/* CVE-2024-21626: a directory outside of the root, reached by a leaked descriptor, has no path from here; the kernel
 * says so by "(unreachable)". */
static int check_inside(struct context *c, const char *path) {
    char buf[PATH_MAX + 32];
    int n = sys_result(syscall(SYS_getcwd, buf, sizeof(buf)));
    if (n < 0)
        return detail(c, n, "the working directory '%s' has no path", path);
    return buf[0] == '/' ? 0 : detail(c, -EPERM, "the working directory '%s' is outside of the container", path);
}

int step_workdir(struct context *c, const struct step *s) {
    static bool put_off;
    const char *path = s->arg[0].ptr;
    uint64_t flags = s->arg[1].num;
    if (flags & WORKDIR_IF_LATER && !put_off)
        return check_inside(c, path);
    cleanup_fd int fd = target_open(c, path, flags & WORKDIR_MAKE ? TARGET_CREATE : 0, 0755, NULL);
    int r = fd < 0 ? fd : sys_result(fchdir(fd));
    /* A home on an export that squashes root, say: its user may enter it, root may not. */
    if (flags & WORKDIR_MAYBE_LATER && (r == -EACCES || r == -EPERM)) {
        put_off = true;
        return 0;
    }
    return r < 0 ? detail(c, r, "enter '%s'", path) : check_inside(c, path);
}

/* ---- /etc/passwd of the container: hostile until proven otherwise ------------------------------------------------ */
#define PASSWD_MAX (1u << 20) /* bytes read at most */

struct passwd_scan {
    uint64_t uid;
    char field[PATH_MAX]; /* the field being read; cut off when longer */
    size_t len;
    int number; /* of the field: 2 = uid, 5 = home */
    bool match, too_long, found;
    char home[PATH_MAX];
};

static void end_field(struct passwd_scan *p) {
    uint64_t value;
    p->field[p->len] = '\0';
    if (p->number == 2)
        p->match = !p->too_long && parse_u64(p->field, &value) && value == p->uid;
    if (p->number == 5 && p->match && !p->too_long && p->field[0] == '/') {
        memcpy(p->home, p->field, p->len + 1);
        p->found = true;
    }
    p->number++;
    p->len = 0;
    p->too_long = false;
}

static void scan(struct passwd_scan *p, const char *bytes, size_t n) {
    for (size_t i = 0; i < n && !p->found; i++) {
        char ch = bytes[i];
        if (ch == ':' || ch == '\n')
            end_field(p);
        else if (p->len + 1 < sizeof(p->field) && ch != '\0')
            p->field[p->len++] = ch;
        else
            p->too_long = true;
        if (ch == '\n') {
            p->number = 0;
            p->match = false;
        }
    }
}

int step_find_home(struct context *c, const struct step *s) {
    static struct passwd_scan p;
    char buf[4096];
    memset(&p, 0, sizeof(p));
    p.uid = s->arg[0].num;
    c->home = "/";
    int root = target_root(c);
    if (root < 0)
        return root;
    /* Neither a FIFO nor a device may hold us up, and a missing or odd file only means that there is no home. */
    cleanup_fd int fd = sys_openat2(root, "etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY, 0,
                                    RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return 0;
    for (size_t total = 0; total < PASSWD_MAX && !p.found;) {
        int n = read_all(fd, buf, sizeof(buf));
        if (n <= 0)
            break;
        scan(&p, buf, (size_t)n);
        total += (size_t)n;
    }
    if (!p.found && p.number == 5)
        end_field(&p); /* the last line has no newline and no shell */
    if (p.found)
        c->home = p.home;
    return 0;
}
