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
 *     pyrunc-init FD       FD: a memory file with the launch program
 *
 * Layout of the launch program (little endian; src/pyrunc/process/launch.py
 * writes it):
 *
 *     struct header        32 bytes
 *     u32 relocation[]     offsets of the 8-byte cells that hold an offset into
 *                          the file and must hold an address
 *     struct op[]          aligned to 8
 *     blobs                strings, arrays, structures, the seccomp filter
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef long s64;

#define MAGIC 0x31676e4c /* "Lng1" */

struct header {
	u32 magic;
	u32 size;        /* of the whole file */
	u32 relocations; /* how many */
	u32 ops;         /* how many */
	u32 ops_offset;
	int report;      /* descriptor for a failure record, or -1 */
	u32 reserved[2];
};

enum kind {
	CALL,          /* system call `nr` with `args` */
	AWAIT,         /* read one byte from args[0]; end quietly if there is none */
	REPORT_TO,     /* send failure records to args[0] from now on */
	RESET_SIGNALS, /* default action for every signal, none blocked; args[0]: those that end us */
	CLOEXEC_FROM,  /* mark descriptors from args[0] on close-on-exec */
	SPAWN,         /* go on as a sibling; its pid is written to args[0] */
	SPAWN_INTO,    /* the same, born in the v2 cgroup args[1]; or go on here, with -errno written */
	CHECK_CWD,     /* fail if the working directory is outside the root */
	HOOK,          /* run a program: path, argv, envp, stdin, timeout in seconds */
	EXEC,          /* execve(path, argv, envp) */
	DROP_CAPABILITIES, /* drop those in the mask args[0] from the bounding set */
	LAST_KIND = DROP_CAPABILITIES,
};

#define IGNORE 1 /* flag: a failing call is as good as any */

struct op {
	u32 kind;
	u32 flags;
	u64 nr;
	u64 args[6];
	u64 store; /* address for the result, or 0 */
	u64 label; /* what to call this in an error */
};

struct failure {
	u32 magic;
	u32 index;  /* of the op */
	u32 error;  /* errno, or 0 */
	u32 detail; /* wait status of a hook */
	u32 length; /* of the label that follows */
};

#if defined(__x86_64__)

#define NR_read 0
#define NR_write 1
#define NR_close 3
#define NR_lseek 8
#define NR_mmap 9
#define NR_rt_sigaction 13
#define NR_rt_sigprocmask 14
#define NR_dup3 292
#define NR_clone 56
#define NR_execve 59
#define NR_wait4 61
#define NR_kill 62
#define NR_fcntl 72
#define NR_getcwd 79
#define NR_setpgid 109
#define NR_prctl 157
#define NR_exit_group 231
#define NR_openat 257
#define NR_ppoll 271
#define NR_prlimit64 302

#ifndef PYRUNC_INIT_HOSTED
static inline s64 call6(u64 nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	s64 result;
	register u64 r10 __asm__("r10") = d;
	register u64 r8 __asm__("r8") = e;
	register u64 r9 __asm__("r9") = f;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

__asm__(".global _start\n"
	"_start:\n"
	"	xor %ebp, %ebp\n"
	"	mov %rsp, %rdi\n"
	"	and $-16, %rsp\n"
	"	call run\n"
	"	hlt\n");
#endif

#elif defined(__aarch64__)

#define NR_dup3 24
#define NR_fcntl 25
#define NR_openat 56
#define NR_close 57
#define NR_lseek 62
#define NR_read 63
#define NR_write 64
#define NR_ppoll 73
#define NR_exit_group 94
#define NR_kill 129
#define NR_rt_sigaction 134
#define NR_rt_sigprocmask 135
#define NR_setpgid 154
#define NR_prctl 167
#define NR_getcwd 17
#define NR_clone 220
#define NR_execve 221
#define NR_mmap 222
#define NR_wait4 260
#define NR_prlimit64 261

#ifndef PYRUNC_INIT_HOSTED
static inline s64 call6(u64 nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	register u64 x8 __asm__("x8") = nr;
	register u64 x0 __asm__("x0") = a;
	register u64 x1 __asm__("x1") = b;
	register u64 x2 __asm__("x2") = c;
	register u64 x3 __asm__("x3") = d;
	register u64 x4 __asm__("x4") = e;
	register u64 x5 __asm__("x5") = f;
	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return (s64)x0;
}

__asm__(".global _start\n"
	"_start:\n"
	"	mov x29, #0\n"
	"	mov x0, sp\n"
	"	bl run\n"
	"	brk #1\n");
#endif

#else
#error "pyrunc-init knows x86_64 and aarch64"
#endif

#define NR_pidfd_open 434
#define NR_clone3 435
#define NR_close_range 436

#define EINTR 4
#define ENOENT 2
#define EINVAL 22
#define ENOSYS 38
#define ETIMEDOUT 110
#define AT_FDCWD ((u64)-100)
#define CLONE_PARENT 0x8000
#define CLONE_INTO_CGROUP 0x200000000
#define SIGCHLD 17
#define SIGKILL 9
#define SIGSTOP 19

#define call(nr, ...) call_(nr, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define call_(nr, a, b, c, d, e, f, ...)                                       \
	call6(nr, (u64)(a), (u64)(b), (u64)(c), (u64)(d), (u64)(e), (u64)(f))

static int failed(s64 result)
{
	return result < 0 && result >= -4095;
}

/* A seccomp filter may forbid even to end; no filter holds up the signal of an illegal instruction. */
static __attribute__((noreturn)) void end(int status)
{
	call(NR_exit_group, status);
	__builtin_trap();
}

/* Signals interrupt a call now and then; a seccomp filter that answers EINTR does so for ever. */
static int interrupted(s64 result, u32 *times)
{
	return result == -EINTR && ++*times < 1000;
}

/* Say what failed in one write, so that the reader gets all of it or nothing, and end. */
static __attribute__((noreturn)) void
fail(int report, u32 index, const struct op *op, s64 error, u32 detail)
{
	struct {
		struct failure failure;
		u8 label[512];
	} record;
	const u8 *label = (const u8 *)op->label;
	u32 length = 0;

	while (label && label[length] && length < sizeof(record.label)) {
		record.label[length] = label[length];
		length++;
	}
	record.failure.magic = MAGIC;
	record.failure.index = index;
	record.failure.error = (u32)-error;
	record.failure.detail = detail;
	record.failure.length = length;
	if (report >= 0)
		call(NR_write, report, &record, sizeof(record.failure) + length);
	end(1);
}

static s64 retried(const struct op *op)
{
	s64 result;
	u32 times = 0;

	do
		result = call6(op->nr, op->args[0], op->args[1], op->args[2],
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
			     ending >> signal & 1 ? ended : usual, 0, 8);
	call(NR_rt_sigprocmask, 2, &none, 0, 8);
}

static s64 cloexec_from(u32 first)
{
	u64 limit[2];
	s64 result = call(NR_close_range, first, ~0U, 4 /* CLOSE_RANGE_CLOEXEC */);

	if (result != -ENOSYS && result != -EINVAL)
		return result;
	/* Before Linux 5.11: one by one, up to the highest number a descriptor can have. */
	result = call(NR_prlimit64, 0, 7 /* RLIMIT_NOFILE */, 0, limit);
	if (failed(result))
		return result;
	for (u64 descriptor = first; descriptor < limit[1] && descriptor < 1048576; descriptor++)
		call(NR_fcntl, descriptor, 2 /* F_SETFD */, 1 /* FD_CLOEXEC */);
	return 0;
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

static void tell_number(int descriptor, s64 number)
{
	int told = (int)number;

	call(NR_write, descriptor, &told, sizeof(told));
}

/* The child goes on with the program; this process tells the child's pid and ends. */
static s64 spawn(int descriptor)
{
	/* aarch64 swaps the last two arguments of clone(2); all of them are zero. */
	s64 pid = call(NR_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);

	if (pid > 0) {
		tell_number(descriptor, pid);
		end(0);
	}
	return pid;
}

/* A cgroup that takes no process is no failure: whoever reads the number moves this one. */
static void spawn_into(int descriptor, int cgroup)
{
	/* struct clone_args of clone3(2), version 2: flags first, cgroup last. */
	u64 arguments[11] = { CLONE_PARENT | CLONE_INTO_CGROUP };

	arguments[10] = (u64)cgroup;
	s64 pid = call(NR_clone3, arguments, sizeof(arguments));
	if (pid)
		tell_number(descriptor, pid);
	if (pid > 0)
		end(0);
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

static __attribute__((noreturn)) void become_hook(const struct op *op)
{
	call(NR_setpgid, 0, 0);
	call(NR_lseek, op->args[3], 0, 0);
	call(NR_dup3, op->args[3], 0, 0);
	s64 null = call(NR_openat, AT_FDCWD, "/dev/null", 1 /* O_WRONLY */, 0);
	for (int descriptor = 1; descriptor <= 2; descriptor++)
		if (failed(null))
			call(NR_close, descriptor);
		else
			call(NR_dup3, null, descriptor, 0);
	if (null > 2)
		call(NR_close, null);
	call(NR_execve, op->args[0], op->args[1], op->args[2]);
	end(127);
}

/* Returns 0, an errno, or a positive wait status. */
static s64 run_hook(const struct op *op)
{
	int status = 0;
	u32 times = 0;
	s64 result;
	s64 pid = call(NR_clone, SIGCHLD, 0, 0, 0, 0);

	if (pid == 0)
		become_hook(op);
	if (failed(pid))
		return pid;
	if (op->args[4]) {
		s64 time[2] = { (s64)op->args[4], 0 };
		struct { int fd; u16 events, revents; } watched = { 0, 1, 0 };

		result = call(NR_pidfd_open, pid, 0);
		if (failed(result))
			return result;
		watched.fd = (int)result;
		/* The kernel counts `time` down, so that an interrupted wait goes on. */
		do
			result = call(NR_ppoll, &watched, 1, time, 0, 8);
		while (interrupted(result, &times));
		call(NR_close, watched.fd);
		if (result == 0) {
			call(NR_kill, -pid, SIGKILL);
			call(NR_wait4, pid, &status, 0, 0);
			return -ETIMEDOUT;
		}
	}
	do
		result = call(NR_wait4, pid, &status, 0, 0);
	while (interrupted(result, &times));
	return failed(result) ? result : status;
}

static s64 execute(u32 index, const struct op *op, int *report)
{
	switch (op->kind) {
	case CALL:
		return retried(op);
	case AWAIT:
		await((int)op->args[0]);
		return 0;
	case REPORT_TO:
		*report = (int)op->args[0];
		return 0;
	case RESET_SIGNALS:
		reset_signals(op->args[0]);
		return 0;
	case CLOEXEC_FROM:
		return cloexec_from((u32)op->args[0]);
	case SPAWN:
		return spawn((int)op->args[0]);
	case SPAWN_INTO:
		spawn_into((int)op->args[0], (int)op->args[1]);
		return 0;
	case CHECK_CWD:
		return check_cwd();
	case HOOK: {
		s64 result = run_hook(op);
		if (result > 0)
			fail(*report, index, op, 0, (u32)result);
		return result;
	}
	case EXEC:
		return call(NR_execve, op->args[0], op->args[1], op->args[2]);
	case DROP_CAPABILITIES:
		return drop_capabilities(op->args[0]);
	}
	return -ENOSYS;
}

#include "check.h"

static u64 number_in(const char *text)
{
	u64 number = 0;

	while (*text >= '0' && *text <= '9')
		number = number * 10 + (u64)(*text++ - '0');
	return number;
}

/* stack: argc, argv[0], argv[1], … as the kernel leaves them (System V ABI). */
__attribute__((noreturn, used)) void run(u64 *stack)
{
	if (stack[0] < 2)
		end(1);
	u64 descriptor = number_in((const char *)stack[2]);
	s64 size = call(NR_lseek, descriptor, 0, 2 /* SEEK_END */);
	if (size < (s64)sizeof(struct header))
		end(1);
	s64 mapped = call(NR_mmap, 0, size, 3 /* PROT_READ|PROT_WRITE */,
			  2 /* MAP_PRIVATE */, descriptor, 0);
	if (failed(mapped))
		end(1);
	call(NR_close, descriptor);

	struct program program = { .base = (u8 *)mapped, .size = (u64)size };
	if (!make_ready(&program))
		end(1);
	const struct op *op = program.ops;
	int report = ((struct header *)program.base)->report;
	for (u32 index = 0; index < program.count; index++, op++) {
		s64 result = execute(index, op, &report);
		if (failed(result) && !(op->flags & IGNORE))
			fail(report, index, op, result, 0);
		if (op->store)
			*(u64 *)op->store = (u64)result;
	}
	end(0);
}
