"""What is said of a call of the launch program that failed: errnos in the words of config.json."""

from __future__ import annotations

from errno import EBUSY, EINVAL, ENOENT, EPERM

import pytest

from pyrunc.process.failure import NO_PROCESS, describe_failure


@pytest.mark.parametrize(
    ("label", "errno", "words"),
    [
        ("set uid 7", EINVAL, "set uid 7: invalid argument; the user namespace does not map it"),
        ("set gid 7", EINVAL, "(linux.gidMappings)"),
        ("set supplementary groups 7", EINVAL, "does not map all of them (linux.gidMappings)"),
        ("set supplementary groups 7", EPERM, "as in a rootless container without newgidmap"),
        ("set scheduler SCHED_DEADLINE", EPERM, "all CPUs of the host: no linux.resources.cpu.cpu"),
        ("set scheduler SCHED_DEADLINE", EBUSY, "not so much time left to guarantee"),
        ("set scheduler SCHED_DEADLINE", EINVAL, "1024 <= runtime <= deadline <= period"),
        ("set scheduler SCHED_FIFO", EPERM, "linux.resources.cpu.realtimeRuntime"),
        ("set I/O priority IOPRIO_CLASS_RT", EPERM, "CAP_SYS_NICE or CAP_SYS_ADMIN"),
        ("set RLIMIT_CORE to 1:2", EPERM, "only CAP_SYS_RESOURCE may raise a hard limit"),
        ("set CPU affinity to 900", EINVAL, "or the container's cpuset, has none of them"),
        ("set memory policy MPOL_BIND", EINVAL, "or the container's cpuset, lacks these nodes"),
    ],
)
def test_an_errno_that_misleads_is_explained(label, errno, words):
    told = describe_failure((3, errno, 0, label))
    assert told.startswith(f"{label}: ")
    assert words in told
    assert "\n" not in told


def test_an_errno_that_says_enough_stays_alone():
    assert (
        describe_failure((3, ENOENT, 0, "chdir to /x")) == "chdir to /x: no such file or directory"
    )


def test_what_fails_whatever_the_errno_has_none():
    assert describe_failure((3, ENOENT, 0, NO_PROCESS)) == NO_PROCESS
