/*
 * pyrunc.linux._freeze: stops an interpreter at a point where a snapshot of it
 * can be taken, and lets it go on from there wherever it is put back
 * (docs/snapshot.md; launcher/restore.c is the other half).
 *
 * It needs no headers of a Python and no libc (syscall/module.h).
 */

#include "../launcher/snapshot.h"
#include "../syscall/module.h"

extern PyObject *PyExc_RuntimeError;
extern void PyErr_SetString(PyObject *type, const char *text);

static PyObject *refused(const char *why)
{
	PyErr_SetString(PyExc_RuntimeError, why);
	return 0;
}

#if defined(__x86_64__)

#define PR_GET_TID_ADDRESS 40
#define ARCH_GET_FS 0x1003
#define SS_DISABLE 2
#define RSEQ_FLAG_UNREGISTER 1
#define RSEQ_SIG 0x53053053
/* Of the thread's control block, glibc's own: which features of CET are on. */
#define FEATURE_1 0x48

/* glibc's; another C library has none of them, or not all. */
extern char **environ __attribute__((weak));
extern void *__curbrk __attribute__((weak));
extern const Py_ssize_t __rseq_offset __attribute__((weak));
extern const u32 __rseq_size __attribute__((weak));

extern PyObject *PyList_New(Py_ssize_t);
extern int PyList_Append(PyObject *, PyObject *);
extern PyObject *PyTuple_New(Py_ssize_t);
extern int PyTuple_SetItem(PyObject *, Py_ssize_t, PyObject *);
extern PyObject *PyBytes_FromString(const char *);
extern PyObject *PyLong_FromUnsignedLong(unsigned long);
extern long PyLong_AsLong(PyObject *);
extern void Py_DecRef(PyObject *);

static struct process process;
static volatile struct handover handover;

/* Keep the registers that a function must preserve: returns 0 now, and 1 when they are put back. */
__attribute__((returns_twice)) int save(u64 registers[8]);
__asm__(".text\n"
	".hidden save\n"
	".globl save\n"
	"save:\n"
	"	mov %rbx, 0(%rdi)\n"
	"	mov %rbp, 8(%rdi)\n"
	"	mov %r12, 16(%rdi)\n"
	"	mov %r13, 24(%rdi)\n"
	"	mov %r14, 32(%rdi)\n"
	"	mov %r15, 40(%rdi)\n"
	"	lea 8(%rsp), %rax\n"
	"	mov %rax, 48(%rdi)\n"
	"	mov (%rsp), %rax\n"
	"	mov %rax, 56(%rdi)\n"
	"	xor %eax, %eax\n"
	"	ret\n");

/*
 * The kernel writes the CPU's number into memory of glibc's; where it does not,
 * glibc asks for it. So nothing has to be registered again.
 */
static int unregister_rseq(void)
{
	if (!&__rseq_offset || !__rseq_size)
		return 1;
	u64 area = process.thread_pointer + (u64)__rseq_offset;
	for (u64 size = 32; size <= 256; size += 32)
		if (!call(NR_rseq, area, size, RSEQ_FLAG_UNREGISTER, RSEQ_SIG))
			return 1;
	return 0;
}

/* Fill in what the kernel knows of this process. Returns why that cannot be put back, or null. */
static const char *look(void)
{
	struct {
		u64 address;
		int flags;
		u64 size;
	} alternate;
	u64 count = 0;

	if (!&environ || !&__curbrk)
		return "the C library is not glibc";
	if (call(NR_arch_prctl, ARCH_GET_FS, &process.thread_pointer))
		return "the thread's pointer cannot be read";
	if (*(u32 *)(process.thread_pointer + FEATURE_1))
		return "the shadow stack is on";
	if (call(NR_prctl, PR_GET_TID_ADDRESS, &process.tid))
		return "the kernel has no CONFIG_CHECKPOINT_RESTORE";
	if (call(NR_get_robust_list, 0, &process.robust_list, &process.robust_list_size))
		return "the list of robust futexes cannot be read";
	if (call(NR_sigaltstack, 0, &alternate) || !(alternate.flags & SS_DISABLE))
		return "signals have a stack of their own";
	for (u64 number = 1; number <= 64; number++) {
		struct disposition *signal = &process.signals[count];
		struct disposition found = { number, 0, 0, 0, 0 };
		if (call(NR_rt_sigaction, number, 0, &found.handler, 8) || !found.handler)
			continue;
		if (count == sizeof(process.signals) / sizeof(*process.signals))
			return "more signals than expected are handled";
		*signal = found;
		count++;
	}
	if (!unregister_rseq())
		return "rseq(2) cannot be unregistered";
	process.program_break = (u64)&__curbrk;
	process.handover = (u64)&handover;
	return 0;
}

static PyObject *list_of(char **texts)
{
	PyObject *list = PyList_New(0);

	for (; list && *texts; texts++) {
		PyObject *text = PyBytes_FromString(*texts);
		if (!text || PyList_Append(list, text))
			return 0;
		Py_DecRef(text);
	}
	return list;
}

/* Write a struct process to a descriptor and wait to be killed; return in the snapshot. */
static PyObject *freeze(PyObject *self, PyObject *descriptor)
{
	const char *why = look();

	(void)self;
	if (why)
		return refused(why);
	if (!save(process.registers)) {
		call(NR_write, PyLong_AsLong(descriptor), &process, sizeof(process));
		for (;;)
			call(NR_pause);
	}
	u64 *stack = (u64 *)handover.stack;
	char **arguments = (char **)(stack + 1);
	environ = arguments + stack[0] + 1;
	PyObject *items[] = { list_of(arguments), list_of(environ),
			      PyLong_FromUnsignedLong(handover.ignored),
			      PyLong_FromUnsignedLong(handover.began),
			      PyBytes_FromString(handover.unknown ? (char *)handover.unknown : "") };
	PyObject *result = PyTuple_New(5);
	for (int i = 0; i < 5; i++)
		if (!result || !items[i] || PyTuple_SetItem(result, i, items[i]))
			return 0;
	return result;
}

#else

static PyObject *freeze(PyObject *self, PyObject *descriptor)
{
	(void)self, (void)descriptor;
	return refused("snapshots are for x86_64 only");
}

#endif

static struct method methods[] = {
	{ "freeze", freeze, METH_O,
	  "Tell what to put back through this descriptor and wait to be killed; return in the"
	  " snapshot with its arguments, environment, ignored signals, time of start, and name if"
	  " its footprint is to be kept." },
	{ 0 },
};

MODULE(_freeze, methods)
