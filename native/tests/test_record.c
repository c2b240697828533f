/* Records: the journal, the live file, and the status that follows from them. */
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>

#include "check.h"
#include "executor/journal.h"
#include "executor/record.h"
#include "executor/sys.h"

static char folder[] = "record-XXXXXX";
static int record;

static void fresh(void) {
    static const char *const files[] = {"journal", "live", "owner.lock", "init.lock"};
    for (size_t i = 0; i < 4; i++)
        (void)unlinkat(record, files[i], 0);
}

static int locked(const char *file) {
    int fd = open_at(record, file, O_RDWR | O_CREAT, 0600);
    CHECK(fd >= 0 && flock(fd, LOCK_EX) == 0);
    return fd;
}

static pid_t sleeper(void) {
    pid_t pid = fork();
    if (pid == 0)
        for (;;)
            pause();
    return pid;
}

static void end(pid_t pid) {
    kill(pid, SIGKILL);
    CHECK_INT(0, wait_pid(pid, NULL));
}

static void be_live(pid_t pid) {
    int pidfd = sys_pidfd_open(pid, 0);
    CHECK(pidfd >= 0);
    CHECK_INT(0, record_write_live(record, pid, pidfd));
    close(pidfd);
}

static void commit(void) {
    int fd = journal_open(record);
    CHECK_INT(0, journal_append(fd, JOURNAL_COMMIT, 0, 0, 0));
    close(fd);
}

static void test_journal_returns_what_was_appended(void) {
    struct journal_entry entries[4];
    fresh();
    int fd = journal_open(record);
    CHECK_INT(0, journal_append(fd, JOURNAL_INTEND, 3, 2, 0));
    CHECK_INT(0, journal_append(fd, JOURNAL_CREATED, 3, 2, 77));
    CHECK_INT(2, journal_read(record, entries, 4));
    CHECK_INT(JOURNAL_CREATED, entries[1].kind);
    CHECK_INT(3, entries[1].id);
    CHECK_INT(77, entries[1].inode);
    CHECK(journal_has(record, JOURNAL_INTEND) && !journal_has(record, JOURNAL_COMMIT));
    CHECK_INT(5, write(fd, "torn!", 5));
    CHECK_INT(2, journal_read(record, entries, 4));
    CHECK_INT(1, journal_read(record, entries, 1));
    close(fd);
}

static void test_journal_is_silent_without_a_file(void) { CHECK_INT(0, journal_append(-1, JOURNAL_BORN, 0, 1, 1)); }

static void test_live_names_one_process_for_ever(void) {
    struct live live;
    fresh();
    CHECK_INT(-ENOENT, record_open_init(record, NULL));
    pid_t pid = sleeper();
    be_live(pid);
    CHECK_INT(0, record_read_live(record, &live));
    CHECK_INT(pid, live.pid);
    CHECK_INT(36, strlen(live.boot_id));
    int fd = record_open_init(record, NULL);
    CHECK(fd >= 0);
    close(fd);
    kill(pid, SIGKILL);
    siginfo_t info;
    CHECK_INT(0, waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT));
    CHECK_INT(-ESRCH, record_open_init(record, NULL)); /* a zombie */
    CHECK_INT(0, wait_pid(pid, NULL));
    CHECK_INT(-ESRCH, record_open_init(record, NULL));
}

static void test_live_is_refused_when_it_is_of_another_boot_or_time(void) {
    struct live live;
    char text[128];
    fresh();
    size_t n = fmt(text, sizeof(text), "%d 1 x 0\n", getpid());
    CHECK_INT(0, write_file_at(record, "live", O_CREAT, text, n));
    CHECK_INT(-ESRCH, record_open_init(record, &live));
    n = fmt(text, sizeof(text), "0 1 x 0\n");
    CHECK_INT(0, write_file_at(record, "live", O_TRUNC, text, n));
    CHECK_INT(-EPROTO, record_read_live(record, &live));
    CHECK_INT(0, write_file_at(record, "live", O_TRUNC, "", 0));
    CHECK_INT(-EPROTO, record_read_live(record, &live));
    CHECK_INT(-ESRCH, record_open_init(record, &live)); /* cut off, it names nobody */
}

static void test_status_follows_from_locks_journal_and_process(void) {
    fresh();
    CHECK_INT(RECORD_STALE, record_status(record));
    int owner = locked("owner.lock");
    CHECK_INT(RECORD_CREATING, record_status(record));
    commit();
    CHECK_INT(RECORD_STOPPED, record_status(record));
    close(owner);
    pid_t pid = sleeper();
    be_live(pid);
    CHECK_INT(RECORD_RUNNING, record_status(record));
    int init = locked("init.lock");
    CHECK_INT(1, record_lock_is_held(record, "init.lock"));
    CHECK_INT(RECORD_CREATED, record_status(record));
    end(pid);
    CHECK_INT(RECORD_STOPPED, record_status(record));
    close(init);
    CHECK_INT(0, record_lock_is_held(record, "init.lock"));
}

static void test_status_has_the_words_of_the_standard(void) {
    CHECK_TEXT("creating", record_status_name(RECORD_STALE));
    CHECK_TEXT("created", record_status_name(RECORD_CREATED));
    CHECK_TEXT("running", record_status_name(RECORD_RUNNING));
    CHECK_TEXT("stopped", record_status_name(RECORD_STOPPED));
}

static void test_id_is_refused_when_it_could_leave_the_root(void) {
    static const char *const bad[] = {"", ".", "..", "a/b", ".new-x", "a b", "a\n"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CHECK_INT(-EINVAL, record_open(".", bad[i]));
    CHECK_INT(-ENOENT, record_open(".", "a_b+c-d.e"));
    CHECK_INT(-ENOENT, record_open("./nowhere", "a"));
    int fd = record_open(".", folder);
    CHECK(fd >= 0);
    close(fd);
}

int main(void) {
    CHECK(mkdtemp(folder) != NULL);
    record = open_at(AT_FDCWD, folder, O_RDONLY | O_DIRECTORY, 0);
    CHECK(record >= 0);
    test_journal_returns_what_was_appended();
    test_journal_is_silent_without_a_file();
    test_live_names_one_process_for_ever();
    test_live_is_refused_when_it_is_of_another_boot_or_time();
    test_status_follows_from_locks_journal_and_process();
    test_status_has_the_words_of_the_standard();
    test_id_is_refused_when_it_could_leave_the_root();
    fresh();
    close(record);
    return rmdir(folder);
}
