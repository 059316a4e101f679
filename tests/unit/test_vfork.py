"""Python in a child that has this process's memory (linux/libc.py, vfork).

Each in an interpreter of its own: what goes wrong here ends it.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

_PRELUDE = """
    import os, sys
    from pyrunc.linux import libc, processes as p
    from pyrunc.linux.numbers import SYS
    from pyrunc.linux.vfork import vfork

    def execution(*words):
        strings = [bytearray(word.encode() + b"\\0") for word in words]
        vector = b"".join(libc.address_of(s).to_bytes(8, "little") for s in strings) + bytes(8)
        return (SYS["execve"], bytes(strings[0]), vector, bytes(8), 0, 0, 0, strings)

    def status(born):
        pid, pidfd = born
        os.close(pidfd)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def _run(body: str) -> subprocess.CompletedProcess[str]:
    script = textwrap.dedent(_PRELUDE) + textwrap.dedent(body)
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(autouse=True)
def _vfork() -> None:
    """Emulators have no clone3(2), or fork instead."""
    outcome = _run("""
        if not libc.can_vfork():
            sys.exit("pyrunc.linux._syscall was not built here")
        seen = []
        try:
            status(vfork(0, -1, "", lambda: seen.append(1)))
        except OSError as error:
            sys.exit(f"clone3(2) is refused here: {error}")
        if not seen:
            sys.exit("a child shares no memory here, whatever clone3(2) is asked for")
    """)
    if outcome.returncode:
        pytest.skip(outcome.stderr.strip())


def test_what_the_child_does_in_memory_stays_and_what_it_opens_does_not() -> None:
    outcome = _run("""
        seen = []
        def work():
            seen.append((os.getpid(), os.open("/", os.O_RDONLY)))
            os.chdir("/proc")
            return execution("/bin/sh", "-c", "exit 7")
        before = os.listdir("/proc/self/fd")
        born = vfork(0, -1, "", work)
        [(pid, descriptor)] = seen
        assert pid == born[0] != os.getpid()
        assert status(born) == 7
        assert os.listdir("/proc/self/fd") == before
        assert os.getcwd() != "/proc"
    """)
    assert outcome.returncode == 0, outcome.stderr


def test_a_program_that_cannot_be_executed_and_exceptions() -> None:
    outcome = _run("""
        def work(refused=0):
            if refused:
                errors.append(refused)
                return None
            return execution("/no/such/program")
        errors = []
        assert status(vfork(0, -1, "", work)) == 1
        assert errors == [2], errors

        def deep(n):
            if n:
                return deep(n - 1)
            raise ValueError("in the child")
        assert status(vfork(0, -1, "", lambda: deep(100))) == 1
        assert status(vfork(0, -1, "", lambda: None)) == 1
        # The interpreter is as it was.
        try:
            deep(100)
        except ValueError as error:
            assert error.__context__ is None
    """)
    assert outcome.returncode == 0, outcome.stderr


def test_many_in_a_row_leave_no_references() -> None:
    outcome = _run("""
        kept = object()
        def work():
            mine = [kept] * 100
            return execution("/bin/true")
        for _ in range(50):
            assert status(vfork(0, -1, "", work)) == 0
        assert sys.getrefcount(kept) < 10, sys.getrefcount(kept)
    """)
    assert outcome.returncode == 0, outcome.stderr


def test_who_is_killed_on_the_way_takes_this_process_along() -> None:
    outcome = _run("""
        def work():
            os.kill(os.getpid(), 9)
        vfork(0, -1, "the last words\\n", work)
        print("went on")
    """)
    assert outcome.returncode == 1
    assert outcome.stdout == ""
    assert outcome.stderr == "the last words\n"


def test_a_birth_that_is_refused_is_an_error() -> None:
    outcome = _run("""
        try:
            vfork(0, os.open("/", os.O_RDONLY), "", lambda: None)
        except OSError as error:
            print(error.errno)
    """)
    assert outcome.stdout.strip().isdigit(), outcome.stderr


def test_this_process_stays_as_dumpable_and_as_deaf_to_signals_as_it_was() -> None:
    outcome = _run("""
        import signal
        def work():
            seen.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
            os.setresgid(-1, 65534, -1)
            seen.append(p.prctl(3))
            return execution("/bin/true")
        seen = []
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1,))
        now = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        assert status(vfork(0, -1, "", work)) == 0
        assert signal.SIGTSTP in seen[0] and signal.SIGINT in seen[0]
        assert seen[1] == 0 or os.geteuid()
        assert p.prctl(3) == 1
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == now == before | {signal.SIGUSR1}
    """)
    assert outcome.returncode == 0, outcome.stderr
