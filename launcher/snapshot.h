/*
 * The snapshot of an initialised interpreter, as it lies on disk
 * (docs/snapshot.md). src/pyrunc/snapshot/layout.py writes the same.
 *
 *     struct snapshot | struct keyed_file … | struct segment … | paths
 *     and from the next page on the contents of the segments
 */

#pragma once

#include "system.h"

#define SNAPSHOT_MAGIC 0x33504e5343525950UL /* "PYRCSNP3" */

/* What tells two states of a file apart. */
struct identity {
	u64 device, inode, size, modified, modified_ns, changed, changed_ns;
};

/* What must be the same when a snapshot is used as when it was made. */
struct key {
	u64 hwcap, hwcap2;
	u64 user_namespace;
	u64 launcher_path; /* A hash of it: hard links share an inode. */
	u32 cpu[6];
	struct identity launcher;
	char boot_id[40], release[72];
};

/* A file whose code or content the snapshot holds, or that it maps. */
struct keyed_file {
	u64 path; /* Offset among the paths. */
	struct identity identity;
};

#define FROM_SNAPSHOT (-1)
#define FROM_NOWHERE (-2) /* Zeros. */

/* A piece of memory. Those of one file follow each other, in the files' order. */
struct segment {
	u64 start, end, protection;
	s64 source; /* A keyed file's number, or one of the above. */
	u64 offset;
	u64 wiped; /* Forks get zeros there (MADV_WIPEONFORK). */
};

struct area {
	u64 start, size;
};

struct disposition {
	u64 number, handler, flags, restorer, mask;
};

/* Where the interpreter stands, and what of it the kernel keeps. */
struct process {
	u64 registers[8]; /* rbx rbp r12 r13 r14 r15 rsp rip */
	u64 thread_pointer, tid, robust_list, robust_list_size;
	u64 program_break; /* Address of glibc's __curbrk. */
	u64 handover;      /* Address of a struct handover. */
	struct area vdso, vvar[3];
	struct disposition signals[4];
};

struct snapshot {
	u64 magic, file_size, tables_size; /* tables_size: up to the end of the paths. */
	u64 files, segments;
	u64 stamp; /* When it was made, in ns: what belongs to this one has it too. */
	struct key key;
	struct process process;
};

/* The pages that a command writes to, as they lie on disk beside the snapshot. */
struct footprint {
	u64 stamp;
	struct area areas[1024];
};

/* What the launcher tells the interpreter that it has put back. */
struct handover {
	u64 stack;   /* argc, argv, environment, as the kernel left them. */
	u64 ignored; /* Signals that the caller ignores: bit N - 1 for N. */
	u64 began;   /* CLOCK_REALTIME, ns, when --trace was asked for, else 0. */
	u64 unknown; /* Name of the command if its footprint is to be kept, else null. */
};

/* How a command begins. */
struct start {
	u64 *stack, *auxiliary; /* getauxval(3) */
	const char *wish; /* PYRUNC_SNAPSHOT: "0", "make", "try" or nothing. */
	int tracing;
	/* Why it is an ordinary start (src/pyrunc/snapshot/started.py). */
	const char *outcome;
	int taken; /* Only because of what lies where the kernel has put it by chance. */
	const char *program; /* Path of the launcher. */
	/* The snapshot that would be ours, and what is there if it cannot be made. */
	struct key key;
	char path[96], marker[128];
};

/* Go on in a snapshot, if one fits; returns if none does, and `start` says why. */
void restore(struct start *start);
