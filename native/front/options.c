/* The global options, as far as C has to know them, and the state root. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "front/front.h"

/* Value of the option `name` at argv[*at]: "--name VALUE", "--name=VALUE", also with one dash, as runc takes it.
 * Returns NULL if it is another option; *at is moved to the last word used. */
static const char *option_value(int argc, char **argv, int *at, const char *name) {
    const char *word = argv[*at] + 1;
    size_t n = strlen(name);
    if (*word == '-')
        word++;
    if (strncmp(word, name, n) != 0)
        return NULL;
    if (word[n] == '=')
        return word + n + 1;
    if (word[n] != '\0' || *at + 1 >= argc)
        return NULL;
    return argv[++*at];
}

static bool is_switch(const char *word) {
    static const char *const names[] = {"debug", "systemd-cgroup", "help", "h", "version", "v"};
    word += word[1] == '-' ? 2 : 1;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (text_starts(word, names[i]) && (word[strlen(names[i])] == '\0' || word[strlen(names[i])] == '='))
            return true;
    return false;
}

static void parse_global(struct invocation *inv, int *at, const char **root) {
    const char *value, *word = inv->argv[*at];
    if ((value = option_value(inv->argc, inv->argv, at, "root")))
        *root = value;
    else if ((value = option_value(inv->argc, inv->argv, at, "log")))
        inv->log = value;
    else if ((value = option_value(inv->argc, inv->argv, at, "log-format")))
        inv->log_format = value;
    else if (strcmp(word, "--debug") == 0 || strcmp(word, "-debug") == 0 || strcmp(word, "--debug=true") == 0)
        inv->debug = true;
    else if (!option_value(inv->argc, inv->argv, at, "rootless") &&
             !option_value(inv->argc, inv->argv, at, "cgroup-manager") &&
             !option_value(inv->argc, inv->argv, at, "criu") && !is_switch(word))
        inv->unknown_global = true;
}

static bool in_user_namespace(void) {
    char map[128];
    int n = read_file_at(AT_FDCWD, "/proc/self/uid_map", map, sizeof(map));
    /* The initial namespace maps all of 32 bits onto itself, in one line. */
    return n > 0 && !strstr(map, "4294967295");
}

void default_root(char *buf, size_t size) {
    const char *runtime_dir = getenv("XDG_RUNTIME_DIR"), *user = getenv("USER");
    uid_t uid = geteuid();
    bool wanted = uid != 0 || (in_user_namespace() && (!user || strcmp(user, "root") != 0));
    fmt(buf, size, "/run/corral");
    if (!wanted)
        return;
    if (runtime_dir && runtime_dir[0] == '/' && access(runtime_dir, W_OK) == 0) {
        fmt(buf, size, "%s/corral", runtime_dir);
        return;
    }
    char own[64];
    fmt(own, sizeof(own), "/run/user/%u", uid);
    if (uid != 0 && access(own, W_OK) == 0)
        fmt(buf, size, "%s/corral", own);
}

void invocation_parse(struct invocation *inv, int argc, char **argv) {
    const char *root = NULL;
    *inv = (struct invocation){.argc = argc, .argv = argv, .args = argc};
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] != '-' || argv[i][1] == '\0') {
            inv->command = argv[i];
            inv->command_at = i;
            inv->args = i + 1;
            break;
        }
        parse_global(inv, &i, &root);
    }
    inv->log_json = inv->log_format && strcmp(inv->log_format, "json") == 0;
    inv->root_given = root && root[0];
    if (!inv->root_given)
        default_root(inv->root, sizeof(inv->root));
    else if (root[0] == '/' || !getcwd(inv->root, sizeof(inv->root)))
        fmt(inv->root, sizeof(inv->root), "%s", root);
    else
        fmt(inv->root + strlen(inv->root), sizeof(inv->root) - strlen(inv->root), "/%s", root);
}
