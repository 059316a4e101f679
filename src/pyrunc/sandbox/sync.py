"""The synchronous face of the library; :mod:`pyrunc.aio` has the same names for asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from pyrunc.sandbox import running
from pyrunc.sandbox.logic import SandboxLogic
from pyrunc.sandbox.process import DEVNULL, PIPE, STDOUT
from pyrunc.sandbox.started import Process
from pyrunc.sandbox.waiting import drive

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
def run(
    argv: Sequence[str] | None, *, text: Literal[True], **arguments: Unpack[RunArguments]
) -> Result[str]: ...
@overload
def run(
    argv: Sequence[str] | None, *, text: Literal[False] = False, **arguments: Unpack[RunArguments]
) -> Result[bytes]: ...
def run(
    argv: Sequence[str] | None, *, text: bool = False, **arguments: Unpack[RunArguments]
) -> Result[Any]:
    """Run a program in a container of its own and wait for its end.

    >>> pyrunc.run(["sh", "-c", "echo hello; exit 3"], timeout=5, memory="64M").returncode
    3

    It has no network, a root that it cannot change, an empty /tmp, no capabilities, a seccomp
    filter, 256 MiB and no swap, 64 processes, 10 seconds. A program that fails is a result, not an
    exception. When this returns, or raises, no process of the container is left.

    :param argv: the program and its arguments, a list: no shell is involved. None: the program
        that the image of ``rootfs`` names itself (entry point and command).
    :param text: ``input``, ``stdout`` and ``stderr`` are texts in UTF-8, not bytes.
    :param input: what the program reads; nothing (/dev/null) when it is left out.
    :param timeout: seconds until everything in the container is killed; None for no limit. What
        was printed so far is in the result, whose status is "timeout".
    :param cpu_time: the seconds of processor time that everything in the container may use.
    :param output: how many bytes of stdout, and of stderr, are kept: the last ones, and
        ``truncated`` is true when there were more. None keeps all.
    :param stop_on_output: end the program when it prints more than ``output``.
    :param check: raise when the program does not exit with 0.
    :param pool: keep as many containers of this kind ready, for this and other runs with the same
        arguments, until the program ends.

    All others are those of :class:`Sandbox`.

    :raises ProgramNotFound: when there is no such program in the container.
    :raises ProgramNotExecutable: when it cannot be executed.
    :raises ProgramFailed: with ``check``, when it does not exit with 0.
    :raises TimeoutExpired: with ``check``, when its time was over.
    :raises NotEnforced: when a limit that was given cannot be enforced.
    :raises HostFileMissing: when ``rootfs`` or a bind's source is not there.
    :raises FileMissing: when ``cwd`` is not there.
    :raises InvalidArgument: when an argument makes no sense.
    """
    return drive(running.run(argv, arguments, text=text))


class Sandbox:
    """A container that programs are run in, with a layer for files that is thrown away at its end.

    >>> with pyrunc.Sandbox(memory="128M") as box:
    ...     box.write_file("/tmp/hello.py", "print('hello')")
    ...     print(box.run(["python3", "/tmp/hello.py"]).stdout)
    b'hello\\n'

    Use it in a ``with`` block, or call :meth:`open` and :meth:`close`. Several threads may use one.

    :param rootfs: the root file system: a directory, which is not changed; an archive of an image
        (`docker save`, `podman save`) or of files (tar), or a directory in the OCI image layout,
        unpacked once. None: the host's /usr, of which all is read-only.
    :param memory: bytes, or a text such as "64M"; all of the container's processes, and the files
        in its layer, share it. None for no limit, here and below.
    :param swap: bytes of swap in addition; 0 by default.
    :param pids: how many processes and threads there may be at a time.
    :param cpu: how many processors' worth of time may be used, 0.5 for the half of one.
    :param disk: bytes that may be written to the layer (of `run`: to /tmp), and to /dev/shm.
    :param files: how many files there may be in it.
    :param network: the host's network; else there is but a loopback interface of the container's.
    :param binds: path in the container -> file or directory of the host, read-only, or to be
        written to when the path in the container ends with ":rw".
    :param env: variables of the environment, beside PATH, HOME and those of the image.
    :param cwd: the working directory; the image's, or /tmp.
    :param user: a uid, or ``(uid, gid)``; the image's, or nobody's (65534). Without root, 0 is the
        caller outside, and the others are subordinate ids; 0 is the default where there are none.
    :param hostname: the host's name inside.
    :param best_effort: do without limits that this host or user cannot enforce, and list them in
        ``not_enforced``, instead of raising :class:`NotEnforced`. Limits that were not given, but
        are there by default, always behave so.
    """

    def __init__(self, **arguments: Unpack[SandboxArguments]) -> None:
        self._logic = SandboxLogic(arguments, writable=True)
        #: The program that goes on in a sandbox that was restored; None in any other.
        self.process: Process | None = None

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def not_enforced(self) -> Mapping[str, str]:
        """The limits that this host or user cannot enforce, by name, and why."""
        return self._logic.not_enforced

    def open(self) -> Self:
        """Make the container, if it is not there; return the sandbox itself.

        :raises Error: when it cannot be made.
        """
        drive(self._logic.open())
        return self

    def close(self) -> None:
        """End all that runs in it, and take it away with its files. A second time does nothing."""
        drive(self._logic.close())

    @overload
    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        text: Literal[True],
        **arguments: Unpack[ProgramArguments],
    ) -> Result[str]: ...
    @overload
    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        text: Literal[False] = False,
        **arguments: Unpack[ProgramArguments],
    ) -> Result[bytes]: ...
    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        text: bool = False,
        **arguments: Unpack[ProgramArguments],
    ) -> Result[Any]:
        """Run a program to its end: as :func:`pyrunc.run`, but here.

        When a limit of its own (``timeout``, ``cpu_time``, ``output``) ends it, or an exception
        does, everything else that runs in the sandbox ends with it; files stay.

        ``memory_peak`` and ``pids_peak`` of the result are the sandbox's since it was opened.
        """
        return drive(self._logic.run(argv, env, cwd, arguments, text=text))

    def start(
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
        """Start a program and go on.

        >>> with pyrunc.Sandbox() as box:
        ...     process = box.start(["cat"], stdin=pyrunc.PIPE, stdout=pyrunc.PIPE)
        ...     print(process.communicate(b"through the sandbox")[0])
        b'through the sandbox'

        :param stdin: ``pyrunc.PIPE`` or ``pyrunc.DEVNULL``; so ``stdout`` and ``stderr``, which
            may be ``pyrunc.STDOUT`` as well.
        :param terminal: give it a terminal of its own as all three: ``process.terminal``.
        :param timeout: seconds, as for :meth:`run`; as ``cpu_time`` there.
        :param checkpointable: let :meth:`checkpoint` save it. For that it becomes the sandbox's
            process 1: nothing else may run there when it starts, and all that runs there ends with
            it. As process 1 it collects its orphans itself, and signals that it does not handle do
            nothing but for SIGKILL. It cannot have a terminal.
        :raises ProgramNotFound: when there is no such program; else as :meth:`run`.
        """
        streams = (stdin, stdout, stderr)
        logic, pipes = drive(
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
        return Process(logic, pipes)

    def checkpoint(
        self,
        path: str | os.PathLike[str],
        *,
        leave_running: bool = False,
        tcp_established: bool = False,
        file_locks: bool = False,
    ) -> dict[str, int]:
        """Save it on disk: its files, and the program that runs in it; return what that took.

        The program is the one that was started with ``checkpointable=True``, with all processes
        that it has brought forth; no other may run. Afterwards it has ended, as if killed, but for
        ``leave_running``; the sandbox and its files are still there. Takes root, and CRIU in $PATH.

        >>> with pyrunc.Sandbox(memory="128M") as box:
        ...     warm = "import json, sqlite3; print('ready', flush=True); exec(input())"
        ...     process = box.start(
        ...         ["python3", "-c", warm],
        ...         stdin=pyrunc.PIPE,
        ...         stdout=pyrunc.PIPE,
        ...         checkpointable=True,
        ...     )
        ...     _ = process.stdout.readline()
        ...     took = box.checkpoint("/var/lib/my-program/warm")
        >>> for task in ("print(1)", "print(2)"):
        ...     with pyrunc.Sandbox.restore(
        ...         "/var/lib/my-program/warm", stdin=pyrunc.PIPE, stdout=pyrunc.PIPE
        ...     ) as copy:
        ...         print(copy.process.communicate(task.encode() + b"\\n")[0])
        b'1\\n'
        b'2\\n'

        :param path: a directory for the images, made when it is missing. They hold all of the
            program's memory, and whoever can write to them can do what root can.
        :param leave_running: let the program go on.
        :param tcp_established: save open TCP connections as well: to others in the sandbox.
        :param file_locks: save locks on files as well.

        The figures are those of `pyrunc checkpoint --stats`.

        :raises WrongStatus: when no such program runs, or others do.
        :raises Error: when it cannot be saved (docs/checkpoint.md); it goes on as before.
        """
        return drive(
            self._logic.checkpoint(
                path,
                leave_running=leave_running,
                tcp_established=tcp_established,
                file_locks=file_locks,
            )
        )

    @classmethod
    def restore(
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
        """Make a sandbox that :meth:`checkpoint` has saved again: with its files, and the program.

        It is open, and the program (:attr:`process`) goes on where it was. One saved sandbox can be
        restored many times, also at the same time. Its root file system and what is bound into it
        must be as they were.

        :param path: the directory of the images.
        :param stdin: as for :meth:`start`, so ``stdout`` and ``stderr``: they take the place of
            what the program had.
        :param timeout: seconds from now on, as for :meth:`start`; as ``cpu_time`` there.

        All others are those of :class:`Sandbox`, by default what the saved one was made with, also
        when its limits were changed since. ``env`` and ``cwd`` are for programs that are started
        later. ``network``, ``user`` and ``hostname`` stay.

        :raises InvalidArgument: when an argument makes no sense.
        :raises Error: when it cannot be restored; nothing is left then.
        """
        from pyrunc.sandbox.saved import Saved

        box = cls()
        streams = (stdin, stdout, stderr)
        saved = Saved(path, arguments)
        box._logic, process, pipes = drive(SandboxLogic.restore(saved, streams, timeout, cpu_time))
        box.process = Process(process, pipes)
        return box

    def read_file(self, path: str, *, limit: int | str | None = None) -> bytes:
        """Return the content of a regular file, at most ``limit`` bytes.

        :param path: absolute; links on the way are followed as a program inside would.
        :raises FileMissing: or :class:`FileDenied`, or :class:`FileFailed`.
        """
        return drive(self._logic.read_file(path, limit))

    def write_file(self, path: str, content: bytes | str, *, mode: int = 0o644) -> None:
        """Make a regular file, or replace its content; missing directories are made.

        What is made belongs to the user that programs in the sandbox run as.

        :raises FileDenied: or :class:`FileFailed` (no space, a read-only place).
        """
        drive(self._logic.write_file(path, content, mode))

    def put(self, source: str | os.PathLike[str], path: str) -> None:
        """Copy a file of the host, or a directory with all below it, to ``path`` in the sandbox.

        Links are copied, not followed.
        """
        drive(self._logic.put(source, path))

    def get(self, path: str, target: str | os.PathLike[str]) -> None:
        """Copy a file of the sandbox, or a directory with all below it, to ``target`` outside.

        Nothing of the host is overwritten, but directories are added to. Links are copied as they
        are, and may lead anywhere: don't follow them on the host.
        """
        drive(self._logic.get(path, target))

    def changes(self) -> list[Change]:
        """Return what differs from the root file system: ``(path, kind)``, sorted by path.

        Kinds are "added", "changed" and "deleted". Temporary file systems (/dev/shm) are not
        looked at.
        """
        return drive(self._logic.changes())

    def reset(self) -> None:
        """End all that runs in it, and forget all changes."""
        drive(self._logic.call("reset"))

    def stats(self) -> dict[str, Any]:
        """Return what it uses right now, as `pyrunc events --stats` has it under "data"."""
        return drive(self._logic.call("stats"))

    def pids(self) -> list[int]:
        """Return the pids of its processes, as the host numbers them."""
        return drive(self._logic.call("pids"))

    def pause(self) -> None:
        """Stop all its processes where they are."""
        drive(self._logic.call("pause"))

    def resume(self) -> None:
        """Let them go on."""
        drive(self._logic.call("resume"))

    def update(
        self,
        *,
        memory: int | str | None = None,
        swap: int | str | None = None,
        pids: int | None = None,
        cpu: float | None = None,
    ) -> None:
        """Change its limits; what is not given stays.

        :raises NotEnforced: when a limit cannot be enforced.
        :raises Error: when the kernel refuses: less memory than is used, say.
        """
        drive(self._logic.update(memory, swap, pids, cpu))
