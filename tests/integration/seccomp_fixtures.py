"""A program that makes one system call, and rules about it."""

from __future__ import annotations

import shutil

import pytest

from pyrunc.linux.numbers import MACHINE

#: Makes each of the calls that it is given as NUMBER,ARGUMENT... and prints errno, 0 when it
#: worked; "32:" in front of one takes the entry of 32-bit programs.
CALLER = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void trapped(int number) { (void)number; puts("trapped"); fflush(stdout); _exit(0); }

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        unsigned long a[7] = {0};
        char *word = argv[i];
        int narrow = !strncmp(word, "32:", 3), n = 0;
        if (!strcmp(word, "handle")) { signal(SIGSYS, trapped); continue; }
        if (narrow) word += 3;
        for (char *part = strtok(word, ","); part && n < 7; part = strtok(NULL, ","))
            a[n++] = strtoul(part, NULL, 0);
        long result = -ENOSYS;
        if (!narrow) {
            errno = 0;
            result = syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]) < 0 ? -errno : 0;
        } else {
#ifdef __x86_64__
            __asm__ volatile("push %%rbx; xor %%ebx, %%ebx; int $0x80; pop %%rbx"
                             : "=a"(result) : "0"(a[0]), "c"(0)
                             : "memory", "r8", "r9", "r10", "r11");
            if (result > 0) result = 0;
#endif
        }
        printf("%ld\n", -result);
        fflush(stdout);
    }
    return 0;
}
"""


GETPPID = {"x86_64": 110, "aarch64": 173}[MACHINE]


@pytest.fixture(scope="module")
def caller(compiled):
    """A static program that makes system calls by number."""
    return compiled("caller", CALLER)


@pytest.fixture
def calling(make_bundle, caller):
    """Make a bundle that makes system calls under a filter."""

    def make(seccomp, *calls):
        bundle = make_bundle(args=["caller", *calls], linux={"seccomp": seccomp})
        shutil.copy2(caller, bundle.rootfs / "bin/caller")
        return bundle

    return make


def rule(action, *names, **more):
    return {"names": list(names or ("getppid",)), "action": action, **more}


def section(*rules, **more):
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": list(rules), **more}
