/* Text: a formatter without stdio and locale, numbers, and the words for errors. */
#include "sys.h"

#include <string.h>

struct out {
    char *buf;
    size_t size, len;
};

static void put(struct out *o, char c) {
    if (o->len + 1 < o->size)
        o->buf[o->len++] = c;
}

static void put_number(struct out *o, uint64_t value, unsigned base, bool negative, int width, char pad) {
    char digits[24];
    int n = 0;
    do {
        digits[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    if (negative && pad == '0')
        put(o, '-');
    for (int i = n + negative; i < width; i++)
        put(o, pad);
    if (negative && pad != '0')
        put(o, '-');
    while (n > 0)
        put(o, digits[--n]);
}

static void put_text(struct out *o, const char *text, int limit, int width) {
    int n = 0;
    if (!text)
        text = "(null)";
    for (; text[n] && (limit < 0 || n < limit); n++)
        put(o, text[n]);
    for (; n < width; n++)
        put(o, ' ');
}

/* One argument of the size that its modifiers name: 0 int, 1 long or size_t, 2 long long. */
static uint64_t next_unsigned(va_list *args, int longs) {
    if (longs == 2)
        return va_arg(*args, unsigned long long);
    return longs == 1 ? va_arg(*args, unsigned long) : va_arg(*args, unsigned);
}

static int64_t next_signed(va_list *args, int longs) {
    if (longs == 2)
        return va_arg(*args, long long);
    return longs == 1 ? va_arg(*args, long) : va_arg(*args, int);
}

static void put_directive(struct out *o, const char **format, va_list *args) {
    const char *f = *format;
    int longs = 0, limit = -1, width = 0;
    char pad = ' ';
    if (*f == '0')
        pad = *f++;
    while (*f >= '0' && *f <= '9')
        width = width * 10 + (*f++ - '0');
    if (f[0] == '.' && f[1] == '*') {
        limit = va_arg(*args, int);
        f += 2;
    }
    if (f[0] == '.' && f[1] >= '0' && f[1] <= '9')
        for (limit = 0, f++; *f >= '0' && *f <= '9'; f++)
            limit = limit * 10 + (*f - '0');
    for (; *f == 'l' || *f == 'z'; f++)
        longs++;
    switch (*f) {
    case 's': put_text(o, va_arg(*args, const char *), limit, width); break;
    case 'c': put(o, (char)va_arg(*args, int)); break;
    case 'd':
    case 'i': {
        int64_t value = next_signed(args, longs);
        put_number(o, value < 0 ? 0 - (uint64_t)value : (uint64_t)value, 10, value < 0, width, pad);
        break;
    }
    case 'u': put_number(o, next_unsigned(args, longs), 10, false, width, pad); break;
    case 'x': put_number(o, next_unsigned(args, longs), 16, false, width, pad); break;
    case 'o': put_number(o, next_unsigned(args, longs), 8, false, width, pad); break;
    case 'p': put_number(o, (uintptr_t)va_arg(*args, void *), 16, false, width, pad); break;
    case '\0': f--; break;
    default: put(o, *f); break;
    }
    *format = f + 1;
}

size_t fmt_list(char *buf, size_t size, const char *format, va_list list) {
    struct out o = {.buf = buf, .size = size};
    va_list args;
    if (size == 0)
        return 0;
    va_copy(args, list);
    while (*format) {
        if (*format != '%') {
            put(&o, *format++);
            continue;
        }
        format++;
        put_directive(&o, &format, &args);
    }
    va_end(args);
    buf[o.len] = '\0';
    return o.len;
}

size_t fmt(char *buf, size_t size, const char *format, ...) {
    va_list args;
    va_start(args, format);
    size_t n = fmt_list(buf, size, format, args);
    va_end(args);
    return n;
}

void say(int fd, const char *format, ...) {
    char buf[4096];
    va_list args;
    va_start(args, format);
    size_t n = fmt_list(buf, sizeof(buf), format, args);
    va_end(args);
    (void)write_all(fd, buf, n);
}

/* Go's words, since callers of runtimes match on them; errno without a line here prints as "errno N". */
static const struct {
    int err;
    const char *text;
} words[] = {
    {EPERM, "operation not permitted"},
    {ENOENT, "no such file or directory"},
    {ESRCH, "no such process"},
    {EINTR, "interrupted system call"},
    {EIO, "input/output error"},
    {ENXIO, "no such device or address"},
    {E2BIG, "argument list too long"},
    {ENOEXEC, "exec format error"},
    {EBADF, "bad file descriptor"},
    {ECHILD, "no child processes"},
    {EAGAIN, "resource temporarily unavailable"},
    {ENOMEM, "cannot allocate memory"},
    {EACCES, "permission denied"},
    {EFAULT, "bad address"},
    {ENOTBLK, "block device required"},
    {EBUSY, "device or resource busy"},
    {EEXIST, "file exists"},
    {EXDEV, "invalid cross-device link"},
    {ENODEV, "no such device"},
    {ENOTDIR, "not a directory"},
    {EISDIR, "is a directory"},
    {EINVAL, "invalid argument"},
    {ENFILE, "too many open files in system"},
    {EMFILE, "too many open files"},
    {ENOTTY, "inappropriate ioctl for device"},
    {ETXTBSY, "text file busy"},
    {EFBIG, "file too large"},
    {ENOSPC, "no space left on device"},
    {ESPIPE, "illegal seek"},
    {EROFS, "read-only file system"},
    {EMLINK, "too many links"},
    {EPIPE, "broken pipe"},
    {EDOM, "numerical argument out of domain"},
    {ERANGE, "numerical result out of range"},
    {EDEADLK, "resource deadlock avoided"},
    {ENAMETOOLONG, "file name too long"},
    {ENOSYS, "function not implemented"},
    {ENOTEMPTY, "directory not empty"},
    {ELOOP, "too many levels of symbolic links"},
    {ENODATA, "no data available"},
    {ETIME, "timer expired"},
    {EPROTO, "protocol error"},
    {EBADMSG, "bad message"},
    {EOVERFLOW, "value too large for defined data type"},
    {EUSERS, "too many users"},
    {ENOTSOCK, "socket operation on non-socket"},
    {EMSGSIZE, "message too long"},
    {EPROTONOSUPPORT, "protocol not supported"},
    {EOPNOTSUPP, "operation not supported"},
    {EADDRINUSE, "address already in use"},
    {ENETDOWN, "network is down"},
    {ECONNRESET, "connection reset by peer"},
    {ENOBUFS, "no buffer space available"},
    {ENOTCONN, "transport endpoint is not connected"},
    {ETIMEDOUT, "connection timed out"},
    {ECONNREFUSED, "connection refused"},
    {ESTALE, "stale file handle"},
    {EDQUOT, "disk quota exceeded"},
    {ECANCELED, "operation canceled"},
    {ENOKEY, "required key not available"},
};

const char *error_text(int err) {
    static char other[24];
    if (err < 0)
        err = -err;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (words[i].err == err)
            return words[i].text;
    fmt(other, sizeof(other), "errno %d", err);
    return other;
}

bool parse_u64(const char *text, uint64_t *ret) {
    uint64_t value = 0;
    if (!*text)
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || value > (UINT64_MAX - (uint64_t)(*text - '0')) / 10)
            return false;
        value = value * 10 + (uint64_t)(*text - '0');
    }
    *ret = value;
    return true;
}

bool parse_int(const char *text, int low, int high, int *ret) {
    uint64_t value;
    bool negative = *text == '-';
    if (!parse_u64(text + negative, &value) || value > INT32_MAX)
        return false;
    int number = negative ? -(int)value : (int)value;
    if (number < low || number > high)
        return false;
    *ret = number;
    return true;
}

bool text_starts(const char *text, const char *prefix) { return strncmp(text, prefix, strlen(prefix)) == 0; }
