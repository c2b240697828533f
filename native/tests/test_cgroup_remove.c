/* CG_REMOVE on a plain directory tree: every outcome of rmdir, and what is ours to remove. */
#include <sys/stat.h>
#include <sys/wait.h>

#include "check.h"
#include "executor/cgroup.h"
#include "executor/journal.h"
#include "executor/run.h"
#include "executor/sys.h"

#define BUDGET_MS 60

static char folder[] = "/tmp/corral-cgroup-XXXXXX";
static char mount_point[80], record_path[80];
static struct context context;
static struct plan no_plan;

/* What the seam answers: `error` for `times` calls on `name`, and whether the directory vanishes all the same. */
static struct {
    const char *name;
    int error, times, calls;
    bool vanishes;
} fault;

static int faulty_rmdir(int dir, const char *name) {
    if (fault.name && strcmp(name, fault.name) == 0 && fault.calls++ < fault.times) {
        if (fault.vanishes)
            (void)unlinkat(dir, name, AT_REMOVEDIR);
        return fault.error;
    }
    return unlinkat(dir, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

static void inject(const char *name, int error, int times, bool vanishes) {
    fault.name = name;
    fault.error = error;
    fault.times = times;
    fault.calls = 0;
    fault.vanishes = vanishes;
}

static void make(const char *path) {
    char full[256];
    fmt(full, sizeof(full), "%s%s", mount_point, path);
    CHECK(mkdir(full, 0755) == 0 || errno == EEXIST);
}

static bool there(const char *path) {
    char full[256];
    struct stat st;
    fmt(full, sizeof(full), "%s%s", mount_point, path);
    return stat(full, &st) == 0;
}

static uint64_t inode(const char *path) {
    char full[256];
    struct stat st;
    fmt(full, sizeof(full), "%s%s", mount_point, path);
    CHECK_INT(0, stat(full, &st));
    return st.st_ino;
}

static void note(enum journal_kind kind, unsigned depth, uint64_t value) {
    CHECK_INT(0, journal_append(context.journal, kind, 0, depth, value));
}

/* A record whose container made `path`; its parents were there. */
static void begin(const char *path) {
    char command[256];
    if (context.record > 0)
        close(context.record);
    if (context.journal > 0)
        close(context.journal);
    fmt(command, sizeof(command), "rm -rf %s/*", folder);
    CHECK_INT(0, system(command));
    CHECK(mkdir(mount_point, 0755) == 0);
    fmt(command, sizeof(command), "%s/root", folder);
    CHECK(mkdir(command, 0755) == 0 && mkdir(record_path, 0755) == 0);
    context_init(&context, &no_plan, ACTOR_FRONT);
    context.record = open_at(AT_FDCWD, record_path, O_RDONLY | O_DIRECTORY, 0);
    context.journal = journal_open(context.record);
    context.cgroup[0] = (struct cgroup){.defined = true, .version = 2, .mount = mount_point, .path = path, .fd = -1};
    inject(NULL, 0, 0, false);
}

static int remove_group(void) {
    struct step s = {.op = OP_CG_REMOVE, .pointer = ""};
    s.arg[1].num = BUDGET_MS;
    context.detail[0] = '\0';
    return step_cg_remove(&context, &s);
}

static void begin_with_leaf(void) {
    begin("/a/leaf");
    make("/a");
    make("/a/leaf");
    note(JOURNAL_INTEND, 1, 0);
    note(JOURNAL_CREATED, 1, inode("/a/leaf"));
}

/* S2.5: only "it is not there" is success, whatever rmdir says. */
static void test_outcomes_of_rmdir(void) {
    static const struct {
        int error, times;
        bool vanishes;
        int expected;
        bool stays;
    } table[] = {
        {0, 0, false, 0, false},             /* goes */
        {-ENOENT, 1000, true, 0, false},     /* another was faster */
        {-EROFS, 1000, true, 0, false},      /* read-only, and missing */
        {-EROFS, 1000, false, -EROFS, true}, /* read-only, and there */
        {-EBUSY, 3, false, 0, false},        /* busy for a moment */
        {-EBUSY, 1000, false, -EBUSY, true}, /* busy for ever */
        {-EACCES, 1000, false, -EACCES, true},
        {-EPERM, 1000, false, -EPERM, true},
        {-ENODEV, 2, false, 0, false},       /* the race with another's removal */
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        begin_with_leaf();
        inject("leaf", table[i].error, table[i].times, table[i].vanishes);
        int64_t start = now_ms();
        CHECK_INT(table[i].expected, remove_group());
        CHECK(now_ms() - start < 2000);
        CHECK_INT(table[i].stays, there("/a/leaf"));
        CHECK_INT(table[i].expected == 0, strlen(context.detail) == 0);
    }
}

static void test_parents_of_others_stay(void) {
    begin_with_leaf();
    CHECK_INT(0, remove_group());
    CHECK(there("/a"));
}

static void test_own_parents_go_when_empty(void) {
    begin_with_leaf();
    note(JOURNAL_INTEND, 0, 0);
    note(JOURNAL_CREATED, 0, inode("/a"));
    CHECK_INT(0, remove_group());
    CHECK(!there("/a"));
}

static void test_own_parents_stay_while_others_are_in_them(void) {
    begin_with_leaf();
    note(JOURNAL_CREATED, 0, inode("/a"));
    make("/a/other");
    CHECK_INT(0, remove_group());
    CHECK(there("/a/other") && !there("/a/leaf"));
}

static void test_registered_parents_go_with_the_last_container(void) {
    char path[256];
    begin_with_leaf();
    fmt(path, sizeof(path), "%s/a", mount_point);
    cleanup_fd int dir = open_at(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0);
    CHECK_INT(0, parents_note(&context, dir, path));
    CHECK(parents_has(&context, dir, path));
    CHECK_INT(0, remove_group());
    CHECK(!there("/a"));
    CHECK(!parents_has(&context, dir, path));
}

static void test_groups_of_others_stay(void) {
    begin("/a/leaf");
    make("/a");
    make("/a/leaf");
    CHECK_INT(0, remove_group()); /* the journal knows nothing of it */
    CHECK(there("/a/leaf"));
    note(JOURNAL_JOINED, 1, inode("/a/leaf"));
    CHECK_INT(0, remove_group());
    CHECK(there("/a/leaf"));
    note(JOURNAL_CREATED, 1, inode("/a/leaf") + 1000); /* made, gone, and made again by another */
    CHECK_INT(0, remove_group());
    CHECK(there("/a/leaf"));
}

/* S2.12: a crash between mkdir and the journal's next entry. */
static void test_intended_group_goes_if_it_is_empty(void) {
    begin("/a/leaf");
    make("/a");
    make("/a/leaf");
    note(JOURNAL_INTEND, 0, 0);
    note(JOURNAL_INTEND, 1, 0);
    CHECK_INT(0, remove_group());
    CHECK(!there("/a"));
    CHECK_INT(0, remove_group());
}

static void test_nested_children_go_deepest_first(void) {
    char path[200] = "/a/leaf";
    begin_with_leaf();
    make("/a/leaf/x");
    make("/a/leaf/x/y");
    make("/a/leaf/z");
    for (int i = 0; i < 40; i++) {
        strcat(path, "/d");
        make(path);
    }
    CHECK_INT(0, remove_group());
    CHECK(!there("/a/leaf") && there("/a"));
}

static void test_busy_child_is_waited_for_and_named(void) {
    begin_with_leaf();
    make("/a/leaf/child");
    inject("child", -EBUSY, 4, false);
    CHECK_INT(0, remove_group());
    begin_with_leaf();
    make("/a/leaf/child");
    inject("child", -EACCES, 100000, false);
    CHECK(remove_group() < 0);
    CHECK(strstr(context.detail, "/a/leaf") != NULL);
}

static void test_link_is_not_followed(void) {
    char outside[200], link[200];
    begin("/a/leaf");
    make("/a");
    make("/victim");
    fmt(outside, sizeof(outside), "%s/victim", mount_point);
    fmt(link, sizeof(link), "%s/a/leaf", mount_point);
    CHECK_INT(0, symlink(outside, link));
    note(JOURNAL_CREATED, 1, inode("/victim"));
    CHECK(remove_group() < 0);
    CHECK(there("/victim"));
}

static void test_paths_are_cut_into_components(void) {
    static const struct {
        const char *path;
        int n; /* -1: refused */
    } table[] = {{"/", 0}, {"/a", 1}, {"/a/b", 2}, {"//a///b/", 2}, {"/a/../b", -1}, {"/.", -1}, {"/...", 1}, {"/a/..", -1}};
    struct cg_path path;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        CHECK_INT(table[i].n, cg_split(table[i].path, &path) ? (int)path.n : -1);
    char long_path[CG_DEPTH * 2 + 8] = "";
    for (int i = 0; i <= CG_DEPTH; i++)
        strcat(long_path, "/a");
    CHECK(!cg_split(long_path, &path));
}

int main(void) {
    CHECK(mkdtemp(folder) != NULL);
    fmt(mount_point, sizeof(mount_point), "%s/mount", folder);
    fmt(record_path, sizeof(record_path), "%s/root/id", folder);
    cg_seams.rmdir = faulty_rmdir;
    cg_seams.any_filesystem = true;
    test_outcomes_of_rmdir();
    test_parents_of_others_stay();
    test_own_parents_go_when_empty();
    test_own_parents_stay_while_others_are_in_them();
    test_registered_parents_go_with_the_last_container();
    test_groups_of_others_stay();
    test_intended_group_goes_if_it_is_empty();
    test_nested_children_go_deepest_first();
    test_busy_child_is_waited_for_and_named();
    test_link_is_not_followed();
    test_paths_are_cut_into_components();
    char command[128];
    fmt(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}
