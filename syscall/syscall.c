/*
 * pyrunc.linux._syscall: system calls for Python, and nothing else.
 *
 * Most of what makes a container has no function in Python's `posix`: openat2,
 * the new mount calls, clone3. `_ctypes` could make these calls too, and does
 * where this module cannot be loaded (src/pyrunc/linux/through_ctypes.py); but
 * to load it and libffi, and to convert what is passed, takes half a
 * millisecond of a `run`'s eighteen.
 *
 * It needs no headers of a Python and no libc (module.h).
 *
 * The GIL is kept during a call: the runtime has one thread, and the child of
 * clone3(2) must come back to an interpreter that holds it.
 */

#include "call.h"
#include "module.h"

typedef struct {
	void *buf;
	PyObject *obj;
	Py_ssize_t len, itemsize;
	int readonly, ndim;
	char *format;
	Py_ssize_t *shape, *strides, *suboffsets;
	void *internal;
} Py_buffer;

extern PyObject *PyLong_FromLong(long);
extern PyObject *PyBytes_FromStringAndSize(const char *, Py_ssize_t);
extern unsigned long PyLong_AsUnsignedLongMask(PyObject *);
extern PyObject *PyErr_Occurred(void);
extern int PyObject_CheckBuffer(PyObject *);
extern int PyObject_GetBuffer(PyObject *, Py_buffer *, int flags);
extern void PyBuffer_Release(Py_buffer *);
extern PyObject *PyObject_CallFunctionObjArgs(PyObject *, ...);
extern Py_ssize_t PyTuple_Size(PyObject *);
extern PyObject *PyTuple_GetItem(PyObject *, Py_ssize_t);
extern void PyErr_Clear(void);
extern void Py_DecRef(PyObject *);

/* The number of the call and six arguments. */
#define MOST 7

/* A call with its arguments, and the buffers that some of them lie in. */
struct prepared {
	u64 v[MOST];
	Py_buffer held[MOST];
	int buffers;
};

/* Integers are passed as they are, bytes and bytearrays by address. 0, or -1 and an exception. */
static int prepare(struct prepared *call, PyObject *const *arguments, Py_ssize_t count)
{
	call->buffers = 0;
	for (Py_ssize_t i = 0; i < MOST; i++) {
		call->v[i] = 0;
		if (i >= count)
			continue;
		if (PyObject_CheckBuffer(arguments[i])) {
			Py_buffer *held = &call->held[call->buffers];
			if (PyObject_GetBuffer(arguments[i], held, 0))
				return -1;
			call->buffers++;
			call->v[i] = (u64)held->buf;
			continue;
		}
		call->v[i] = PyLong_AsUnsignedLongMask(arguments[i]);
		if (call->v[i] == (u64)-1 && PyErr_Occurred())
			return -1;
	}
	return 0;
}

static s64 make(const struct prepared *call)
{
	const u64 *v = call->v;

	return call6(v[0], v[1], v[2], v[3], v[4], v[5], v[6]);
}

static void release(struct prepared *call)
{
	while (call->buffers)
		PyBuffer_Release(&call->held[--call->buffers]);
}

static PyObject *make_call(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
	struct prepared call;
	PyObject *result = 0;

	(void)self;
	if (!prepare(&call, arguments, count))
		result = PyLong_FromLong(make(&call));
	release(&call);
	return result;
}

/*
 * A child that has this process's memory until it executes a program (CLONE_VM | CLONE_VFORK of
 * clone(2)); this process stands still for so long. It is Python that runs in it all the same: on
 * the same stack, below everything that this process comes back to, in the same interpreter, of
 * which only one of the two makes use at a time. For the interpreter it is a function that was
 * called and has returned; so the program is executed from here, when that is true.
 */
struct shared {
	PyObject *work, *last;
	struct prepared execution;
	/* Whether the child has begun, and whether the function has returned. */
	volatile int begun, returned;
};

static void in_child(struct shared *shared)
{
	PyObject *words[MOST], *refused;

	shared->begun = 1;
	shared->last = PyObject_CallFunctionObjArgs(shared->work, (PyObject *)0);
	if (shared->last && PyTuple_Size(shared->last) >= MOST) {
		for (int i = 0; i < MOST; i++)
			words[i] = PyTuple_GetItem(shared->last, i);
		if (!prepare(&shared->execution, words, MOST)) {
			shared->returned = 1;
			s64 result = make(&shared->execution);
			shared->returned = 0;
			refused = PyLong_FromLong(-result);
			if (refused) {
				PyObject *told = PyObject_CallFunctionObjArgs(shared->work, refused, (PyObject *)0);
				Py_DecRef(told);
				Py_DecRef(refused);
			}
		}
	}
	PyErr_Clear();
	shared->returned = 1;
}

/* Of its own, so that nothing that the caller keeps on the stack lies where the child works. */
static __attribute__((noinline)) s64 clone_sharing(u64 arguments, u64 size, struct shared *shared)
{
	void (*volatile work)(struct shared *) = in_child;
	s64 pid = call(NR_clone3, arguments, size);

	if (pid)
		return pid;
	work(shared);
	for (;;)
		call(NR_exit_group, 1);
}

static PyObject *vfork(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
	struct prepared clone;
	struct shared shared;
	PyObject *result = 0;

	(void)self;
	/* Both of these are bytes. */
	if (!prepare(&clone, arguments, count - 1) && clone.buffers == 2) {
		/* One by one: for all of it some compilers call a memset() that there is none of. */
		shared.work = arguments[count - 1];
		shared.last = 0;
		shared.execution.buffers = 0;
		shared.begun = shared.returned = 0;
		s64 pid = clone_sharing(clone.v[0], clone.held[0].len, &shared);
		/* Where fork(2) stands in for it, as under qemu-user, nothing of the child is seen. */
		if (shared.begun && !shared.returned) {
			call(NR_write, 2, clone.v[1], clone.held[1].len);
			call(NR_exit_group, 1);
		}
		release(&shared.execution);
		Py_DecRef(shared.last);
		result = PyLong_FromLong(pid);
	}
	release(&clone);
	return result;
}

static PyObject *address_of(PyObject *self, PyObject *object)
{
	Py_buffer held;

	(void)self;
	if (PyObject_GetBuffer(object, &held, 0))
		return 0;
	PyBuffer_Release(&held);
	return PyLong_FromLong((long)held.buf);
}

#define EFBIG 27
#define EINVAL 22
#define EPERM 1
#define S_IFMT 0170000
#define MODE 0777
#define MOST_BYTES 4096

/* struct stat. */
struct status {
	u64 device, inode;
#if defined(__x86_64__)
	u64 links;
	u32 mode, uid, gid, unused;
	u64 kind;
#else
	u32 mode, links, uid, gid;
	u64 kind, unused;
#endif
	u64 size, rest[16];
};

/*
 * Read at most `most` bytes of what was opened, if it is of that kind (S_IFREG …; 0: of any). With
 * bits of a mode in it the file must have none of them, and be root's or the caller's.
 */
static s64 read_from(s64 file, u64 kind, char *to, u64 most)
{
	struct status found;

	if (kind) {
		s64 error = call(NR_fstat, file, &found);
		if (error)
			return error;
		if ((found.mode & S_IFMT) != (kind & S_IFMT))
			return -EINVAL;
		if (kind & MODE && (found.mode & kind & MODE ||
				    (found.uid && found.uid != (u32)call(NR_geteuid))))
			return -EPERM;
	}
	if (!most)
		return 0;
	s64 got = call(NR_read, file, to, most);
	/* What fills the place may go on; and so may a file of which not all has come. */
	if (got >= 0 && ((u64)got == most || (kind && (u64)got != found.size)))
		return -EFBIG;
	return got;
}

static PyObject *fetch(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
	struct prepared asked;
	PyObject *result = 0;
	char content[MOST_BYTES];

	(void)self;
	if (!prepare(&asked, arguments, count)) {
		const u64 *v = asked.v;
		s64 file = call(NR_openat, v[0], v[1], v[2]);
		s64 got = file;
		if (file >= 0) {
			got = read_from(file, v[3], content, v[4] < MOST_BYTES ? v[4] : MOST_BYTES);
			call(NR_close, file);
		}
		result = got < 0 ? PyLong_FromLong(got) : PyBytes_FromStringAndSize(content, got);
	}
	release(&asked);
	return result;
}

static struct method methods[] = {
	{ "call", make_call, METH_FASTCALL,
	  "Make the system call with this number; return its result or a negative errno." },
	{ "fetch", fetch, METH_FASTCALL,
	  "Open, look at, read and close a file (libc.py); return bytes or a negative errno." },
	{ "address_of", address_of, METH_O, "Return where a buffer's bytes lie." },
	{ "vfork", vfork, METH_FASTCALL,
	  "Make a child with the arguments of clone3(2) that calls a function in this memory." },
	{ 0 },
};

MODULE(_syscall, methods)
