"""The synchronous face of a process that was started in a container."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING, Literal

from pyrunc.sandbox.process_face import ProcessFace
from pyrunc.sandbox.waiting import drive

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from pyrunc.sandbox.process import ProcessLogic, Streams


class Process(ProcessFace):
    """A program that was started in a sandbox; the shape is that of :class:`subprocess.Popen`.

    Closing it, or leaving its ``with`` block, ends the program; forgotten, it goes on until its
    sandbox is closed or reset.

    >>> with pyrunc.Sandbox() as box:
    ...     process = box.start(["cat"], stdin=pyrunc.PIPE, stdout=pyrunc.PIPE)
    ...     print(process.communicate(b"hello"), process.returncode)
    (b'hello', b'') 0
    """

    def __init__(self, logic: ProcessLogic, streams: Streams) -> None:
        self._logic = logic
        #: The file to write its input to, or None.
        self.stdin = _file(streams.take("stdin"), "wb")
        #: The files to read its output from, or None.
        self.stdout = _file(streams.take("stdout"), "rb")
        self.stderr = _file(streams.take("stderr"), "rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def poll(self) -> int | None:
        """Return the return code, or None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the return code.

        :raises TimeoutExpired: when that takes more than ``timeout`` seconds; it goes on.
        """
        return drive(self._logic.wait(timeout))

    def communicate(self, input: bytes | None = None) -> tuple[bytes, bytes]:
        """Write ``input``, read all output, wait for the end; return stdout and stderr."""
        from pyrunc.sandbox.pumping import pump

        files = (self.stdin, self.stdout, self.stderr)
        stdout, stderr = drive(pump(tuple(_number(file) for file in files), input or b""))
        for file in files:
            if file is not None:
                file.close()
        self.wait()
        return stdout, stderr

    def close(self) -> None:
        """Let go of it, and of its streams; a process that runs is killed."""
        for file in (self.stdin, self.stdout, self.stderr):
            if file is not None:
                try:
                    file.close()
                except BrokenPipeError:
                    continue
        self._logic.close(kill=True)


def _file(descriptor: int, mode: Literal["rb", "wb"]) -> IO[bytes] | None:
    if descriptor < 0:
        return None
    os.set_blocking(descriptor, True)
    return open(descriptor, mode, buffering=0 if mode == "wb" else -1)


def _number(file: IO[bytes] | None) -> int:
    return -1 if file is None or file.closed else file.fileno()
