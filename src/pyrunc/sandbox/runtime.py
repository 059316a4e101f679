"""The synchronous face of the lower floor: Runtime and Container."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyrunc.sandbox.process import DEVNULL
from pyrunc.sandbox.started import Process
from pyrunc.sandbox.state_roots import runtime_logic
from pyrunc.sandbox.waiting import drive

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self, Unpack

    from pyrunc.sandbox.checkpoints import CheckpointArguments, RestoreArguments
    from pyrunc.sandbox.containers import ContainerLogic
    from pyrunc.sandbox.spec import Spec


class Runtime:
    """A state root with its containers: those of the command `pyrunc --root ROOT` as well.

    >>> runtime = pyrunc.Runtime("/run/my-containers")
    >>> spec = pyrunc.Spec.default("/srv/alpine", ["echo", "hello"])
    >>> with runtime.create(spec, stdout=pyrunc.PIPE) as container:
    ...     container.start()
    ...     print(container.process.communicate()[0], container.wait())
    b'hello\\n' 0

    Its containers outlive the program, and are there for the next one, until they are deleted.

    :param root: the directory of their state, made when it is missing; the command's by default.
    :param command: another runtime, by its command: "runsc", "runc", or with options of its own
        ``["runsc", "--platform=systrap"]``. The same operations are then carried out by that, in
        its state root (/run/runsc by default); one that it has not raises :exc:`CommandFailed`.
    :param systemd_cgroup: let systemd make the cgroups, as `--systemd-cgroup` does.
    :param max_running: how many containers, of those that this object has started, may run at a
        time; :meth:`Container.start` waits for its turn.
    """

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

    def create(
        self,
        spec: Spec,
        id: str | None = None,
        *,
        stdin: int = DEVNULL,
        stdout: int = DEVNULL,
        stderr: int = DEVNULL,
    ) -> Container:
        """Create a container, which waits for its start.

        :param id: its name; a new one when it is left out.
        :param stdin: as for :meth:`Sandbox.start`; so ``stdout`` and ``stderr``.
        :raises AlreadyExists: when the id is taken.
        :raises Error: when it cannot be made; nothing is left then.
        """
        logic, process, pipes = drive(self._logic.create(spec, id, (stdin, stdout, stderr)))
        return Container(logic, Process(process, pipes))

    def restore(
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
        """Make a container again that :meth:`Container.checkpoint` has saved; it runs at once.

        One saved container can be restored many times. Its root file system must be as it was.

        :param path: the directory of the images.
        :param spec: its config; as it was saved when left out. Cgroup and bind mounts are taken
            from it; what the processes are and may is in the images.
        :param id: as for :meth:`create`; so the streams, which take the place of the saved ones.

        All others are the flags of `pyrunc restore`.

        :raises AlreadyExists: when the id is taken.
        :raises Error: when it cannot be restored; nothing is left then.
        """
        logic, process, pipes = drive(
            self._logic.restore(path, spec, id, (stdin, stdout, stderr), arguments)
        )
        return Container(logic, Process(process, pipes))

    def container(self, id: str) -> Container:
        """Return a container that is there already.

        :raises NotFound: when it is not.
        """
        container = Container(self._logic.container(id))
        container.state()
        return container

    def containers(self) -> list[Container]:
        """Return all containers of the state root, by id."""
        return [Container(self._logic.container(name)) for name in self._logic.ids()]


class Container:
    """A container of a state root, in any state. In a ``with`` block it is deleted at the end.

    >>> container = pyrunc.Runtime("/run/my-containers").container("web")
    >>> container.status, container.stats()["memory"]["usage"]["usage"]
    ('running', 1052672)
    >>> container.kill()
    """

    def __init__(self, logic: ContainerLogic, process: Process | None = None) -> None:
        self._logic = logic
        #: Its first process, for whoever has created it here; else None.
        self.process = process

    def __repr__(self) -> str:
        return f"<Container {self.id}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.delete(force=True)
        if self.process is not None:
            self.process.close()

    @property
    def id(self) -> str:
        """Its name."""
        return self._logic.id

    def state(self) -> dict[str, Any]:
        """Return its state, as `pyrunc state` prints it: status, pid, bundle and more.

        :raises NotFound: when it is deleted.
        """
        return self._logic.state()

    @property
    def status(self) -> str:
        """One of "creating", "created", "running", "paused" and "stopped"."""
        return str(self.state()["status"])

    def start(self) -> None:
        """Execute its program, with ``max_running`` when there is a place for it.

        :raises WrongStatus: when it is not created.
        :raises Error: when the program cannot be executed.
        """
        drive(self._logic.start())

    def exec(
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
        """Execute one more program in it, with the rights of its own one.

        :param stdin: as for :meth:`Sandbox.start`; so all others.
        :param user: uid and gid; the container's own when left out.
        :raises WrongStatus: when it does not run. :raises ProgramNotFound: when there is none.
        """
        streams = (stdin, stdout, stderr)
        return Process(*drive(self._logic.exec(argv, streams, env, cwd, user, terminal=terminal)))

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of its first process, and return the return code.

        :raises TimeoutExpired: when that takes more than ``timeout`` seconds.
        :raises WrongStatus: when it was created elsewhere: its parent alone is told.
        """
        code: int = created_here(self.process, self.id).wait(timeout)
        return code

    def kill(self, signal: int = 15, *, everyone: bool = False) -> None:
        """Send a signal to its first process, or to all of them.

        :raises WrongStatus: when it has stopped.
        """
        self._logic.kill(signal, everyone=everyone)

    def pause(self) -> None:
        """Stop all its processes where they are."""
        self._logic.pause()

    def resume(self) -> None:
        """Let them go on."""
        self._logic.resume()

    def update(self, resources: Mapping[str, Any]) -> None:
        """Change limits: ``resources`` is what ``linux.resources`` of config.json has.

        :raises Error: when the kernel refuses; all limits are as before then.
        """
        self._logic.update(resources)

    def stats(self) -> dict[str, Any]:
        """Return what it uses right now, as `pyrunc events --stats` has it under "data"."""
        return self._logic.stats()

    def pids(self) -> list[int]:
        """Return the pids of its processes, as the host numbers them."""
        return self._logic.pids()

    def events(self, interval: float = 5.0) -> Iterator[dict[str, Any]]:
        """Yield statistics every ``interval`` seconds, and out-of-memory kills, until it ends.

        Each is a dictionary with "type" ("stats" or "oom"), "id", and for statistics "data".
        """
        return self._logic.events(interval)

    def checkpoint(
        self, path: str | os.PathLike[str], **arguments: Unpack[CheckpointArguments]
    ) -> dict[str, int]:
        """Save it with all that runs in it, for :meth:`Runtime.restore`; return what that took.

        It is gone afterwards, but for ``leave_running=True`` and ``pre_dump=True``. Takes root, and
        CRIU in $PATH; docs/checkpoint.md tells what can be saved.

        :param path: a directory for the images, made when it is missing. They hold all of the
            container's memory, and whoever can write to them can do what root can.

        All others are the flags of `pyrunc checkpoint`; the figures are those of its --stats.

        :raises WrongStatus: when it does not run.
        :raises Error: when it cannot be saved; it goes on as before.
        """
        return drive(self._logic.checkpoint(path, arguments))

    def delete(self, *, force: bool = False) -> None:
        """Remove it; with ``force`` whatever its state is, and when it is not there.

        :raises WrongStatus: when it runs.
        """
        drive(self._logic.delete(force=force))


def created_here(process: Any, container_id: str) -> Any:
    """Return the first process of a container, if this program has created it.

    :raises WrongStatus: if not.
    """
    from pyrunc.errors import WrongStatus

    if process is None:
        raise WrongStatus(f"container {container_id} was created by another program")
    return process
