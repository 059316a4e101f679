"""The one door to the kernel: raw system calls with errno turned into OSError.

Everything in :mod:`pyrunc.linux` that the ``posix`` module lacks goes through
:func:`syscall`. The private ``_ctypes`` is used instead of ``ctypes``: the
public wrapper costs 3 ms at import (it pulls in ``os`` and ``struct`` and
builds two dozen types that are not needed here), a quarter of a whole
``pyrunc run``. ``_ctypes`` has kept this interface since Python 3.2. What is made of it is in
:mod:`pyrunc.linux.native`, which is loaded at the first call.

``syscall()`` of libc is called without releasing the GIL (the runtime is
single-threaded) so that a fork through clone3(2) returns into an interpreter
that still holds it.
"""

from __future__ import annotations

import posix
from errno import EINTR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import TypeAlias

    Argument: TypeAlias = "int | bytes | Buffer | None"

    class Buffer:
        """4096 zeroed bytes that a system call may write to; ``raw`` reads them."""

        raw: bytes

        def __buffer__(self, flags: int, /) -> memoryview:
            """Give the bytes to whoever takes a buffer."""
            raise NotImplementedError

else:

    def Buffer():  # noqa: N802, RUF100
        """Make 4096 zeroed bytes that a system call may write to; ``raw`` reads them."""
        return (_native or _load()).Buffer()


_native: ModuleType | None = None


def _load() -> ModuleType:
    """Load what needs ``_ctypes``, at the first call: `state`, `list` or `kill` make none."""
    global _native
    from pyrunc.linux import native

    _native = native
    return native


def buffer_of(content: bytes) -> Buffer:
    """Return a writable buffer that starts with ``content``: 4096 bytes, or as many as it takes."""
    size = len(content)
    buffer: Buffer = Buffer() if size <= 4096 else (_native or _load()).sized_buffer(size)
    buffer.raw = content.ljust(4096, b"\0")
    return buffer


def address_of(buffer: Buffer) -> int:
    """Return where ``buffer`` lies in this process's memory."""
    address: int = (_native or _load()).addressof(buffer)
    return address


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

    ``bytes`` are passed by address and must end in a zero byte where the
    kernel expects a string (:func:`cstring` sees to that).

    :raises OSError: with the errno of the failed call.
    """
    native = _native or _load()
    while True:
        result: int = native.call(number, a, b, c, d, e, f)
        if result != -1:
            return result
        code = native.get_errno()
        if code != EINTR:
            raise OSError(code, posix.strerror(code))


def cstring(text: str | bytes) -> bytes:
    """Encode a path or name for the kernel: file-system encoding, zero-terminated.

    :raises ValueError: when ``text`` holds a zero byte, which the kernel would
        take for its end.
    """
    encoded = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    if b"\0" in encoded:
        raise ValueError(f"{text!r} contains a zero byte")
    return encoded + b"\0"
