/* The way to Python: the launcher beside this executable, and the interpreter that its first line names. */
#include <string.h>
#include <sys/stat.h>

#include "executor/sys.h"
#include "launch/interpreter.h"
#include "launch/launch.h"

#define LAUNCHER "corral-planner"

/* Whoever may write the launcher commands this program. Besides root and the caller: the owner of this very
 * executable, since inside a user namespace root's files show the overflow id. */
static bool is_trusted_owner(uid_t uid) {
    struct stat own;
    return uid == 0 || uid == geteuid() || (stat(self_path(), &own) == 0 && own.st_uid == uid);
}

static int check_owner(int fd, const char *path, char *text, size_t room, const char **hint) {
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    bool trusted = is_trusted_owner(st.st_uid);
    if (trusted && !(st.st_mode & (S_IWGRP | S_IWOTH)))
        return 0;
    fmt(text, room, "run '%s': it is %s", path, trusted ? "writable by others than its owner" : "owned by another user");
    *hint = "install it owned by root or by you, with mode 0755";
    return -EPERM;
}

int find_interpreter(char interpreter[PATH_MAX], char launcher[PATH_MAX], char *text, size_t room, const char **hint) {
    static char line[PATH_MAX];
    const char *self = self_path(), *slash = strrchr(self, '/');
    text[0] = '\0';
    *hint = "";
    fmt(launcher, PATH_MAX, "%.*s/" LAUNCHER, slash ? (int)(slash - self) : 0, self);
    cleanup_fd int fd = open_at(AT_FDCWD, launcher, O_RDONLY | O_NOCTTY, 0);
    if (fd < 0) {
        fmt(text, room, "open '%s': %s", launcher, error_text(fd));
        *hint = "corral-planner is installed beside corral-runtime; the two belong together";
        return fd;
    }
    int r = check_owner(fd, launcher, text, room, hint);
    if (r < 0)
        return r;
    int n = read_all(fd, line, sizeof(line) - 1);
    line[n < 0 ? 0 : n] = '\0';
    line[strcspn(line, "\n")] = '\0';
    if (!text_starts(line, "#!/")) {
        fmt(text, room, "run '%s': its first line names no interpreter", launcher);
        *hint = "install corral with pip, or `make native`";
        return -ENOEXEC;
    }
    fmt(interpreter, PATH_MAX, "%s", line + 2);
    interpreter[strcspn(interpreter, " \t\r")] = '\0';
    return 0;
}
