/*
 * System calls without a libc: their numbers, and how the processor makes them (syscall(2)).
 *
 * A program without a libc begins at START, which calls its function `run` with the stack as the
 * kernel leaves it (System V ABI): argc, argv[0], argv[1], ...
 */

#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef long s64;

#if defined(__x86_64__)

#define NR_read 0
#define NR_write 1
#define NR_close 3
#define NR_fstat 5
#define NR_lseek 8
#define NR_mmap 9
#define NR_munmap 11
#define NR_brk 12
#define NR_rt_sigaction 13
#define NR_rt_sigprocmask 14
#define NR_pread64 17
#define NR_mremap 25
#define NR_madvise 28
#define NR_pause 34
#define NR_getpid 39
#define NR_recvmsg 47
#define NR_clone 56
#define NR_execve 59
#define NR_wait4 61
#define NR_kill 62
#define NR_uname 63
#define NR_fcntl 72
#define NR_getcwd 79
#define NR_mkdir 83
#define NR_chmod 90
#define NR_geteuid 107
#define NR_setpgid 109
#define NR_capget 125
#define NR_sigaltstack 131
#define NR_prctl 157
#define NR_arch_prctl 158
#define NR_set_tid_address 218
#define NR_clock_gettime 228
#define NR_exit_group 231
#define NR_waitid 247
#define NR_openat 257
#define NR_newfstatat 262
#define NR_readlinkat 267
#define NR_faccessat 269
#define NR_ppoll 271
#define NR_set_robust_list 273
#define NR_get_robust_list 274
#define NR_dup3 292
#define NR_prlimit64 302
#define NR_seccomp 317
#define NR_rseq 334

#ifndef PYRUNC_INIT_HOSTED
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
#endif

#define START                     \
	".global _start\n"        \
	"_start:\n"               \
	"	xor %ebp, %ebp\n" \
	"	mov %rsp, %rdi\n" \
	"	and $-16, %rsp\n" \
	"	call run\n"       \
	"	hlt\n"

#elif defined(__aarch64__)

#define NR_getcwd 17
#define NR_dup3 24
#define NR_fcntl 25
#define NR_faccessat 48
#define NR_openat 56
#define NR_close 57
#define NR_lseek 62
#define NR_read 63
#define NR_write 64
#define NR_pread64 67
#define NR_ppoll 73
#define NR_readlinkat 78
#define NR_fstat 80
#define NR_capget 90
#define NR_exit_group 94
#define NR_waitid 95
#define NR_kill 129
#define NR_rt_sigaction 134
#define NR_rt_sigprocmask 135
#define NR_setpgid 154
#define NR_prctl 167
#define NR_getpid 172
#define NR_geteuid 175
#define NR_recvmsg 212
#define NR_munmap 215
#define NR_clone 220
#define NR_execve 221
#define NR_mmap 222
#define NR_madvise 233
#define NR_wait4 260
#define NR_prlimit64 261
#define NR_seccomp 277

#ifndef PYRUNC_INIT_HOSTED
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
#endif

#define START                  \
	".global _start\n"     \
	"_start:\n"            \
	"	mov x29, #0\n" \
	"	mov x0, sp\n"  \
	"	bl run\n"      \
	"	brk #1\n"

#else
#error "pyrunc knows x86_64 and aarch64"
#endif

#define NR_pidfd_open 434
#define NR_clone3 435
#define NR_close_range 436
#define NR_process_madvise 440

#define call(nr, ...) call_(nr, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define call_(nr, a, b, c, d, e, f, ...) \
	call6(nr, (u64)(a), (u64)(b), (u64)(c), (u64)(d), (u64)(e), (u64)(f))

static inline int failed(s64 result)
{
	return result < 0 && result >= -4095;
}
