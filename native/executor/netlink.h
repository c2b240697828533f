/* The little of rtnetlink that a container needs: find, move and raise a device, read and restore addresses. */
#ifndef CORRAL_NETLINK_H
#define CORRAL_NETLINK_H

#include <stdint.h>
#include <sys/types.h>

struct netlink_address {
    uint8_t family, prefix;
    uint32_t flags;                    /* IFA_F_* */
    uint8_t local[16], peer[16], broadcast[16];
    uint8_t local_len, peer_len, broadcast_len; /* 0 = absent */
};

int netlink_open(void);                               /* of the caller's network namespace; a descriptor or -errno */
int netlink_find(int sock, const char *name);         /* index, or -ENODEV ... */
int netlink_set_up(int sock, int index);
/* Moves the device into the namespace behind netns_fd, under new_name if that is not "". */
int netlink_move(int sock, int index, int netns_fd, const char *new_name);
/* The permanent addresses of global scope; at most `max`. Returns their number, -E2BIG if there are more, or -errno. */
int netlink_addresses(int sock, int index, struct netlink_address *ret, int max);
int netlink_add_address(int sock, int index, const struct netlink_address *address); /* there already = 0 */

#endif
