/*
 * A tracer that lives in a container: it seizes every other process of its pid namespace as soon
 * as there is one, walks it from system call to system call, writes down what it holds at each
 * stop, and tries to use it.
 *
 *     tracer SECRET PLANT [PID]
 *
 * SECRET: a file of the host, by its path there. PLANT: a file to be made there. PID: a number to
 * be written, as an int of 4 bytes, into each pipe that is found. The word to look for in memory is
 * in /marker, what is found goes to /report, and /stop ends it all. Lines of the report, fields
 * parted by tabs; what has been written once is not repeated:
 *
 *     pid  system call, or what else it stopped for  kind  what, as in `traced.py`
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#define PIDS 65536
#define UP "/../../../../../../../../../../../../../../../../../../../../../.."

static const char *secret, *plant;
static int forged;
static char marker[64];
static FILE *report;
static char moment[64];
static enum { UNKNOWN, TRACED, REFUSED } known[PIDS];
static unsigned stops[PIDS];
static char own_namespaces[4096], own_cgroup[4096];

/* Say something that has not been said before, of this process or, if `common`, of any. */
static void say_of(int pid, int common, const char *format, va_list arguments)
{
	static unsigned long said[1 << 20];
	char line[8192];

	vsnprintf(line, sizeof(line), format, arguments);
	unsigned long hash = 1469598103934665603UL + (common ? 0 : (unsigned long)pid);
	for (const char *at = line; *at; at++)
		hash = (hash ^ (unsigned char)*at) * 1099511628211UL;
	hash |= 1;
	for (unsigned long slot = hash;; slot++) {
		unsigned long *there = &said[slot % (1 << 20)];
		if (*there == hash)
			return;
		if (!*there) {
			*there = hash;
			break;
		}
	}
	fprintf(report, "%d\t%s\t%s\n", pid, moment, line);
	fflush(report);
}

static void say(int pid, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say_of(pid, 1, format, arguments);
	va_end(arguments);
}

/* Say what tells which process it is. */
static void say_own(int pid, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say_of(pid, 0, format, arguments);
	va_end(arguments);
}

/* Read a file as text: line ends and zero bytes become \1. */
static size_t text_of(const char *path, char *text, size_t size)
{
	int descriptor = open(path, O_RDONLY | O_CLOEXEC);
	size_t length = 0;

	text[0] = 0;
	if (descriptor < 0)
		return 0;
	for (;;) {
		ssize_t got = read(descriptor, text + length, size - 1 - length);
		if (got <= 0)
			break;
		length += (size_t)got;
	}
	close(descriptor);
	for (size_t i = 0; i < length; i++)
		if (text[i] == '\n' || !text[i])
			text[i] = 1;
	text[length] = 0;
	return length;
}

static void link_of(const char *path, char *text, size_t size)
{
	ssize_t length = readlink(path, text, size - 1);

	text[length > 0 ? length : 0] = 0;
}

/* Try to reach the host from a directory, by name and by going up. */
static void try_directory(int pid, const char *what, const char *directory)
{
	static const char *const ways[] = { "", UP };
	char path[8192], text[64] = "";

	for (int way = 0; way < 2; way++) {
		snprintf(path, sizeof(path), "%s%s%s", directory, ways[way], secret);
		int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (descriptor >= 0) {
			if (read(descriptor, text, sizeof(text) - 1) > 0)
				say(pid, "used\tread the host's secret through its %s", what);
			close(descriptor);
		}
		snprintf(path, sizeof(path), "%s%s%s", directory, ways[way], plant);
		descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
		if (descriptor >= 0) {
			say(pid, "used\tplanted a file on the host through its %s", what);
			close(descriptor);
		}
	}
}

/* Report where a magic link leads. Fields: name, link, device, inode, mode, whether it is the file
   of that name in here, whether it can be opened for writing. */
static struct stat look(int pid, const char *kind, const char *name, const char *path)
{
	char link[4096];
	struct stat status, same;

	memset(&status, 0, sizeof(status));
	link_of(path, link, sizeof(link));
	if (!link[0] || stat(path, &status))
		return status;
	int here = link[0] == '/' && !stat(link, &same) && same.st_dev == status.st_dev &&
		   same.st_ino == status.st_ino;
	int writing = S_ISDIR(status.st_mode) ? -1 : open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	say(pid, "%s\t%s\t%s\t%lu\t%lu\t%o\t%s\t%s", kind, name, link, status.st_dev, status.st_ino,
	    status.st_mode, here ? "here" : "elsewhere", writing >= 0 ? "writable" : "");
	if (writing >= 0)
		close(writing);
	return status;
}

static void look_at_descriptors(int pid)
{
	char path[512], what[4200], text[4096];
	struct dirent *entry;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	DIR *directory = opendir(path);
	if (!directory) {
		say(pid, "closed\tits descriptors: %s", strerror(errno));
		return;
	}
	while ((entry = readdir(directory))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/fd/%.16s", pid, entry->d_name);
		struct stat status = look(pid, "fd", entry->d_name, path);
		link_of(path, text, sizeof(text));
		snprintf(what, sizeof(what), "descriptor of %s", text);
		if (S_ISDIR(status.st_mode))
			try_directory(pid, what, path);
		if (forged && S_ISFIFO(status.st_mode) && atoi(entry->d_name) > 2) {
			int pipe = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
			if (pipe >= 0 && write(pipe, &forged, sizeof(forged)) == sizeof(forged))
				say(pid, "forged\ta message in its %s", what);
			if (pipe >= 0)
				close(pipe);
		}
	}
	closedir(directory);
}

/* Report what is mapped, and where the marker is. */
static void look_at_memory(int pid, int search)
{
	static char block[1 << 16];
	char path[64], line[4200], name[4096], rights[8];
	unsigned long first, last, inode;

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	int memory = open(path, O_RDWR | O_CLOEXEC);
	if (memory >= 0)
		say(pid, "memory\topen");
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	FILE *maps = fopen(path, "re");
	while (maps && fgets(line, sizeof(line), maps)) {
		name[0] = 0;
		if (sscanf(line, "%lx-%lx %7s %*s %*s %lu %4095[^\n]", &first, &last, rights, &inode, name) < 4)
			continue;
		struct stat same;
		int here = name[0] == '/' && !stat(name, &same) && same.st_ino == inode;
		if (!strncmp(name, "/memfd:", 7))
			inode = 0;
		if (name[0])
			say(pid, "map\t%s\t%lu\t%s", name, inode, here ? "here" : "elsewhere");
		if (memory < 0 || !search || rights[0] != 'r' || !marker[0] || last - first > 64UL << 20)
			continue;
		/* Blocks overlap by the marker's length. */
		for (unsigned long at = first; at < last; at += sizeof(block) - sizeof(marker)) {
			ssize_t got = pread(memory, block, sizeof(block), (off_t)at);
			if (got <= 0)
				break;
			if (memmem(block, (size_t)got, marker, strlen(marker)))
				say(pid, "used\tread the runtime's environment in its memory (%s)", name);
		}
	}
	if (maps)
		fclose(maps);
	if (memory >= 0)
		close(memory);
}

static void namespaces_of(const char *process, char *text, size_t size)
{
	static const char *const kinds[] = { "cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts" };
	char path[128], link[128];

	text[0] = 0;
	for (unsigned i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		snprintf(path, sizeof(path), "/proc/%s/ns/%s", process, kinds[i]);
		link_of(path, link, sizeof(link));
		if (link[0])
			snprintf(text + strlen(text), size - strlen(text), "%s\1", link);
	}
}

/* Of a process that ends (PF_EXITING) or has ended, v1 hierarchies show the root cgroup, and only
   some of its namespaces can be told. */
static int has_ended(int pid)
{
	char path[64], text[1024], state;
	unsigned flags;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (!text_of(path, text, sizeof(text)))
		return 1;
	const char *rest = strrchr(text, ')');
	if (!rest || sscanf(rest + 1, " %c %*d %*d %*d %*d %*d %u", &state, &flags) != 2)
		return 0;
	return state == 'Z' || state == 'X' || flags & 4;
}

static void look_at_privileges(int pid)
{
	static const char *const names[] = { "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",
					     "Uid", "Gid", "Seccomp" };
	char path[64], text[16384], number[16];

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	text_of(path, text, sizeof(text));
	for (char *line = strtok(text, "\1"); line; line = strtok(NULL, "\1"))
		for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++) {
			size_t length = strlen(names[i]);
			if (!strncmp(line, names[i], length) && line[length] == ':')
				say_own(pid, "status\t%s\t%s", names[i], line + length + 2);
		}
	snprintf(number, sizeof(number), "%d", pid);
	namespaces_of(number, text, sizeof(text));
	if (text[0] && strcmp(text, own_namespaces) && !has_ended(pid))
		say_own(pid, "namespaces\t%s", text);
	snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
	if (text_of(path, text, sizeof(text)) && strcmp(text, own_cgroup) &&
	    !has_ended(pid))
		say(pid, "cgroup\t%s", text);
	snprintf(path, sizeof(path), "/proc/%d/environ", pid);
	if (text_of(path, text, sizeof(text)))
		for (char *line = strtok(text, "\1"); line; line = strtok(NULL, "\1"))
			say(pid, "environ\t%s", line);
}

static void inspect(int pid)
{
	static const char *const links[] = { "exe", "cwd", "root" };
	char path[64];

	if (!stops[pid]) {
		char exe[4096];
		snprintf(path, sizeof(path), "/proc/%d/exe", pid);
		link_of(path, exe, sizeof(exe));
		say(pid, "first\t%d\t%s", pid, exe);
	}
	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "/proc/%d/%s", pid, links[i]);
		struct stat status = look(pid, links[i], links[i], path);
		if (S_ISDIR(status.st_mode))
			try_directory(pid, links[i], path);
	}
	look_at_descriptors(pid);
	look_at_privileges(pid);
	look_at_memory(pid, stops[pid] % 16 == 0);
	stops[pid]++;
}

static void name_moment(int pid, int status)
{
	struct __ptrace_syscall_info info;

	snprintf(moment, sizeof(moment), "signal %d", WSTOPSIG(status));
	if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) <= 0)
		return;
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
		snprintf(moment, sizeof(moment), "before %llu", (unsigned long long)info.entry.nr);
	else if (info.op == PTRACE_SYSCALL_INFO_EXIT)
		snprintf(moment, sizeof(moment), "after, %lld", (long long)info.exit.rval);
}

/* Inspect whoever has stopped, and let it go to its next stop. */
static void attend(void)
{
	int status, pid;

	while ((pid = waitpid(-1, &status, __WALL | WNOHANG)) > 0) {
		if (!WIFSTOPPED(status)) {
			if (pid < PIDS)
				known[pid] = UNKNOWN, stops[pid] = 0;
			continue;
		}
		int event = status >> 16, signal = WSTOPSIG(status);
		name_moment(pid, status);
		if (pid < PIDS)
			inspect(pid);
		/* A signal is delivered; stops of the tracer's own making deliver none. */
		ptrace(PTRACE_SYSCALL, pid, 0, event || signal == (SIGTRAP | 0x80) ? 0 : signal);
	}
}

static void seize(int pid)
{
	if (pid == getpid() || known[pid] == TRACED)
		return;
	if (!ptrace(PTRACE_SEIZE, pid, 0,
		    PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEFORK |
			    PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE)) {
		ptrace(PTRACE_INTERRUPT, pid, 0, 0);
		known[pid] = TRACED;
		strcpy(moment, "seized");
	} else if (errno != ESRCH && known[pid] != REFUSED) {
		known[pid] = REFUSED;
		strcpy(moment, "refused");
		say(pid, "refused\t%d\t%s", pid, strerror(errno));
		inspect(pid);
	} else if (errno == ESRCH) {
		known[pid] = UNKNOWN;
	}
}

int main(int count, char **words)
{
	int last = getpid();

	secret = words[1];
	plant = words[2];
	forged = count > 3 ? atoi(words[3]) : 0;
	report = fopen("/report", "we");
	text_of("/marker", marker, sizeof(marker));
	namespaces_of("self", own_namespaces, sizeof(own_namespaces));
	text_of("/proc/self/cgroup", own_cgroup, sizeof(own_cgroup));
	fclose(fopen("/ready", "we"));
	for (unsigned round = 0; access("/stop", F_OK); round++) {
		/* Numbers are given in order: the next ones are waited for, the others looked at now and then. */
		int from = round % 64 ? last + 1 : 1;
		for (int pid = from; pid < last + 8 && pid < PIDS; pid++) {
			seize(pid);
			if (pid > last && known[pid] != UNKNOWN)
				last = pid;
		}
		attend();
	}
	say(0, "end");
	return 0;
}
