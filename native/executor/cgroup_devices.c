/* CG_DEVICES: the device program of a v2 group. */
#include <linux/bpf.h>
#include <string.h>
#include <sys/resource.h>

#include "cgroup.h"
#include "sys.h"

#define PROGRAM_NAME "corral_devices" /* by it our own program is known again; at most 15 characters */
#define PROGRAMS 64

static int load(const void *insns, unsigned count) {
    union bpf_attr attr = {0};
    attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    attr.insns = (uint64_t)(uintptr_t)insns;
    attr.insn_cnt = count;
    attr.license = (uint64_t)(uintptr_t) "Apache"; /* no helper is called, so none needs the GPL */
    memcpy(attr.prog_name, PROGRAM_NAME, sizeof(PROGRAM_NAME));
    return sys_bpf(BPF_PROG_LOAD, &attr, sizeof(attr));
}

/* Until 5.11 (a10787e6d58c ff.) programs were charged to RLIMIT_MEMLOCK, which is small. */
static int load_with_memory(const void *insns, unsigned count) {
    struct rlimit before, unlimited = {RLIM_INFINITY, RLIM_INFINITY};
    int r = load(insns, count);
    if (r != -EPERM || getrlimit(RLIMIT_MEMLOCK, &before) < 0)
        return r;
    if (setrlimit(RLIMIT_MEMLOCK, &unlimited) < 0)
        return r;
    r = load(insns, count);
    (void)setrlimit(RLIMIT_MEMLOCK, &before);
    return r;
}

/* A program of ours that is attached to this very group: its descriptor, or -1. */
static int find_own(int group) {
    uint32_t ids[PROGRAMS];
    union bpf_attr attr = {0};
    attr.query.target_fd = (uint32_t)group;
    attr.query.attach_type = BPF_CGROUP_DEVICE;
    attr.query.prog_ids = (uint64_t)(uintptr_t)ids;
    attr.query.prog_cnt = PROGRAMS;
    if (sys_bpf(BPF_PROG_QUERY, &attr, sizeof(attr)) < 0)
        return -1;
    for (uint32_t i = 0; i < attr.query.prog_cnt && i < PROGRAMS; i++) {
        union bpf_attr by_id = {0}, about = {0};
        struct bpf_prog_info info = {0};
        by_id.prog_id = ids[i];
        cleanup_fd int fd = sys_bpf(BPF_PROG_GET_FD_BY_ID, &by_id, sizeof(by_id));
        if (fd < 0)
            continue;
        about.info.bpf_fd = (uint32_t)fd;
        about.info.info_len = sizeof(info);
        about.info.info = (uint64_t)(uintptr_t)&info;
        if (sys_bpf(BPF_OBJ_GET_INFO_BY_FD, &about, sizeof(about)) >= 0 && strcmp(info.name, PROGRAM_NAME) == 0)
            return steal_fd(&fd);
    }
    return -1;
}

static int attach(int group, int program, int old) {
    union bpf_attr attr = {0};
    attr.target_fd = (uint32_t)group;
    attr.attach_bpf_fd = (uint32_t)program;
    attr.attach_type = BPF_CGROUP_DEVICE;
    attr.attach_flags = BPF_F_ALLOW_MULTI;
    if (old >= 0) {
        attr.attach_flags |= BPF_F_REPLACE; /* 5.6 (7dd68b3279f1): no moment without a filter */
        attr.replace_bpf_fd = (uint32_t)old;
    }
    return sys_bpf(BPF_PROG_ATTACH, &attr, sizeof(attr));
}

int step_cg_devices(struct context *c, const struct step *s) {
    int r = 0;
    struct cgroup *g = cg_get(c, s, &r);
    if (!g || g->fate == CG_ABSENT)
        return r;
    if (s->arg[1].len == 0 || s->arg[1].len % sizeof(struct bpf_insn))
        return detail(c, -EINVAL, "the program has %u bytes", s->arg[1].len);
    int leaf = cg_open_leaf(g);
    cleanup_fd int group = leaf < 0 ? leaf : open_at(leaf, ".", O_RDONLY | O_DIRECTORY, 0); /* bpf takes no O_PATH */
    if (group < 0)
        return detail(c, group, "open '%s%s'", g->mount, g->path);
    unsigned count = s->arg[1].len / (unsigned)sizeof(struct bpf_insn);
    cleanup_fd int program = load_with_memory(s->arg[1].ptr, count);
    if (program < 0)
        return detail(c, program, "load the program of %u instructions", count);
    cleanup_fd int old = g->fate == CG_CREATED ? -1 : find_own(group);
    r = attach(group, program, old);
    return r < 0 ? detail(c, r, "attach to '%s%s'", g->mount, g->path) : 0;
}
