"""Programs in a sandbox that mean harm: to its init, to the engine, to other sandboxes."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
from conftest import keeper_and_engine

import pyrunc

pytestmark = pytest.mark.usefixtures("no_remains")


def processes_with(word):
    """Return the pids whose command line holds ``word``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if word in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.parametrize("user", [65534, 0])
def test_init_can_neither_be_killed_nor_looked_into(user):
    script = """
        for n in 1 2 3 6 9 15 17 19 34; do kill -$n 1; done
        ls /proc/1/fd 2>/dev/null; cat /proc/1/environ /proc/1/maps /proc/1/mem 2>/dev/null
        readlink /proc/1/exe /proc/1/cwd /proc/1/root /proc/1/fd/*
        echo alive; ls /proc/self/fd
    """
    result = pyrunc.run(["sh", "-c", script], user=user, text=True, timeout=60)
    assert result.ok, result
    shown = result.stdout.split()
    # A process of its own user may list the numbers of init's descriptors, and no more.
    assert shown[shown.index("alive") + 1 :] == ["0", "1", "2", "3"]
    assert all(word.isdigit() for word in shown[: shown.index("alive")])


@pytest.mark.parametrize("pool", [0, 2])
def test_who_is_left_when_the_program_has_ended_is_gone_before_that_is_told(pool):
    word = f"1000.{os.getpid()}"
    script = f"for n in 1 2 3; do sleep {word} & setsid sleep {word} & done; exit 3"
    for _ in range(10):
        assert pyrunc.run(["sh", "-c", script], pool=pool).returncode == 3
        assert processes_with(word.encode()) == []


@pytest.mark.parametrize("user", [65534, 0])
def test_how_a_program_ended_only_its_init_tells(user):
    """Init, its parent, does so by its name (container/making/served.py)."""
    script = """
        for path in /proc/1/comm /proc/self/comm /proc/$$/comm; do echo "done 0" >$path; done
        (echo "done 0" >/proc/self/comm; sleep 0.1) & kill -9 -- -1 2>/dev/null
        exit 5
    """
    for number in (3, 255):
        result = pyrunc.run(["sh", "-c", script.replace("exit 5", f"exit {number}")], user=user)
        assert (result.status, result.returncode) == ("exited", number), result
    result = pyrunc.run(["sh", "-c", script.replace("exit 5", "kill -9 $$")], user=user)
    assert (result.status, result.returncode) == ("signaled", -signal.SIGKILL)


def test_no_new_namespace_no_mount_no_device():
    script = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def tried(name, *args):
    ctypes.set_errno(0)
    result = getattr(libc, name)(*args)
    print(name, result, ctypes.get_errno())
tried("unshare", 0x10000000)
tried("mount", b"none", b"/tmp", b"tmpfs", 0, None)
tried("syscall", 435, None, 0)
tried("syscall", 321, 0, None, 0)
tried("ptrace", 16, 1, 0, 0)
try: os.mknod("/tmp/disk", 0o60600, os.makedev(8, 0))
except OSError as error: print("mknod", error.errno)
for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/dev/mem", "/dev/kmsg"):
    try: open(path, "r+b"); print(path)
    except OSError as error: pass
"""
    result = pyrunc.run(["python3", "-c", script], user=0, text=True)
    assert result.stdout.splitlines() == [
        "unshare -1 1",
        "mount -1 1",
        "syscall -1 38",
        "syscall -1 1",
        "ptrace -1 1",
        "mknod 1",
    ], result


def test_who_forgets_the_parent_s_death_dies_all_the_same():
    """Init, which it cannot reach, has the order of the kernel's, and takes everyone along."""
    word = f"pyrunc-hostile-{os.getpid()}".encode()
    script = f"""
import ctypes, os, signal, time
for n in range(1, 65):
    try: signal.signal(n, signal.SIG_IGN)
    except (OSError, ValueError): pass
for _ in range(3):
    if os.fork(): time.sleep(0.1)
    else: os.setsid()
    ctypes.CDLL(None).prctl(1, 0)
while True: time.sleep(1)  # {word.decode()}
"""
    box = pyrunc.Sandbox().open()
    box.start(["python3", "-c", script])
    end = time.monotonic() + 30
    while len(processes_with(word)) < 4:
        assert time.monotonic() < end
        time.sleep(0.05)
    # With the keeper gone, nobody is left but the kernel: the engine may be gone as soon.
    for pid in keeper_and_engine():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while processes_with(word):
        assert time.monotonic() < end + 10
        time.sleep(0.05)
    box.close()
    # What directories and cgroups there are still, the next keeper removes.
    assert pyrunc.run(["true"]).ok


def test_a_sandbox_that_breaks_everything_of_its_own_can_be_used_on():
    with pyrunc.Sandbox(user=0) as box:
        script = "rm -rf /etc /tmp /work /root; mkdir /tmp; : >/etc; kill -9 -1"
        assert box.run(["sh", "-c", script]).status in ("exited", "signaled")
        assert box.run(["echo", "still"]).stdout == b"still\n"
        box.reset()
        box.write_file("/etc/x", "x")
        assert box.run(["cat", "/etc/x"]).stdout == b"x"


def test_a_fork_bomb_and_a_flood_leave_the_others_alone():
    with pyrunc.Sandbox(pids=20) as bomb, pyrunc.Sandbox() as other:
        fork = "import os\nwhile True:\n try: os.fork()\n except OSError: print('x' * 9999)"
        process = bomb.start(["python3", "-c", fork])
        assert other.run(["echo", "fine"], timeout=60).stdout == b"fine\n"
        process.close()
        bomb.close()
        assert other.run(["echo", "fine"]).stdout == b"fine\n"
