/* What the kernel alone takes for a container: clone with all namespaces, a cgroup, the usual mounts, pivot_root, exec.
 * The yardstick of tools/bench.py: no runtime can be faster. Usage: floor ROOTFS CGROUP_DIR [CGROUP_DIR...] */
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void need(int ok, const char *what) {
    if (!ok) {
        perror(what);
        _exit(125);
    }
}

static void enter(const char *rootfs, int go) {
    char byte, path[4096];
    need(read(go, &byte, 1) == 1, "wait");
    need(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "private");
    need(mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL) == 0, "bind the rootfs");
    need(chdir(rootfs) == 0, "chdir");
    need(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0, "proc");
    need(mount("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755,size=65536k") == 0, "dev");
    need(mkdir("dev/pts", 0755) == 0 && mkdir("dev/shm", 0755) == 0, "mkdir");
    need(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666") == 0, "devpts");
    need(mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=65536k") == 0, "shm");
    need(mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL) == 0, "sysfs");
    snprintf(path, sizeof path, "%s", "dev/null");
    need(mknod(path, S_IFCHR | 0666, 1 << 8 | 3) == 0, "null");
    need(syscall(SYS_pivot_root, ".", ".") == 0, "pivot_root");
    need(umount2(".", MNT_DETACH) == 0 && chdir("/") == 0, "detach");
    need(sethostname("floor", 5) == 0, "hostname");
    execl("/bin/true", "true", (char *)NULL);
    need(0, "exec");
}

int main(int argc, char **argv) {
    int go[2], status;
    char path[4096], pid_text[16];
    struct clone_args args = {
        .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP,
        .exit_signal = SIGCHLD,
    };
    need(argc > 1 && pipe2(go, O_CLOEXEC) == 0, "usage: floor ROOTFS CGROUP_DIR...");
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    need(pid >= 0, "clone3");
    if (pid == 0)
        enter(argv[1], go[0]);
    snprintf(pid_text, sizeof pid_text, "%d", pid);
    for (int i = 2; i < argc; i++) {
        need(mkdir(argv[i], 0755) == 0, argv[i]);
        snprintf(path, sizeof path, "%s/cgroup.procs", argv[i]);
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        need(fd >= 0 && write(fd, pid_text, strlen(pid_text)) > 0, path);
        close(fd);
    }
    need(write(go[1], "g", 1) == 1, "release");
    need(waitpid(pid, &status, 0) == pid, "waitpid");
    for (int i = 2; i < argc; i++)
        need(rmdir(argv[i]) == 0, argv[i]);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 125;
}
