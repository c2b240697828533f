/* corral-monitor: one for each container's run, and for each exec. Started by corral-keeper, as a private copy:
 *
 *     corral-monitor KEEPER-RUN KEEPER-PROGRAM RUN NAME [adopt]        fd 3 = the keeper, fd 4 = the planner
 *
 * KEEPER-PROGRAM and KEEPER-RUN: how to start another keeper. RUN: the directory with monitor.spec. NAME: for people. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>

#include "monitor/monitor.h"

#define LOCK_MS 5000

static struct monitor monitor;

static void prepare_process(struct monitor *m) {
    sigset_t set;
    (void)setsid();
    (void)umask(022);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN);
    (void)prctl(PR_SET_NAME, "corral-monitor");
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    m->signals = sys_result(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    (void)fcntl(3, F_SETFD, FD_CLOEXEC);
    (void)fcntl(4, F_SETFD, FD_CLOEXEC);
    (void)fcntl(3, F_SETFL, O_RDWR | O_NONBLOCK);
}

static void clear(struct monitor *m) {
    m->run = m->dir = m->spec_lock = m->listener = m->signals = m->input = m->init_pidfd = m->inotify = m->log.fd = -1;
    m->scratch[0] = m->scratch[1] = -1;
    for (int i = 0; i < 2; i++)
        m->stream[i].from = m->stream[i].in = m->stream[i].out = -1;
    m->stream[0].name = "stdout";
    m->stream[1].name = "stderr";
    for (int i = 0; i < CLIENTS; i++)
        m->client[i] = (struct client){.sock = -1, .in = {.fd = -1}, .out = {{.fd = -1}, {.fd = -1}}};
    for (int i = 0; i < COUNTERS; i++)
        m->counter_event[i] = -1;
}

/* A child of a dead predecessor may have its descriptors for a moment longer. */
static int lock_spec(int fd) {
    int64_t end = now_ms() + LOCK_MS;
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return -errno;
        if (now_ms() > end)
            return -EBUSY;
        sleep_ms(2);
    }
    return 0;
}

/* Everything that needs no process yet. -EBUSY: another monitor lives. */
static int open_places(struct monitor *m, const char *run, bool adopt) {
    int r;
    m->null = open_at(AT_FDCWD, "/dev/null", O_RDWR, 0);
    m->run = open_at(AT_FDCWD, run, O_RDONLY | O_DIRECTORY, 0);
    if (m->null < 0 || m->run < 0)
        return -ENOENT;
    m->spec_lock = open_at(m->run, SPEC_FILE, O_RDONLY | O_NOFOLLOW, 0);
    if (m->spec_lock < 0)
        return m->spec_lock;
    r = lock_spec(m->spec_lock);
    if (r < 0)
        return r;
    r = spec_read(m->run, &m->spec);
    if (r < 0)
        return r;
    m->dir = open_at(AT_FDCWD, m->spec.dir, O_RDONLY | O_DIRECTORY, 0);
    if (m->dir < 0)
        return m->dir;
    m->state = state_map(m->run, adopt, &r);
    return m->state ? log_open(&m->log, m->dir, &m->spec) : r;
}

/* Named after the program in the directory of the keeper's. */
static void find_runtime(const char *keeper_program) {
    char path[PATH_MAX];
    const char *slash = strrchr(keeper_program, '/');
    fmt(path, sizeof(path), "%.*scorral-runtime", slash ? (int)(slash + 1 - keeper_program) : 0, keeper_program);
    set_self_path(path);
}

void monitor_remove_places(struct monitor *m) {
    if (m->removed)
        return;
    m->removed = true;
    (void)unlinkat(m->run, MONITOR_SOCKET, 0);
    (void)unlinkat(m->run, "pump", 0);
    (void)unlinkat(m->run, SPEC_FILE, 0);
}

static void tell_refusal(struct monitor *m, int error) {
    char text[256];
    struct message_head head = {.kind = MSG_RESULT};
    size_t n = fmt(text, sizeof(text), "start the monitor in '%s': %s", m->spec.dir ? m->spec.dir : "", error_text(error)) + 1;
    if (m->planner >= 0)
        (void)message_send(m->planner, &head, text, n, -1);
}

static int live(struct monitor *m) {
    m->listener = listen_at(m->run, MONITOR_SOCKET, 64);
    ooms_open(m);
    if (!m->adopted)
        monitor_created(m);
    else if (!m->recorded)
        m->record_len = ending_read(&m->spec, m->record);
    bool attended = monitor_loop(m);
    monitor_remove_places(m);
    return attended ? 0 : 1;
}

int main(int argc, char **argv) {
    struct monitor *m = &monitor;
    if (argc < 5)
        return 2;
    clear(m);
    m->keeper_run = argv[1];
    m->keeper_program = argv[2];
    m->keeper = 3;
    m->adopted = argc > 5;
    m->planner = m->adopted ? -1 : 4;
    prepare_process(m);
    find_runtime(argv[2]);
    int r = open_places(m, argv[3], m->adopted);
    if (r < 0) {
        tell_refusal(m, r);
        return r == -EBUSY ? 2 : 0; /* busy: the keeper tries again */
    }
    const char *points = m->spec.failpoint[0] ? m->spec.failpoint : getenv("CORRAL_FAILPOINT");
    if (points)
        (void)failpoints_parse(points);
    m->gate = m->spec.awaits_attach && !m->adopted;
    m->gate_end = INT64_MAX;
    r = m->adopted ? monitor_adopt(m) : monitor_create(m);
    if (r < 0) {
        monitor_remove_places(m);
        return 0;
    }
    return live(m);
}
