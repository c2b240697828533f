/* corral-keeper: parent and second holder of the monitors of one run directory.
 *
 *     corral-keeper RUN [--owns-parents] [--cgroup DIR]... [--parent DIR]...
 *
 * Goes to the background once it listens on RUN/keeper.sock; exits 0 at once if another one does. --cgroup: a cgroup that it
 * moves to, and removes when it ends. --parent: one above the containers', which goes as well if it is owned and empty. It
 * ends by itself when it has had nothing to do for a while. */
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "keeper/keeper.h"
#include "launch/launch.h"

#define IDLE_MS 5000
#define SCAN_TICK_MS 200
#define BACKLOG 128
#define LOG_MAX 1048576

static struct keeper keeper;

/* ---- beginning ------------------------------------------------------------------------------------------------------------ */

static int fail(const char *what, const char *path, int error) {
    say(2, "%s '%s': %s\n", what, path, error_text(error));
    return 1;
}

/* 1 = another keeper has it. */
static int take_lock(struct keeper *k) {
    char text[16];
    k->lock = open_at(k->run, "keeper.lock", O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
    if (k->lock < 0)
        return k->lock;
    if (flock(k->lock, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? 1 : -errno;
    (void)!ftruncate(k->lock, 0);
    (void)text;
    return 0;
}

static void write_pid(const struct keeper *k) {
    char text[16];
    size_t n = fmt(text, sizeof(text), "%d\n", sys_getpid());
    (void)!pwrite(k->lock, text, n, 0);
}

static int open_all(struct keeper *k) {
    struct stat st;
    k->run = open_at(AT_FDCWD, k->run_path, O_RDONLY | O_DIRECTORY, 0);
    if (k->run < 0)
        return fail("open", k->run_path, k->run);
    if (fstat(k->run, &st) < 0 || st.st_uid != geteuid() || st.st_mode & (S_IWGRP | S_IWOTH))
        return fail("use", k->run_path, -EPERM);
    int r = take_lock(k);
    if (r != 0)
        return r < 0 ? fail("lock", "keeper.lock", r) : -1;
    /* Under the lock: the keeper before us removes its groups before it lets go. */
    const char *group = "";
    r = groups_join(k, &group);
    if (r < 0)
        return fail("join the cgroup", group, r);
    r = keeper_load_monitor(k);
    if (r < 0)
        return fail("open corral-monitor beside", self_path(), r);
    k->log = open_at(k->run, "keeper.log", O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600);
    if (k->log >= 0 && fstat(k->log, &st) == 0 && st.st_size > LOG_MAX)
        (void)!ftruncate(k->log, 0);
    k->listener = listen_at(k->run, "keeper.sock", BACKLOG);
    return k->listener < 0 ? fail("listen in", k->run_path, k->listener) : 0;
}

static void prepare_process(struct keeper *k) {
    sigset_t set;
    int null = open_at(AT_FDCWD, "/dev/null", O_RDWR, 0);
    for (int fd = 0; null >= 0 && fd < 3; fd++)
        (void)dup2(null, fd);
    if (null > 2)
        close(null);
    (void)setsid();
    (void)umask(022);
    (void)!chdir("/");
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGCHLD, SIG_DFL);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    (void)sigprocmask(SIG_SETMASK, &set, NULL);
    k->signals = sys_result(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    keeper_forget_caller();
    keeper_raise_limits();
    for (int i = 0; i < CONNECTIONS; i++)
        k->conn[i] = -1;
}

/* ---- the loop --------------------------------------------------------------------------------------------------------------- */

static void reap(struct keeper *k) {
    struct signalfd_siginfo info;
    int status;
    pid_t pid;
    while (read(k->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
        ;
    while ((pid = waitpid(-1, &status, WNOHANG | __WALL)) > 0) {
        bool known = job_child_ended(k, pid, status);
        for (unsigned i = 0; i < k->n_entries && !known; i++)
            known = entry_child_ended(k, k->entry[i], pid, status);
    }
}

static struct pollfd waits[ENTRIES * 2 + CONNECTIONS + 2];

static nfds_t collect(const struct keeper *k) {
    nfds_t n = 0;
    waits[n++] = (struct pollfd){.fd = k->signals, .events = POLLIN};
    waits[n++] = (struct pollfd){.fd = k->listener, .events = POLLIN};
    for (int i = 0; i < CONNECTIONS; i++)
        if (k->conn[i] >= 0)
            waits[n++] = (struct pollfd){.fd = k->conn[i], .events = POLLIN};
    for (unsigned i = 0; i < k->n_entries; i++) {
        const struct entry *e = k->entry[i];
        if (e->conn >= 0)
            waits[n++] = (struct pollfd){.fd = e->conn, .events = POLLIN};
        if (!e->monitor && !e->reaped && !e->dead_since && e->held[HELD_INIT] >= 0)
            waits[n++] = (struct pollfd){.fd = e->held[HELD_INIT], .events = POLLIN};
    }
    return n;
}

static bool is_idle(const struct keeper *k) {
    for (int i = 0; i < CONNECTIONS; i++)
        if (k->conn[i] >= 0)
            return false;
    return k->n_entries == 0 && (k->gone || !k->jobs);
}

static int timeout(struct keeper *k) {
    int ms = jobs_run(k), look = store_look(k, false);
    if (look >= 0 && (ms < 0 || ms > look))
        ms = look;
    for (unsigned i = 0; i < k->n_entries; i++)
        if (k->entry[i]->retry && (ms < 0 || ms > 1000))
            ms = 1000;
    if (k->scan_at && (ms < 0 || ms > SCAN_TICK_MS))
        ms = SCAN_TICK_MS;
    if (!is_idle(k)) {
        k->idle_since = 0;
        return ms;
    }
    if (!k->idle_since)
        k->idle_since = now_ms();
    if (k->gone || now_ms() - k->idle_since >= IDLE_MS)
        k->over = true;
    return k->scan_at ? SCAN_TICK_MS : IDLE_MS;
}

static void serve(struct keeper *k) {
    reap(k);
    if (k->scan_at && now_ms() >= k->scan_at)
        entries_scan(k);
    keeper_accept(k);
    for (int i = 0; i < CONNECTIONS; i++)
        if (k->conn[i] >= 0)
            connection_serve(k, &k->conn[i]);
    /* Backwards, and checked: an entry that is removed is replaced by the last. */
    for (unsigned i = k->n_entries; i-- > 0;) {
        struct entry *e = k->entry[i];
        entry_serve(k, e);
        if (i < k->n_entries && k->entry[i] == e)
            entry_tick(k, e);
    }
}

/* Nobody can connect any more; but somebody may have, who is to be served first. */
static bool may_leave(struct keeper *k) {
    (void)unlinkat(k->run, "keeper.sock", 0);
    keeper_accept(k);
    for (int i = 0; i < CONNECTIONS; i++)
        if (k->conn[i] >= 0) {
            close_fd(&k->listener);
            k->listener = listen_at(k->run, "keeper.sock", BACKLOG);
            k->over = k->listener < 0;
            return k->over;
        }
    return true;
}

static void work(struct keeper *k) {
    do {
        nfds_t n = collect(k);
        (void)poll(waits, n, timeout(k));
        serve(k);
    } while (!k->over || !may_leave(k));
}

static bool take_argument(struct keeper *k, char **argv, int *i) {
    const char *name = argv[*i], *value = argv[*i + 1];
    if (strcmp(name, "--owns-parents") == 0) {
        k->owns_parents = true;
        return true;
    }
    bool is_group = strcmp(name, "--cgroup") == 0;
    if (!value || (!is_group && strcmp(name, "--parent") != 0) || (is_group ? k->n_groups : k->n_parents) == GROUPS)
        return false;
    if (is_group)
        k->group[k->n_groups++] = value;
    else
        k->parent[k->n_parents++] = value;
    ++*i;
    return true;
}

int main(int argc, char **argv) {
    struct keeper *k = &keeper;
    if (argc < 2 || argv[1][0] != '/') {
        say(2, "usage: corral-keeper RUN [--owns-parents] [--cgroup DIR]... [--parent DIR]...\n");
        return 2;
    }
    /* Whoever starts it may have left descriptors open; held here, a pipe of theirs would never end. */
    (void)sys_close_range(3, ~0u, 0);
    k->run_path = argv[1];
    k->monitor_program = k->containers = -1;
    find_self();
    for (int i = 2; i < argc; i++)
        if (!take_argument(k, argv, &i))
            return fail("use the argument", argv[i], -EINVAL);
    int r = open_all(k);
    if (r != 0)
        return r < 0 ? 0 : r;
    pid_t pid = sys_fork(0);
    if (pid != 0)
        return pid < 0 ? fail("go to the background", k->run_path, pid) : 0;
    prepare_process(k);
    write_pid(k);
    jobs_load(k);
    entries_scan(k);
    work(k);
    groups_leave(k);
    return 0;
}
