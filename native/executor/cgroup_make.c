/* CG_MAKE: directories, their controllers and cpusets, and the record of which of them are ours. */
#include <string.h>

#include "cgroup.h"
#include "journal.h"
#include "run.h"
#include "sys.h"

#define MAKE_REFUSE_POPULATED 1u
#define MAKE_ABSENT_IS_FINE   2u
#define MAKE_JOIN_ONLY        4u
#define MAKE_ADOPT            8u /* it was made for us, by systemd: ours to remove */

#define RACES 16 /* others remove an empty parent while we make a child in it: begin again, so often at most */
#define AGAIN 1

/* One walk from the mount point to the leaf. */
struct walk {
    struct context *c;
    struct cgroup *g;
    struct cg_path path;
    const char *enable;
    unsigned flags;
    bool leaf_is_fresh;
};

static int fail_at(struct walk *w, unsigned depth, int error, const char *what) {
    char path[CG_PATH];
    cg_show_to(w->g, &w->path, depth, path);
    return detail(w->c, error, "%s '%s'", what, path);
}

static bool lists_word(const char *list, const char *word, size_t len) {
    while (*list) {
        size_t n = strcspn(list, " \n");
        if (n == len && memcmp(list, word, len) == 0)
            return true;
        list += n + (list[n] != '\0');
    }
    return false;
}

/* A group with processes of its own, which gives its children no controller that counts whole processes. Those that
 * work within a process (cpu, pids ...) it would give, and become a threaded domain by it, whose children take no process
 * from outside. The hierarchy's root, which has no type, may do both. Source: cgroup-v2.rst "Threads". */
static bool is_occupied(int dir) {
    char text[16];
    return faccessat(dir, "cgroup.type", F_OK, AT_SYMLINK_NOFOLLOW) == 0 && read_file_at(dir, "cgroup.procs", text, sizeof(text)) > 0;
}

/* Enables the wanted controllers for the children of `dir`. One write each: a write that names several is refused as
 * a whole for the sake of one. `?name`: wanted for statistics only. */
static int enable_controllers(struct walk *w, int dir, const char *shown) {
    char enabled[1024], text[CG_NAME + 1];
    const char *file = "cgroup.subtree_control", *word = w->enable;
    if (w->g->version != 2 || !*word)
        return 0;
    int r = read_file_at(dir, file, enabled, sizeof(enabled));
    if (r < 0)
        return detail(w->c, r, "read '%s/%s'", shown, file);
    int occupied = -1;
    for (size_t len; *word; word += len + (word[len] != '\0')) {
        len = strcspn(word, " ");
        bool optional = *word == '?';
        const char *name = word + optional;
        size_t n = len - optional;
        if (n == 0 || n >= CG_NAME || lists_word(enabled, name, n))
            continue;
        n = fmt(text, sizeof(text), "+%.*s", (int)n, name);
        occupied = occupied < 0 ? is_occupied(dir) : occupied;
        r = occupied ? -EBUSY : write_file_at(dir, file, O_NOFOLLOW, text, n);
        if (r < 0 && !optional)
            return detail(w->c, r, "write '%s' to '%s/%s'", text, shown, file);
    }
    return 0;
}

/* A v1 cpuset is born empty, and takes no process before it has cpus and memory nodes. */
static int fill_cpuset(struct walk *w, int parent, int dir, unsigned depth) {
    static const char *const files[] = {"cpuset.cpus", "cpuset.mems"};
    char value[4096];
    if (!(w->g->flags & CGF_CPUSET))
        return 0;
    for (int i = 0; i < 2; i++) {
        int n = read_file_at(dir, files[i], value, sizeof(value));
        if (n > 1)
            continue;
        n = n < 0 ? n : read_file_at(parent, files[i], value, sizeof(value));
        int r = n < 0 ? n : write_file_at(dir, files[i], O_NOFOLLOW, value, (size_t)n);
        if (r < 0)
            return fail_at(w, depth, r, i ? "fill cpuset.mems of" : "fill cpuset.cpus of");
    }
    return 0;
}

static int note(struct walk *w, enum journal_kind kind, unsigned depth, int dir) {
    struct stat st = {0};
    if (dir >= 0 && fstat(dir, &st) < 0)
        return detail(w->c, -errno, "stat the new cgroup");
    int r = journal_append(w->c->journal, kind, cg_id(w->c, w->g), depth, dir >= 0 ? (uint64_t)st.st_ino : 0);
    return r < 0 ? detail(w->c, r, "write the record's journal") : 0;
}

/* One missing component. Returns its descriptor, or -errno; *again if somebody was faster, in either direction. */
static int make_component(struct walk *w, int parent, const char *name, unsigned depth, bool *again) {
    char path[CG_PATH];
    bool leaf = depth + 1 == w->path.n;
    int r = note(w, JOURNAL_INTEND, depth, -1);
    if (r < 0)
        return r;
    if (mkdirat(parent, name, 0755) < 0) {
        r = -errno;
        /* The parent was removed under our hands (ENODEV from kernfs), or the child made by another. */
        *again = r == -EEXIST || r == -ENOENT || r == -ENODEV;
        if (r == -EEXIST && note(w, JOURNAL_JOINED, depth, -1) < 0)
            *again = false; /* it stays intended, and is not ours: better not go on */
        return fail_at(w, depth, r, "mkdir");
    }
    cleanup_fd int dir = cg_open_child(parent, name);
    if (dir < 0) {
        *again = dir == -ENOENT;
        return fail_at(w, depth, dir, "open");
    }
    r = note(w, JOURNAL_CREATED, depth, dir);
    cg_show_to(w->g, &w->path, depth, path);
    if (r == 0 && !leaf)
        r = parents_note(w->c, dir, path);
    if (leaf)
        w->leaf_is_fresh = true;
    return r < 0 ? r : steal_fd(&dir);
}

/* From mount point to leaf once. Stores the leaf, or -1. Returns 0, AGAIN after a lost race, or -errno. */
static int walk_once(struct walk *w, int *leaf) {
    char name[CG_NAME], shown[CG_PATH];
    cleanup_fd int dir = cg_open_mount(w->g);
    if (dir < 0)
        return detail(w->c, dir, "open '%s'", w->g->mount);
    fmt(shown, sizeof(shown), "%s", w->g->mount);
    w->leaf_is_fresh = false;
    for (unsigned depth = 0; depth < w->path.n; depth++) {
        bool again = false;
        int r = w->flags & MAKE_JOIN_ONLY ? 0 : enable_controllers(w, dir, shown);
        if (r < 0)
            return r;
        cg_component(&w->path, depth, name);
        cleanup_fd int child = cg_open_child(dir, name);
        if (child == -ENOENT && !(w->flags & MAKE_JOIN_ONLY))
            child = make_component(w, dir, name, depth, &again);
        else if (child < 0)
            return fail_at(w, depth, child, "open");
        if (child < 0)
            return again ? AGAIN : child;
        r = fill_cpuset(w, dir, child, depth);
        if (r < 0)
            return r == -ENOENT || r == -ENODEV ? AGAIN : r;
        close_fd(&dir);
        dir = steal_fd(&child);
        cg_show_to(w->g, &w->path, depth, shown);
    }
    *leaf = steal_fd(&dir);
    return 0;
}

static bool is_frozen_v2(int dir) {
    char text[8];
    return read_file_at(dir, "cgroup.freeze", text, sizeof(text)) > 0 && text[0] == '1';
}

/* A group that was there before: only an empty one, and none that would freeze whoever enters it. */
static int check_joined(struct walk *w, int leaf) {
    char path[CG_PATH];
    if (!(w->flags & MAKE_REFUSE_POPULATED))
        return 0;
    cg_show(w->g, NULL, path);
    int n = cg_count_processes(leaf);
    if (n < 0)
        return detail(w->c, n, "read the processes of '%s'", path);
    if (n > 0)
        return detail(w->c, -ECANCELED, "container's cgroup is not empty: %d process%s in '%s'", n, n == 1 ? "" : "es", path);
    if (w->g->version == 2 && is_frozen_v2(leaf))
        return detail(w->c, -ECANCELED, "container's cgroup unexpectedly frozen: '%s'", path);
    return 0;
}

static int make_group(struct walk *w) {
    cleanup_fd int leaf = -1;
    int r = AGAIN;
    for (int i = 0; i < RACES && r == AGAIN; i++)
        r = walk_once(w, &leaf);
    if (r == AGAIN)
        return -EAGAIN;
    if (r < 0)
        return r;
    if (!w->leaf_is_fresh && !(w->flags & MAKE_JOIN_ONLY)) {
        r = check_joined(w, leaf);
        /* Only now: what the journal calls joined may be emptied at the end. */
        uint16_t kind = w->flags & MAKE_ADOPT ? JOURNAL_CREATED : JOURNAL_JOINED;
        if (r == 0)
            r = note(w, kind, w->path.n ? w->path.n - 1 : 0, leaf);
        if (r < 0)
            return r;
    }
    close_fd(&w->g->fd);
    w->g->fd = steal_fd(&leaf);
    w->g->fate = w->leaf_is_fresh || w->flags & MAKE_ADOPT ? CG_CREATED : CG_JOINED;
    return 0;
}

static bool may_be_absent(int error) {
    return error == -EROFS || error == -EACCES || error == -EPERM || error == -ENOENT;
}

int step_cg_make(struct context *c, const struct step *s) {
    int r = 0;
    struct walk w = {.c = c, .g = cg_get(c, s, &r), .flags = (unsigned)s->arg[1].num, .enable = s->arg[2].ptr};
    if (!w.g)
        return r;
    if (!cg_split(w.g->path, &w.path))
        return detail(c, -EINVAL, "the path '%s'", w.g->path);
    w.g->fate = CG_INTENDED;
    r = make_group(&w);
    unsigned id = cg_id(c, w.g);
    if (r < 0 && (w.flags & MAKE_ABSENT_IS_FINE) && may_be_absent(r)) {
        w.g->fate = CG_ABSENT;
        int written = journal_append(c->journal, JOURNAL_ABSENT, id, (uint32_t)-r, 0);
        if (written < 0)
            return detail(c, written, "write the record's journal");
    } else if (r < 0) {
        return r;
    }
    event_send(c, MSG_CGROUP, s->index, r, id | (uint32_t)w.g->fate << 16, NULL, 0);
    return 0;
}
