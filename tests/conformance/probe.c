/* What busybox cannot tell: one static program, one fact a call, on standard output.
 * It is put into the rootfs of the tests as /bin/probe. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct sched_attributes {
	unsigned int size, policy;
	unsigned long long flags;
	int nice;
	unsigned int priority;
	unsigned long long runtime, deadline, period;
	unsigned int util_min, util_max;
};

static int show_scheduler(void)
{
	struct sched_attributes a;

	memset(&a, 0, sizeof(a));
	if (syscall(SYS_sched_getattr, 0, &a, sizeof(a), 0) < 0)
		return 1;
	printf("policy=%u nice=%d priority=%u flags=%llu runtime=%llu deadline=%llu period=%llu\n", a.policy,
	       a.nice, a.priority, a.flags, a.runtime, a.deadline, a.period);
	return 0;
}

static int show_io_priority(void)
{
	long v = syscall(SYS_ioprio_get, 1, 0);

	if (v < 0)
		return 1;
	printf("class=%ld level=%ld\n", v >> 13, v & 0x1fff);
	return 0;
}

static int show_memory_policy(void)
{
	int mode = -1;
	unsigned long nodes[16];

	memset(nodes, 0, sizeof(nodes));
	if (syscall(SYS_get_mempolicy, &mode, nodes, sizeof(nodes) * 8, 0, 0) < 0)
		return 1;
	printf("mode=%d flags=%d nodes=%lx\n", mode & 0xff, mode & ~0xff, nodes[0]);
	return 0;
}

/* probe syscall NUMBER [ARGUMENT...]: the raw result, so that no libc fallback hides the filter's answer. */
static int do_syscall(int argc, char **argv)
{
	long a[6] = {0, 0, 0, 0, 0, 0};
	long r;

	for (int i = 0; i + 1 < argc && i < 6; i++)
		a[i] = (long)strtoull(argv[i + 1], NULL, 0);
	errno = 0;
	r = syscall(strtol(argv[0], NULL, 0), a[0], a[1], a[2], a[3], a[4], a[5]);
	printf("result=%ld errno=%d\n", r, r < 0 ? errno : 0);
	return 0;
}

/* probe send PATH TEXT: one datagram, as sd_notify(3) sends it. "@..." is an abstract name. */
static int send_datagram(const char *path, const char *text)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	socklen_t size;
	int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (s < 0 || strlen(path) >= sizeof(to.sun_path))
		return 1;
	strcpy(to.sun_path, path);
	size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1);
	if (path[0] == '@') {
		to.sun_path[0] = 0;
		size -= 1;
	}
	if (sendto(s, text, strlen(text), 0, (struct sockaddr *)&to, size) < 0) {
		perror("sendto");
		return 1;
	}
	return 0;
}

static int show_clock(const char *name)
{
	struct timespec t;
	clockid_t clock = strcmp(name, "boottime") ? CLOCK_MONOTONIC : CLOCK_BOOTTIME;

	if (clock_gettime(clock, &t))
		return 1;
	printf("%lld\n", (long long)t.tv_sec);
	return 0;
}

/* The signals that a shell cannot show: it would have reset them itself. */
static int show_signals(void)
{
	struct sigaction s;
	sigset_t blocked;

	sigprocmask(SIG_BLOCK, NULL, &blocked);
	for (int n = 1; n < 65; n++) {
		if (sigismember(&blocked, n) == 1)
			printf("blocked=%d\n", n);
		if (sigaction(n, NULL, &s) == 0 && s.sa_handler == SIG_IGN)
			printf("ignored=%d\n", n);
	}
	return 0;
}

/* probe touch MEGABYTES: touch that much memory, then say so; an OOM kill ends it before. */
static int touch_memory(long megabytes)
{
	for (long i = 0; i < megabytes; i++) {
		char *block = malloc(1 << 20);

		if (!block)
			return 1;
		memset(block, 1, 1 << 20);
	}
	puts("touched");
	return 0;
}

/* probe hold MEGABYTES: the same, and keep it. */
static int hold_memory(long megabytes)
{
	if (touch_memory(megabytes))
		return 1;
	fflush(stdout);
	for (;;)
		pause();
}

static int open_file(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	printf("%s\n", fd < 0 ? strerror(errno) : "open");
	return 0;
}

static int make_node(const char *path, const char *major, const char *minor)
{
	dev_t dev = (dev_t)((strtoul(major, NULL, 0) << 8) | strtoul(minor, NULL, 0));

	unlink(path);
	printf("%s\n", mknod(path, S_IFCHR | 0600, dev) ? strerror(errno) : "made");
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (!strcmp(what, "scheduler"))
		return show_scheduler();
	if (!strcmp(what, "ioprio"))
		return show_io_priority();
	if (!strcmp(what, "mempolicy"))
		return show_memory_policy();
	if (!strcmp(what, "signals"))
		return show_signals();
	if (!strcmp(what, "clock") && argc > 2)
		return show_clock(argv[2]);
	if (!strcmp(what, "syscall") && argc > 2)
		return do_syscall(argc - 2, argv + 2);
	if (!strcmp(what, "send") && argc > 3)
		return send_datagram(argv[2], argv[3]);
	if (!strcmp(what, "touch") && argc > 2)
		return touch_memory(atol(argv[2]));
	if (!strcmp(what, "hold") && argc > 2)
		return hold_memory(atol(argv[2]));
	if (!strcmp(what, "open") && argc > 2)
		return open_file(argv[2]);
	if (!strcmp(what, "mknod") && argc > 4)
		return make_node(argv[2], argv[3], argv[4]);
	fprintf(stderr, "probe: unknown question\n");
	return 2;
}
