/* The way to Python: the launcher beside this executable, and the interpreter that its first line names. */
#ifndef CORRAL_INTERPRETER_H
#define CORRAL_INTERPRETER_H

#include <limits.h>
#include <stddef.h>

/* Fills both paths; on a negative errno, `text` and `hint` say why. find_self() comes first. */
int find_interpreter(char interpreter[PATH_MAX], char launcher[PATH_MAX], char *text, size_t room, const char **hint);

#endif
