"""The asyncio face of the lower floor: what :mod:`pyrunc.sandbox.runtime` is, with ``await``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyrunc.aio.driving import drive
from pyrunc.aio.faces import Process
from pyrunc.sandbox.process import DEVNULL
from pyrunc.sandbox.runtime import created_here
from pyrunc.sandbox.state_roots import runtime_logic
from pyrunc.sandbox.waiting import InThread

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self, Unpack

    from pyrunc.sandbox.checkpoints import CheckpointArguments, RestoreArguments
    from pyrunc.sandbox.containers import ContainerLogic
    from pyrunc.sandbox.spec import Spec


async def _in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    return await InThread(function, *arguments)


class Runtime:
    """A state root with its containers: see :class:`pyrunc.Runtime`."""

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        *,
        command: str | Sequence[str] | None = None,
        systemd_cgroup: bool = False,
        max_running: int | None = None,
    ) -> None:
        #: The command of another runtime that carries everything out; None for pyrunc itself.
        self.command = command
        self._logic = runtime_logic(
            root, command, systemd_cgroup=systemd_cgroup, max_running=max_running
        )

    @property
    def root(self) -> str:
        """The directory of the containers' state."""
        return self._logic.root

    async def create(
        self,
        spec: Spec,
        id: str | None = None,
        *,
        stdin: int = DEVNULL,
        stdout: int = DEVNULL,
        stderr: int = DEVNULL,
    ) -> Container:
        """Create a container, which waits for its start: see :meth:`pyrunc.Runtime.create`."""
        logic, begun, pipes = await drive(self._logic.create(spec, id, (stdin, stdout, stderr)))
        process = Process(begun)
        await process._connect(pipes)
        return Container(logic, process)

    async def restore(
        self,
        path: str | os.PathLike[str],
        spec: Spec | None = None,
        id: str | None = None,
        *,
        stdin: int = DEVNULL,
        stdout: int = DEVNULL,
        stderr: int = DEVNULL,
        **arguments: Unpack[RestoreArguments],
    ) -> Container:
        """Make a container again that was saved: see :meth:`pyrunc.Runtime.restore`."""
        streams = (stdin, stdout, stderr)
        logic, begun, pipes = await drive(self._logic.restore(path, spec, id, streams, arguments))
        process = Process(begun)
        await process._connect(pipes)
        return Container(logic, process)

    async def container(self, id: str) -> Container:
        """Return a container that is there already."""
        container = Container(self._logic.container(id))
        await container.state()
        return container

    async def containers(self) -> list[Container]:
        """Return all containers of the state root, by id."""
        names = await drive(_in_thread(self._logic.ids))
        return [Container(self._logic.container(name)) for name in names]


class Container:
    """A container of a state root, in any state: see :class:`pyrunc.Container`."""

    def __init__(self, logic: ContainerLogic, process: Process | None = None) -> None:
        self._logic = logic
        #: Its first process, for whoever has created it here; else None.
        self.process = process

    def __repr__(self) -> str:
        return f"<Container {self.id}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.delete(force=True)
        if self.process is not None:
            self.process.close()

    @property
    def id(self) -> str:
        """Its name."""
        return self._logic.id

    async def state(self) -> dict[str, Any]:
        """Return its state: see :meth:`pyrunc.Container.state`."""
        return await drive(_in_thread(self._logic.state))

    @property
    def status(self) -> Awaitable[str]:
        """One of "creating", "created", "running", "paused" and "stopped"; to be awaited."""
        return self._status()

    async def _status(self) -> str:
        return str((await self.state())["status"])

    async def start(self) -> None:
        """Execute its program."""
        await drive(self._logic.start())

    async def exec(
        self,
        argv: Sequence[str],
        *,
        stdin: int = DEVNULL,
        stdout: int = DEVNULL,
        stderr: int = DEVNULL,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: tuple[int, int] | None = None,
        terminal: bool = False,
    ) -> Process:
        """Execute one more program in it: see :meth:`pyrunc.Container.exec`."""
        streams = (stdin, stdout, stderr)
        logic, pipes = await drive(
            self._logic.exec(argv, streams, env, cwd, user, terminal=terminal)
        )
        process = Process(logic)
        await process._connect(pipes)
        return process

    async def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of its first process: see :meth:`pyrunc.Container.wait`."""
        code: int = await created_here(self.process, self.id).wait(timeout)
        return code

    async def kill(self, signal: int = 15, *, everyone: bool = False) -> None:
        """Send a signal to its first process, or to all of them."""
        await drive(_in_thread(lambda: self._logic.kill(signal, everyone=everyone)))

    async def pause(self) -> None:
        """Stop all its processes where they are."""
        await drive(_in_thread(self._logic.pause))

    async def resume(self) -> None:
        """Let them go on."""
        await drive(_in_thread(self._logic.resume))

    async def update(self, resources: Mapping[str, Any]) -> None:
        """Change limits: see :meth:`pyrunc.Container.update`."""
        await drive(_in_thread(self._logic.update, resources))

    async def stats(self) -> dict[str, Any]:
        """Return what it uses right now: see :meth:`pyrunc.Container.stats`."""
        return await drive(_in_thread(self._logic.stats))

    async def pids(self) -> list[int]:
        """Return the pids of its processes, as the host numbers them."""
        return await drive(_in_thread(self._logic.pids))

    async def events(self, interval: float = 5.0) -> AsyncIterator[dict[str, Any]]:
        """Yield what happens in it, until it ends: see :meth:`pyrunc.Container.events`."""
        events = self._logic.events(interval)
        while (event := await drive(_in_thread(next, events, None))) is not None:
            yield event

    async def checkpoint(
        self, path: str | os.PathLike[str], **arguments: Unpack[CheckpointArguments]
    ) -> dict[str, int]:
        """Save it with all that runs in it: see :meth:`pyrunc.Container.checkpoint`."""
        return await drive(self._logic.checkpoint(path, arguments))

    async def delete(self, *, force: bool = False) -> None:
        """Remove it: see :meth:`pyrunc.Container.delete`."""
        await drive(self._logic.delete(force=force))
