/*
 * What a snapshot is keyed on: files, and what of the machine, the kernel and the caller must be as
 * it was when the snapshot was made (struct key).
 */

#pragma once

#include "snapshot.h"

#define AUX_HWCAP 16
#define AUX_HWCAP2 26

struct status {
	u64 device, inode, links;
	u32 mode, uid, gid, unused;
	u64 kind, size, block_size, blocks;
	u64 accessed, accessed_ns, modified, modified_ns, changed, changed_ns;
	u64 reserved[3];
};

static int same(const void *one, const void *other, u64 size)
{
	const char *a = one, *b = other;

	while (size && *a == *b)
		a++, b++, size--;
	return !size;
}

static struct identity identity_of(const struct status *status)
{
	return (struct identity){ status->device,	status->inode,	 status->size,
				  status->modified,	status->modified_ns,
				  status->changed,	status->changed_ns };
}

static u64 auxiliary(const struct start *start, u64 wanted)
{
	for (const u64 *at = start->auxiliary; *at; at += 2)
		if (*at == wanted)
			return at[1];
	return 0;
}

static void cpuid(u32 leaf, u32 *eax, u32 *ebx, u32 *ecx, u32 *edx)
{
	__asm__ volatile("cpuid" : "=a"(*eax), "=b"(*ebx), "=c"(*ecx), "=d"(*edx) : "a"(leaf), "c"(0));
}

/* FNV-1a. */
static u64 hash(const char *text)
{
	u64 result = 0xcbf29ce484222325;

	for (; *text; text++)
		result = (result ^ (unsigned char)*text) * 0x100000001b3;
	return result;
}

/* Fill in what a snapshot is keyed on; 0 if it cannot be found out. */
static int find_key(struct start *start)
{
	struct key *key = &start->key;
	struct status status;
	char names[6][65];
	u32 unused;

	if (failed(call(NR_newfstatat, AT_FDCWD, "/proc/self/exe", &status)))
		return 0;
	key->launcher = identity_of(&status);
	key->launcher_path = hash(start->program);
	if (failed(call(NR_newfstatat, AT_FDCWD, "/proc/self/ns/user", &status)))
		return 0;
	key->user_namespace = status.inode;
	s64 boot = call(NR_openat, AT_FDCWD, "/proc/sys/kernel/random/boot_id", O_CLOEXEC);
	if (failed(boot))
		return 0;
	s64 got = call(NR_read, boot, key->boot_id, 36);
	call(NR_close, boot);
	if (got != 36 || failed(call(NR_uname, names)))
		return 0;
	append(key->release, names[2]);
	key->hwcap = auxiliary(start, AUX_HWCAP);
	key->hwcap2 = auxiliary(start, AUX_HWCAP2);
	/* glibc chooses its functions by these. ebx of leaf 1 says on which CPU we are. */
	cpuid(1, &key->cpu[0], &unused, &key->cpu[1], &key->cpu[2]);
	cpuid(7, &unused, &key->cpu[3], &key->cpu[4], &key->cpu[5]);
	return 1;
}
