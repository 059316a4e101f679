/*
 * pyrunc: starts the interpreter with the options that a "#!" line cannot give.
 *
 * -I and -S keep everything out that could change what pyrunc imports: PYTHON*
 * variables, the current directory, the user's and the machine's site files.
 * They also save a fifth of the interpreter's start. An installer replaces the
 * first line of a script, but in a line there is room for a single argument;
 * so this program is what runs first, and it reads the interpreter from the
 * script `pyrunc-python` that was installed beside it.
 *
 * There is no libc: it has to start in no time, and to build with a bare compiler.
 *
 * The interpreter gets the directory of this program as its first argument,
 * where BOOTSTRAP below finds the package from, and as its second the number of
 * a child that it is to collect, or 0.
 */

typedef unsigned long u64;
typedef long s64;

#if defined(__x86_64__)

#define NR_read 0
#define NR_write 1
#define NR_close 3
#define NR_nanosleep 35
#define NR_clone 56
#define NR_execve 59
#define NR_fcntl 72
#define NR_exit_group 231
#define NR_openat 257
#define NR_readlinkat 267
#define NR_close_range 436

static inline s64 call4(u64 nr, u64 a, u64 b, u64 c, u64 d)
{
	s64 result;
	register u64 r10 __asm__("r10") = d;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
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

#elif defined(__aarch64__)

#define NR_fcntl 25
#define NR_openat 56
#define NR_close 57
#define NR_read 63
#define NR_write 64
#define NR_readlinkat 78
#define NR_exit_group 94
#define NR_nanosleep 101
#define NR_clone 220
#define NR_execve 221
#define NR_close_range 436

static inline s64 call4(u64 nr, u64 a, u64 b, u64 c, u64 d)
{
	register u64 x8 __asm__("x8") = nr;
	register u64 x0 __asm__("x0") = a;
	register u64 x1 __asm__("x1") = b;
	register u64 x2 __asm__("x2") = c;
	register u64 x3 __asm__("x3") = d;
	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3)
			 : "memory");
	return (s64)x0;
}

__asm__(".global _start\n"
	"_start:\n"
	"	mov x29, #0\n"
	"	mov x0, sp\n"
	"	bl run\n"
	"	brk #1\n");

#else
#error "pyrunc's launcher knows x86_64 and aarch64"
#endif

#define call(nr, ...) call_(nr, ##__VA_ARGS__, 0, 0, 0, 0)
#define call_(nr, a, b, c, d, ...) call4(nr, (u64)(a), (u64)(b), (u64)(c), (u64)(d))

#define AT_FDCWD (-100)
#define O_WRONLY 1
#define O_RDWR 2
#define O_CLOEXEC 02000000
#define F_GETFD 1
#define ENOENT 2
#define ENOEXEC 8
#define EACCES 13

#define SIGCHLD 17

#define PATH_SIZE 4096
#define SCRIPT "pyrunc-python"

/*
 * sys.argv is ["-c", DIRECTORY, HELPER, ARGUMENT...] and becomes ["pyrunc", ARGUMENT...].
 *
 * The package's parent comes last in sys.path, as site does it: what else is
 * installed there must not hide a module of the standard library. Where the
 * package has a start-up image for this Python (image.py), modules come from it.
 */
static const char BOOTSTRAP[] =
	"import sys\n"
	"from posix import open, read, stat\n"
	"argv = sys.argv\n"
	"top = argv.pop(1).rpartition('/')[0]\n"
	"helper = int(argv.pop(1))\n"
	"argv[0] = 'pyrunc'\n"
	"version = 'python%d.%d' % sys.version_info[:2]\n"
	"for home in (\n"
	"    top + '/lib/' + version + '/site-packages',\n"
	"    top + '/lib64/' + version + '/site-packages',\n"
	"    top + '/lib/' + version + '/dist-packages',\n"
	"    top + '/local/lib/' + version + '/dist-packages',\n"
	"    top + '/lib/python3/dist-packages',\n"
	"    top[:-6] + '/src' if top[-6:] == '/build' else '',\n"
	"):\n"
	"    try: stat(home + '/pyrunc/cli')\n"
	"    except OSError: continue\n"
	"    sys.path.append(home)\n"
	"    try: file = open(home + '/pyrunc/startup.' + sys.implementation.cache_tag, 0o2000000)\n"
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
	"main(helper=helper)\n";

static int failed(s64 result)
{
	return result < 0 && result >= -4095;
}

static int same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

static int contains(const char *text, const char *word)
{
	for (; *text; text++) {
		u64 i = 0;
		while (word[i] && text[i] == word[i])
			i++;
		if (!word[i])
			return 1;
	}
	return 0;
}

static const char *last_part(const char *path)
{
	const char *part = path;

	for (; *path; path++)
		if (*path == '/')
			part = path + 1;
	return part;
}

/* Write a number that is not negative in decimal digits. */
static void number_text(s64 number, char *to)
{
	char digits[24];
	u64 count = 0;

	do
		digits[count++] = (char)('0' + number % 10);
	while (number /= 10);
	while (count)
		*to++ = digits[--count];
	*to = 0;
}

/* Copy `text` to `to` and return where it ends there. */
static char *append(char *to, const char *text)
{
	while (*text)
		*to++ = *text++;
	*to = 0;
	return to;
}

/* One line on stderr, "pyrunc: WHAT PATH: WHY", and the end. */
static __attribute__((noreturn)) void die(const char *what, const char *path, s64 error)
{
	char line[2 * PATH_SIZE];
	u64 length = 0;
	const char *why = error == -ENOENT  ? "no such file or directory" :
			  error == -EACCES  ? "permission denied" :
			  error == -ENOEXEC ? "exec format error" :
					      0;
	const char *parts[] = { "pyrunc: ", what, " ", path, ": ", why };

	for (u64 i = 0; i < 6; i++)
		for (const char *from = parts[i]; from && *from && length < sizeof(line) - 16;)
			line[length++] = *from++;
	if (!why) {
		char *end = append(line + length, "errno ");
		number_text(-error, end);
		length = (u64)(end - line);
		while (line[length])
			length++;
	}
	line[length++] = '\n';
	call(NR_write, 2, line, length);
	for (;;)
		call(NR_exit_group, 1);
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
 * LD_PRELOAD and LD_AUDIT would bring foreign code into the interpreter, as
 * PYTHONPATH would. LD_LIBRARY_PATH stays: some interpreters need it to find
 * their own library.
 */
static void drop_preloads(char **environment)
{
	char **kept = environment;

	for (char **entry = environment; *entry; entry++) {
		char name[12] = { 0 };
		for (u64 i = 0; i < sizeof(name) - 1 && (*entry)[i] && (*entry)[i] != '='; i++)
			name[i] = (*entry)[i];
		if (!same(name, "LD_PRELOAD") && !same(name, "LD_AUDIT"))
			*kept++ = *entry;
	}
	*kept = 0;
}

/*
 * Read the interpreter off the script's first line into `text` and return it.
 * Installers put its path there as it is, however long and with spaces, though
 * the kernel takes neither; or, for the same cases, they write
 *
 *     #!/bin/sh
 *     '''exec' "/the/path/to/python" "$0" "$@"
 */
static const char *interpreter_in(const char *script, char *text, u64 size)
{
	static const char shell[] = "#!/bin/sh\n'''exec' ";
	s64 descriptor = call(NR_openat, AT_FDCWD, script, O_CLOEXEC);
	if (failed(descriptor))
		die("cannot open", script, descriptor);
	s64 got = call(NR_read, descriptor, text, size - 1);
	if (failed(got))
		die("cannot read", script, got);
	call(NR_close, descriptor);
	text[got] = 0;
	if (text[0] != '#' || text[1] != '!')
		die("no interpreter in the first line of", script, -ENOEXEC);

	u64 alike = 0;
	while (shell[alike] && text[alike] == shell[alike])
		alike++;
	char *path = text + 2;
	char quote = 0;
	if (!shell[alike]) {
		path = text + alike;
		quote = ' ';
		if (*path == '"' || *path == '\'')
			quote = *path++;
	}
	while (*path == ' ')
		path++;
	char *end = path;
	/* What follows " -" are options; BOOTSTRAP has its own. */
	while (*end && *end != '\n' && *end != quote && !(end[0] == ' ' && end[1] == '-'))
		end++;
	while (end > path && (end[-1] == ' ' || end[-1] == '\r'))
		end--;
	*end = 0;
	if (*path != '/')
		die("no installer has put an interpreter into", script, -ENOEXEC);
	return path;
}

/* Open cgroup.procs of our own cgroup in the v2 hierarchy, the line "0::PATH" (cgroups(7)). */
static s64 open_own_cgroup(void)
{
	static const char *const mounts[] = { "/sys/fs/cgroup/unified", "/sys/fs/cgroup" };
	char text[PATH_SIZE / 2];
	char path[PATH_SIZE];
	s64 descriptor = call(NR_openat, AT_FDCWD, "/proc/self/cgroup", O_CLOEXEC);
	s64 got = call(NR_read, descriptor, text, sizeof(text) - 1);

	if (failed(got))
		return got;
	text[got] = 0;
	char *line = text;
	while (*line && !(line[0] == '0' && line[1] == ':' && line[2] == ':')) {
		while (*line && *line++ != '\n')
			;
	}
	char *end = line;
	while (*end && *end != '\n')
		end++;
	if (!*end)
		return -ENOENT;
	*end = 0;
	for (u64 i = 0; i < sizeof(mounts) / sizeof(*mounts); i++) {
		append(append(append(path, mounts[i]), line + 3), "/cgroup.procs");
		descriptor = call(NR_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC);
		if (!failed(descriptor))
			break;
	}
	return descriptor;
}

/*
 * The first move of a process between cgroups waits until the kernel has seen an RCU grace
 * period (cgroup_threadgroup_rwsem in kernel/cgroup/cgroup.c): 6 to 15 ms on an idle machine, a
 * third of a whole `pyrunc run`. Moves right after it wait for nothing. So a child "moves"
 * itself to where it is while the interpreter starts and the modules are loaded, again and again
 * until the runtime has made its own move and ends it (cli/main.py), or for some 20 ms.
 *
 * Measured, one run every 100 ms: 28 ms instead of 40.
 *
 * Returns the child's number.
 */
static s64 expect_cgroup_move(void)
{
	static const s64 three_milliseconds[] = { 0, 3000000 };
	s64 child = call(NR_clone, SIGCHLD);

	if (child != 0)
		return failed(child) ? 0 : child;
	/* A pipe of the caller's must not stay open for longer than the command takes. */
	if (!failed(call(NR_close_range, 0, ~0U, 0))) {
		s64 own = open_own_cgroup();
		for (int i = 0; i < 5 && !failed(call(NR_write, own, "0", 1)); i++)
			call(NR_nanosleep, three_milliseconds, 0);
	}
	for (;;)
		call(NR_exit_group, 0);
}

/* Whether there is the v2 hierarchy alone: its root has this file. */
static int has_only_cgroup_v2(void)
{
	s64 descriptor = call(NR_openat, AT_FDCWD, "/sys/fs/cgroup/cgroup.controllers", O_CLOEXEC);

	if (failed(descriptor))
		return 0;
	call(NR_close, descriptor);
	return 1;
}

/*
 * Whether a process will be moved into a cgroup, as far as a glance can tell. In a v2 hierarchy
 * processes are born where they belong (container/spawn.py, init.c), unless systemd places them.
 */
static int moves_a_process(char **argv)
{
	int into_new_cgroup = 0, into_old_cgroup = 0, by_systemd = 0;

	while (*++argv) {
		into_new_cgroup |= same(*argv, "create") || same(*argv, "run");
		into_old_cgroup |= same(*argv, "exec");
		by_systemd |= same(*argv, "--systemd-cgroup");
	}
	if (!into_new_cgroup && !into_old_cgroup)
		return 0;
	return (into_new_cgroup && by_systemd) || !has_only_cgroup_v2();
}

/* stack: argc, argv[0], …, 0, environment[0], …, 0, as the kernel leaves them. */
__attribute__((noreturn, used)) void run(u64 *stack)
{
	u64 argc = stack[0];
	char **argv = (char **)(stack + 1);
	char **environment = argv + argc + 1;
	char directory[PATH_SIZE];
	char script[PATH_SIZE + sizeof("/" SCRIPT)];
	char text[PATH_SIZE + 64];

	open_stdio();
	drop_preloads(environment);
	char helper[24];
	number_text(moves_a_process(argv) ? expect_cgroup_move() : 0, helper);

	/* Not argv[0]: this follows links, and the caller cannot make it up. */
	s64 length = call(NR_readlinkat, AT_FDCWD, "/proc/self/exe", directory, PATH_SIZE - 1);
	if (failed(length))
		die("cannot read", "/proc/self/exe", length);
	while (length > 0 && directory[length - 1] != '/')
		length--;
	directory[length ? length - 1 : 0] = 0;
	char *to = script;
	for (const char *from = directory; *from;)
		*to++ = *from++;
	for (const char *from = "/" SCRIPT; *from;)
		*to++ = *from++;
	*to = 0;

	const char *python = interpreter_in(script, text, sizeof(text));
	const char *name = last_part(python);
	s64 error = -ENOENT;
	if (contains(name, "python") || contains(name, "pypy")) {
		const char *options[] = { python, "-I", "-S", "-X", "utf8",
					  "-c",   BOOTSTRAP, directory, helper };
		u64 count = sizeof(options) / sizeof(*options);
		/* The kernel allows a quarter of the stack for what is copied here. */
		const char **arguments = __builtin_alloca((count + argc + 1) * sizeof(*arguments));
		u64 at = 0;
		for (u64 i = 0; i < count; i++)
			arguments[at++] = options[i];
		for (u64 i = 1; i < argc; i++)
			arguments[at++] = argv[i];
		arguments[at] = 0;
		error = call(NR_execve, python, arguments, environment);
	}
	/* Something else of an installer's, "env python3" perhaps: slow, but it works. */
	if (error == -ENOENT)
		call(NR_execve, script, argv, environment);
	die("cannot execute", python, error);
}
