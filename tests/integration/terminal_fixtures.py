"""Keyboards, commands in front of them, and what takes a terminal from a console socket."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import pty
import select
import socket
import struct
import subprocess
import termios
import time

import pytest


class Keyboard:
    """A terminal with the command on it, and what was shown."""

    def __init__(self, command, rows=24, columns=80, **options):
        self.master, self.slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        options.setdefault("preexec_fn", self._take_terminal)
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdin=self.slave, stdout=self.slave, stderr=self.slave, **options,
        )  # fmt: skip
        self.shown = b""

    def _take_terminal(self):
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def resize(self, rows, columns):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.master, text.encode())

    def read(self, seconds=0.1):
        ready, _, _ = select.select([self.master], [], [], seconds)
        if ready:
            self.shown += os.read(self.master, 65536)
        return bool(ready)

    def expect(self, text, seconds=10):
        end = time.monotonic() + seconds
        while text.encode() not in self.shown:
            assert time.monotonic() < end, (text, self.shown)
            self.read()
        self.shown = self.shown[self.shown.index(text.encode()) + len(text) :]

    def end(self, seconds=10):
        """Wait for the command's end, reading all the while; return its exit code."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, ("still there", self.shown)
            self.read(0.02)
        while self.read(0.02):
            pass
        return self.process.returncode

    @property
    def attributes(self):
        return termios.tcgetattr(self.slave)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def keyboard():
    with contextlib.ExitStack() as stack:

        def open_keyboard(command, **options):
            made = Keyboard(command, **options)
            stack.callback(made.close)
            return made

        yield open_keyboard


@pytest.fixture
def exec_command(make_bundle, pyrunc):
    def command(*args, **changes):
        container = pyrunc.start(make_bundle(args=["sleep", "1000"], **changes))
        return [*pyrunc.command, "exec", "-t", container.id, *args], container.id

    return command


class Listener:
    """What an engine does with a console socket."""

    def __init__(self, path):
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._socket.settimeout(10)

    def take(self):
        connection, _ = self._socket.accept()
        with connection:
            size = socket.CMSG_LEN(array.array("i", [0]).itemsize)
            message, ancillary, _, _ = connection.recvmsg(4096, size * 4)
            assert len(ancillary) == 1
            (level, kind, data) = ancillary[0]
            assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            descriptors = array.array("i", data)
            assert len(descriptors) == 1
            assert message
            return descriptors[0]

    def close(self):
        self._socket.close()


@pytest.fixture
def listener(tmp_path):
    made = Listener(tmp_path / "console.sock")
    yield made
    made.close()


def read_until(descriptor, text, seconds=10):
    shown = b""
    end = time.monotonic() + seconds
    while text not in shown:
        assert time.monotonic() < end, shown
        if select.select([descriptor], [], [], 0.1)[0]:
            shown += os.read(descriptor, 4096)
    return shown
