"""A sandbox: the whole of it but for how it waits."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pyrunc.engine import box_files, client
from pyrunc.engine.failures import FileFailure, described
from pyrunc.engine.messages import packed
from pyrunc.sandbox.communicating import run_in
from pyrunc.sandbox.errors import EngineLost, InvalidArgument, SandboxClosed, from_engine
from pyrunc.sandbox.options import arguments_of, sandbox_options
from pyrunc.sandbox.process import ProcessLogic, Streams, start
from pyrunc.sandbox.profile import box_request, pids_limit, process
from pyrunc.sandbox.requests import Line, ask, ask_any, call
from pyrunc.sandbox.result import Change
from pyrunc.sandbox.rootfs import RootFilesystem, root_filesystem
from pyrunc.sandbox.running import Program
from pyrunc.sandbox.sizes import count, optional_size, seconds
from pyrunc.sandbox.waiting import InThread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyrunc.sandbox.options import SandboxArguments
    from pyrunc.sandbox.result import Result
    from pyrunc.sandbox.running import ProgramArguments
    from pyrunc.sandbox.saved import Saved


class SandboxLogic:
    """A container with a throw-away layer, in which programs are run."""

    def __init__(self, arguments: SandboxArguments, *, writable: bool) -> None:
        self._options = sandbox_options(arguments)
        self._writable = writable
        self._line: Line | None = None
        self._root: RootFilesystem | None = None
        self._id = ""
        self._default_user = (0, 0)
        #: Whether its files are for the engine to handle, which alone has the ids they belong to.
        self._engine_has_files = False
        #: The arguments of the program that was started to be saved.
        self._first: tuple[str, ...] = ()
        self.not_enforced: dict[str, str] = {}

    async def open(self) -> None:
        """Make it, unless it is there.

        :raises Error: when it cannot be made.
        """
        if self._line is not None:
            return
        self._root = await root_filesystem(self._options.rootfs)
        await self._make(
            {"box": packed(box_request(self._options, self._root, (), writable=self._writable))}
        )

    async def _make(self, request: dict[str, Any]) -> None:
        line = await ask_any("open", request)
        try:
            value, _ = await line.answer("open")
        except BaseException:
            line.close()
            client.engines().give_back(line.engine)
            raise
        self._line = line
        self._id = value["id"]
        self._default_user = value["user"]["uid"], value["user"]["gid"]
        self._engine_has_files = value["files"]
        self.not_enforced = dict(value["not_enforced"])

    async def close(self) -> None:
        """End everything in it and take it away; what is closed already stays so."""
        line, self._line = self._line, None
        if line is None:
            return
        try:
            await call(line.engine, self._id, "close", insist=True)
        except EngineLost:
            # Then its keeper takes it away.
            return
        finally:
            line.close()
            client.engines().give_back(line.engine)

    def _opened(self) -> tuple[Line, RootFilesystem]:
        if self._line is None or self._root is None:
            raise SandboxClosed("the sandbox is not open: use it in a with block, or call open()")
        return self._line, self._root

    def _process_request(
        self, words: Sequence[str], env: Mapping[str, str] | None, cwd: str | None, **more: Any
    ) -> dict[str, Any]:
        _, root = self._opened()
        terminal = more.pop("terminal", False)
        made = process(self._options, root, words, env=env, cwd=cwd, terminal=terminal)
        return {"id": self._id, "process": {"process": made, **more}}

    async def run(
        self,
        argv: Sequence[str],
        env: Mapping[str, str] | None,
        cwd: str | None,
        arguments: ProgramArguments,
        *,
        text: bool,
    ) -> Result[Any]:
        """Run a program to its end."""
        program = Program(argv, arguments, text=text)
        line, _ = self._opened()
        request = self._process_request(program.args, env, cwd, **program.limits())
        return program.result(await run_in(line.engine, program.communication(), request))

    async def start(
        self,
        argv: Sequence[str],
        streams: tuple[int, int, int],
        env: Mapping[str, str] | None,
        cwd: str | None,
        *,
        terminal: bool,
        timeout: float | None,
        cpu_time: float | None,
        checkpointable: bool,
    ) -> tuple[ProcessLogic, Streams]:
        """Start a program and go on."""
        args = arguments_of(argv)
        if terminal and checkpointable:
            raise InvalidArgument("a program that is to be saved cannot have a terminal")
        limits = _limits(timeout, cpu_time)
        line, _ = self._opened()
        request = self._process_request(
            args, env, cwd, terminal=terminal, first=checkpointable, **limits
        )
        pipes = Streams(*streams)
        logic = await start(line.engine, args, pipes, request)
        if checkpointable:
            self._first = args
        return logic, pipes

    async def checkpoint(
        self, path: str | os.PathLike[str], *, leave_running: bool, **flags: bool
    ) -> dict[str, int]:
        """Save it; return what that took."""
        from pyrunc.sandbox.checkpoints import CHECKPOINT, options_of
        from pyrunc.sandbox.saved import description

        line, _ = self._opened()
        request = {
            "id": self._id,
            "options": options_of(path, {"leave_running": leave_running, **flags}, CHECKPOINT),
            "description": description(self._options, self._first, flags),
        }
        answer = await ask(line.engine, "save", request)
        try:
            told, _ = await answer.answer("checkpoint", insist=True)
        finally:
            answer.close()
        return told  # type: ignore[no-any-return]

    @classmethod
    async def restore(
        cls,
        saved: Saved,
        streams: tuple[int, int, int],
        timeout: float | None,
        cpu_time: float | None,
    ) -> tuple[SandboxLogic, ProcessLogic, Streams]:
        """Make a sandbox again that was saved, and what ran in it."""
        restoring = saved.restore_request()
        limits = _limits(timeout, cpu_time)
        made = cls({}, writable=True)
        made._options, made._first = saved.options, saved.args
        made._root = await root_filesystem(saved.options.rootfs)
        await made._make({"box": packed(saved.box_request(made._root)), "saved": True})
        try:
            line, _ = made._opened()
            pipes = Streams(*streams)
            request = {"id": made._id, "process": {"saved": restoring, **limits}}
            return made, await start(line.engine, saved.args, pipes, request), pipes
        except BaseException:
            await made.close()
            raise

    async def call(self, what: str, **request: Any) -> Any:
        """Have the engine do something with the container."""
        line, _ = self._opened()
        value, _ = await call(line.engine, self._id, what, **request)
        return value

    async def changes(self) -> list[Change]:
        """Return what was changed in the layer."""
        return [Change(path, kind) for path, kind in await self.call("changes")]

    async def update(
        self,
        memory: int | str | None,
        swap: int | str | None,
        pids: int | None,
        cpu: float | None,
    ) -> None:
        """Change limits."""
        resources: dict[str, Any] = {}
        limits = []
        if (limit := optional_size(memory, "memory")) is not None:
            resources["memory"] = {
                "limit": limit,
                "swap": limit + (optional_size(swap, "swap") or 0),
            }
            limits.append("memory")
        elif swap is not None:
            raise InvalidArgument("swap goes with memory: give both")
        if (most := count(pids, "pids")) is not None:
            resources["pids"] = {"limit": pids_limit(most)}
            limits.append("pids")
        if (share := seconds(cpu, "cpu")) is not None:
            resources["cpu"] = {"quota": int(share * 100_000), "period": 100_000}
            limits.append("cpu")
        if resources:
            await self.call("update", resources=resources, limits=limits)

    async def _with_root(self, function: Any, *arguments: Any) -> Any:
        """Call ``function`` with a descriptor of the root that programs see."""
        line, _ = self._opened()
        _, (root,) = await call(line.engine, self._id, "root")
        with _closing(root):
            return await _with_files(function, root, *arguments)

    async def _with_engine(self, doing: str, *arguments: Any) -> list[int]:
        """Have the engine do this with files; return what it has opened for it."""
        line, _ = self._opened()
        request = {"id": self._id, "doing": doing, "arguments": arguments, "umask": _umask()}
        answer = await ask(line.engine, "files", request)
        try:
            _, opened = await answer.answer(doing)
        finally:
            answer.close()
        return opened

    @property
    def _owner(self) -> tuple[int, int]:
        _, root = self._opened()
        return self._options.user or root.user or self._default_user

    async def read_file(self, path: str, limit: int | str | None) -> bytes:
        """Return a file's content."""
        path, most = _inside(path), optional_size(limit, "limit")
        if not self._engine_has_files:
            return await self._with_root(box_files.read_file, path, most)  # type: ignore[no-any-return]
        (opened,) = await self._with_engine("open_to_read", path)
        with _closing(opened):
            return await _with_files(box_files.content, opened, path, most)  # type: ignore[no-any-return]

    async def write_file(self, path: str, content: bytes | str, mode: int) -> None:
        """Make a file, or replace its content."""
        path = _inside(path)
        encoded = content.encode() if isinstance(content, str) else bytes(content)
        if not self._engine_has_files:
            await self._with_root(box_files.write_file, path, encoded, mode, self._owner)
            return
        (opened,) = await self._with_engine("open_to_write", path, mode, self._owner)
        with _closing(opened):
            await _with_files(box_files.write, opened, path, encoded)

    async def put(self, source: str | os.PathLike[str], path: str) -> None:
        """Copy a file or a tree of the host in."""
        await self._copy("put", self._outside(source), _inside(path), self._owner)

    async def get(self, path: str, target: str | os.PathLike[str]) -> None:
        """Copy a file or a tree out."""
        await self._copy("get", _inside(path), self._outside(target))

    def _outside(self, path: str | os.PathLike[str]) -> str:
        # The engine is in another directory.
        return os.path.join(os.getcwd(), path) if self._engine_has_files else os.fspath(path)

    async def _copy(self, doing: str, *arguments: Any) -> None:
        if self._engine_has_files:
            await self._with_engine(doing, *arguments)
        else:
            await self._with_root(getattr(box_files, doing), *arguments)


async def _with_files(function: Any, *arguments: Any) -> Any:
    """Call a function that works on files of a sandbox."""
    try:
        return await InThread(function, *arguments)
    except FileFailure as error:
        raise from_engine(described(error), error.operation) from None


def _inside(path: str) -> str:
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
        raise InvalidArgument(f"paths in a sandbox are absolute, not {path!r}")
    return path


def _umask() -> int:
    """Return this process's umask; umask(2) would change it, for all threads."""
    with open("/proc/self/status", "rb") as status:
        return int(next(line for line in status if line.startswith(b"Umask:")).split()[1], 8)


def _limits(timeout: float | None, cpu_time: float | None) -> dict[str, Any]:
    return {"timeout": seconds(timeout, "timeout"), "cpu_time": seconds(cpu_time, "cpu_time")}


@contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)
