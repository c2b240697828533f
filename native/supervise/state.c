/* The state of a monitor that outlives it. */
#include "supervise/state.h"

#include <string.h>
#include <sys/mman.h>

#include "executor/sys.h"

#define STATE_FILE "pump"
#define STATE_MAGIC 0x314c5243u

struct state *state_map(int run, bool adopt, int *error) {
    int flags = O_RDWR | O_CREAT | O_NOFOLLOW | (adopt ? 0 : O_TRUNC);
    cleanup_fd int fd = open_at(run, STATE_FILE, flags, 0600);
    *error = fd < 0 ? fd : sys_result(ftruncate(fd, sizeof(struct state)));
    if (*error < 0)
        return NULL;
    void *map = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        *error = -errno;
        return NULL;
    }
    struct state *state = map;
    if (state->magic != STATE_MAGIC)
        memset(state, 0, sizeof(*state));
    state->magic = STATE_MAGIC;
    for (int i = 0; i < COUNTERS; i++)
        state->before[i][COUNTER_TEXT - 1] = '\0';
    return state;
}

void state_unmap(struct state *state) {
    if (state)
        (void)munmap(state, sizeof(*state));
}

struct recovery piece_recover(const struct piece *p, uint64_t size, uint64_t inode, uint32_t held) {
    struct recovery r = {.cut = -1};
    if (p->phase != PIECE_LOGGING || p->inode != inode || size < p->offset || p->raw > p->held)
        return r;
    if (size - p->offset < p->formatted) {
        r.cut = (int64_t)p->offset;
        return r;
    }
    /* Nothing was added to the second pipe since, so what is missing there was drained. */
    uint32_t drained = held < p->held ? p->held - held : 0;
    r.drain = drained < p->raw ? p->raw - drained : 0;
    return r;
}
