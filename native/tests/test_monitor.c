/* The pure parts of monitor and keeper: log records, recovery, specs, counters. */
#include <fcntl.h>
#include <unistd.h>

#include "check.h"
#include "monitor/logfile.h"
#include "supervise/counters.h"
#include "supervise/spec.h"
#include "supervise/state.h"

#define TIME "2026-01-02T03:04:05.000000006Z"

static char out[65536];

static const char *made(enum log_format format, const char *raw, size_t len, bool more, size_t expected_used) {
    size_t used, n = log_format(format, "stdout", TIME, raw, len, more, out, sizeof(out) - 1, &used);
    out[n] = '\0';
    CHECK_INT(expected_used, used);
    return out;
}

static void test_cri_marks_a_line_that_goes_on(void) {
    CHECK_TEXT(TIME " stdout F a\n" TIME " stdout P b\n", made(LOG_CRI, "a\nb", 3, true, 3));
    CHECK_TEXT(TIME " stdout F \n", made(LOG_CRI, "\n", 1, true, 1));
}

static void test_cri_keeps_every_byte(void) {
    CHECK_TEXT(TIME " stdout P \xff\xc3\n", made(LOG_CRI, "\xff\xc3", 2, true, 2));
}

static void test_json_escapes_what_it_must(void) {
    CHECK_TEXT("{\"log\":\"\\\"\\\\\\t\\u0001\\n\",\"stream\":\"stdout\",\"time\":\"" TIME "\"}\n",
               made(LOG_JSON, "\"\\\t\x01\n", 5, true, 5));
}

static void test_json_replaces_what_is_no_character(void) {
    CHECK_TEXT("{\"log\":\"\\ufffda\\ufffd\\ufffd\",\"stream\":\"stdout\",\"time\":\"" TIME "\"}\n",
               made(LOG_JSON, "\xff" "a\xc0\xaf", 4, true, 4));
}

static void test_json_holds_back_the_beginning_of_a_character(void) {
    CHECK_TEXT("", made(LOG_JSON, "\xe2\x82", 2, true, 0));
    CHECK_TEXT("{\"log\":\"a\",\"stream\":\"stdout\",\"time\":\"" TIME "\"}\n", made(LOG_JSON, "a\xe2\x82", 3, true, 1));
    CHECK_TEXT("{\"log\":\"\xe2\x82\xac\",\"stream\":\"stdout\",\"time\":\"" TIME "\"}\n",
               made(LOG_JSON, "\xe2\x82\xac", 3, true, 3));
    CHECK_TEXT("{\"log\":\"\\ufffd\\ufffd\",\"stream\":\"stdout\",\"time\":\"" TIME "\"}\n",
               made(LOG_JSON, "\xe2\x82", 2, false, 2));
}

/* Whatever the buffer's size, all of the input comes out, in order, in records that fit. */
static void check_pieces(enum log_format format, size_t size, const char *raw, size_t len) {
    static char text[200000];
    size_t at = 0, used, n = 0;
    while (at < len) {
        size_t one = log_format(format, "stderr", TIME, raw + at, len - at, false, out, size, &used);
        CHECK(used > 0 && one <= size && out[one - 1] == '\n');
        memcpy(text + n, out, one);
        n += one;
        at += used;
    }
    size_t seen = 0;
    for (size_t i = 0; i < n; i++)
        seen += text[i] == 'x';
    size_t wanted = 0;
    for (size_t i = 0; i < len; i++)
        wanted += raw[i] == 'x';
    CHECK_INT(wanted, seen);
}

static void test_format_takes_everything_in_any_buffer(void) {
    static char raw[5000];
    for (size_t i = 0; i < sizeof(raw); i++)
        raw[i] = i % 701 == 0 ? '\n' : i % 13 == 0 ? '\x02' : 'x';
    for (size_t size = LOG_OUT_LEAST; size < 4000; size += 37) {
        check_pieces(LOG_CRI, size, raw, sizeof(raw));
        check_pieces(LOG_JSON, size, raw, sizeof(raw));
    }
}

static const struct piece logging = {.phase = PIECE_LOGGING, .raw = 10, .held = 12, .formatted = 50, .offset = 100, .inode = 7};

static void check_recovery(const struct piece *p, uint64_t size, uint64_t inode, uint32_t held, int64_t cut, uint32_t drain) {
    struct recovery r = piece_recover(p, size, inode, held);
    CHECK_INT(cut, r.cut);
    CHECK_INT(drain, r.drain);
}

static void test_recovery_of_a_piece(void) {
    struct piece idle = logging, lost = logging;
    idle.phase = PIECE_IDLE;
    lost.formatted = 0;
    check_recovery(&idle, 150, 7, 12, -1, 0);     /* nothing of it was begun */
    check_recovery(&logging, 100, 7, 12, 100, 0); /* not yet written */
    check_recovery(&logging, 149, 7, 12, 100, 0); /* half written */
    check_recovery(&logging, 150, 7, 12, -1, 10); /* written, not drained */
    check_recovery(&logging, 150, 7, 5, -1, 3);   /* half drained */
    check_recovery(&logging, 150, 7, 2, -1, 0);   /* drained: what lies there is new */
    check_recovery(&logging, 150, 8, 12, -1, 0);  /* another file */
    check_recovery(&logging, 99, 7, 12, -1, 0);   /* cut by somebody else */
    check_recovery(&lost, 100, 7, 12, -1, 10);    /* could not be written at all */
}

static void test_spec_is_refused_when_it_is_wrong(void) {
    static const struct {
        const char *text;
        size_t len;
    } wrong[] = {
        {"id=a", 4}, {"", 0}, {"id=a\0run=/r\0dir=/d\0", 19}, {"id=.\0run=/r\0dir=/d\0runtime_root=/s\0", 35},
        {"id=a\0run=r\0dir=/d\0runtime_root=/s\0", 34}, {"id=a\0run=/r\0dir=/d\0runtime_root=/s\0x=1\0", 39},
        {"id=a\0run=/r\0dir=/d\0runtime_root=/s\0log=x\0", 41}, {"id=a\0run=/r\0dir=/d\0runtime_root=/s\0exec=/\0", 42},
        {"id=a\0run=/r\0dir=/d\0runtime_root=/s\0oom=/a\x1f" "b\0", 44},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char text[128];
        const char *why = NULL;
        struct spec spec;
        memcpy(text, wrong[i].text, wrong[i].len);
        CHECK(spec_parse(text, wrong[i].len, &spec, &why) < 0);
        CHECK(why != NULL);
    }
}

static void test_spec_has_what_it_says(void) {
    char text[] = "id=a\0run=/r\0dir=/d\0runtime_root=/s\0log=json\0log_files=3\0runs=12\0terminal=1\0oom=/x\x1f/y";
    const char *why;
    struct spec spec;
    CHECK_INT(0, spec_parse(text, sizeof(text), &spec, &why));
    CHECK_TEXT("a", spec.id);
    CHECK_INT(LOG_JSON, spec.log);
    CHECK_INT(3, spec.log_files);
    CHECK_INT(12, spec.runs);
    CHECK(spec.terminal && !spec.takes_stdin);
    CHECK_INT(2, spec.n_counters);
    CHECK_TEXT("/y", spec.counter[1]);
}

static void test_counters_become_json(void) {
    counter_json("low 0\noom_kill 12\nbad line here\nBAD 1\n", out, sizeof(out));
    CHECK_TEXT("{\"low\":0,\"oom_kill\":12}", out);
    counter_json("34\n", out, sizeof(out));
    CHECK_TEXT("{\"\":34}", out);
    counter_json("", out, sizeof(out));
    CHECK_TEXT("{}", out);
}

static void test_directory_is_removed_when_it_is_and_not_when_it_moved(void) {
    char made[] = "/tmp/corral-test-XXXXXX", moved[64];
    CHECK(mkdtemp(made) != NULL);
    (void)snprintf(moved, sizeof(moved), "%s (deleted)", made);
    int fd = open(made, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CHECK(!directory_is_removed(-1) && !directory_is_removed(fd));
    CHECK_INT(0, rename(made, moved));
    CHECK(!directory_is_removed(fd));
    CHECK_INT(0, rmdir(moved));
    CHECK(directory_is_removed(fd));
    close(fd);
}

int main(void) {
    test_cri_marks_a_line_that_goes_on();
    test_cri_keeps_every_byte();
    test_json_escapes_what_it_must();
    test_json_replaces_what_is_no_character();
    test_json_holds_back_the_beginning_of_a_character();
    test_format_takes_everything_in_any_buffer();
    test_recovery_of_a_piece();
    test_spec_is_refused_when_it_is_wrong();
    test_spec_has_what_it_says();
    test_counters_become_json();
    test_directory_is_removed_when_it_is_and_not_when_it_moved();
    return 0;
}
