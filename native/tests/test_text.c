/* The formatter, numbers, and the words for errors. */
#include <limits.h>

#include "check.h"
#include "executor/sys.h"

static char out[64];

static void test_fmt_agrees_with_the_libc(void) {
    char expected[64];
    long numbers[] = {0, 1, -1, 42, INT_MAX, INT_MIN};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        int n = (int)numbers[i];
        snprintf(expected, sizeof(expected), "%d|%u|%x|%o|%04d|%3d|", n, (unsigned)n, (unsigned)n, (unsigned)n, n, n);
        CHECK_INT(strlen(expected), fmt(out, sizeof(out), "%d|%u|%x|%o|%04d|%3d|", n, (unsigned)n, (unsigned)n, (unsigned)n, n, n));
        CHECK_TEXT(expected, out);
    }
}

static void test_fmt_takes_long_numbers(void) {
    fmt(out, sizeof(out), "%lld %llu", LLONG_MIN, ULLONG_MAX);
    CHECK_TEXT("-9223372036854775808 18446744073709551615", out);
    fmt(out, sizeof(out), "%ld %lu %zu", LONG_MAX, ULONG_MAX, (size_t)7);
    CHECK_TEXT("9223372036854775807 18446744073709551615 7", out);
}

static void test_fmt_takes_strings_and_characters(void) {
    fmt(out, sizeof(out), "%s-%.*s-%.1s-%c-%%", "ab", 2, "xyz", "uv", '!');
    CHECK_TEXT("ab-xy-u-!-%", out);
}

static void test_fmt_cuts_when_the_buffer_is_full(void) {
    char small[4];
    CHECK_INT(3, fmt(small, sizeof(small), "%s", "abcdef"));
    CHECK_TEXT("abc", small);
    CHECK_INT(0, fmt(small, 1, "%d", 12345));
    CHECK_TEXT("", small);
}

static void test_error_text_has_the_words_that_callers_match(void) {
    CHECK_TEXT("no such file or directory", error_text(ENOENT));
    CHECK_TEXT("permission denied", error_text(-EACCES));
    CHECK_TEXT("operation not permitted", error_text(EPERM));
    CHECK_TEXT("device or resource busy", error_text(EBUSY));
    CHECK_TEXT("errno 4000", error_text(4000));
}

static void test_parse_takes_whole_numbers_only(void) {
    uint64_t value;
    int number;
    CHECK(parse_u64("18446744073709551615", &value) && value == UINT64_MAX);
    CHECK(!parse_u64("18446744073709551616", &value));
    CHECK(!parse_u64("", &value) && !parse_u64("1x", &value) && !parse_u64("-1", &value) && !parse_u64(" 1", &value));
    CHECK(parse_int("-5", -10, 10, &number) && number == -5);
    CHECK(!parse_int("11", -10, 10, &number) && !parse_int("--1", -10, 10, &number) && !parse_int("-", -10, 10, &number));
}

static void test_openat2_and_reading_tell_errors_by_number(void) {
    char buf[8];
    CHECK_INT(-ENOENT, sys_openat2(AT_FDCWD, "/nowhere", O_RDONLY, 0, 0));
    CHECK_INT(-ENOENT, read_file_at(AT_FDCWD, "/nowhere", buf, sizeof(buf)));
    CHECK_INT(-ENOTDIR, open_at(AT_FDCWD, "/dev/null/x", O_RDONLY, 0));
    CHECK_INT(0, read_file_at(AT_FDCWD, "/dev/null", buf, sizeof(buf)));
    CHECK_TEXT("", buf);
}

static void test_process_is_dead_when_its_start_time_differs(void) {
    int64_t start = process_start_time(-1, getpid());
    CHECK(start > 0);
    CHECK(!process_is_dead(-1, getpid(), start));
    CHECK(process_is_dead(-1, getpid(), start + 1));
    CHECK_INT(-ESRCH, process_start_time(-1, INT_MAX));
}

int main(void) {
    test_fmt_agrees_with_the_libc();
    test_fmt_takes_long_numbers();
    test_fmt_takes_strings_and_characters();
    test_fmt_cuts_when_the_buffer_is_full();
    test_error_text_has_the_words_that_callers_match();
    test_parse_takes_whole_numbers_only();
    test_openat2_and_reading_tell_errors_by_number();
    test_process_is_dead_when_its_start_time_differs();
    return 0;
}
