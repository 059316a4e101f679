"""A machine that fails, or has no room: one clear line, and nothing left."""

from __future__ import annotations

import collections
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cgroup_tree import cgroups_named
from runtimes import mount_missing_controllers

#: What may fail, and how; `create` and `run` have all of it.
CALLS = {
    "openat": ("EMFILE", "EIO"),
    "mkdir": ("ENOSPC", "EROFS"),
    "write": ("ENOSPC", "EIO"),
    "read": ("EIO",),
    "renameat": ("ENOSPC",),
    "rename": ("ENOSPC",),
    "mknodat": ("ENOSPC",),
    "pipe2": ("EMFILE",),
    "clone3": ("ENOMEM", "EAGAIN"),
    "vfork": ("EAGAIN",),
    "memfd_create": ("ENOMEM",),
    "flock": ("ENOLCK",),
    "fcntl": ("ENOMEM",),
    "newfstatat": ("EIO",),
    "getdents64": ("EIO",),
    "pidfd_open": ("EMFILE",),
    "signalfd4": ("EMFILE",),
    "unlinkat": ("EIO",),
    "mmap": ("ENOMEM",),
    "poll": ("ENOMEM",),
}
#: How many of a call's places in a command are tried.
SAMPLE = int(os.environ.get("PYRUNC_INJECTIONS", "2"))
COMMANDS = {
    "create": ("create", "-b", "BUNDLE", "NAME"),
    "run": ("run", "-b", "SHORT", "NAME"),
    "start": ("start", "NAME"),
    "exec": ("exec", "NAME", "true"),
    "update": ("update", "--pids-limit", "50", "NAME"),
    "pause": ("pause", "NAME"),
    "kill": ("kill", "NAME", "KILL"),
    "state": ("state", "NAME"),
    "list": ("list",),
    "delete": ("delete", "--force", "NAME"),
}

needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")


@pytest.fixture
def behind(pyrunc):
    """Return what calls the command behind another."""

    def call(prefix, *words):
        before = list(pyrunc.command)
        pyrunc.command[:0] = prefix
        try:
            return pyrunc(*words)
        finally:
            pyrunc.command[:] = before

    return call


def assert_said_plainly(done, what):
    """One entry, in the form of the log, that blames nobody but the machine."""
    assert "internal error" not in done.stderr, what
    assert "Traceback" not in done.stderr, what
    lines = done.stderr.splitlines()
    assert all(line.startswith("time=") for line in lines), (what, lines)
    errors = [line for line in lines if "level=error" in line]
    assert len(errors) == (1 if done.code else 0), (what, done.code, lines)


def counted(behind, log, words):
    """How often a command makes each call."""
    behind(["strace", "-o", str(log)], *words)
    return collections.Counter(re.findall(r"^([a-z_0-9]+)\(", log.read_text(), re.MULTILINE))


@needs_strace
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("command", COMMANDS)
def test_system_calls_that_fail(make_bundle, pyrunc, behind, tmp_path, command):
    """Of 548 places 95 gave "internal error … please report"; a state directory was left when
    its lock could not be had. The first calls of each kind are the interpreter's own."""
    sleeper, short = make_bundle(args=["sleep", "1000"]), make_bundle(args=["true"])
    name = pyrunc.new_id()
    names = {"BUNDLE": str(sleeper.path), "SHORT": str(short.path), "NAME": name}
    for bundle in (sleeper, short):
        bundle.linux["cgroupsPath"] = f"/{name}"
        bundle.save()
    words = [names.get(word, word) for word in COMMANDS[command]]

    def set_up():
        if command not in ("create", "run"):
            assert pyrunc("create", "-b", names["BUNDLE"], name).code == 0
        if command in ("exec", "update", "pause", "kill"):
            assert pyrunc("start", name).code == 0

    begins = counted(behind, tmp_path / "log", ["--version"])
    set_up()
    calls = counted(behind, tmp_path / "log", words)
    pyrunc("delete", "--force", name)
    for call, errors in CALLS.items():
        places = range(begins[call] + 1, calls[call] + 1)
        for place in places[:: max(1, len(places) // SAMPLE)]:
            for error in errors:
                set_up()
                inject = f"inject={call}:error={error}:when={place}"
                prefix = ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
                done = behind(prefix, *words)
                what = f"{command}: {call} {place}: {error}"
                assert_said_plainly(done, what)
                if command in ("create", "run") and done.code:
                    assert pyrunc("state", name).code == 1, what
                    assert not cgroups_named(name), what
                deleted = pyrunc("delete", "--force", name)
                assert (deleted.code, deleted.stderr) == (0, ""), what
                assert not cgroups_named(name), what


@pytest.fixture
def small_root(tmp_path):
    """A state root on a file system of 64 KiB of its own."""
    root = tmp_path / "small"
    root.mkdir(mode=0o700)
    words = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", root]
    if subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield root
    subprocess.run(["umount", "-l", root], check=True)


@needs_strace
def test_a_builder_that_fails_while_its_end_cannot_be_waited_for(make_bundle, pyrunc, behind):
    """poll(2) fails once in each process: the undo stopped there, and left everything else."""
    bundle = make_bundle()
    bundle.save()
    name = pyrunc.new_id()
    inject = "inject=poll:error=ENOMEM:when=1"
    prefix = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=poll", "-e", inject]
    done = behind(prefix, "run", "-b", bundle.path, name)
    assert done.code == 1
    assert_said_plainly(done, "run")
    assert pyrunc("state", name).code == 1
    assert not cgroups_named(name)


@pytest.mark.parametrize("command", ["create", "run"])
def test_a_full_state_root(make_bundle, pyrunc, small_root, command):
    """It was an internal error."""
    bundle = make_bundle()
    bundle.save()
    filler = os.open(small_root / "filler", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        with pytest.raises(OSError, match="No space"):
            while True:
                os.write(filler, b"x" * 4096)
    finally:
        os.close(filler)
    name = pyrunc.new_id()
    done = pyrunc("--root", small_root, command, "-b", bundle.path, name)
    assert done.code == 1
    assert_said_plainly(done, command)
    assert "no space left on device" in done.stderr
    assert os.listdir(small_root) == ["filler"]
    assert cgroups_named(name) == []


def test_a_read_only_state_root(make_bundle, pyrunc, small_root):
    """Everything but reading says why not."""
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.save()
    name = pyrunc.new_id()
    root = ("--root", small_root)
    assert pyrunc(*root, "create", "-b", bundle.path, name).code == 0
    subprocess.run(["mount", "-o", "remount,ro", small_root], check=True)
    try:
        for words in (
            ("create", "-b", bundle.path, pyrunc.new_id()), ("run", "-b", bundle.path, "other"),
            ("delete", name), ("delete", "--force", name),
        ):  # fmt: skip
            done = pyrunc(*root, *words)
            assert done.code == 1, words
            assert_said_plainly(done, words)
            assert "read-only file system" in done.stderr
        for words in (("state", name), ("list",)):
            assert pyrunc(*root, *words).code == 0
    finally:
        subprocess.run(["mount", "-o", "remount,rw", small_root], check=True)
        assert pyrunc(*root, "delete", "--force", name).code == 0


@pytest.mark.parametrize("member", ["mount", "cwd", "device"])
def test_a_path_of_1900_parts(make_bundle, pyrunc, member):
    """RecursionError, from making one directory after the other from the end."""
    bundle = make_bundle()
    deep = "/tmp" + "/d" * 1900
    if member == "mount":
        bundle.mount(deep, "tmpfs", "tmpfs")
    elif member == "cwd":
        bundle.process["cwd"] = deep
    else:
        bundle.linux["devices"] = [{"path": deep, "type": "c", "major": 1, "minor": 3}]
    try:
        done = pyrunc.run(bundle)
        assert (done.code, done.stderr) == (0, "")
    finally:
        # pytest's own way to remove it is recursive as well.
        subprocess.run(["rm", "-rf", bundle.rootfs / "tmp"], check=True)


@pytest.mark.parametrize("parts", [100, 101, 1900])
@pytest.mark.parametrize("start", ["/", ""], ids=["absolute", "relative"])
def test_a_cgroups_path_of_many_parts(make_bundle, pyrunc, parts, start):
    """On v1 there are a dozen hierarchies to make each part in: 1,900 took a minute, and stayed."""
    bundle = make_bundle(args=["true"])
    name = pyrunc.new_id()
    bundle.linux["cgroupsPath"] = f"{start}{name}{'/d' * (parts - 1)}"
    bundle.save()
    try:
        done = pyrunc("run", "-b", bundle.path, name)
        if parts > 100:
            assert done.code == 1
            assert_said_plainly(done, parts)
            assert f"linux.cgroupsPath is {parts} cgroups deep: 100 at most" in done.stderr
            assert cgroups_named(name) == []
        else:
            assert (done.code, done.stderr) == (0, "")
    finally:
        for top in cgroups_named(name):
            for directory, _, _ in os.walk(top, topdown=False):
                os.rmdir(directory)


def test_a_state_root_of_1900_parts(make_bundle, pyrunc, tmp_path):
    """RecursionError as well."""
    bundle = make_bundle()
    bundle.save()
    root = tmp_path / "deep"
    try:
        done = pyrunc("--root", f"{root}{'/d' * 1900}", "run", "-b", bundle.path, "x")
        assert (done.code, done.stderr) == (0, "")
    finally:
        subprocess.run(["rm", "-rf", root], check=True)


@pytest.mark.parametrize("number", ["major", "minor"])
@pytest.mark.parametrize("where", ["devices", "rules"])
def test_a_device_number_that_the_kernel_cannot_have(make_bundle, pyrunc, number, where):
    """OverflowError in the builder."""
    bundle = make_bundle()
    numbers = {"type": "c", "major": 1, "minor": 3, number: 1 << 40}
    if where == "devices":
        bundle.linux["devices"] = [{"path": "/dev/x", **numbers}]
    else:
        bundle.linux["resources"]["devices"].append({"allow": True, "access": "r", **numbers})
    done = pyrunc.run(bundle)
    assert done.code == 1
    assert_said_plainly(done, number)
    assert number in done.stderr


def test_a_hooks_environment_may_hold_anything(make_bundle, pyrunc, tmp_path):
    """ValueError: "illegal environment variable name"."""
    out = tmp_path / "out"
    bundle = make_bundle()
    hook = {
        "path": "/bin/sh",
        "args": ["sh", "-c", f"cat /proc/self/environ >{out}"],
        "env": ["=x", "nothing", "=", "A=1", "A=2", "PATH=/bin:/usr/bin"],
    }
    bundle.config["hooks"] = {"createRuntime": [hook]}
    done = pyrunc.run(bundle)
    assert (done.code, done.stderr) == (0, "")
    told = Path(out).read_bytes().split(b"\0")
    assert b"A=2" in told
    assert b"A=1" not in told


def test_a_hierarchy_that_is_not_mounted_any_more(make_bundle, pyrunc):
    """`exec` looked for the container's cgroup where there is none. Seen: KeyError."""
    hierarchy = Path("/sys/fs/cgroup/net_prio")
    if not Path("/sys/fs/cgroup/memory/tasks").exists() or hierarchy.is_mount():
        pytest.skip("needs cgroup v1 with a hierarchy that is not mounted")
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.save()
    name = pyrunc.new_id()
    # In a mount namespace of its own, in which it is mounted.
    words = [*mount_missing_controllers(), *pyrunc.command, "run", "--detach"]
    words += ["--bundle", str(bundle.path), name]
    subprocess.run(words, stdin=subprocess.DEVNULL, check=True)
    done = pyrunc("exec", name, "true")
    assert done.code != 0
    assert_said_plainly(done, "exec")
    assert "of the hierarchy of net_prio, which is not mounted" in done.stderr
    words = [*mount_missing_controllers(), *pyrunc.command, "delete", "--force", name]
    assert subprocess.run(words, check=False).returncode == 0
