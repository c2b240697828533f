/* Control groups: what the files about them share. Directories are opened by descriptor, component by component and
 * without following links, below the mount point of a hierarchy; only what the record's journal calls ours is undone. */
#ifndef CORRAL_CGROUP_H
#define CORRAL_CGROUP_H

#include <stdint.h>

#include "context.h"

#define CG_DEPTH   64   /* components of a group's path, at most */
#define CG_NAME    256
#define CG_PATH    4352

/* A path below the mount point, cut into its components. */
struct cg_path {
    unsigned n;
    const char *name[CG_DEPTH]; /* not NUL-ended */
    size_t len[CG_DEPTH];
};

/* False for "." and "..", for a component that is too long, or for too many of them. */
bool cg_split(const char *path, struct cg_path *ret);
/* Component `depth` as a string. */
void cg_component(const struct cg_path *path, unsigned depth, char buf[CG_NAME]);

/* The group of a step's first argument, or NULL with a detail. */
struct cgroup *cg_get(struct context *c, const struct step *s, int *error);
unsigned cg_id(const struct context *c, const struct cgroup *g);
/* "/sys/fs/cgroup/memory/a/b", or with a file, for messages. */
void cg_show(const struct cgroup *g, const char *file, char buf[CG_PATH]);
/* The same, cut behind component `depth`. */
void cg_show_to(const struct cgroup *g, const struct cg_path *path, unsigned depth, char buf[CG_PATH]);

/* O_PATH of the mount point, checked to be a cgroup filesystem. Owned by the caller. */
int cg_open_mount(const struct cgroup *g);
/* O_PATH of one component; owned by the caller. */
int cg_open_child(int dir, const char *name);
/* The leaf, opened at first use and kept in g->fd. Borrowed; -ENOENT if it is not there. No detail. */
int cg_open_leaf(struct cgroup *g);
int cg_write(struct cgroup *g, const char *file, const char *value);
int cg_read(struct cgroup *g, const char *file, char *buf, size_t size);

/* What the journal says of one group. */
enum cg_origin { ORIGIN_NONE = 0, ORIGIN_INTENDED, ORIGIN_CREATED, ORIGIN_JOINED, ORIGIN_REMOVED };
struct cg_ledger {
    enum cg_origin origin[CG_DEPTH]; /* by depth of the component */
    uint64_t inode[CG_DEPTH];
};
/* Reads it: from the record, or, where there is no record (tests), from the fate of this very run: then the leaf
 * counts as ours. 0 or -errno. */
int cg_read_ledger(struct context *c, const struct cgroup *g, const struct cg_path *path, struct cg_ledger *ret);
/* 1: the leaf was made or joined by this container, is there, and is open in g->fd. 0: it is none of ours, or gone. */
int cg_open_own_leaf(struct context *c, struct cgroup *g);

/* ---- processes ------------------------------------------------------------------------------------------------- */

/* Calls `visit` for every process below a directory, itself included. It returns false to stop. Returns 0 or -errno;
 * a directory that vanishes meanwhile does not matter. */
typedef bool cg_visit(pid_t pid, void *arg);
int cg_each_process(int dir, cg_visit *visit, void *arg);
/* The number of processes, or -errno. */
int cg_count_processes(int dir);
/* "12 sleep D wait_on_page, 13 ...", as many as fit. */
void cg_list_processes(int dir, char *buf, size_t size);

/* The name of the next subdirectory of `dir` (any open flags): 1, 0 if there is none, or -errno. */
int cg_first_child(int dir, char name[CG_NAME]);

/* Signals every process of the group; see CG_KILL in docs/design/plan.md. Returns 0 or -errno without detail; a group
 * that is gone is no error. */
int cg_signal_all(struct context *c, struct cgroup *g, int sig);
/* Thaws the group (v1 freezer, v2 cgroup.freeze). */
int cg_thaw(struct cgroup *g);
/* Thaws every group of the container that can freeze. */
void cg_thaw_all(struct context *c);
/* True if one of them is frozen, or about to be. */
bool cg_is_frozen(struct context *c);
/* The group from which processes are read, if it is ours and there; else NULL. */
struct cgroup *cg_counter(struct context *c);

/* ---- removal ----------------------------------------------------------------------------------------------------- */

/* Removes `name` below `dir` with everything under it: -EBUSY is waited for until `end` (now_ms), "it is not there"
 * is success, whatever rmdir says. 0 or -errno. */
int cg_remove_tree(int dir, const char *name, int64_t end);

/* Seams for tests without a cgroup filesystem. */
struct cg_seams {
    int (*rmdir)(int dir, const char *name); /* 0 or -errno */
    bool any_filesystem;
};
extern struct cg_seams cg_seams;

/* ---- the registry of parents (parents.c) --------------------------------------------------------------------------- */

/* ROOT/.parents/: directories between mount point and leaf that some container of this state root made. `dir` is the
 * directory itself, `path` its absolute path. Without a record nothing happens. */
int parents_note(struct context *c, int dir, const char *path);
bool parents_has(struct context *c, int dir, const char *path);
void parents_forget(struct context *c, uint64_t device, uint64_t inode);

#endif
