/* What the front writes about a child's user and time namespaces. */
#include <string.h>
#include <sys/wait.h>

#include "run.h"
#include "sys.h"

#define HELPER_MS 10000
#define HELPER_ARGS 1024 /* newuidmap takes at most 340 lines of three numbers */

static int write_of(struct context *c, pid_t pid, const char *file, const char *text) {
    char path[48];
    fmt(path, sizeof(path), "%d/%s", pid, file);
    cleanup_fd int fd = proc_open(c, path, O_WRONLY);
    if (fd < 0)
        return fd;
    int r = write_once(fd, text, strlen(text));
    return r < 0 ? detail(c, r, "write '%s' to /proc/%s", text, path) : 0;
}

/* Cuts `map` into words behind argv[n]; returns the new count, or -E2BIG. */
static int split_words(char *map, char **argv, int n) {
    for (char *at = map; *at;) {
        while (*at == ' ' || *at == '\n')
            *at++ = '\0';
        if (!*at)
            break;
        if (n >= HELPER_ARGS)
            return -E2BIG;
        argv[n++] = at;
        at += strcspn(at, " \n");
    }
    return n;
}

static _Noreturn void exec_helper(const char *helper, char **argv, int out) {
    static char *environment[] = {NULL};
    (void)dup2(out, 1);
    (void)dup2(out, 2);
    (void)sys_close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
    reset_signals();
    execve(helper, argv, environment);
    say(2, "%s", error_text(errno));
    _exit(127);
}

/* Waits for the helper's end or HELPER_MS; what it said goes into `said`. */
static int await_helper(pid_t pid, int out, char *said, size_t size) {
    int64_t end = now_ms() + HELPER_MS;
    size_t got = 0;
    int status = 0;
    for (;;) {
        int64_t left = end - now_ms();
        if (left <= 0 || wait_readable(out, (int)left) <= 0) {
            kill(pid, SIGKILL);
            (void)wait_pid(pid, NULL);
            return -ETIMEDOUT;
        }
        char more[256];
        ssize_t n = read(out, more, sizeof(more));
        if (n <= 0)
            break;
        got += fmt(said + got, size - got, "%.*s", (int)n, more);
    }
    said[strcspn(said, "\n")] = '\0';
    int r = wait_pid(pid, &status);
    return r < 0 ? r : WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ECANCELED;
}

static int run_helper(struct context *c, const char *helper, pid_t target, const struct arg *map) {
    static char *argv[HELPER_ARGS + 1];
    static char text[16384];
    static char number[16];
    char said[256] = "";
    int pipe_fds[2];
    if (map->len >= sizeof(text))
        return detail(c, -E2BIG, "%s", helper);
    memcpy(text, map->ptr, map->len + 1);
    fmt(number, sizeof(number), "%d", target);
    argv[0] = (char *)(uintptr_t)helper;
    argv[1] = number;
    int n = split_words(text, argv, 2);
    if (n < 0)
        return detail(c, n, "%s", helper);
    argv[n] = NULL;
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return detail(c, -errno, "open a pipe");
    pid_t pid = sys_fork(0);
    if (pid == 0)
        exec_helper(helper, argv, pipe_fds[1]);
    close(pipe_fds[1]);
    cleanup_fd int out = pipe_fds[0];
    if (pid < 0)
        return detail(c, pid, "fork %s", helper);
    int r = await_helper(pid, out, said, sizeof(said));
    if (r == -ETIMEDOUT)
        return detail(c, r, "%s did not end within %d ms", helper, HELPER_MS);
    return r < 0 ? detail(c, r, "%s: %s", helper, said[0] ? said : "it exited with an error") : 0;
}

/* ID_MAPS(who, uid map, gid map, setgroups, newuidmap, newgidmap). Groups first: setgroups must be denied before an
 * unprivileged writer may map gids, and cannot be any more after it (user_namespaces(7)). */
int step_id_maps(struct context *c, const struct step *s) {
    pid_t pid = s->arg[0].num == 0 ? c->stage_pid : c->init_pid;
    const struct arg *uid_map = &s->arg[1], *gid_map = &s->arg[2];
    int r = 0;
    if (pid <= 0)
        return detail(c, -ESRCH, "no process to map");
    if (s->arg[3].len)
        r = write_of(c, pid, "setgroups", s->arg[3].ptr);
    if (r == 0 && gid_map->len)
        r = s->arg[5].len ? run_helper(c, s->arg[5].ptr, pid, gid_map) : write_of(c, pid, "gid_map", gid_map->ptr);
    if (r == 0 && uid_map->len)
        r = s->arg[4].len ? run_helper(c, s->arg[4].ptr, pid, uid_map) : write_of(c, pid, "uid_map", uid_map->ptr);
    return r;
}

/* TIME_OFFSETS(text): writable only between the stage's unshare and the first process in the namespace. */
int step_time_offsets(struct context *c, const struct step *s) {
    if (c->stage_pid <= 0)
        return detail(c, -ESRCH, "no stage process");
    return write_of(c, c->stage_pid, "timens_offsets", s->arg[0].ptr);
}
