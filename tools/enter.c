/* Run a program in another mount namespace. Usage: enter NAMESPACE_FILE PROGRAM [ARGUMENT...], all paths absolute: the
 * working directory becomes that namespace's root. */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv) {
    int fd = argc > 2 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;

    if (fd < 0 || setns(fd, CLONE_NEWNS) < 0) {
        perror("enter");
        return 125;
    }
    execv(argv[2], argv + 2);
    perror(argv[2]);
    return 127;
}
