/* What engines ask of the keeper, and monitors that come by themselves. */
#include <stdio.h> /* renameat is declared nowhere else in musl */
#include <string.h>
#include <sys/socket.h>

#include "keeper/keeper.h"

void keeper_accept(struct keeper *k) {
    for (;;) {
        int sock = accept_trusted(k->listener), i = 0;
        if (sock == -EPERM)
            continue;
        if (sock < 0)
            return;
        while (i < CONNECTIONS && k->conn[i] >= 0)
            i++;
        if (i < CONNECTIONS) {
            k->conn[i] = sock;
            continue;
        }
        answer_error(sock, EUSERS, "talk to the keeper: too many connections", "wait until some of them are gone");
        close(sock);
    }
}

/* ---- SPAWN ------------------------------------------------------------------------------------------------------------------- */

static int write_spec(const char *path, const char *text, size_t len) {
    cleanup_fd int run = open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    if (run < 0)
        return run;
    int r = write_file_at(run, ".spec", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, text, len);
    return r < 0 ? r : sys_result(renameat(run, ".spec", run, SPEC_FILE));
}

static void spawn(struct keeper *k, int conn, struct message *m) {
    static char copy[SPEC_MAX + 1];
    char text[256];
    struct spec spec;
    const char *why = "its length";
    memcpy(copy, m->bytes, m->len < SPEC_MAX ? m->len : SPEC_MAX);
    if (m->len > SPEC_MAX || spec_parse(copy, m->len, &spec, &why) < 0) {
        fmt(text, sizeof(text), "start a monitor: its spec is wrong: %s", why);
        answer_error(conn, EPROTO, text, "corral and corral-keeper are of different versions");
        return;
    }
    struct entry *old = entry_find(k, spec.run);
    if (old && !entry_retire(old)) {
        answer_error(conn, EEXIST, "start a monitor: there is one already", NULL);
        return;
    }
    struct entry *e = entry_add(k, &spec);
    int r = e ? command_set(k, spec.command) : -ENOMEM;
    if (r >= 0)
        r = write_spec(spec.run, m->bytes, m->len);
    if (r >= 0)
        r = entry_start(k, e, m->fds[0]);
    if (r >= 0) {
        (void)message_tell(conn, SUP_SPAWNED, 0, 0, (uint32_t)e->monitor);
        return;
    }
    if (e)
        entry_remove(k, e);
    fmt(text, sizeof(text), "start a monitor in its run directory: %s", error_text(r));
    answer_error(conn, r, text, NULL);
}

/* ---- the rest ------------------------------------------------------------------------------------------------------------------ */

static void run_at(struct keeper *k, int conn, const struct message *m) {
    int r = job_add(k, "_due", m->bytes, "", NULL, m->value);
    if (r < 0)
        answer_error(conn, r, "run a command later: no command is known, or it could not be saved", NULL);
    else
        (void)message_tell(conn, SUP_OK, 0, 0, 0);
}

static const char *state_of(const struct entry *e) {
    return e->monitor && e->conn >= 0 ? "monitored" : e->retry ? "crashing" : "ending";
}

static void list(const struct keeper *k, int conn) {
    char text[600];
    for (unsigned i = 0; i < k->n_entries; i++) {
        const struct entry *e = k->entry[i];
        struct message_head head = {.kind = SUP_ITEM, .value = (uint32_t)e->monitor, .error = e->init};
        size_t n = fmt(text, sizeof(text), "%s", e->id) + 1;
        n += fmt(text + n, sizeof(text) - n, "%s", e->exec) + 1;
        n += fmt(text + n, sizeof(text) - n, "%s", state_of(e));
        /* A client that does not read loses its list, not our time. */
        if (message_send(conn, &head, text, n, -1) < 0)
            return;
    }
    (void)message_tell(conn, SUP_OK, 0, 0, 0);
}

static void shut_down(struct keeper *k, int *conn) {
    if (k->n_entries || jobs_running(k)) {
        answer_error(*conn, EBUSY, "end the keeper: it has monitors, or commands to run", "stop the containers first");
        return;
    }
    (void)message_tell(*conn, SUP_OK, 0, 0, 0);
    close_fd(conn);
    k->over = true;
}

/* A monitor that outlived its keeper. Its connection is the entry's from now on. */
static void take_monitor(struct keeper *k, int *conn, struct message *m) {
    struct spec spec;
    cleanup_fd int run = open_at(AT_FDCWD, m->bytes, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    if (run < 0 || spec_read(run, &spec) < 0 || strcmp(spec.run, m->bytes) != 0 || entry_find(k, m->bytes)) {
        close_fd(conn);
        return;
    }
    struct ucred peer;
    socklen_t len = sizeof(peer);
    struct entry *e = entry_add(k, &spec);
    if (!e || getsockopt(*conn, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return;
    e->conn = steal_fd(conn);
    e->monitor = peer.pid;
}

static void handle(struct keeper *k, int *conn, struct message *m) {
    switch (m->kind) {
    case SUP_SPAWN: spawn(k, *conn, m); break;
    case SUP_RUN_AT: run_at(k, *conn, m); break;
    case SUP_PING: (void)message_tell(*conn, SUP_OK, 0, 0, 0); break;
    case SUP_LIST: list(k, *conn); break;
    case SUP_SHUTDOWN: shut_down(k, conn); break;
    case SUP_HELLO: take_monitor(k, conn, m); break;
    default: answer_error(*conn, EBADRQC, "talk to the keeper: a request that it does not know", NULL);
    }
}

void connection_serve(struct keeper *k, int *conn) {
    static struct message m;
    while (*conn >= 0) {
        int r = message_receive(*conn, &m, -1);
        if (r == -EAGAIN)
            return;
        if (r <= 0) {
            close_fd(conn);
            return;
        }
        handle(k, conn, &m);
        message_close_fds(&m);
    }
}
