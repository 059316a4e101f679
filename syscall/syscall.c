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
extern unsigned long PyLong_AsUnsignedLongMask(PyObject *);
extern PyObject *PyErr_Occurred(void);
extern int PyObject_CheckBuffer(PyObject *);
extern int PyObject_GetBuffer(PyObject *, Py_buffer *, int flags);
extern void PyBuffer_Release(Py_buffer *);

/* The number of the call and six arguments. */
#define MOST 7

/* Integers are passed as they are, bytes and bytearrays by address. */
static PyObject *make_call(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
	u64 v[MOST] = { 0 };
	Py_buffer held[MOST];
	int buffers = 0;
	PyObject *result = 0;

	(void)self;
	for (Py_ssize_t i = 0; i < count && i < MOST; i++) {
		if (PyObject_CheckBuffer(arguments[i])) {
			if (PyObject_GetBuffer(arguments[i], &held[buffers], 0))
				goto end;
			v[i] = (u64)held[buffers++].buf;
			continue;
		}
		v[i] = PyLong_AsUnsignedLongMask(arguments[i]);
		if (v[i] == (u64)-1 && PyErr_Occurred())
			goto end;
	}
	result = PyLong_FromLong(call6(v[0], v[1], v[2], v[3], v[4], v[5], v[6]));
end:
	while (buffers)
		PyBuffer_Release(&held[--buffers]);
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

static struct method methods[] = {
	{ "call", make_call, METH_FASTCALL,
	  "Make the system call with this number; return its result or a negative errno." },
	{ "address_of", address_of, METH_O, "Return where a buffer's bytes lie." },
	{ 0 },
};

MODULE(_syscall, methods)
