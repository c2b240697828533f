/* The store that a keeper works for, whether it is still there; and the cgroups that are made for its sake. */
#include <dirent.h>
#include <limits.h>
#include <string.h>

#include "keeper/keeper.h"
#include "launch/launch.h"

#define LOOK_MS 5000
#define UP_MAX 16 /* levels of cgroups above ours */

/* ---- the store ------------------------------------------------------------------------------------------------------------- */

void store_know(struct keeper *k, const struct spec *spec) {
    char path[PATH_MAX];
    const char *slash = strrchr(spec->dir, '/');
    if (k->containers >= 0 || spec->exec[0] || !slash || slash == spec->dir)
        return;
    fmt(path, sizeof(path), "%.*s", (int)(slash - spec->dir), spec->dir);
    k->containers = open_at(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
}

/* Nobody can find, stop or start these any more, and their files are gone under them. */
static void end_all(const struct keeper *k) {
    for (unsigned i = 0; i < k->n_entries; i++)
        if (k->entry[i]->held[HELD_INIT] >= 0)
            (void)sys_pidfd_send_signal(k->entry[i]->held[HELD_INIT], SIGKILL);
}

int store_look(struct keeper *k, bool now) {
    int64_t at = now_ms();
    if (!now && k->n_entries == 0)
        return -1;
    if (!now && at < k->look_at)
        return (int)(k->look_at - at);
    k->look_at = at + LOOK_MS;
    k->gone = k->gone || directory_is_removed(k->run) || directory_is_removed(k->containers);
    if (k->gone)
        end_all(k);
    return LOOK_MS;
}

/* ---- its cgroups ----------------------------------------------------------------------------------------------------------- */

static int join(const char *group) {
    char file[PATH_MAX];
    fmt(file, sizeof(file), "%s/cgroup.procs", group);
    return write_file_at(AT_FDCWD, file, O_WRONLY, "0", 1);
}

/* The keeper before us has removed them, if it ended after they were looked for. */
static int make(const char *group) {
    char parent[PATH_MAX];
    const char *slash = strrchr(group, '/');
    fmt(parent, sizeof(parent), "%.*s", slash ? (int)(slash - group) : 0, group);
    (void)mkdir(parent, 0755);
    return sys_result(mkdir(group, 0755));
}

int groups_join(struct keeper *k, const char **which) {
    for (int i = 0; i < k->n_groups; i++) {
        int r = join(k->group[i]);
        if (r == -ENOENT && make(k->group[i]) == 0)
            r = join(k->group[i]);
        *which = k->group[i];
        if (r < 0)
            return r;
    }
    return 0;
}

/* Up to the first group that takes us: on v2 one that has controllers for those below takes nobody. */
static void leave(const char *group) {
    char up[PATH_MAX];
    size_t n = fmt(up, sizeof(up), "%s/..", group);
    for (int i = 0; i < UP_MAX; i++) {
        n += fmt(up + n, sizeof(up) - n, "/..");
        int r = join(up);
        if (r >= 0 || r == -ENOENT)
            return;
    }
}

/* Of containers whose store was removed: nobody else knows them. */
static void remove_below(const char *parent) {
    DIR *list = opendir(parent);
    struct dirent *item;
    while (list && (item = readdir(list)))
        if (strlen(item->d_name) == 64 && strspn(item->d_name, "0123456789abcdef") == 64)
            (void)unlinkat(dirfd(list), item->d_name, AT_REMOVEDIR);
    if (list)
        closedir(list);
}

void groups_leave(struct keeper *k) {
    for (int i = 0; i < k->n_groups; i++) {
        leave(k->group[i]);
        (void)rmdir(k->group[i]);
    }
    for (int i = 0; i < k->n_parents; i++) {
        if (k->gone)
            remove_below(k->parent[i]);
        if (k->owns_parents)
            (void)rmdir(k->parent[i]);
    }
}
