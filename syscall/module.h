/*
 * What both of the package's native modules are made of: the little of Python's C API that is used,
 * all of it of the stable ABI since 3.11. Neither the build nor the result depends on the headers or
 * the version of a Python, and there is no libc.
 */

#pragma once

typedef struct _object PyObject;
typedef long Py_ssize_t;

struct method {
	const char *name;
	void *function;
	int flags;
	const char *doc;
};

#define METH_O 0x0008
#define METH_FASTCALL 0x0080

/* PyModuleDef. */
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

/* What importing the module calls: MODULE(_name, methods). */
#define MODULE(its_name, its_methods)                                                   \
	__attribute__((visibility("default"))) PyObject *PyInit_##its_name(void)        \
	{                                                                               \
		module.references = 1;                                                  \
		module.name = #its_name;                                                \
		module.methods = its_methods;                                           \
		return PyModuleDef_Init(&module);                                       \
	}
