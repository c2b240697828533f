/* The log of a container: its formats, its rotation. */
#ifndef CORRAL_LOGFILE_H
#define CORRAL_LOGFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "supervise/spec.h"

/* A piece of output as log records: `out` gets at most `size` bytes; returns how many. *consumed tells how much of `raw` is
 * in them: less than `len` if `out` is full, or if the rest is the beginning of a character and `more` may follow.
 * `time`: RFC 3339 with nanoseconds. Source: kubernetes/cri-api "container log format"; docker's json-file. */
size_t log_format(enum log_format format, const char *stream, const char *time, const char *raw, size_t len, bool more,
                  char *out, size_t size, size_t *consumed);
#define LOG_OUT_LEAST 512 /* an `out` of this size always takes something */
#define LOG_TIME_MAX 40
void log_time(char buf[LOG_TIME_MAX]);

struct logfile {
    int dir;              /* borrowed */
    int fd;               /* -1: no log */
    uint64_t size, inode; /* of the current file */
    uint64_t max_bytes;
    unsigned files;
    uint64_t lost;        /* bytes of output that could not be written, since the last that could */
};

/* Opens (makes) `log` in the directory. 0 or -errno. */
int log_open(struct logfile *l, int dir, const struct spec *spec);
/* Opens `log` anew, for whoever renamed it. */
int log_reopen(struct logfile *l);
/* How much of `most` bytes may be appended now, at least LOG_OUT_LEAST; a full log is rotated first: log -> log.1 ... */
size_t log_room(struct logfile *l, size_t most);
/* Appends at l->size; a partial record is cut off again. 0 or -errno. */
int log_append(struct logfile *l, const char *bytes, size_t len);
/* Cuts the log to this length. */
int log_cut(struct logfile *l, uint64_t size);

#endif
