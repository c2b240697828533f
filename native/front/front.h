/* The front, `corral-runtime`: what its files share. */
#ifndef CORRAL_FRONT_H
#define CORRAL_FRONT_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "executor/context.h"
#include "executor/run.h"
#include "executor/sys.h"
#include "launch/launch.h"

#ifndef CORRAL_VERSION
#define CORRAL_VERSION "0"
#endif

/* One call of the program, as far as C looks at it. */
struct invocation {
    int argc;
    char **argv;
    const char *log;         /* --log, or NULL */
    const char *log_format;  /* --log-format, or NULL */
    bool log_json, debug;
    const char *command;     /* "create", or NULL */
    int command_at;          /* its index in argv, or 0 */
    bool root_given;         /* --root was there, with a value */
    int args;                /* index in argv of the first word after the command */
    bool unknown_global;     /* a global option that only Python knows was seen before the command */
    char root[PATH_MAX];     /* the state root, from --root or the default */
};

/* Reads the global options. Never fails: what it does not know is Python's to judge. */
void invocation_parse(struct invocation *inv, int argc, char **argv);
/* The state root when --root is not given; see docs/design/plan.md. */
void default_root(char *buf, size_t size);

/* ---- messages for people: stderr and --log (log.c) ------------------------------------------------------------ */
void log_setup(const struct invocation *inv);
/* One error: a line on stderr (and a hint line), one JSON or text line in --log. hint may be "" or NULL. */
void log_error(const char *message, const char *hint);
void log_warning(const char *message);
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* True after the first log_error: callers read --log as one document, so there is exactly one. */
bool log_error_written(void);

/* ---- Python (python.c) ------------------------------------------------------------------------------------------ */
/* Replaces this process by the Python command line with the whole argv. Returns only on failure, after log_error,
 * with the exit code. */
int exec_python(const struct invocation *inv);
/* The interpreter and the launcher beside this executable, checked for ownership. 0, or -errno after log_error. */
int find_planner(char interpreter[PATH_MAX], char launcher[PATH_MAX]);

/* ---- this executable (selfexec.c) ------------------------------------------------------------------------------ */
/* Asks for the plan (planner_ask_early) and starts the program again from a sealed copy; returns 0 in the copy, or -errno
 * after log_error. */
int become_copy(const struct invocation *inv);

/* ---- commands; each returns the exit code --------------------------------------------------------------------- */
int cmd_launch(const struct invocation *inv); /* create, run, exec: launch.c */
int cmd_state(const struct invocation *inv);
int cmd_start(const struct invocation *inv);
int cmd_kill(const struct invocation *inv);
int cmd_delete(const struct invocation *inv);

#endif
