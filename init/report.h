/*
 * How init says what failed: in a record to a descriptor, in a page that it shares with the runtime,
 * or, where the container could see either, by its exit status.
 */

struct failure {
	u32 magic;
	u32 index;  /* of the op */
	u32 error;  /* errno, or 0 */
	u32 detail; /* wait status of a hook */
	u32 length; /* of the label that follows; after it comes what a hook printed */
};

/* As much as a pipe takes in one write is 4096 bytes (pipe(7), PIPE_BUF). */
struct record {
	struct failure failure;
	u8 text[512 + 1024];
};

/*
 * A page that the runtime reads. The kernel gives it to no child (MADV_DONTFORK), so that a
 * process that the container can see has nothing to write to.
 */
struct shared {
	int pid; /* of the sibling, written by the kernel at its birth (CLONE_PARENT_SETTID) */
	int unused;
	struct record record;
};

static struct shared *shared;

/*
 * In place of a descriptor for failure records: end with the errno as exit status. The runtime
 * tells by the kernel (PF_FORKNOEXEC in proc_pid_stat(5)) that nothing was executed, and by the
 * process's name which call it was; without a name it was execve.
 */
#define BY_STATUS (-2)

#define EPERM 1
#define ENOENT 2
#define EINTR 4
#define ECHILD 10
#define EINVAL 22
#define EPIPE 32
#define ETIMEDOUT 110
#define ENOSYS 38
#define WNOHANG 1
#define WALL 0x40000000
#define CLONE_VFORK 0x4000
#define CLONE_PARENT 0x8000
#define CLONE_PARENT_SETTID 0x100000
#define CLONE_INTO_CGROUP 0x200000000
#define SIGCHLD 17
#define SIGKILL 9
#define SIGSTOP 19

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

static u32 copied(u8 *to, const u8 *text, u32 most)
{
	u32 length = 0;

	while (text && text[length] && length < most) {
		to[length] = text[length];
		length++;
	}
	return length;
}

/* Take a name of four letters and a number: a process's has room for 15 characters. */
static void take_name(const char *letters, u32 number)
{
	char name[16] = { letters[0], letters[1], letters[2], letters[3], ' ' };
	u32 digits = 1;

	for (u32 rest = number; rest > 9; rest /= 10)
		digits++;
	for (u32 at = 5 + digits; at-- > 5; number /= 10)
		name[at] = (char)('0' + number % 10);
	call(NR_prctl, 15 /* PR_SET_NAME */, name);
}

/* Say what failed in one go, so that the reader gets all of it or nothing, and end. */
static __attribute__((noreturn)) void
fail(int report, u32 index, const struct op *op, s64 error, u32 detail)
{
	struct record own, *record = shared ? &shared->record : &own;
	s64 printed = 0;
	u32 length;

	if (report == BY_STATUS && !shared) {
		if (op->kind != EXEC)
			take_name("call", index);
		end(error ? (int)-error : 255);
	}
	length = copied(record->text, (const u8 *)op->label, 512);
	if (op->kind == HOOK && (int)op->nr >= 0)
		printed = call(NR_pread64, op->nr, record->text + length, 1024, 0);
	if (failed(printed))
		printed = 0;
	record->failure.index = index;
	record->failure.error = (u32)-error;
	record->failure.detail = detail;
	record->failure.length = length;
	record->failure.magic = MAGIC;
	if (!shared && report >= 0)
		call(NR_write, report, record, sizeof(record->failure) + length + (u64)printed);
	end(1);
}
