/*
 * pyrunc-init: the last mile of a container's process.
 *
 * A container's first process must not be a Python interpreter: one would be
 * there to see (and to overwrite) behind /proc/PID/exe, it would need megabytes
 * of a memory limit that may be smaller, and nobody should have to trust an
 * interpreter that runs while privileges are dropped. So the builder, once all
 * is prepared, executes this program, which knows nothing about containers. It
 * is handed a list of system calls that Python has compiled, carries them out
 * one after another, and finally executes the user's program.
 *
 * There is no libc, no allocation, no decision here but "did that call fail?".
 *
 *     pyrunc-init FD [FD]  FD: a memory file with a launch program
 *
 * Two programs are for a process that enters another's pid namespace: the first is carried out
 * where the container cannot see it, and is forgotten before the second begins, whose process can
 * be seen, and traced, from its birth. A process 1 may get one for its child through a socket.
 */

#include "../syscall/call.h"
#include "launch.h"
#include "report.h"
#include "processes.h"
#include "check.h"

#ifndef PYRUNC_INIT_HOSTED
__asm__(START);
#endif

static s64 retried(const struct op *op)
{
	u64 first = op->flags & INDIRECT ? *(const u64 *)op->args[0] : op->args[0];
	s64 result;
	u32 times = 0;

	do
		result = call6(op->nr, first, op->args[1], op->args[2],
			       op->args[3], op->args[4], op->args[5]);
	while (interrupted(result, &times));
	return result;
}

/* Wait for one byte. When the other side is gone there is nobody left to tell. */
static void await(int descriptor)
{
	u8 byte;
	s64 result;
	u32 times = 0;

	do
		result = call(NR_read, descriptor, &byte, 1);
	while (interrupted(result, &times));
	if (result != 1)
		end(1);
}

/*
 * The runtime's death is told by the end of the only one who reads what is written to `peer`: that
 * takes no descriptor that could be of use to somebody in the container.
 */
static void await_living(int descriptor, int peer)
{
	struct { int fd; u16 events, revents; } watched[2] = {
		{ descriptor, 1 /* POLLIN */, 0 }, { peer, 0, 0 }
	};
	s64 result;
	u32 times = 0;

	do
		result = call(NR_ppoll, watched, 2, 0, 0, 8);
	while (interrupted(result, &times));
	if (!failed(result) && !watched[0].revents)
		end(1);
	await(descriptor);
}

static void end_by_signal(int signal)
{
	end(128 + signal);
}

/*
 * Python ignores SIGPIPE and SIGXFSZ, and ignored signals stay so across execve. Those in the mask
 * `ending` end this process even as the first of its pid namespace, whom the kernel spares what it
 * has no handler for (pid_namespaces(7)); execve takes the handler away.
 */
static void reset_signals(u64 ending)
{
	/* The kernel's struct sigaction: handler, flags, restorer, mask; all zero is SIG_DFL. */
	u64 usual[4] = { 0, 0, 0, 0 };
	/* x86 delivers nothing without SA_RESTORER; this handler does not return to need it. */
	u64 ended[4] = { (u64)end_by_signal, 0x04000000, (u64)end_by_signal, 0 };
	u64 none = 0;

	for (int signal = 1; signal <= 64; signal++)
		if (signal != SIGKILL && signal != SIGSTOP)
			call(NR_rt_sigaction, signal,
			     signal < 64 && ending >> signal & 1 ? ended : usual, 0, 8);
	call(NR_rt_sigprocmask, 2, &none, 0, 8);
}

static void close_between(u64 first, u64 last)
{
	u64 limit[2];

	if (first > last || !failed(call(NR_close_range, first, last, 0)))
		return;
	/* Before Linux 5.9, or below a filter: one by one, up to the highest number there can be. */
	if (failed(call(NR_prlimit64, 0, 7 /* RLIMIT_NOFILE */, 0, limit)) || limit[1] > 1048576)
		limit[1] = 1048576;
	for (; first <= last && first < limit[1]; first++)
		call(NR_close, first);
}

#define CLOEXEC_TOO 0x80000000u /* flag of a descriptor that is kept: until execve */

static s64 close_others(u64 first, const u32 *kept, u64 count)
{
	for (u64 i = 0; i < count; i++) {
		u32 descriptor = kept[i] & ~CLOEXEC_TOO;

		if (descriptor > first)
			close_between(first, descriptor - 1);
		if (descriptor >= first)
			first = (u64)descriptor + 1;
		if (kept[i] & CLOEXEC_TOO) {
			s64 result = call(NR_fcntl, descriptor, 2 /* F_SETFD */, 1 /* FD_CLOEXEC */);
			if (failed(result))
				return result;
		}
	}
	close_between(first, 0xffffffff);
	return 0;
}

static void load(struct program *program, u64 descriptor);

/* What recvmsg(2) fills in for four descriptors: struct cmsghdr and its data. */
struct passed {
	u64 length;
	int level, type;
	int descriptors[4];
};

/* Wait for stdin, stdout, stderr and a launch program. */
static void receive_program(int socket, int descriptors[4])
{
	u8 byte;
	struct { void *base; u64 length; } content = { &byte, 1 };
	struct passed passed = { 0 };
	struct {
		u64 name, name_length;
		void *contents;
		u64 count;
		void *control;
		u64 control_length;
		u64 flags;
	} message = { 0, 0, &content, 1, &passed, sizeof(passed), 0 };
	s64 result;
	u32 times = 0;

	do
		result = call(NR_recvmsg, socket, &message, 0x40000000 /* MSG_CMSG_CLOEXEC */);
	while (interrupted(result, &times));
	/* As in await(): nobody is left who wants a program. */
	if (result != 1 || passed.length != sizeof(passed) || passed.type != 1 /* SCM_RIGHTS */)
		end(1);
	for (int i = 0; i < 4; i++)
		descriptors[i] = passed.descriptors[i];
}

static void carry_out(const struct program *program, int *report);

/* Everything that came is closed by execve; what is in the way of 0, 1 and 2 is replaced. */
static __attribute__((noreturn)) void become_served(int report, const int descriptors[4])
{
	struct program program;

	for (int i = 0; i < 3; i++)
		if (failed(call(NR_dup3, descriptors[i], i, 0)))
			end(1);
	load(&program, (u64)descriptors[3]);
	carry_out(&program, &report);
	end(1);
}

/*
 * As process 1: bring forth the one that carries the program out, which tells through the socket what
 * fails; that it ends without a word tells that it has executed. This process keeps nothing but the
 * duty to collect orphans, and ends with its child, and thereby all others. How that has ended, and
 * whether anybody was left then, it tells by its own name, which nobody else can change, and which
 * is there until it is collected. `sign`, which is of no use but to be closed, says when to look.
 */
static s64 serve(int socket, int sign)
{
	int descriptors[4], status = 0;

	receive_program(socket, descriptors);
	s64 pid = call(NR_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0)
		become_served(socket, descriptors);
	for (int i = 0; i < 4; i++)
		call(NR_close, descriptors[i]);
	if (failed(pid))
		return pid;
	call(NR_close, socket);
	for (;;) {
		s64 ended = call(NR_wait4, -1, &status, 0, 0);
		if (ended == pid)
			break;
		if (failed(ended) && ended != -EINTR)
			end(1);
	}
	do
		pid = call(NR_wait4, -1, 0, WNOHANG | WALL, 0);
	while (pid > 0);
	take_name(pid == -ECHILD ? "done" : "left", (u32)status);
	/* At its end the kernel would do so late, after it has taken the mounts away. */
	call(NR_close, sign);
	end(0);
}

static s64 share(int descriptor)
{
	s64 mapped = call(NR_mmap, 0, 4096, 3 /* PROT_READ|PROT_WRITE */, 1 /* MAP_SHARED */,
			  descriptor, 0);

	if (failed(mapped))
		return mapped;
	s64 result = call(NR_madvise, mapped, 4096, 10 /* MADV_DONTFORK */);
	if (failed(result))
		return result;
	shared = (struct shared *)mapped;
	return call(NR_close, descriptor);
}

static s64 drop_capabilities(u64 mask)
{
	for (int capability = 0; capability < 64; capability++) {
		if (!(mask >> capability & 1))
			continue;
		s64 result = call(NR_prctl, 24 /* PR_CAPBSET_DROP */, capability);
		if (failed(result))
			return result;
	}
	return 0;
}

static s64 check_cwd(void)
{
	u8 path[4096];
	s64 result = call(NR_getcwd, path, sizeof(path));

	if (failed(result))
		return result;
	/* Outside of the root the kernel's answer starts with "(unreachable)". */
	return path[0] == '/' ? 0 : -ENOENT;
}

static s64 execute(u32 index, const struct op *op, int *report)
{
	switch (op->kind) {
	case CALL:
		return retried(op);
	case AWAIT:
		await((int)op->args[0]);
		return 0;
	case AWAIT_LIVING:
		await_living((int)op->args[0], (int)op->args[1]);
		return 0;
	case REPORT_TO:
		*report = (int)op->args[0];
		return 0;
	case RESET_SIGNALS:
		reset_signals(op->args[0]);
		return 0;
	case CLOSE_OTHERS:
		return close_others(op->args[0], (const u32 *)op->args[1], op->args[2]);
	case SHARE:
		return share((int)op->args[0]);
	case SPAWN: {
		u64 pass = op->args[1];

		/* The sibling shall not know it. */
		*(volatile u64 *)&op->args[1] = 0;
		return spawn(op->args[0], pass, report);
	}
	case SPAWN_INTO:
		spawn_into((int)op->args[0], (int)op->args[1]);
		return 0;
	case CHECK_CWD:
		return check_cwd();
	case HOOK: {
		s64 result = run_hook(op, *report);
		if (result > 0)
			fail(*report, index, op, 0, (u32)result);
		return result;
	}
	case EXEC:
		return call(NR_execve, op->args[0], op->args[1], op->args[2]);
	case DROP_CAPABILITIES:
		return drop_capabilities(op->args[0]);
	case OWN_PID:
		write_own_pid((u8 *)op->args[0], op->args[1], (u8)op->args[2]);
		return 0;
	case SERVE:
		return serve((int)op->args[0], (int)op->args[1]);
	}
	return -ENOSYS;
}

static u64 number_in(const char *text)
{
	u64 number = 0;

	while (*text >= '0' && *text <= '9')
		number = number * 10 + (u64)(*text++ - '0');
	return number;
}

static void load(struct program *program, u64 descriptor)
{
	s64 size = call(NR_lseek, descriptor, 0, 2 /* SEEK_END */);

	if (size < (s64)sizeof(struct header))
		end(1);
	s64 mapped = call(NR_mmap, 0, size, 3 /* PROT_READ|PROT_WRITE */,
			  2 /* MAP_PRIVATE */, descriptor, 0);
	if (failed(mapped))
		end(1);
	call(NR_close, descriptor);
	program->base = (u8 *)mapped;
	program->size = (u64)size;
	if (!make_ready(program))
		end(1);
}

static int ignored(const struct op *op, s64 error)
{
	return op->flags & IGNORE ||
	       (op->flags & MAY_BE_FORBIDDEN && (error == -EPERM || error == -ENOSYS));
}

static void carry_out(const struct program *program, int *report)
{
	int own = ((const struct header *)program->base)->report;
	const struct op *op = program->ops;

	if (own != -1)
		*report = own;
	for (u32 index = 0; index < program->count; index++, op++) {
		s64 result = execute(index, op, report);
		if (failed(result) && !ignored(op, result))
			fail(*report, index, op, result, 0);
		if (op->store)
			*(u64 *)op->store = (u64)result;
	}
}

/* stack: argc, argv[0], argv[1], … as the kernel leaves them (System V ABI). */
__attribute__((noreturn, used)) void run(u64 *stack)
{
	struct program programs[2];
	u64 count = stack[0] - 1;
	int report = -1;

	if (count < 1 || count > 2)
		end(1);
	for (u64 i = 0; i < count; i++)
		load(&programs[i], number_in((const char *)stack[2 + i]));
	for (u64 i = 0; i < count; i++) {
		carry_out(&programs[i], &report);
		if (i + 1 < count)
			call(NR_munmap, programs[i].base, programs[i].size);
	}
	end(0);
}
