/* Who the process becomes: user, groups, capabilities, no_new_privs, labels, and its seccomp filter. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>

#include "console.h"
#include "run.h"
#include "sys.h"

#ifndef SECCOMP_SET_MODE_FILTER
#define SECCOMP_SET_MODE_FILTER 1
#endif
#ifndef SECCOMP_FILTER_FLAG_NEW_LISTENER
#define SECCOMP_FILTER_FLAG_NEW_LISTENER (1u << 3)
#endif
#ifndef PR_CAP_AMBIENT
#define PR_CAP_AMBIENT 47
#define PR_CAP_AMBIENT_RAISE 2
#define PR_CAP_AMBIENT_CLEAR_ALL 4
#endif

#define CAP_VERSION_3 0x20080522u
#define CAP_SYS_ADMIN_BIT (1ull << 21)
#define CAPS 64

#define CRED_NO_SETGROUPS 1u
#define CRED_KEEP_GROUPS  2u
#define CRED_KEEP_CAPS    4u
#define CRED_KEEP_ADMIN   8u
#define CRED_ONLY_CAPS   16u

struct cap_header {
    uint32_t version;
    int32_t pid;
};

struct cap_data {
    uint32_t effective, permitted, inheritable;
};

struct cap_sets {
    uint64_t bounding, effective, permitted, inheritable, ambient;
};

static int capset(uint64_t effective, uint64_t permitted, uint64_t inheritable) {
    struct cap_header header = {.version = CAP_VERSION_3};
    struct cap_data data[2];
    for (int i = 0; i < 2; i++) {
        data[i].effective = (uint32_t)(effective >> (32 * i));
        data[i].permitted = (uint32_t)(permitted >> (32 * i));
        data[i].inheritable = (uint32_t)(inheritable >> (32 * i));
    }
    return sys_result(syscall(SYS_capset, &header, data));
}

static int capget(uint64_t *permitted, uint64_t *inheritable) {
    struct cap_header header = {.version = CAP_VERSION_3};
    struct cap_data data[2] = {{0}};
    int r = sys_result(syscall(SYS_capget, &header, data));
    *permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
    *inheritable = data[0].inheritable | (uint64_t)data[1].inheritable << 32;
    return r;
}

static int drop_bounding(struct context *c, uint64_t keep) {
    for (unsigned cap = 0; cap < CAPS; cap++) {
        if (keep >> cap & 1)
            continue;
        /* EINVAL: past the kernel's last capability. Asking first spares the need of CAP_SETPCAP when there is
         * nothing to drop. */
        int has = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
        if (has < 0)
            return 0;
        if (has == 1 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return detail(c, -errno, "drop capability %u from the bounding set", cap);
    }
    return 0;
}

/* An ambient capability must be permitted and inheritable, or it cannot be raised: a mistaken config, which the
 * process survives with less. The planner has warned of it. */
static void raise_ambient(uint64_t ambient) {
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (unsigned cap = 0; cap < CAPS; cap++)
        if (ambient >> cap & 1)
            (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
}

static int set_groups(struct context *c, const struct step *s, unsigned flags) {
    static uint32_t groups[65536]; /* NGROUPS_MAX; a copy, as the plan's bytes are not aligned */
    size_t n = s->arg[2].len / sizeof groups[0];
    if (flags & (CRED_NO_SETGROUPS | CRED_KEEP_GROUPS))
        return 0;
    if (n > sizeof groups / sizeof groups[0])
        return detail(c, -EINVAL, "%zu additional groups", n);
    memcpy(groups, s->arg[2].ptr, n * sizeof groups[0]);
    int r = sys_setgroups(n, groups);
    return r < 0 ? detail(c, r, "set the additional groups") : 0;
}

static int become_user(struct context *c, const struct step *s, unsigned flags) {
    uid_t uid = (uid_t)s->arg[0].num;
    gid_t gid = (gid_t)s->arg[1].num;
    /* Capabilities survive the change to a user other than root only with this flag; exec clears it. */
    if (!(flags & CRED_KEEP_CAPS) && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
        return detail(c, -errno, "keep capabilities");
    own_streams(c, uid);
    int r = set_groups(c, s, flags);
    if (r < 0)
        return r;
    r = sys_setresgid(gid);
    if (r < 0)
        return detail(c, r, "become gid %u", gid);
    r = sys_setresuid(uid);
    if (r < 0)
        return detail(c, r, "become uid %u", uid);
    return 0;
}

/* The three sets of the process, with CAP_SYS_ADMIN kept beyond them if it is there and a later step needs it. */
static int set_sets(struct context *c, const struct cap_sets *sets, unsigned flags) {
    uint64_t permitted, inheritable, extra = 0;
    int r = capget(&permitted, &inheritable);
    if (r < 0)
        return detail(c, r, "read the capabilities");
    if (flags & CRED_KEEP_ADMIN)
        extra = permitted & CAP_SYS_ADMIN_BIT;
    /* What capset(2) refuses to make inheritable: a mistaken config, which the process survives with less. */
    uint64_t possible = inheritable | (permitted & sets->bounding);
    if (sets->inheritable & ~possible)
        warning(c, "capabilities %llx cannot be inheritable: they must be permitted and bounding too",
                (unsigned long long)(sets->inheritable & ~possible));
    r = capset(sets->effective | extra, sets->permitted | extra, sets->inheritable & possible);
    return r < 0 ? detail(c, r, "set the capabilities") : 0;
}

int step_credentials(struct context *c, const struct step *s) {
    struct cap_sets sets = {s->arg[3].num, s->arg[4].num, s->arg[5].num, s->arg[6].num, s->arg[7].num};
    unsigned flags = (unsigned)s->arg[8].num;
    int r;
    if (flags & CRED_ONLY_CAPS)
        return set_sets(c, &sets, 0);
    if (flags & CRED_KEEP_CAPS)
        return become_user(c, s, flags);
    /* The bounding set first: dropping from it needs CAP_SETPCAP, which is about to go. Then the user, with all
     * capabilities kept, and the sets last. */
    r = drop_bounding(c, sets.bounding);
    if (r < 0)
        return r;
    r = become_user(c, s, flags);
    if (r < 0)
        return r;
    r = set_sets(c, &sets, flags);
    if (r < 0)
        return r;
    raise_ambient(sets.ambient);
    return 0;
}

int step_no_new_privs(struct context *c, const struct step *s) {
    (void)s;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return detail(c, -errno, "prctl");
    return 0;
}

int step_lsm_label(struct context *c, const struct step *s) {
    const char *lsm = s->arg[0].ptr, *file = s->arg[1].ptr;
    char path[128];
    /* AppArmor has its own directory since 5.8 (6413f852ce08), so that it can stand beside another module; the
     * common file is the older place. */
    cleanup_fd int fd = -1;
    if (strcmp(lsm, "apparmor") == 0) {
        fmt(path, sizeof path, "thread-self/attr/apparmor/%s", file);
        fd = proc_open(c, path, O_WRONLY);
    }
    if (fd < 0) {
        fmt(path, sizeof path, "thread-self/attr/%s", file);
        fd = proc_open(c, path, O_WRONLY);
    }
    if (fd < 0)
        return fd;
    int r = write_once(fd, s->arg[2].ptr, s->arg[2].len);
    return r < 0 ? detail(c, r, "write '%s' to /proc/%s", s->arg[2].ptr, path) : 0;
}

int step_seccomp(struct context *c, const struct step *s) {
    struct sock_fprog program;
    unsigned flags = (unsigned)s->arg[1].num;
    int64_t slot = (int64_t)s->arg[2].num;
    if (s->arg[0].len == 0 || s->arg[0].len % sizeof(struct sock_filter))
        return detail(c, -EINVAL, "the program has %u bytes", s->arg[0].len);
    program.len = (unsigned short)(s->arg[0].len / sizeof(struct sock_filter));
    program.filter = (struct sock_filter *)(uintptr_t)s->arg[0].ptr;
    int r = sys_seccomp(SECCOMP_SET_MODE_FILTER, flags, &program);
    if (r == -ENOSYS && flags == 0 && slot < 0)
        r = prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0 ? -errno : 0;
    if (r < 0)
        return detail(c, r, "seccomp(2) with flags %x and %u instructions", flags, program.len);
    if (!(flags & SECCOMP_FILTER_FLAG_NEW_LISTENER))
        return 0;
    return slot_put(c, (uint64_t)slot, r);
}
