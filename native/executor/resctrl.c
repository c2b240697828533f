/* Cache and memory bandwidth by resctrl. Source: runtime-spec config-linux.md "IntelRdt"; Documentation/filesystems/
 * resctrl.rst. */
#include <string.h>

#include "journal.h"
#include "run.h"
#include "sys.h"

#define MAY_MAKE 1u
#define MONITOR  2u
#define MON_GROUPS "mon_groups"

/* Journal entries of kind RESCTRL: id says which directory, value whether it is there yet. */
enum { ENTRY_GROUP = 0, ENTRY_MONITOR = 1 };
enum { VALUE_INTENDED = 0, VALUE_CREATED = 1, VALUE_FOREIGN = 2 };

/* What the kernel says about the write that it has just refused. */
static void add_status(struct context *c, const char *path) {
    char status[200], file[4400];
    const char *slash = strrchr(path, '/');
    fmt(file, sizeof(file), "%.*s/info/last_cmd_status", (int)(slash ? slash - path : 0), path);
    if (read_file_at(AT_FDCWD, file, status, sizeof(status)) <= 0 || text_starts(status, "ok"))
        return;
    status[strcspn(status, "\n")] = '\0';
    size_t len = strlen(c->detail);
    fmt(c->detail + len, sizeof(c->detail) - len, " (%s)", status);
}

/* 1: made, and journalled as ours. 0: it was there. */
static int make_group(struct context *c, int dir, const char *path, unsigned entry) {
    struct stat st;
    if (fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return 0;
    int r = journal_append(c->journal, JOURNAL_RESCTRL, entry, VALUE_INTENDED, 0);
    if (r < 0)
        return detail(c, r, "write the record's journal");
    if (mkdirat(dir, path, 0755) < 0) {
        r = -errno;
        (void)journal_append(c->journal, JOURNAL_RESCTRL, entry, VALUE_FOREIGN, 0);
        return r == -EEXIST ? 0 : detail(c, r, "mkdir '%s'", path);
    }
    r = journal_append(c->journal, JOURNAL_RESCTRL, entry, VALUE_CREATED, 0);
    return r < 0 ? detail(c, r, "write the record's journal") : 1;
}

/* "L3:0=f;1=3" and "  L3:0=00f;1=003" say the same. Compares up to the ends of the lines. */
static bool same_line(const char *a, const char *b) {
    while (*a == ' ')
        a++;
    while (*b == ' ')
        b++;
    while (*a && *a != '\n' && *b && *b != '\n') {
        if (a[0] == '=' && b[0] == '=') {
            a += 1 + strspn(a + 1, " 0");
            b += 1 + strspn(b + 1, " 0");
            continue;
        }
        if ((*a | 32) != (*b | 32))
            return false;
        a++;
        b++;
    }
    return (!*a || *a == '\n') && (!*b || *b == '\n');
}

static bool has_line(const char *text, const char *line) {
    while (*text) {
        if (same_line(text, line))
            return true;
        text += strcspn(text, "\n");
        text += *text == '\n';
    }
    return false;
}

/* A group that others made must already say what the config says: the specification forbids to change it. */
static int compare_schemata(struct context *c, int group, const char *path, const char *wanted) {
    static char have[16384];
    int n = read_file_at(group, "schemata", have, sizeof(have));
    if (n < 0)
        return detail(c, n, "read '%s/schemata'", path);
    while (*wanted) {
        size_t len = strcspn(wanted, "\n");
        if (len && !has_line(have, wanted))
            return detail(c, -ECANCELED, "'%s' exists and does not have the schema '%.*s'", path, (int)len, wanted);
        wanted += len + (wanted[len] == '\n');
    }
    return 0;
}

static int set_schemata(struct context *c, int group, const struct step *s, bool fresh) {
    const char *path = s->arg[0].ptr;
    if (!s->arg[1].len)
        return 0;
    if (!fresh)
        return compare_schemata(c, group, path, s->arg[1].ptr);
    int r = write_file_at(group, "schemata", O_NOFOLLOW, s->arg[1].ptr, s->arg[1].len);
    if (r == 0)
        return 0;
    (void)detail(c, r, "write '%s' to '%s/schemata'", s->arg[1].ptr, path);
    add_status(c, path);
    return r;
}

static int add_task(struct context *c, int dir, const char *file, const char *path) {
    char text[16];
    size_t len = fmt(text, sizeof(text), "%d", c->init_pid);
    int r = write_file_at(dir, file, O_NOFOLLOW, text, len);
    return r < 0 ? detail(c, r, "write %s to '%s/%s'", text, path, file) : 0;
}

int step_resctrl_make(struct context *c, const struct step *s) {
    const char *path = s->arg[0].ptr, *id = s->arg[2].ptr;
    unsigned flags = (unsigned)s->arg[3].num;
    char monitor[300], tasks[320];
    int fresh = 0, r;
    if (c->init_pid <= 0 || strchr(id, '/') || s->arg[2].len > 255)
        return detail(c, -EINVAL, "process %d, id '%s'", c->init_pid, id);
    if (flags & MAY_MAKE)
        fresh = make_group(c, AT_FDCWD, path, ENTRY_GROUP);
    if (fresh < 0)
        return fresh;
    cleanup_fd int group = open_at(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
    if (group < 0)
        return detail(c, group, "open '%s'", path);
    r = set_schemata(c, group, s, fresh == 1);
    if (r == 0)
        r = add_task(c, group, "tasks", path);
    if (r < 0 || !(flags & MONITOR))
        return r;
    fmt(monitor, sizeof(monitor), MON_GROUPS "/%s", id);
    fmt(tasks, sizeof(tasks), "%s/tasks", monitor);
    r = make_group(c, group, monitor, ENTRY_MONITOR);
    return r < 0 ? r : add_task(c, group, tasks, path);
}

/* The path of a monitoring group ends in mon_groups/ID; any other path is a group's. */
static unsigned entry_of(const char *path) {
    const char *slash = strrchr(path, '/');
    size_t len = strlen(MON_GROUPS);
    bool monitor = slash && (size_t)(slash - path) > len && strncmp(slash - len, MON_GROUPS, len) == 0;
    return monitor ? ENTRY_MONITOR : ENTRY_GROUP;
}

int step_resctrl_remove(struct context *c, const struct step *s) {
    static struct journal_entry entries[JOURNAL_MAX];
    const char *path = s->arg[0].ptr;
    bool ours = false;
    int n = c->record < 0 ? 0 : journal_read(c->record, entries, JOURNAL_MAX);
    if (n < 0)
        return detail(c, n, "read the record's journal");
    for (int i = 0; i < n; i++)
        if (entries[i].kind == JOURNAL_RESCTRL && entries[i].id == entry_of(path))
            ours = entries[i].value != VALUE_FOREIGN; /* the last word counts */
    if (!ours || unlinkat(AT_FDCWD, path, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    return detail(c, -errno, "rmdir '%s'", path);
}
