/* Run a command and print what it took: wall nanoseconds, CPU microseconds, peak KiB, wait status. Usage: measure COMMAND...
 * A program of its own because a child starts with its parent's peak memory, and this parent has next to none. The command
 * reads from and writes to /dev/null; its standard error is the caller's.
 * Wall time ends with the command. What it leaves behind and what ends soon after it is its cost as well. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A container's first process is left behind, too, and stays: nothing but time tells it from a helper that ends. */
#define GRACE_MS 60

static long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static long long cpu_us(const struct rusage *usage) {
    return (usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000LL + usage->ru_utime.tv_usec + usage->ru_stime.tv_usec;
}

int main(int argc, char **argv) {
    struct rusage usage, more;
    int status, null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (argc < 2 || null < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
        return 125;
    long long begin = now_ns();
    pid_t pid = vfork();
    if (pid == 0) {
        dup2(null, 0);
        dup2(null, 1);
        execv(argv[1], argv + 1);
        _exit(127);
    }
    pid_t ended;
    long long cpu = 0;
    long peak = 0;
    do {
        ended = wait4(-1, &status, 0, &usage);
        if (ended < 0)
            return 125;
        cpu += cpu_us(&usage);
        peak = usage.ru_maxrss > peak ? usage.ru_maxrss : peak;
    } while (ended != pid);
    long long end = now_ns();
    for (long long until = end + GRACE_MS * 1000000LL; now_ns() < until;) {
        int ignored;
        ended = wait4(-1, &ignored, WNOHANG, &more);
        if (ended < 0)
            break;
        if (ended == 0) {
            poll(NULL, 0, 1);
            continue;
        }
        cpu += cpu_us(&more);
        peak = more.ru_maxrss > peak ? more.ru_maxrss : peak;
    }
    printf("%lld %lld %ld %d\n", end - begin, cpu, peak, status);
    return 0;
}
