/*
 * Starting from a snapshot: the memory of an interpreter that has been
 * initialised before, with pyrunc's modules in it, is mapped from a file, and
 * the program goes on in it (docs/snapshot.md).
 *
 * Whatever does not fit, restore() returns, and the ordinary start follows. That
 * is an execve(2), which clears away what has been mapped up to then.
 */

#include "snapshot.h"

#if defined(__x86_64__)

#include "key.h"

#define O_DIRECTORY 0200000
#define O_NOFOLLOW 0400000

#define AUX_SECURE 23
#define AUX_VDSO 33

#define MAP_PRIVATE 0x2
#define MAP_ANONYMOUS 0x20
#define MAP_NORESERVE 0x4000
#define MAP_FIXED_NOREPLACE 0x100000
#define MADV_WIPEONFORK 18
#define MADV_POPULATE_WRITE 23
#define MREMAP_MOVE_FIXED 3
#define PIDFD_SELF (-10000)
#define ARCH_SET_FS 0x1002
#define SIG_IGN 1UL

#define SWITCH "/etc/pyrunc/no-snapshot"
#define TABLES_SIZE 65536
/* As much as there is in most; each page more that is read costs a page fault. */
#define USUAL_SIZE 8192

static struct {
	struct snapshot head;
	char rest[TABLES_SIZE - sizeof(struct snapshot)];
} file;

static u64 now(void)
{
	u64 time[2];

	call(NR_clock_gettime, CLOCK_REALTIME, time);
	return time[0] * 1000000000 + time[1];
}

/* Whatever the umask is: it may lack what the owner needs. */
static s64 make_directory(const char *path)
{
	s64 made = call(NR_mkdir, path, 0700);

	if (!failed(made))
		call(NR_chmod, path, 0700);
	return made;
}

/*
 * Open the directory of the caller's snapshots, and make it if it is missing:
 * below root's state root, or where the system keeps the run-time files of a
 * user. No variable has a say in it. Nobody else may be able to write there.
 */
static s64 open_directory(struct start *start)
{
	u32 uid = (u32)call(NR_geteuid);
	struct status status;
	char *path = start->path;
	char *end = append(path, "/run/");

	if (uid)
		end = append(append_number(append(end, "user/"), uid, 10), "/");
	end = append(end, "pyrunc");
	/* No container can have this name (Store.shared_directory). */
	append(end, "/@snapshot");
	u64 flags = O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	s64 directory = call(NR_openat, AT_FDCWD, path, flags);
	if (directory == -ENOENT) {
		*end = 0;
		s64 made = make_directory(path);
		*end = '/';
		if (failed(made) && made != -EEXIST)
			return made;
		make_directory(path);
		directory = call(NR_openat, AT_FDCWD, path, flags);
	}
	if (failed(directory))
		return directory;
	if (!failed(call(NR_fstat, directory, &status)) && (status.mode & S_IFMT) == S_IFDIR &&
	    status.uid == uid && !(status.mode & 077))
		return directory;
	call(NR_close, directory);
	return -EACCES;
}

/* Tell whether it is a file of the caller's, which nobody else may read or write. */
static int is_ours_alone(s64 descriptor, struct status *status)
{
	return !failed(call(NR_fstat, descriptor, status)) &&
	       (status->mode & S_IFMT) == S_IFREG && status->uid == (u32)call(NR_geteuid) &&
	       !(status->mode & 077);
}

/* Read the snapshot's head and tables; 0 unless it is ours alone, whole, and keyed as we are. */
static int read_tables(s64 descriptor, const struct key *key)
{
	struct status status;
	struct snapshot *head = &file.head;

	if (!is_ours_alone(descriptor, &status) || status.size < sizeof(*head))
		return 0;
	s64 got = call(NR_read, descriptor, &file, USUAL_SIZE);
	if (got == USUAL_SIZE && head->tables_size > USUAL_SIZE) {
		s64 more = call(NR_read, descriptor, (char *)&file + USUAL_SIZE,
				sizeof(file) - USUAL_SIZE);
		got += failed(more) ? 0 : more;
	}
	return got >= (s64)sizeof(*head) && head->magic == SNAPSHOT_MAGIC &&
	       head->file_size == status.size && head->tables_size <= (u64)got &&
	       head->files <= TABLES_SIZE / sizeof(struct keyed_file) &&
	       head->segments <= TABLES_SIZE / sizeof(struct segment) &&
	       sizeof(*head) + head->files * sizeof(struct keyed_file) +
			       head->segments * sizeof(struct segment) < head->tables_size &&
	       same(&head->key, key, sizeof(*key));
}

/*
 * STALE: another one is needed. NO_ROOM: this process cannot have it, for its
 * limits perhaps. TAKEN: something lies in its place, by chance.
 */
enum fit { FITS, STALE, NO_ROOM, TAKEN };

/* Map a segment where it was; nothing that lies there is replaced. */
static enum fit map(const struct segment *segment, s64 descriptor)
{
	u64 flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE;

	if (segment->source == FROM_NOWHERE)
		flags |= MAP_ANONYMOUS | MAP_NORESERVE;
	u64 size = segment->end - segment->start;
	s64 mapped = call(NR_mmap, segment->start, size, segment->protection, flags, descriptor,
			  segment->offset);
	if (mapped == -EEXIST)
		return TAKEN;
	if (mapped != (s64)segment->start ||
	    (segment->wiped && call(NR_madvise, segment->start, size, MADV_WIPEONFORK)))
		return NO_ROOM;
	return FITS;
}

/* Map everything, each file after a look whether it is still the same. */
static enum fit map_all(s64 snapshot)
{
	const struct keyed_file *files = (void *)(&file.head + 1);
	const struct segment *segment = (void *)(files + file.head.files);
	const struct segment *end = segment + file.head.segments;
	const char *paths = (void *)end;
	enum fit fit = FITS;

	for (s64 i = 0; i < (s64)file.head.files; i++) {
		const char *path = paths + files[i].path;
		struct status status;
		int mapped = segment < end && segment->source == i;
		/* A module's source is only looked at. */
		if (!mapped && failed(call(NR_newfstatat, AT_FDCWD, path, &status)))
			return STALE;
		s64 descriptor = mapped ? call(NR_openat, AT_FDCWD, path, O_CLOEXEC | O_NONBLOCK) : -1;
		if (mapped && (failed(descriptor) || failed(call(NR_fstat, descriptor, &status))))
			return STALE;
		struct identity found = identity_of(&status);
		if (!same(&found, &files[i].identity, sizeof(found)))
			return STALE;
		for (; segment < end && segment->source == i && fit == FITS; segment++)
			fit = map(segment, descriptor);
		if (fit != FITS)
			return fit;
		if (mapped)
			call(NR_close, descriptor);
	}
	for (; segment < end && fit == FITS; segment++)
		fit = map(segment, segment->source == FROM_SNAPSHOT ? snapshot : -1);
	return fit;
}

/* Return the first word that is a frequent command's, or null. */
static const char *frequent_command(char **argv)
{
	static const char names[][8] = { "create", "delete", "events", "exec", "kill",
					 "list",   "pause",  "ps",     "resume", "run",
					 "start",  "state",  "update" };

	for (char **word = argv; *word; word++)
		for (u64 i = 0; i < sizeof(names) / sizeof(*names); i++)
			if (same_text(*word, names[i]))
				return *word;
	return 0;
}

/*
 * Have the pages copied that such a command writes to, as far as it is known (footprint.py). One
 * page fault each is dearer, and reads that come before the write would have the kernel map fifteen
 * pages around it. Returns the command whose footprint in this snapshot is not known yet, or null.
 */
static const char *copy_footprint(s64 directory, const char *name, const struct start *start)
{
	static struct footprint footprint;
	char path[64];
	const char *command = frequent_command((char **)(start->stack + 1));
	struct status status;

	if (!command)
		return 0;
	append(append(append(path, name), "."), command);
	u64 flags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
	s64 descriptor = call(NR_openat, directory, path, flags);
	if (failed(descriptor))
		return command;
	s64 size = is_ours_alone(descriptor, &status)
			   ? call(NR_read, descriptor, &footprint, sizeof(footprint))
			   : 0;
	call(NR_close, descriptor);
	if (size < (s64)sizeof(footprint.stamp) || footprint.stamp != file.head.stamp)
		return command;
	u64 count = ((u64)size - sizeof(footprint.stamp)) / sizeof(struct area);
	const struct area *area = footprint.areas;
	/* An area is a struct iovec. Linux 6.15; before 5.14 they are not copied at all. */
	if (failed(call(NR_process_madvise, PIDFD_SELF, area, count, MADV_POPULATE_WRITE, 0)))
		for (u64 i = 0; i < count; i++)
			if (call(NR_madvise, area[i].start, area[i].size, MADV_POPULATE_WRITE))
				break;
	return 0;
}

/*
 * Move the kernel's own pages to where the C library knows them. Kernels that
 * seal them (CONFIG_MSEAL_SYSTEM_MAPPINGS) refuse.
 */
static enum fit move_vdso(u64 vdso)
{
	const struct process *process = &file.head.process;
	u64 by = vdso - process->vdso.start;
	const struct area areas[] = { process->vvar[0], process->vvar[1], process->vvar[2],
				      process->vdso };

	if (!vdso)
		return NO_ROOM;
	for (u64 i = 0; by && i < sizeof(areas) / sizeof(*areas); i++) {
		u64 start = areas[i].start, size = areas[i].size;
		if (!size)
			continue;
		/* mremap(2) would take the place of whatever is there. */
		const struct segment place = { start, start + size, 0, FROM_NOWHERE, 0, 0 };
		enum fit fit = map(&place, -1);
		if (fit != FITS)
			return fit;
		if (call(NR_mremap, start + by, size, size, MREMAP_MOVE_FIXED, start) != (s64)start)
			return NO_ROOM;
	}
	return FITS;
}

/*
 * Give signals the dispositions that the interpreter had given them. What the
 * caller ignores stays ignored, as in an ordinary start; returns these.
 */
static u64 set_signals(void)
{
	u64 ignored = 0;

	for (u64 number = 1; number <= 64; number++) {
		struct disposition old;
		call(NR_rt_sigaction, number, 0, &old.handler, 8);
		if (old.handler == SIG_IGN)
			ignored |= 1UL << (number - 1);
	}
	for (u64 i = 0; i < 4; i++) {
		const struct disposition *signal = &file.head.process.signals[i];
		if (signal->number && !(ignored & 1UL << (signal->number - 1)))
			call(NR_rt_sigaction, signal->number, &signal->handler, 0, 8);
	}
	return ignored;
}

/* All is mapped: become the interpreter. */
static __attribute__((noreturn)) void enter(const struct start *start, u64 began,
					    const char *unknown)
{
	const struct process *process = &file.head.process;
	struct handover *handover = (void *)process->handover;

	handover->stack = (u64)start->stack;
	handover->began = began;
	handover->unknown = (u64)unknown;
	handover->ignored = set_signals();
	*(s64 *)process->program_break = call(NR_brk, 0);
	call(NR_arch_prctl, ARCH_SET_FS, process->thread_pointer);
	*(int *)process->tid = (int)call(NR_set_tid_address, process->tid);
	call(NR_set_robust_list, process->robust_list, process->robust_list_size);
	__asm__ volatile("mov 0(%0), %%rbx\n"
			 "mov 8(%0), %%rbp\n"
			 "mov 16(%0), %%r12\n"
			 "mov 24(%0), %%r13\n"
			 "mov 32(%0), %%r14\n"
			 "mov 40(%0), %%r15\n"
			 "mov 48(%0), %%rsp\n"
			 "mov $1, %%eax\n"
			 "jmp *56(%0)\n"
			 :
			 : "d"(process->registers)
			 : "memory");
	__builtin_unreachable();
}

/* Go on in this file, or return how it does not fit. */
static enum fit restore_from(s64 directory, const char *name, const struct start *start, u64 began)
{
	u64 flags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
	s64 descriptor = call(NR_openat, directory, name, flags);

	if (failed(descriptor))
		return STALE;
	enum fit fit = read_tables(descriptor, &start->key) ? map_all(descriptor) : STALE;
	if (fit == FITS)
		fit = move_vdso(auxiliary(start, AUX_VDSO));
	call(NR_close, descriptor);
	if (fit != FITS)
		return fit;
	const char *unknown = copy_footprint(directory, name, start);
	call(NR_close, directory);
	enter(start, began, unknown);
}

/* Return what STARTED begins with when it is an ordinary start (started.py). */
static const char *outcome_of(const struct start *start, enum fit fit)
{
	if (same_text(start->wish, "make"))
		return "make";
	if (fit == NO_ROOM || fit == TAKEN)
		return "unfit";
	return failed(call(NR_faccessat, AT_FDCWD, start->marker)) ? "missing" : "failed";
}

void restore(struct start *start)
{
	u64 began = start->tracing ? now() : 0;

	start->outcome = "off";
	if (auxiliary(start, AUX_SECURE) || same_text(start->wish, "0") ||
	    !failed(call(NR_faccessat, AT_FDCWD, SWITCH)))
		return;
	start->outcome = "impossible";
	s64 directory = open_directory(start);
	if (failed(directory))
		return;
	if (find_key(start)) {
		char *name = append(start->path + length_of(start->path), "/");
		char *end = append_number(name, start->key.launcher_path, 16);
		char *marker = append(append(start->marker, start->path), "-");
		append(append_number(marker, start->key.launcher.inode, 16), ".failed");
		if (same_text(start->wish, "try"))
			append(end, ".new");
		enum fit fit = STALE;
		if (!same_text(start->wish, "make"))
			fit = restore_from(directory, name, start, began);
		start->outcome = outcome_of(start, fit);
		start->taken = fit == TAKEN;
	}
	call(NR_close, directory);
}

#else

/* The ordinary start: nobody has tried what pointer authentication makes of a restored stack. */
void restore(struct start *start)
{
	start->outcome = "impossible";
}

#endif
