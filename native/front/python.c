/* The commands that are Python's: this process becomes the interpreter. */
#include <signal.h>
#include <stdlib.h>

#include "front/front.h"
#include "launch/interpreter.h"

extern char **environ;

int find_planner(char interpreter[PATH_MAX], char launcher[PATH_MAX]) {
    char text[PATH_MAX + 128];
    const char *hint;
    int r = find_interpreter(interpreter, launcher, text, sizeof(text), &hint);
    if (r < 0 && text[0])
        log_error(text, hint);
    return r;
}

int exec_python(const struct invocation *inv) {
    static char interpreter[PATH_MAX], launcher[PATH_MAX];
    char text[PATH_MAX + 128];
    int n = 0;
    if (find_planner(interpreter, launcher) < 0)
        return 1;
    char **argv = calloc((size_t)inv->argc + 8, sizeof(*argv));
    if (!argv)
        return 1;
    argv[n++] = interpreter;
    argv[n++] = (char *)(uintptr_t)"-ISE";
    argv[n++] = launcher;
    for (int i = 1; i < inv->argc; i++) {
        if (i == inv->command_at && !inv->root_given) {
            /* As in a request. */
            argv[n++] = (char *)(uintptr_t)"--root";
            argv[n++] = (char *)(uintptr_t)inv->root;
        }
        argv[n++] = inv->argv[i];
    }
    (void)signal(SIGPIPE, SIG_DFL);
    execve(interpreter, argv, environ);
    fmt(text, sizeof(text), "run '%s': %s", interpreter, error_text(errno));
    free(argv);
    log_error(text, "the interpreter named by corral-planner is not there; install corral again");
    return 1;
}
