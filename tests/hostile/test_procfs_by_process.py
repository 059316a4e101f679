"""The procfs of a joined pid namespace by a process that goes there (before Linux 6.18)."""

from __future__ import annotations

import contextlib
import os

import pytest
from below_filters import before_procfs_of_another


@pytest.fixture
def pod(make_bundle, pyrunc):
    """A running container's process, and a bundle that joins its pid namespace."""
    first = make_bundle(args=["sleep", "1000"])
    pid = pyrunc.state(pyrunc.start(first))["pid"]
    second = make_bundle(args=["cat", "/proc/1/cmdline"])
    second.namespace("pid", f"/proc/{pid}/ns/pid")
    return pid, second


def test_it_shows_the_others_processes(pod, pyrunc):
    _, bundle = pod
    done = pyrunc.run(bundle, **before_procfs_of_another())
    assert (done.code, done.stdout, done.stderr) == (0, "sleep\x001000\0", "")


@pytest.mark.parametrize("error", ["EPERM", "ENOSYS", "EINVAL"])
def test_it_does_not_go_there_without_its_filter(pod, pyrunc, error):
    """Seen failing: the error was passed over, and it went on with every call at hand.

    Nobody but the container's own process is in the pid namespace then.
    """
    pid, bundle = pod
    done = pyrunc.run(bundle, **before_procfs_of_another(seccomp=error))
    assert (done.code, done.stdout) == (1, "")
    assert "cannot mount proc on /proc: " in done.stderr
    assert "forbid all but opening a procfs (seccomp)" in done.stderr
    assert "internal error" not in done.stderr
    assert members(os.readlink(f"/proc/{pid}/ns/pid")) == [str(pid)]


def members(namespace: str) -> list[str]:
    found = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{number}/ns/pid") == namespace:
                found.append(number)
    return found
