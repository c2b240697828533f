/* IDMAP_TREE: the ids of a detached mount, mapped by a user namespace that exists for this alone. */
#include "context.h"
#include "overlay.h"
#include "run.h"
#include "sys.h"

#include <string.h>
#include <sys/prctl.h>

static int write_map(pid_t pid, const char *file, const char *text) {
    char path[48];
    fmt(path, sizeof(path), "/proc/%d/%s", pid, file);
    return write_file_at(AT_FDCWD, path, 0, text, strlen(text));
}

static int open_userns(struct context *c, pid_t pid) {
    char path[48];
    fmt(path, sizeof(path), "/proc/%d/ns/user", pid);
    int fd = open_at(AT_FDCWD, path, O_RDONLY, 0);
    return fd < 0 ? detail(c, fd, "open '%s'", path) : fd;
}

/* A user namespace with these maps. It lives on by the descriptor; the child that it needs to come to life does not. */
static int make_userns(struct context *c, const char *uid_map, const char *gid_map) {
    pid_t parent = sys_getpid();
    pid_t pid = sys_fork(CLONE_NEWUSER);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if ((pid_t)syscall(SYS_getppid) != parent) /* it died before it could be watched */
            _exit(0);
        for (;;)
            pause();
    }
    if (pid < 0)
        return detail(c, pid, "make a user namespace");
    int r = write_map(pid, "gid_map", gid_map);
    if (r < 0)
        detail(c, r, "write the gid map '%s'", gid_map);
    else if ((r = write_map(pid, "uid_map", uid_map)) < 0)
        detail(c, r, "write the uid map '%s'", uid_map);
    else
        r = open_userns(c, pid);
    (void)kill(pid, SIGKILL);
    (void)wait_pid(pid, NULL);
    return r;
}

int open_init_userns(struct context *c) {
    return c->init_pid > 0 ? open_userns(c, c->init_pid) : detail(c, -ESRCH, "no process with a user namespace");
}

int step_idmap_tree(struct context *c, const struct step *s) {
    const char *uid_map = s->arg[1].ptr, *gid_map = s->arg[2].ptr;
    int tree = slot_get(c, s->arg[0].num);
    if (tree < 0)
        return tree;
    cleanup_fd int userns = uid_map[0] || gid_map[0] ? make_userns(c, uid_map, gid_map) : open_init_userns(c);
    if (userns < 0)
        return userns;
    struct k_mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)userns};
    int r = sys_mount_setattr(tree, "", AT_EMPTY_PATH | (s->arg[3].num & 1 ? AT_RECURSIVE : 0), &attr);
    if (r == -EINVAL)
        return detail(c, r, "the source's file system does not support idmapped mounts");
    return r < 0 ? detail(c, r, "set the mount's id mapping") : 0;
}
