/* Output and input.
 *
 * Output of a pipe is spliced into a second pipe, which the keeper holds too, read there without being taken away, written
 * to the log, given to the clients, and only then drained. The mapped state says what of the second pipe is in the log, so
 * that a successor neither loses nor repeats anything. A terminal has no such place: one buffer is at stake there. */
#include "monitor/monitor.h"

#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define OUT_MAX 65536
static char formatted[OUT_MAX] __attribute__((aligned(4096)));

/* ---- descriptors ------------------------------------------------------------------------------------------------------- */

static int make_pipe(int ends[2]) { return sys_result(pipe2(ends, O_CLOEXEC)); }

static int set_nonblocking(int fd) {
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 ? -errno : sys_result(fcntl(fd, F_SETFL, flags | O_NONBLOCK));
}

/* `fd` becomes number `as`, inheritable; owned. */
static int place(int fd, int as) {
    int r = sys_result(dup2(fd, as));
    close(fd);
    return r < 0 ? r : 0;
}

static int open_stream(struct stream *s, int as) {
    int first[2], second[2];
    int r = make_pipe(first);
    if (r < 0)
        return r;
    s->from = first[0];
    r = place(first[1], as);
    if (r == 0)
        r = set_nonblocking(s->from);
    if (r == 0)
        r = make_pipe(second);
    if (r < 0)
        return r;
    s->in = second[1];
    s->out = second[0];
    return 0;
}

int pump_open(struct monitor *m) {
    int ends[2];
    int r = make_pipe(m->scratch);
    if (r < 0 || m->spec.terminal)
        return r;
    r = open_stream(&m->stream[0], 1);
    if (r == 0)
        r = open_stream(&m->stream[1], 2);
    if (r < 0 || !m->spec.takes_stdin)
        return r;
    r = make_pipe(ends);
    if (r < 0)
        return r;
    m->input = ends[1];
    r = place(ends[0], 0);
    return r < 0 ? r : set_nonblocking(m->input);
}

void pump_detach(struct monitor *m) {
    for (int fd = 0; fd < 3; fd++)
        (void)dup2(m->null, fd);
}

static uint32_t bytes_in(int pipe) {
    int n = 0;
    return ioctl(pipe, FIONREAD, &n) < 0 || n < 0 ? 0 : (uint32_t)n;
}

/* Takes `len` bytes out of the second pipe. */
static void drain(struct stream *s, uint32_t len) {
    while (len > 0) {
        ssize_t n = read(s->out, formatted, len < OUT_MAX ? len : OUT_MAX);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        len -= (uint32_t)n;
        s->held = s->held > (uint32_t)n ? s->held - (uint32_t)n : 0;
    }
}

int pump_resume(struct monitor *m) {
    int r = make_pipe(m->scratch);
    for (int i = 0; i < 2 && r == 0; i++) {
        struct stream *s = &m->stream[i];
        if (s->in < 0)
            continue;
        s->held = bytes_in(s->out);
        struct recovery todo = piece_recover(&m->state->piece[i], m->log.size, m->log.inode, s->held);
        if (todo.cut >= 0 && m->log.fd >= 0)
            r = log_cut(&m->log, (uint64_t)todo.cut);
        drain(s, todo.drain);
        m->state->piece[i].phase = PIECE_IDLE;
    }
    return r;
}

/* ---- output ------------------------------------------------------------------------------------------------------------ */

static bool has_clients(const struct monitor *m, int stream) {
    for (int i = 0; i < CLIENTS; i++)
        if (m->client[i].sock >= 0 && m->client[i].out[stream].fd >= 0)
            return true;
    return false;
}

static int index_of(const struct monitor *m, const struct stream *s) { return s == &m->stream[1]; }

/* The piece is where it belongs: away with it. */
static void finish_piece(struct monitor *m, struct stream *s) {
    struct piece *p = &m->state->piece[index_of(m, s)];
    if (s->in >= 0)
        drain(s, p->raw);
    p->phase = PIECE_IDLE;
    s->len = 0;
}

void pump_rest(struct monitor *m) {
    (void)madvise(formatted, sizeof(formatted), MADV_DONTNEED);
    for (int i = 0; i < 2; i++)
        if (m->stream[i].len == 0)
            (void)madvise(m->stream[i].raw, RAW_MAX, MADV_DONTNEED);
}

/* A descriptor that takes no more. A reader that has gone is nobody's trouble; of anything else its client has to know. */
static void lose_sink(const struct client *c, struct sink *out, uint32_t flag, int error) {
    sink_close(out);
    if (error != -EPIPE && error != -ECONNRESET)
        (void)message_tell(c->sock, SUP_LOST, 0, -error, flag);
}

static void deliver(struct monitor *m, struct stream *s) {
    int which = index_of(m, s);
    bool waits = false;
    if (s->len == 0)
        return;
    for (int i = 0; i < CLIENTS; i++) {
        struct client *c = &m->client[i];
        struct sink *out = &c->out[which];
        while (c->sock >= 0 && out->fd >= 0 && c->sent[which] < s->len) {
            ssize_t n = sink_write(out, s->raw + c->sent[which], s->len - c->sent[which]);
            if (n == -EAGAIN)
                break;
            if (n < 0)
                lose_sink(c, out, which ? ATTACH_STDERR : ATTACH_STDOUT, (int)n);
            else
                c->sent[which] += (size_t)n;
        }
        waits = waits || (c->sock >= 0 && out->fd >= 0 && c->sent[which] < s->len);
    }
    if (!waits)
        finish_piece(m, s);
}

/* What could not be written is gone: to stop the container for want of disk space would be worse. The log tells. */
static void note_loss(struct monitor *m, size_t len) { m->log.lost += len; }

static void tell_loss(struct monitor *m, const char *time) {
    char text[128], record[LOG_OUT_LEAST];
    size_t used, n = fmt(text, sizeof(text), "corral: %llu bytes of output are missing here: the log could not be written\n",
                         (unsigned long long)m->log.lost);
    n = log_format(m->spec.log, "stderr", time, text, n, false, record, sizeof(record), &used);
    if (log_append(&m->log, record, n) == 0)
        m->log.lost = 0;
}

/* Writes what of `len` raw bytes fits into one go, and returns how many that were. */
static size_t write_log(struct monitor *m, struct stream *s, const char *raw, size_t len, bool more) {
    struct piece *p = &m->state->piece[index_of(m, s)];
    char time[LOG_TIME_MAX];
    size_t used = len, n = 0;
    if (m->log.fd >= 0) {
        log_time(time);
        if (m->log.lost)
            tell_loss(m, time);
        size_t room = log_room(&m->log, sizeof(formatted));
        n = log_format(m->spec.log, s->name, time, raw, len, more, formatted, room, &used);
    }
    if (used == 0)
        return 0;
    *p = (struct piece){PIECE_IDLE, (uint32_t)used, s->held, (uint32_t)n, m->log.size, m->log.inode};
    __atomic_store_n(&p->phase, PIECE_LOGGING, __ATOMIC_RELEASE);
    if (m->log.fd >= 0 && log_append(&m->log, formatted, n) < 0) {
        p->formatted = 0; /* a successor need not look for it */
        note_loss(m, used);
    }
    return used;
}

static void begin_piece(struct monitor *m, struct stream *s, size_t len) {
    s->len = len;
    for (int i = 0; i < CLIENTS; i++)
        m->client[i].sent[index_of(m, s)] = 0;
    deliver(m, s);
}

static void pump_terminal(struct monitor *m, struct stream *s) {
    size_t at = 0;
    ssize_t n = read(s->from, s->raw, RAW_MAX);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) { /* EIO: nobody has the container's side open */
        s->eof = true;
        return;
    }
    /* Nothing is held back: it would have no place to stay in. */
    while (at < (size_t)n)
        at += write_log(m, s, s->raw + at, (size_t)n - at, false);
    begin_piece(m, s, (size_t)n);
}

/* Reads what lies in the second pipe, and leaves it there. */
static size_t peek(struct monitor *m, struct stream *s) {
    ssize_t n = tee(s->out, m->scratch[1], s->held < RAW_MAX ? s->held : RAW_MAX, SPLICE_F_NONBLOCK);
    if (n <= 0)
        return 0;
    int r = read_all(m->scratch[0], s->raw, (size_t)n);
    return r < 0 ? 0 : (size_t)r;
}

static void take_from_pipe(struct monitor *m, struct stream *s) {
    bool idle = m->log.fd < 0 && s->held == 0 && !has_clients(m, index_of(m, s));
    ssize_t n = splice(s->from, NULL, idle ? m->null : s->in, NULL, RAW_MAX, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    if (n == 0)
        s->eof = true;
    if (n > 0 && !idle)
        s->held += (uint32_t)n;
}

static void pump_pipe(struct monitor *m, struct stream *s) {
    if (!s->eof)
        take_from_pipe(m, s);
    while (s->held > 0 && s->len == 0) {
        size_t len = peek(m, s), used = write_log(m, s, s->raw, len, !s->eof);
        if (used == 0)
            return;
        begin_piece(m, s, used);
    }
}

void pump_stream(struct monitor *m, struct stream *s) {
    if (s->from < 0 || m->gate)
        return;
    deliver(m, s);
    if (s->len || (s->eof && s->held == 0))
        return;
    if (s->in < 0)
        pump_terminal(m, s);
    else
        pump_pipe(m, s);
}

bool stream_is_done(const struct stream *s) { return s->from < 0 || (s->eof && s->held == 0 && s->len == 0); }

/* ---- input ------------------------------------------------------------------------------------------------------------- */

void input_close(struct monitor *m) {
    if (!m->input_is_terminal)
        close_fd(&m->input);
    m->typed_from = m->typed_to = 0;
}

static struct client *input_owner(struct monitor *m) {
    for (int i = 0; i < CLIENTS; i++)
        if (m->client[i].sock >= 0 && m->client[i].in.fd >= 0)
            return &m->client[i];
    return NULL;
}

/* The end of a client's input ends the container's only where it was said that the first client's is all there will be. */
void client_drop_input(struct client *c) { sink_close(&c->in); }

static void flush_typed(struct monitor *m) {
    while (m->input >= 0 && m->typed_from < m->typed_to) {
        ssize_t n = write(m->input, m->typed + m->typed_from, m->typed_to - m->typed_from);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0) { /* nobody reads there any more */
            input_close(m);
            return;
        }
        m->typed_from += (size_t)n;
    }
}

void input_pump(struct monitor *m) {
    flush_typed(m);
    struct client *c = input_owner(m);
    if (!c || (m->input >= 0 && m->typed_from < m->typed_to))
        return;
    if (m->input < 0) {
        client_drop_input(c);
        return;
    }
    ssize_t n = sink_read(&c->in, m->typed, INPUT_MAX);
    if (n == -EAGAIN)
        return;
    if (n <= 0) {
        client_drop_input(c);
        if (m->spec.stdin_once)
            input_close(m);
        return;
    }
    m->typed_from = 0;
    m->typed_to = (size_t)n;
    flush_typed(m);
}
