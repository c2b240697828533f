/* corral-within PLAN-FD: runs a plan whose process is a program of this host in namespaces that the plan makes or joins,
 * and ends as that program ends: work on files that only such a process may do (docs/design/rootfs.md, "Work inside").
 *
 * No record, no policy, no output of its own but a failure's words. */
#include <sys/wait.h>

#include "launch/launch.h"

#define EXIT_FAILED 125 /* as `docker run` when the error is not the program's */

static struct context context; /* large */

static int fail(const char *text, const char *hint) {
    say(2, "%s\n", text);
    if (hint && hint[0])
        say(2, "hint: %s\n", hint);
    return EXIT_FAILED;
}

static int run(struct plan *plan) {
    char text[2048], hint[256];
    struct failure f;
    context_init(&context, plan, ACTOR_FRONT);
    if (launch_run(&context, &f) < 0) {
        launch_explain(&context, f, text, sizeof(text), hint, sizeof(hint));
        (void)launch_undo(&context, hint, sizeof(hint));
        return fail(text, NULL);
    }
    int status = 0;
    int r = wait_pid(context.init_pid, &status);
    if (r < 0)
        return fail(error_text(r), NULL);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv) {
    struct plan plan;
    char why[512];
    int fd = -1;
    if (argc != 2 || !parse_int(argv[1], 0, 65535, &fd))
        return fail("usage: corral-within PLAN-FD", NULL);
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (launch_load(fd, &plan, why, sizeof(why)) < 0)
        return fail(why, NULL);
    close(fd);
    return run(&plan);
}
