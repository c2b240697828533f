/* What the mount steps share: places below the rootfs (target.c) and mounts on descriptors (mount.c). */
#ifndef CORRAL_MOUNT_H
#define CORRAL_MOUNT_H

#include "context.h"
#include "sys.h"

/* ---- options of MOUNT_FS, BIND and ATTACH_TREE, as in docs/design/plan.md ------------------------------------ */
#define OPT_COPY_UP         1u
#define OPT_FILE            2u
#define OPT_NO_CREATE       4u
#define OPT_NO_FOLLOW       8u
#define OPT_ORDINARY       16u
#define OPT_LATE_READONLY  32u
#define OPT_SOURCE_IN_ROOT 64u
#define OPT_MISSING_OK    128u
#define OPT_CLEARED_SHIFT 32 /* the upper half: MOUNT_ATTR_* that the config clears in words ("rw", "exec", ...) */

/* ---- target.c: the only way from a container's path to a descriptor ------------------------------------------- */
#define TARGET_CREATE      1u /* make what is missing: directories, and a directory or file as the last component */
#define TARGET_FILE        2u /* ... a file */
#define TARGET_NO_FOLLOW   4u /* a symlink as the last component is the target itself */
#define TARGET_NO_SYMLINKS 8u /* no component may be a symlink: -ELOOP */

/* The descriptor (O_PATH) against which the container's paths resolve: c->rootfd, or "/" opened once where there
 * was no ROOTFS step (exec). Borrowed. */
int target_root(struct context *c);
/* Opens `path` below the root with O_PATH; no lookup ever leaves the root. `mode`: of the last component if it is made.
 * *made (may be NULL): whether it was. Returns a descriptor that the caller owns, or -errno with a detail;
 * -ENOENT and -ENOTDIR come without detail, for callers to whom a missing path is fine. */
int target_open(struct context *c, const char *path, unsigned flags, mode_t mode, bool *made);
/* Opens the directory in which the last component of `path` lives, made if missing, and stores that component, which
 * is never followed and never "", "." or "..". Owned by the caller, or -errno with a detail. */
int target_parent(struct context *c, const char *path, char name[256]);
/* Opens for I/O what an O_PATH descriptor refers to, through a verified procfs. */
int target_reopen(struct context *c, int fd, int flags);
/* A path by which mount(2) reaches the very object behind fd: for the fallbacks of 5.10. May change the working
 * directory after PIVOT: mount_path_done() restores it. Returns 0 or -errno with a detail. */
int mount_path(struct context *c, int fd, char buf[48]);
void mount_path_done(struct context *c);
/* Same file: device and inode. */
bool same_file(int a, int b);

/* ---- mount.c: flags, attachment, read-back ---------------------------------------------------------------------- */
/* How a mount is to look. ms: mount(2) flags of the top mount; set, clear: MOUNT_ATTR_* of the whole tree; cleared:
 * MOUNT_ATTR_* that the top mount must not have, in so many words; keep: what else it has already stays. */
struct mount_wish {
    uint64_t ms, set, clear, propagation;
    unsigned options;
    uint64_t cleared;
    bool keep;
};

#define MS_ATTRIBUTES                                                                                                  \
    (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME |        \
     MS_NOSYMFOLLOW)

uint64_t mount_attributes(uint64_t ms); /* MS_* -> MOUNT_ATTR_* */
/* Sets exactly the flags `ms` on the mount whose root is `tree`. Other flags that the kernel has locked stay, unless
 * `cleared` names them: then -EPERM. keep: none is cleared that `cleared` does not name. -ENOSYS before 5.12. */
int mount_set_flags(struct context *c, int tree, uint64_t ms, uint64_t cleared, bool keep);
/* The same for an attached mount by mount(2), as kernels before 5.12 need it. */
int mount_set_flags_old(struct context *c, int tree, uint64_t ms, uint64_t cleared, bool keep);
/* Adds read-only to a mount, whatever else it has; attached = false: a detached tree. */
int mount_make_readonly(struct context *c, int tree);
/* propagation: MS_PRIVATE ... with or without MS_REC; 0 = leave. */
int mount_propagation(struct context *c, int tree, uint64_t propagation);
/* Attaches a detached tree on `target` and proves that `path` leads to it now. `lookup`: TARGET_* flags of the path. */
int mount_attach(struct context *c, int tree, int target, const char *path, unsigned lookup);
/* -EIO with a detail unless `path` leads to the root of the mount `tree`. */
int mount_verify(struct context *c, int tree, const char *path, unsigned lookup);
/* -EPERM if something other than procfs would be mounted inside procfs, but for the few files that lxcfs replaces. */
int mount_refuse_inside_proc(struct context *c, int target, const char *path);
/* Flags, attributes, attachment, propagation and read-back of a detached tree. */
int mount_place(struct context *c, int tree, int target, const char *path, unsigned lookup,
                const struct mount_wish *wish);
/* An error unless a mount that was asked to be read-only is. */
int mount_check_readonly(struct context *c, int tree, const char *path);
unsigned target_flags(unsigned options); /* OPT_* -> TARGET_* */

/* ---- copyup.c ------------------------------------------------------------------------------------------------- */
/* Copies what is in directory `from` (readable descriptor) to `to` (O_PATH or readable), never following a symlink;
 * owners, modes, times and extended attributes as far as allowed. */
int copy_up(struct context *c, int from, int to);

#endif
