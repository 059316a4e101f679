/*
 * Constants of the kernel's, and what a program without a libc needs for texts and numbers.
 */

#pragma once

#include "../syscall/call.h"

#define AT_FDCWD (-100)
#define O_RDWR 2
#define O_NONBLOCK 04000
#define O_CLOEXEC 02000000
#define AT_SYMLINK_NOFOLLOW 0x100

#define S_IFMT 0170000
#define S_IFREG 0100000
#define S_IFDIR 0040000

#define CLOCK_REALTIME 0
#define EEXIST 17
#define R_OK 4
#define ENOENT 2
#define ENOEXEC 8
#define EACCES 13

#define PATH_SIZE 4096

static inline int starts_with(const char *text, const char *start)
{
	while (*start && *text == *start)
		text++, start++;
	return !*start;
}

static inline int same_text(const char *one, const char *other)
{
	while (*one && *one == *other)
		one++, other++;
	return *one == *other;
}

/* Copy `text` to `to` and return where it ends there. */
static inline char *append(char *to, const char *text)
{
	while (*text)
		*to++ = *text++;
	*to = 0;
	return to;
}

static inline u64 length_of(const char *text)
{
	u64 length = 0;

	while (text[length])
		length++;
	return length;
}

/* Write a number's digits to `to` and return where they end there. */
static inline char *append_number(char *to, u64 number, u64 base)
{
	char digits[24];
	u64 count = 0;

	do
		digits[count++] = "0123456789abcdef"[number % base];
	while (number /= base);
	while (count)
		*to++ = digits[--count];
	*to = 0;
	return to;
}
