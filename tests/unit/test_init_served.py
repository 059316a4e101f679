"""What init does as process 1 of a container for one program: it brings that forth and tells."""

from __future__ import annotations

import errno
import os
import signal
import socket

import pytest
from init_program import Init, Pipe, init

from pyrunc.container.making.served import status_told
from pyrunc.linux import processes as p
from pyrunc.process.failure import parse_failure
from pyrunc.process.launch import LaunchProgram
from pyrunc.process.seal import launch_fd

__all__ = ["init"]


class Served:
    """An init that waits at a socket for the program of its child."""

    def __init__(self, init: Init) -> None:
        self.line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.set_inheritable(True)
        program = init.program()
        program.call("tell", "write", init.output.writing, b"!", 1)
        # As process 1 it would be.
        program.call("be the reaper", "prctl", p.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        reading, self.sign = os.pipe()
        os.set_inheritable(reading, True)
        program.close_others(3, [], [theirs.fileno(), reading])
        program.serve("wait for the program", theirs.fileno(), reading)
        self.pid = init.start(program)
        theirs.close()
        os.close(reading)
        assert init.output.read(1) == b"!"

    def send(self, program: LaunchProgram, *stdio: int) -> bytes:
        """Hand over a program, with its standard streams; return what is said of it."""
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        memory = launch_fd(program.encode())
        streams = (*stdio, null, null, null)[:3]
        socket.send_fds(self.line, [b"p"], [*streams, memory])
        os.close(memory)
        os.close(null)
        return self.line.recv(4096)

    def status(self, init: Init) -> tuple[int | None, bool]:
        """Return what it tells of its child when it has ended, and whether that was the last."""
        # It has let go of it when it has, or will have, nothing more to say.
        assert p.poll((self.sign,), 20)
        told = status_told(self.pid)
        os.close(self.sign)
        assert init.wait(self.pid) == (told[0] is None)
        return told


def shell(script: str) -> LaunchProgram:
    program = LaunchProgram()
    program.execute("run", "/bin/sh", ["sh", "-c", script], [])
    return program


def test_a_served_program_has_its_standard_streams_and_nothing_else(init: Init) -> None:
    streams, errors = Pipe(), Pipe()
    served = Served(init)
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    script = "echo out; ls /proc/self/fd >&2; echo; ls /proc/$PPID/fd >&2"
    assert served.send(shell(script), null, streams.writing, errors.writing) == b""
    assert served.status(init) == (0, True)
    assert streams.read_all() == b"out\n\n"
    # Neither the socket nor what came through it is left; 3 is what ls reads the directory by.
    shown = errors.read_all().split()
    assert shown[:4] == [b"0", b"1", b"2", b"3"]
    # Init keeps the sign besides.
    assert shown[4:7] == [b"0", b"1", b"2"]
    assert len(shown) == 8
    os.close(null)
    streams.close()
    errors.close()


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 1", 1 << 8), ("exit 255", 255 << 8), ("kill -KILL $$", signal.SIGKILL)],
)
def test_how_a_served_program_ends_is_told_by_the_name_of_init(
    init: Init, script: str, status: int
) -> None:
    served = Served(init)
    assert served.send(shell(script)) == b""
    assert served.status(init) == (status, True)


def test_others_who_are_left_are_told_of(init: Init) -> None:
    served = Served(init)
    orphan = "sleep 0.4 & exec >&-; sh -c 'sleep 100 & echo $! >&2'; exit 3"
    errors = Pipe()
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    assert served.send(shell(orphan), null, null, errors.writing) == b""
    assert served.status(init) == (3 << 8, False)
    os.kill(int(errors.read(16)), signal.SIGKILL)
    os.close(null)
    errors.close()


def test_those_who_ended_before_are_not_left(init: Init) -> None:
    served = Served(init)
    assert served.send(shell("sh -c 'true & true &'; sleep 0.2; exit 3")) == b""
    assert served.status(init) == (3 << 8, True)


def test_a_served_program_that_is_not_there_is_told(init: Init) -> None:
    served = Served(init)
    program = LaunchProgram()
    program.execute("run", "/no/such", ["x"], [])
    failure = parse_failure(served.send(program))
    assert failure == (0, errno.ENOENT, 0, "run")
    assert served.status(init) == (1 << 8, True)


def test_what_is_sent_must_be_a_launch_program(init: Init) -> None:
    served = Served(init)
    memory = launch_fd(b"nonsense" * 10)
    socket.send_fds(served.line, [b"p"], [0, 1, 2, memory])
    os.close(memory)
    assert served.line.recv(4096) == b""
    assert served.status(init) == (1 << 8, True)


@pytest.mark.parametrize("descriptors", [0, 3])
def test_nobody_is_left_who_could_send_a_program(init: Init, descriptors: int) -> None:
    served = Served(init)
    if descriptors:
        socket.send_fds(served.line, [b"p"], list(range(descriptors)))
    served.line.close()
    assert served.status(init) == (None, False)
    assert init.failure() is None
