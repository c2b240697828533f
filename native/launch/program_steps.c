/* The steps of the pre-rendered programs: state, start, kill, delete. */
#include <stdio.h> /* renameat is declared nowhere else in musl */
#include <dirent.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>

#include "executor/cgroup.h"
#include "executor/journal.h"
#include "executor/run.h"
#include "executor/sys.h"
#include "launch/program.h"

struct kill_request kill_request;

/* ---- state -------------------------------------------------------------------------------------------------------------- */

int step_state_doc(struct context *c, const struct step *s) {
    static char text[1 << 16];
    struct live live = {0};
    int status = record_status(c->record);
    if (status < 0)
        return detail(c, status, "read the status");
    cleanup_fd int init = record_open_init(c->record, &live);
    const char *word = record_status_name((enum record_status)status);
    /* Its maker died half-way: nothing runs, and what is left is to be deleted. That is what callers know as stopped. */
    if (status == RECORD_STALE)
        word = "stopped";
    if ((status == RECORD_RUNNING || status == RECORD_CREATED) && cg_is_frozen(c))
        word = "paused";
    int r = write_all(1, s->arg[0].ptr, s->arg[0].len);
    size_t n = fmt(text, sizeof(text), "%d%s%s", init >= 0 && status != RECORD_STALE ? live.pid : 0, s->arg[1].ptr, word);
    r = r < 0 ? r : write_all(1, text, n);
    r = r < 0 ? r : write_all(1, s->arg[2].ptr, s->arg[2].len);
    return r < 0 ? detail(c, r, "write to stdout") : 0;
}

/* ---- start -------------------------------------------------------------------------------------------------------------- */

/* Until the container's program is executed: then init's end of the connection closes by itself. Before, init has said
 * SYNC when nothing but the exec was left to do; its end without that is a death. */
static int await_exec(struct context *c, int sock, int timeout_ms) {
    static struct message m;
    bool announced = false;
    int64_t end = now_ms() + timeout_ms;
    for (;;) {
        int64_t left = end - now_ms();
        int r = message_receive(sock, &m, left > 0 ? (int)left : 0);
        if (r == -ETIMEDOUT)
            return detail(c, -ECANCELED, "its first process did not execute its program within %d ms", timeout_ms);
        if (r < 0)
            return detail(c, r, "read from its first process");
        if (r == 0)
            break;
        message_close_fds(&m);
        if (m.kind == MSG_WARNING)
            warning_sink(m.bytes);
        if (m.kind == MSG_FAIL)
            return detail(c, -ECANCELED, "%s", m.bytes);
        announced = announced || m.kind == MSG_SYNC;
    }
    if (announced)
        return 0;
    cleanup_fd int init = record_open_init(c->record, NULL);
    if (init >= 0)
        return detail(c, -ECANCELED, "cannot start an already running container");
    return detail(c, -ECANCELED, "its first process ended before it executed its program");
}

int step_release(struct context *c, const struct step *s) {
    char path[64];
    struct live live;
    c->init_pidfd = record_open_init(c->record, &live);
    if (c->init_pidfd < 0)
        return detail(c, -ECANCELED, "cannot start a container that has stopped");
    c->init_pid = live.pid;
    /* A frozen process would not answer, and what it was told would still be done when it is thawed. */
    if (cg_is_frozen(c))
        return detail(c, -ECANCELED, "cannot start a container in the paused state: resume it first");
    fmt(path, sizeof(path), "/proc/self/fd/%d/start.sock", c->record);
    cleanup_fd int sock = connect_unix(path, SOCK_SEQPACKET);
    /* One start only: the listener is gone as soon as one is accepted. */
    if (sock == -ECONNREFUSED || sock == -ENOENT || sock == -ECONNRESET)
        return detail(c, -ECANCELED, "cannot start an already running container");
    if (sock < 0)
        return detail(c, sock, "connect to 'start.sock' of the record");
    return await_exec(c, sock, (int)s->arg[0].num);
}

/* ---- kill --------------------------------------------------------------------------------------------------------------- */

#define OWN_PID_NAMESPACE 1u

static int signal_init(struct context *c) {
    cleanup_fd int init = record_open_init(c->record, NULL);
    if (init == -ESRCH || init == -ENOENT)
        return -ESRCH;
    return init < 0 ? init : sys_pidfd_send_signal(init, kill_request.signal);
}

/* Who is signalled. With a pid namespace of its own, the end of pid 1 is everybody's, so SIGKILL of init is enough;
 * without, and for other signals to all, the cgroup tells who belongs to the container. */
int step_kill_scope(struct context *c, const struct step *s) {
    bool own_pids = s->arg[0].num & OWN_PID_NAMESPACE, kills = kill_request.signal == SIGKILL;
    bool everyone = kill_request.all || (kills && !own_pids);
    struct cgroup *group = everyone ? cg_counter(c) : NULL;
    int r = 0;
    if (group)
        r = cg_signal_all(c, group, kill_request.signal);
    else if (everyone && !own_pids)
        warning(c, "the container has neither a cgroup nor a pid namespace of its own: only its first process is signalled");
    if (r < 0)
        return detail(c, r, "signal the processes of '%s%s'", group->mount, group->path);
    /* Whoever was signalled by the group is not signalled twice: only SIGKILL may be, without harm. */
    if (!group || kills)
        r = signal_init(c);
    /* A frozen process of v1 keeps its SIGKILL for later. */
    if (kills)
        cg_thaw_all(c);
    if (r == -ESRCH) /* it was alive when we began: then the group's signal was the faster one */
        return kill_request.all || group ? 0 : detail(c, -ECANCELED, "container not running");
    return r < 0 ? detail(c, r, "signal %d", kill_request.signal) : 0;
}

/* ---- delete ------------------------------------------------------------------------------------------------------------- */

int program_kill_init(struct context *c, int record, int64_t budget_ms) {
    cleanup_fd int init = record_open_init(record, NULL);
    if (init == -ESRCH || init == -ENOENT)
        return 0;
    int r = init < 0 ? init : sys_pidfd_send_signal(init, SIGKILL);
    if (r < 0)
        return r == -ESRCH ? 0 : r;
    if (c)
        cg_thaw_all(c);
    r = wait_readable(init, (int)budget_ms);
    return r < 0 ? r : r == 0 ? -ETIMEDOUT : 0;
}

static int describe_survivor(struct context *c, int error) {
    char path[48], state[128], wchan[64];
    struct live live = {0};
    (void)record_read_live(c->record, &live);
    fmt(path, sizeof(path), "/proc/%d/stat", live.pid);
    int n = read_file_at(AT_FDCWD, path, state, sizeof(state));
    const char *end = n > 0 ? strrchr(state, ')') : NULL;
    fmt(path, sizeof(path), "/proc/%d/wchan", live.pid);
    if (read_file_at(AT_FDCWD, path, wchan, sizeof(wchan)) <= 0)
        fmt(wchan, sizeof(wchan), "-");
    return detail(c, error, "process %d, state %.1s, waits in %s", live.pid, end && end[1] ? end + 2 : "?", wchan);
}

int step_kill_init(struct context *c, const struct step *s) {
    int r = program_kill_init(c, c->record, (int64_t)s->arg[0].num);
    return r < 0 ? describe_survivor(c, r) : 0;
}

/* The record holds plain files and a directory or two, none of them the container's to write. */
static int remove_below(int dir, unsigned depth) {
    cleanup_fd int fd = open_at(dir, ".", O_RDONLY | O_DIRECTORY, 0);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    int r = list ? 0 : -errno;
    if (list)
        (void)steal_fd(&fd);
    while (list && (entry = readdir(list))) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || unlinkat(dir, name, 0) == 0)
            continue;
        int error = -errno;
        if ((error == -EISDIR || error == -EPERM) && depth > 0) {
            cleanup_fd int child = open_at(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
            error = child < 0 ? child : remove_below(child, depth - 1);
            if (error == 0 && unlinkat(dir, name, AT_REMOVEDIR) < 0)
                error = -errno;
        }
        r = error < 0 && error != -ENOENT ? error : r;
    }
    if (list)
        closedir(list);
    return r;
}

/* The record's own name in its parent, as the kernel knows it; "" if it has lost it. */
static void record_name(int record, int root, char name[300]) {
    char link[40], path[PATH_MAX];
    struct stat own, named;
    name[0] = '\0';
    fd_path(link, record);
    int n = read_link_at(AT_FDCWD, link, path, sizeof(path));
    const char *slash = n < 0 ? NULL : strrchr(path, '/');
    if (!slash || fstat(record, &own) < 0 || fstatat(root, slash + 1, &named, AT_SYMLINK_NOFOLLOW) < 0)
        return;
    if (own.st_ino == named.st_ino && own.st_dev == named.st_dev)
        fmt(name, 300, "%s", slash + 1);
}

/* First the name, at once and as a whole: it is free for the next container while the files still go. */
int step_remove_record(struct context *c, const struct step *s) {
    char name[300], dead[300];
    (void)s;
    cleanup_fd int root = open_at(c->record, "..", O_RDONLY | O_DIRECTORY, 0);
    if (root < 0)
        return detail(c, root, "open the state root");
    record_name(c->record, root, name);
    if (!name[0])
        return 0;
    fmt(dead, sizeof(dead), ".dead-%.200s-%x-%llx", name, (unsigned)sys_getpid(), (unsigned long long)now_ms());
    if (renameat(root, name, root, dead) < 0)
        return errno == ENOENT ? 0 : detail(c, -errno, "rename '%s'", name);
    int r = remove_below(c->record, 4);
    if (r == 0 && unlinkat(root, dead, AT_REMOVEDIR) < 0)
        r = -errno;
    if (r < 0) /* the container is gone; gc removes the rest */
        warning(c, "remove '%s' in the state root: %s", dead, error_text(r));
    return 0;
}
