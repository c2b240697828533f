/* Runs the steps of one actor of a plan in this very process, then a command among what they left: the hands of the
 * Python tests in tests/root/native and tests/userns/native. Without arguments it does nothing: it is no test itself.
 *
 *   test_step_driver PLAN front|stage|init [COMMAND [ARGUMENT]...]
 *
 * Environment: DRIVER_INIT_PID = what the steps take for the container's first process, DRIVER_RECORD = the record's
 * directory, DRIVER_STAYS = behave as the front of a foreground run, DRIVER_REFUSE = numbers of system calls, joined
 * by ',', that are to answer ENOSYS as on an old kernel,
 * CORRAL_FAILPOINT. On a failure: its description on stderr, exit 1. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "../executor/notify.h"
#include "../executor/run.h"
#include "../executor/sys.h"

static struct context context; /* large */

static void *read_plan(const char *path, size_t *len) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return NULL;
    void *bytes = malloc((size_t)st.st_size + 1);
    *len = (size_t)st.st_size;
    if (bytes && read_all(fd, bytes, *len) != (int)*len)
        return NULL;
    close(fd);
    return bytes;
}

/* A foreground run's part in relaying readiness. */
static void pump_notifications(struct context *c) {
    while (notify_fd() >= 0 && wait_readable(notify_fd(), 5000) == 1)
        if (notify_pump(c) < 0)
            say(2, "%s\n", c->detail);
}

static int run_command(char **argv) {
    pid_t pid = fork();
    if (pid == 0) {
        execvp(argv[0], argv);
        say(2, "exec %s: %s\n", argv[0], error_text(errno));
        _exit(127);
    }
    int status = 1;
    if (pid < 0 || wait_pid(pid, &status) < 0)
        return 1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void prepare(struct context *c, const struct plan *plan, const char *actor) {
    context_init(c, plan, ACTOR_INIT);
    if (strcmp(actor, "init") != 0)
        c->actor = strcmp(actor, "stage") == 0 ? ACTOR_STAGE : ACTOR_FRONT;
    const char *pid = getenv("DRIVER_INIT_PID"), *record = getenv("DRIVER_RECORD");
    if (pid) {
        c->init_pid = atoi(pid);
        c->init_pidfd = sys_pidfd_open(c->init_pid, 0);
    }
    if (getenv("DRIVER_STAYS"))
        c->peer = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (record)
        c->record = open(record, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (record) /* -1 where the test made no such file: then nothing is noted */
        c->journal = openat(c->record, "journal", O_WRONLY | O_APPEND | O_CLOEXEC);
}

/* An older kernel: each of these system calls is unknown. */
static void refuse(const char *numbers) {
    struct sock_filter code[64] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0)};
    unsigned short n = 1;
    for (const char *p = numbers; p && *p && n < 60; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)atoi(p), 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {n, code};
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0) {
        (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        (void)prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
    }
}

static int fail(const struct context *c, unsigned failed, int error) {
    struct step s;
    char text[2048];
    plan_step(c->plan, failed, &s);
    describe_failure(&s, error, c->detail, text, sizeof(text));
    say(2, "%s\n", text);
    return 1;
}

int main(int argc, char **argv) {
    struct plan plan;
    const char *why = "";
    size_t len = 0;
    unsigned failed = 0;
    if (argc < 3)
        return 0;
    void *bytes = read_plan(argv[1], &len);
    if (!bytes || plan_decode(&plan, bytes, len, &why) < 0) {
        say(2, "decode the plan: %s\n", why);
        return 2;
    }
    if (getenv("CORRAL_FAILPOINT") && failpoints_parse(getenv("CORRAL_FAILPOINT")) < 0)
        return 2;
    prepare(&context, &plan, argv[2]);
    if (getenv("DRIVER_REFUSE"))
        refuse(getenv("DRIVER_REFUSE"));
    int r = run_actor(&context, 0, &failed);
    if (r < 0)
        return fail(&context, failed, r);
    pump_notifications(&context);
    if (context.home)
        (void)setenv("FOUND_HOME", context.home, 1);
    return argc > 3 ? run_command(argv + 3) : 0;
}
