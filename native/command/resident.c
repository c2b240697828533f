/* The front's half of docs/adr/0009: finds the socket, shows what this process is, hands over its descriptors, waits. */
#include "command/resident.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "executor/sys.h"

#ifndef CORRAL_VERSION
#define CORRAL_VERSION "0"
#endif

#define SOCKET_NAME "resident.sock"
#define MESSAGE_MAX (96u << 10)
#define HANDED 4 /* stdin, stdout, stderr and the working directory */
#define EXIT_ENGINE 125
#define BEGIN_S 20 /* longer than a busy machine needs to accept and fork */

extern char **environ;

/* The strings of the request, each with its NUL. */
struct request {
    char bytes[MESSAGE_MAX];
    size_t n;
    bool is_full;
};

static void add(struct request *r, const char *text) {
    size_t n = strlen(text) + 1;
    if (n > sizeof(r->bytes) - r->n) {
        r->is_full = true;
        return;
    }
    memcpy(r->bytes + r->n, text, n);
    r->n += n;
}

/* What people wait for, is short, and needs no terminal. The other side judges again, with the whole command line. */
static bool is_quick(int argc, char **argv, int at) {
    static const char *const names[] = {"create", "kill", "pause", "ps", "rename", "restart",
                                        "rm", "start", "stop", "unpause", "inspect"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(argv[at], names[i]) == 0)
            return true;
    if (strcmp(argv[at], "run") != 0)
        return false;
    for (int i = at + 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (text_starts(argv[i], "--detach") || (argv[i][0] == '-' && argv[i][1] != '-' && strchr(argv[i], 'd')))
            return true;
    return false;
}

/* The index of the command's name, 0 if there is none, or a flag before it that is not about the store. */
static int find_command(int argc, char **argv, const char **store, const char **run) {
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        const char **to = text_starts(argv[i], "--store") ? store : text_starts(argv[i], "--run-dir") ? run : NULL;
        const char *rest = to ? argv[i] + (to == store ? 7 : 9) : NULL;
        if (rest && *rest == '=')
            *to = rest + 1;
        else if (rest && *rest == '\0' && i + 1 < argc)
            *to = argv[++i];
        else
            return 0;
    }
    return i < argc ? i : 0;
}

static const char *variable(const char *name) {
    const char *found = getenv(name);
    return found ? found : "";
}

/* As corral.engine.places finds it. False where that is left to it. */
static bool find_run_dir(const char *store, const char *run, char *path, size_t size) {
    if (!*run)
        run = variable("CORRAL_RUN_DIR");
    if (!*store)
        store = variable("CORRAL_STORE");
    if (*run)
        return fmt(path, size, "%s", run) < size - 1;
    if (*store)
        return fmt(path, size, "%s/run", store) < size - 1;
    if (geteuid() == 0)
        return fmt(path, size, "/run/corral") < size - 1;
    run = variable("XDG_RUNTIME_DIR");
    return *run && fmt(path, size, "%s/corral", run) < size - 1;
}

/* A connection to a process of our own user's, or -1. */
static int connect_resident(const char *run) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct ucred peer;
    struct timeval most = {.tv_sec = BEGIN_S};
    socklen_t len = sizeof(peer);
    cleanup_fd int directory = open_at(AT_FDCWD, run, O_PATH | O_DIRECTORY, 0);
    if (directory < 0)
        return -1;
    cleanup_fd int sock = sys_result(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    /* A path may be longer than an address. */
    fmt(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/" SOCKET_NAME, directory);
    if (sock < 0 || setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof(most)) < 0 ||
        connect(sock, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return -1;
    if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.uid != geteuid())
        return -1;
    return steal_fd(&sock);
}

/* Who we are, in the kernel's words: namespaces, security label, root, and these lines of our status. */
static bool add_identity(struct request *r) {
    static const char *const namespaces[] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};
    static const char *const lines[] = {"Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:", "Seccomp:"};
    static char status[8192], label[4096];
    char path[40], text[64];
    struct stat root;
    for (size_t i = 0; i < sizeof(namespaces) / sizeof(namespaces[0]); i++) {
        fmt(path, sizeof(path), "/proc/self/ns/%s", namespaces[i]);
        add(r, read_link_at(AT_FDCWD, path, text, sizeof(text)) < 0 ? "" : text);
    }
    if (stat("/", &root) < 0 || read_file_at(AT_FDCWD, "/proc/self/status", status, sizeof(status)) < 0)
        return false;
    add(r, read_file_at(AT_FDCWD, "/proc/self/attr/current", label, sizeof(label)) < 0 ? "" : label);
    fmt(text, sizeof(text), "%lu:%lu", (unsigned long)root.st_dev, (unsigned long)root.st_ino);
    add(r, text);
    for (char *line = status, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
            if (text_starts(line, lines[i]))
                add(r, line);
    }
    return true;
}

/* Limits, umask, arguments, environment. */
static bool add_rest(struct request *r, int argc, char **argv) {
    char text[64];
    mode_t mask = umask(0);
    (void)umask(mask);
    for (int i = 0; i < RLIM_NLIMITS; i++) {
        struct rlimit limit;
        if (getrlimit(i, &limit) < 0)
            return false;
        fmt(text, sizeof(text), "%ld %ld", (long)limit.rlim_cur, (long)limit.rlim_max);
        add(r, text);
    }
    fmt(text, sizeof(text), "%u", (unsigned)mask);
    add(r, text);
    fmt(text, sizeof(text), "%d", argc - 1);
    add(r, text);
    for (int i = 1; i < argc; i++)
        add(r, argv[i]);
    for (char **one = environ; *one; one++)
        add(r, *one);
    return true;
}

static bool send_request(int sock, const struct request *r) {
    cleanup_fd int here = open_at(AT_FDCWD, ".", O_PATH | O_DIRECTORY, 0);
    int fds[HANDED] = {0, 1, 2, here};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(fds))];
    } control = {0};
    struct iovec part = {.iov_base = (void *)(uintptr_t)r->bytes, .iov_len = r->n};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(fds));
    memcpy(CMSG_DATA(c), fds, sizeof(fds));
    return here >= 0 && sendmsg(sock, &message, MSG_NOSIGNAL) == (ssize_t)r->n;
}

/* One byte: its value, or -1 at the end. */
static int receive(int sock) {
    unsigned char byte;
    ssize_t n;
    do
        n = recv(sock, &byte, 1, 0);
    while (n < 0 && errno == EINTR);
    return n == 1 ? byte : -1;
}

/* Whether the other side has begun. If not, it never will. */
static bool has_begun(int sock) {
    if (wait_readable(sock, BEGIN_S * 1000) != 1)
        /* Nobody can send to us any more, so that what has not said it by now does not begin. */
        (void)shutdown(sock, SHUT_RD);
    return receive(sock) >= 0;
}

int run_resident(int argc, char **argv) {
    static struct request r;
    const char *store = "", *run = "";
    char path[PATH_MAX];
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            return -1; /* what we open would take its number */
    int at = find_command(argc, argv, &store, &run);
    if (!at || !is_quick(argc, argv, at) || !find_run_dir(store, run, path, sizeof(path)))
        return -1;
    cleanup_fd int sock = connect_resident(path);
    if (sock < 0)
        return -1;
    add(&r, CORRAL_VERSION);
    if (!add_identity(&r) || !add_rest(&r, argc, argv) || r.is_full || !send_request(sock, &r))
        return -1;
    /* The first byte says that it begins: until then all can still be done here. The second is the exit code. */
    if (!has_begun(sock))
        return -1;
    int code = receive(sock);
    if (code >= 0)
        return code;
    say(2, "%s: the process that did it has ended\nhint: whether it was done is seen by `corral ps -a`\n", argv[at]);
    return EXIT_ENGINE;
}
