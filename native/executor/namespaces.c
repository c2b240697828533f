/* Namespaces and identity in them: joining, unsharing, sessions. */
#include <linux/keyctl.h>
#include <string.h>
#include <sys/prctl.h>

#include "run.h"
#include "sys.h"

static const struct {
    const char *type; /* as in config.json */
    const char *file; /* below /proc/PID/ns */
    int flag;
} kinds[] = {
    {"ipc", "ipc", CLONE_NEWIPC},        {"uts", "uts", CLONE_NEWUTS}, {"net", "net", CLONE_NEWNET},
    {"pid", "pid", CLONE_NEWPID},        {"mnt", "mnt", CLONE_NEWNS},  {"cgroup", "cgroup", CLONE_NEWCGROUP},
    {"time", "time", CLONE_NEWTIME},     {"user", "user", CLONE_NEWUSER},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static int kind_of(const char *word, size_t len) {
    for (size_t i = 0; i < KINDS; i++)
        if (strlen(kinds[i].type) == len && memcmp(kinds[i].type, word, len) == 0)
            return (int)i;
    return -1;
}

/* Whoever is in there already must not be able to trace us or open our /proc files: from here on, until exec. */
static void become_undumpable(void) { (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); }

struct join {
    int kind;
    int fd;           /* a namespace, or a pidfd */
    const char *path; /* what the user called it */
    bool done;
};

/* Our own namespace already: nothing to do, and no right is needed for it. */
static bool is_current(int kind, int fd) {
    char path[40];
    struct stat own, other;
    fmt(path, sizeof(path), "/proc/self/ns/%s", kinds[kind].file);
    return stat(path, &own) == 0 && fstat(fd, &other) == 0 && own.st_ino == other.st_ino && own.st_dev == other.st_dev;
}

/* All but user, then user, then again those that were refused: before the user namespace is joined our old rights
 * count, after it those inside it do, and which of them a namespace's owner wants cannot be told beforehand. */
static int join_all(struct context *c, struct join *joins, size_t n) {
    int r = 0;
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < n; i++) {
            struct join *j = &joins[i];
            bool user = kinds[j->kind].flag == CLONE_NEWUSER;
            if (j->done || user != (round == 1))
                continue;
            r = sys_setns(j->fd, kinds[j->kind].flag);
            j->done = r >= 0;
            if (r < 0 && (round == 1 || round == 2 || r != -EPERM))
                return detail(c, r, "join the %s namespace %s", kinds[j->kind].type, j->path);
        }
    return 0;
}

/* JOIN_PATHS(entries) */
int step_join_paths(struct context *c, const struct step *s) {
    struct join joins[KINDS];
    size_t n = 0;
    int r = 0;
    become_undumpable();
    for (const char *entry = vec_next(&s->arg[0], NULL); entry && r == 0; entry = vec_next(&s->arg[0], entry)) {
        const char *colon = strchr(entry, ':');
        int kind = colon ? kind_of(entry, (size_t)(colon - entry)) : -1;
        if (kind < 0 || n == KINDS) {
            r = detail(c, -EINVAL, "namespace '%s'", entry);
            break;
        }
        joins[n] = (struct join){.kind = kind, .path = colon + 1, .fd = open_at(AT_FDCWD, colon + 1, O_RDONLY, 0)};
        if (joins[n].fd < 0) {
            r = detail(c, joins[n].fd, "open '%s'", colon + 1);
            break;
        }
        joins[n].done = is_current(kind, joins[n].fd);
        n++;
    }
    if (r == 0)
        r = join_all(c, joins, n);
    for (size_t i = 0; i < n; i++)
        close_fd(&joins[i].fd);
    return r;
}

static int join_by_files(struct context *c, pid_t pid, unsigned flags) {
    struct join joins[KINDS];
    char names[KINDS][48];
    size_t n = 0;
    int r = 0;
    for (size_t i = 0; i < KINDS && r == 0; i++) {
        if (!(flags & (unsigned)kinds[i].flag))
            continue;
        fmt(names[n], sizeof(names[n]), "/proc/%d/ns/%s", pid, kinds[i].file);
        int fd = open_at(AT_FDCWD, names[n], O_RDONLY, 0);
        if (fd == -ENOENT) /* a kernel without this kind */
            continue;
        if (fd < 0) {
            r = detail(c, fd, "open '%s'", names[n]);
            break;
        }
        joins[n] = (struct join){.kind = (int)i, .fd = fd, .path = names[n], .done = is_current((int)i, fd)};
        n++;
    }
    if (r == 0)
        r = join_all(c, joins, n);
    for (size_t i = 0; i < n; i++)
        close_fd(&joins[i].fd);
    return r;
}

/* JOIN_CONTAINER(pid, start time, flags). The files below /proc/PID/ns are read only while the pidfd proves that PID
 * is still that process; then all of them are of one process, whatever happens to the number later. */
int step_join_container(struct context *c, const struct step *s) {
    pid_t pid = (pid_t)s->arg[0].num;
    become_undumpable();
    cleanup_fd int pidfd = sys_pidfd_open(pid, 0);
    if (pidfd < 0 || process_is_dead(-1, pid, (int64_t)s->arg[1].num))
        return detail(c, -ESRCH, "container not running");
    int r = join_by_files(c, pid, (unsigned)s->arg[2].num);
    if (r < 0 && sys_pidfd_send_signal(pidfd, 0) == -ESRCH)
        return detail(c, -ESRCH, "container not running");
    return r;
}

/* UNSHARE(flags) */
int step_unshare(struct context *c, const struct step *s) {
    if (unshare((int)s->arg[0].num) < 0)
        return detail(c, -errno, "unshare 0x%llx", (unsigned long long)s->arg[0].num);
    return 0;
}

/* BECOME_ROOT(flags) */
int step_become_root(struct context *c, const struct step *s) {
    int r = sys_setresgid(0);
    if (r < 0)
        return detail(c, r, "setresgid 0");
    if ((s->arg[0].num & 1) && (r = sys_setgroups(0, NULL)) < 0)
        return detail(c, r, "setgroups");
    r = sys_setresuid(0);
    return r < 0 ? detail(c, r, "setresuid 0") : 0;
}

/* Possession alone opens it: view, read, write, search, link for the possessor, a look for the user.
 * include/linux/key.h. */
#define KEY_POSSESSOR_ALL 0x3f000000u
#define KEY_USER_VIEW 0x00010000u

/* SESSION(keyring) */
int step_session(struct context *c, const struct step *s) {
    const char *name = s->arg[0].ptr;
    if (setsid() < 0 && errno != EPERM) /* EPERM: already the leader of a group, as pid 1 may be */
        return detail(c, -errno, "setsid");
    if (!name[0])
        return 0;
    int key = sys_keyctl(KEYCTL_JOIN_SESSION_KEYRING, (unsigned long)(uintptr_t)name, 0, 0, 0);
    /* No keyrings here, or a host's filter or quota refuses one: a container without it is as safe, since it then
     * sees none of the host's session either only if the caller had none. */
    if (key == -ENOSYS || key == -EACCES || key == -EDQUOT)
        return 0;
    if (key < 0)
        return detail(c, key, "join the session keyring '%s'", name);
    (void)sys_keyctl(KEYCTL_SETPERM, (unsigned long)key, KEY_POSSESSOR_ALL | KEY_USER_VIEW, 0, 0);
    return 0;
}
