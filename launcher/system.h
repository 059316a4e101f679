/*
 * System calls without a libc, and how the kernel starts a program: `run` is
 * called with what it leaves on the stack.
 */

#pragma once

typedef unsigned long u64;
typedef long s64;
typedef unsigned int u32;

#if defined(__x86_64__)

#define NR_read 0
#define NR_write 1
#define NR_close 3
#define NR_fstat 5
#define NR_mmap 9
#define NR_brk 12
#define NR_rt_sigaction 13
#define NR_mremap 25
#define NR_madvise 28
#define NR_execve 59
#define NR_uname 63
#define NR_fcntl 72
#define NR_mkdir 83
#define NR_chmod 90
#define NR_geteuid 107
#define NR_capget 125
#define NR_arch_prctl 158
#define NR_set_tid_address 218
#define NR_clock_gettime 228
#define NR_exit_group 231
#define NR_openat 257
#define NR_newfstatat 262
#define NR_readlinkat 267
#define NR_faccessat 269
#define NR_set_robust_list 273

static inline s64 call6(u64 nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	s64 result;
	register u64 r10 __asm__("r10") = d;
	register u64 r8 __asm__("r8") = e;
	register u64 r9 __asm__("r9") = f;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

#define START                    \
	".global _start\n"       \
	"_start:\n"              \
	"	xor %ebp, %ebp\n" \
	"	mov %rsp, %rdi\n" \
	"	and $-16, %rsp\n" \
	"	call run\n"      \
	"	hlt\n"

#elif defined(__aarch64__)

#define NR_fcntl 25
#define NR_faccessat 48
#define NR_openat 56
#define NR_close 57
#define NR_read 63
#define NR_write 64
#define NR_readlinkat 78
#define NR_capget 90
#define NR_exit_group 94
#define NR_execve 221

static inline s64 call6(u64 nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	register u64 x8 __asm__("x8") = nr;
	register u64 x0 __asm__("x0") = a;
	register u64 x1 __asm__("x1") = b;
	register u64 x2 __asm__("x2") = c;
	register u64 x3 __asm__("x3") = d;
	register u64 x4 __asm__("x4") = e;
	register u64 x5 __asm__("x5") = f;
	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return (s64)x0;
}

#define START                \
	".global _start\n"   \
	"_start:\n"          \
	"	mov x29, #0\n" \
	"	mov x0, sp\n" \
	"	bl run\n"    \
	"	brk #1\n"

#else
#error "pyrunc's launcher knows x86_64 and aarch64"
#endif

#define call(nr, ...) call_(nr, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define call_(nr, a, b, c, d, e, f, ...) \
	call6(nr, (u64)(a), (u64)(b), (u64)(c), (u64)(d), (u64)(e), (u64)(f))

#define AT_FDCWD (-100)
#define O_RDWR 2
#define O_CLOEXEC 02000000
#define R_OK 4
#define ENOENT 2
#define ENOEXEC 8
#define EACCES 13

#define PATH_SIZE 4096

static inline int failed(s64 result)
{
	return result < 0 && result >= -4095;
}

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
