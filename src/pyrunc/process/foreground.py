"""Standing in front of a container: signals, terminal and exit status of a foreground process.

All signals are blocked and read from a signalfd(2), so that nothing is lost and
nothing runs at an odd moment; one loop waits for them, for the terminal and
for the process itself. Nothing in the loop blocks: a reader of ours that is
slow holds up the container's output, and only that.
"""

from __future__ import annotations

import posix
from _struct import pack, unpack_from

from pyrunc.linux import process_stat
from pyrunc.linux import processes as p
from pyrunc.linux.libc import syscall
from pyrunc.linux.numbers import SYS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.process.foreground_terminal import ShownTerminal
    from pyrunc.process.notify import Proxy

#: All but 32 and 33, which libc keeps for itself: Python warns of a mask that has them (nptl(7)).
_ALL = ((1 << 64) - 1) & ~(1 << 31 | 1 << 32)
_SFD_FLAGS = posix.O_CLOEXEC | posix.O_NONBLOCK
_SIGNALFD_RECORD = 128
SIGCONT, SIGURG, SIGWINCH = 18, 23, 28
#: Signals that are about this process, not about the container.
_OWN = frozenset((p.SIGCHLD, p.SIGPIPE, SIGURG, SIGWINCH))
#: Signals that end a wait for something other than the container's process.
_ENDING = frozenset((p.SIGHUP, p.SIGINT, p.SIGQUIT, p.SIGTERM))


class Relay:
    """Forwards what comes in until the process is gone.

    Use it as a context manager: signals are blocked from the beginning, and
    mask and terminal are given back in every case.

    :param adopt: also collect children that are not ours by birth: the orphans
        that a subreaper inherits.
    """

    def __init__(self, *, adopt: bool = False) -> None:
        mask = pack("=Q", _ALL)
        before = bytearray(8)
        syscall(SYS["rt_sigprocmask"], p.SIG_BLOCK, mask, before, 8)
        self._mask = bytes(before)
        self.signals = syscall(SYS["signalfd4"], -1, mask, 8, _SFD_FLAGS)
        self._adopt = adopt
        self._shown: ShownTerminal | None = None
        self._notify: Proxy | None = None
        self._status: int | None = None
        #: What came before there was a process to forward it to.
        self._early: list[int] = []
        #: The signal that wanted this process to end, or 0.
        self.ended_by = 0

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown is not None:
            self._shown.restore()
        # What is still pending was meant for a process that is gone.
        while self._next_signal():
            pass
        posix.close(self.signals)
        syscall(SYS["rt_sigprocmask"], p.SIG_SETMASK, self._mask, 0, 8)

    def show(self, master: int) -> None:
        """Show the container's terminal ``master`` on the caller's.

        To be called before the program starts: it may look at the size at once.
        """
        # Not needed, and so not loaded, for a process without a terminal.
        from pyrunc.process.foreground_terminal import ShownTerminal

        self._shown = ShownTerminal(master)

    def wait(self, pid: int, pidfd: int, notify: Proxy | None = None) -> int:
        """Forward until the child ``pid`` ends, and return its exit status (128 + signal).

        :param pidfd: -1 where there are none.
        :param notify: the container's notify socket, if it has one.
        """
        self._notify = notify
        try:
            self._forward_signals(pid, pidfd)
            while self._status is None:
                self._wait_once(pid, pidfd)
            # What it said right before its end is still to be passed on.
            while notify is not None and p.poll((notify.socket,), 0):
                notify.pass_on()
            if self._shown is not None:
                self._finish_output(self._shown)
        finally:
            if self._shown is not None:
                self._shown.restore()
        return p.exit_status(self._status)

    def interrupted(self) -> int:
        """Return the number of a signal that wants this process to end, or 0.

        All others are kept for :meth:`wait`.
        """
        while signal := self._next_signal():
            if signal in _ENDING:
                self.ended_by = signal
                return signal
            self._early.append(signal)
        return 0

    def put_back(self, signal: int) -> None:
        """Keep a signal that :meth:`interrupted` told of for :meth:`wait`: it is the process's."""
        self._early.append(signal)
        self.ended_by = 0

    def _wait_once(self, pid: int, pidfd: int) -> None:
        watched = {pidfd: p.POLLIN, self.signals: p.POLLIN}
        timeout = None
        if self._notify is not None:
            watched[self._notify.socket] = p.POLLIN
        shown = self._shown
        if shown is not None:
            timeout = shown.watch(watched)
        if pidfd < 0:
            timeout = p.LOOK_AGAIN
        ready = p.poll_for(watched, timeout)
        if self.signals in ready:
            self._forward_signals(pid, pidfd)
        if self._notify is not None and self._notify.socket in ready:
            self._notify.pass_on()
        if shown is not None:
            shown.move(ready)
        if pidfd in ready or (
            pidfd < 0 and not process_stat.is_running(pid, process_stat.start_time(pid))
        ):
            self._reap(pid)
            if self._status is None:
                # It is traced, and its tracer may never let go of what is left of it.
                self._status = _status_of_zombie(pid)

    def _finish_output(self, shown: ShownTerminal) -> None:
        """Show what the process printed before it ended, however slowly it is read.

        A signal to end now ends it: there is nobody to forward it to any more.
        """
        while shown.read_rest():
            watched = {self.signals: p.POLLIN}
            shown.watch_output(watched)
            ready = p.poll_for(watched)
            if self.signals in ready and self.interrupted():
                return
            shown.write_output(ready)

    def _next_signal(self) -> int:
        try:
            record = posix.read(self.signals, _SIGNALFD_RECORD)
        except BlockingIOError:
            return 0
        number: int = unpack_from("=I", record)[0]
        return number

    def _forward_signals(self, pid: int, pidfd: int) -> None:
        early, self._early = self._early, []
        while signal := early.pop(0) if early else self._next_signal():
            if signal == p.SIGCHLD:
                self._reap(pid)
            elif signal == SIGWINCH and self._shown is not None:
                self._shown.resize()
            elif signal not in _OWN:
                if signal == SIGCONT and self._shown is not None:
                    # A shell has put us into the foreground (again).
                    self._shown.take_over()
                if pidfd >= 0:
                    p.pidfd_send_signal(pidfd, signal)
                elif self._status is None:
                    # Not waited for yet, so the number is still its own.
                    posix.kill(pid, signal)

    def _reap(self, wanted: int) -> None:
        """Collect the child, and as a subreaper every other that has ended."""
        while True:
            try:
                pid, status = posix.waitpid(-1 if self._adopt else wanted, posix.WNOHANG)
            except ChildProcessError:
                if self._status is None:
                    # Somebody else in this program has collected it.
                    self._status = 255 << 8
                return
            if pid == 0:
                return
            if pid == wanted:
                self._status = status
                if not self._adopt:
                    return


def _status_of_zombie(pid: int) -> int:
    """Return the wait(2) status of a child that has ended, but that its tracer holds.

    It is field 52 of /proc/PID/stat; 255 as exit status where that cannot be told.
    """
    fields = process_stat.stat_fields(pid)
    return int(fields[49]) if len(fields) > 49 and fields[0] in (b"Z", b"X") else 255 << 8
