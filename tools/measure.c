/* Run a command and print what it took: wall nanoseconds, CPU microseconds, peak KiB, wait status. Usage: measure COMMAND...
 * A program of its own because a child starts with its parent's peak memory, and this parent has next to none. The command
 * reads from and writes to /dev/null; its standard error is the caller's. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct timespec begin, end;
    struct rusage usage;
    int status, null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (argc < 2 || null < 0)
        return 125;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    pid_t pid = vfork();
    if (pid == 0) {
        dup2(null, 0);
        dup2(null, 1);
        execv(argv[1], argv + 1);
        _exit(127);
    }
    if (pid < 0 || wait4(pid, &status, 0, &usage) != pid)
        return 125;
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%lld %lld %ld %d\n", (end.tv_sec - begin.tv_sec) * 1000000000LL + end.tv_nsec - begin.tv_nsec,
           (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000LL + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec,
           usage.ru_maxrss, status);
    return 0;
}
