/*
 * Layout of the launch program (little endian; src/pyrunc/process/launch.py
 * writes it):
 *
 *     struct header        32 bytes
 *     u32 relocation[]     offsets of the 8-byte cells that hold an offset into
 *                          the file and must hold an address
 *     struct op[]          aligned to 8
 *     blobs                strings, arrays, structures, the seccomp filter
 */

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
	AWAIT_LIVING,  /* the same while somebody reads from the fifo args[1]; else end */
	REPORT_TO,     /* send failure records to args[0] from now on */
	RESET_SIGNALS, /* default action for every signal, none blocked; args[0]: those that end us */
	CLOSE_OTHERS,  /* close descriptors from args[0] on but for the args[2] listed at args[1] */
	SHARE,         /* the memory file args[0] is a struct shared; map and close it */
	SPAWN,         /* go on as a sibling; args[0]: end only when it has executed or ended;
			* args[1]: the pass for the filter (src/pyrunc/process/fork_pass.py) */
	SPAWN_INTO,    /* go on as a sibling in the v2 cgroup args[1]; args[0] is told the pid or -errno */
	CHECK_CWD,     /* fail if the working directory is outside the root */
	HOOK,          /* run a program: path, argv, envp, stdin, timeout in seconds, filter; nr: output */
	EXEC,          /* execve(path, argv, envp) */
	DROP_CAPABILITIES, /* drop those in the mask args[0] from the bounding set */
	OWN_PID,       /* write it at args[0], in decimal, filled up to args[1] bytes with args[2] */
	SERVE,         /* wait at the socket args[0] for stdin, stdout, stderr and a program, have a child
			* carry it out, and end with that: its wait status is our name, and args[1] is closed */
	LAST_KIND = SERVE,
};

#define IGNORE 1   /* flag: a failing call is as good as any */
#define INDIRECT 2 /* flag: args[0] of a CALL is where the first argument is */
#define MAY_BE_FORBIDDEN 4 /* flag: a seccomp filter may refuse the call */

struct op {
	u32 kind;
	u32 flags;
	u64 nr;
	u64 args[6];
	u64 store; /* address for the result, or 0 */
	u64 label; /* what to call this in an error */
};
