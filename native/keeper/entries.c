/* Monitors, and what becomes of their containers when they die. */
#include <dirent.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "keeper/keeper.h"
#include "launch/launch.h"

extern char **environ;

#define CRASH_WINDOW_MS 10000
#define CRASH_PAUSE_MS 30000
#define UNKNOWN_MS 3000 /* nobody could tell how it ended until then */

/* ---- the table ------------------------------------------------------------------------------------------------------------ */

struct entry *entry_add(struct keeper *k, const struct spec *spec) {
    struct entry *e = k->n_entries < ENTRIES ? calloc(1, sizeof(*e)) : NULL;
    char *run = e ? strdup(spec->run) : NULL, *command = run ? strdup(spec->command) : NULL;
    if (!command) {
        free(run);
        free(e);
        return NULL;
    }
    e->run = run;
    e->command = command;
    e->conn = -1;
    fmt(e->id, sizeof(e->id), "%s", spec->id);
    fmt(e->exec, sizeof(e->exec), "%s", spec->exec);
    for (int i = 0; i < HELD_COUNT; i++)
        e->held[i] = -1;
    k->entry[k->n_entries++] = e;
    store_know(k, spec);
    return e;
}

struct entry *entry_find(struct keeper *k, const char *run) {
    for (unsigned i = 0; i < k->n_entries; i++)
        if (!k->entry[i]->over && strcmp(k->entry[i]->run, run) == 0)
            return k->entry[i];
    return NULL;
}

static bool has_spec(const struct entry *e) {
    cleanup_fd int run = open_at(AT_FDCWD, e->run, O_RDONLY | O_DIRECTORY, 0);
    cleanup_fd int spec = run < 0 ? -1 : open_at(run, SPEC_FILE, O_RDONLY | O_NOFOLLOW, 0);
    return spec >= 0;
}

bool entry_retire(struct entry *e) {
    e->over = !has_spec(e);
    return e->over;
}

void entry_remove(struct keeper *k, struct entry *e) {
    unsigned i = 0;
    while (i < k->n_entries && k->entry[i] != e)
        i++;
    if (i == k->n_entries)
        return;
    k->entry[i] = k->entry[--k->n_entries];
    close_fd(&e->conn);
    for (int h = 0; h < HELD_COUNT; h++)
        close_fd(&e->held[h]);
    free(e->run);
    free(e->command);
    free(e);
}

/* ---- starting a monitor ---------------------------------------------------------------------------------------------------- */

static _Noreturn void become_monitor(const struct keeper *k, const struct entry *e, int conn, int planner) {
    char *argv[] = {(char *)(uintptr_t) "corral-monitor", (char *)(uintptr_t)k->run_path, (char *)(uintptr_t)self_path(),
                    e->run, (char *)(uintptr_t)e->id, planner < 0 ? (char *)(uintptr_t) "adopt" : NULL, NULL};
    /* Out of the way of the numbers that the monitor expects. */
    int high_conn = duplicate_fd(conn, 16), high_planner = planner < 0 ? -1 : duplicate_fd(planner, 16);
    int program = duplicate_fd(k->monitor_program, 16);
    if (dup2(high_conn, 3) < 0 || (planner >= 0 && dup2(high_planner, 4) < 0) || program < 0)
        _exit(127);
    if (planner < 0)
        (void)close(4);
    syscall(SYS_execveat, program, "", argv, environ, AT_EMPTY_PATH);
    _exit(127);
}

/* All that its predecessor had. */
static void hand_over(struct entry *e) {
    for (int i = 0; i < HELD_COUNT; i++) {
        struct message_head head = {.kind = SUP_HOLD, .step = (uint32_t)i, .value = (uint32_t)e->init};
        if (e->held[i] >= 0)
            (void)message_send(e->conn, &head, NULL, 0, e->held[i]);
    }
    (void)message_tell(e->conn, SUP_HELD, (uint32_t)e->status, e->reaped, (uint32_t)e->init);
}

int entry_start(struct keeper *k, struct entry *e, int planner) {
    int pair[2];
    (void)keeper_load_monitor(k);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    pid_t pid = keeper_fork();
    if (pid == 0)
        become_monitor(k, e, pair[1], planner);
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return pid;
    }
    close_fd(&e->conn);
    e->conn = pair[0];
    (void)fcntl(e->conn, F_SETFL, O_RDWR | O_NONBLOCK);
    e->monitor = pid;
    e->is_child = true;
    e->retry = 0;
    if (planner < 0)
        hand_over(e);
    return 0;
}

/* ---- ends ------------------------------------------------------------------------------------------------------------------- */

static void notify_engine(struct keeper *k, struct entry *e) {
    (void)store_look(k, true);
    if (!e->notified && e->command[0] && !k->gone)
        (void)job_add(k, "_exited", e->id, e->exec, e->command, 0);
    e->notified = true;
    if (e->conn >= 0)
        (void)message_tell(e->conn, SUP_OK, 0, 0, 0);
}

/* No monitor lives long enough to write the record, so it is written here, with what is known. */
static bool write_record(struct entry *e) {
    static char text[EXIT_MAX];
    struct spec spec;
    struct ending ending = {.pid = e->init, .known = e->reaped, .observed = e->reaped, .status = e->status};
    int error;
    if (!ending.known)
        ending.known = pidfd_exit_status(e->held[HELD_INIT], &ending.status) == 0;
    if (!ending.known && !e->dead_since)
        e->dead_since = now_ms();
    if (!ending.known && now_ms() - e->dead_since < UNKNOWN_MS)
        return false;
    cleanup_fd int run = open_at(AT_FDCWD, e->run, O_RDONLY | O_DIRECTORY, 0);
    struct state *state = run < 0 ? NULL : state_map(run, true, &error);
    bool written = run >= 0 && spec_read(run, &spec) == 0 && ending_write(&spec, state, &ending, text) > 0;
    state_unmap(state);
    return written;
}

static void clean_run(const struct entry *e) {
    cleanup_fd int run = open_at(AT_FDCWD, e->run, O_RDONLY | O_DIRECTORY, 0);
    if (run < 0)
        return;
    (void)unlinkat(run, MONITOR_SOCKET, 0);
    (void)unlinkat(run, "pump", 0);
    (void)unlinkat(run, SPEC_FILE, 0);
}

static bool init_is_dead(const struct entry *e) {
    return e->reaped || (e->held[HELD_INIT] >= 0 && wait_readable(e->held[HELD_INIT], 0) == 1);
}

/* A monitor that ended by a signal, or not as it should. */
static void replace_monitor(struct keeper *k, struct entry *e) {
    int64_t now = now_ms();
    e->monitor = 0;
    close_fd(&e->conn);
    (void)store_look(k, true);
    if (k->gone) {
        entry_remove(k, e);
        return;
    }
    bool crashes = e->died[DEATHS - 1] && now - e->died[DEATHS - 1] < CRASH_WINDOW_MS;
    memmove(e->died + 1, e->died, (DEATHS - 1) * sizeof(e->died[0]));
    e->died[0] = now;
    if (crashes || entry_start(k, e, -1) < 0)
        e->retry = now + CRASH_PAUSE_MS;
}

void entry_tick(struct keeper *k, struct entry *e) {
    if (e->monitor || !e->retry)
        return;
    if (k->gone) {
        entry_remove(k, e);
        return;
    }
    if (init_is_dead(e) && write_record(e)) {
        notify_engine(k, e);
        clean_run(e);
        entry_remove(k, e);
    } else if (now_ms() >= e->retry && entry_start(k, e, -1) < 0) {
        e->retry = now_ms() + CRASH_PAUSE_MS;
    }
}

static void monitor_ended(struct keeper *k, struct entry *e, int status) {
    if (!e->over && (!WIFEXITED(status) || WEXITSTATUS(status) > 1)) {
        replace_monitor(k, e);
        return;
    }
    entry_serve(k, e); /* what it said last */
    entry_remove(k, e);
}

bool entry_child_ended(struct keeper *k, struct entry *e, pid_t pid, int status) {
    if (e->is_child && e->monitor == pid) {
        monitor_ended(k, e, status);
        return true;
    }
    if (e->init != pid || e->reaped || e->held[HELD_INIT] < 0 || wait_readable(e->held[HELD_INIT], 0) != 1)
        return false;
    e->reaped = true;
    e->status = status;
    if (e->conn >= 0)
        (void)message_tell(e->conn, SUP_REAPED, 0, 0, (uint32_t)status);
    return true;
}

static bool spec_is_locked(int run) {
    cleanup_fd int spec = open_at(run, SPEC_FILE, O_RDONLY | O_NOFOLLOW, 0);
    return spec >= 0 && flock(spec, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

void entry_lost(struct keeper *k, struct entry *e) {
    close_fd(&e->conn);
    if (e->is_child)
        return; /* its wait status says more */
    if (e->over || !has_spec(e))
        entry_remove(k, e); /* it had ended as it should */
    else
        replace_monitor(k, e);
}

/* ---- packets ----------------------------------------------------------------------------------------------------------------- */

static void hold(struct entry *e, struct message *m) {
    if (m->step >= HELD_COUNT || m->fds[0] < 0)
        return;
    close_fd(&e->held[m->step]);
    e->held[m->step] = steal_fd(&m->fds[0]);
    if (m->step == HELD_INIT)
        e->init = (pid_t)m->value;
}

void entry_serve(struct keeper *k, struct entry *e) {
    static struct message m;
    while (e->conn >= 0) {
        int r = message_receive(e->conn, &m, -1);
        if (r == -EAGAIN)
            return;
        if (r <= 0) {
            entry_lost(k, e);
            return;
        }
        if (m.kind == SUP_HOLD)
            hold(e, &m);
        if (m.kind == SUP_UNATTENDED)
            notify_engine(k, e);
        message_close_fds(&m);
    }
}

/* ---- orphans ------------------------------------------------------------------------------------------------------------------- */

static void adopt_orphan(struct keeper *k, const char *path) {
    struct spec spec;
    cleanup_fd int run = open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    if (run < 0 || entry_find(k, path) || spec_read(run, &spec) < 0 || strcmp(spec.run, path) != 0)
        return;
    /* A monitor that lives comes by itself. But a child of a dead one may have its lock for a moment longer. */
    if (spec_is_locked(run)) {
        k->scan_at = now_ms() + k->scan_pause;
        return;
    }
    struct entry *e = entry_add(k, &spec);
    if (e && entry_start(k, e, -1) < 0)
        e->retry = now_ms() + CRASH_PAUSE_MS;
}

static void scan(struct keeper *k, const char *folder, unsigned depth) {
    char path[4096];
    DIR *list = opendir(folder);
    struct dirent *item;
    while (list && (item = readdir(list))) {
        if (item->d_name[0] == '.')
            continue;
        fmt(path, sizeof(path), "%s/%s", folder, item->d_name);
        adopt_orphan(k, path);
        size_t n = strlen(path);
        fmt(path + n, sizeof(path) - n, "/exec");
        if (depth > 0)
            scan(k, path, depth - 1);
    }
    if (list)
        closedir(list);
}

#define SCAN_MS 200
#define SCAN_MAX_MS 30000

void entries_scan(struct keeper *k) {
    char path[4096];
    k->scan_at = 0;
    k->scan_pause = k->scan_pause * 2 < SCAN_MS ? SCAN_MS : k->scan_pause * 2 > SCAN_MAX_MS ? SCAN_MAX_MS : k->scan_pause * 2;
    fmt(path, sizeof(path), "%s/containers", k->run_path);
    scan(k, path, 1);
}
