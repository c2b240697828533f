/* What the kernel alone takes for a container: clone with all namespaces, a cgroup, the usual mounts, pivot_root, exec.
 * The yardstick of tools/bench.py: no runtime can be faster. Usage: floor ROOTFS CGROUP_DIR [CGROUP_DIR...]
 *
 * The process is born in its group of cgroup v2, and enters those of v1 itself: to move another one costs a grace period of
 * RCU for each. */
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

static void need(int ok, const char *what) {
    if (!ok) {
        perror(what);
        _exit(125);
    }
}

static void enter(const char *rootfs, const int *tasks, int n_tasks) {
    char path[4096];
    for (int i = 0; i < n_tasks; i++)
        need(write(tasks[i], "0", 1) == 1, "enter a group");
    need(unshare(CLONE_NEWCGROUP) == 0, "unshare");
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

#define GROUPS 32

/* Makes the groups: `into` becomes a descriptor of that of v2, -1 where there is none; `tasks` those to enter. */
static int make_groups(char **group, int n, int *into, int *tasks) {
    char path[4096];
    struct statfs fs;
    int n_tasks = 0;
    *into = -1;
    need(n <= GROUPS, "too many groups");
    for (int i = 0; i < n; i++) {
        need(mkdir(group[i], 0755) == 0 && statfs(group[i], &fs) == 0, group[i]);
        if (fs.f_type == CGROUP2_SUPER_MAGIC) {
            *into = open(group[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            need(*into >= 0, group[i]);
            continue;
        }
        snprintf(path, sizeof path, "%s/tasks", group[i]);
        tasks[n_tasks] = open(path, O_WRONLY | O_CLOEXEC);
        need(tasks[n_tasks++] >= 0, path);
    }
    return n_tasks;
}

int main(int argc, char **argv) {
    int status, into, tasks[GROUPS];
    need(argc > 1, "usage: floor ROOTFS CGROUP_DIR...");
    int n_tasks = make_groups(argv + 2, argc - 2, &into, tasks);
    struct clone_args args = {
        .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | (into < 0 ? 0 : CLONE_INTO_CGROUP),
        .exit_signal = SIGCHLD,
        .cgroup = into < 0 ? 0 : (uint64_t)into,
    };
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    need(pid >= 0, "clone3");
    if (pid == 0)
        enter(argv[1], tasks, n_tasks);
    need(waitpid(pid, &status, 0) == pid, "waitpid");
    for (int i = 2; i < argc; i++)
        need(rmdir(argv[i]) == 0, argv[i]);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 125;
}
