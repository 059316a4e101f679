"""The native init, driven with small launch programs: each kind of entry, and how it fails."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from init_program import HAND_OVER, Init, Pipe, init

from pyrunc.process.failure import parse_failure
from pyrunc.process.launch import LaunchProgram
from pyrunc.process.seal import execute_init, launch_fd, sealed_init

__all__ = ["init"]


AT_FDCWD = -100


ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def waiting(init: Init, program: LaunchProgram, before: Callable[[], object] = bool) -> int:
    """Start ``program`` with a wait for ever at its end, and return the pid once it is there."""
    never = Pipe()
    program.call("tell", "write", init.output.writing, b"!", 1)
    program.await_byte("wait", never.reading)
    pid = init.start(program, before)
    assert init.output.read(1) == b"!"
    # The process still has a writing end of its own, so the wait lasts.
    never.close()
    return pid


def test_an_empty_program_ends_well(init: Init) -> None:
    assert init.run(init.program()) == 0
    assert init.failure() is None


def test_a_failing_call_is_reported_with_index_errno_and_label(init: Init) -> None:
    program = init.program()
    program.call("who am I", "getpid")
    program.call("enter /no/such", "chdir", "/no/such")
    program.call("never reached", "write", init.output.writing, b"!", 1)
    assert init.run(program) == 1
    assert init.failure() == (1, errno.ENOENT, 0, "enter /no/such")
    assert init.output.read_all() == b""


def test_a_call_that_may_fail_does_not_stop_the_program(init: Init) -> None:
    program = init.program()
    program.call("enter /no/such", "chdir", "/no/such", ignore=True)
    program.call("go on", "write", init.output.writing, b"!", 1)
    assert init.run(program) == 0
    assert init.failure() is None
    assert init.output.read_all() == b"!"


def test_a_long_label_is_cut_not_overrun(init: Init) -> None:
    program = init.program()
    program.call("x" * 5000, "chdir", "/no/such")
    assert init.run(program) == 1
    assert init.failure() == (0, errno.ENOENT, 0, "x" * 512)


def test_without_a_report_a_failure_is_silent(init: Init) -> None:
    program = LaunchProgram()
    program.call("enter /no/such", "chdir", "/no/such")
    assert init.run(program) == 1
    assert init.failure() is None


def test_a_failure_goes_where_reports_were_turned_to(init: Init) -> None:
    program = init.program()
    program.report_to(init.output.writing)
    program.call("enter /no/such", "chdir", "/no/such")
    assert init.run(program) == 1
    assert init.failure() is None
    assert parse_failure(init.output.read_all()) == (1, errno.ENOENT, 0, "enter /no/such")


def test_a_result_is_stored(init: Init) -> None:
    program = init.program()
    cell = program.cell()
    program.call("who am I", "getpid", store=cell)
    program.call("tell", "write", init.output.writing, cell, 8)
    pid = init.start(program)
    assert init.wait(pid) == 0
    assert struct.unpack("<q", init.output.read_all()) == (pid,)


def test_a_result_becomes_the_next_first_argument(init: Init, tmp_path: Path) -> None:
    target = tmp_path / "file"
    program = init.program()
    flags = os.O_CREAT | os.O_WRONLY
    program.call("open", "openat", AT_FDCWD, str(target), flags, 0o600, store_in_next=True)
    program.call("write", "write", 0, b"through", 7)
    assert init.run(program) == 0
    assert target.read_text() == "through"


def test_a_wait_goes_on_after_a_byte(init: Init) -> None:
    gate = Pipe()
    program = init.program()
    program.await_byte("wait for start", gate.reading)
    program.call("go on", "write", init.output.writing, b"!", 1)
    pid = init.start(program)
    os.write(gate.writing, b"g")
    assert init.wait(pid) == 0
    assert init.output.read_all() == b"!"
    gate.close()


def test_a_wait_ends_without_a_word_when_nobody_is_left(init: Init) -> None:
    gate = Pipe()
    program = init.program()
    program.await_byte("wait for start", gate.reading)
    program.call("go on", "write", init.output.writing, b"!", 1)
    pid = init.start(program, lambda: os.close(gate.writing))
    gate.close(gate.writing)
    assert init.wait(pid) == 1
    assert init.failure() is None
    assert init.output.read_all() == b""
    gate.close()


def test_the_user_program_gets_its_arguments_and_environment(init: Init) -> None:
    program = init.program()
    program.call("stdout", "dup3", init.output.writing, 1, 0)
    script = 'echo "$0 $1 $A"; exit 7'
    program.execute("run", "/bin/sh", ["sh", "-c", script, "zero", "one"], ["A=b"])
    assert init.run(program) == 7
    assert init.output.read_all() == b"zero one b\n"


@pytest.mark.parametrize(
    ("path", "code"),
    [("/no/such", errno.ENOENT), ("/", errno.EACCES), ("/etc/passwd", errno.EACCES)],
)
def test_a_program_that_cannot_be_executed_is_reported(init: Init, path: str, code: int) -> None:
    program = init.program()
    program.execute(f'exec "{path}"', path, ["x"], [])
    assert init.run(program) == 1
    assert init.failure() == (0, code, 0, f'exec "{path}"')


def signals_of(init: Init, *, reset: bool) -> dict[str, int]:
    """Return the masks of the program that init becomes after Python ignored and blocked some."""

    def spoil() -> None:
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGRTMAX})

    program = init.program()
    program.call("stdout", "dup3", init.output.writing, 1, 0)
    if reset:
        program.reset_signals()
    program.execute("run", "/bin/cat", ["cat", "/proc/self/status"], [])
    assert init.run(program, spoil) == 0
    found = re.findall(rb"^(Sig(?:Ign|Blk)):\s*(\w+)", init.output.read_all(), re.MULTILINE)
    return {name.decode(): int(mask, 16) for name, mask in found}


def test_signals_are_reset(init: Init) -> None:
    assert signals_of(init, reset=True) == {"SigIgn": 0, "SigBlk": 0}


def test_signals_stay_as_they_were_without_a_reset(init: Init) -> None:
    """The test above would see them."""
    masks = signals_of(init, reset=False)
    assert masks["SigIgn"] & 1 << (signal.SIGPIPE - 1)
    assert masks["SigBlk"] & 1 << (signal.SIGUSR1 - 1)


def test_descriptors_from_a_number_on_do_not_reach_the_program(init: Init) -> None:
    output = os.dup2(init.output.writing, 300)

    def open_some() -> None:
        for number in (3, 4, 5, 77, 200):
            os.dup2(0, number)

    program = LaunchProgram()
    program.call("stdout", "dup3", output, 1, 0)
    program.close_others(3, [], [3, 5])
    program.call("keep it", "fcntl", 3, 2, 0)
    # Tests that open nothing themselves, as a listing of /proc/self/fd would.
    script = "for n in 0 1 2 3 4 5 77 200 300; do [ -e /proc/$$/fd/$n ] && echo $n; done; exit 0"
    program.execute("run", "/bin/sh", ["sh", "-c", script], [])
    assert init.run(program, open_some) == 0
    os.close(output)
    assert init.output.read_all().split() == [b"0", b"1", b"2", b"3"]


def test_descriptors_of_others_are_closed_at_once(init: Init) -> None:
    """Not at the next execve: who waits for it must not hold up whoever reads from a pipe."""

    def open_some() -> None:
        for number in (4, 77, 300):
            os.dup2(1, number)

    kept = [n for pipe in (init.output, init.report) for n in pipe.open]
    program = init.program()
    program.close_others(3, kept, [])
    pid = waiting(init, program, open_some)
    assert not {4, 77, 300} & {int(n) for n in os.listdir(f"/proc/{pid}/fd")}


@ROOT_ONLY
def test_a_working_directory_outside_the_root_is_refused(init: Init, tmp_path: Path) -> None:
    outside = os.open("/", os.O_RDONLY)

    def leave() -> None:
        os.chroot(tmp_path)
        os.fchdir(outside)

    program = init.program()
    program.check_cwd("look where we are")
    assert init.run(program, leave) == 1
    os.close(outside)
    assert init.failure() == (0, errno.ENOENT, 0, "look where we are")


def test_a_working_directory_inside_the_root_is_fine(init: Init) -> None:
    program = init.program()
    program.check_cwd("look where we are")
    assert init.run(program) == 0
    assert init.failure() is None


def test_a_waiting_init_takes_next_to_no_memory(init: Init) -> None:
    pid = waiting(init, init.program())
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    (resident,) = re.findall(r"^Rss:\s+(\d+) kB", rollup, re.MULTILINE)
    assert int(resident) < 100


def test_what_is_behind_exe_cannot_be_written(init: Init) -> None:
    """Not while it runs, and not through a descriptor that outlives it either."""
    pid = waiting(init, init.program())
    exe = f"/proc/{pid}/exe"
    assert os.readlink(exe).startswith("/memfd:pyrunc-init")
    with pytest.raises(OSError, match="Text file busy"):
        os.open(exe, os.O_WRONLY)
    held = os.open(exe, os.O_RDONLY)
    os.kill(pid, signal.SIGKILL)
    init.wait(pid)
    before = os.fstat(held).st_size
    with pytest.raises(OSError) as caught:
        again = os.open(f"/proc/self/fd/{held}", os.O_WRONLY)
        try:
            os.write(again, b"#!")
        finally:
            os.close(again)
    assert caught.value.errno in (errno.EPERM, errno.ETXTBSY)
    with pytest.raises(OSError, match=r"not permitted|Invalid argument"):
        os.truncate(f"/proc/self/fd/{held}", 0)
    assert os.fstat(held).st_size == before
    os.close(held)


@ROOT_ONLY
def test_with_an_effective_gid_of_its_own_it_is_never_dumpable(init: Init) -> None:
    """Other processes of the same user get at none of its files, from the first instruction on.

    For what is not dumpable, /proc/PID belongs to root.
    """
    if Path("/proc/sys/fs/suid_dumpable").read_text().strip() == "1":
        pytest.skip("fs.suid_dumpable is 1: this machine lets privileged programs be dumped")

    def as_user(effective_group: int) -> Callable[[], None]:
        def change() -> None:
            os.setgroups([])
            os.setresgid(4711, effective_group, 4711)
            os.setresuid(4711, 4711, 4711)

        return change

    # With equal ids it would be open to others: so this test can see a difference.
    plain = waiting(init, init.program(), as_user(4711))
    assert os.stat(f"/proc/{plain}/mem").st_uid == 4711
    guarded = waiting(init, init.program(), as_user(4712))
    assert os.stat(f"/proc/{guarded}/mem").st_uid == 0
    assert os.stat(f"/proc/{guarded}/mem").st_gid == 0


@pytest.mark.parametrize("damage", [b"", b"x" * 8, b"x" * 4096])
def test_a_program_that_is_none_ends_init(init: Init, damage: bytes) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            execute_init(fcntl.fcntl(sealed_init(), HAND_OVER, 400), launch_fd(damage))
        finally:
            os._exit(99)
    assert init.wait(pid) == 1
