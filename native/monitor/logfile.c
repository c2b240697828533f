/* Log records and log files. */
#include "monitor/logfile.h"

#include <stdio.h> /* renameat is declared nowhere else in musl */
#include <string.h>
#include <time.h>

#include "executor/sys.h"

void log_time(char buf[LOG_TIME_MAX]) {
    struct timespec now;
    struct tm tm;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    fmt(buf, LOG_TIME_MAX, "%04d-%02d-%02dT%02d:%02d:%02d.%09ldZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
        tm.tm_min, tm.tm_sec, now.tv_nsec);
}

/* ---- records ---------------------------------------------------------------------------------------------------------- */

/* The length of the UTF-8 character at `at`; 0 = its bytes are right so far, but end too early; -1 = it is none. */
static int character_at(const unsigned char *at, size_t len) {
    static const struct { unsigned char low, high, first_low, first_high, n; } kinds[] = {
        {0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
        {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4},
        {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        if (at[0] < kinds[k].low || at[0] > kinds[k].high)
            continue;
        for (size_t i = 1; i < kinds[k].n; i++) {
            if (i == len)
                return 0;
            if (i == 1 ? at[1] < kinds[k].first_low || at[1] > kinds[k].first_high : (at[i] & 0xc0) != 0x80)
                return -1;
        }
        return kinds[k].n;
    }
    return -1;
}

static size_t put(char *out, const char *text, size_t len) {
    memcpy(out, text, len);
    return len;
}

/* One character as JSON, at most 6 bytes; *used bytes of it were taken. */
static size_t put_character(char *out, const unsigned char *at, size_t len, size_t *used) {
    int n = character_at(at, len);
    *used = n > 0 ? (size_t)n : 1;
    if (n <= 0)
        return put(out, "\\ufffd", 6);
    if (n > 1)
        return put(out, (const char *)at, (size_t)n);
    switch (at[0]) {
    case '"': return put(out, "\\\"", 2);
    case '\\': return put(out, "\\\\", 2);
    case '\n': return put(out, "\\n", 2);
    case '\r': return put(out, "\\r", 2);
    case '\t': return put(out, "\\t", 2);
    default: return at[0] < 32 ? fmt(out, 8, "\\u%04x", at[0]) : put(out, (const char *)at, 1);
    }
}

#define JSON_FRAME 96 /* what stands around the text */
#define CRI_FRAME 64

/* One line, or a part of it, as JSON. */
static size_t put_json(const char *stream, const char *time, const char *raw, size_t len, bool more, char *out, size_t size,
                       size_t *used) {
    size_t n = fmt(out, size, "{\"log\":\""), at = 0, one;
    while (at < len && n + JSON_FRAME < size) {
        if (more && character_at((const unsigned char *)raw + at, len - at) == 0)
            break;
        n += put_character(out + n, (const unsigned char *)raw + at, len - at, &one);
        at += one;
    }
    *used = at;
    return n + fmt(out + n, size - n, "\",\"stream\":\"%s\",\"time\":\"%s\"}\n", stream, time);
}

static size_t put_cri(const char *stream, const char *time, const char *raw, size_t len, char *out, size_t size, size_t *used) {
    size_t room = size - CRI_FRAME, take = len < room ? len : room;
    bool full = take == len && raw[len - 1] == '\n';
    size_t n = fmt(out, size, "%s %s %c ", time, stream, full ? 'F' : 'P');
    n += put(out + n, raw, take);
    if (!full)
        out[n++] = '\n';
    *used = take;
    return n;
}

size_t log_format(enum log_format format, const char *stream, const char *time, const char *raw, size_t len, bool more,
                  char *out, size_t size, size_t *consumed) {
    size_t n = 0, at = 0, used;
    while (at < len && size - n >= LOG_OUT_LEAST) {
        const char *end = memchr(raw + at, '\n', len - at);
        size_t line = end ? (size_t)(end + 1 - (raw + at)) : len - at;
        size_t made = format == LOG_JSON ? put_json(stream, time, raw + at, line, more && !end, out + n, size - n, &used)
                                         : put_cri(stream, time, raw + at, line, out + n, size - n, &used);
        if (used == 0)
            break;
        n += made;
        at += used;
    }
    *consumed = at;
    return n;
}

/* ---- files ------------------------------------------------------------------------------------------------------------- */

static int open_current(struct logfile *l) {
    struct stat st;
    cleanup_fd int fd = open_at(l->dir, "log", O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
    if (fd < 0 || fstat(fd, &st) < 0)
        return fd < 0 ? fd : -errno;
    close_fd(&l->fd);
    l->fd = steal_fd(&fd);
    l->size = (uint64_t)st.st_size;
    l->inode = st.st_ino;
    return 0;
}

int log_open(struct logfile *l, int dir, const struct spec *spec) {
    *l = (struct logfile){.dir = dir, .fd = -1, .max_bytes = spec->log_max_bytes, .files = spec->log_files};
    return spec->log == LOG_NONE ? 0 : open_current(l);
}

int log_reopen(struct logfile *l) { return l->fd < 0 ? 0 : open_current(l); }

static void rotate(struct logfile *l) {
    char from[24], to[24];
    for (unsigned i = l->files - 1; i > 0; i--) {
        fmt(to, sizeof(to), "log.%u", i);
        if (i > 1)
            fmt(from, sizeof(from), "log.%u", i - 1);
        else
            fmt(from, sizeof(from), "log");
        (void)renameat(l->dir, from, l->dir, to); /* ENOENT: not that many yet */
    }
    /* The only one there may be: it starts anew. */
    if (l->files <= 1)
        (void)unlinkat(l->dir, "log", 0);
    (void)open_current(l);
}

size_t log_room(struct logfile *l, size_t most) {
    if (!l->max_bytes)
        return most;
    if (l->size && l->size + LOG_OUT_LEAST > l->max_bytes)
        rotate(l);
    uint64_t room = l->max_bytes > l->size ? l->max_bytes - l->size : 0;
    return room < LOG_OUT_LEAST ? LOG_OUT_LEAST : room < most ? (size_t)room : most;
}

int log_cut(struct logfile *l, uint64_t size) {
    int r = sys_result(ftruncate(l->fd, (off_t)size));
    if (r == 0)
        l->size = size;
    return r;
}

int log_append(struct logfile *l, const char *bytes, size_t len) {
    size_t done = 0;
    while (done < len) {
        ssize_t n = pwrite(l->fd, bytes + done, len - done, (off_t)(l->size + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            int r = n < 0 ? -errno : -EIO;
            (void)log_cut(l, l->size);
            return r;
        }
        done += (size_t)n;
    }
    l->size += len;
    return 0;
}
