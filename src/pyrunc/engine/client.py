"""The program's side: starting engines, and finding the one that is to do something.

An engine is executed, never forked: it has nothing of the program but the descriptors that it is
given. The program keeps no child, no signal handler and no thread for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from pyrunc.engine import messages
from pyrunc.errors import Error, reason

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

#: What the interpreter of an engine is told: no site, no variables of the environment, and the
#: directory of this package after the standard library.
_BOOT = (
    "import sys; sys.path.append(sys.argv[1]); from pyrunc.engine.{} import main; "
    "main(*map(int, sys.argv[2:]))"
)
_PACKAGE_DIRECTORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Engine:
    """One engine, seen from the program that it works for.

    :param module: what it is: ``main``, ``outside`` for one that has no namespaces of its own, or
        ``commands`` for one that calls other runtimes only.
    """

    def __init__(self, module: str = "main") -> None:
        self.module = module
        #: How much it has in hand: calls that are not answered, containers that live.
        self.load = 0
        self.is_lost = False
        self._lock = threading.Lock()
        self._words = ""
        self._control, theirs = messages.pair()
        self._control.setblocking(False)
        try:
            # The keeper tells by this that the program has ended, whoever else has the socket.
            pidfd = os.pidfd_open(os.getpid())
            try:
                self._starter = _execute(module, theirs.fileno(), pidfd)
            finally:
                os.close(pidfd)
        finally:
            theirs.close()

    def request(self, name: str, request: dict[str, Any], passed: Sequence[int]) -> bool:
        """Send a request; ``passed`` begins with the socket for the answer.

        :return: False when it takes no more for now: wait for :meth:`fileno` to be writable.
        :raises BrokenPipeError: when the engine is gone; nothing was done then.
        """
        try:
            messages.send(self._control, (name, request), passed)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError):
            self.is_lost = True
            raise
        # It has long ended: collected here, so that no waiting is ever done for it.
        self._starter.poll()
        return True

    def last_words(self) -> str:
        """Return what a lost engine said of an error of its own; nothing when it was killed."""
        with self._lock:
            if not self._words:
                try:
                    received = messages.receive(self._control)
                except OSError:
                    received = None
                self._words = str(received[0]).strip() if received else ""
            if not self._words and self._starter.poll():
                self._words = f"it did not start (exit status {self._starter.returncode})"
            return self._words

    def fileno(self) -> int:
        """The descriptor of the control socket."""
        return self._control.fileno()

    def close(self) -> None:
        """End the engine, and with it all of its containers."""
        self.is_lost = True
        self._control.close()
        self._starter.poll()


def _execute(module: str, control: int, program: int) -> subprocess.Popen[bytes]:
    interpreter = sys.executable or getattr(sys, "_base_executable", "")
    if not interpreter:
        raise Error("cannot start the engine: this Python does not know its own executable")
    words = [interpreter, "-I", "-S", "-X", "utf8", "-c", _BOOT.format(module), _PACKAGE_DIRECTORY]
    kept = {"XDG_RUNTIME_DIR": os.environ.get("XDG_RUNTIME_DIR", "")}
    try:
        return subprocess.Popen(
            [*words, str(control), str(program), str(os.getpid())],
            env=kept,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(control, program),
            start_new_session=True,
        )
    except OSError as error:
        raise Error(f"cannot start the engine with {interpreter}: {reason(error)}") from None


class Engines:
    """The engines of this program: of each kind at most one a processor, started when needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engines: list[Engine] = []
        self._commander: Engine | None = None
        self._most = len(os.sched_getaffinity(0))

    def take(self, module: str = "main") -> Engine:
        """Return the engine with the least to do, a new one if all are busy, and count it busy."""
        with self._lock:
            self._engines = [engine for engine in self._engines if not engine.is_lost]
            alike = [engine for engine in self._engines if engine.module == module]
            engine = min(alike, key=lambda engine: engine.load, default=None)
            if engine is None or (engine.load and len(alike) < self._most):
                engine = Engine(module)
                self._engines.append(engine)
            engine.load += 1
            return engine

    def give_back(self, engine: Engine) -> None:
        """Say that what :meth:`take` was for is done."""
        with self._lock:
            engine.load -= 1

    def commander(self) -> Engine:
        """Return the one that calls the commands of other runtimes."""
        with self._lock:
            if self._commander is None or self._commander.is_lost:
                self._commander = Engine("commands")
            return self._commander

    def all(self) -> list[Engine]:
        """Return those that there are."""
        return [*self._engines, *([self._commander] if self._commander else ())]

    def close(self) -> None:
        """End all engines; the next :meth:`take` starts one anew."""
        with self._lock:
            engines = self.all()
            self._engines, self._commander = [], None
        for engine in engines:
            engine.close()


_engines = Engines()


def engines() -> Engines:
    """Return this program's engines."""
    return _engines


def _begin_anew() -> None:
    """In a fork of the program: its engines are not ours."""
    global _engines
    before, _engines = _engines, Engines()
    # Not through close(): the parent's lock may have been held at the fork.
    for engine in before.all():
        engine._control.close()


os.register_at_fork(after_in_child=_begin_anew)


def line() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a line: ours, which does not block, and the engine's."""
    ours, theirs = messages.pair()
    ours.setblocking(False)
    return ours, theirs
