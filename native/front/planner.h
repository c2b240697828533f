/* Asking Python for a plan. */
#ifndef CORRAL_PLANNER_H
#define CORRAL_PLANNER_H

#include <sys/types.h>

#include "front/front.h"

/* What came back. `done`: there is no plan, exit_code says how the program ends, and everything was printed. */
struct answer {
    bool done;
    int exit_code;
    int plan;        /* memfd, owned; -1 = none */
    int record;      /* directory, owned; -1 = none */
    int owner_lock;  /* owned; -1 = none */
    int sock;        /* to the planner, owned */
    pid_t cold;      /* the cold planner, to be reaped; 0 = a resident one */
    int cold_status; /* wait status of the last cold planner that was reaped */
};

/* Resident planner first, then a cold one, and one more if it dies before it answers. Undoes what the planner wants
 * reclaimed. Always fills *ret; on failure `done` is set after log_error. */
void planner_ask(const struct invocation *inv, struct answer *ret);

/* Sends the request before this process replaces itself by its private copy, which takes a while: planner_ask() in the
 * copy goes on with it. -1 after log_error if there can be no plan. */
int planner_ask_early(const struct invocation *inv);

/* Closes the socket and reaps a cold planner; bounded, and idempotent. */
void planner_end(struct answer *answer);

/* The request (request.c): a sealed memfd, owned by the caller, or -errno. */
int make_request(const struct invocation *inv);

#endif
