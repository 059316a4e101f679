/* The processes that init brings forth: its own successor elsewhere, and hooks. */

/*
 * The child goes on with the program. Its pid is in the page before it runs. With CLONE_VFORK the
 * kernel holds this process up until the child has executed or ended: so the runtime hears of it
 * without a pipe that the container could see.
 *
 * `pass` is an argument that clone(2) does not have: a filter may let this call through by it.
 */
static s64 spawn(u64 until_executed, u64 pass, int *report)
{
	u64 flags = CLONE_PARENT | CLONE_PARENT_SETTID | (until_executed ? CLONE_VFORK : 0);

	if (!shared)
		return -EINVAL;
	/* aarch64 swaps the last two arguments of clone(2); they are zero. */
	s64 pid = call(NR_clone, flags | SIGCHLD, 0, &shared->pid, 0, 0, pass);

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

/* A handler that does nothing, so that the end of a child interrupts ppoll(2). */
static void note(int signal)
{
	(void)signal;
}

#define SA_RESTORER 0x04000000
#ifdef __x86_64__
/* Where it returns to; other processors' kernels bring that along (vdso(7)). */
void back_from_signal(void) __attribute__((visibility("hidden")));
__asm__(".text\nback_from_signal:\n\tmov $15, %eax /* rt_sigreturn */\n\tsyscall\n");
#define RETURNING SA_RESTORER, (u64)back_from_signal
#else
#define RETURNING 0, 0
#endif

/* How SIGCHLD is treated: the mask of what is blocked, and the kernel's struct sigaction. */
struct treatment {
	u64 mask;
	u64 action[4];
};

/* Have the end of a child interrupt those waits alone that let it. */
static void expect_child(struct treatment *before)
{
	u64 caught[4] = { (u64)note, RETURNING, 0 };
	u64 mask = 1 << (SIGCHLD - 1);

	call(NR_rt_sigprocmask, 0 /* SIG_BLOCK */, &mask, &before->mask, 8);
	call(NR_rt_sigaction, SIGCHLD, caught, before->action, 8);
}

static void expect_no_child(const struct treatment *before)
{
	call(NR_rt_sigaction, SIGCHLD, before->action, 0, 8);
	call(NR_rt_sigprocmask, 2 /* SIG_SETMASK */, &before->mask, 0, 8);
}

/*
 * Wait until the child has ended: 1, also where that cannot be told. 0 when it took longer than
 * `seconds` (0: any time), -EPIPE when nobody reads any more from `asker`, the fifo that `start`
 * waits at: it was killed. No descriptor of the child is opened: others may look at what is open here.
 */
static s64 ended_within(s64 pid, s64 seconds, int asker)
{
	/* The kernel counts `time` down, so that an interrupted wait goes on. */
	s64 time[2] = { seconds, 0 };
	struct { int fd; u16 events, revents; } watched = { asker, 0, 0 };
	u64 none = 0;

	for (;;) {
		u64 info[16];
		s64 found;

		info[0] = 0;
		found = call(NR_waitid, 1 /* P_PID */, pid, info,
			     0x1000005 /* WNOHANG|WEXITED|WNOWAIT */, 0);
		if (failed(found) || (int)info[0])
			return 1;
		found = call(NR_ppoll, &watched, 1, seconds ? time : 0, &none, 8);
		if (found == 0)
			return 0;
		if (!failed(found))
			return -EPIPE;
		if (found != -EINTR)
			return 1;
	}
}

/* Returns 0, an errno, or a positive wait status. */
static s64 run_hook(const struct op *op, int asker)
{
	struct treatment before = { 0 };
	int status = 0;
	u32 times = 0;
	s64 result;

	expect_child(&before);
	s64 pid = call(NR_clone, SIGCHLD, 0, 0, 0, 0);

	if (pid == 0) {
		expect_no_child(&before);
		become_hook(op);
	}
	s64 ended = failed(pid) ? 1 : ended_within(pid, (s64)op->args[4], asker);
	expect_no_child(&before);
	if (failed(pid))
		return pid;
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
