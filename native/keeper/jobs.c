/* Commands of the engine: `COMMAND _exited ID [EXEC]` after an end that nobody attended, `COMMAND _due ID` at a time that was
 * asked for. Each is a file in RUN/due as well, so that the next keeper knows of it. */
#include <stdio.h> /* renameat is declared nowhere else in musl */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "executor/record.h"
#include "keeper/keeper.h"

extern char **environ;

#define RUNNING_MAX 4
#define TRIES 4
#define WORDS_MAX 64
#define COMMAND_MAX 8192

int64_t boot_ms(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- files ------------------------------------------------------------------------------------------------------------- */

static int open_due(const struct keeper *k) {
    if (mkdirat(k->run, "due", 0700) < 0 && errno != EEXIST)
        return -errno;
    return open_at(k->run, "due", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
}

/* "ID" for _due, "ID:" and "ID:EXEC" for _exited: no id has a colon. */
static void name_file(const struct job *j, char name[520]) {
    fmt(name, 520, "%s%s%s", j->id, strcmp(j->verb, "_due") == 0 ? "" : ":", j->exec);
}

static int save(const struct keeper *k, const struct job *j) {
    static char text[COMMAND_MAX + 32];
    char name[520];
    cleanup_fd int due = open_due(k);
    name_file(j, name);
    size_t n = fmt(text, sizeof(text), "%lld %lld %s", (long long)j->due, (long long)j->delay, j->command ? j->command : "");
    return due < 0 ? due : write_file_at(due, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, text, n);
}

static void forget(const struct keeper *k, const struct job *j) {
    char name[520];
    cleanup_fd int due = open_due(k);
    name_file(j, name);
    if (due >= 0)
        (void)unlinkat(due, name, 0);
}

#define COMMAND_FILE "keeper.command"

int command_set(struct keeper *k, const char *command) {
    size_t len = strlen(command);
    if (len == 0 || (k->command && strcmp(k->command, command) == 0))
        return 0;
    char *copy = len < COMMAND_MAX ? strdup(command) : NULL;
    int r = copy ? write_file_at(k->run, ".command", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, copy, len) : -ENOMEM;
    if (r >= 0)
        r = sys_result(renameat(k->run, ".command", k->run, COMMAND_FILE));
    if (r < 0) {
        free(copy);
        return r;
    }
    free(k->command);
    k->command = copy;
    return 0;
}

static void load_command(struct keeper *k) {
    static char text[COMMAND_MAX];
    if (read_file_at(k->run, COMMAND_FILE, text, sizeof(text)) > 0)
        k->command = strdup(text);
}

/* ---- the list -------------------------------------------------------------------------------------------------------------- */

static struct job *find(const struct keeper *k, const char *verb, const char *id, const char *exec) {
    for (struct job *j = k->jobs; j; j = j->next)
        if (!j->pid && strcmp(j->verb, verb) == 0 && strcmp(j->id, id) == 0 && strcmp(j->exec, exec) == 0)
            return j;
    return NULL;
}

static void drop(struct keeper *k, struct job *job) {
    struct job **at = &k->jobs;
    while (*at && *at != job)
        at = &(*at)->next;
    if (*at)
        *at = job->next;
    free(job->command);
    free(job);
}

static struct job *add(struct keeper *k, const char *verb, const char *id, const char *exec, const char *command) {
    struct job *j = find(k, verb, id, exec);
    char *copy = command ? strdup(command) : NULL;
    if (!j && (copy || !command) && (j = calloc(1, sizeof(*j)))) {
        fmt(j->verb, sizeof(j->verb), "%s", verb);
        fmt(j->id, sizeof(j->id), "%s", id);
        fmt(j->exec, sizeof(j->exec), "%s", exec);
        j->next = k->jobs;
        k->jobs = j;
    }
    if (!j || (command && !copy)) {
        free(copy);
        return NULL;
    }
    free(j->command);
    j->command = copy;
    j->tries = 0;
    return j;
}

int job_add(struct keeper *k, const char *verb, const char *id, const char *exec, const char *command, int64_t delay_ms) {
    if (!record_id_is_valid(id) || (!command && !k->command))
        return -EINVAL;
    struct job *j = add(k, verb, id, exec, command);
    if (!j)
        return -ENOMEM;
    j->delay = delay_ms;
    j->due = boot_ms() + delay_ms;
    return save(k, j);
}

static void load_one(struct keeper *k, int due, const char *name) {
    static char text[COMMAND_MAX + 32];
    char id[256];
    uint64_t when, delay;
    const char *colon = strchr(name, ':');
    int n = read_file_at(due, name, text, sizeof(text));
    char *wait = n > 0 ? strchr(text, ' ') : NULL;
    char *command = wait ? strchr(wait + 1, ' ') : NULL;
    if (!command)
        return;
    *wait++ = *command++ = '\0';
    fmt(id, sizeof(id), "%.*s", (int)strcspn(name, ":"), name);
    if (!record_id_is_valid(id) || !parse_u64(text, &when) || !parse_u64(wait, &delay) || (!command[0] && !k->command))
        return;
    struct job *j = add(k, colon ? "_exited" : "_due", id, colon ? colon + 1 : "", command[0] ? command : NULL);
    if (!j)
        return;
    /* Further off than it was when it was asked for: that was before the host's restart, on another clock. */
    int64_t now = boot_ms();
    j->delay = (int64_t)delay;
    j->due = (int64_t)when - j->delay > now ? now : (int64_t)when;
}

void jobs_load(struct keeper *k) {
    struct dirent *item;
    load_command(k);
    int due = open_due(k);
    DIR *list = due < 0 ? NULL : fdopendir(due);
    while (list && (item = readdir(list)))
        if (item->d_name[0] != '.')
            load_one(k, due, item->d_name);
    if (list)
        closedir(list);
    else
        close_fd(&due);
}

/* ---- running ---------------------------------------------------------------------------------------------------------------- */

static _Noreturn void become_command(const struct keeper *k, const struct job *j) {
    char *argv[WORDS_MAX + 4], *at = j->command ? j->command : k->command;
    int n = 0;
    while (at && n < WORDS_MAX) {
        argv[n++] = at;
        at = strchr(at, '\x1f');
        if (at)
            *at++ = '\0';
    }
    argv[n++] = (char *)(uintptr_t)j->verb;
    argv[n++] = (char *)(uintptr_t)j->id;
    if (j->exec[0])
        argv[n++] = (char *)(uintptr_t)j->exec;
    argv[n] = NULL;
    (void)setsid();
    if (k->log >= 0)
        (void)dup2(k->log, 2);
    execve(argv[0], argv, environ);
    say(2, "run '%s': %s\n", argv[0], error_text(errno));
    _exit(127);
}

static void launch(struct keeper *k, struct job *j) {
    pid_t pid = keeper_fork();
    if (pid == 0)
        become_command(k, j);
    if (pid < 0) {
        j->due = boot_ms() + 1000;
        return;
    }
    j->pid = pid;
    j->tries++;
}

static unsigned running(const struct keeper *k) {
    unsigned n = 0;
    for (const struct job *j = k->jobs; j; j = j->next)
        n += j->pid > 0;
    return n;
}

bool jobs_running(const struct keeper *k) {
    for (const struct job *j = k->jobs; j; j = j->next)
        if (j->pid > 0 || strcmp(j->verb, "_due") != 0)
            return true;
    return false;
}

int jobs_run(struct keeper *k) {
    int64_t now = boot_ms(), next = -1;
    unsigned n = running(k);
    if (k->gone)
        return -1;
    for (struct job *j = k->jobs; j; j = j->next) {
        if (j->pid)
            continue;
        if (j->due <= now && n < RUNNING_MAX) {
            launch(k, j);
            n++;
        }
        int64_t wait = j->pid ? -1 : j->due > now ? j->due - now : n < RUNNING_MAX ? 0 : -1;
        if (wait >= 0 && (next < 0 || wait < next))
            next = wait;
    }
    return next > 3600000 ? 3600000 : (int)next;
}

bool job_child_ended(struct keeper *k, pid_t pid, int status) {
    struct job *j = k->jobs;
    while (j && j->pid != pid)
        j = j->next;
    if (!j)
        return false;
    j->pid = 0;
    if (status == 0 || j->tries >= TRIES) {
        /* A later one of the same name has its own file by now. */
        bool again = false;
        for (const struct job *other = k->jobs; other; other = other->next)
            again = again || (other != j && strcmp(other->verb, j->verb) == 0 && strcmp(other->id, j->id) == 0 &&
                              strcmp(other->exec, j->exec) == 0);
        if (!again)
            forget(k, j);
        drop(k, j);
    } else {
        j->due = boot_ms() + (1000ll << (2 * (j->tries - 1)));
    }
    return true;
}
