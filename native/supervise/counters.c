/* OOM counters. */
#include "supervise/counters.h"

#include <string.h>

#include "executor/sys.h"

void counter_read(const char *path, char text[COUNTER_TEXT]) {
    if (read_file_at(AT_FDCWD, path, text, COUNTER_TEXT) < 0)
        text[0] = '\0';
}

/* Key and value of the line at `line`; false if it is neither "key number" nor a number alone, whose key is empty. */
static bool split_line(const char *line, size_t len, size_t *key, size_t *number) {
    size_t n = strcspn(line, " \n");
    bool alone = n == len && len > 0 && line[0] >= '0' && line[0] <= '9';
    *key = alone ? 0 : n;
    *number = alone ? 0 : n + 1;
    if (!alone && (n == 0 || n + 1 >= len || line[n] != ' '))
        return false;
    for (size_t i = 0; i < *key; i++)
        if (!((line[i] >= 'a' && line[i] <= 'z') || line[i] == '_'))
            return false;
    for (size_t i = *number; i < len; i++)
        if (line[i] < '0' || line[i] > '9')
            return false;
    return true;
}

size_t counter_json(const char *text, char *buf, size_t size) {
    size_t n = fmt(buf, size, "{"), key, number;
    bool first = true;
    while (*text) {
        size_t len = strcspn(text, "\n");
        if (split_line(text, len, &key, &number)) {
            n += fmt(buf + n, size - n, "%s\"%.*s\":%.*s", first ? "" : ",", (int)key, text, (int)(len - number),
                     text + number);
            first = false;
        }
        text += len + (text[len] == '\n');
    }
    return n + fmt(buf + n, size - n, "}");
}
