/* kill [--all] ID [SIGNAL] */
#include <string.h>
#include <strings.h>

#include "front/words.h"

static const struct {
    const char *name;
    int number;
} signals[] = {
    {"ABRT", SIGABRT}, {"ALRM", SIGALRM},     {"BUS", SIGBUS},   {"CHLD", SIGCHLD},     {"CLD", SIGCHLD}, {"CONT", SIGCONT},
    {"FPE", SIGFPE},   {"HUP", SIGHUP},       {"ILL", SIGILL},   {"INT", SIGINT},       {"IO", SIGIO},    {"IOT", SIGABRT},
    {"KILL", SIGKILL}, {"PIPE", SIGPIPE},     {"POLL", SIGIO},   {"PROF", SIGPROF},     {"PWR", SIGPWR},  {"QUIT", SIGQUIT},
    {"SEGV", SIGSEGV}, {"STKFLT", SIGSTKFLT}, {"STOP", SIGSTOP}, {"SYS", SIGSYS},       {"TERM", SIGTERM}, {"TRAP", SIGTRAP},
    {"TSTP", SIGTSTP}, {"TTIN", SIGTTIN},     {"TTOU", SIGTTOU}, {"URG", SIGURG},       {"USR1", SIGUSR1}, {"USR2", SIGUSR2},
    {"VTALRM", SIGVTALRM}, {"WINCH", SIGWINCH}, {"XCPU", SIGXCPU}, {"XFSZ", SIGXFSZ},
};

#define RT_FIRST 34 /* as libc numbers them: the kernel's first two are libc's own */
#define RT_LAST 64

/* "RTMIN", "RTMIN+3", "RTMAX-2". */
static bool parse_realtime(const char *name, int *ret) {
    int offset = 0;
    bool from_first = strncasecmp(name, "RTMIN", 5) == 0;
    if (!from_first && strncasecmp(name, "RTMAX", 5) != 0)
        return false;
    if (name[5] && (name[5] != (from_first ? '+' : '-') || !parse_int(name + 6, 0, RT_LAST - RT_FIRST, &offset)))
        return false;
    *ret = from_first ? RT_FIRST + offset : RT_LAST - offset;
    return true;
}

static bool parse_signal(const char *text, int *ret) {
    if (parse_int(text, 0, RT_LAST, ret))
        return true;
    if (strncasecmp(text, "SIG", 3) == 0)
        text += 3;
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        if (strcasecmp(text, signals[i].name) == 0) {
            *ret = signals[i].number;
            return true;
        }
    return parse_realtime(text, ret);
}

/* Why a container of this status cannot be signalled, or NULL. */
static const char *refusal(enum record_status status) {
    switch (status) {
    case RECORD_CREATED:
    case RECORD_RUNNING: return NULL;
    case RECORD_CREATING: return "container not running: it is still being created";
    case RECORD_STALE: return "container not running: its creation was interrupted";
    case RECORD_STOPPED: return kill_request.all ? NULL : "container not running";
    }
    return "container not running";
}

int cmd_kill(const struct invocation *inv) {
    static struct context c;
    char text[256];
    enum step_op op;
    struct words words;
    if (!program_words(inv, "all", 'a', 1, 2, &words))
        return exec_python(inv);
    const char *id = words.word[0], *name = words.n > 1 ? words.word[1] : "TERM";
    kill_request.all = words.flag;
    if (!parse_signal(name, &kill_request.signal)) {
        fmt(text, sizeof(text), "unknown signal \"%.100s\"", name);
        return program_refuse(id, text, "give its name, with or without SIG, or its number");
    }
    cleanup_fd int record = program_open(inv, id);
    if (record < 0)
        return record == -ENOENT ? program_not_found(id) : 1;
    int status = program_status(record, id);
    if (status < 0)
        return 1;
    const char *why = refusal((enum record_status)status);
    if (why)
        return program_refuse(id, why, status == RECORD_STALE ? "delete it, and create it again" : NULL);
    return program_run(record, id, "kill.plan", &c, &op) < 0;
}
