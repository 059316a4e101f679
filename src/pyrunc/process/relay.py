"""Standing in front of a container: signals, terminal and exit status of a foreground process.

All signals are blocked and read from a signalfd(2), so that nothing is lost and
nothing runs at an odd moment; one loop waits for them, for the terminal and
for the process itself.
"""

from __future__ import annotations

import posix
from _struct import pack, unpack_from
from errno import EAGAIN, EIO

from pyrunc.linux import processes as p
from pyrunc.linux.files import write_all
from pyrunc.linux.libc import Buffer, syscall
from pyrunc.linux.numbers import SYS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SIG_BLOCK = 0
_SIG_SETMASK = 2
_ALL = (1 << 64) - 1
_SFD_FLAGS = posix.O_CLOEXEC | posix.O_NONBLOCK
_SIGNALFD_RECORD = 128
_TIOCGWINSZ = 0x5413
_TIOCSWINSZ = 0x5414
SIGWINCH = 28
SIGTSTP, SIGTTIN, SIGTTOU, SIGURG = 20, 21, 22, 23
#: Signals that are about this process, not about the container.
_OWN = frozenset((p.SIGCHLD, p.SIGPIPE, SIGURG))
_CHUNK = 65536


class Relay:
    """Forwards what comes in until the process is gone.

    Use it as a context manager: signals are blocked from the beginning, and
    mask and terminal are given back in every case.
    """

    def __init__(self) -> None:
        mask = pack("=Q", _ALL)
        before = Buffer()
        syscall(SYS["rt_sigprocmask"], _SIG_BLOCK, mask, before, 8)
        self._mask = before.raw[:8]
        self._signals = syscall(SYS["signalfd4"], -1, mask, 8, _SFD_FLAGS)
        self._terminal: tuple[int, list[Any]] | None = None
        self._reaped: dict[int, int] = {}

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self._restore_terminal()
        posix.close(self._signals)
        syscall(SYS["rt_sigprocmask"], _SIG_SETMASK, self._mask, None, 8)

    def wait(self, pid: int, pidfd: int, master: int = -1) -> int:
        """Forward until the child ``pid`` ends, and return its exit status (128 + signal).

        :param master: the container's terminal, or -1.
        """
        watched = [pidfd, self._signals]
        if master >= 0:
            self._use_terminal(master)
            watched += [master, 0]
        while pid not in self._reaped:
            ready = p.poll(tuple(watched))
            if self._signals in ready:
                self._forward_signals(pidfd, master)
            if master in ready and not self._copy_output(master):
                watched.remove(master)
            if 0 in ready and 0 in watched and not self._copy_input(master):
                watched.remove(0)
            if pidfd in ready:
                self._reap()
                if pid not in self._reaped:
                    self._reaped[pid] = posix.waitpid(pid, 0)[1]
        if master >= 0 and master in watched:
            self._drain(master)
        return p.exit_status(self._reaped[pid])

    def _forward_signals(self, pidfd: int, master: int) -> None:
        while True:
            try:
                record = posix.read(self._signals, _SIGNALFD_RECORD)
            except BlockingIOError:
                return
            signal: int = unpack_from("=I", record)[0]
            if signal == p.SIGCHLD:
                self._reap()
            elif signal == SIGWINCH and master >= 0:
                copy_window_size(master)
            elif signal not in _OWN:
                p.pidfd_send_signal(pidfd, signal)

    def _reap(self) -> None:
        """Collect every child that has ended: as a subreaper we inherit the container's orphans."""
        while True:
            try:
                pid, status = posix.waitpid(-1, posix.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._reaped[pid] = status

    def _use_terminal(self, master: int) -> None:
        """Put the caller's terminal, if there is one, into raw mode and take over its size."""
        posix.set_blocking(master, False)
        copy_window_size(master)
        if not posix.isatty(0):
            return
        import termios

        before = termios.tcgetattr(0)
        raw = termios.tcgetattr(0)
        # cfmakeraw(3).
        raw[0] &= ~(
            termios.IGNBRK
            | termios.BRKINT
            | termios.PARMRK
            | termios.ISTRIP
            | termios.INLCR
            | termios.IGNCR
            | termios.ICRNL
            | termios.IXON
        )
        raw[1] &= ~termios.OPOST
        raw[2] = raw[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
        termios.tcsetattr(0, termios.TCSANOW, raw)
        self._terminal = (0, before)

    def _restore_terminal(self) -> None:
        if self._terminal is None:
            return
        import termios

        descriptor, before = self._terminal
        self._terminal = None
        try:
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        except termios.error:
            # The terminal hung up; there is nothing left to restore.
            pass

    def _copy_output(self, master: int) -> bool:
        """Copy what the container printed; False once its side of the terminal is closed."""
        try:
            output = posix.read(master, _CHUNK)
        except OSError as error:
            if error.errno == EAGAIN:
                return True
            # EIO: no process has the slave open any more.
            if error.errno != EIO:
                raise
            return False
        try:
            write_all(1, output)
        except OSError:
            # Nobody reads any more. The container is not to block on that: swallow it.
            pass
        return bool(output)

    def _copy_input(self, master: int) -> bool:
        """Copy what was typed; at the end of a file or pipe send the terminal's end-of-file."""
        try:
            typed = posix.read(0, 4096)
        except OSError:
            return False
        posix.set_blocking(master, True)
        try:
            write_all(master, typed or b"\x04")
        except OSError:
            return False
        finally:
            posix.set_blocking(master, False)
        return bool(typed)

    def _drain(self, master: int) -> None:
        """Copy what is still in the terminal after the process ended.

        Others may hold the slave open, so it is read only as long as there is something.
        """
        while p.poll((master,), 0) and self._copy_output(master):
            pass


def copy_window_size(master: int) -> None:
    """Give ``master`` the size of the caller's terminal, if the caller has one."""
    size = Buffer()
    for descriptor in (0, 1, 2):
        try:
            syscall(SYS["ioctl"], descriptor, _TIOCGWINSZ, size)
        except OSError:
            continue
        syscall(SYS["ioctl"], master, _TIOCSWINSZ, size)
        return
