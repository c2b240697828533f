/* Records: opening one, its `live` file, its status. */
#include "record.h"

#include <stdio.h> /* renameat is declared nowhere else in musl */
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "journal.h"
#include "sys.h"

#define PIDFS_MAGIC 0x50494446ul /* pidfds have inodes of their own since 6.9 (cb12fd8e0dab) */

bool record_id_is_valid(const char *id) {
    size_t n = strlen(id);
    /* runc's letters; a leading '.' is ours (records in the making), and "." and ".." would leave the root. */
    if (n == 0 || n > 255 || id[0] == '.')
        return false;
    for (; *id; id++)
        if (!((*id >= 'a' && *id <= 'z') || (*id >= 'A' && *id <= 'Z') || (*id >= '0' && *id <= '9') ||
              strchr("_+-.", *id)))
            return false;
    return true;
}

int record_open(const char *root, const char *id) {
    struct stat st;
    if (!record_id_is_valid(id))
        return -EINVAL;
    cleanup_fd int dir = open_at(AT_FDCWD, root, O_PATH | O_DIRECTORY, 0);
    if (dir < 0)
        return dir == -ENOTDIR ? -ENOENT : dir;
    cleanup_fd int record = open_at(dir, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    if (record < 0)
        return record;
    /* Its programs run with our rights, so nobody else may have written them. */
    if (fstat(record, &st) < 0)
        return -errno;
    return st.st_uid == geteuid() && !(st.st_mode & (S_IWGRP | S_IWOTH)) ? steal_fd(&record) : -EPERM;
}

static int read_boot_id(char buf[40]) {
    int n = read_file_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", buf, 40);
    if (n < 0)
        return n;
    buf[strcspn(buf, "\n")] = '\0';
    return 0;
}

static uint64_t pidfd_inode(int pidfd) {
    struct stat st;
    return is_magic(pidfd, PIDFS_MAGIC) == 1 && fstat(pidfd, &st) == 0 ? (uint64_t)st.st_ino : 0;
}

int record_write_live(int record, pid_t pid, int pidfd) {
    char text[128], boot_id[40];
    int64_t start = process_start_time(-1, pid);
    if (start < 0)
        return (int)start;
    int r = read_boot_id(boot_id);
    if (r < 0)
        return r;
    size_t n = fmt(text, sizeof(text), "%d %lld %s %llu\n", pid, (long long)start, boot_id,
                   (unsigned long long)pidfd_inode(pidfd));
    r = write_file_at(record, ".live", O_CREAT | O_TRUNC | O_NOFOLLOW, text, n);
    return r < 0 ? r : sys_result(renameat(record, ".live", record, "live"));
}

/* Cuts the next blank-separated word off *text. */
static char *next_word(char **text) {
    char *word = *text;
    size_t n = strcspn(word, " \n");
    *text = word[n] ? word + n + 1 : word + n;
    word[n] = '\0';
    return word;
}

int record_read_live(int record, struct live *ret) {
    char text[128], *at = text;
    uint64_t pid, start, inode;
    int n = read_file_at(record, "live", text, sizeof(text));
    if (n < 0)
        return n;
    bool ok = parse_u64(next_word(&at), &pid) && parse_u64(next_word(&at), &start);
    const char *boot_id = next_word(&at);
    if (!ok || !parse_u64(next_word(&at), &inode) || pid == 0 || pid > INT32_MAX || strlen(boot_id) >= sizeof(ret->boot_id))
        return -EPROTO;
    *ret = (struct live){.pid = (pid_t)pid, .start_time = (int64_t)start, .pidfd_inode = inode};
    memcpy(ret->boot_id, boot_id, strlen(boot_id) + 1);
    return 0;
}

int record_open_init(int record, struct live *ret) {
    struct live own, *live = ret ? ret : &own;
    char boot_id[40];
    int r = record_read_live(record, live);
    if (r < 0)
        /* A file that was cut off names nobody; whoever is left is found by the group. */
        return r == -EPROTO ? -ESRCH : r;
    if (read_boot_id(boot_id) == 0 && strcmp(boot_id, live->boot_id) != 0)
        return -ESRCH;
    /* Opened first: what the checks then find about the pid is about this very process, or it has died. */
    cleanup_fd int fd = sys_pidfd_open(live->pid, 0);
    /* Without flags, EINVAL says: a number that no process has, but a thread (reused), or a session or group whose
     * leader was reaped (before 6.9). */
    if (fd == -EINVAL || fd == -ENOENT)
        return -ESRCH;
    if (fd < 0)
        return fd;
    uint64_t inode = pidfd_inode(fd);
    if (inode && live->pidfd_inode && inode != live->pidfd_inode)
        return -ESRCH;
    if (process_is_dead(-1, live->pid, live->start_time))
        return -ESRCH;
    return steal_fd(&fd);
}

int record_lock_is_held(int record, const char *file) {
    cleanup_fd int fd = open_at(record, file, O_RDONLY | O_NOFOLLOW, 0);
    if (fd == -ENOENT)
        return 0;
    if (fd < 0)
        return fd;
    /* Shared, so that two who ask at once do not take each other for the holder. */
    if (flock(fd, LOCK_SH | LOCK_NB) == 0)
        return 0;
    return errno == EWOULDBLOCK ? 1 : -errno;
}

int record_status(int record) {
    int held;
    if (!journal_has(record, JOURNAL_COMMIT)) {
        held = record_lock_is_held(record, "owner.lock");
        /* The commit may have come between the two looks: it is written before the lock is let go. */
        if (held < 0)
            return held;
        if (!journal_has(record, JOURNAL_COMMIT))
            return held ? RECORD_CREATING : RECORD_STALE;
    }
    held = record_lock_is_held(record, "init.lock");
    if (held < 0)
        return held;
    cleanup_fd int init = record_open_init(record, NULL);
    if (init == -ESRCH || init == -ENOENT)
        return RECORD_STOPPED;
    if (init < 0)
        return init;
    return held ? RECORD_CREATED : RECORD_RUNNING;
}

const char *record_status_name(enum record_status status) {
    switch (status) {
    case RECORD_CREATING:
    case RECORD_STALE: return "creating";
    case RECORD_CREATED: return "created";
    case RECORD_RUNNING: return "running";
    case RECORD_STOPPED: return "stopped";
    }
    return "unknown";
}
