/* The request to the planner: what the caller said and where, as NUL-ended strings in a sealed memfd. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "front/planner.h"

extern char **environ;

#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#define F_SEAL_SEAL 1
#define F_SEAL_SHRINK 2
#define F_SEAL_GROW 4
#define F_SEAL_WRITE 8
#endif

#define REQUEST_MAX (4u << 20)

struct text {
    char *buf;
    size_t len;
    bool overflow;
};

static void put(struct text *t, const char *prefix, const char *value) {
    size_t p = strlen(prefix), v = strlen(value) + 1;
    if (t->len + p + v > REQUEST_MAX) {
        t->overflow = true;
        return;
    }
    memcpy(t->buf + t->len, prefix, p);
    memcpy(t->buf + t->len + p, value, v);
    t->len += p + v;
}

/* The caller's descriptors above 2: those that --preserve-fds may name. Our own are all close-on-exec, its cannot be. */
static void put_fds(struct text *t) {
    static char list[4096];
    size_t n = 0;
    DIR *dir = opendir("/proc/self/fd");
    list[0] = '\0';
    for (struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir)) {
        int fd;
        if (parse_int(e->d_name, 3, INT32_MAX, &fd) && !(fcntl(fd, F_GETFD) & FD_CLOEXEC))
            n += fmt(list + n, sizeof(list) - n, n ? ",%d" : "%d", fd);
    }
    if (dir)
        closedir(dir);
    put(t, "fds=", list);
}

static bool is_wanted(const char *entry) {
    static const char *const names[] = {"NOTIFY_SOCKET=", "LISTEN_FDS=", "LISTEN_PID=", "LISTEN_FDNAMES=",
                                        "XDG_RUNTIME_DIR=", "HOME=", "PATH=", "CORRAL_"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (text_starts(entry, names[i]))
            return true;
    return false;
}

static int seal(int fd, const struct text *t) {
    int r = write_all(fd, t->buf, t->len);
    if (r == 0)
        r = sys_result(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE));
    return r < 0 ? r : 0;
}

int make_request(const struct invocation *inv) {
    static char cwd[PATH_MAX];
    struct text t = {.buf = malloc(REQUEST_MAX)};
    if (!t.buf)
        return -ENOMEM;
    put(&t, "", "v=1");
    put(&t, "cwd=", getcwd(cwd, sizeof(cwd)) ? cwd : "");
    put(&t, "root=", inv->root);
    put_fds(&t);
    for (char **e = environ; *e; e++)
        if (is_wanted(*e))
            put(&t, "env=", *e);
    for (int i = 1; i < inv->argc; i++) {
        if (i == inv->command_at && !inv->root_given) {
            /* The state root is decided in one place, here. It comes last, for an empty one may stand before. */
            put(&t, "arg=", "--root");
            put(&t, "arg=", inv->root);
        }
        put(&t, "arg=", inv->argv[i]);
    }
    int fd = t.overflow ? -E2BIG : sys_memfd_create("request", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd == -EINVAL) /* MFD_NOEXEC_SEAL is of 6.3 */
        fd = sys_memfd_create("request", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int r = fd < 0 ? fd : seal(fd, &t);
    free(t.buf);
    if (r < 0 && fd >= 0)
        close(fd);
    return r < 0 ? r : fd;
}
