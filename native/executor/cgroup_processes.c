/* The processes of a group: counted, listed, frozen, signalled. */
#include <dirent.h>
#include <string.h>
#include <sys/syscall.h>

#include "cgroup.h"
#include "run.h"
#include "sys.h"

#define WALK_DEPTH 128
#define EMPTY_MS 2000   /* how long a group is killed over and over; what is left then, CG_REMOVE reports */
#define FREEZE_MS 500

/* As the kernel writes it: not every libc has it. */
struct k_dirent {
    uint64_t ino, off;
    uint16_t reclen;
    uint8_t type;
    char name[];
};

struct listing {
    int fd;
    long have, at;
    _Alignas(8) char buf[2048];
};

/* The next subdirectory: its name, NULL at the end, with *error set if there was one. */
static const char *next_child(struct listing *l, int *error) {
    for (;;) {
        if (l->at >= l->have) {
            l->have = syscall(SYS_getdents64, l->fd, l->buf, sizeof(l->buf));
            l->at = 0;
            /* ENOENT: the directory was removed while it was read. */
            *error = l->have < 0 && errno != ENOENT ? -errno : 0;
            if (l->have <= 0)
                return NULL;
        }
        struct k_dirent *entry = (struct k_dirent *)(void *)(l->buf + l->at);
        l->at += entry->reclen;
        if (entry->type == DT_DIR && strcmp(entry->name, ".") != 0 && strcmp(entry->name, "..") != 0)
            return entry->name;
    }
}

int cg_first_child(int dir, char name[CG_NAME]) {
    int error = 0;
    cleanup_fd int fd = open_at(dir, ".", O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    struct listing l = {.fd = fd};
    const char *found = next_child(&l, &error);
    if (!found)
        return error;
    fmt(name, CG_NAME, "%s", found);
    return 1;
}

struct visit {
    cg_visit *call;
    void *arg;
    bool stopped;
};

/* The numbers in cgroup.procs, however long it is. */
static int visit_file(int dir, struct visit *v) {
    char buf[4096];
    pid_t pid = 0;
    bool digits = false;
    cleanup_fd int fd = open_at(dir, "cgroup.procs", O_RDONLY | O_NOFOLLOW, 0);
    if (fd < 0)
        return fd;
    for (;;) {
        int n = read_all(fd, buf, sizeof(buf));
        if (n <= 0)
            return n;
        for (int i = 0; i < n; i++) {
            if (buf[i] >= '0' && buf[i] <= '9') {
                pid = pid * 10 + (buf[i] - '0');
                digits = true;
            } else if (digits) {
                if (!v->call(pid, v->arg)) {
                    v->stopped = true;
                    return 0;
                }
                pid = 0;
                digits = false;
            }
        }
    }
}

static bool has_vanished(int error) { return error == -ENOENT || error == -ENODEV; }

static int visit_tree(int dir, struct visit *v, unsigned depth) {
    const char *name;
    int error = 0;
    if (depth == WALK_DEPTH)
        return -ELOOP;
    int r = visit_file(dir, v);
    /* EOPNOTSUPP: a threaded group lists its processes in the domain above it. */
    if (r < 0 && r != -EOPNOTSUPP)
        return has_vanished(r) && depth > 0 ? 0 : r;
    cleanup_fd int fd = open_at(dir, ".", O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return has_vanished(fd) ? 0 : fd;
    struct listing l = {.fd = fd};
    while (!v->stopped && (name = next_child(&l, &error))) {
        cleanup_fd int child = cg_open_child(fd, name);
        r = child < 0 ? child : visit_tree(child, v, depth + 1);
        if (r < 0 && !has_vanished(r))
            return r;
    }
    return error;
}

int cg_each_process(int dir, cg_visit *visit, void *arg) {
    struct visit v = {.call = visit, .arg = arg};
    int r = visit_tree(dir, &v, 0);
    return has_vanished(r) ? 0 : r;
}

static bool count_one(pid_t pid, void *arg) {
    (void)pid;
    ++*(int *)arg;
    return true;
}

int cg_count_processes(int dir) {
    int count = 0, r = cg_each_process(dir, count_one, &count);
    return r < 0 ? r : count;
}

struct list {
    char *buf;
    size_t size, len;
};

/* State and name from /proc/PID/stat, which is "PID (NAME) S ...", and where the kernel waits. */
static bool list_one(pid_t pid, void *arg) {
    struct list *list = arg;
    char path[40], stat_text[256], wchan[64];
    const char *name = "?", *state = "?";
    int name_len = 1;
    fmt(path, sizeof(path), "/proc/%d/stat", pid);
    if (read_file_at(AT_FDCWD, path, stat_text, sizeof(stat_text)) > 0) {
        const char *open = strchr(stat_text, '('), *close = strrchr(stat_text, ')');
        if (open && close && close > open) {
            name = open + 1;
            name_len = (int)(close - name);
            state = close + 2;
        }
    }
    fmt(path, sizeof(path), "/proc/%d/wchan", pid);
    if (read_file_at(AT_FDCWD, path, wchan, sizeof(wchan)) <= 0 || strcmp(wchan, "0") == 0)
        fmt(wchan, sizeof(wchan), "-");
    if (list->len + 120 > list->size) {
        list->len += fmt(list->buf + list->len, list->size - list->len, ", ...");
        return false;
    }
    list->len += fmt(list->buf + list->len, list->size - list->len, "%s%d %.*s %.1s %s", list->len ? ", " : "", pid, name_len,
                     name, state, wchan);
    return true;
}

void cg_list_processes(int dir, char *buf, size_t size) {
    struct list list = {.buf = buf, .size = size};
    buf[0] = '\0';
    (void)cg_each_process(dir, list_one, &list);
}

/* ---- freezing ---------------------------------------------------------------------------------------------------- */

static int freezer_write(struct cgroup *g, bool frozen) {
    if (g->version == 2)
        return cg_write(g, "cgroup.freeze", frozen ? "1" : "0");
    return cg_write(g, "freezer.state", frozen ? "FROZEN" : "THAWED");
}

/* 1 frozen, or on the way there; 0 not; or -errno. */
static int freezer_read(struct cgroup *g) {
    char text[256];
    int r = cg_read(g, g->version == 2 ? "cgroup.events" : "freezer.state", text, sizeof(text));
    if (r < 0)
        return has_vanished(r) ? 0 : r;
    return g->version == 2 ? strstr(text, "frozen 1") != NULL : text_starts(text, "FR");
}

int cg_thaw(struct cgroup *g) {
    int r = freezer_write(g, false);
    return has_vanished(r) ? 0 : r;
}

static struct cgroup *own_freezer(struct context *c) {
    for (int i = 0; i < CGROUPS; i++)
        if (c->cgroup[i].defined && (c->cgroup[i].flags & CGF_FREEZER) && cg_open_own_leaf(c, &c->cgroup[i]) == 1)
            return &c->cgroup[i];
    return NULL;
}

void cg_thaw_all(struct context *c) {
    struct cgroup *g = own_freezer(c);
    if (g)
        (void)cg_thaw(g);
}

bool cg_is_frozen(struct context *c) {
    struct cgroup *g = own_freezer(c);
    return g && freezer_read(g) == 1;
}

int step_cg_thaw(struct context *c, const struct step *s) {
    int r = 0;
    struct cgroup *g = cg_get(c, s, &r);
    if (!g || cg_open_own_leaf(c, g) != 1)
        return r;
    r = cg_thaw(g);
    return r < 0 ? detail(c, r, "thaw '%s%s'", g->mount, g->path) : 0;
}

/* ---- signals ----------------------------------------------------------------------------------------------------- */

struct signalling {
    int sig, sent, error;
    pid_t self;
    bool self_is_inside;
};

static bool find_self(pid_t pid, void *arg) {
    struct signalling *s = arg;
    s->self_is_inside = s->self_is_inside || pid == s->self;
    return true;
}

static bool signal_one(pid_t pid, void *arg) {
    struct signalling *s = arg;
    /* 0: a process of a pid namespace that we cannot see; kill(0) would be our own process group. */
    if (pid <= 0 || pid == s->self)
        return true;
    if (kill(pid, s->sig) == 0)
        s->sent++;
    else if (errno != ESRCH)
        s->error = -errno;
    return true;
}

/* Freezes the group that `counter` counts, so that nobody forks away under the signals and no pid is used again.
 * Returns the freezer if it is to be thawed afterwards, else NULL: it was frozen before, cannot be, or we are in it. */
static struct cgroup *freeze_for_signals(struct context *c, const struct signalling *s) {
    struct cgroup *g = own_freezer(c);
    if (!g || s->self_is_inside || freezer_read(g) != 0)
        return NULL;
    if (freezer_write(g, true) < 0)
        return NULL;
    int64_t end = now_ms() + FREEZE_MS;
    char text[256];
    while (now_ms() < end) {
        int r = cg_read(g, g->version == 2 ? "cgroup.events" : "freezer.state", text, sizeof(text));
        /* FREEZING lasts as long as somebody sits in the kernel: good enough then, the signals are sent all the same. */
        if (r < 0 || strstr(text, g->version == 2 ? "frozen 1" : "FROZEN"))
            break;
        sleep_ms(1);
    }
    return g;
}

static int signal_round(struct context *c, int dir, struct signalling *s) {
    s->sent = 0;
    struct cgroup *frozen = freeze_for_signals(c, s);
    int r = cg_each_process(dir, signal_one, s);
    if (frozen)
        (void)cg_thaw(frozen);
    return r < 0 ? r : s->error;
}

int cg_signal_all(struct context *c, struct cgroup *g, int sig) {
    struct signalling s = {.sig = sig, .self = sys_getpid()};
    int leaf = cg_open_leaf(g);
    if (leaf < 0)
        return has_vanished(leaf) ? 0 : leaf;
    int r = cg_each_process(leaf, find_self, &s);
    if (r < 0)
        return r;
    if (sig == SIGKILL && g->version == 2 && !s.self_is_inside) {
        /* 5.14 (661ee6280931): atomic, forks included. EOPNOTSUPP in a threaded group. */
        r = cg_write(g, "cgroup.kill", "1");
        if (r >= 0 || has_vanished(cg_open_leaf(g)))
            return r < 0 ? 0 : r;
    }
    int64_t end = now_ms() + EMPTY_MS;
    for (unsigned pause = 1;; pause = pause < 8 ? pause * 2 : 10) {
        r = signal_round(c, leaf, &s);
        if (r < 0 || sig != SIGKILL || s.sent == 0 || now_ms() >= end)
            return r;
        sleep_ms(pause);
    }
}

struct cgroup *cg_counter(struct context *c) {
    for (int i = 0; i < CGROUPS; i++)
        if (c->cgroup[i].defined && (c->cgroup[i].flags & CGF_PIDS) && cg_open_own_leaf(c, &c->cgroup[i]) == 1)
            return &c->cgroup[i];
    return NULL;
}

int step_cg_kill(struct context *c, const struct step *s) {
    int r = 0;
    struct cgroup *g = cg_get(c, s, &r);
    if (!g || cg_open_own_leaf(c, g) != 1)
        return r;
    r = cg_signal_all(c, g, (int)s->arg[1].num);
    return r < 0 ? detail(c, r, "signal the processes of '%s%s'", g->mount, g->path) : 0;
}
