"""CRIU as a process of ours: ``criu swrk``, which takes requests from a socket (criu(8), "swrk").

It tells of the moments of its work in notifications, and waits for the answer to each. It is not
killed along with us: mid-way through a dump that would leave the container full of CRIU's code.
When we die it finds its socket closed at the next notification, and undoes what it has done.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import posix

from pyrunc.checkpoint import messages
from pyrunc.checkpoint.log import first_error, is_saved
from pyrunc.errors import Error, reason
from pyrunc.linux import process_stat, sockets
from pyrunc.linux import processes as p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from pyrunc.checkpoint.messages import Message

    #: What is done at a moment of CRIU's work: its name, the pid of init as the host has it or 0,
    #: and a descriptor that comes with it or -1, which is closed afterwards.
    Notify = Callable[[str, int, int], None]

#: Where a host's administrator's programs are, when the caller has no $PATH.
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: What CRIU has since which version is told in its own words; before this one, nothing fits.
_OLDEST = (3, 12, 0)
_LARGEST_MESSAGE = 1 << 16
_LOG_LEVEL = 4
#: How long CRIU may take to say why it has killed what it was restoring (seconds).
_LONGEST_SILENCE = 2.0
#: How often to say that it is still at work (seconds).
_TICK = 0.5


def find() -> str:
    """Return the path of CRIU.

    :raises Error: when there is none in $PATH.
    """
    path = posix.environ.get(b"PATH", b"").decode("utf-8", "surrogateescape") or _DEFAULT_PATH
    for directory in path.split(":"):
        candidate = f"{directory}/criu"
        # A relative entry would depend on where we are called.
        if directory[:1] == "/" and posix.access(candidate, posix.X_OK):
            return candidate
    raise Error(
        f"criu is not in $PATH ({path}): checkpoint and restore need CRIU "
        f"{'.'.join(map(str, _OLDEST[:2]))} or later, see https://criu.org"
    )


class _InitDied(Error):
    """What is being restored is dead."""


class Criu:
    """One CRIU at work. Close it when done.

    :param program: its path; the first one in $PATH when empty.
    :param passed: descriptors that it is to have under the numbers that they have here.
    :param entered: descriptors of namespaces that it is to work in.
    :param namespaces: ``CLONE_NEW*`` for it, and what to do there before it is executed.
    """

    def __init__(
        self,
        program: str = "",
        passed: Iterable[int] = (),
        *,
        entered: Iterable[int] = (),
        namespaces: int = 0,
        before: Callable[[], None] | None = None,
    ) -> None:
        self._path = program or find()
        #: Pid and pidfd of the process that must not die.
        self._watched = (0, -1)
        self._is_working = False
        self._tick: Callable[[], None] | None = None
        self._socket, theirs = sockets.socket_pair(sockets.SOCK_SEQPACKET)
        report, their_report = posix.pipe2(posix.O_CLOEXEC)
        try:
            self.pid, pidfd = p.clone(namespaces)
            if self.pid == 0:
                self._become(theirs, (theirs, *passed), entered, before, their_report)
        except BaseException:
            posix.close(self._socket)
            posix.close(report)
            raise
        finally:
            posix.close(theirs)
            posix.close(their_report)
        posix.close(pidfd)
        why = posix.read(report, 4096).decode("utf-8", "replace")
        posix.close(report)
        if why:
            self.close()
            raise Error(why)
        try:
            self.version = self._ask_version()
        except BaseException:
            self.close()
            raise

    def _become(
        self,
        socket: int,
        passed: Iterable[int],
        entered: Iterable[int],
        before: Callable[[], None] | None,
        report: int,
    ) -> None:
        doing = "execute"
        try:
            for namespace in entered:
                doing = "enter the container's namespaces for"
                p.setns(namespace, 0)
            if before is not None:
                doing = "prepare the mounts for"
                before()
            doing = "execute"
            for descriptor in passed:
                posix.set_inheritable(descriptor, True)
            for signal in (_signal.SIGHUP, _signal.SIGINT, _signal.SIGTERM, _signal.SIGPIPE):
                _signal.signal(signal, _signal.SIG_DFL)
            _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
            environment = {b"PATH": _DEFAULT_PATH.encode(), **posix.environ}
            posix.execve(self._path, ["criu", "swrk", str(socket)], environment)
        except BaseException as error:
            posix.write(report, f"cannot {doing} {self._path}: {reason(error)}".encode())
        finally:
            posix._exit(127)

    def close(self) -> None:
        """Let go of it; it ends by itself."""
        if not self._is_working:
            # Idle, it would take its end for an error, and say so.
            posix.kill(self.pid, p.SIGKILL)
        posix.close(self._socket)
        p.wait(self.pid)

    def watch(self, pid: int, pidfd: int) -> None:
        """Give up once that process, the init that is saved or restored, is dead or about to be.

        CRIU would wait for ever: for one that it restores, as that is our child, and for one that
        it saves where it traces others of the namespace, whom init waits for in turn.
        """
        self._watched = pid, pidfd

    def features(self, *wanted: str) -> set[str]:
        """Return those of the kernel's features (``mem_track``, ``lazy_pages``) that there are."""
        request = {"type": messages.FEATURE_CHECK, "keep_open": True}
        self._send({**request, "features": dict.fromkeys(wanted, True)})
        answer = self._receive()[0]
        return {name for name, there in (answer.get("features") or {}).items() if there}

    def _ask_version(self) -> tuple[int, int, int]:
        self._send({"type": messages.VERSION, "keep_open": True})
        told = self._receive()[0].get("version") or {}
        numbers = ("major_number", "minor_number", "sublevel")
        major, minor, sublevel = (int(told.get(name, 0)) for name in numbers)
        if (major, minor, sublevel) < _OLDEST:
            wanted = ".".join(map(str, _OLDEST[:2]))
            raise Error(
                f"{self._path} is CRIU {major}.{minor}, which is too old: {wanted} is needed"
            )
        return major, minor, sublevel

    def carry_out(
        self,
        kind: int,
        options: Mapping[str, Any],
        notify: Notify,
        *,
        work: int,
        log: str,
        log_path: str,
        tick: Callable[[], None] | None = None,
    ) -> Message:
        """Have a request carried out and return CRIU's answer.

        :param work: the directory of its log and other files.
        :param log: the name of the log in there.
        :param log_path: what to call the log in errors.
        :param tick: called now and then, for as long as it takes.
        :raises Error: with what CRIU stumbled over first; or what ``notify`` raised, which made
            CRIU undo what it had done.
        """
        told = {"log_level": _LOG_LEVEL, "log_file": log, "notify_scripts": True, **options}
        self._is_working = True
        self._tick = tick
        self._send({"type": kind, "opts": {**told, "work_dir_fd": work}})
        failure: Exception | None = None
        while True:
            try:
                answer, descriptor = self._receive()
            except _InitDied as error:
                if failure is not None:
                    raise failure from None
                if is_saved(work, log):
                    # That was the end of it, and there is much to take down.
                    return {}
                if why := first_error(work, log):
                    raise Error(f"CRIU: {why} (its log: {log_path})") from None
                raise error from None
            if answer.get("type") != messages.NOTIFY:
                break
            event = answer.get("notify") or {}
            try:
                if failure is None:
                    notify(event.get("script", ""), event.get("pid", 0), descriptor)
            except (Error, OSError) as error:
                failure = error
            finally:
                if descriptor >= 0:
                    posix.close(descriptor)
            self._send({"type": messages.NOTIFY, "notify_success": failure is None})
        if failure is not None:
            raise failure
        if not answer.get("success"):
            why = first_error(work, log) or answer.get("cr_errmsg") or "it does not say why"
            number = answer.get("cr_errno") or 0
            if number and why == "it does not say why":
                why = posix.strerror(number).lower()
            raise Error(f"CRIU: {why} (its log: {log_path})")
        return answer

    def _send(self, request: Mapping[str, Any]) -> None:
        try:
            posix.write(self._socket, messages.encode(messages.REQUEST, request))
        except BrokenPipeError:
            raise self._died() from None
        except OSError as error:
            raise Error(f"cannot talk to {self._path}: {reason(error)}") from None

    def _receive(self) -> tuple[Message, int]:
        try:
            self._wait_for_message()
            text, descriptor = sockets.receive(self._socket, _LARGEST_MESSAGE)
            if not text:
                raise self._died()
            return messages.decode(messages.RESPONSE, text), descriptor
        except ConnectionResetError:
            raise self._died() from None
        except (OSError, ValueError) as error:
            raise Error(f"cannot understand {self._path}: {reason(error)}") from None

    def _wait_for_message(self) -> None:
        """:raises _InitDied: when the watched process dies and CRIU does not notice."""
        pid, pidfd = self._watched
        while True:
            longest = _LONGEST_SILENCE if pid else None
            ready = p.poll((self._socket, pidfd), _TICK if self._tick else longest)
            if self._socket in ready:
                return
            if ready or (pid and process_stat.is_ending(pid)):
                break
            if self._tick:
                self._tick()
        # It may have been CRIU that killed it, after a failure that it is about to tell of.
        if not p.poll((self._socket,), _LONGEST_SILENCE):
            posix.kill(self.pid, p.SIGKILL)
            raise _InitDied("the container's init was killed meanwhile")

    def _died(self) -> Error:
        return Error(f"{self._path} died, or does not know the command `swrk`")
