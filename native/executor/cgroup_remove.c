/* CG_REMOVE: what the journal says is ours, and nothing else, in bounded time. */
#include <string.h>
#include <time.h>

#include "cgroup.h"
#include "journal.h"
#include "run.h"
#include "sys.h"

#define PAUSE_MAX_US 10000u
#define SECOND_BUDGET_MS 200 /* who outlived the whole budget in one hierarchy sits in all others as well */

static bool gave_up;

static int real_rmdir(int dir, const char *name) { return sys_result(unlinkat(dir, name, AT_REMOVEDIR)); }

static int remove_dir(int dir, const char *name) {
    return cg_seams.rmdir ? cg_seams.rmdir(dir, name) : real_rmdir(dir, name);
}

/* ---- the journal ---------------------------------------------------------------------------------------------------- */

/* The last word on each component counts: a made one may have been lost in a race before. */
static void take_entry(const struct journal_entry *e, struct cg_ledger *ret) {
    unsigned depth = e->value;
    switch (e->kind) {
    case JOURNAL_INTEND: ret->origin[depth] = ORIGIN_INTENDED; break;
    case JOURNAL_CREATED: ret->origin[depth] = ORIGIN_CREATED; break;
    case JOURNAL_JOINED: ret->origin[depth] = ORIGIN_JOINED; break;
    case JOURNAL_REMOVED: ret->origin[depth] = ORIGIN_REMOVED; break;
    default: return;
    }
    if (e->kind != JOURNAL_REMOVED)
        ret->inode[depth] = e->inode;
}

int cg_read_ledger(struct context *c, const struct cgroup *g, const struct cg_path *path, struct cg_ledger *ret) {
    static struct journal_entry entries[JOURNAL_MAX];
    struct stat st;
    *ret = (struct cg_ledger){0};
    if (c->record < 0) {
        if (path->n > 0 && g->fd >= 0 && g->fate == CG_CREATED && fstat(g->fd, &st) == 0) {
            ret->origin[path->n - 1] = ORIGIN_CREATED;
            ret->inode[path->n - 1] = st.st_ino;
        }
        return 0;
    }
    int n = journal_read(c->record, entries, JOURNAL_MAX);
    if (n < 0)
        return detail(c, n, "read the record's journal");
    for (int i = 0; i < n; i++)
        if (entries[i].id == cg_id(c, g) && entries[i].value < CG_DEPTH)
            take_entry(&entries[i], ret);
    return 0;
}

int cg_open_own_leaf(struct context *c, struct cgroup *g) {
    struct cg_path path;
    struct cg_ledger ledger;
    struct stat st;
    if (!cg_split(g->path, &path) || cg_read_ledger(c, g, &path, &ledger) < 0)
        return 0;
    unsigned depth = path.n ? path.n - 1 : 0;
    if (ledger.origin[depth] != ORIGIN_CREATED && ledger.origin[depth] != ORIGIN_JOINED)
        return 0;
    int leaf = cg_open_leaf(g);
    /* Another directory under the same name is somebody else's. */
    return leaf >= 0 && fstat(leaf, &st) == 0 && st.st_ino == ledger.inode[depth];
}

/* ---- rmdir ------------------------------------------------------------------------------------------------------------ */

static bool is_missing(int dir, const char *name) {
    struct stat st;
    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 && (errno == ENOENT || errno == ENODEV);
}

static bool may_pass(int error) { return error == -EBUSY || error == -ENOTEMPTY || error == -ENODEV || error == -EINTR; }

static void pause_a_little(unsigned *us) {
    struct timespec ts = {.tv_nsec = (long)*us * 1000};
    (void)nanosleep(&ts, NULL);
    *us = *us * 2 < PAUSE_MAX_US ? *us * 2 : PAUSE_MAX_US;
}

/* 0: it is not there any more, whatever rmdir said (a read-only mount says EROFS of what never was, runc#4518). */
static int remove_one(int dir, const char *name) {
    int r = remove_dir(dir, name);
    return r < 0 && !is_missing(dir, name) ? r : 0;
}

/* Everything below `top`, deepest first, by going down and up with one descriptor: a workload that may make groups
 * can nest them deeper than descriptors last. */
static int remove_children(int top, int64_t end) {
    char name[CG_NAME];
    unsigned depth = 0;
    cleanup_fd int at = duplicate_fd(top, 3);
    while (at >= 0) {
        int r = cg_first_child(at, name);
        if (r < 0)
            return r;
        if (r == 0) {
            if (depth-- == 0)
                return 0;
            int up = cg_open_child(at, "..");
            close_fd(&at);
            at = up;
            continue;
        }
        r = remove_one(at, name);
        if (r == 0)
            continue;
        char ignored[CG_NAME];
        cleanup_fd int child = cg_open_child(at, name);
        if (!may_pass(r) || now_ms() >= end || child < 0)
            return r;
        /* Busy without children: with processes. */
        if (cg_first_child(child, ignored) != 1)
            return r;
        close_fd(&at);
        at = steal_fd(&child);
        depth++;
    }
    return at;
}

int cg_remove_tree(int dir, const char *name, int64_t end) {
    unsigned us = 200;
    for (;;) {
        int r = remove_one(dir, name);
        if (r == 0 || !may_pass(r))
            return r;
        cleanup_fd int child = cg_open_child(dir, name);
        if (child >= 0)
            (void)remove_children(child, end); /* its own error is the next rmdir's */
        r = remove_one(dir, name);
        if (r == 0 || !may_pass(r) || now_ms() >= end)
            return r;
        pause_a_little(&us);
    }
}

/* ---- the step --------------------------------------------------------------------------------------------------------- */

struct removal {
    struct context *c;
    struct cgroup *g;
    struct cg_path path;
    struct cg_ledger ledger;
};

/* O_PATH of the directory that holds component `depth`; -ENOENT if it is gone. */
static int open_parent(struct removal *r, unsigned depth) {
    char name[CG_NAME];
    cleanup_fd int dir = cg_open_mount(r->g);
    for (unsigned i = 0; dir >= 0 && i < depth; i++) {
        cg_component(&r->path, i, name);
        int child = cg_open_child(dir, name);
        close_fd(&dir);
        dir = child;
    }
    return dir < 0 ? dir : steal_fd(&dir);
}

/* A component that was intended but not reported made was made just before a crash, or not at all: its inode is not
 * known, so it is only ever removed empty. */
static bool is_ours(const struct removal *r, unsigned depth, uint64_t inode) {
    if (r->ledger.origin[depth] == ORIGIN_INTENDED)
        return true;
    return r->ledger.origin[depth] == ORIGIN_CREATED && r->ledger.inode[depth] == inode;
}

static int note_removed(struct removal *r, unsigned depth) {
    int e = journal_append(r->c->journal, JOURNAL_REMOVED, cg_id(r->c, r->g), depth, 0);
    return e < 0 ? detail(r->c, e, "write the record's journal") : 0;
}

static int fail_busy(struct removal *r, int dir, int error) {
    char path[CG_PATH], list[DETAIL_MAX - 160];
    cg_show(r->g, NULL, path);
    cg_list_processes(dir, list, sizeof(list));
    if (!list[0])
        return detail(r->c, error, "rmdir '%s'", path);
    return detail(r->c, -ECANCELED, "rmdir '%.100s': still in it (pid name state wait): %s", path, list);
}

static int remove_leaf(struct removal *r, int64_t end) {
    char name[CG_NAME], path[CG_PATH];
    struct stat st;
    unsigned depth = r->path.n - 1;
    cleanup_fd int parent = open_parent(r, depth);
    if (parent == -ENOENT || parent == -ENODEV)
        return 0;
    cg_show(r->g, NULL, path);
    if (parent < 0)
        return detail(r->c, parent, "open the parent of '%s'", path);
    cg_component(&r->path, depth, name);
    cleanup_fd int leaf = cg_open_child(parent, name);
    if (leaf < 0)
        return leaf == -ENOENT || leaf == -ENODEV ? 0 : detail(r->c, leaf, "open '%s'", path);
    if (fstat(leaf, &st) < 0 || !is_ours(r, depth, st.st_ino))
        return 0;
    close_fd(&r->g->fd);
    bool intended = r->ledger.origin[depth] == ORIGIN_INTENDED;
    int e = intended ? remove_one(parent, name) : cg_remove_tree(parent, name, end);
    if (intended && e == -EBUSY)
        return 0; /* in use: then another made it */
    if (e == -EBUSY || e == -ENOTEMPTY) {
        gave_up = true;
        return fail_busy(r, leaf, e);
    }
    return e < 0 ? detail(r->c, e, "rmdir '%s'", path) : note_removed(r, depth);
}

/* Upwards while they are ours, or some other container's of this state root, and empty. */
static void remove_parents(struct removal *r) {
    char name[CG_NAME], path[CG_PATH];
    struct stat st;
    for (unsigned depth = r->path.n - 1; depth-- > 0;) {
        cleanup_fd int parent = open_parent(r, depth);
        if (parent == -ENOENT)
            continue;
        cg_component(&r->path, depth, name);
        cleanup_fd int dir = parent < 0 ? parent : cg_open_child(parent, name);
        if (dir == -ENOENT)
            continue;
        if (dir < 0 || fstat(dir, &st) < 0)
            return;
        cg_show_to(r->g, &r->path, depth, path);
        if (!is_ours(r, depth, st.st_ino) && !parents_has(r->c, dir, path))
            return;
        if (remove_one(parent, name) < 0)
            return; /* in use by others: the last of them removes it */
        parents_forget(r->c, st.st_dev, st.st_ino);
        (void)note_removed(r, depth);
    }
}

int step_cg_remove(struct context *c, const struct step *s) {
    int r = 0;
    struct removal removal = {.c = c, .g = cg_get(c, s, &r)};
    if (!removal.g)
        return r;
    if (!cg_split(removal.g->path, &removal.path))
        return detail(c, -EINVAL, "the path '%s'", removal.g->path);
    if (removal.path.n == 0)
        return 0;
    r = cg_read_ledger(c, removal.g, &removal.path, &removal.ledger);
    if (r < 0)
        return r;
    int64_t budget_ms = (int64_t)s->arg[1].num;
    if (gave_up && budget_ms > SECOND_BUDGET_MS)
        budget_ms = SECOND_BUDGET_MS;
    r = remove_leaf(&removal, now_ms() + budget_ms);
    if (r == 0)
        remove_parents(&removal);
    return r;
}
