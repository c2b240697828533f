/* Running from a sealed copy of ourselves: a container that gets at /proc/PID/exe of whoever enters it must find
 * nothing that it could overwrite (CVE-2019-5736). */
#include <stdlib.h>

#include "front/front.h"
#include "front/planner.h"

extern char **environ;

/* Marks the second start and carries the path of the first one's file. */
#define MARK "CORRAL_SELF"

static int exec_copy(int fd, char **argv) {
    syscall(SYS_execveat, fd, "", argv, environ, AT_EMPTY_PATH);
    int r = -errno;
    close(fd);
    return r;
}

/* Returns 0 once this is the copy, and -errno, after log_error, if there is no way to become one. */
int become_copy(const struct invocation *inv) {
    static char mark[PATH_MAX + sizeof(MARK) + 1];
    char text[PATH_MAX + 128];
    cleanup_fd int own = open_at(AT_FDCWD, "/proc/self/exe", O_RDONLY, 0);
    if (own < 0) {
        fmt(text, sizeof(text), "open '/proc/self/exe': %s", error_text(own));
        log_error(text, "/proc is needed to run containers");
        return own;
    }
    /* The mark is only an environment variable, which a caller may have inherited from anywhere; what counts is the file
     * that runs. */
    if (getenv(MARK) && is_private_copy(own)) {
        set_self_path(getenv(MARK));
        return unsetenv(MARK);
    }
    /* Planning goes on while this process copies itself. */
    if (planner_ask_early(inv) < 0)
        return -ECANCELED;
    fmt(mark, sizeof(mark), MARK "=%s", self_path());
    putenv(mark);
    int r = -ENOEXEC;
    for (unsigned way = 0; way < COPY_WAYS; way++) {
        int fd = private_copy(own, self_path(), inv->root, way);
        r = fd < 0 ? fd : exec_copy(fd, inv->argv);
    }
    fmt(text, sizeof(text), "make a private copy of '%s': %s", self_path(), error_text(r));
    log_error(text, "a container could overwrite this program otherwise (CVE-2019-5736)");
    return r;
}
