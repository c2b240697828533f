/* corral-runtime: the command that podman, containerd and the others start. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "front/front.h"

#define SPEC_VERSION "1.3.0"
#ifndef CORRAL_COMMIT
#define CORRAL_COMMIT "unknown"
#endif

static int cmd_holder(const struct invocation *inv) {
    (void)inv;
    return holder_main();
}

static const struct {
    const char *name;
    int (*run)(const struct invocation *inv);
    bool enters; /* it goes into containers: only as a private copy of itself */
} commands[] = {
    {"create", cmd_launch, true}, {"run", cmd_launch, true},   {"exec", cmd_launch, true},   {"start", cmd_start, false},
    {"state", cmd_state, false},  {"kill", cmd_kill, false},   {"delete", cmd_delete, false}, {"mounts", cmd_launch, true},
    {"holder", cmd_holder, false}, /* not for people: launch/holder.c */
};

/* Descriptors 0 to 2 must be taken: what is opened later would become the container's stdin otherwise. */
static void fill_standard_streams(void) {
    int fd;
    for (fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY) != fd)
            _exit(1);
}

static bool asks_for_version(const struct invocation *inv) {
    for (int i = 1; i < inv->argc && (!inv->command || i < inv->args - 1); i++)
        if (strcmp(inv->argv[i], "--version") == 0 || strcmp(inv->argv[i], "-v") == 0 ||
            strcmp(inv->argv[i], "-version") == 0)
            return true;
    return inv->command && strcmp(inv->command, "version") == 0;
}

static bool asks_for_help(const struct invocation *inv) {
    for (int i = 1; i < inv->argc && (!inv->command || i < inv->args - 1); i++)
        if (strcmp(inv->argv[i], "--help") == 0 || strcmp(inv->argv[i], "-h") == 0)
            return true;
    return !inv->command;
}

int main(int argc, char **argv) {
    static struct invocation inv;
    fill_standard_streams();
    /* Ignored by the caller, it would make the kernel reap our children before we can ask how they ended. */
    (void)signal(SIGCHLD, SIG_DFL);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a caller's limit of file size is told by EFBIG, and what was made is undone */
    invocation_parse(&inv, argc, argv);
    log_setup(&inv);
    find_self();
    if (asks_for_version(&inv)) {
        say(1, "corral-runtime version " CORRAL_VERSION "\ncommit: " CORRAL_COMMIT "\nspec: " SPEC_VERSION "\n");
        return 0;
    }
    if (inv.log_format && !inv.log_json && strcmp(inv.log_format, "text") != 0) {
        char text[256];
        fmt(text, sizeof(text), "read --log-format: unknown log-format '%s'", inv.log_format);
        log_error(text, "text and json are known");
        return 1;
    }
    if (inv.unknown_global || asks_for_help(&inv))
        return exec_python(&inv);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(inv.command, commands[i].name) != 0)
            continue;
        const char *points = getenv("CORRAL_FAILPOINT");
        if (points && failpoints_parse(points) < 0) {
            log_error("read CORRAL_FAILPOINT: invalid argument", "ACTOR:STEP[:N][:after]:(errno=N|kill|stop)");
            return 1;
        }
        if (commands[i].enters && become_copy(&inv) < 0)
            return strcmp(inv.command, "exec") == 0 ? 255 : 1;
        return commands[i].run(&inv);
    }
    return exec_python(&inv);
}
