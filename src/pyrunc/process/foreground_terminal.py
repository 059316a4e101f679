"""A container's terminal, shown on the caller's: bytes both ways, size, raw mode.

Input is read only when the terminal has taken what was typed before, output
only when the caller has taken what was printed before; so nothing is lost and
nothing piles up, and neither direction holds up the other.
"""

from __future__ import annotations

import posix
from errno import EAGAIN, EIO

from pyrunc.linux import processes as p
from pyrunc.linux.files import S_IFCHR, S_IFIFO, S_IFMT
from pyrunc.process import tty

POLLOUT = 0x4
_CHUNK = 65536
#: As much as poll(2) promises room for in a pipe (pipe(7), PIPE_BUF).
_SAFE_CHUNK = 4096
#: How often to look, in seconds, for what nobody tells us: whether a terminal that everybody
#: closed was opened again, whether a shell has put us into the foreground.
_LOOK_AGAIN = 0.5
#: Of a terminal that a left-over process still prints to, read no more after the end than this.
_MOST_AFTER_END = 1 << 20
#: /dev/ptmx: opening it again would make another terminal.
_PTMX = posix.makedev(5, 2)


class ShownTerminal:
    """The master side ``master`` on the caller's stdin and stdout."""

    def __init__(self, master: int) -> None:
        self._master = master
        posix.set_blocking(master, False)
        self._before = tty.attributes_of(0)
        self._is_raw = False
        self._input_open = True
        self._typed = b""
        self._ended_line = True
        self._printed = b""
        self._output, self._chunk = _output()
        #: No process has the other side open.
        self._hung_up = False
        self._after_end = 0
        tty.copy_window_size(master)
        if self._before is None or not posix.isatty(1):
            # Lines for a pipe or a file end as the program ends them; a terminal that stays as
            # it is adds its own carriage returns.
            tty.print_newlines_as_they_are(master)
        self.take_over()

    def take_over(self) -> None:
        """Put the caller's terminal into raw mode, unless it is another job's now."""
        if self._before is None or not tty.in_foreground(0):
            return
        try:
            tty.set_attributes(0, tty.raw(self._before))
        except OSError:
            return
        self._is_raw = True
        self.resize()

    def restore(self) -> None:
        """Give the caller's terminal its attributes back. A terminal that hung up needs none."""
        if self._output != 1 and self._output >= 0:
            posix.close(self._output)
            self._output = -1
        if self._is_raw and self._before is not None:
            self._is_raw = False
            try:
                tty.set_attributes(0, self._before)
            except OSError:
                pass

    def resize(self) -> None:
        """Take over the size of the caller's terminal."""
        tty.copy_window_size(self._master)

    def watch(self, watched: dict[int, int]) -> float | None:
        """Add what to wait for; return after how many seconds to look again anyway."""
        timeout = None
        if self._in_background:
            timeout = _LOOK_AGAIN
        elif self._input_open and not self._typed:
            watched[0] = p.POLLIN
        self.watch_output(watched)
        if self._hung_up:
            return _LOOK_AGAIN
        events = 0 if self._printed else p.POLLIN
        if self._typed:
            events |= POLLOUT
        if events:
            watched[self._master] = events
        return timeout

    @property
    def _in_background(self) -> bool:
        """Whether the caller's terminal is another job's: it is not ours to read or change."""
        return self._before is not None and not self._is_raw

    def watch_output(self, watched: dict[int, int]) -> None:
        """Add the caller's stdout, when there is something for it."""
        if self._printed:
            watched[self._output] = POLLOUT

    def move(self, ready: dict[int, int]) -> None:
        """Move what can be moved."""
        if self._in_background:
            self.take_over()
        if ready.get(0) and self._input_open and not self._typed:
            self._read_typed()
        if self._typed and not self._hung_up:
            self._write_typed()
        if self._master in ready or self._hung_up:
            self._read_printed()
        self.write_output(ready)

    def read_rest(self) -> bool:
        """After the process ended, read on; tell whether there is something left to write."""
        if not self._printed and self._after_end < _MOST_AFTER_END:
            self._read_printed()
            if not self._hung_up:
                self._after_end += len(self._printed)
        return bool(self._printed)

    def write_output(self, ready: dict[int, int]) -> None:
        """Write what was printed, when the caller's stdout takes it."""
        if not self._printed or self._output not in ready:
            return
        try:
            written = posix.write(self._output, self._printed[: self._chunk])
        except OSError as error:
            if error.errno == EAGAIN:
                return
            # Nobody reads any more. The container is not to block on that.
            written = len(self._printed)
        self._printed = self._printed[written:]

    def _read_printed(self) -> None:
        if self._printed:
            return
        try:
            self._printed = posix.read(self._master, _CHUNK)
        except OSError as error:
            if error.errno == EAGAIN:
                self._hung_up = False
                return
            # EIO: no process has the other side open any more.
            if error.errno != EIO:
                raise
            self._hung_up = True
        else:
            self._hung_up = False

    def _read_typed(self) -> None:
        try:
            self._typed = posix.read(0, _SAFE_CHUNK)
        except OSError as error:
            if error.errno == EIO and self._is_raw and not tty.in_foreground(0):
                self._is_raw = False
            elif error.errno != EAGAIN:
                # It hung up.
                self._input_open = False
            return
        if self._typed:
            self._ended_line = self._typed.endswith(b"\n")
            return
        self._input_open = False
        # Say that it ended the way a user would: the key counts as the end of the
        # input at the start of a line only, and elsewhere as the end of the line.
        key = tty.end_of_file(tty.attributes_of(self._master) or b"\0" * 36)
        self._typed = key if self._ended_line else key * 2

    def _write_typed(self) -> None:
        try:
            self._typed = self._typed[posix.write(self._master, self._typed) :]
        except OSError as error:
            if error.errno != EAGAIN:
                self._typed = b""


def _output() -> tuple[int, int]:
    """Return a descriptor to write output to, and how much at a time.

    A pipe or terminal is opened once more, so that writing to it never blocks:
    setting O_NONBLOCK on stdout itself would set it for whoever shares it.
    """
    try:
        status = posix.fstat(1)
        kind = status.st_mode & S_IFMT
        if kind == S_IFIFO or (kind == S_IFCHR and posix.isatty(1) and status.st_rdev != _PTMX):
            flags = posix.O_WRONLY | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC
            return posix.open("/proc/self/fd/1", flags), _CHUNK
    except OSError:
        pass
    return 1, _SAFE_CHUNK
