/* Failpoints: simulated failures by step, for tests and for whoever wants to see what a crash leaves behind. */
#include <signal.h>
#include <string.h>

#include "run.h"
#include "sys.h"

enum action { ACTION_ERRNO, ACTION_KILL, ACTION_STOP };

struct failpoint {
    enum actor actor;
    int index;      /* -1: by name */
    char op[24];
    int nth;        /* the nth time that it is met, from 1 */
    int met;
    bool after;
    enum action action;
    int error;
};

#define FAILPOINTS 8
static struct failpoint points[FAILPOINTS];
static int n_points;

static bool parse_action(const char *word, struct failpoint *p) {
    if (strcmp(word, "kill") == 0)
        p->action = ACTION_KILL;
    else if (strcmp(word, "stop") == 0)
        p->action = ACTION_STOP;
    else if (text_starts(word, "errno=") && parse_int(word + 6, 1, 4095, &p->error))
        p->action = ACTION_ERRNO;
    else
        return false;
    return true;
}

static bool parse_actor(const char *word, enum actor *ret) {
    static const char *const names[] = {"front", "stage", "init"};
    for (int i = 0; i < 3; i++)
        if (strcmp(word, names[i]) == 0) {
            *ret = (enum actor)i;
            return true;
        }
    return false;
}

/* One ACTOR:STEP[:N][:after]:ACTION, already cut out of the list. */
static bool parse_one(char *text, struct failpoint *p) {
    char *words[6];
    int n = 0;
    *p = (struct failpoint){.index = -1, .nth = 1};
    for (char *at = text; at && n < 6; n++) {
        words[n] = at;
        at = strchr(at, ':');
        if (at)
            *at++ = '\0';
    }
    if (n < 3 || n > 5 || !parse_actor(words[0], &p->actor) || !parse_action(words[n - 1], p))
        return false;
    if (!parse_int(words[1], 0, PLAN_STEPS, &p->index) && fmt(p->op, sizeof(p->op), "%s", words[1]) == 0)
        return false;
    for (int i = 2; i < n - 1; i++) {
        if (strcmp(words[i], "after") == 0)
            p->after = true;
        else if (!parse_int(words[i], 1, PLAN_STEPS, &p->nth))
            return false;
    }
    return true;
}

int failpoints_parse(const char *text) {
    char one[96];
    n_points = 0;
    while (*text) {
        size_t len = strcspn(text, ",");
        if (len >= sizeof(one) || n_points == FAILPOINTS)
            return -EINVAL;
        memcpy(one, text, len);
        one[len] = '\0';
        if (!parse_one(one, &points[n_points]))
            return -EINVAL;
        n_points++;
        text += len + (text[len] == ',');
    }
    return 0;
}

int failpoint_hit(const struct context *c, const struct step *s, bool after) {
    for (int i = 0; i < n_points; i++) {
        struct failpoint *p = &points[i];
        if (p->actor != c->actor || p->after != after)
            continue;
        if (p->index >= 0 ? (unsigned)p->index != s->index : strcmp(p->op, plan_op_name(s->op)) != 0)
            continue;
        if (++p->met != p->nth)
            continue;
        if (p->action == ACTION_ERRNO)
            return -p->error;
        kill(sys_getpid(), p->action == ACTION_KILL ? SIGKILL : SIGSTOP);
        /* pid 1 of a namespace ignores signals from within: SIGKILL and SIGSTOP of itself are dropped. */
        if (p->action == ACTION_KILL)
            _exit(137);
        while (sys_getpid() == 1)
            pause();
    }
    return 0;
}
