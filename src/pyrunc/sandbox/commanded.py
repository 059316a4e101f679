"""The lower floor through another runtime's command line: `Runtime(command="runsc")`.

A request becomes the command that does it, called by a process apart (engine/commands.py). What
can be known of a failure is asked for afterwards, not read out of the other runtime's sentences.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import tempfile
from typing import TYPE_CHECKING, Any

from pyrunc.container.record.store import check_id
from pyrunc.engine import client
from pyrunc.errors import AlreadyExists, Error, NotFound, WrongStatus, reason
from pyrunc.linux import processes as p
from pyrunc.sandbox.containers import ContainerLogic, RuntimeLogic
from pyrunc.sandbox.errors import CommandFailed, EngineLost, InvalidArgument, ProgramNotFound
from pyrunc.sandbox.places import first_process
from pyrunc.sandbox.process import DEVNULL, PIPE, ProcessLogic, Streams
from pyrunc.sandbox.requests import ask
from pyrunc.sandbox.waiting import READABLE, Insisted, InThread, Wait, drive

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyrunc.sandbox.requests import Line

#: What of this program's environment a command is told: where things are, and whose they are.
_VARIABLES = ("PATH", "HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "TMPDIR")
#: What configs say they are of: some runtimes refuse a later version, and none reads less for it.
_OCI_VERSION = "1.0.2"
#: The status that a command needs a container to have.
_NEEDS = {"start": "created", "exec": "running", "pause": "running", "resume": "paused"}
#: And those that it must not have.
_REFUSED = {("kill", "stopped"), ("delete", "running"), ("delete", "paused")}


class CommandedRuntime(RuntimeLogic):
    """The state root of another runtime."""

    def __init__(
        self,
        command: str | Sequence[str],
        root: str | os.PathLike[str] | None,
        *,
        systemd_cgroup: bool,
        max_running: int | None,
    ) -> None:
        words = [command] if isinstance(command, str) else [str(word) for word in command]
        program = shutil.which(words[0]) if words else None
        if program is None:
            raise InvalidArgument(f"command {command!r} is not there, or cannot be executed")
        self.words = [os.path.abspath(program), *words[1:]]
        self.name = os.path.basename(words[0])
        if root is None:
            runtime = os.environ.get("XDG_RUNTIME_DIR")
            root = f"{runtime if os.geteuid() and runtime else '/run'}/{self.name}"
        super().__init__(root, systemd_cgroup=systemd_cgroup, max_running=max_running)

    def container(self, container_id: str) -> CommandedContainer:
        """Return a container, whether it is there or not."""
        check_id(container_id)
        return CommandedContainer(self, container_id)

    def ids(self) -> list[str]:
        """Return the ids of all containers."""
        listed = drive(self.container("list").ask("list", "--format", "json", about=False))
        return sorted(entry["id"] for entry in json.loads(listed) or ())

    def bundle(self, container_id: str) -> str:
        """Return where the config of a container is kept until it is deleted."""
        return f"{self.root}.bundles/{container_id}"


class CommandedContainer(ContainerLogic):
    """A container of another runtime."""

    runtime: CommandedRuntime

    async def _call(
        self, directory: str, words: Sequence[str], passed: Sequence[int], pid_file: str = ""
    ) -> Line:
        """Call a command with standard streams; return the line that tells of its end."""
        runtime = self.runtime
        systemd = ("--systemd-cgroup",) if runtime.systemd_cgroup else ()
        log = ("--log", f"{directory}/log", "--log-format", "json")
        request = {
            "words": [*runtime.words, "--root", runtime.root, *log, *systemd, *words],
            "env": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
            "pid_file": pid_file,
        }
        try:
            return await ask(client.engines().commander(), "command", request, passed)
        except EngineLost:
            # What calls the commands was killed; nothing of this one was done.
            return await ask(client.engines().commander(), "command", request, passed)

    async def ask(self, *words: str, about: bool = True, insist: bool = False) -> str:
        """Call a command that ends by itself; return what it prints.

        :param about: whether it is about this container.
        """
        with _directory() as directory, _memory() as stdout, _memory() as stderr:
            all_words = (*words, self.id) if about and self.id not in words else words
            null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            try:
                line = await self._call(directory, all_words, (null, stdout, stderr))
            finally:
                os.close(null)
            try:
                value, _ = await line.answer(words[0], insist=insist)
            finally:
                line.close()
            if value["returncode"] == 0:
                return _content(stdout)
            raise await InThread(self._failure, words[0], directory, _content(stderr))

    def _failure(self, what: str, directory: str, printed: str) -> Error:
        """Return the error for a command that has failed, by the state that things are in now."""
        why = _last_message(f"{directory}/log") or _first_line(printed) or "it does not say why"
        message = f"{self.runtime.name} {what}: {why}"
        if "executable file" in why and "not found" in why:
            return ProgramNotFound(message)
        if what == "create":
            return (AlreadyExists if self.id in self.runtime.ids() else CommandFailed)(message)
        if what not in ("state", "list"):
            try:
                status = self.state()["status"]
            except Error:
                return NotFound(message)
            if status != _NEEDS.get(what, status) or (what, status) in _REFUSED:
                return WrongStatus(message)
        elif what == "state" and self.id not in self.runtime.ids():
            return NotFound(message)
        return CommandFailed(message)

    async def begin(
        self, name: str, args: tuple[str, ...], request: Mapping[str, Any], streams: Streams
    ) -> ProcessLogic:
        """Have a process made: the container's first one, or one more."""
        try:
            if name == "restore":
                raise self._not_carried("restore")
            if name == "create":
                return await self._create(args, request["spec"], streams)
            return await self._exec(args, request["process"], streams)
        except BaseException:
            streams.close()
            raise

    async def _create(
        self, args: tuple[str, ...], config: dict[str, Any], streams: Streams
    ) -> ProcessLogic:
        bundle = self.runtime.bundle(self.id)
        if os.path.exists(bundle) and self.id in await InThread(self.runtime.ids):
            streams.close_theirs()
            raise AlreadyExists(f"container {self.id} exists")
        os.makedirs(bundle, mode=0o700, exist_ok=True)
        with open(f"{bundle}/config.json", "w") as file:
            json.dump({**config, "ociVersion": _OCI_VERSION}, file)
        try:
            return await self._make(args, "create", ("--bundle", bundle), streams)
        except BaseException:
            self._remove_bundle()
            raise

    async def _exec(
        self, args: tuple[str, ...], process: dict[str, Any], streams: Streams
    ) -> ProcessLogic:
        with _directory() as directory:
            with open(f"{directory}/process.json", "w") as file:
                json.dump(process, file)
            options: tuple[str, ...] = ("--detach", "--process", f"{directory}/process.json")
            if not process.get("terminal"):
                return await self._make(args, "exec", options, streams)
            with socket.socket(socket.AF_UNIX) as console:
                console.bind(f"{directory}/console")
                console.listen(1)
                options = (*options, "--console-socket", f"{directory}/console")
                logic = await self._make(args, "exec", options, streams)
                console.settimeout(10)
                with console.accept()[0] as sender:
                    _, (logic.terminal,), _, _ = socket.recv_fds(sender, 4096, 1)
                os.set_inheritable(logic.terminal, False)
                return logic

    async def _make(
        self, args: tuple[str, ...], what: str, options: Sequence[str], streams: Streams
    ) -> ProcessLogic:
        """Call a command that makes a process and names its pid.

        It is seen through when it is interrupted: killed half-way, it would leave what it has done.
        """
        with _directory() as directory:
            pid_file = f"{directory}/pid"
            words = (what, *options, "--pid-file", pid_file, self.id)
            try:
                line = await self._call(directory, words, streams.passed, pid_file)
            finally:
                streams.close_theirs()
            insisted = Insisted()
            try:
                while (received := line.take()) is None:
                    await insisted.wait(Wait({line.fileno(): READABLE}))
                (kind, value), descriptors = received
                if kind != "started":
                    raise await InThread(self._failure, what, directory, "")
                logic = ProcessLogic(args, line)
                logic.pid, logic.pidfd = value["pid"], descriptors[0]
                await self._unless(insisted, logic, what)
            except BaseException:
                line.close()
                raise
            return logic

    async def _unless(self, insisted: Insisted, logic: ProcessLogic, what: str) -> None:
        """Take back what was made if the wait for it was interrupted."""
        try:
            insisted.give_way()
        except BaseException:
            logic.close(kill=True)
            if what == "create":
                await self.delete(force=True)
            raise

    async def start(self) -> None:
        """Start it."""
        async with self._place():
            await self.ask("start")

    async def delete(self, *, force: bool) -> None:
        """Delete it."""
        try:
            await self.ask("delete", *(("--force",) if force else ()), insist=True)
        except NotFound:
            # Some say that there is nothing to delete, some don't.
            if not force:
                raise
        self._remove_bundle()

    def _remove_bundle(self) -> None:
        bundle = self.runtime.bundle(self.id)
        with contextlib.suppress(OSError):
            os.unlink(f"{bundle}/config.json")
            os.rmdir(bundle)
            os.rmdir(os.path.dirname(bundle))

    async def checkpoint(
        self, path: str | os.PathLike[str], arguments: Mapping[str, Any]
    ) -> dict[str, int]:
        """Say that this is pyrunc's alone."""
        raise self._not_carried("checkpoint")

    def _not_carried(self, what: str) -> CommandFailed:
        return CommandFailed(
            f"{self.runtime.name} {what}: only pyrunc's own Runtime does that here"
        )

    def config(self) -> dict[str, Any]:
        """Return the config that it was made from."""
        path = f"{self.state()['bundle']}/config.json"
        try:
            with open(path) as file:
                config: dict[str, Any] = json.load(file)
        except (OSError, ValueError) as error:
            why = reason(error) if isinstance(error, OSError) else str(error)
            raise Error(f"cannot read {path}: {why}") from None
        return config

    def state(self) -> dict[str, Any]:
        """Return its state."""
        state: dict[str, Any] = json.loads(drive(self.ask("state")))
        return state

    def kill(self, signal: int, *, everyone: bool) -> None:
        """Send it a signal."""
        drive(self.ask("kill", *(("--all",) if everyone else ()), self.id, str(int(signal))))

    def pause(self) -> None:
        """Freeze it."""
        drive(self.ask("pause"))

    def resume(self) -> None:
        """Let it go on."""
        drive(self.ask("resume"))

    def apply(self, resources: dict[str, Any]) -> None:
        """Change its limits."""
        with _directory() as directory:
            with open(f"{directory}/resources.json", "w") as file:
                json.dump(resources, file)
            drive(self.ask("update", "--resources", f"{directory}/resources.json"))

    def stats(self) -> dict[str, Any]:
        """Return what it uses."""
        told = json.loads(drive(self.ask("events", "--stats")))
        data: dict[str, Any] = told["data"]
        return data

    def pids(self) -> list[int]:
        """Return the pids of its processes."""
        return sorted(json.loads(drive(self.ask("ps", "--format", "json"))) or ())

    def events(self, interval: float) -> Iterator[dict[str, Any]]:
        """Yield what happens in it, until it ends."""
        words = ("events", "--interval", f"{max(1, round(interval * 1000))}ms", self.id)
        streams = Streams(DEVNULL, PIPE, DEVNULL)
        with _directory() as directory, _memory() as stderr:
            try:
                stdin, stdout, _ = streams.passed
                line = drive(self._call(directory, words, (stdin, stdout, stderr)))
            finally:
                streams.close_theirs()
            stdout = streams.take("stdout")
            # Some go on until the container is deleted.
            process = first_process(self.state, ("created", "running", "paused"))
            try:
                with contextlib.closing(line):
                    for text in _lines(stdout, process):
                        yield json.loads(text)
                    if process >= 0 and p.poll((process,), 0):
                        return
                    value, _ = drive(line.answer("events"))
                if value["returncode"]:
                    raise self._failure("events", directory, _content(stderr))
            finally:
                os.close(stdout)
                if process >= 0:
                    os.close(process)


@contextlib.contextmanager
def _directory() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="pyrunc-", ignore_cleanup_errors=True) as path:
        yield path


@contextlib.contextmanager
def _memory() -> Iterator[int]:
    descriptor = os.memfd_create("printed", os.MFD_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lines(stdout: int, process: int) -> Iterator[bytes]:
    """Yield lines as they come, until there are no more or a process has ended."""
    rest = b""
    while True:
        ready = p.poll((stdout, process))
        try:
            piece = os.read(stdout, 1 << 16)
        except BlockingIOError:
            return
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
        if not piece or stdout not in ready:
            return


def _content(memory: int) -> str:
    with open(os.dup(memory), "rb") as file:
        file.seek(0)
        return file.read().decode("utf-8", "replace")


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0].strip() if lines else ""


def _last_message(log: str) -> str:
    """Return the last error of a log of JSON lines, as all runtimes write it."""
    try:
        with open(log, errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            entry = json.loads(line)
            if entry.get("level") in ("error", "fatal") and entry.get("msg"):
                return str(entry["msg"]).strip().replace("\n", "; ")
    return ""
