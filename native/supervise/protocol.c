/* Sockets of keeper and monitors. */
#include "supervise/protocol.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

bool peer_is_trusted(int sock) {
    struct ucred peer;
    socklen_t len = sizeof(peer);
    return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && (peer.uid == 0 || peer.uid == geteuid());
}

static struct sockaddr_un address_of(int dir, const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    fmt(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", dir, name);
    return address;
}

static int make_socket(void) { return sys_result(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); }

int listen_at(int dir, const char *name, int backlog) {
    struct sockaddr_un address = address_of(dir, name);
    cleanup_fd int sock = make_socket();
    if (sock < 0)
        return sock;
    (void)unlinkat(dir, name, 0);
    mode_t mask = umask(0177);
    int r = sys_result(bind(sock, (struct sockaddr *)&address, sizeof(address)));
    (void)umask(mask);
    if (r == 0)
        r = sys_result(listen(sock, backlog));
    return r < 0 ? r : steal_fd(&sock);
}

int connect_at(int dir, const char *name) {
    struct sockaddr_un address = address_of(dir, name);
    cleanup_fd int sock = make_socket();
    if (sock < 0)
        return sock;
    int r;
    do
        r = sys_result(connect(sock, (struct sockaddr *)&address, sizeof(address)));
    while (r == -EINTR);
    return r < 0 ? r : steal_fd(&sock);
}

int accept_trusted(int listener) {
    int sock = sys_result(accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (sock == -EINTR || sock == -ECONNABORTED)
        return -EAGAIN;
    if (sock >= 0 && !peer_is_trusted(sock)) {
        close(sock);
        return -EPERM;
    }
    return sock;
}

void answer_error(int sock, int error, const char *text, const char *hint) {
    char bytes[4096];
    struct message_head head = {.kind = SUP_ERROR, .error = error < 0 ? -error : error};
    size_t n = fmt(bytes, sizeof(bytes) - 1, "%s", text) + 1;
    n += fmt(bytes + n, sizeof(bytes) - n, "%s", hint ? hint : "");
    (void)message_send(sock, &head, bytes, n, -1);
}
