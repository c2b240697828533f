/* rtnetlink by hand: one request, one answer. Knows nothing of containers. */
#include "netlink.h"

#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

#include "sys.h"

struct request {
    struct nlmsghdr head;
    union {
        struct ifinfomsg link;
        struct ifaddrmsg addr;
    };
    char attributes[256];
};

int netlink_open(void) {
    int fd = sys_result(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    if (fd < 0)
        return fd;
    struct timeval limit = {.tv_sec = 10}; /* the kernel answers at once or never */
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return fd;
}

static void begin(struct request *r, uint16_t type, uint16_t flags, size_t body) {
    static uint32_t sequence;
    memset(r, 0, sizeof(*r));
    r->head.nlmsg_len = (uint32_t)NLMSG_LENGTH(body);
    r->head.nlmsg_type = type;
    r->head.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
    r->head.nlmsg_seq = ++sequence;
}

static void put(struct request *r, uint16_t type, const void *bytes, size_t len) {
    struct rtattr *a = (struct rtattr *)((char *)r + NLMSG_ALIGN(r->head.nlmsg_len));
    if ((char *)a + RTA_LENGTH(len) > (char *)(r + 1))
        return;
    a->rta_type = type;
    a->rta_len = (unsigned short)RTA_LENGTH(len);
    memcpy(RTA_DATA(a), bytes, len);
    r->head.nlmsg_len = (uint32_t)(NLMSG_ALIGN(r->head.nlmsg_len) + RTA_ALIGN(RTA_LENGTH(len)));
}

static int send_request(int sock, const struct request *r) {
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    ssize_t n;
    do
        n = sendto(sock, r, r->head.nlmsg_len, 0, (struct sockaddr *)&kernel, sizeof(kernel));
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

static int receive(int sock, char *buf, size_t size) {
    struct sockaddr_nl from;
    for (;;) {
        socklen_t len = sizeof(from);
        ssize_t n = recvfrom(sock, buf, size, MSG_TRUNC, (struct sockaddr *)&from, &len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? -ETIMEDOUT : -errno;
        if ((size_t)n > size)
            return -EMSGSIZE;
        if (from.nl_pid == 0) /* anybody may send to us; only the kernel is believed */
            return (int)n;
    }
}

typedef int (*on_message)(const struct nlmsghdr *head, void *arg);

/* Sends, then reads answers until ACK, error or the end of a dump. `handle` sees each other message. */
static int ask(int sock, const struct request *r, on_message handle, void *arg) {
    static char buf[32768] __attribute__((aligned(8)));
    int result = send_request(sock, r);
    while (result == 0) {
        int n = receive(sock, buf, sizeof(buf));
        if (n < 0)
            return n;
        unsigned left = (unsigned)n;
        for (struct nlmsghdr *h = (struct nlmsghdr *)buf; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            if (h->nlmsg_seq != r->head.nlmsg_seq)
                continue;
            if (h->nlmsg_type == NLMSG_DONE)
                return 0;
            if (h->nlmsg_type == NLMSG_ERROR) {
                const struct nlmsgerr *answer = NLMSG_DATA(h);
                return h->nlmsg_len < NLMSG_LENGTH(sizeof(*answer)) ? -EPROTO : answer->error;
            }
            if (handle && (result = handle(h, arg)) < 0)
                return result;
            if (!(h->nlmsg_flags & NLM_F_MULTI) && !(r->head.nlmsg_flags & NLM_F_ACK))
                return 0;
        }
    }
    return result;
}

static int take_index(const struct nlmsghdr *head, void *arg) {
    if (head->nlmsg_type == RTM_NEWLINK && head->nlmsg_len >= NLMSG_LENGTH(sizeof(struct ifinfomsg)))
        *(int *)arg = ((struct ifinfomsg *)NLMSG_DATA(head))->ifi_index;
    return 0;
}

int netlink_find(int sock, const char *name) {
    struct request r;
    int index = -ENODEV;
    if (strlen(name) >= IFNAMSIZ)
        return -ENODEV;
    begin(&r, RTM_GETLINK, 0, sizeof(r.link));
    put(&r, IFLA_IFNAME, name, strlen(name) + 1);
    int result = ask(sock, &r, take_index, &index);
    return result < 0 ? result : index;
}

int netlink_set_up(int sock, int index) {
    struct request r;
    begin(&r, RTM_NEWLINK, NLM_F_ACK, sizeof(r.link));
    r.link.ifi_index = index;
    r.link.ifi_flags = IFF_UP;
    r.link.ifi_change = IFF_UP;
    return ask(sock, &r, NULL, NULL);
}

int netlink_move(int sock, int index, int netns_fd, const char *new_name) {
    struct request r;
    begin(&r, RTM_NEWLINK, NLM_F_ACK, sizeof(r.link));
    r.link.ifi_index = index;
    put(&r, IFLA_NET_NS_FD, &netns_fd, sizeof(netns_fd));
    /* With the move, not after it: the old name may be taken over there. */
    if (new_name[0])
        put(&r, IFLA_IFNAME, new_name, strlen(new_name) + 1);
    return ask(sock, &r, NULL, NULL);
}

struct collection {
    int index, count, max;
    struct netlink_address *to;
};

static void take_bytes(const struct rtattr *a, uint8_t to[16], uint8_t *len) {
    size_t n = RTA_PAYLOAD(a);
    if (n <= 16) {
        memcpy(to, RTA_DATA(a), n);
        *len = (uint8_t)n;
    }
}

static int take_address(const struct nlmsghdr *head, void *arg) {
    struct collection *all = arg;
    if (head->nlmsg_type != RTM_NEWADDR || head->nlmsg_len < NLMSG_LENGTH(sizeof(struct ifaddrmsg)))
        return 0;
    const struct ifaddrmsg *m = NLMSG_DATA(head);
    if ((int)m->ifa_index != all->index || m->ifa_scope != RT_SCOPE_UNIVERSE)
        return 0;
    struct netlink_address a = {.family = m->ifa_family, .prefix = m->ifa_prefixlen, .flags = m->ifa_flags};
    int left = (int)(head->nlmsg_len - NLMSG_LENGTH(sizeof(*m)));
    for (const struct rtattr *at = IFA_RTA(m); RTA_OK(at, left); at = RTA_NEXT(at, left)) {
        if (at->rta_type == IFA_LOCAL)
            take_bytes(at, a.local, &a.local_len);
        else if (at->rta_type == IFA_ADDRESS)
            take_bytes(at, a.peer, &a.peer_len);
        else if (at->rta_type == IFA_BROADCAST)
            take_bytes(at, a.broadcast, &a.broadcast_len);
        else if (at->rta_type == IFA_FLAGS && RTA_PAYLOAD(at) == sizeof(a.flags))
            memcpy(&a.flags, RTA_DATA(at), sizeof(a.flags));
    }
    if (!(a.flags & IFA_F_PERMANENT))
        return 0;
    if (all->count == all->max)
        return -E2BIG;
    all->to[all->count++] = a;
    return 0;
}

int netlink_addresses(int sock, int index, struct netlink_address *ret, int max) {
    struct request r;
    struct collection all = {.index = index, .max = max, .to = ret};
    begin(&r, RTM_GETADDR, NLM_F_DUMP, sizeof(r.addr));
    int result = ask(sock, &r, take_address, &all);
    return result < 0 ? result : all.count;
}

int netlink_add_address(int sock, int index, const struct netlink_address *address) {
    struct request r;
    begin(&r, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, sizeof(r.addr));
    r.addr.ifa_family = address->family;
    r.addr.ifa_prefixlen = address->prefix;
    r.addr.ifa_scope = RT_SCOPE_UNIVERSE;
    r.addr.ifa_index = (uint32_t)index;
    /* What the kernel reports about the state of an address is not for us to set. */
    uint32_t flags = address->flags & (IFA_F_NODAD | IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR | IFA_F_NOPREFIXROUTE);
    r.addr.ifa_flags = (uint8_t)flags;
    put(&r, IFA_FLAGS, &flags, sizeof(flags));
    if (address->local_len)
        put(&r, IFA_LOCAL, address->local, address->local_len);
    if (address->peer_len)
        put(&r, IFA_ADDRESS, address->peer, address->peer_len);
    if (address->broadcast_len)
        put(&r, IFA_BROADCAST, address->broadcast, address->broadcast_len);
    int result = ask(sock, &r, NULL, NULL);
    return result == -EEXIST ? 0 : result;
}
