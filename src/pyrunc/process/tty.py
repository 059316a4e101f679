"""The caller's own terminal: raw while a container's terminal is shown on it, and as before after.

The requests of ioctl_tty(2) are made directly: importing ``termios`` is one more
file to load on the way of every interactive command.
"""

from __future__ import annotations

import posix
from _struct import Struct, pack, unpack_from

from pyrunc.linux.libc import syscall
from pyrunc.linux.numbers import SYS

_TCGETS = 0x5401
_TCSETS = 0x5402
_TIOCGWINSZ = 0x5413
_TIOCSWINSZ = 0x5414
#: struct termios of the kernel (asm-generic/termbits.h): four masks, the line discipline, c_cc.
_TERMIOS = Struct("=4IB19s")
_SIZE = _TERMIOS.size

# asm-generic/termbits.h.
_IGNBRK, _BRKINT, _PARMRK, _ISTRIP = 0x1, 0x2, 0x8, 0x20
_INLCR, _IGNCR, _ICRNL, _IXON = 0x40, 0x80, 0x100, 0x400
_OPOST, _ONLCR = 0x1, 0x4
_CSIZE, _CS8, _PARENB = 0x30, 0x30, 0x100
_ISIG, _ICANON, _ECHO, _ECHONL, _IEXTEN = 0x1, 0x2, 0x8, 0x40, 0x8000
_VEOF, _VTIME, _VMIN = 4, 5, 6


def attributes_of(descriptor: int) -> bytes | None:
    """Return the terminal's struct termios; None when it is no terminal."""
    answer = bytearray(_SIZE)
    try:
        syscall(SYS["ioctl"], descriptor, _TCGETS, answer)
    except OSError:
        return None
    return bytes(answer)


def set_attributes(descriptor: int, attributes: bytes) -> None:
    """Give the terminal these attributes, at once: waiting for its output could take for ever."""
    syscall(SYS["ioctl"], descriptor, _TCSETS, attributes)


def raw(attributes: bytes) -> bytes:
    """Return ``attributes`` with everything off that changes a byte on its way (cfmakeraw(3))."""
    input_, output, control, local, line, characters = _TERMIOS.unpack(attributes)
    input_ &= ~(_IGNBRK | _BRKINT | _PARMRK | _ISTRIP | _INLCR | _IGNCR | _ICRNL | _IXON)
    local &= ~(_ECHO | _ECHONL | _ICANON | _ISIG | _IEXTEN)
    changed = bytearray(characters)
    changed[_VMIN], changed[_VTIME] = 1, 0
    return _TERMIOS.pack(
        input_,
        output & ~_OPOST,
        control & ~(_CSIZE | _PARENB) | _CS8,
        local,
        line,
        bytes(changed),
    )


def print_newlines_as_they_are(terminal: int) -> None:
    """Let what is printed keep its line feeds, without a carriage return before each (ONLCR)."""
    attributes = attributes_of(terminal)
    if attributes is None:
        return
    input_, output, *rest = _TERMIOS.unpack(attributes)
    set_attributes(terminal, _TERMIOS.pack(input_, output & ~_ONLCR, *rest))


def end_of_file(attributes: bytes) -> bytes:
    """Return what a user types to end the input, or nothing where that has no meaning."""
    _, _, _, local, _, characters = _TERMIOS.unpack(attributes)
    return bytes(characters[_VEOF : _VEOF + 1]) if local & _ICANON else b""


def in_foreground(descriptor: int) -> bool:
    """Tell whether this process may read and change the terminal now."""
    try:
        return posix.tcgetpgrp(descriptor) == posix.getpgrp()
    except OSError:
        # It is not our controlling terminal: nobody else's job either.
        return True


def copy_window_size(terminal: int) -> None:
    """Give ``terminal`` the size of the caller's terminal, if the caller has one with a size."""
    size = bytearray(8)
    for descriptor in (0, 1, 2):
        try:
            syscall(SYS["ioctl"], descriptor, _TIOCGWINSZ, size)
        except OSError:
            continue
        rows, columns = unpack_from("=HH", size)
        if rows or columns:
            syscall(SYS["ioctl"], terminal, _TIOCSWINSZ, size)
        return


def set_window_size(terminal: int, height: int, width: int) -> None:
    """Set the size in characters (ioctl_tty(2), TIOCSWINSZ)."""
    syscall(SYS["ioctl"], terminal, _TIOCSWINSZ, pack("=HHHH", height, width, 0, 0))
