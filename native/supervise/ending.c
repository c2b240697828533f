/* Writing exit records, and asking for exits that nobody saw. */
#include "supervise/ending.h"

#include <stdio.h> /* renameat is declared nowhere else in musl */
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "executor/sys.h"
#include "supervise/counters.h"

/* ---- PIDFD_GET_INFO ------------------------------------------------------------------------------------------------------ */

struct k_pidfd_info {
    uint64_t mask, cgroupid;
    uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
    int32_t exit_code;
    uint32_t coredump_mask, coredump_signal;
};
#define GET_INFO _IOWR(0xFF, 11, struct k_pidfd_info)
#define INFO_EXIT (1ull << 3)

int pidfd_exit_status(int pidfd, int *status) {
    struct k_pidfd_info info = {.mask = INFO_EXIT};
    if (ioctl(pidfd, GET_INFO, &info) < 0)
        /* Before 6.15 the bit is not known; a reaped process is ESRCH there. */
        return errno == ENOTTY || errno == EINVAL || errno == ESRCH ? -EOPNOTSUPP : -errno;
    if (!(info.mask & INFO_EXIT))
        return -EAGAIN;
    *status = info.exit_code;
    return 0;
}

/* ---- the record ------------------------------------------------------------------------------------------------------------ */

static size_t put_quoted(char *buf, size_t size, const char *text) {
    size_t n = 0;
    for (; *text && n + 8 < size; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            n += fmt(buf + n, size - n, "\\%c", c);
        else if (c < 32)
            n += fmt(buf + n, size - n, "\\u%04x", c);
        else
            n += fmt(buf + n, size - n, "%c", c);
    }
    return n;
}

static size_t put_counters(const struct spec *spec, const struct state *state, char *buf, size_t size) {
    char after[COUNTER_TEXT];
    size_t n = fmt(buf, size, "[");
    for (unsigned i = 0; i < spec->n_counters && size - n > 3072; i++) {
        n += fmt(buf + n, size - n, "%s{\"path\":\"", i ? "," : "");
        n += put_quoted(buf + n, 1024, spec->counter[i]);
        n += fmt(buf + n, size - n, "\",\"before\":");
        n += counter_json(state && state->counters_read ? state->before[i] : "", buf + n, size - n);
        counter_read(spec->counter[i], after);
        n += fmt(buf + n, size - n, ",\"after\":");
        n += counter_json(after, buf + n, size - n);
        n += fmt(buf + n, size - n, "}");
    }
    return n + fmt(buf + n, size - n, "]");
}

static size_t format_record(const struct spec *spec, const struct state *state, const struct ending *e, char *text) {
    struct timespec now, boot;
    char status[16] = "null";
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)clock_gettime(CLOCK_BOOTTIME, &boot);
    if (e->known)
        fmt(status, sizeof(status), "%d", e->status);
    const char *source = !e->known ? "unknown" : e->observed ? "observed" : "recovered";
    size_t n = fmt(text, EXIT_MAX, "{\"run\":%llu,\"pid\":%d,\"status\":%s,\"source\":\"%s\",\"finished_ns\":%lld%09ld,",
                   (unsigned long long)spec->runs, e->pid, status, source, (long long)now.tv_sec, now.tv_nsec);
    n += fmt(text + n, EXIT_MAX - n, "\"boot_ns\":%lld%09ld,\"oom\":", (long long)boot.tv_sec, boot.tv_nsec);
    n += put_counters(spec, state, text + n, EXIT_MAX - n - 3);
    return n + fmt(text + n, EXIT_MAX - n, "}\n");
}

static int write_durably(int dir, const char *text, size_t len) {
    cleanup_fd int fd = open_at(dir, ".exit", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
    int r = fd < 0 ? fd : write_all(fd, text, len);
    if (r >= 0)
        r = sys_result(fsync(fd));
    if (r >= 0)
        r = sys_result(renameat(dir, ".exit", dir, EXIT_FILE));
    if (r >= 0)
        r = sys_result(fsync(dir));
    return r;
}

static int read_record(int dir, const struct spec *spec, char *text) {
    char begin[48];
    int n = read_file_at(dir, EXIT_FILE, text, EXIT_MAX);
    fmt(begin, sizeof(begin), "{\"run\":%llu,", (unsigned long long)spec->runs);
    return n > 0 && text_starts(text, begin) && text[n - 1] == '\n' ? n : 0;
}

int ending_read(const struct spec *spec, char *text) {
    cleanup_fd int dir = open_at(AT_FDCWD, spec->dir, O_RDONLY | O_DIRECTORY, 0);
    return dir < 0 ? 0 : read_record(dir, spec, text);
}

int ending_write(const struct spec *spec, const struct state *state, const struct ending *e, char *text) {
    cleanup_fd int dir = open_at(AT_FDCWD, spec->dir, O_RDONLY | O_DIRECTORY, 0);
    int known = dir < 0 ? 0 : read_record(dir, spec, text);
    if (known > 0)
        return known;
    size_t n = format_record(spec, state, e, text);
    int r = dir < 0 ? dir : write_durably(dir, text, n);
    return r < 0 ? r : (int)n;
}
