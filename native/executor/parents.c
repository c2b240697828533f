/* The registry of directories between mount point and leaf: whoever removes the last container below one removes it,
 * whichever container had made it. ROOT/.parents/DEVICE-INODE holds the path. */
#include <string.h>

#include "cgroup.h"
#include "sys.h"

#define PARENTS "../.parents"

static void entry_name(char buf[64], uint64_t device, uint64_t inode) {
    fmt(buf, 64, PARENTS "/%llx-%llx", (unsigned long long)device, (unsigned long long)inode);
}

int parents_note(struct context *c, int dir, const char *path) {
    struct stat st;
    char name[64];
    if (c->record < 0)
        return 0;
    if (fstat(dir, &st) < 0)
        return detail(c, -errno, "stat '%s'", path);
    if (mkdirat(c->record, PARENTS, 0700) < 0 && errno != EEXIST)
        return detail(c, -errno, "mkdir '.parents' in the state root");
    entry_name(name, st.st_dev, st.st_ino);
    int r = write_file_at(c->record, name, O_CREAT | O_TRUNC | O_NOFOLLOW, path, strlen(path));
    return r < 0 ? detail(c, r, "write '.parents' in the state root") : 0;
}

bool parents_has(struct context *c, int dir, const char *path) {
    struct stat st;
    char name[64], text[CG_PATH];
    if (c->record < 0 || fstat(dir, &st) < 0)
        return false;
    entry_name(name, st.st_dev, st.st_ino);
    /* The path as well: after a reboot another directory may have the numbers of a root that outlived it. */
    return read_file_at(c->record, name, text, sizeof(text)) > 0 && strcmp(text, path) == 0;
}

void parents_forget(struct context *c, uint64_t device, uint64_t inode) {
    char name[64];
    entry_name(name, device, inode);
    if (c->record >= 0)
        (void)unlinkat(c->record, name, 0);
}
