"""Containers in a state root, one by one: the whole of the lower floor but for how it waits.

What only reads, or sends a signal, is done in this process, by the functions of the command; what
forks (create, start, exec, delete with their hooks) by an engine.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from pyrunc.container import freeze, kill, statistics, update
from pyrunc.container.record import processes, state
from pyrunc.container.record.store import Store, check_id
from pyrunc.container.settings import Settings
from pyrunc.engine import client
from pyrunc.engine.log import Collected
from pyrunc.sandbox.checkpoints import CHECKPOINT, RESTORE, options_of, saved_config
from pyrunc.sandbox.errors import InvalidArgument
from pyrunc.sandbox.options import arguments_of
from pyrunc.sandbox.places import Places
from pyrunc.sandbox.process import ProcessLogic, Streams
from pyrunc.sandbox.requests import ask_any
from pyrunc.sandbox.sizes import count
from pyrunc.sandbox.waiting import Insisted, InThread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from pyrunc.sandbox.spec import Spec

_OF_ROOT = "/run/pyrunc"


def _new_id() -> str:
    return f"c-{os.urandom(8).hex()}"


def _module() -> str:
    """Return what engine makes containers here that others can enter."""
    return "outside" if os.geteuid() else "main"


class RuntimeLogic:
    """A state root."""

    def __init__(
        self,
        root: str | os.PathLike[str] | None,
        *,
        systemd_cgroup: bool,
        max_running: int | None,
    ) -> None:
        if root is None:
            runtime = os.environ.get("XDG_RUNTIME_DIR")
            root = f"{runtime}/pyrunc" if os.geteuid() and runtime else _OF_ROOT
        self.root = os.path.abspath(root)
        self.systemd_cgroup = systemd_cgroup
        self.places = Places(count(max_running, "max_running"))

    @property
    def settings(self) -> Settings:
        """Return what the functions of the command take."""
        return Settings(
            self.root,
            Collected(),
            systemd_cgroup=self.systemd_cgroup,
            rootless=os.geteuid() != 0,
        )

    def ids(self) -> list[str]:
        """Return the ids of all containers."""
        return Store(self.root).ids()

    def container(self, container_id: str) -> ContainerLogic:
        """Return a container, whether it is there or not."""
        return ContainerLogic(self, container_id)

    async def create(
        self, spec: Spec, container_id: str | None, streams: tuple[int, int, int]
    ) -> tuple[ContainerLogic, ProcessLogic, Streams]:
        """Create a container."""
        name = container_id or _new_id()
        check_id(name)
        config = spec.to_dict()
        process = config.get("process") or {}
        if process.get("terminal"):
            raise InvalidArgument("a terminal is for exec: set process.terminal to false")
        container = self.container(name)
        args = tuple(process.get("args") or (name,))
        pipes = Streams(*streams)
        logic = await container.begin("create", args, {"spec": config}, pipes)
        return container, logic, pipes

    async def restore(
        self,
        path: str | os.PathLike[str],
        spec: Spec | None,
        container_id: str | None,
        streams: tuple[int, int, int],
        arguments: Mapping[str, Any],
    ) -> tuple[ContainerLogic, ProcessLogic, Streams]:
        """Restore a container."""
        name = container_id or _new_id()
        check_id(name)
        config = saved_config(path) if spec is None else spec.to_dict()
        container = self.container(name)
        args = tuple((config.get("process") or {}).get("args") or (name,))
        request = {"spec": config, "options": options_of(path, arguments, RESTORE)}
        pipes = Streams(*streams)
        logic = await container.begin("restore", args, request, pipes)
        return container, logic, pipes

    def request(self, container_id: str) -> dict[str, Any]:
        """Return what all requests about a container have in common."""
        return {"root": self.root, "systemd_cgroup": self.systemd_cgroup, "id": container_id}


class ContainerLogic:
    """A container of a state root, whoever has made it."""

    def __init__(self, runtime: RuntimeLogic, container_id: str) -> None:
        self.runtime = runtime
        self.id = container_id

    async def begin(
        self, name: str, args: tuple[str, ...], request: Mapping[str, Any], streams: Streams
    ) -> ProcessLogic:
        """Have an engine make a process; when this is interrupted, none is left."""
        try:
            whole = {**self.runtime.request(self.id), **request}
            line = await ask_any(name, whole, streams.passed, module=_module())
        except BaseException:
            streams.close()
            raise
        finally:
            streams.close_theirs()
        client.engines().give_back(line.engine)
        process = ProcessLogic(args, line)
        insisted = Insisted()
        try:
            await process.begun(insisted)
        except BaseException:
            line.close()
            streams.close()
            raise
        try:
            insisted.give_way()
        except BaseException:
            process.close(kill=name == "execute")
            streams.close()
            if name != "execute":
                # Whoever has asked for it will not know of it.
                await self.delete(force=True)
            raise
        return process

    async def _manage(self, what: str, **more: Any) -> None:
        await self._ask("manage", what, what=what, **more)

    async def _ask(self, name: str, operation: str, **more: Any) -> Any:
        request = {**self.runtime.request(self.id), **more}
        line = await ask_any(name, request, module=_module())
        try:
            value, _ = await line.answer(operation, insist=True)
        finally:
            line.close()
            client.engines().give_back(line.engine)
        return value

    async def start(self) -> None:
        """Start it, when there is a place for it."""
        async with self._place():
            await self._manage("start")

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Wait for a place among those that may run; given back when it cannot be started."""
        taken = await self.runtime.places.take(self.state)
        try:
            yield
        except BaseException:
            self.runtime.places.give_back(taken)
            raise

    async def delete(self, *, force: bool) -> None:
        """Delete it."""
        await self._manage("delete", force=force)

    async def exec(
        self,
        argv: Sequence[str],
        streams: tuple[int, int, int],
        env: Mapping[str, str] | None,
        cwd: str | None,
        user: tuple[int, int] | None,
        *,
        terminal: bool,
    ) -> tuple[ProcessLogic, Streams]:
        """Execute a program in it, as its own is but for what is given."""
        args = arguments_of(argv)
        process: dict[str, Any] = dict((await InThread(self.config)).get("process") or {})
        process |= {"args": list(args), "terminal": terminal}
        process.pop("consoleSize", None)
        process["cwd"] = cwd or process.get("cwd") or "/"
        process["env"] = [
            *(process.get("env") or ()),
            *(f"{name}={value}" for name, value in (env or {}).items()),
        ]
        if user:
            process["user"] = {"uid": user[0], "gid": user[1]}
        pipes = Streams(*streams)
        return await self.begin("execute", args, {"process": process}, pipes), pipes

    async def checkpoint(
        self, path: str | os.PathLike[str], arguments: Mapping[str, Any]
    ) -> dict[str, int]:
        """Save it; return what that took."""
        options = options_of(path, arguments, CHECKPOINT)
        told: dict[str, int] = await self._ask("checkpoint", "checkpoint", options=options)
        return told

    def config(self) -> dict[str, Any]:
        """Return the config that it was made from."""
        entry = Store(self.runtime.root).open(self.id)
        try:
            return dict(entry.load_config())
        finally:
            entry.close()

    def state(self) -> dict[str, Any]:
        """Return its state."""
        return state.query(self.runtime.settings, self.id)

    def kill(self, signal: int, *, everyone: bool) -> None:
        """Send it a signal."""
        kill.kill(self.runtime.settings, self.id, signal, everyone=everyone)

    def pause(self) -> None:
        """Freeze it."""
        freeze.pause(self.runtime.settings, self.id)

    def resume(self) -> None:
        """Let it go on."""
        freeze.resume(self.runtime.settings, self.id)

    def update(self, resources: Mapping[str, Any]) -> None:
        """Change its limits."""
        from pyrunc.errors import InvalidConfig
        from pyrunc.spec.load import check_resources

        wanted = dict(resources)
        if mistakes := check_resources(wanted):
            raise InvalidConfig("the resources", mistakes)
        self.apply(wanted)

    def apply(self, resources: dict[str, Any]) -> None:
        """Change its limits to some that were checked."""
        update.update(self.runtime.settings, self.id, resources)

    def stats(self) -> dict[str, Any]:
        """Return what it uses."""
        return statistics.statistics(self.runtime.settings, self.id)

    def pids(self) -> list[int]:
        """Return the pids of its processes."""
        return processes.pids(self.runtime.settings, self.id)

    def events(self, interval: float) -> Iterator[dict[str, Any]]:
        """Yield what happens in it, until it ends."""
        from pyrunc.container.events import events

        return events(self.runtime.settings, self.id, interval)
