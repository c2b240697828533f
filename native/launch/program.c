/* Loading and running the programs of a record, and the undo. */
#include "launch/program.h"

#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "executor/journal.h"
#include "launch/launch.h"

#define WHY_MAX 4096

int program_load(int record, const char *name, struct program *ret, char *why, size_t size) {
    const char *text = NULL;
    struct stat st;
    struct plan_header head;
    *ret = (struct program){0};
    cleanup_fd int fd = open_at(record, name, O_RDONLY | O_NOFOLLOW, 0);
    int r = fd < 0 ? fd : fstat(fd, &st) < 0 ? -errno : 0;
    if (r == 0 && (st.st_size < (off_t)sizeof(head) || st.st_size > (off_t)PLAN_MAX))
        r = -EPROTO;
    if (r == 0 && !(ret->bytes = malloc((size_t)st.st_size)))
        r = -ENOMEM;
    if (r == 0) {
        r = read_all(fd, ret->bytes, (size_t)st.st_size);
        r = r < 0 ? r : r == st.st_size ? 0 : -EPROTO;
    }
    if (r == 0) {
        memcpy(&head, ret->bytes, sizeof(head));
        if (head.magic == PLAN_MAGIC && head.version > PLAN_VERSION) {
            fmt(why, size, "its record was made by a newer corral-runtime (version %u of its programs, this one knows %u)",
                head.version, PLAN_VERSION);
            program_free(ret);
            return -EPROTO;
        }
        r = plan_decode(&ret->plan, ret->bytes, (size_t)st.st_size, &text);
    }
    if (r == 0)
        return 0;
    fmt(why, size, "read '%s' of its record: %s", name, text ? text : error_text(r));
    free(ret->bytes);
    ret->bytes = NULL;
    return r;
}

void program_free(struct program *p) {
    if (p->plan.offset)
        plan_free(&p->plan);
    free(p->bytes);
    *p = (struct program){0};
}

void program_context(struct context *c, const struct program *p, int record) {
    context_init(c, &p->plan, ACTOR_FRONT);
    c->record = record;
    c->journal = journal_open(record);
}

static void end_context(struct context *c) {
    for (int i = 0; i < CGROUPS; i++)
        close_fd(&c->cgroup[i].fd);
    close_fd(&c->journal);
    close_fd(&c->init_pidfd);
}

int program_lock(int record, int timeout_ms) {
    int64_t end = now_ms() + timeout_ms;
    cleanup_fd int fd = open_at(record, "owner.lock", O_RDWR | O_NOFOLLOW, 0);
    if (fd < 0)
        return fd;
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return -errno;
        if (now_ms() >= end)
            return -EBUSY;
        sleep_ms(5);
    }
    return steal_fd(&fd);
}

int program_execute(int record, const char *name, struct context *c, struct program *p, struct reason *why) {
    unsigned failed = 0;
    struct step s;
    *why = (struct reason){.op = OP_WARN};
    int r = program_load(record, name, p, why->text, sizeof(why->text));
    if (r < 0) {
        fmt(why->hint, sizeof(why->hint), "use the version of corral-runtime that made the container, or a later one");
        return r;
    }
    program_context(c, p, record);
    r = run_actor(c, 0, &failed);
    if (r == 0)
        return 0;
    plan_step(&p->plan, failed, &s);
    why->op = s.op;
    describe_failure(&s, r, c->detail, why->text, sizeof(why->text));
    return r;
}

/* ---- start -------------------------------------------------------------------------------------------------------------- */

/* Why a container of this status cannot be started, or NULL. */
static const char *refusal(enum record_status status) {
    switch (status) {
    case RECORD_CREATED: return NULL;
    case RECORD_CREATING: return "cannot start a container that is still being created";
    case RECORD_STALE: return "cannot start a container whose creation was interrupted";
    case RECORD_RUNNING: return "cannot start an already running container";
    case RECORD_STOPPED: return "cannot start a container that has stopped";
    }
    return "cannot start it";
}

int program_start(int record, struct reason *why) {
    static struct context c;
    static struct program program;
    *why = (struct reason){.op = OP_RELEASE};
    int status = record_status(record);
    const char *refused = status < 0 ? NULL : refusal((enum record_status)status);
    if (status < 0 || refused) {
        fmt(why->text, sizeof(why->text), "%s%s", refused ? refused : "read its status: ", refused ? "" : error_text(status));
        if (status == RECORD_STALE)
            fmt(why->hint, sizeof(why->hint), "delete it, and create it again");
        return status < 0 ? status : -EBUSY;
    }
    int r = program_execute(record, "start.plan", &c, &program, why);
    /* Source: runtime-spec runtime.md "Lifecycle" step 9: what a poststart hook refuses is stopped. */
    if (r < 0 && why->op == OP_HOOK && c.init_pidfd >= 0)
        (void)sys_pidfd_send_signal(c.init_pidfd, SIGKILL);
    return r;
}

/* ---- undo -------------------------------------------------------------------------------------------------------------- */

struct undo {
    struct context *c;
    const struct plan *plan;
    char *why;
    size_t size, len;
    int error; /* the first */
    bool run_hooks;
};

static void note_failure(struct undo *u, const struct step *s, int error) {
    char text[1536];
    describe_failure(s, error, u->c->detail, text, sizeof(text));
    u->len += fmt(u->why + u->len, u->size - u->len, "%s%s", u->len ? "; " : "", text);
    if (u->error == 0)
        u->error = error;
}

/* Runs step `index` and no other: what fails must not keep the rest from being undone. */
static void run_one(struct undo *u, unsigned index, const struct step *s) {
    struct plan part = *u->plan;
    unsigned failed = 0;
    part.n_steps = index + 1;
    u->c->plan = &part;
    int r = run_actor(u->c, index, &failed);
    u->c->plan = u->plan;
    if (r < 0)
        note_failure(u, s, r);
}

/* Hooks run once in a container's life, and only if it ever had a process. The mark comes first: a hook that takes the
 * machine down must not do so again. */
static bool may_run_hooks(struct undo *u) {
    int record = u->c->record;
    if (u->run_hooks)
        return true;
    if (journal_has(record, JOURNAL_HOOKS_DONE))
        return false;
    if (!journal_has(record, JOURNAL_BORN) && !journal_has(record, JOURNAL_COMMIT))
        return false;
    u->run_hooks = journal_append(u->c->journal, JOURNAL_HOOKS_DONE, 0, 0, 0) == 0;
    return u->run_hooks;
}

static void undo_step(struct undo *u, unsigned index) {
    struct step s;
    plan_step(u->plan, index, &s);
    if (s.op == OP_HOOK && !may_run_hooks(u))
        return;
    /* The record is the list of what is left to do: it goes last, or stays. */
    if (s.op == OP_REMOVE_RECORD && u->error < 0)
        return;
    run_one(u, index, &s);
}

static void write_pending(int record, const char *why) {
    char text[WHY_MAX + 2];
    size_t n = fmt(text, sizeof(text), "%s\n", why);
    (void)write_file_at(record, "pending", O_CREAT | O_TRUNC | O_NOFOLLOW, text, n);
}

int program_undo(int record, char *why, size_t size) {
    static struct context c; /* large */
    struct program program;
    why[0] = '\0';
    int r = program_load(record, "delete.plan", &program, why, size);
    if (r < 0)
        return r;
    program_context(&c, &program, record);
    struct undo u = {.c = &c, .plan = &program.plan, .why = why, .size = size};
    (void)journal_append(c.journal, JOURNAL_DELETING, 0, 0, 0);
    for (unsigned i = 0; i < program.plan.n_steps; i++)
        undo_step(&u, i);
    if (u.error < 0)
        write_pending(record, why);
    end_context(&c);
    program_free(&program);
    return u.error;
}

#define RECLAIM_LOCK_MS 5000

int program_reclaim(const char *path, char *why, size_t size) {
    struct stat st;
    cleanup_fd int record = open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    fmt(why, size, "%s", error_text(record));
    /* Gone meanwhile: somebody else undid it. */
    if (record < 0)
        return record == -ENOENT ? 0 : record;
    cleanup_fd int lock = program_lock(record, RECLAIM_LOCK_MS);
    fmt(why, size, "%s", lock == -EBUSY ? "its owner lock is held" : error_text(lock));
    if (lock < 0 && lock != -ENOENT)
        return lock;
    /* Undone by its owner, or committed, while we waited for it. */
    if ((fstat(record, &st) == 0 && st.st_nlink == 0) || journal_has(record, JOURNAL_COMMIT))
        return 0;
    return program_undo(record, why, size);
}
