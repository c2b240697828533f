/* Words for people on stderr, and for callers in --log: the shapes of logrus, which they parse. */
#include <string.h>
#include <time.h>

#include "front/front.h"

static struct {
    const char *path;
    bool json, debug, written;
} state;

/* The path for good: hooks run in the bundle, and so do we from then on. */
static const char *absolute(const char *path) {
    static char buf[2 * PATH_MAX];
    if (path[0] == '/' || !getcwd(buf, PATH_MAX))
        return path;
    size_t n = strlen(buf);
    fmt(buf + n, sizeof(buf) - n, "/%s", path);
    return buf;
}

void log_setup(const struct invocation *inv) {
    state.path = inv->log && inv->log[0] ? absolute(inv->log) : NULL;
    state.json = inv->log_json;
    state.debug = inv->debug;
    warning_sink = log_warning;
}

bool log_error_written(void) { return state.written; }

/* The text between the quotes, for JSON and for logrus alike: control characters as \u00XX. Bytes above 127 pass:
 * they are the user's own file names. Returns the length. */
static size_t quote(char *buf, size_t size, const char *text) {
    size_t n = 0;
    buf[0] = '\0';
    for (; *text && n + 8 < size; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            n += fmt(buf + n, size - n, "\\%c", c);
        else if (c == '\n')
            n += fmt(buf + n, size - n, "\\n");
        else if (c < 32 || c == 127)
            n += fmt(buf + n, size - n, "\\u%04x", c);
        else
            n += fmt(buf + n, size - n, "%c", c);
    }
    return n;
}

static void put_time(char buf[32]) {
    struct tm tm;
    time_t now = time(NULL);
    gmtime_r(&now, &tm);
    fmt(buf, 32, "%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
        tm.tm_sec);
}

static void write_line(int fd, const char *level, const char *message, const char *hint) {
    char line[8192], time_text[32];
    static char text[4096], more[2048];
    put_time(time_text);
    (void)quote(text, sizeof(text), message);
    (void)quote(more, sizeof(more), hint ? hint : "");
    size_t n;
    if (state.json)
        n = fmt(line, sizeof(line), "{%s%s%s\"level\":\"%s\",\"msg\":\"%s\",\"time\":\"%s\"}\n", more[0] ? "\"hint\":\"" : "",
                more, more[0] ? "\"," : "", level, text, time_text);
    else
        n = fmt(line, sizeof(line), "time=\"%s\" level=%s msg=\"%s\"%s%s%s\n", time_text, level, text,
                more[0] ? " hint=\"" : "", more, more[0] ? "\"" : "");
    (void)write_all(fd, line, n);
}

static bool write_to_log(const char *level, const char *message, const char *hint) {
    if (!state.path)
        return false;
    cleanup_fd int fd = open_at(AT_FDCWD, state.path, O_WRONLY | O_APPEND | O_CREAT | O_NOCTTY, 0644);
    if (fd < 0) {
        say(2, "open the log '%s': %s\n", state.path, error_text(fd));
        return false;
    }
    write_line(fd, level, message, hint);
    return true;
}

/* A message is one line, whatever file name or value it quotes: readers of stderr and --log count on it. */
static void one_line(char *buf, size_t size, const char *text) {
    size_t n = fmt(buf, size, "%s", text);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)buf[i] < 32 || buf[i] == 127)
            buf[i] = ' ';
}

void log_error(const char *said, const char *hint) {
    static char message[4096];
    bool first = !state.written;
    one_line(message, sizeof(message), said);
    state.written = true;
    /* Callers take --log for one document: what comes after the first error goes to stderr alone. */
    if (first && !write_to_log("error", message, hint) && state.json) {
        write_line(2, "error", message, hint);
        return;
    }
    say(2, "%s\n", message);
    if (hint && hint[0])
        say(2, "hint: %s\n", hint);
}

void log_warning(const char *said) {
    static char message[4096];
    one_line(message, sizeof(message), said);
    if (!state.json && write_to_log("warning", message, NULL))
        return;
    say(2, "warning: %s\n", message);
}

void log_debug(const char *format, ...) {
    char text[1024];
    va_list args;
    if (!state.debug)
        return;
    va_start(args, format);
    fmt_list(text, sizeof(text), format, args);
    va_end(args);
    if (!state.json && !write_to_log("debug", text, NULL))
        say(2, "debug: %s\n", text);
}
