/* A workload that says when its first instruction ran: CLOCK_MONOTONIC in nanoseconds, to a file, or to standard output.
 * For tools/bench_engine.py. Usage: first [FILE] */
#include <stdio.h>
#include <time.h>

int main(int argc, char **argv) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    FILE *out = argc > 1 ? fopen(argv[1], "w") : stdout;
    if (!out)
        return 1;
    return fprintf(out, "%lld\n", now.tv_sec * 1000000000LL + now.tv_nsec) > 0 && fclose(out) == 0 ? 0 : 1;
}
