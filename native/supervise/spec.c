/* Monitor specs. */
#include "supervise/spec.h"

#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "executor/record.h"
#include "supervise/protocol.h"

enum type { TEXT, PATH, FLAG, NUMBER, FORMAT, COUNTER };

static const struct {
    const char *key;
    enum type type;
    size_t offset;
} keys[] = {
    {"id", TEXT, offsetof(struct spec, id)},
    {"exec", TEXT, offsetof(struct spec, exec)},
    {"dir", PATH, offsetof(struct spec, dir)},
    {"run", PATH, offsetof(struct spec, run)},
    {"runtime_root", PATH, offsetof(struct spec, runtime_root)},
    {"command", TEXT, offsetof(struct spec, command)},
    {"failpoint", TEXT, offsetof(struct spec, failpoint)},
    {"runs", NUMBER, offsetof(struct spec, runs)},
    {"terminal", FLAG, offsetof(struct spec, terminal)},
    {"stdin", FLAG, offsetof(struct spec, takes_stdin)},
    {"stdin_once", FLAG, offsetof(struct spec, stdin_once)},
    {"awaits_attach", FLAG, offsetof(struct spec, awaits_attach)},
    {"log", FORMAT, 0},
    {"log_max_bytes", NUMBER, offsetof(struct spec, log_max_bytes)},
    {"log_files", NUMBER, 0},
    {"oom", COUNTER, 0},
};

static bool parse_format(const char *value, enum log_format *ret) {
    static const char *const names[] = {"none", "cri", "json"};
    for (unsigned i = 0; i < 3; i++)
        if (strcmp(value, names[i]) == 0) {
            *ret = (enum log_format)i;
            return true;
        }
    return false;
}

/* Paths separated by \x1f. */
static bool store_counters(struct spec *ret, char *value) {
    while (value) {
        char *next = strchr(value, '\x1f');
        if (next)
            *next++ = '\0';
        if (ret->n_counters == COUNTERS || value[0] != '/')
            return false;
        ret->counter[ret->n_counters++] = value;
        value = next;
    }
    return true;
}

static bool store(struct spec *ret, unsigned key, char *value) {
    void *at = (char *)ret + keys[key].offset;
    uint64_t number;
    switch (keys[key].type) {
    case PATH:
    case TEXT:
        *(const char **)at = value;
        return keys[key].type == TEXT || value[0] == '/';
    case FLAG:
        *(bool *)at = strcmp(value, "1") == 0;
        return *(bool *)at || strcmp(value, "0") == 0;
    case FORMAT:
        return parse_format(value, &ret->log);
    case COUNTER:
        return store_counters(ret, value);
    case NUMBER:
        if (!parse_u64(value, &number))
            return false;
        if (keys[key].offset == 0) {
            ret->log_files = (unsigned)number;
            return number >= 1 && number <= 1000;
        }
        *(uint64_t *)at = number;
        return true;
    }
    return false;
}

static int store_item(struct spec *ret, char *item, const char **why) {
    char *equals = strchr(item, '=');
    if (equals)
        *equals = '\0';
    for (unsigned key = 0; equals && key < sizeof(keys) / sizeof(keys[0]); key++)
        if (strcmp(item, keys[key].key) == 0) {
            *why = keys[key].key;
            return store(ret, key, equals + 1) ? 0 : -EPROTO;
        }
    *why = "a key that is not known";
    return -EPROTO;
}

int spec_parse(char *text, size_t len, struct spec *ret, const char **why) {
    *ret = (struct spec){.id = "", .exec = "", .dir = "", .run = "", .runtime_root = "", .command = "", .failpoint = "", .log_files = 1};
    *why = "its length";
    if (len == 0 || len > SPEC_MAX || text[len - 1] != '\0')
        return -EPROTO;
    for (char *item = text, *end = text + len; item < end;) {
        char *next = item + strlen(item) + 1;
        if (store_item(ret, item, why) < 0)
            return -EPROTO;
        item = next;
    }
    *why = "id, dir, run or runtime_root";
    if (!record_id_is_valid(ret->id) || !ret->dir[0] || !ret->run[0] || !ret->runtime_root[0])
        return -EPROTO;
    *why = "exec";
    return ret->exec[0] && !record_id_is_valid(ret->exec) ? -EPROTO : 0;
}

int spec_read(int run, struct spec *ret) {
    static char text[SPEC_MAX + 1];
    const char *why;
    cleanup_fd int fd = open_at(run, SPEC_FILE, O_RDONLY | O_NOFOLLOW, 0);
    if (fd < 0)
        return fd;
    int n = read_all(fd, text, SPEC_MAX);
    return n < 0 ? n : spec_parse(text, (size_t)n, ret, &why);
}

bool directory_is_removed(int fd) {
    static const char mark[] = " (deleted)";
    char link[40], path[PATH_MAX];
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_nlink != 0)
        return false;
    /* There are servers of file systems that count no links, so the kernel has to say it as well. */
    fmt(link, sizeof(link), "/proc/self/fd/%d", fd);
    int n = read_link_at(AT_FDCWD, link, path, sizeof(path)), len = (int)sizeof(mark) - 1;
    return n > len && memcmp(path + n - len, mark, (size_t)len) == 0;
}
