/* LOOPBACK and NET_MOVE: the container's network devices. */
#include "context.h"
#include "netlink.h"
#include "run.h"
#include "sys.h"

#include <string.h>

#define ADDRESSES_MAX 128

int step_loopback(struct context *c, const struct step *s) {
    (void)s;
    cleanup_fd int sock = netlink_open();
    if (sock < 0)
        return detail(c, sock, "open a netlink socket");
    int index = netlink_find(sock, "lo");
    int r = index < 0 ? index : netlink_set_up(sock, index);
    return r < 0 ? detail(c, r, "set 'lo' up") : 0;
}

/* Why the child that works inside the namespace could not: its answer through a pipe. */
struct answer {
    int error;
    char what[64];
};

static void answer(struct answer *a, int error, const char *what) {
    a->error = error;
    fmt(a->what, sizeof(a->what), "%s", what);
}

static void arrive(struct answer *a, int netns, const char *name, const struct netlink_address *all, int count) {
    int r = sys_setns(netns, CLONE_NEWNET);
    if (r < 0)
        return answer(a, r, "join the network namespace");
    cleanup_fd int sock = netlink_open();
    if (sock < 0)
        return answer(a, sock, "open a netlink socket");
    int index = netlink_find(sock, name);
    if (index < 0)
        return answer(a, index, "find the device after the move");
    /* Addresses before the link is up, so that nobody sees the device without them. */
    for (int i = 0; i < count; i++)
        if ((r = netlink_add_address(sock, index, &all[i])) < 0)
            return answer(a, r, "restore an address");
    if ((r = netlink_set_up(sock, index)) < 0)
        answer(a, r, "set the device up");
}

/* In a child: the front must not leave its own network namespace, even for a moment. */
static int finish_inside(struct context *c, int netns, const char *name, const struct netlink_address *all, int count) {
    int ends[2];
    struct answer a = {0};
    if (pipe2(ends, O_CLOEXEC) < 0)
        return detail(c, -errno, "make a pipe");
    cleanup_fd int from = ends[0], to = ends[1];
    pid_t pid = sys_fork(0);
    if (pid == 0) {
        arrive(&a, netns, name, all, count);
        _exit(write_all(to, &a, sizeof(a)) == 0 ? 0 : 1);
    }
    if (pid < 0)
        return detail(c, pid, "fork");
    close_fd(&to);
    int n = read_all(from, &a, sizeof(a));
    (void)wait_pid(pid, NULL);
    if (n != sizeof(a))
        return detail(c, -ECHILD, "the process inside the network namespace ended early");
    return a.error < 0 ? detail(c, a.error, "%s", a.what) : 0;
}

int step_net_move(struct context *c, const struct step *s) {
    static struct netlink_address all[ADDRESSES_MAX];
    const char *name = s->arg[0].ptr, *new_name = s->arg[1].ptr;
    char path[40];
    fmt(path, sizeof(path), "/proc/%d/ns/net", c->init_pid);
    cleanup_fd int netns = open_at(AT_FDCWD, path, O_RDONLY, 0);
    if (netns < 0)
        return detail(c, netns, "open '%s'", path);
    cleanup_fd int sock = netlink_open();
    if (sock < 0)
        return detail(c, sock, "open a netlink socket");
    int index = netlink_find(sock, name);
    if (index < 0)
        return detail(c, index, "find the network device '%s'", name);
    int count = netlink_addresses(sock, index, all, ADDRESSES_MAX); /* the move drops them */
    if (count < 0)
        return detail(c, count, "read the addresses of '%s'", name);
    int r = netlink_move(sock, index, netns, strcmp(name, new_name) == 0 ? "" : new_name);
    if (r < 0)
        return detail(c, r, "move '%s' into the container's network namespace", name);
    return finish_inside(c, netns, new_name[0] ? new_name : name, all, count);
}
