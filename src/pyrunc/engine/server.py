"""The engine proper: one loop, one thread, that makes containers and hears of their ends.

Every request comes through the control socket and brings the socket that its answer goes to. That
of a container (`open`) or of a process (`run`, `start`) is its line: it stays open for as long as
that lives, and when the program's end of it closes, so does the life of what it stands for.
"""

from __future__ import annotations

import os
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from pyrunc.container.making.remembered import Remembered
from pyrunc.container.settings import Settings
from pyrunc.container.statistics import statistics
from pyrunc.engine import failures, messages, roots
from pyrunc.engine.box import Box
from pyrunc.engine.changes import changes
from pyrunc.engine.enforcement import Enforcement
from pyrunc.engine.ids import EVERYBODY, Ids
from pyrunc.engine.keeper import cgroup_of
from pyrunc.engine.leisure import Leisure
from pyrunc.engine.networks import Networks
from pyrunc.engine.pool import Pool
from pyrunc.engine.prepared import checked_process
from pyrunc.engine.recipes import Recipes
from pyrunc.engine.runtimes import Runtimes
from pyrunc.engine.saving import save
from pyrunc.engine.shared_dev import SharedDev
from pyrunc.engine.streams import StandardStreams
from pyrunc.engine.watch import Watch
from pyrunc.errors import WrongStatus

if TYPE_CHECKING:
    from typing import TypeAlias

    from pyrunc.engine.log import Collected
    from pyrunc.engine.process import Running

    Request: TypeAlias = dict[str, Any]


class Server:
    """Serves one program until its end of ``control`` closes."""

    def __init__(self, control: socket.socket, directory: str, name: str, log: Collected) -> None:
        self._control = control
        self._directory = directory
        self._log = log
        self._settings = Settings(directory, log)
        self._networks = Networks()
        self._dev = SharedDev(directory)
        self._ids = EVERYBODY
        self._cgroup = cgroup_of(name)
        self._streams = StandardStreams()
        self._boxes: dict[str, Box] = {}
        self._pool = Pool(partial(self._make_box, for_one=True))
        self._leisure = Leisure(self._pool, log)
        self._count = 0
        self._enforcement = Enforcement(self._cgroup)
        self._recipes = Recipes(self._enforcement)
        self._watch = Watch()
        self._runtimes = Runtimes(self._streams, log, self._watch, Remembered())

    def serve(self, ids: Ids) -> None:
        """Do what is asked for until there is nobody to ask.

        :param ids: what ids there are for containers.
        """
        self._ids = ids
        self._settings.rootless = ids.is_confined
        self._runtimes.is_rootless = ids.is_confined or os.geteuid() != 0
        self._control.setblocking(False)
        self._watch.add(self._control.fileno(), self._take_requests)
        while self._watch:
            has_happened = self._watch.look(self._leisure.pause(self._pause()))
            self._leisure.spend(has_waited=not has_happened)
            self._judge()

    def _pause(self) -> float | None:
        """Return how long nothing has to be judged, in milliseconds."""
        times = [due for running in self._running() if (due := running.due()) is not None]
        # A millisecond more than too little: poll(2) counts in whole ones.
        return max(0.0, min(times) - time.monotonic()) * 1000 + 1 if times else None

    def _running(self) -> list[Running]:
        return [running for box in self._boxes.values() for running in box.processes]

    def _judge(self) -> None:
        now = time.monotonic()
        for running in self._running():
            if not running.why and (why := running.judge(now)):
                self._stop(running, why)

    def _take_requests(self) -> None:
        try:
            received = messages.receive(self._control)
        except BlockingIOError:
            return
        if received is None:
            # The keeper takes away all that we have made.
            os._exit(0)
        (name, request), descriptors = received
        line = messages.line_of(descriptors[0])
        line.setblocking(False)
        failure = None
        try:
            self._operations[name](self, request, line, descriptors[1:])
        except Exception as error:
            failure = failures.described(error)
        for descriptor in descriptors[1:]:
            os.close(descriptor)
        if failure:
            messages.tell(line, "error", {**failure, "warnings": self._log.take()})
            line.close()

    # Operations that begin a life.

    def _run(self, request: Request, line: socket.socket, streams: list[int]) -> None:
        """Run one process in a container of its own, which ends with it."""
        most = request.get("pool") or 0
        args = request["process"]["process"]["args"]
        box = self._pool.take(request["box"], most, args) if most else None
        is_ready = box is not None
        if box is None:
            box = self._make_box(request["box"], for_one=True)
        self._boxes[box.id] = box
        try:
            self._begin(box, request["process"], line, streams)
        except BaseException:
            self._close(box)
            raise
        if not is_ready:
            # While the program runs there is nothing else to do. One that was ready is for who
            # wants it at once: what has ended is taken away when the making of others has time.
            self._leisure.take_one_away()
            self._networks.look()

    def _open(self, request: Request, line: socket.socket, _: list[int]) -> None:
        """Make a container that lives until its line is closed."""
        box = self._make_box(request["box"])
        self._boxes[box.id] = box
        try:
            if not request.get("saved"):
                # Else its making is what its first process's start is.
                box.ensure()
        except BaseException:
            self._close(box)
            raise
        box.line = line
        self._watch.add(line.fileno(), lambda: self._close(box))
        told: dict[str, Any] = {
            "id": box.id,
            "not_enforced": box.not_enforced,
            "warnings": self._log.take(),
            "user": self._ids.default_user,
            # Whether files are for us to handle: nobody else has their ids.
            "files": bool(self._ids.key),
        }
        messages.tell(line, "opened", told)

    def _start(self, request: Request, line: socket.socket, streams: list[int]) -> None:
        """Execute a process in a container that is there."""
        running = self._begin(self._box(request), request["process"], line, streams)
        passed = [running.pidfd]
        if running.terminal >= 0:
            passed.append(running.terminal)
        messages.tell(line, "started", {"pid": running.pid}, passed)
        if running.terminal >= 0:
            os.close(running.terminal)

    def _begin(
        self, box: Box, request: Request, line: socket.socket, streams: list[int]
    ) -> Running:
        if options := request.get("saved"):
            with self._streams.being(streams):
                running = box.restore(options, line, request)
        else:
            self._ids.see_to_user(request["process"])
            process = checked_process(request["process"])
            self._see_to_first(box)
            if not request.get("first"):
                # Before the streams are lent: its init must not have them.
                box.ensure(process["args"])
            start = box.start_first if request.get("first") else box.start
            with self._streams.being(streams):
                running = start(process, line, request)
        self._watch.add(running.sign, lambda: self._collect(running))
        self._watch.add(line.fileno(), lambda: self._hear(running))
        return running

    def _see_to_first(self, box: Box) -> None:
        """Take a container away whose first process is ending: nothing lives there any more."""
        if box.first:
            # It may have been sent a signal before we were asked for what we are at.
            self._hear(box.first)
        if box.first and box.first.is_near_end():
            self._end_all(box)

    def _make_box(self, wanted: bytes, *, for_one: bool = False) -> Box:
        spec, layer_wanted, not_enforced = self._recipes.find(wanted, self._ids)
        layer = None
        if not self._count and not self._ids.is_confined:
            self._settings.kept = roots.kept_for_all(self._directory)
        self._count += 1
        box_id = str(self._count)
        if not spec["root"]["path"]:
            path, mounts = roots.host_root(self._directory)
            spec["root"]["path"] = path
            spec["mounts"] = [*mounts, *(spec.get("mounts") or ())]
        if for_one:
            self._dev.give(spec)
        if layer_wanted:
            directory = f"{self._directory}/@layers/{box_id}"
            layer = roots.Layer(directory, spec["root"]["path"], **layer_wanted)
            spec["root"]["path"] = layer.root
        remembered = self._enforcement.remembered(spec, for_one=for_one)
        kept = (self._settings, remembered, self._networks)
        box = Box(*kept, box_id, spec, layer, self._cgroup, for_one=for_one)
        box.not_enforced = not_enforced
        return box

    # What happens to a process.

    def _hear(self, running: Running) -> None:
        """Take what the program says about a process."""
        try:
            received = messages.receive(running.line)
        except BlockingIOError:
            return
        if received is None:
            self._watch.forget(running.line.fileno())
            if running.alone:
                self._stop(running, "stopped")
            # Else nobody wants to know of it any more; it ends with its container.
            return
        what, value = received[0]
        if what == "signal":
            running.kill(value)
        elif what == "stop":
            self._stop(running, value)

    def _collect(self, running: Running) -> None:
        """A process has ended."""
        if not running.has_ended():
            return
        if running.alone or running.is_first:
            self._end_all(running.box)
            return
        self._watch.forget(running.sign)
        running.reap()
        self._part(running)

    def _stop(self, running: Running, why: str) -> None:
        """End a process, with everything that runs in its container."""
        running.why = why
        self._end_all(running.box)

    def _end_all(self, box: Box) -> None:
        """End the container and tell of each of its processes how it ended."""
        processes = list(box.processes)
        for running in processes:
            self._watch.forget(running.sign)
            if not running.why and not running.is_near_end():
                running.why = "stopped"
        box.kill()
        reports = [running.report() for running in processes]
        for running in processes:
            self._watch.forget(running.line.fileno())
        box.processes.clear()
        # The processes are gone; nobody waits for the rest, which takes as long again.
        for running, report in zip(processes, reports, strict=True):
            self._tell_end(running, report)
        if box.line is None:
            if self._boxes.pop(box.id, None):
                self._leisure.put_off(box)
        else:
            box.end()

    def _part(self, running: Running) -> None:
        self._watch.forget(running.line.fileno())
        running.box.processes.remove(running)
        self._tell_end(running, running.report())

    def _tell_end(self, running: Running, report: dict[str, Any]) -> None:
        told = {"not_enforced": running.box.not_enforced, "warnings": self._log.take()}
        messages.tell(running.line, "ended", {**report, **told})
        running.line.close()

    # Operations on a container.

    def _call(self, request: Request, line: socket.socket, _: list[int]) -> None:
        """Do something with a container and answer at once."""
        box = self._box(request)
        descriptors: tuple[int, ...] = ()
        value: Any = None
        match request["what"]:
            case "pause":
                box.pause()
            case "resume":
                box.resume()
            case "update":
                self._update(box, request)
            case "stats":
                box.ensure()
                value = statistics(self._settings, box.id)
            case "pids":
                value = box.pids()
            case "root":
                descriptors = (box.open_root(),)
            case "changes":
                value = changes(_layer(box))
            case "reset":
                self._end_all(box)
                _layer(box).reset()
                box.ensure()
            case "close":
                self._close(box)
        try:
            messages.tell(line, "done", value, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
            line.close()

    def _save(self, request: Request, line: socket.socket, _: list[int]) -> None:
        save(self._box(request), request, line, self._watch)

    def _files(self, request: Request, line: socket.socket, _: list[int]) -> None:
        from pyrunc.engine import filing

        filing.handle(self._box(request), request, line, self._watch)

    def _image(self, request: Request, line: socket.socket, _: list[int]) -> None:
        from pyrunc.engine import imaging

        imaging.unpack(request, self._ids, line, self._watch)

    def _update(self, box: Box, request: Request) -> None:
        self._enforcement.check(request["limits"])
        box.update(request["resources"])

    def _box(self, request: Request) -> Box:
        try:
            return self._boxes[request["id"]]
        except KeyError:
            raise failures.Closed("the sandbox is closed") from None

    def _close(self, box: Box) -> None:
        if self._boxes.get(box.id) is not box:
            return
        line, box.line = box.line, None
        if line is not None:
            self._watch.forget(line.fileno())
            line.close()
        if box.processes:
            self._end_all(box)
            # Whoever closes it wants it gone.
            self._leisure.take_away()
            return
        del self._boxes[box.id]
        box.close()

    # Containers that are not the engine's.

    def _checkpoint(self, request: Request, line: socket.socket, _: list[int]) -> None:
        self._runtimes.checkpoint(request, line)
        # The process that does it answers.
        line.close()

    def _manage(self, request: Request, line: socket.socket, _: list[int]) -> None:
        manage = {"start": self._runtimes.start, "delete": self._runtimes.delete}
        manage[request["what"]](request, line)
        line.close()

    _operations = {  # noqa: RUF012
        "run": _run,
        "open": _open,
        "start": _start,
        "call": _call,
        "image": _image,
        "save": _save,
        "files": _files,
        "create": lambda self, *told: self._runtimes.create(*told),
        "execute": lambda self, *told: self._runtimes.execute(*told),
        "checkpoint": _checkpoint,
        "restore": lambda self, *told: self._runtimes.restore(*told),
        "manage": _manage,
    }


def _layer(box: Box) -> roots.Layer:
    if box.layer is None:
        raise WrongStatus("the sandbox has no layer of its own: it was made with writable=False")
    return box.layer
