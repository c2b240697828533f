/* From the end of init to the end of the monitor: find out how, drain, record, tell, wait for who takes care. */
#include <string.h>
#include <sys/wait.h>

#include "monitor/monitor.h"

#define DRAIN_MS 1000     /* a leaked child that holds the pipe must not delay the record */
#define OBSERVER_MS 300   /* the keeper, if it is the parent, tells within this time */
#define UNKNOWN_MS 3000   /* nobody could tell until then */
#define GATE_MS 15000     /* for a client to come for the output of a process that ended at once */
#define KEEPER_MS 10000   /* for a new keeper to come up */
#define ATTEND_MS 60000   /* an attendant that does not say DONE is none */

static void know(struct monitor *m, int status, bool observed) {
    m->ending = (struct ending){.pid = m->init, .known = true, .observed = observed, .status = status};
    m->ending_known = true;
}

/* Looked at, but not yet reaped: whoever comes after us must find it, should we die before the record is on disk. */
static bool look_at_child(struct monitor *m) {
    siginfo_t info = {0};
    if (waitid(P_PID, (id_t)m->init, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0) {
        m->is_parent = false; /* reaped by nobody we know: the kernel may still tell */
        return false;
    }
    if (info.si_pid == 0)
        return false;
    int status = info.si_code == CLD_EXITED   ? (info.si_status & 0xff) << 8
                 : info.si_code == CLD_DUMPED ? (info.si_status & 0x7f) | 0x80
                                              : info.si_status & 0x7f;
    know(m, status, true);
    return true;
}

/* A zombie whose parent does not wait shows its code where we may look. Source: proc(5), field 52 of /proc/PID/stat. */
static bool look_at_zombie(struct monitor *m) {
    char path[48], text[1024];
    fmt(path, sizeof(path), "/proc/%d/stat", m->init);
    int n = read_file_at(AT_FDCWD, path, text, sizeof(text));
    const char *at = n > 0 ? strrchr(text, ')') : NULL;
    if (!at || at[1] != ' ' || at[2] != 'Z')
        return false;
    for (int field = 2; at && field < 52; field++)
        at = strchr(at + 1, ' ');
    uint64_t code;
    char word[16];
    if (!at)
        return false;
    fmt(word, sizeof(word), "%.*s", (int)strcspn(at + 1, " \n"), at + 1);
    /* 0 may mean that we may not see it. */
    if (!parse_u64(word, &code) || code == 0)
        return false;
    know(m, (int)code, false);
    return true;
}

static void find_ending(struct monitor *m) {
    int status = 0;
    int64_t since = now_ms() - m->exit_ms;
    if (m->ending_known || (m->is_parent && look_at_child(m)))
        return;
    if (since < OBSERVER_MS)
        return;
    if (pidfd_exit_status(m->init_pidfd, &status) == 0) {
        know(m, status, false);
        return;
    }
    if (since < UNKNOWN_MS || look_at_zombie(m))
        return;
    m->ending = (struct ending){.pid = m->init};
    m->ending_known = true;
}

void exit_seen(struct monitor *m) {
    if (!m->exit_seen) {
        m->exit_seen = true;
        m->exit_ms = now_ms();
        m->drain_end = m->exit_ms + DRAIN_MS;
        m->gate_end = m->exit_ms + GATE_MS;
    }
    find_ending(m);
}

void exit_told(struct monitor *m, int status) {
    if (!m->ending_known && !m->is_parent)
        know(m, status, true);
    exit_seen(m);
}

static bool is_drained(const struct monitor *m) {
    return (stream_is_done(&m->stream[0]) && stream_is_done(&m->stream[1])) || now_ms() >= m->drain_end;
}

static void record(struct monitor *m) {
    int status;
    if (m->spec.n_counters)
        ooms_note(m, false);
    int n = ending_write(&m->spec, m->state, &m->ending, m->record);
    if (n == -ENOENT) /* its directory was removed: nobody will look for the record there */
        n = (int)strlen(m->record);
    if (n < 0) {
        /* No space to write to: tried again until there is, for nobody may be told of what is not on disk. */
        m->drain_end = now_ms() + DRAIN_MS;
        return;
    }
    m->recorded = true;
    m->record_len = n;
    if (m->is_parent)
        (void)waitpid(m->init, &status, WNOHANG | __WALL);
}

/* Output that the client will still get. */
static bool is_owed_output(const struct monitor *m, const struct client *c) {
    if (!c->attached)
        return false;
    if (!is_drained(m))
        return true;
    for (int k = 0; k < 2; k++)
        if (c->out[k].fd >= 0 && c->sent[k] < m->stream[k].len)
            return true;
    return false;
}

/* Who is attached hears of the end after the last of the output. */
static void tell(struct monitor *m) {
    struct message_head head = {.kind = SUP_EXITED};
    for (int i = 0; i < CLIENTS; i++) {
        struct client *c = &m->client[i];
        if (c->sock < 0 || c->told || !(c->watches || c->attends) || is_owed_output(m, c))
            continue;
        c->told = true;
        m->attend_end = now_ms() + ATTEND_MS;
        if (message_send(c->sock, &head, m->record, (size_t)m->record_len, -1) < 0)
            client_close(c);
    }
}

static bool is_attended(struct monitor *m) {
    for (int i = 0; i < CLIENTS; i++)
        if (m->client[i].sock >= 0 && m->client[i].attends && !m->client[i].is_done)
            return !m->client[i].told || now_ms() < m->attend_end;
    return false;
}

/* A client that got all of its output, and wants nothing else, learns it from the end of its connection. */
static bool release_attached(struct monitor *m) {
    bool waits = false;
    for (int i = 0; i < CLIENTS; i++) {
        struct client *c = &m->client[i];
        if (c->sock < 0 || !c->attached)
            continue;
        if (is_owed_output(m, c))
            waits = true;
        else if (!c->attends && !c->watches)
            client_close(c);
    }
    return waits;
}

bool exit_advance(struct monitor *m) {
    if (!m->exit_seen)
        return false;
    find_ending(m);
    if (!m->ending_known)
        return false;
    if (!m->recorded && (m->gate || is_drained(m)))
        record(m);
    if (!m->recorded)
        return false;
    tell(m);
    if (m->gate && now_ms() < m->gate_end)
        return false; /* somebody is about to come for the output */
    m->gate = false;
    bool waits = release_attached(m);
    if (is_attended(m))
        return false;
    if (!m->attended && !m->asked_keeper && m->keeper >= 0)
        m->asked_keeper = message_tell(m->keeper, SUP_UNATTENDED, 0, 0, 0) == 0;
    /* Without a keeper, and none to be had, whoever looks at the container next finds the record. */
    return !waits && (m->attended || m->told_keeper || now_ms() > m->exit_ms + KEEPER_MS);
}

int exit_timeout(const struct monitor *m) {
    if (!m->exit_seen)
        return -1;
    return 50;
}
