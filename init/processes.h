/* The processes that init brings forth: its own successor elsewhere, and hooks. */

/*
 * The child goes on with the program. Its pid is in the page before it runs. With CLONE_VFORK the
 * kernel holds this process up until the child has executed or ended: so the runtime hears of it
 * without a pipe that the container could see.
 */
static s64 spawn(u64 until_executed, int *report)
{
	u64 flags = CLONE_PARENT | CLONE_PARENT_SETTID | (until_executed ? CLONE_VFORK : 0);

	if (!shared)
		return -EINVAL;
	/* aarch64 swaps the last two arguments of clone(2); they are zero. */
	s64 pid = call(NR_clone, flags | SIGCHLD, 0, &shared->pid, 0, 0);

	if (failed(pid)) {
		/* struct clone_args of clone3(2): flags, pidfd, child_tid, parent_tid, signal, stack … */
		u64 arguments[8] = { flags, 0, 0, (u64)&shared->pid };

		s64 second = call(NR_clone3, arguments, sizeof(arguments));
		/* What the older call said is the reason: this one may just not be known. */
		pid = failed(second) ? pid : second;
	}
	if (pid > 0)
		end(0);
	if (pid == 0) {
		shared = 0;
		*report = BY_STATUS;
	}
	return pid;
}

/* A cgroup that takes no process is no failure: whoever reads the number moves this one. */
static void spawn_into(int descriptor, int cgroup)
{
	/* Version 2 of struct clone_args: the cgroup comes last. */
	u64 arguments[11] = { CLONE_PARENT | CLONE_INTO_CGROUP };

	arguments[10] = (u64)cgroup;
	s64 pid = call(NR_clone3, arguments, sizeof(arguments));
	if (pid) {
		int told = (int)pid;

		call(NR_write, descriptor, &told, sizeof(told));
	}
	if (pid > 0)
		end(0);
}

static void write_own_pid(u8 *to, u64 width, u8 filling)
{
	u64 number = (u64)call(NR_getpid), digits = 1;

	for (u64 rest = number; rest > 9; rest /= 10)
		digits++;
	for (u64 at = width; at-- > 0;) {
		to[at] = at < digits ? (u8)('0' + number % 10) : filling;
		if (at < digits)
			number /= 10;
	}
}

/* What seccomp(2) takes for a filter that the hook and the program get: flags, struct sock_fprog. */
struct filter {
	u64 flags;
	u64 program;
};

static __attribute__((noreturn)) void become_hook(const struct op *op)
{
	const struct filter *filter = (const struct filter *)op->args[5];
	int output = (int)op->nr;

	call(NR_setpgid, 0, 0);
	call(NR_lseek, op->args[3], 0, 0);
	call(NR_dup3, op->args[3], 0, 0);
	for (int descriptor = 1; output >= 0 && descriptor <= 2; descriptor++)
		call(NR_dup3, output, descriptor, 0);
	if (filter && failed(call(NR_seccomp, 1 /* SECCOMP_SET_MODE_FILTER */, filter->flags,
				  filter->program)))
		end(126);
	call(NR_execve, op->args[0], op->args[1], op->args[2]);
	end(127);
}

/*
 * Wait until the child has ended: 1, also where that cannot be told. 0 when it took longer than
 * `seconds` (0: any time), -EPIPE when nobody reads any more from `asker`, the fifo that `start`
 * waits at: it was killed.
 */
static s64 ended_within(s64 pid, s64 seconds, int asker)
{
	s64 time[2] = { seconds, 0 };
	struct { int fd; u16 events, revents; } watched[2] = { { 0, 1, 0 }, { asker, 0, 0 } };
	u32 times = 0;
	s64 result = call(NR_pidfd_open, pid, 0);

	if (failed(result)) {
		/* Before Linux 5.3, or below a filter: look every hundredth of a second. */
		for (s64 left = seconds * 100; !seconds || left > 0; left--) {
			s64 pause[2] = { 0, 10000000 };
			u64 info[16];

			result = call(NR_waitid, 1 /* P_PID */, pid, info, 0x1000005 /* WNOHANG|WEXITED|WNOWAIT */, 0);
			if (failed(result) || (int)info[0])
				return 1;
			call(NR_ppoll, &watched[1], 1, pause, 0, 8);
			if (watched[1].revents)
				return -EPIPE;
		}
		return 0;
	}
	watched[0].fd = (int)result;
	/* The kernel counts `time` down, so that an interrupted wait goes on. */
	do
		result = call(NR_ppoll, watched, 2, seconds ? time : 0, 0, 8);
	while (interrupted(result, &times));
	call(NR_close, watched[0].fd);
	if (failed(result) || !result)
		return !!result;
	return watched[0].revents ? 1 : -EPIPE;
}

/* Returns 0, an errno, or a positive wait status. */
static s64 run_hook(const struct op *op, int asker)
{
	int status = 0;
	u32 times = 0;
	s64 result;
	s64 pid = call(NR_clone, SIGCHLD, 0, 0, 0, 0);

	if (pid == 0)
		become_hook(op);
	if (failed(pid))
		return pid;
	s64 ended = ended_within(pid, (s64)op->args[4], asker);
	if (ended != 1) {
		call(NR_kill, -pid, SIGKILL);
		call(NR_kill, pid, SIGKILL);
		call(NR_wait4, pid, &status, 0, 0);
		return ended ? ended : -ETIMEDOUT;
	}
	do
		result = call(NR_wait4, pid, &status, 0, 0);
	while (interrupted(result, &times));
	return failed(result) ? result : status;
}
