"""Filters that were compiled when pyrunc was built: for machines without libseccomp.

They are those of the sections in ``seccomp/`` of the sources, in one file of the package for each
processor. Where there is a libseccomp it compiles a section itself, as it may know system calls
that the build's did not.
"""

from __future__ import annotations

from _struct import Struct

from pyrunc.linux.files import read_file
from pyrunc.linux.numbers import MACHINE
from pyrunc.security.seccomp_cache import DIGEST_SIZE, cache_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

FILE = f"known-filters.{MACHINE}"
#: The section's key, SECCOMP_FILTER_FLAG_*, bytes of instructions, which follow.
_HEADER = Struct(f"<{DIGEST_SIZE}sII")


def find(key: bytes) -> tuple[bytes, int] | None:
    """Return the instructions and flags of the section with ``key``; None if it is not there."""
    import pyrunc

    try:
        content = read_file(f"{pyrunc.__path__[0]}/{FILE}")
    except OSError:
        return None
    at = 0
    while at < len(content):
        found, flags, size = _HEADER.unpack_from(content, at)
        at += _HEADER.size + size
        if found == key:
            return content[at - size : at], flags
    return None


def compiled(sections: Iterable[dict[str, Any]]) -> bytes:
    """Return the file of ``sections``, which must not notify; it is for this processor.

    :raises pyrunc.errors.Error: without libseccomp.
    """
    from pyrunc.security.seccomp_compile import compile_filter

    content = b""
    for section in sections:
        made = compile_filter(section)
        assert not made.notify
        content += _HEADER.pack(cache_key(section), made.flags, len(made.bpf)) + made.bpf
    return content
