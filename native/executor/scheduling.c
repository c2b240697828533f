/* How the process is scheduled and limited: policies, priorities, affinity, memory policy, rlimits, oom score. */
#include <sched.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/resource.h>

#include "run.h"
#include "sys.h"

#define IOPRIO_WHO_PROCESS 1
#define CPU_MAX 8192
#define NODE_MAX 1023 /* numbers of nodes are below it */
#define OOM_CLAMP 1u
#define BITS (8 * sizeof(unsigned long))

int step_scheduler(struct context *c, const struct step *s) {
    uint64_t attr[8];
    if (s->arg[0].len < 48 || s->arg[0].len > sizeof attr)
        return detail(c, -EINVAL, "struct sched_attr of %u bytes", s->arg[0].len);
    memcpy(attr, s->arg[0].ptr, s->arg[0].len);
    int r = sys_sched_setattr(0, attr, 0);
    return r < 0 ? detail(c, r, "sched_setattr") : 0;
}

int step_io_priority(struct context *c, const struct step *s) {
    int r = sys_ioprio_set(IOPRIO_WHO_PROCESS, 0, (int)s->arg[0].num);
    return r < 0 ? detail(c, r, "ioprio_set %x", (unsigned)s->arg[0].num) : 0;
}

/* Sets the bits of a list such as "0-3,7". False for anything else, or for a number of `max` or more. */
static bool parse_list(const char *text, unsigned long *bits, unsigned max) {
    while (*text) {
        unsigned ends[2];
        for (int i = 0; i < 2; i++) {
            unsigned value = 0;
            const char *start = text;
            while (*text >= '0' && *text <= '9' && value < max)
                value = value * 10 + (unsigned)(*text++ - '0');
            if (text == start || value >= max)
                return false;
            ends[i] = value;
            if (i == 0 && *text != '-') {
                ends[1] = value;
                break;
            }
            if (i == 0)
                text++;
        }
        if (ends[0] > ends[1])
            return false;
        for (unsigned bit = ends[0]; bit <= ends[1]; bit++)
            bits[bit / BITS] |= 1ul << bit % BITS;
        if (*text == ',')
            text++;
        else if (*text)
            return false;
    }
    return true;
}

int step_cpu_affinity(struct context *c, const struct step *s) {
    unsigned long mask[CPU_MAX / BITS] = {0};
    if (!parse_list(s->arg[0].ptr, mask, CPU_MAX))
        return detail(c, -EINVAL, "the list '%s'", s->arg[0].ptr);
    int r = sys_result(syscall(SYS_sched_setaffinity, 0, sizeof mask, mask));
    return r < 0 ? detail(c, r, "sched_setaffinity") : 0;
}

int step_memory_policy(struct context *c, const struct step *s) {
    unsigned long mask[NODE_MAX / BITS + 1] = {0};
    if (!parse_list(s->arg[1].ptr, mask, NODE_MAX))
        return detail(c, -EINVAL, "the list of nodes '%s'", s->arg[1].ptr);
    /* The kernel reads one bit less than it is told: get_nodes() in mm/mempolicy.c. */
    bool has_nodes = s->arg[1].len > 0;
    int r = sys_set_mempolicy((int)s->arg[0].num, has_nodes ? mask : NULL, has_nodes ? NODE_MAX + 1 : 0);
    return r < 0 ? detail(c, r, "set_mempolicy mode %x, nodes '%s'", (unsigned)s->arg[0].num, s->arg[1].ptr) : 0;
}

int step_personality(struct context *c, const struct step *s) {
    if (personality((unsigned long)s->arg[0].num) < 0)
        return detail(c, -errno, "personality %x", (unsigned)s->arg[0].num);
    return 0;
}

int step_umask(struct context *c, const struct step *s) {
    (void)c;
    umask((mode_t)s->arg[0].num & 0777);
    return 0;
}

/* By the front, on init: it has the caller's privileges, which init is about to leave behind. */
int step_prlimit(struct context *c, const struct step *s) {
    uint64_t limit[2] = {s->arg[2].num, s->arg[3].num};
    int r = sys_result(syscall(SYS_prlimit64, c->init_pid, (int)s->arg[0].num, limit, NULL));
    return r < 0 ? detail(c, r, "prlimit soft %llu, hard %llu", (unsigned long long)limit[0],
                          (unsigned long long)limit[1])
                 : 0;
}

static int write_oom_score(struct context *c, int64_t value) {
    char path[64], text[24];
    fmt(path, sizeof path, "%d/oom_score_adj", c->init_pid);
    cleanup_fd int fd = proc_open(c, path, O_WRONLY);
    if (fd < 0)
        return fd;
    size_t len = fmt(text, sizeof text, "%lld", (long long)value);
    int r = write_once(fd, text, len);
    return r < 0 ? detail(c, r, "write %s to /proc/%s", text, path) : 0;
}

static int read_oom_score(struct context *c, int64_t *ret) {
    char path[64], text[32];
    fmt(path, sizeof path, "%d/oom_score_adj", c->init_pid);
    int proc = proc_fd(c);
    int r = proc < 0 ? proc : read_file_at(proc, path, text, sizeof text);
    if (r < 0)
        return r;
    uint64_t value;
    char *digits = text[0] == '-' ? text + 1 : text;
    digits[strcspn(digits, "\n")] = '\0';
    if (!parse_u64(digits, &value))
        return -EPROTO;
    *ret = digits == text ? (int64_t)value : -(int64_t)value;
    return 0;
}

/* The lowest value that the host allows between the refused one and the current one: below what was once inherited is
 * only for CAP_SYS_RESOURCE (oom_score_adj_min), and no file tells where that is. */
static int64_t lower_as_far_as_allowed(struct context *c, int64_t refused, int64_t allowed) {
    while (allowed - refused > 1) {
        int64_t middle = refused + (allowed - refused) / 2;
        if (write_oom_score(c, middle) == 0)
            allowed = middle;
        else
            refused = middle;
    }
    return allowed;
}

/* A nested or unprivileged caller lacks CAP_SYS_RESOURCE: the container then gets what can be had, and says so. */
int step_oom_score(struct context *c, const struct step *s) {
    int64_t wanted = (int64_t)s->arg[0].num, current = 0;
    int r = write_oom_score(c, wanted);
    if ((r != -EACCES && r != -EPERM) || !(s->arg[1].num & OOM_CLAMP))
        return r;
    if (read_oom_score(c, &current) < 0 || current <= wanted)
        return r;
    current = lower_as_far_as_allowed(c, wanted, current);
    c->detail[0] = '\0';
    warning(c, "oom_score_adj %lld was asked for, this host allows no less than %lld: it stays there",
            (long long)wanted, (long long)current);
    return 0;
}
