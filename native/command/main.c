/* corral: has a short command run by the service's resident process (docs/adr/0009), else becomes the interpreter that
 * corral-planner beside it names, isolated from the caller's environment.
 *
 * A script with that interpreter on its first line could not say -ISE to it: installers write the line, and drop what
 * follows the path. */
#include <signal.h>
#include <stdlib.h>

#include "command/resident.h"
#include "executor/sys.h"
#include "launch/interpreter.h"
#include "launch/launch.h"

extern char **environ;

#define EXIT_ENGINE 125

static int refuse(const char *text, const char *hint) {
    say(2, "%s\nhint: %s\n", text, hint);
    return EXIT_ENGINE;
}

int main(int argc, char **given) {
    static char interpreter[PATH_MAX], launcher[PATH_MAX];
    char text[PATH_MAX + 128];
    const char *hint;
    int n = run_resident(argc, given);
    if (n >= 0)
        return n;
    n = 0;
    find_self();
    if (find_interpreter(interpreter, launcher, text, sizeof(text), &hint) < 0)
        return refuse(text[0] ? text : "find the interpreter", hint);
    char **argv = calloc((size_t)argc + 6, sizeof(*argv));
    if (!argv)
        return refuse("start the interpreter: no memory", "free some");
    argv[n++] = interpreter;
    argv[n++] = (char *)(uintptr_t)"-ISE";
    argv[n++] = launcher;
    argv[n++] = (char *)(uintptr_t)"--corral";
    for (int i = 1; i < argc; i++)
        argv[n++] = given[i];
    (void)signal(SIGPIPE, SIG_DFL);
    (void)signal(SIGCHLD, SIG_DFL); /* ignored, as by some callers, it takes away the ends of our children */
    execve(interpreter, argv, environ);
    fmt(text, sizeof(text), "run '%s': %s", interpreter, error_text(errno));
    free(argv);
    return refuse(text, "the interpreter named by corral-planner is not there; install corral again");
}
