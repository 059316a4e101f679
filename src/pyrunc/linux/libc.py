"""The one door to the kernel: raw system calls with errno turned into OSError.

Everything in :mod:`pyrunc.linux` that the ``posix`` module lacks goes through
:func:`syscall`. What makes the calls is native (``syscall/syscall.c``), or ``_ctypes``
where that cannot be loaded; either is loaded at the first call, for `state`, `list`
or `kill` make none.
"""

from __future__ import annotations

import posix
from errno import EFBIG, EINTR, EINVAL, EPERM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import TypeAlias

    Argument: TypeAlias = "int | bytes | bytearray"

#: An errno is returned as a number from this one to -1 (syscall(2)).
_LOWEST_ERROR = -4095
#: The directory of whoever asks, for :func:`fetch`.
AT_FDCWD = -100
_S_IFMT = 0o170000
_MODE = 0o777


_native: ModuleType | None = None
#: Its :func:`fetch`, once it has been loaded for something else.
_fetch: Callable[[int, bytes, int, int, int], bytes | int] | None = None


def _load() -> ModuleType:
    global _native, _fetch
    try:
        from pyrunc.linux import _syscall as native
    except ImportError:
        from pyrunc.linux import through_ctypes as native  # type: ignore[no-redef]
    _native = native
    _fetch = getattr(native, "fetch", None)
    return native


def address_of(buffer: bytearray) -> int:
    """Return where ``buffer`` lies in this process's memory, for as long as its size stays."""
    address: int = (_native or _load()).address_of(buffer)
    return address


def vfork(clone3: bytes, last_words: bytes, work: Callable[..., tuple[object, ...] | None]) -> int:
    """Have a child call ``work()`` in this process's memory, while this process stands still.

    What it returns is the call (a number and six arguments, and whatever these need to live) by
    which the child executes a program; None ends it. Should the call fail, ``work(errno)`` is
    called. It must come back in every case: this process goes on with the interpreter as the child
    has left it, and ends where the child was killed on the way.

    :param clone3: arguments of clone3(2) with CLONE_VM and CLONE_VFORK.
    :param last_words: what this process writes to stderr then.
    :raises OSError: when there is no child.
    """
    result: int = (_native or _load()).vfork(clone3, last_words, work)
    if result < 0:
        raise OSError(-result, posix.strerror(-result))
    return result


def can_vfork() -> bool:
    """Tell whether there is :func:`vfork`: what is native may be missing."""
    return hasattr(_native or _load(), "vfork")


def fetch(directory: int, name: bytes, flags: int, kind: int, most: int) -> bytes | int:
    """Return what a small file holds, or a negative errno: by one call instead of four.

    :param directory: where the path ``name`` begins; AT_FDCWD for an absolute one.
    :param flags: of open(2).
    :param kind: the S_IF* that it must be (EINVAL), and bits of a mode: those it must not have,
        and if there are any, it must be root's or the caller's (EPERM); 0 for what the kernel
        makes up, which need not be looked at.
    :param most: as many bytes, 4096 at the most, are too many (EFBIG); so is a file of another
        size than was read. 0 to read nothing.
    """
    if _fetch is not None:
        return _fetch(directory, name, flags, kind, most)
    try:
        descriptor = posix.open(name, flags, dir_fd=None if directory == AT_FDCWD else directory)
        try:
            status = posix.fstat(descriptor) if kind else None
            if status and status.st_mode & _S_IFMT != kind & _S_IFMT:
                return -EINVAL
            if status and kind & _MODE and open_to_others(status, kind & _MODE):
                return -EPERM
            content = posix.read(descriptor, most) if most else b""
        finally:
            posix.close(descriptor)
    except OSError as error:
        return -(error.errno or EINVAL)
    if most and (len(content) == most or (status and len(content) != status.st_size)):
        return -EFBIG
    return content


def open_to_others(status: posix.stat_result, bits: int) -> bool:
    """Tell whether a file has any of these ``bits`` in its mode, or is neither root's nor ours."""
    return bool(status.st_mode & bits) or status.st_uid not in (0, posix.geteuid())


def syscall(
    number: int,
    a: Argument = 0,
    b: Argument = 0,
    c: Argument = 0,
    d: Argument = 0,
    e: Argument = 0,
    f: Argument = 0,
) -> int:
    """Make system call ``number``, again after EINTR, and return its result.

    ``bytes`` and ``bytearray`` are passed by address; the kernel writes to a ``bytearray``
    only, as long as it has to be. ``bytes`` must end in a zero byte where the kernel expects
    a string (:func:`cstring` sees to that).

    :raises OSError: with the errno of the failed call.
    """
    native = _native or _load()
    while True:
        result: int = native.call(number, a, b, c, d, e, f)
        if result >= 0 or result < _LOWEST_ERROR:
            return result
        if result != -EINTR:
            raise OSError(-result, posix.strerror(-result))


def cstring(text: str | bytes) -> bytes:
    """Encode a path or name for the kernel: file-system encoding, zero-terminated.

    :raises ValueError: when ``text`` holds a zero byte, which the kernel would
        take for its end.
    """
    encoded = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    if b"\0" in encoded:
        raise ValueError(f"{text!r} contains a zero byte")
    return encoded + b"\0"
