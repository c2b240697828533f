/* What a monitor is told about its process: NUL-ended KEY=VALUE strings, see docs/design/monitor.md. */
#ifndef CORRAL_SPEC_H
#define CORRAL_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPEC_MAX 32768
#define COUNTERS 8 /* files of OOM counters */

enum log_format { LOG_NONE, LOG_CRI, LOG_JSON };

struct spec {
    const char *id, *exec;      /* the container; the exec in it, or "" */
    const char *dir;            /* exit record, log, oom */
    const char *run;            /* monitor.spec, monitor.sock, pump */
    const char *runtime_root;   /* where the container's record is */
    const char *command;        /* of the engine: words separated by \x1f */
    const char *failpoint;      /* as CORRAL_FAILPOINT, for this one monitor */
    uint64_t runs;              /* which run this is: told in the exit record */
    bool terminal, takes_stdin, stdin_once;
    bool awaits_attach;         /* output stays in its pipe until the first ATTACH */
    enum log_format log;
    uint64_t log_max_bytes;     /* 0 = no limit */
    unsigned log_files;         /* how many, with the current one; at least 1 */
    const char *counter[COUNTERS];
    unsigned n_counters;
};

/* Parses in place: *ret points into `text`, whose last byte must be NUL. 0, or -EPROTO with a static text in *why. */
int spec_parse(char *text, size_t len, struct spec *ret, const char **why);
/* Whether the open directory was removed from its file system: not merely hidden, renamed, or under another mount. */
bool directory_is_removed(int fd);
/* Reads SPEC_FILE of the run directory into a static buffer. 0 or -errno. */
int spec_read(int run, struct spec *ret);

#endif
