/* The journal of a record: what was intended, done and undone, 16 bytes an entry, append-only.
 *
 * It outlives processes, not power cuts: the state root is a tmpfs, so nothing is synced. */
#ifndef CORRAL_JOURNAL_H
#define CORRAL_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum journal_kind {
    JOURNAL_INTEND = 1,     /* id = cgroup, value = depth of the component */
    JOURNAL_CREATED = 2,    /* the same, inode = the directory's */
    JOURNAL_JOINED = 3,     /* the same: it was there already */
    JOURNAL_ABSENT = 4,     /* id = cgroup, value = errno */
    JOURNAL_REMOVED = 5,
    JOURNAL_BORN = 6,       /* value = pid, inode = start time */
    JOURNAL_COMMIT = 7,
    JOURNAL_RESCTRL = 8,    /* the resctrl group is ours */
    JOURNAL_HOOKS_DONE = 9, /* the poststop hooks ran, or are running */
    JOURNAL_DELETING = 10,
};

struct journal_entry {
    uint16_t kind, id;
    uint32_t value;
    uint64_t inode;
};

#define JOURNAL_MAX 4096 /* entries that are read back */

/* Opens (makes) `journal` in the record for appending. Returns the fd or -errno. */
int journal_open(int record);
/* One entry by one write. journal < 0 is fine: nothing is written (exec, tests). */
int journal_append(int journal, enum journal_kind kind, unsigned id, uint32_t value, uint64_t inode);
/* Reads the record's entries in order; a torn last entry is left out. Returns their number or -errno. */
int journal_read(int record, struct journal_entry *entries, size_t max);
/* True if an entry of this kind is there. */
bool journal_has(int record, enum journal_kind kind);

#endif
