/* The way to Python: the launcher beside this executable, and the interpreter that its first line names. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "front/front.h"

extern char **environ;

#define LAUNCHER "corral-planner"

/* Whoever may write the launcher commands this program. Besides root and the caller: the owner of this very
 * executable, since inside a user namespace root's files show the overflow id. */
static int check_owner(int fd, const char *path) {
    struct stat st, own;
    char text[PATH_MAX + 128];
    if (fstat(fd, &st) < 0)
        return -errno;
    bool trusted = st.st_uid == 0 || st.st_uid == geteuid() || (stat(self_path(), &own) == 0 && own.st_uid == st.st_uid);
    if (trusted && !(st.st_mode & (S_IWGRP | S_IWOTH)))
        return 0;
    fmt(text, sizeof(text), "run '%s': it is %s", path, trusted ? "writable by others than its owner" : "owned by another user");
    log_error(text, "install it owned by root or by you, with mode 0755");
    return -EPERM;
}

int find_planner(char interpreter[PATH_MAX], char launcher[PATH_MAX]) {
    static char line[PATH_MAX];
    char text[PATH_MAX + 128];
    const char *self = self_path(), *slash = strrchr(self, '/');
    fmt(launcher, PATH_MAX, "%.*s/" LAUNCHER, slash ? (int)(slash - self) : 0, self);
    cleanup_fd int fd = open_at(AT_FDCWD, launcher, O_RDONLY | O_NOCTTY, 0);
    if (fd < 0) {
        fmt(text, sizeof(text), "open '%s': %s", launcher, error_text(fd));
        log_error(text, "corral-planner is installed beside corral-runtime; the two belong together");
        return fd;
    }
    int r = check_owner(fd, launcher);
    if (r < 0)
        return r;
    int n = read_all(fd, line, sizeof(line) - 1);
    line[n < 0 ? 0 : n] = '\0';
    line[strcspn(line, "\n")] = '\0';
    if (!text_starts(line, "#!/")) {
        fmt(text, sizeof(text), "run '%s': its first line names no interpreter", launcher);
        log_error(text, "install corral with pip, or `make native`");
        return -ENOEXEC;
    }
    fmt(interpreter, PATH_MAX, "%s", line + 2);
    interpreter[strcspn(interpreter, " \t\r")] = '\0';
    return 0;
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
        if (i == inv->command_at) {
            /* As in a request: the state root is decided here, and of several the last one counts. */
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
