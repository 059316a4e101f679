/*
 * pyrunc: starts the interpreter with the options that a "#!" line cannot give.
 *
 * Everything is kept out that could change what pyrunc imports: PYTHON*
 * variables, the current directory, the user's and the machine's site files.
 * That also saves a fifth of the interpreter's start. An installer replaces the
 * first line of a script, but in a line there is room for a single argument;
 * so this program is what runs first, and it reads the interpreter from the
 * script `pyrunc-python` that was installed beside it.
 *
 * Another tenth, 0.6 ms, is saved by a package `encodings` of our own, in
 * lib/pyrunc beside the directory of this program (startup/encodings). Where it
 * is, the interpreter finds it through PYTHONPATH, which -I would have it
 * overlook; all other variables of that kind are taken out of the environment.
 *
 * There is no libc: it has to start in no time, and to build with a bare compiler.
 *
 * The interpreter gets the directory of this program as its first argument,
 * where BOOTSTRAP below finds the package from, and as its second why it was
 * started at all: for where there is a snapshot of it, in which all this has
 * been done already, that is what goes on (restore.c).
 */

#include "snapshot.h"
#include "interpreter.h"

__asm__(START);

#define F_GETFD 1
/* The exit code when a snapshot was to be tried, and cannot be used. */
#define UNFIT 125
#define SCRIPT "pyrunc-python"
#define STARTUP "/lib/pyrunc"
#define SNAPSHOT "PYRUNC_SNAPSHOT="
/* Its value in a second start. */
#define AGAIN "again"

/*
 * sys.argv is ["-c", DIRECTORY, STARTED, ARGUMENT...] and becomes ["pyrunc", ARGUMENT...].
 * STARTED is what describe() writes.
 *
 * The package's parent comes last in sys.path, as site does it: what else is
 * installed there must not hide a module of the standard library. Where the
 * package has a start-up image for this Python (image.py), modules come from it,
 * but for --debug: the image has no line numbers.
 *
 * Root runs nothing that others can write: neither the files that are used, nor
 * where they could be replaced. The owner of the files, and root's group, are trusted.
 */
static const char BOOTSTRAP[] =
	"import sys\n"
	"from posix import environ, geteuid, listdir, open, read, stat, unsetenv\n"
	"def guard(path, above=0):\n"
	"    try: status = stat(path)\n"
	"    except OSError: return\n"
	"    mode, owner, group = status.st_mode, status.st_uid, status.st_gid\n"
	"    if (mode & 2 and not (above and mode & 512)\n"
	"            or mode & 16 and not above and group not in (0, owner, 65534)):\n"
	"        sys.exit('pyrunc: others can write to %s: root does not run what is there' % path)\n"
	"    return mode & 0o40000\n"
	"def guard_all(path):\n"
	"    if guard(path):\n"
	"        for name in listdir(path): guard_all(path + '/' + name)\n"
	"if sys.implementation.name != 'cpython':\n"
	"    sys.exit('pyrunc: it needs CPython, and %s is %s' % (sys.executable, sys.implementation.name))\n"
	"argv = sys.argv\n"
	"top = argv.pop(1).rpartition('/')[0]\n"
	"started = argv.pop(1)\n"
	"if environ.pop(b'PYTHONPATH', None):\n"
	"    unsetenv('PYTHONPATH')\n"
	"    del sys.path[0]\n"
	"argv[0] = 'pyrunc'\n"
	"version = 'python%d.%d' % sys.version_info[:2]\n"
	"for home in (\n"
	"    top + '/lib/' + version + '/site-packages',\n"
	"    top + '/lib64/' + version + '/site-packages',\n"
	"    top + '/lib/' + version + '/dist-packages',\n"
	"    top + '/local/lib/' + version + '/dist-packages',\n"
	"    top + '/lib/python3/dist-packages',\n"
	"    top,\n" /* pip install --target */
	"    top[:-6] + '/src' if top[-6:] == '/build' else '',\n"
	"):\n"
	"    try: stat(home + '/pyrunc/cli')\n"
	"    except OSError: continue\n"
	"    image = home + '/pyrunc/startup.' + sys.implementation.cache_tag\n"
	"    debug = '--debug' in argv\n"
	"    if not geteuid():\n"
	"        part = home\n"
	"        while part: guard(part, 1); part = part.rpartition('/')[0]\n"
	"        guard(top + '/bin'); guard_all(top + '/lib/pyrunc')\n"
	"        whole = home + '/pyrunc'\n"
	"        try: stat(image)\n"
	"        except OSError: debug = True\n"
	"        if debug: guard_all(whole)\n"
	"        else:\n"
	"            guard(whole)\n"
	"            for name in listdir(whole) + ['init/pyrunc-init', 'linux/_syscall.abi3.so']:\n"
	"                guard(whole + '/' + name)\n"
	"    sys.path.append(home)\n"
	"    if debug: break\n"
	"    try: file = open(image, 0o2000000)\n"
	"    except OSError: break\n"
	"    from marshal import loads\n"
	"    size = int.from_bytes(read(file, 4), 'little')\n"
	"    exec(loads(read(file, size)), {'file': file, 'base': 4 + size, 'home': home})\n"
	"    break\n"
	"else:\n"
	"    import site; site.main()\n"
	"try: from pyrunc.cli.main import main\n"
	"except ModuleNotFoundError as error:\n"
	"    if not error.name.startswith('pyrunc'): raise\n"
	"    sys.exit('pyrunc: %s cannot import %s: is pyrunc installed completely?'\n"
	"             % (sys.executable, error.name))\n"
	"main(told=started)\n";

/* Of the auxiliary vector (linux/auxvec.h). */
#define AUX_UID 11
#define AUX_EUID 12
#define AUX_GID 13
#define AUX_EGID 14
#define AUX_SECURE 23

/* Compilers call these two for large values, libc or not (gcc(1), -ffreestanding). */
__attribute__((used)) void *memset(void *to, int byte, u64 count)
{
	for (volatile char *at = to; count--; at++)
		*at = (char)byte;
	return to;
}

__attribute__((used)) void *memcpy(void *to, const void *from, u64 count)
{
	const char *source = from;

	for (volatile char *at = to; count--; at++)
		*at = *source++;
	return to;
}

/*
 * Put /dev/null where stdin, stdout or stderr is closed, before any other file
 * is opened in its place and gets what is meant for the terminal.
 */
static void open_stdio(void)
{
	for (int descriptor = 0; descriptor <= 2; descriptor++)
		if (failed(call(NR_fcntl, descriptor, F_GETFD)))
			call(NR_openat, AT_FDCWD, "/dev/null", O_RDWR);
}

/*
 * LD_PRELOAD, LD_AUDIT and PYTHON* would bring foreign code into the
 * interpreter. LD_LIBRARY_PATH stays: some interpreters need it to find their
 * own library. PYRUNC_SNAPSHOT is for this program alone.
 *
 * Returns how many variables are left.
 */
static u64 drop_code(char **environment)
{
	char **kept = environment;

	for (char **entry = environment; *entry; entry++)
		if (!starts_with(*entry, "LD_PRELOAD=") && !starts_with(*entry, "LD_AUDIT=") &&
		    !starts_with(*entry, "PYTHON") && !starts_with(*entry, SNAPSHOT))
			*kept++ = *entry;
	*kept = 0;
	return (u64)(kept - environment);
}

/*
 * Write "PYTHONPATH=" and the directory of our package `encodings` to `to`, if
 * there is one. A colon would make two directories of it.
 */
static int find_startup(const char *directory, char *to)
{
	char *path = append(to, "PYTHONPATH=");
	u64 above = (u64)(last_part(directory) - directory);

	if (!above)
		return 0;
	append(path, directory);
	char *end = append(path + above - 1, STARTUP);
	append(end, "/encodings/__init__.py");
	if (contains(path, ":") || failed(call(NR_faccessat, AT_FDCWD, path, R_OK)))
		return 0;
	*end = 0;
	return 1;
}

/* Whether this process holds any capability (capget(2), version 3). */
static int has_capabilities(void)
{
	u32 header[2] = { 0x20080522, 0 };
	u32 sets[2][3] = { { 0 } }; /* effective, permitted, inheritable; lower and upper half */

	if (failed(call(NR_capget, header, sets)))
		return 1;
	return (sets[0][0] | sets[0][1] | sets[1][0] | sets[1][1]) != 0;
}

/*
 * A set-user-ID bit or file capabilities would give the rights of this file to
 * whoever executes it, with an environment and a command line of theirs: a
 * container runtime that works as root for anybody. So would a security module's
 * change of domain into one that may do more: what hooks are run is the
 * caller's to say, and LD_LIBRARY_PATH goes on to the interpreter. The kernel
 * tells of each with AT_SECURE (getauxval(3)). Who writes a policy can say that
 * its callers are trusted: a transition that does not scrub does not set it.
 */
static void refuse_lent_rights(const u64 *auxiliary)
{
	u64 values[24] = { 0 };

	for (; auxiliary[0]; auxiliary += 2)
		if (auxiliary[0] < 24)
			values[auxiliary[0]] = auxiliary[1];
	if (!values[AUX_SECURE])
		return;
	const char *cure = "remove the set-user-ID bit or the file capabilities";
	/* A security module's doing, if there are no other ids, and none of a user's capabilities. */
	if (values[AUX_UID] == values[AUX_EUID] && values[AUX_GID] == values[AUX_EGID] &&
	    (!values[AUX_UID] || !has_capabilities()))
		cure = "let the security policy start it without scrubbing the environment "
		       "(AppArmor: px, SELinux: noatsecure), or in its caller's domain";
	die("cannot run with rights that its caller does not have:", cure, -EACCES);
}

/* Fill in what the command line and the environment say about starting from a snapshot. */
static void read_wishes(struct start *start, char **argv, char **environment)
{
	char **entry = environment;

	start->wish = "";
	for (; *entry; entry++)
		if (starts_with(*entry, SNAPSHOT))
			start->wish = *entry + sizeof(SNAPSHOT) - 1;
	start->auxiliary = (u64 *)(entry + 1);
	for (char **word = argv; *word; word++) {
		/* A snapshot's modules have no line numbers, as those of the image. */
		if (same_text(*word, "--debug"))
			start->wish = "0";
		if (starts_with(*word, "--trace"))
			start->tracing = 1;
	}
}

/*
 * Where the kernel has put our stack, or its own pages, in the way of a
 * snapshot (some 3 of 10,000 times), a second start has them elsewhere. Returns
 * if there has been one, or if it fails.
 */
static void start_again(const struct start *start, char **argv, char **environment, u64 variables)
{
	if (!start->taken || same_text(start->wish, AGAIN))
		return;
	const char **changed = __builtin_alloca((variables + 2) * sizeof(*changed));
	for (u64 i = 0; i < variables; i++)
		changed[i] = environment[i];
	changed[variables] = SNAPSHOT AGAIN;
	changed[variables + 1] = 0;
	call(NR_execve, start->program, argv, changed);
}

/* Write STARTED: outcome, paths of the snapshot and of the marker, key in hex, this program. */
static void describe(const struct start *start, char *to)
{
	to = append(append(to, start->outcome), "\n");
	to = append(append(to, start->path), "\n");
	to = append(append(to, start->marker), "\n");
	const unsigned char *key = (const void *)&start->key;
	for (u64 i = 0; i < sizeof(start->key); i++) {
		*to++ = "0123456789abcdef"[key[i] >> 4];
		*to++ = "0123456789abcdef"[key[i] & 15];
	}
	append(append(to, "\n"), start->program);
}

/* stack: argc, argv[0], …, 0, environment[0], …, 0, as the kernel leaves them. */
__attribute__((noreturn, used)) void run(u64 *stack)
{
	u64 argc = stack[0];
	char **argv = (char **)(stack + 1);
	char **environment = argv + argc + 1;
	char directory[PATH_SIZE];
	char script[PATH_SIZE + sizeof("/" SCRIPT)];
	char startup[PATH_SIZE + 64];
	char text[PATH_SIZE + 64];
	char own[PATH_SIZE + 64];
	char started[PATH_SIZE + 1024];
	static struct start start;

	open_stdio();
	read_wishes(&start, argv, environment);
	refuse_lent_rights(start.auxiliary);
	u64 variables = drop_code(environment);

	/* Not argv[0]: this follows links, and the caller cannot make it up. */
	s64 length = call(NR_readlinkat, AT_FDCWD, "/proc/self/exe", directory, PATH_SIZE - 1);
	if (failed(length))
		die("cannot read", "/proc/self/exe", length);
	directory[length] = 0;
	start.stack = stack;
	start.program = directory;
	restore(&start);
	if (same_text(start.wish, "try"))
		call(NR_exit_group, UNFIT);
	start_again(&start, argv, environment, variables);
	describe(&start, started);
	while (length > 0 && directory[length - 1] != '/')
		length--;
	directory[length ? length - 1 : 0] = 0;
	append(append(script, directory), "/" SCRIPT);

	const char *python = interpreter_in(script, text, sizeof(text));
	/* The scripts of an environment that was moved name what is no longer there. */
	append(append(own, directory), "/python");
	if (call(NR_faccessat, AT_FDCWD, python, R_OK) == -ENOENT &&
	    !failed(call(NR_faccessat, AT_FDCWD, own, R_OK)))
		python = own;
	const char *name = last_part(python);
	s64 error = -ENOENT;
	if (contains(name, "python") || contains(name, "pypy")) {
		const char *options[] = { python, "-I", "-S", "-X", "utf8",
					  "-c",   BOOTSTRAP, directory, started };
		u64 count = sizeof(options) / sizeof(*options);
		/* The kernel allows a quarter of the stack for what is copied here. */
		const char **arguments =
			__builtin_alloca((count + argc + variables + 3) * sizeof(*arguments));
		const char **at = arguments;
		const char **kept = (const char **)environment;
		for (u64 i = 0; i < count; i++)
			*at++ = options[i];
		for (u64 i = 1; i < argc; i++)
			*at++ = argv[i];
		*at++ = 0;
		if (find_startup(directory, startup)) {
			/* All that -I means, but for the variables. */
			arguments[1] = "-sP";
			kept = at;
			*at++ = startup;
			for (u64 i = 0; i < variables; i++)
				*at++ = environment[i];
			*at = 0;
		}
		error = call(NR_execve, python, arguments, kept);
	}
	/* Something else of an installer's, "env python3" perhaps: slow, but it works. */
	if (error == -ENOENT)
		call(NR_execve, script, argv, environment);
	die("cannot execute", python, error);
}
