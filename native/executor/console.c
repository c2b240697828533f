/* CONSOLE: a pty of the container's own devpts; and who owns the standard streams. */
#include "console.h"
#include "mount.h"
#include "run.h"

#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <termios.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41) /* 4.13 (54ebbfb16034) */
#endif

/* The multiplexer of a devpts mount, and nothing that an image may have put at its place. */
static int open_master(struct context *c) {
    cleanup_fd int path = target_open(c, "/dev/pts/ptmx", TARGET_NO_SYMLINKS, 0, NULL);
    if (path < 0)
        return c->detail[0] ? path : detail(c, path, "open '/dev/pts/ptmx' in the container");
    struct stat st;
    if (fstat(path, &st) < 0)
        return detail(c, -errno, "stat '/dev/pts/ptmx'");
    if (is_magic(path, DEVPTS_SUPER_MAGIC) != 1 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(5, 2))
        return detail(c, -ENOTTY, "'/dev/pts/ptmx' in the container is no pty multiplexer");
    int master = target_reopen(c, path, O_RDWR | O_NOCTTY);
    return master < 0 ? detail(c, master, "open '/dev/pts/ptmx' in the container") : master;
}

/* The other end straight from the master: no path that could have been replaced is opened. */
static int open_slave(struct context *c, int master) {
    int unlock = 0;
    if (ioctl(master, TIOCSPTLCK, &unlock) < 0)
        return detail(c, -errno, "unlock the pty");
    int slave = sys_result(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
    return slave < 0 ? detail(c, slave, "open the pty's other end") : slave;
}

static int set_up(struct context *c, int slave, unsigned rows, unsigned cols) {
    struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};
    struct termios tio;
    if ((rows || cols) && ioctl(slave, TIOCSWINSZ, &size) < 0)
        return detail(c, -errno, "set the console's size");
    /* The kernel's default turns "\n" into "\r\n"; who attaches a terminal of his own would get it twice. */
    if (tcgetattr(slave, &tio) < 0)
        return detail(c, -errno, "read the console's settings");
    tio.c_oflag &= ~(tcflag_t)ONLCR;
    if (tcsetattr(slave, TCSANOW, &tio) < 0)
        return detail(c, -errno, "change the console's settings");
    return 0;
}

/* CVE-2025-52565: whatever /dev/console is, the mount goes on that very inode, and what lies there afterwards must be
 * this pty before anybody is told of it. */
static int bind_console(struct context *c, int slave) {
    const unsigned lookup = TARGET_CREATE | TARGET_FILE | TARGET_NO_SYMLINKS;
    cleanup_fd int target = target_open(c, "/dev/console", lookup, 0600, NULL);
    if (target < 0)
        return c->detail[0] ? target : detail(c, target, "open '/dev/console' in the container");
    cleanup_fd int tree = sys_open_tree(slave, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (tree < 0)
        return detail(c, tree, "copy the mount of the pty");
    int r = mount_attach(c, tree, target, "/dev/console", lookup);
    if (r < 0)
        return r;
    cleanup_fd int now = target_open(c, "/dev/console", TARGET_NO_SYMLINKS, 0, NULL);
    struct stat is, want;
    if (now < 0 || fstat(now, &is) < 0 || fstat(slave, &want) < 0 || !S_ISCHR(is.st_mode) ||
        is.st_rdev != want.st_rdev || is_magic(now, DEVPTS_SUPER_MAGIC) != 1)
        return detail(c, -ESTALE, "'/dev/console' is not the container's pty");
    return 0;
}

static void own(int fd, uid_t uid) {
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid == uid)
        return;
    if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3)) /* the host's /dev/null is everybody's */
        return;
    (void)!fchown(fd, uid, st.st_gid); /* EPERM, EINVAL: not ours to give, or an id that has no place there */
}

void own_streams(struct context *c, uid_t uid) {
    for (int fd = 0; fd <= 2; fd++)
        own(fd, uid);
    own(c->console_slave, uid);
}

/* Pipes of the host cannot be given away from inside a user namespace that does not map their owner, so the front does
 * it: else the container's user cannot open /dev/stdout anew. Pipes only: a file or terminal stays its owner's. */
int step_own_stdio(struct context *c, const struct step *s) {
    (void)c;
    for (int fd = 0; fd <= 2; fd++) {
        struct stat st;
        if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode))
            (void)!fchown(fd, (uid_t)s->arg[0].num, (gid_t)s->arg[1].num); /* EPERM: an unprivileged caller's */
    }
    return 0;
}

int step_console(struct context *c, const struct step *s) {
    cleanup_fd int master = open_master(c);
    if (master < 0)
        return master;
    cleanup_fd int slave = open_slave(c, master);
    if (slave < 0)
        return slave;
    int r = set_up(c, slave, (unsigned)s->arg[0].num, (unsigned)s->arg[1].num);
    if (r == 0 && s->arg[2].num & 1)
        r = bind_console(c, slave);
    if (r < 0)
        return r;
    close_fd(&c->console_slave);
    c->console_slave = steal_fd(&slave);
    return slot_put(c, s->arg[3].num, steal_fd(&master));
}
