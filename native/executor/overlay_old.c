/* The overlay of kernels before 6.7, or before 6.15 with mapped layers: mount(2) in a namespace of its own.
 *
 * There the options are one string of at most a page, and a mapped layer must be attached in the namespace of whoever
 * mounts. So a child takes a private mount namespace, binds every layer under a short name (0, 1, 2 ...) below a tmpfs,
 * mounts the stack with these names, and sends back a detached copy of the mount. */
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "mount.h"
#include "overlay.h"
#include "run.h"

#define SCRATCH "/dev" /* covered by the tmpfs, in the child's namespace alone */
#define WAIT_MS 20000

static int bind_on(struct context *c, int from, const char *name, int userns) {
    cleanup_fd int tree = sys_open_tree(from, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (tree < 0)
        return detail(c, tree, "copy the mount of layer %s", name);
    if (userns >= 0) {
        struct k_mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)userns};
        int r = sys_mount_setattr(tree, "", AT_EMPTY_PATH, &attr);
        if (r < 0)
            return detail(c, r == -EPERM ? r : -EOPNOTSUPP,
                          "map the ids of layer %s: its file system or this kernel has no idmapped mounts", name);
    }
    if (mkdir(name, 0700) < 0)
        return detail(c, -errno, "make a directory for layer %s", name);
    int r = sys_move_mount(tree, "", AT_FDCWD, name, MOVE_MOUNT_F_EMPTY_PATH);
    return r < 0 ? detail(c, r, "bind layer %s", name) : 0;
}

/* Opens every layer, and the writable directory behind them, into `opened`; returns the number of layers. */
static int open_all(struct context *c, const struct stack *stack, int *opened) {
    int n = 0;
    for (const char *path = NULL; (path = vec_next(stack->lower, path)) != NULL; n++) {
        if (n == STACK_MAX)
            return detail(c, -E2BIG, "more than %d layers", STACK_MAX);
        if ((opened[n] = open_at(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0)) < 0)
            return detail(c, opened[n], "open the layer '%s'", path);
    }
    if (stack->writable[0] && (opened[n] = open_at(AT_FDCWD, stack->writable, O_PATH | O_DIRECTORY, 0)) < 0)
        return detail(c, opened[n], "open '%s'", stack->writable);
    return n;
}

static int bind_layers(struct context *c, const struct stack *stack, const int *opened, int n, char *names, size_t size) {
    size_t len = 0;
    char name[12];
    for (int i = 0; i < n; i++) {
        fmt(name, sizeof(name), "%d", i);
        int r = bind_on(c, opened[i], name, stack->userns);
        if (r < 0)
            return r;
        len += fmt(names + len, size - len, i ? ":%d" : "%d", i);
    }
    return stack->writable[0] ? bind_on(c, opened[n], "rw", -1) : 0;
}

static void write_options(const struct stack *stack, const char *names, char *data, size_t size) {
    size_t len = fmt(data, size, "lowerdir=%s,index=off,xino=off", names);
    if (stack->writable[0])
        len += fmt(data + len, size - len, ",upperdir=rw/upper,workdir=rw/work");
    if (stack->flags & STACK_USER_XATTR)
        len += fmt(data + len, size - len, ",userxattr");
    else
        len += fmt(data + len, size - len, ",metacopy=off,redirect_dir=nofollow");
    if (stack->flags & STACK_VOLATILE)
        len += fmt(data + len, size - len, ",volatile");
    if (stack->label[0])
        fmt(data + len, size - len, ",context=\"%s\"", stack->label);
}

/* In the child: the layers are opened in its own namespace, where alone they can be copied, and before the tmpfs. */
static int mount_stack(struct context *c, const struct stack *stack) {
    static int opened[STACK_MAX + 1];
    static char names[3000], data[4096];
    int r = sys_result(unshare(CLONE_NEWNS));
    if (r < 0)
        return detail(c, r, "take a mount namespace");
    if ((r = sys_result(mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL))) < 0)
        return detail(c, r, "make '/' private");
    int n = open_all(c, stack, opened);
    if (n < 0)
        return n;
    if ((r = sys_result(mount("tmpfs", SCRATCH, "tmpfs", 0, "mode=700"))) < 0)
        return detail(c, r, "mount a tmpfs");
    if (chdir(SCRATCH) < 0)
        return detail(c, -errno, "enter the tmpfs");
    if ((r = bind_layers(c, stack, opened, n, names, sizeof(names))) < 0)
        return r;
    if (mkdir("root", 0700) < 0)
        return detail(c, -errno, "make a directory");
    write_options(stack, names, data, sizeof(data));
    r = sys_result(mount("overlay", "root", "overlay", stack->writable[0] ? 0 : MS_RDONLY, data));
    if (r < 0)
        return detail(c, r, "put the layers together");
    r = sys_open_tree(AT_FDCWD, "root", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    return r < 0 ? detail(c, r, "copy the overlay's mount") : r;
}

static _Noreturn void child(struct context *c, const struct stack *stack, int sock) {
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    int tree = mount_stack(c, stack);
    struct message_head head = {.kind = tree < 0 ? MSG_FAIL : MSG_FD, .error = tree < 0 ? tree : 0};
    size_t len = tree < 0 ? strlen(c->detail) : 0;
    _exit(message_send(sock, &head, c->detail, len, tree) < 0);
}

static int receive(struct context *c, int sock) {
    static struct message m;
    int r = message_receive(sock, &m, WAIT_MS);
    if (r <= 0)
        return detail(c, r < 0 ? r : -ECHILD, "mount the layers in a namespace of their own");
    if (m.kind == MSG_FD && m.fds[0] >= 0)
        return steal_fd(&m.fds[0]);
    message_close_fds(&m);
    return detail(c, m.error < 0 ? m.error : -EPROTO, "%s", m.bytes);
}

int make_in_private_namespace(struct context *c, const struct stack *stack) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return detail(c, -errno, "open a socket pair");
    pid_t pid = sys_fork(0);
    if (pid == 0)
        child(c, stack, pair[1]);
    close(pair[1]);
    int r = pid < 0 ? detail(c, pid, "fork") : receive(c, pair[0]);
    close(pair[0]);
    if (pid > 0) {
        (void)kill(pid, SIGKILL);
        (void)wait_pid(pid, NULL);
    }
    return r;
}
