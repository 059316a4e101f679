"""The functions of ``_syscall`` (``syscall/syscall.c``) for a Python that cannot load it.

That is one without the stable ABI (a free-threaded build), or a source tree where nothing was
compiled. The private ``_ctypes`` is used instead of ``ctypes``: the public wrapper costs 3 ms
at import. It has kept this interface since Python 3.2.

``syscall()`` of libc is called without releasing the GIL, as ``_syscall`` does.
"""

from __future__ import annotations

import _ctypes
from _ctypes import addressof, get_errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CDECL = 1
_PYTHON_API = 4
_USE_ERRNO = 8


class _Long(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "l"


class _Pointer(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "P"


class _Byte(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "c"


class _Syscall(_ctypes.CFuncPtr):
    _flags_ = _CDECL | _PYTHON_API | _USE_ERRNO
    _restype_ = _Long
    # A pointer argument takes ints (any value of 64 bits), bytes and arrays alike.
    _argtypes_ = (_Pointer,) * 7


_syscall = _Syscall(_ctypes.dlsym(_ctypes.dlopen(None, 0), "syscall"))  # type: ignore[arg-type]
_array_types: dict[int, Any] = {}


def call(number: int, *arguments: int | bytes | bytearray) -> int:
    """Make the system call with this number; return its result or a negative errno."""
    passed = [_array(a) if isinstance(a, bytearray) else a for a in arguments]
    result: int = _syscall(number, *passed, *(0,) * (6 - len(passed)))
    return -get_errno() if result == -1 else result


def address_of(buffer: bytearray) -> int:
    """Return where a buffer's bytes lie."""
    return addressof(_array(buffer))


def _array(buffer: bytearray) -> Any:
    """Return an array that lies where ``buffer`` does."""
    size = len(buffer)
    if size not in _array_types:
        members = {"_type_": _Byte, "_length_": size}
        _array_types[size] = type("Array", (_ctypes.Array,), members)
    return _array_types[size].from_buffer(buffer)
