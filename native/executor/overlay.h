/* A stack of layers to be mounted: what overlay.c and overlay_old.c share. */
#ifndef CORRAL_OVERLAY_H
#define CORRAL_OVERLAY_H

#include "context.h"
#include "sys.h"

#define STACK_MAPPED     1u /* the layers' ids are mapped by init's user namespace */
#define STACK_USER_XATTR 2u /* marks are user.overlay.*: made without privileges */
#define STACK_VOLATILE   4u /* never synced: the container is not started again */

#define STACK_MAX 500 /* the kernel takes no more (OVL_MAX_STACK) */

struct stack {
    const struct arg *lower; /* directories, the topmost first */
    const char *writable;    /* holds the directories "upper" and "work"; "" = read-only */
    const char *label;       /* SELinux context of all files, or "" */
    unsigned flags;
    int userns;              /* borrowed; -1 = not STACK_MAPPED */
};

/* A detached mount of the stack on kernels whose overlay takes its layers only as one string of paths, or no detached
 * mounts among them: made by a child in a mount namespace of its own. Returns a descriptor or -errno with a detail. */
int make_in_private_namespace(struct context *c, const struct stack *stack);

/* idmap.c: the user namespace of init, as a descriptor of the caller's. */
int open_init_userns(struct context *c);
/* rootfs.c: the mount that holds `path` receives from its peers, and no longer sends. */
int unshare_holder(struct context *c, const char *path);

#endif
