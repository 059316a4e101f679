"""The asyncio face of the library: what :mod:`pyrunc.sandbox.sync` is, with ``await``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, overload

from pyrunc.aio.driving import drive
from pyrunc.sandbox import running
from pyrunc.sandbox.logic import SandboxLogic
from pyrunc.sandbox.process import DEVNULL, PIPE, STDOUT, ProcessLogic, Streams
from pyrunc.sandbox.process_face import ProcessFace

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Self, Unpack

    from pyrunc.sandbox.options import SandboxArguments
    from pyrunc.sandbox.result import Change, Result
    from pyrunc.sandbox.running import ProgramArguments, RunArguments

__all__ = ["DEVNULL", "PIPE", "STDOUT", "Process", "Sandbox", "run"]


@overload
async def run(
    argv: Sequence[str] | None, *, text: Literal[True], **arguments: Unpack[RunArguments]
) -> Result[str]: ...
@overload
async def run(
    argv: Sequence[str] | None, *, text: Literal[False] = False, **arguments: Unpack[RunArguments]
) -> Result[bytes]: ...
async def run(
    argv: Sequence[str] | None, *, text: bool = False, **arguments: Unpack[RunArguments]
) -> Result[Any]:
    """Run a program in a container of its own and wait for its end: see :func:`pyrunc.run`."""
    return await drive(running.run(argv, arguments, text=text))


class Sandbox:
    """A container that programs are run in: see :class:`pyrunc.Sandbox`.

    Use it in an ``async with`` block, or await :meth:`open` and :meth:`close`.
    """

    def __init__(self, **arguments: Unpack[SandboxArguments]) -> None:
        self._logic = SandboxLogic(arguments, writable=True)
        #: The program that goes on in a sandbox that was restored; None in any other.
        self.process: Process | None = None

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def not_enforced(self) -> Mapping[str, str]:
        """The limits that this host or user cannot enforce, by name, and why."""
        return self._logic.not_enforced

    async def open(self) -> Self:
        """Make the container, if it is not there; return the sandbox itself."""
        await drive(self._logic.open())
        return self

    async def close(self) -> None:
        """End all that runs in it, and take it away with its files."""
        await drive(self._logic.close())

    @overload
    async def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        text: Literal[True],
        **arguments: Unpack[ProgramArguments],
    ) -> Result[str]: ...
    @overload
    async def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        text: Literal[False] = False,
        **arguments: Unpack[ProgramArguments],
    ) -> Result[bytes]: ...
    async def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        text: bool = False,
        **arguments: Unpack[ProgramArguments],
    ) -> Result[Any]:
        """Run a program to its end: see :meth:`pyrunc.Sandbox.run`."""
        return await drive(self._logic.run(argv, env, cwd, arguments, text=text))

    async def start(
        self,
        argv: Sequence[str],
        *,
        stdin: int = DEVNULL,
        stdout: int = DEVNULL,
        stderr: int = DEVNULL,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        terminal: bool = False,
        timeout: float | None = None,
        cpu_time: float | None = None,
        checkpointable: bool = False,
    ) -> Process:
        """Start a program and go on: see :meth:`pyrunc.Sandbox.start`."""
        streams = (stdin, stdout, stderr)
        logic, pipes = await drive(
            self._logic.start(
                argv,
                streams,
                env,
                cwd,
                terminal=terminal,
                timeout=timeout,
                cpu_time=cpu_time,
                checkpointable=checkpointable,
            )
        )
        process = Process(logic)
        await process._connect(pipes)
        return process

    async def checkpoint(
        self,
        path: str | os.PathLike[str],
        *,
        leave_running: bool = False,
        tcp_established: bool = False,
        file_locks: bool = False,
    ) -> dict[str, int]:
        """Save it and the program in it on disk: see :meth:`pyrunc.Sandbox.checkpoint`."""
        return await drive(
            self._logic.checkpoint(
                path,
                leave_running=leave_running,
                tcp_established=tcp_established,
                file_locks=file_locks,
            )
        )

    @classmethod
    async def restore(
        cls,
        path: str | os.PathLike[str],
        *,
        stdin: int = DEVNULL,
        stdout: int = DEVNULL,
        stderr: int = DEVNULL,
        timeout: float | None = None,
        cpu_time: float | None = None,
        **arguments: Unpack[SandboxArguments],
    ) -> Self:
        """Make a sandbox that was saved again: see :meth:`pyrunc.Sandbox.restore`."""
        from pyrunc.sandbox.saved import Saved

        box = cls()
        streams = (stdin, stdout, stderr)
        saved = Saved(path, arguments)
        box._logic, process, pipes = await drive(
            SandboxLogic.restore(saved, streams, timeout, cpu_time)
        )
        box.process = Process(process)
        await box.process._connect(pipes)
        return box

    async def read_file(self, path: str, *, limit: int | str | None = None) -> bytes:
        """Return the content of a regular file: see :meth:`pyrunc.Sandbox.read_file`."""
        return await drive(self._logic.read_file(path, limit))

    async def write_file(self, path: str, content: bytes | str, *, mode: int = 0o644) -> None:
        """Make a regular file, or replace its content: see :meth:`pyrunc.Sandbox.write_file`."""
        await drive(self._logic.write_file(path, content, mode))

    async def put(self, source: str | os.PathLike[str], path: str) -> None:
        """Copy a file or a tree of the host in: see :meth:`pyrunc.Sandbox.put`."""
        await drive(self._logic.put(source, path))

    async def get(self, path: str, target: str | os.PathLike[str]) -> None:
        """Copy a file or a tree out: see :meth:`pyrunc.Sandbox.get`."""
        await drive(self._logic.get(path, target))

    async def changes(self) -> list[Change]:
        """Return what differs from the root: see :meth:`pyrunc.Sandbox.changes`."""
        return await drive(self._logic.changes())

    async def reset(self) -> None:
        """End all that runs in it, and forget all changes."""
        await drive(self._logic.call("reset"))

    async def stats(self) -> dict[str, Any]:
        """Return what it uses right now: see :meth:`pyrunc.Sandbox.stats`."""
        return await drive(self._logic.call("stats"))

    async def pids(self) -> list[int]:
        """Return the pids of its processes, as the host numbers them."""
        return await drive(self._logic.call("pids"))

    async def pause(self) -> None:
        """Stop all its processes where they are."""
        await drive(self._logic.call("pause"))

    async def resume(self) -> None:
        """Let them go on."""
        await drive(self._logic.call("resume"))

    async def update(
        self,
        *,
        memory: int | str | None = None,
        swap: int | str | None = None,
        pids: int | None = None,
        cpu: float | None = None,
    ) -> None:
        """Change its limits: see :meth:`pyrunc.Sandbox.update`."""
        await drive(self._logic.update(memory, swap, pids, cpu))


class Process(ProcessFace):
    """A program in a sandbox; the shape is that of :class:`asyncio.subprocess.Process`."""

    def __init__(self, logic: ProcessLogic) -> None:
        self._logic = logic
        #: The stream to write its input to, or None.
        self.stdin: asyncio.StreamWriter | None = None
        #: The streams to read its output from, or None.
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._transports: list[asyncio.BaseTransport] = []

    async def _connect(self, streams: Streams) -> None:
        loop = asyncio.get_running_loop()
        stdin = streams.take("stdin")
        if stdin >= 0:
            # Closed by the transport; so below.
            writer, protocol = await loop.connect_write_pipe(
                lambda: asyncio.streams.FlowControlMixin(loop),
                open(stdin, "wb", buffering=0),  # noqa: SIM115
            )
            self._transports.append(writer)
            self.stdin = asyncio.StreamWriter(writer, protocol, None, loop)
        self.stdout = await self._reader(streams.take("stdout"), loop)
        self.stderr = await self._reader(streams.take("stderr"), loop)

    async def _reader(
        self, descriptor: int, loop: asyncio.AbstractEventLoop
    ) -> asyncio.StreamReader | None:
        if descriptor < 0:
            return None
        reader = asyncio.StreamReader(loop=loop)
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader, loop=loop),
            open(descriptor, "rb", buffering=0),  # noqa: SIM115
        )
        self._transports.append(transport)
        return reader

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the return code.

        :raises TimeoutExpired: when that takes more than ``timeout`` seconds; it goes on.
        """
        return await drive(self._logic.wait(timeout))

    async def communicate(self, input: bytes | None = None) -> tuple[bytes, bytes]:
        """Write ``input``, read all output, wait for the end; return stdout and stderr."""
        stdout, stderr, _ = await asyncio.gather(
            _read(self.stdout), _read(self.stderr), self._feed(input or b"")
        )
        await self.wait()
        return stdout, stderr

    async def _feed(self, input: bytes) -> None:
        if self.stdin is None:
            return
        try:
            self.stdin.write(input)
            await self.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            # It reads no more: it may have its reasons.
            return
        finally:
            self.stdin.close()

    def close(self) -> None:
        """Let go of it, and of its streams; a process that runs is killed."""
        for transport in self._transports:
            transport.close()
        self._logic.close(kill=True)


async def _read(stream: asyncio.StreamReader | None) -> bytes:
    return b"" if stream is None else await stream.read()
