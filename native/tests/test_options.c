/* The global options: what C takes from them, and where it hands over to Python. */
#include "check.h"
#include "front/front.h"

static struct invocation inv;

#define PARSE(...)                                                                                                     \
    do {                                                                                                               \
        static char *argv[] = {(char *)(uintptr_t) "corral-runtime", __VA_ARGS__, NULL};                              \
        invocation_parse(&inv, (int)(sizeof(argv) / sizeof(argv[0])) - 1, argv);                                       \
    } while (0)
#define W(text) ((char *)(uintptr_t)(text))

static void test_values_are_read_in_all_spellings(void) {
    PARSE(W("--root"), W("/r"), W("--log=/l"), W("-log-format"), W("json"), W("--debug"), W("run"), W("--x"), W("id"));
    CHECK_TEXT("/r", inv.root);
    CHECK_TEXT("/l", inv.log);
    CHECK(inv.log_json && inv.debug && !inv.unknown_global);
    CHECK_TEXT("run", inv.command);
    CHECK_INT(8, inv.args);
}

static void test_options_of_the_command_are_left_alone(void) {
    PARSE(W("run"), W("--root"), W("/elsewhere"));
    CHECK_INT(2, inv.args);
}

static void test_other_globals_are_passed_over_with_their_values(void) {
    PARSE(W("--cgroup-manager"), W("cgroupfs"), W("--rootless=auto"), W("--systemd-cgroup"), W("list"));
    CHECK_TEXT("list", inv.command);
    CHECK(!inv.unknown_global);
}

static void test_unknown_global_is_left_to_python(void) {
    PARSE(W("--moon"), W("list"));
    CHECK(inv.unknown_global);
}

static void test_command_is_absent_when_only_options_are_there(void) {
    PARSE(W("--version"));
    CHECK(inv.command == NULL && !inv.unknown_global);
    PARSE(W("--root"));
    CHECK(inv.unknown_global);
}

static void test_relative_root_is_that_of_the_callers_folder(void) {
    char expected[PATH_MAX + 8];
    PARSE(W("--root=a/b"), W("list"));
    CHECK(getcwd(expected, PATH_MAX) != NULL);
    strcat(expected, "/a/b");
    CHECK_TEXT(expected, inv.root);
}

static void test_empty_root_is_none(void) {
    char root[PATH_MAX];
    default_root(root, sizeof(root));
    PARSE(W("--root"), W(""), W("list"));
    CHECK_TEXT(root, inv.root);
    CHECK_INT(3, inv.command_at);
}

static void test_default_root_follows_the_runtime_directory_for_users_only(void) {
    char root[PATH_MAX], own[PATH_MAX], expected[PATH_MAX + 16];
    CHECK(getcwd(own, sizeof(own)) != NULL);
    setenv("USER", "root", 1); /* what tells a root in a user namespace that is nobody's login */
    setenv("XDG_RUNTIME_DIR", own, 1);
    snprintf(expected, sizeof(expected), "%s/corral", own);
    default_root(root, sizeof(root));
    CHECK_TEXT(geteuid() == 0 ? "/run/corral" : expected, root);
    setenv("XDG_RUNTIME_DIR", "/proc/nowhere", 1);
    default_root(root, sizeof(root));
    CHECK(strstr(root, "nowhere") == NULL);
}

int main(void) {
    test_values_are_read_in_all_spellings();
    test_options_of_the_command_are_left_alone();
    test_other_globals_are_passed_over_with_their_values();
    test_unknown_global_is_left_to_python();
    test_command_is_absent_when_only_options_are_there();
    test_relative_root_is_that_of_the_callers_folder();
    test_empty_root_is_none();
    test_default_root_follows_the_runtime_directory_for_users_only();
    return 0;
}
