/* Control groups: names, files, membership. */
#include "cgroup.h"

#include <string.h>

#include "journal.h"
#include "run.h"
#include "sys.h"

#define WRITE_ABSENT_OK 1u
#define WRITE_ONLY_WARNS 2u
#define READ_ABSENT_OK 1u
#define ATTACH_FOLLOW_INIT 1u
#define ATTACH_HOLDER 2u
#define READ_MAX 4096

struct cg_seams cg_seams;

bool cg_split(const char *path, struct cg_path *ret) {
    ret->n = 0;
    while (true) {
        while (*path == '/')
            path++;
        size_t len = strcspn(path, "/");
        if (len == 0)
            return true;
        if (ret->n == CG_DEPTH || len >= CG_NAME || (len == 1 && path[0] == '.') ||
            (len == 2 && path[0] == '.' && path[1] == '.'))
            return false;
        ret->name[ret->n] = path;
        ret->len[ret->n++] = len;
        path += len;
    }
}

void cg_component(const struct cg_path *path, unsigned depth, char buf[CG_NAME]) {
    memcpy(buf, path->name[depth], path->len[depth]);
    buf[path->len[depth]] = '\0';
}

unsigned cg_id(const struct context *c, const struct cgroup *g) { return (unsigned)(g - c->cgroup); }

struct cgroup *cg_get(struct context *c, const struct step *s, int *error) {
    uint64_t id = s->arg[0].num;
    if (id < CGROUPS && c->cgroup[id].defined)
        return &c->cgroup[id];
    *error = detail(c, -EPROTO, "no cgroup %llu was defined", (unsigned long long)id);
    return NULL;
}

void cg_show(const struct cgroup *g, const char *file, char buf[CG_PATH]) {
    fmt(buf, CG_PATH, "%s%s%s%s", g->mount, strcmp(g->path, "/") == 0 ? "" : g->path, file ? "/" : "", file ? file : "");
}

void cg_show_to(const struct cgroup *g, const struct cg_path *path, unsigned depth, char buf[CG_PATH]) {
    const char *end = path->name[depth] + path->len[depth];
    fmt(buf, CG_PATH, "%s%.*s", g->mount, (int)(end - g->path), g->path);
}

int cg_open_mount(const struct cgroup *g) {
    cleanup_fd int fd = open_at(AT_FDCWD, g->mount, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
    if (fd < 0)
        return fd;
    unsigned long magic = g->version == 2 ? CGROUP2_SUPER_MAGIC : CGROUP_SUPER_MAGIC;
    /* Without its filesystem the mount point is a plain directory, and mkdir there would look like success. */
    if (!cg_seams.any_filesystem && is_magic(fd, magic) != 1)
        return -ENOENT;
    return steal_fd(&fd);
}

int cg_open_child(int dir, const char *name) { return open_at(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0); }

int cg_open_leaf(struct cgroup *g) {
    struct cg_path path;
    char name[CG_NAME];
    if (g->fd >= 0)
        return g->fd;
    if (!cg_split(g->path, &path))
        return -EINVAL;
    cleanup_fd int dir = cg_open_mount(g);
    for (unsigned depth = 0; dir >= 0 && depth < path.n; depth++) {
        cg_component(&path, depth, name);
        int child = cg_open_child(dir, name);
        close_fd(&dir);
        dir = child;
    }
    if (dir < 0)
        return dir;
    return g->fd = steal_fd(&dir);
}

/* A file of the group itself: names come from the config too (linux.resources.unified). */
static int open_file(struct cgroup *g, const char *file, int flags) {
    if (!file[0] || strchr(file, '/') || strcmp(file, "..") == 0 || strcmp(file, ".") == 0)
        return -EINVAL;
    int leaf = cg_open_leaf(g);
    return leaf < 0 ? leaf : open_at(leaf, file, flags | O_NOFOLLOW, 0);
}

int cg_write(struct cgroup *g, const char *file, const char *value) {
    cleanup_fd int fd = open_file(g, file, O_WRONLY);
    return fd < 0 ? fd : write_once(fd, value, strlen(value));
}

int cg_read(struct cgroup *g, const char *file, char *buf, size_t size) {
    buf[0] = '\0';
    cleanup_fd int fd = open_file(g, file, O_RDONLY);
    if (fd < 0)
        return fd;
    int n = read_all(fd, buf, size - 1);
    buf[n < 0 ? 0 : n] = '\0';
    return n;
}

int step_cg_define(struct context *c, const struct step *s) {
    uint64_t id = s->arg[0].num, version = s->arg[1].num;
    struct cg_path path;
    if (id >= CGROUPS || c->cgroup[id].defined)
        return detail(c, -EPROTO, "cgroup %llu cannot be defined", (unsigned long long)id);
    if ((version != 1 && version != 2) || s->arg[2].ptr[0] != '/' || s->arg[3].ptr[0] != '/')
        return detail(c, -EPROTO, "version %llu, '%s', '%s'", (unsigned long long)version, s->arg[2].ptr, s->arg[3].ptr);
    if (!cg_split(s->arg[3].ptr, &path))
        return detail(c, -EINVAL, "the path '%s'", s->arg[3].ptr);
    c->cgroup[id] = (struct cgroup){.defined = true,
                                    .version = (int)version,
                                    .mount = s->arg[2].ptr,
                                    .path = s->arg[3].ptr,
                                    .flags = (unsigned)s->arg[4].num,
                                    .fd = -1};
    return 0;
}

int step_cg_write(struct context *c, const struct step *s) {
    char path[CG_PATH];
    int r = 0;
    unsigned flags = (unsigned)s->arg[3].num;
    struct cgroup *g = cg_get(c, s, &r);
    if (!g || g->fate == CG_ABSENT)
        return r;
    r = cg_write(g, s->arg[1].ptr, s->arg[2].ptr);
    if (r >= 0 || (r == -ENOENT && (flags & WRITE_ABSENT_OK)))
        return 0;
    cg_show(g, s->arg[1].ptr, path);
    if (!(flags & WRITE_ONLY_WARNS))
        return detail(c, r, "'%s'", path);
    warning(c, "write '%s' to '%s': %s", s->arg[2].ptr, path, error_text(r));
    return 0;
}

/* Hands the directory and some of its files to the root of the container's user namespace. A file that this kernel
 * does not have is no error: /sys/kernel/cgroup/delegate lists what some kernel may have. */
int step_cg_chown(struct context *c, const struct step *s) {
    char path[CG_PATH];
    int r = 0;
    struct cgroup *g = cg_get(c, s, &r);
    uid_t uid = (uid_t)s->arg[1].num;
    gid_t gid = (gid_t)s->arg[2].num;
    if (!g || g->fate == CG_ABSENT)
        return r;
    int leaf = cg_open_leaf(g);
    if (leaf < 0 || fchownat(leaf, "", uid, gid, AT_EMPTY_PATH) < 0) {
        r = leaf < 0 ? leaf : -errno;
        cg_show(g, NULL, path);
        return detail(c, r, "'%s'", path);
    }
    for (const char *file = vec_next(&s->arg[3], NULL); file; file = vec_next(&s->arg[3], file)) {
        if (fchownat(leaf, file, uid, gid, AT_SYMLINK_NOFOLLOW) == 0 || errno == ENOENT)
            continue;
        r = -errno;
        cg_show(g, file, path);
        return detail(c, r, "'%s'", path);
    }
    return 0;
}

int step_cg_read(struct context *c, const struct step *s) {
    static char bytes[READ_MAX + 1];
    char path[CG_PATH];
    int r = 0;
    struct cgroup *g = cg_get(c, s, &r);
    if (!g || g->fate == CG_ABSENT)
        return r;
    r = cg_read(g, s->arg[1].ptr, bytes, sizeof(bytes));
    if (r < 0 && !(r == -ENOENT && (s->arg[2].num & READ_ABSENT_OK))) {
        cg_show(g, s->arg[1].ptr, path);
        return detail(c, r, "'%s'", path);
    }
    event_send(c, MSG_READBACK, s->index, r < 0 ? r : 0, cg_id(c, g), bytes, r < 0 ? 0 : (size_t)r);
    return 0;
}

/* ---- membership ------------------------------------------------------------------------------------------------------ */

/* The process that a plan of exec joins: its JOIN_CONTAINER names it. */
static pid_t joined_container(const struct plan *plan) {
    struct step s;
    for (unsigned i = 0; i < plan->n_steps; i++) {
        plan_step(plan, i, &s);
        if (s.op == OP_JOIN_CONTAINER)
            return (pid_t)s.arg[0].num;
    }
    return 0;
}

/* O_PATH of the v2 group in which process `pid` is, if that is below the container's own; -ENOENT otherwise. */
static int open_group_of(struct context *c, const struct cgroup *g, pid_t pid) {
    static char text[8192];
    char file[40], *line;
    fmt(file, sizeof(file), "%d/cgroup", pid);
    int proc = proc_fd(c), n = proc < 0 ? proc : read_file_at(proc, file, text, sizeof(text));
    if (n < 0)
        return n;
    line = text_starts(text, "0::") ? text : strstr(text, "\n0::");
    if (!line)
        return -ENOENT;
    line = strchr(line, '/');
    if (!line)
        return -ENOENT;
    line[strcspn(line, "\n")] = '\0';
    size_t len = strlen(g->path);
    if (strncmp(line, g->path, len) != 0 || line[len] != '/')
        return -ENOENT;
    struct cgroup own = {.version = 2, .mount = g->mount, .path = line, .fd = -1};
    return cg_open_leaf(&own);
}

static int attach(int dir, pid_t pid) {
    char text[16];
    size_t len = fmt(text, sizeof(text), "%d", pid);
    int r = write_file_at(dir, "cgroup.procs", O_NOFOLLOW, text, len);
    /* A process whose fork is not over yet cannot be moved for a moment: EINVAL, on v1 (TASK_NEW). */
    for (int i = 0; i < 5 && r == -EINVAL; i++) {
        sleep_ms(1u << i);
        r = write_file_at(dir, "cgroup.procs", O_NOFOLLOW, text, len);
    }
    return r;
}

/* From now on it is found by its group, which is on record: it need not end with the front any more. */
static int let_holder_stay(struct context *c) {
    int r = write_all(c->holder, "", 1);
    close_fd(&c->holder);
    return r < 0 ? detail(c, r, "release the holder") : 0;
}

/* The front's half of a move that init makes itself: `tasks`, opened with the front's rights. */
static int let_in(struct context *c, const struct step *s, struct cgroup *g) {
    struct message_head head = {.kind = MSG_GIVE_FD, .step = s->index};
    char path[CG_PATH];
    cleanup_fd int tasks = -1;
    cg_show(g, "tasks", path);
    if (g->fate != CG_ABSENT) {
        int leaf = cg_open_leaf(g);
        tasks = leaf < 0 ? leaf : open_at(leaf, "tasks", O_WRONLY | O_NOFOLLOW, 0);
        if (tasks < 0)
            return detail(c, tasks, "'%s'", path);
    }
    int r = peer_send(c, &head, path, strlen(path), tasks);
    return r < 0 ? detail(c, r, "no process takes '%s'", path) : 0;
}

/* Init's half. Nothing is answered: the SYNC that follows says that all went well. */
static int enter(struct context *c, const struct step *s) {
    struct message m;
    int r = peer_expect(c, MSG_GIVE_FD, s->index, &m);
    if (r < 0)
        return r;
    if (m.fds[0] >= 0)
        r = write_once(m.fds[0], "0", 1);
    message_close_fds(&m);
    return r < 0 ? detail(c, r, "'%s'", m.bytes) : 0;
}

/* Of a v1 group init is its own mover: the kernel then moves one thread, and init has no other. For the pid of a process
 * it takes a lock that waits for an RCU grace period, several milliseconds on a quiet machine.
 * Source: kernel/cgroup/cgroup.c, cgroup_procs_write_start. */
int step_cg_attach(struct context *c, const struct step *s) {
    char path[CG_PATH];
    int r = 0;
    if (c->actor == ACTOR_INIT)
        return enter(c, s);
    struct cgroup *g = cg_get(c, s, &r);
    if (g && s->actor == ACTOR_INIT)
        return let_in(c, s, g);
    if (!g || g->fate == CG_ABSENT)
        return r;
    unsigned flags = (unsigned)s->arg[1].num;
    pid_t pid = flags & ATTACH_HOLDER ? c->holder_pid : c->init_pid;
    if (pid <= 0)
        return detail(c, -ESRCH, "no process was born"); /* 0 would be this very process */
    if (!(flags & ATTACH_HOLDER) && c->born_into == (int)cg_id(c, g))
        return 0;
    int leaf = cg_open_leaf(g);
    r = leaf < 0 ? leaf : attach(leaf, pid);
    /* The workload has moved itself to a child and enabled controllers: its group holds no processes of its own any
     * more (EBUSY), or is threaded (EOPNOTSUPP). */
    if ((r == -EBUSY || r == -EOPNOTSUPP) && (flags & ATTACH_FOLLOW_INIT)) {
        cleanup_fd int group = open_group_of(c, g, joined_container(c->plan));
        if (group >= 0)
            r = attach(group, pid);
    }
    cg_show(g, "cgroup.procs", path);
    if (r < 0)
        return detail(c, r, "write %d to '%s'", pid, path);
    return flags & ATTACH_HOLDER ? let_holder_stay(c) : 0;
}
