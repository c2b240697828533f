/* The journal of a record. */
#include "journal.h"

#include "sys.h"

_Static_assert(sizeof(struct journal_entry) == 16, "an entry is 16 bytes on disk");

int journal_open(int record) { return open_at(record, "journal", O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, 0600); }

int journal_append(int journal, enum journal_kind kind, unsigned id, uint32_t value, uint64_t inode) {
    struct journal_entry entry = {.kind = (uint16_t)kind, .id = (uint16_t)id, .value = value, .inode = inode};
    return journal < 0 ? 0 : write_once(journal, &entry, sizeof(entry));
}

int journal_read(int record, struct journal_entry *entries, size_t max) {
    cleanup_fd int fd = open_at(record, "journal", O_RDONLY | O_NOFOLLOW, 0);
    if (fd < 0)
        return fd;
    int n = read_all(fd, entries, max * sizeof(*entries));
    return n < 0 ? n : n / (int)sizeof(*entries);
}

bool journal_has(int record, enum journal_kind kind) {
    struct journal_entry entry;
    cleanup_fd int fd = open_at(record, "journal", O_RDONLY | O_NOFOLLOW, 0);
    if (fd < 0)
        return false;
    while (read_all(fd, &entry, sizeof(entry)) == (int)sizeof(entry))
        if (entry.kind == kind)
            return true;
    return false;
}
