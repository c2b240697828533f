/* The loop: everything that a monitor waits for. */
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "monitor/monitor.h"

#define REST_MS 500 /* without any event: then it rests */
#define WAITS (8 + COUNTERS + CLIENTS * 4)

static struct pollfd waits[WAITS];
static nfds_t n_waits;

static void wait_for(int fd, short events) {
    if (fd >= 0 && n_waits < WAITS)
        waits[n_waits++] = (struct pollfd){.fd = fd, .events = events};
}

void monitor_add_helper(struct monitor *m, pid_t pid) {
    for (int i = 0; i < HELPERS; i++)
        if (m->helper[i] == 0) {
            m->helper[i] = pid;
            return;
        }
}

static void reap_helpers(struct monitor *m) {
    struct signalfd_siginfo info;
    while (m->signals >= 0 && read(m->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
        ;
    for (int i = 0; i < HELPERS; i++)
        if (m->helper[i] > 0 && waitpid(m->helper[i], NULL, WNOHANG) != 0)
            m->helper[i] = 0;
}

static void collect_streams(const struct monitor *m) {
    for (int i = 0; i < 2; i++) {
        const struct stream *s = &m->stream[i];
        if (!m->gate && s->len == 0 && !s->eof)
            wait_for(s->from, POLLIN);
    }
    if (m->typed_from < m->typed_to)
        wait_for(m->input, POLLOUT);
}

static void collect_clients(const struct monitor *m) {
    for (int i = 0; i < CLIENTS; i++) {
        const struct client *c = &m->client[i];
        if (c->sock < 0)
            continue;
        wait_for(c->sock, POLLIN);
        if (m->typed_from >= m->typed_to)
            wait_for(c->in.fd, POLLIN);
        for (int k = 0; k < 2; k++)
            if (c->sent[k] < m->stream[k].len)
                wait_for(c->out[k].fd, POLLOUT);
    }
}

static void collect(const struct monitor *m) {
    n_waits = 0;
    wait_for(m->listener, POLLIN);
    wait_for(m->signals, POLLIN);
    wait_for(m->keeper, POLLIN);
    wait_for(m->inotify, POLLIN);
    if (!m->exit_seen)
        wait_for(m->init_pidfd, POLLIN);
    for (unsigned i = 0; i < m->spec.n_counters && !m->exit_seen; i++)
        wait_for(m->counter_event[i], POLLIN);
    collect_streams(m);
    collect_clients(m);
}

static int timeout(const struct monitor *m) {
    int ms = exit_timeout(m);
    if (m->recounts && (ms < 0 || ms > 100))
        ms = 100;
    if (m->keeper < 0 && (ms < 0 || ms > 200))
        ms = 200;
    if (!m->rests && (ms < 0 || ms > REST_MS))
        ms = REST_MS;
    return ms;
}

static bool is_readable(int fd) {
    for (nfds_t i = 0; i < n_waits; i++)
        if (waits[i].fd == fd && waits[i].revents)
            return true;
    return false;
}

static void serve(struct monitor *m) {
    bool counted = m->inotify >= 0 && is_readable(m->inotify);
    for (unsigned i = 0; i < m->spec.n_counters; i++)
        counted = counted || (m->counter_event[i] >= 0 && is_readable(m->counter_event[i]));
    if (is_readable(m->signals))
        reap_helpers(m);
    if (m->keeper >= 0)
        keeper_serve(m);
    keeper_seek(m);
    if (counted || m->recounts)
        ooms_note(m, counted);
    /* The output of a process that has ended is there before its end is seen: pidfd first, then what lies in the pipes. */
    if (!m->exit_seen && m->init_pidfd >= 0 && is_readable(m->init_pidfd))
        exit_seen(m);
    client_accept(m);
    for (int i = 0; i < CLIENTS; i++)
        if (m->client[i].sock >= 0)
            client_serve(m, &m->client[i]);
    for (int i = 0; i < 2; i++)
        pump_stream(m, &m->stream[i]);
    input_pump(m);
}

bool monitor_loop(struct monitor *m) {
    for (;;) {
        if (exit_advance(m))
            return m->attended;
        collect(m);
        int n = poll(waits, n_waits, timeout(m));
        if (n < 0)
            n_waits = 0;
        if (n == 0 && !m->rests && !m->exit_seen) {
            m->rests = true;
            monitor_rest(m);
            continue;
        }
        m->rests = m->rests && n == 0;
        serve(m);
    }
}
