"""Commands that start from a snapshot of the interpreter (docs/snapshot.md), and when they do not.

Each test has an installation of its own, and so a snapshot of its own.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import struct
import subprocess
import time
from pathlib import Path

import pytest
from snapshots import IN_USE, OFF, SWITCH, fresh, installation, needed, own_package, state_root

__all__ = ["fresh", "installation", "own_package", "state_root"]
pytestmark = needed


def test_the_first_command_that_gains_makes_it(fresh, tmp_path):
    assert fresh.status() == "none (not made yet)"
    assert fresh.run("spec", "--help").returncode == 0
    assert fresh.status() == "none (not made yet)", "`spec` is not worth it"
    listed = fresh.run("--root", f"{tmp_path}/root", "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    until_made(fresh)
    assert fresh.run("--root", f"{tmp_path}/root", "list").stdout == listed.stdout


def test_many_first_commands_at_once_make_one(fresh, tmp_path):
    commands = [
        subprocess.Popen(
            [fresh.launcher, "--root", tmp_path / "root", "list"], stdout=subprocess.DEVNULL
        )
        for _ in range(8)
    ]
    assert [command.wait(60) for command in commands] == [0] * 8
    until_made(fresh)
    # One that began late may have started from it, and kept what it wrote to.
    footprint = fresh.snapshot.with_name(f"{fresh.snapshot.name}.list")
    assert set(fresh.made()) - {footprint} == {fresh.snapshot}


@pytest.mark.parametrize("seconds", [0.01, 0.03, 0.05, 0.07, 0.1, 0.15])
def test_who_is_killed_while_it_is_made_leaves_no_process(fresh, tmp_path, seconds):
    """An engine would meet it: the command's children would become its own."""
    command = subprocess.Popen([fresh.launcher, "--root", tmp_path / "root", "list"])
    time.sleep(seconds)
    command.kill()
    command.wait()
    end = time.monotonic() + 5
    while running(fresh):
        assert time.monotonic() < end, running(fresh)
        time.sleep(0.01)
    until_made(fresh)
    # One that began late may have started from it, and kept what it wrote to.
    footprint = fresh.snapshot.with_name(f"{fresh.snapshot.name}.list")
    assert set(fresh.made()) - {footprint} == {fresh.snapshot}


def running(installation):
    """Return the command lines of this installation's processes."""
    top = os.fsencode(installation.launcher.parent)
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = process.read_bytes()
        except OSError:
            continue
        if top in line:
            found.append(line)
    return found


def test_warm_up_tells_where_it_is_and_does_nothing_twice(installation):
    before = installation.snapshot.stat()
    assert (before.st_mode & 0o777, before.st_uid) == (0o600, os.geteuid())
    directory = installation.snapshot.parent.stat()
    assert (directory.st_mode & 0o777, directory.st_uid) == (0o700, os.geteuid())
    assert installation.run("warm-up").stdout == f"{installation.snapshot}\n"
    assert installation.snapshot.stat().st_ino == before.st_ino


def test_features_tell(installation):
    told = json.loads(installation.run("features").stdout)["annotations"]
    assert told["pyrunc.snapshot"] == IN_USE
    told = json.loads(installation.run("features", env=OFF).stdout)["annotations"]
    assert told["pyrunc.snapshot"] == "none (switched off)"


def test_a_trace_shows_it(installation, tmp_path):
    trace = tmp_path / "trace"
    installation.run("--trace", str(trace), "--root", f"{tmp_path}/root", "list")
    first = json.loads(trace.read_text())[3]
    assert first["name"] == "restore the snapshot"
    assert 0 < first["dur"] < 1e6


def test_variable_and_file_switch_it_off(installation):
    assert installation.status(env=OFF) == "none (switched off)"
    assert installation.status(env={"PYRUNC_SNAPSHOT": "1"}) == IN_USE
    made = not SWITCH.parent.exists()
    SWITCH.parent.mkdir(exist_ok=True)
    SWITCH.touch()
    try:
        assert installation.status() == "none (switched off)"
        done = installation.run("warm-up")
        assert done.returncode == 1
        assert "commands cannot start from a snapshot: none (switched off)" in done.stderr
    finally:
        SWITCH.unlink()
        if made:
            SWITCH.parent.rmdir()
    assert installation.status() == IN_USE


def test_debug_switches_it_off(own_package, tmp_path):
    """It is there to look for mistakes, with line numbers."""
    broken = own_package.package / "cli/list.py"
    broken.write_text(broken.read_text().replace("def call(", "def call(*_):\n    1 / 0\ndef _("))
    done = own_package.run("--debug", "--root", f"{tmp_path}/root", "list")
    assert "in call" in done.stderr


@pytest.mark.parametrize("what", ["image", "library", "init", "script", "launcher"])
def test_a_replaced_file_is_noticed(own_package, what):
    """What has been read from it may be something else now. It is made anew, but not at once."""
    path = {
        "image": next(own_package.package.glob("startup.*")),
        "library": own_package.package / "linux/_syscall.abi3.so",
        "init": own_package.package / "init/pyrunc-init",
        "script": own_package.script,
        "launcher": own_package.launcher,
    }[what]
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    copy.replace(path)
    assert own_package.status() == "none (not made yet)"
    before = own_package.snapshot.stat().st_ino
    assert own_package.run("list").returncode == 0
    assert own_package.snapshot.stat().st_ino == before, "it would be made at each command"
    os.utime(own_package.snapshot, (1, 1))
    time.sleep(0.3)
    until_made(own_package)
    assert own_package.snapshot.stat().st_ino != before


def until_made(installation):
    """Call commands until one has made the snapshot: not if another installation makes its own."""
    for _ in range(50):
        assert installation.run("list").returncode == 0
        if installation.status() == IN_USE:
            return
        time.sleep(0.1)
    raise AssertionError(installation.status())


def test_what_cannot_be_made_is_not_tried_again(fresh, tmp_path):
    module = fresh.package / "linux/_freeze.abi3.so"
    whole = module.read_bytes()
    module.write_bytes(b"no library")
    for _ in range(50):
        time.sleep(0.2)
        assert fresh.run("--root", f"{tmp_path}/root", "list").returncode == 0
        status = fresh.status()
        if status != "none (not made yet)":
            break
    assert status.startswith("none (cannot be made: "), status
    assert str(module) in status, status
    (marker,) = fresh.made()
    before = marker.stat().st_mtime_ns
    assert fresh.run("--root", f"{tmp_path}/root", "list").returncode == 0
    assert marker.stat().st_mtime_ns == before
    # But when asked for.
    done = fresh.run("warm-up")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"cannot make a snapshot: {module}" in done.stderr
    (marker,) = fresh.made()
    assert marker.stat().st_mtime_ns != before
    module.unlink()
    module.write_bytes(whole)
    fresh.warm_up()
    assert fresh.made() == [fresh.snapshot]


def test_files_that_change_at_this_moment_are_not_trusted(fresh, tmp_path):
    """They may have been read before the change. Nor is it tried at each command."""
    command = ("--root", f"{tmp_path}/root", "list")
    changing = subprocess.Popen(["sh", "-c", 'while touch "$0"; do sleep 0.01; done', fresh.script])
    try:
        assert fresh.run(*command).returncode == 0
    finally:
        changing.kill()
        changing.wait()
    later = fresh.snapshot.with_name(f"{fresh.snapshot.name}.later")
    assert fresh.made() == [later]
    time.sleep(0.3)
    before = later.stat().st_mtime_ns
    assert fresh.run(*command).returncode == 0
    assert (fresh.made(), later.stat().st_mtime_ns) == ([later], before)
    other = fresh.snapshot.with_name("0.later")
    other.touch()
    for path in (later, other):
        os.utime(path, (1, 1))
    until_made(fresh)
    # One that began late may have started from it, and kept what it wrote to.
    footprint = fresh.snapshot.with_name(f"{fresh.snapshot.name}.list")
    assert set(fresh.made()) - {footprint} == {fresh.snapshot}
    assert not other.exists()


@pytest.mark.parametrize(("kind", "least"), [(resource.RLIMIT_AS, 24), (resource.RLIMIT_DATA, 8)])
def test_limits_that_leave_no_room_lead_to_the_ordinary_start(installation, tmp_path, kind, least):
    """They refuse a part of the memory: the interpreter alone needs less than that."""
    answers = set()
    for megabytes in range(least, 64, 4):
        size = megabytes << 20

        def limit(size=size):
            resource.setrlimit(kind, (size, size))

        done = installation.run("state", "no-such", preexec_fn=limit)
        if "does not exist" in done.stderr:
            listed = installation.run("--root", f"{tmp_path}/root", "list", preexec_fn=limit)
            answers.add(listed.returncode)
        else:
            # Too little for either.
            assert done.returncode != 0
    assert answers == {0}
    assert installation.status() == IN_USE


@pytest.mark.parametrize(
    ("kind", "value"), [(resource.RLIMIT_FSIZE, 1 << 20), (resource.RLIMIT_NOFILE, 12)]
)
def test_a_limited_caller_makes_none(fresh, tmp_path, kind, value):
    """It could fail, and be the reason why nobody else has one."""

    def limit():
        resource.setrlimit(kind, (value, value))

    assert fresh.run("--root", f"{tmp_path}/root", "list", preexec_fn=limit).returncode == 0
    assert fresh.made() == []
    # Asked for, it is tried.
    done = fresh.run("warm-up", preexec_fn=limit)
    assert not [path for path in fresh.made() if path.name.endswith(".failed")], done


def test_a_kernel_that_does_not_let_the_vdso_be_moved(installation, tmp_path):
    """CONFIG_MSEAL_SYSTEM_MAPPINGS: mremap(2) of it fails; here a filter refuses that call."""
    done = installation.run("--version", preexec_fn=refuse_mremap)
    assert (done.returncode, done.stderr) == (0, "")
    assert "snapshot: none (no room for it in this process)" in done.stdout
    assert installation.status() == IN_USE


def refuse_mremap():
    """Install a filter: ld [0]; jeq 25; ret EPERM; ret allow (seccomp(2))."""
    instructions = (
        (0x20, 0, 0, 0),
        (0x15, 0, 1, 25),
        (0x06, 0, 0, 0x50001),
        (0x06, 0, 0, 0x7FFF0000),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *i) for i in instructions))
    program = struct.pack("@HP", len(instructions), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, program, 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def test_memory_that_is_taken_leads_to_the_ordinary_start(installation):
    """The kernel has put something there: the launcher, in this case.

    A second start may have more luck, a third is not tried.
    """
    with installation.snapshot.open("r+b") as file:
        head = file.read(48)
        files, segments = struct.unpack_from("=2Q", head, 24)
        # struct snapshot up to the key, the key, struct process; a file, a segment.
        last = 48 + 224 + 336 + files * 64 + (segments - 1) * 48
        file.seek(last)
        start, end = struct.unpack("=2Q", file.read(16))
        assert 4096 <= end - start <= 8 << 20
        file.seek(last)
        file.write(struct.pack("=2Q", 0x600000000000, 0x600000001000))
    assert installation.status() == "none (no room for it in this process)"
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    command = ["strace", "-e", "trace=execve", "-qq", installation.launcher, "--version"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    executed = [line.split('"')[1] for line in done.stderr.splitlines() if line[:6] == "execve"]
    assert executed[:2] == [str(installation.launcher)] * 2
    assert "python" in executed[2]


def test_without_random_addresses_it_is_made_all_the_same(fresh, tmp_path):
    """setarch -R: all would begin at the same place, and no snapshot would fit."""
    setarch = shutil.which("setarch")
    if not setarch:
        pytest.skip("needs setarch")
    for _ in range(50):
        command = [setarch, "-R", fresh.launcher, "--root", f"{tmp_path}/root", "list"]
        subprocess.run(command, check=True, capture_output=True)
        if fresh.status() == IN_USE:
            return
        time.sleep(0.1)
    raise AssertionError(fresh.status())


def test_hundreds_of_starts(installation, tmp_path):
    """The kernel may put something in the snapshot's way: a second start has it elsewhere.

    Here that happens to about every fourth start, for the place that the snapshot keeps for its
    stack is made 4 GiB large, a quarter of where the kernel puts stacks; else to 3 of 10,000.
    """
    outcomes = [installation.status() for _ in range(100)]
    assert outcomes == [IN_USE] * 100
    make_large(installation.snapshot)
    outcomes = [installation.status() for _ in range(200)]
    assert set(outcomes) <= {IN_USE, "none (no room for it in this process)"}
    # 12 are to be expected; without the second start 50.
    assert outcomes.count(IN_USE) > 165


def make_large(snapshot):
    """Let the place for the stack reach 4 GiB further down."""
    with snapshot.open("r+b") as file:
        files, segments = struct.unpack_from("=2Q", file.read(48), 24)
        # struct snapshot up to the key, the key, struct process; a file, a segment.
        file.seek(48 + 224 + 336 + files * 64 + (segments - 1) * 48)
        start, end = struct.unpack("=2Q", file.read(16))
        assert (end >> 32, end - start) >= (0x7FF0, 4 << 20)
        file.seek(-16, 1)
        file.write(struct.pack("=2Q", start - (4 << 30), end))
