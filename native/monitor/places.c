/* The files of a monitor: its spec and lock, its state, its log. */
#include <string.h>
#include <sys/file.h>

#include "monitor/monitor.h"

#define LOCK_MS 5000

/* A child of a dead predecessor may have its descriptors for a moment longer. */
static int lock_spec(int fd) {
    int64_t end = now_ms() + LOCK_MS;
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return -errno;
        if (now_ms() > end)
            return -EBUSY;
        sleep_ms(2);
    }
    return 0;
}

int monitor_open_places(struct monitor *m, const char *run, bool adopt) {
    int r;
    m->null = open_at(AT_FDCWD, "/dev/null", O_RDWR, 0);
    m->run = open_at(AT_FDCWD, run, O_RDONLY | O_DIRECTORY, 0);
    if (m->null < 0 || m->run < 0)
        return -ENOENT;
    m->spec_lock = open_at(m->run, SPEC_FILE, O_RDONLY | O_NOFOLLOW, 0);
    if (m->spec_lock < 0)
        return m->spec_lock;
    r = lock_spec(m->spec_lock);
    if (r < 0)
        return r;
    r = spec_read(m->run, &m->spec);
    if (r < 0)
        return r;
    m->dir = open_at(AT_FDCWD, m->spec.dir, O_RDONLY | O_DIRECTORY, 0);
    if (m->dir < 0)
        return m->dir;
    m->state = state_map(m->run, adopt, &r);
    return m->state ? log_open(&m->log, m->dir, &m->spec) : r;
}

void monitor_remove_places(struct monitor *m) {
    if (m->removed)
        return;
    m->removed = true;
    (void)unlinkat(m->run, MONITOR_SOCKET, 0);
    (void)unlinkat(m->run, "pump", 0);
    (void)unlinkat(m->run, SPEC_FILE, 0);
}
