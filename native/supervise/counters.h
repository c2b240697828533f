/* The kernel's counters of OOM, read as they are: "key value" lines of memory.events and memory.oom_control. */
#ifndef CORRAL_COUNTERS_H
#define CORRAL_COUNTERS_H

#include <stddef.h>

#include "supervise/spec.h"
#include "supervise/state.h"

/* Reads one file ("" if it is not there). */
void counter_read(const char *path, char text[COUNTER_TEXT]);
/* "{"low":0,"oom_kill":1}" of such a text. Returns the length. */
size_t counter_json(const char *text, char *buf, size_t size);

#endif
