/*
 * Runs a command with all its children from system call to system call, and interferes once.
 *
 *     stepper REPORT count 0 COMMAND…       nothing happens; the report lists all calls
 *     stepper REPORT kill N COMMAND…        whoever returns from the Nth call is killed (SIGKILL)
 *     stepper REPORT kill-first N COMMAND…  the command itself is killed at that moment
 *     stepper REPORT kill-call N COMMAND…   the first child to return from system call number N is
 *     stepper REPORT ERRNO N COMMAND…       the Nth call is not made, and fails with this number
 *     stepper REPORT call-alone N COMMAND…  after the Nth call the shell command $STEPPER_CALL is run,
 *                                           for a moment (0.2 s) with the command held, then beside it
 *
 * With `-alone` (count-alone, kill-alone) the command's children are not traced, nor are their calls.
 *
 * Lines of the report: `call PID NUMBER` for each call when counting; `hit PID NUMBER` for the one
 * that was interfered with; `alive PID` for each process that is there when the command itself has
 * ended; `called N`, the wait status of $STEPPER_CALL; `hung` when it has not after 60 seconds; `status N`, the command's wait status. Processes
 * that are left go on without a tracer.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define MANY 4096
#define SECONDS 60

static FILE *report;
static pid_t first, traced[MANY];
static int hung;
static pid_t called;
static int called_status = -1;

static void remember(pid_t pid)
{
	for (int i = 0; i < MANY; i++)
		if (traced[i] == pid)
			return;
	for (int i = 0; i < MANY; i++)
		if (!traced[i]) {
			traced[i] = pid;
			return;
		}
}

static void forget(pid_t pid)
{
	for (int i = 0; i < MANY; i++)
		if (traced[i] == pid)
			traced[i] = 0;
}

static void give_up(int signal)
{
	(void)signal;
	hung = 1;
	kill(first, SIGKILL);
}

/* Skip the call that is about to be made: no call has the number -1. */
static void skip(pid_t pid)
{
	struct user_regs_struct registers;

	ptrace(PTRACE_GETREGS, pid, 0, &registers);
	registers.orig_rax = (unsigned long long)-1;
	ptrace(PTRACE_SETREGS, pid, 0, &registers);
}

static void answer(pid_t pid, int error)
{
	struct user_regs_struct registers;

	ptrace(PTRACE_GETREGS, pid, 0, &registers);
	registers.rax = (unsigned long long)-(long long)error;
	ptrace(PTRACE_SETREGS, pid, 0, &registers);
}

static void call(void)
{
	called = fork();
	if (!called) {
		const char *command = getenv("STEPPER_CALL");
		execl("/bin/sh", "sh", "-c", command ? command : "exit 2", (char *)NULL);
		_exit(127);
	}
	usleep(200000);
}

int main(int count, char **words)
{
	if (count < 5)
		return 2;
	report = fopen(words[1], "we");
	const char *mode = words[2];
	unsigned long calls = 0, wanted = strtoul(words[3], NULL, 10);
	int error = atoi(mode), go[2], status, final = 0, listing = !strncmp(mode, "count", 5);
	int alone = strstr(mode, "-alone") != NULL, calling = !strncmp(mode, "call", 4);
	int by_number = !strcmp(mode, "kill-call"), found = 0;
	pid_t failing = 0, pid;

	if (!report || pipe(go))
		return 2;
	first = fork();
	if (!first) {
		char byte;
		close(go[1]);
		if (read(go[0], &byte, 1) != 1)
			_exit(2);
		close(go[0]);
		execvp(words[4], words + 4);
		_exit(127);
	}
	long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC;
	if (!alone)
		options |= PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE;
	if (ptrace(PTRACE_SEIZE, first, 0, options))
		return 2;
	ptrace(PTRACE_INTERRUPT, first, 0, 0);
	struct sigaction action = { .sa_handler = give_up };
	sigaction(SIGALRM, &action, NULL);
	alarm(SECONDS);
	if (write(go[1], "!", 1) != 1)
		return 2;
	close(go[0]);
	close(go[1]);
	remember(first);

	while ((pid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
		if (pid < 0)
			continue;
		if (called && pid == called) {
			called_status = status;
			continue;
		}
		if (!WIFSTOPPED(status)) {
			forget(pid);
			if (pid == first) {
				final = status;
				break;
			}
			continue;
		}
		remember(pid);
		int event = status >> 16, signal = WSTOPSIG(status);
		if (signal == (SIGTRAP | 0x80)) {
			struct __ptrace_syscall_info info;
			ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info);
			int entry = info.op == PTRACE_SYSCALL_INFO_ENTRY, hit = 0;
			if (entry && ++calls && listing)
				fprintf(report, "call %d %lu\n", pid, (unsigned long)info.entry.nr);
			if (entry && !listing && !found)
				found = hit = by_number ? pid != first && info.entry.nr == wanted
							: calls == wanted;
			if (hit)
				fprintf(report, "hit %d %lu\n", pid, (unsigned long)info.entry.nr);
			if (hit && error) {
				skip(pid);
				failing = pid;
			} else if (!entry && error && failing == pid) {
				answer(pid, error);
				failing = 0;
			} else if (hit) {
				failing = pid;
			} else if (!entry && failing == pid) {
				if (calling)
					call();
				else
					kill(strcmp(mode, "kill-first") ? pid : first, SIGKILL);
				failing = 0;
			}
		}
		/* Of signals only those are delivered that were sent; stops of the tracer's own are not. */
		ptrace(PTRACE_SYSCALL, pid, 0, event || signal == (SIGTRAP | 0x80) ? 0 : signal);
	}
	alarm(0);
	for (int i = 0; i < MANY; i++)
		if (traced[i])
			fprintf(report, "alive %d\n", traced[i]);
	if (hung)
		fprintf(report, "hung\n");
	if (called) {
		if (called_status < 0)
			waitpid(called, &called_status, 0);
		fprintf(report, "called %d\n", called_status);
	}
	fprintf(report, "status %d\n", final);
	fclose(report);
	return 0;
}
