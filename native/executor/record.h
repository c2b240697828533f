/* A container's record, ROOT/ID: who its first process is, and what state it is in, always asked of the kernel. */
#ifndef CORRAL_RECORD_H
#define CORRAL_RECORD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct live {
    pid_t pid;
    int64_t start_time;   /* clock ticks since boot */
    char boot_id[40];
    uint64_t pidfd_inode; /* unique for ever where pidfds are on pidfs (6.9), 0 elsewhere */
};

enum record_status { RECORD_CREATING, RECORD_STALE, RECORD_CREATED, RECORD_RUNNING, RECORD_STOPPED };

/* Opens ROOT/ID (O_DIRECTORY, no symlink) after checking the id's letters. Returns the fd, -ENOENT if there is no
 * such record, -EINVAL for an id that no container can have, or another -errno. */
int record_open(const char *root, const char *id);
bool record_id_is_valid(const char *id);

/* Writes `live` (tmp + rename) for the process `pid`, whose pidfd is borrowed. */
int record_write_live(int record, pid_t pid, int pidfd);
/* Reads it. -ENOENT: never born. -EPROTO: not ours. */
int record_read_live(int record, struct live *ret);
/* A pidfd of the first process if it still is that very process and no zombie; -ESRCH if it is not, -ENOENT if there
 * is no `live` file; other -errno. Stores what was read in *ret if ret is not NULL. */
int record_open_init(int record, struct live *ret);

/* 1 = somebody holds the flock on this file of the record, 0 = free or no such file, or -errno. */
int record_lock_is_held(int record, const char *file);

/* The status, from the journal, the locks and the process; "paused" is for the caller to find, in the freezer.
 * Returns an enum record_status or -errno. */
int record_status(int record);
const char *record_status_name(enum record_status status); /* "created", "running", ...; stale = "creating" */

#endif
