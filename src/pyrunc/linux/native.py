"""libc's ``syscall()`` and memory for it, made of ``_ctypes``; used by ``libc.py`` alone."""

from __future__ import annotations

import _ctypes
from _ctypes import addressof, get_errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Buffer", "addressof", "call", "get_errno", "sized_buffer"]

_CDECL = 1
_PYTHON_API = 4
_USE_ERRNO = 8


class _Long(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "l"


class _Pointer(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "P"


class _Byte(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "c"


class Buffer(_ctypes.Array):  # type: ignore[type-arg]
    """4096 zeroed bytes that a system call may write to; ``raw`` reads them."""

    _type_ = _Byte
    _length_ = 4096


class _Syscall(_ctypes.CFuncPtr):
    _flags_ = _CDECL | _PYTHON_API | _USE_ERRNO
    _restype_ = _Long
    # A pointer argument takes ints (any value of 64 bits), bytes, None and buffers alike.
    _argtypes_ = (_Pointer,) * 7


#: ``syscall(2)``: number and six arguments.
call = _Syscall(_ctypes.dlsym(_ctypes.dlopen(None, 0), "syscall"))  # type: ignore[arg-type]


def sized_buffer(size: int) -> Any:
    """Return a buffer of any other size."""
    return type("LargeBuffer", (_ctypes.Array,), {"_type_": _Byte, "_length_": size})()
