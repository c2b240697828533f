/* OOM while the process runs: what the kernel counts goes to the file `oom`, a line an event. */
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <time.h>

#include "monitor/monitor.h"
#include "supervise/counters.h"

/* v1 announces an OOM before it counts the kill, so it is counted again a little later. */
#define RECOUNTS 4

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Source: cgroup-v1/memory.rst "OOM Control": "<event_fd> <fd of memory.oom_control>" to cgroup.event_control. */
static int arm_v1(const char *path) {
    char control[4096], text[32];
    const char *slash = strrchr(path, '/');
    cleanup_fd int event = sys_result(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    cleanup_fd int counters = open_at(AT_FDCWD, path, O_RDONLY, 0);
    fmt(control, sizeof(control), "%.*s/cgroup.event_control", (int)(slash - path), path);
    cleanup_fd int fd = open_at(AT_FDCWD, control, O_WRONLY, 0);
    if (event < 0 || counters < 0 || fd < 0)
        return -1;
    size_t n = fmt(text, sizeof(text), "%d %d", event, counters);
    return write_once(fd, text, n) < 0 ? -1 : steal_fd(&event);
}

void ooms_open(struct monitor *m) {
    bool fresh = !m->state->counters_read;
    for (unsigned i = 0; i < m->spec.n_counters; i++) {
        const char *path = m->spec.counter[i];
        counter_read(path, m->last[i]);
        if (fresh)
            memcpy(m->state->before[i], m->last[i], COUNTER_TEXT);
        if (strcmp(base_name(path), "memory.oom_control") == 0) {
            m->counter_event[i] = arm_v1(path);
            continue;
        }
        if (strncmp(base_name(path), "memory.events", 13) != 0)
            continue;
        if (m->inotify < 0)
            m->inotify = sys_result(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
        if (m->inotify >= 0)
            (void)inotify_add_watch(m->inotify, path, IN_MODIFY);
    }
    m->state->counters_read = 1;
}

static void swallow_events(struct monitor *m) {
    char scratch[512];
    while (m->inotify >= 0 && read(m->inotify, scratch, sizeof(scratch)) > 0)
        ;
    for (unsigned i = 0; i < m->spec.n_counters; i++)
        if (m->counter_event[i] >= 0)
            (void)!read(m->counter_event[i], scratch, 8);
}

static void write_event(struct monitor *m, unsigned which, const char *text) {
    char line[COUNTER_TEXT + 128];
    struct timespec now;
    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    size_t n = fmt(line, sizeof(line), "%lld%09ld %u ", (long long)now.tv_sec, now.tv_nsec, which);
    n += counter_json(text, line + n, sizeof(line) - n - 1);
    n += fmt(line + n, sizeof(line) - n, "\n");
    (void)write_file_at(m->dir, "oom", O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, line, n);
}

void ooms_note(struct monitor *m, bool is_event) {
    char text[COUNTER_TEXT];
    swallow_events(m);
    m->recounts = is_event ? 1 : m->recounts < RECOUNTS ? m->recounts + 1 : 0;
    for (unsigned i = 0; i < m->spec.n_counters; i++) {
        counter_read(m->spec.counter[i], text);
        /* Empty: the group is gone, which v1 announces as well. */
        if (!text[0] || strcmp(text, m->last[i]) == 0)
            continue;
        memcpy(m->last[i], text, COUNTER_TEXT);
        write_event(m, i, text);
    }
}
