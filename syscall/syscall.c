/*
 * pyrunc.linux._syscall: system calls for Python, and nothing else.
 *
 * Most of what makes a container has no function in Python's `posix`: openat2,
 * the new mount calls, clone3. `_ctypes` could make these calls too, and does
 * where this module cannot be loaded (src/pyrunc/linux/through_ctypes.py); but
 * to load it and libffi, and to convert what is passed, takes half a
 * millisecond of a `run`'s eighteen.
 *
 * Declared below is the little of Python's C API that is used, all of it of the
 * stable ABI since 3.11: neither the build nor the result depends on the headers
 * or the version of a Python. There is no libc either.
 *
 * The GIL is kept during a call: the runtime has one thread, and the child of
 * clone3(2) must come back to an interpreter that holds it.
 */

typedef struct _object PyObject;
typedef long Py_ssize_t;

typedef struct {
	void *buf;
	PyObject *obj;
	Py_ssize_t len, itemsize;
	int readonly, ndim;
	char *format;
	Py_ssize_t *shape, *strides, *suboffsets;
	void *internal;
} Py_buffer;

struct method {
	const char *name;
	void *function;
	int flags;
	const char *doc;
};

#define METH_O 0x0008
#define METH_FASTCALL 0x0080

static struct {
	Py_ssize_t references;
	void *type, *init;
	Py_ssize_t index;
	PyObject *copy;
	const char *name, *doc;
	Py_ssize_t size;
	struct method *methods;
	void *slots, *traverse, *clear, *free;
} module;

extern PyObject *PyModuleDef_Init(void *definition);
extern PyObject *PyLong_FromLong(long);
extern unsigned long PyLong_AsUnsignedLongMask(PyObject *);
extern PyObject *PyErr_Occurred(void);
extern int PyObject_CheckBuffer(PyObject *);
extern int PyObject_GetBuffer(PyObject *, Py_buffer *, int flags);
extern void PyBuffer_Release(Py_buffer *);

/* The number of the call and six arguments. */
#define MOST 7

static long make(const unsigned long *v)
{
#if defined(__x86_64__)
	long result;
	register unsigned long r10 __asm__("r10") = v[4];
	register unsigned long r8 __asm__("r8") = v[5];
	register unsigned long r9 __asm__("r9") = v[6];
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(v[0]), "D"(v[1]), "S"(v[2]), "d"(v[3]), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
#elif defined(__aarch64__)
	register unsigned long x8 __asm__("x8") = v[0];
	register unsigned long x0 __asm__("x0") = v[1];
	register unsigned long x1 __asm__("x1") = v[2];
	register unsigned long x2 __asm__("x2") = v[3];
	register unsigned long x3 __asm__("x3") = v[4];
	register unsigned long x4 __asm__("x4") = v[5];
	register unsigned long x5 __asm__("x5") = v[6];
	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return (long)x0;
#else
#error "pyrunc's system calls know x86_64 and aarch64"
#endif
}

/* Integers are passed as they are, bytes and bytearrays by address. */
static PyObject *call(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
	unsigned long values[MOST] = { 0 };
	Py_buffer held[MOST];
	int buffers = 0;
	PyObject *result = 0;

	(void)self;
	for (Py_ssize_t i = 0; i < count && i < MOST; i++) {
		if (PyObject_CheckBuffer(arguments[i])) {
			if (PyObject_GetBuffer(arguments[i], &held[buffers], 0))
				goto end;
			values[i] = (unsigned long)held[buffers++].buf;
			continue;
		}
		values[i] = PyLong_AsUnsignedLongMask(arguments[i]);
		if (values[i] == -1UL && PyErr_Occurred())
			goto end;
	}
	result = PyLong_FromLong(make(values));
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
	{ "call", call, METH_FASTCALL,
	  "Make the system call with this number; return its result or a negative errno." },
	{ "address_of", address_of, METH_O, "Return where a buffer's bytes lie." },
	{ 0 },
};

__attribute__((visibility("default"))) PyObject *PyInit__syscall(void)
{
	module.references = 1;
	module.name = "_syscall";
	module.methods = methods;
	return PyModuleDef_Init(&module);
}
