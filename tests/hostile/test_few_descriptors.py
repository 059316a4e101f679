"""A limit on open files (RLIMIT_NOFILE) that leaves little room, or none."""

from __future__ import annotations

import os
import resource
import sys

import pytest

from cgroup_tree import cgroups_named

LIMIT = """\
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[1])))
os.execvp(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture
def limited(pyrunc):
    """Return what calls the command with so many descriptors at most."""

    def call(most, *words):
        before = list(pyrunc.command)
        pyrunc.command[:0] = [sys.executable, "-c", LIMIT, str(most)]
        try:
            return pyrunc(*words)
        finally:
            pyrunc.command[:] = before

    return call


def hook(script):
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}


@pytest.mark.parametrize("user_namespace", [False, True])
def test_twenty_are_enough(make_bundle, pyrunc, limited, public_path, user_namespace):
    """`exec` kept the tasks files of a dozen v1 hierarchies open, and found no room for init."""
    bundle = make_bundle(args=["sleep", "1000"], at=public_path / "bundle")
    del bundle.process["rlimits"]
    kinds = ("createRuntime", "createContainer", "poststart", "poststop")
    bundle.config["hooks"] = {kind: [hook("exit 0")] for kind in kinds}
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro")
    for number in range(20):
        # What is mounted is let go of at once.
        bundle.mount(f"/tmp/{number}", "tmpfs", "tmpfs")
    if user_namespace:
        bundle.user_namespace(100000)
        bundle.give_to(100000)
    bundle.save()
    name = pyrunc.new_id()
    for words in (
        ("create", "-b", bundle.path, name), ("start", name), ("state", name), ("list",),
        ("exec", name, "true"), ("exec", "-d", name, "true"), ("pause", name), ("resume", name),
        ("update", "--pids-limit", "60", name), ("ps", name), ("events", "--stats", name),
        ("kill", "--all", name, "CONT"), ("kill", name, "KILL"), ("delete", "--force", name),
    ):  # fmt: skip
        done = limited(20, *words)
        assert (words[0], done.code, done.stderr) == (words[0], 0, "")
    bundle.process["args"] = ["sh", "-c", "ulimit -n"]
    bundle.save()
    done = limited(20, "run", "-b", bundle.path, pyrunc.new_id())
    # The limit is the container's as well, unless the config has another.
    assert (done.code, done.stdout, done.stderr) == (0, "20\n", "")


@pytest.mark.parametrize("most", range(7, 18))
def test_too_few_leave_nothing(make_bundle, pyrunc, limited, most):
    """The undo opened files while those of the builder were still open, and failed like the
    create: the record and the cgroups stayed, and nothing was said."""
    bundle = make_bundle()
    del bundle.process["rlimits"]
    bundle.save()
    name = pyrunc.new_id()
    done = limited(most, "create", "-b", bundle.path, name)
    if done.code == 0:
        assert pyrunc("delete", name).code == 0
        return
    assert "internal error" not in done.stderr
    assert "too many open files" in done.stderr.lower()
    assert not cgroups_named(name)
    assert pyrunc("state", name).code == 1


def test_many_that_the_caller_has_open(make_bundle, pyrunc):
    """What counts is the room that is left: these are passed on or closed, as ever."""
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.save()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(200)]
    try:
        for descriptor in opened:
            os.set_inheritable(descriptor, True)
        limit = opened[-1] + 20

        def lower():
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit, soft), hard))

        done = pyrunc.create(bundle, preexec_fn=lower, close_fds=False)
        assert (done.code, done.stderr) == (0, "")
        assert pyrunc("start", done.id, preexec_fn=lower, close_fds=False).code == 0
        assert pyrunc("exec", done.id, "true", preexec_fn=lower, close_fds=False).code == 0
    finally:
        for descriptor in opened:
            os.close(descriptor)
