/* corral-monitor: one for each container's run, and for each exec. Started by corral-keeper, as a private copy:
 *
 *     corral-monitor KEEPER-RUN KEEPER-PROGRAM RUN NAME [adopt]        fd 3 = the keeper, fd 4 = the planner
 *
 * KEEPER-PROGRAM and KEEPER-RUN: how to start another keeper. RUN: the directory with monitor.spec. NAME: for people. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>

#include "monitor/monitor.h"

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

/* Named after the program in the directory of the keeper's. */
static void find_runtime(const char *keeper_program) {
    char path[PATH_MAX];
    const char *slash = strrchr(keeper_program, '/');
    fmt(path, sizeof(path), "%.*scorral-runtime", slash ? (int)(slash + 1 - keeper_program) : 0, keeper_program);
    set_self_path(path);
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
    int r = monitor_open_places(m, argv[3], m->adopted);
    if (r < 0) {
        tell_refusal(m, r);
        return r == -EBUSY ? 2 : 0; /* busy: the keeper tries again */
    }
    const char *points = m->spec.failpoint[0] ? m->spec.failpoint : getenv("CORRAL_FAILPOINT");
    if (points && !m->adopted)
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
