"""What a dump took: from the file ``stats-dump`` that CRIU leaves (images/stats.proto)."""

from __future__ import annotations

import posix
from _struct import unpack_from

from pyrunc.checkpoint.messages import decode
from pyrunc.errors import Error, reason
from pyrunc.linux import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.checkpoint.messages import Table

_NAME = "stats-dump"
#: Two magic numbers and the length of the message come before it.
_HEADER = 12
_MAGICS = (0x55105940, 0x57093306)
_PAGE: int = posix.sysconf("SC_PAGE_SIZE")
#: Times are in microseconds.
_TABLE: Table = {
    "dump": (
        1,
        {
            "freezing_time": (1, int),
            "frozen_time": (2, int),
            "pages_scanned": (5, int),
            "pages_skipped_parent": (6, int),
            "pages_written": (7, int),
        },
    )
}


def read(work: int) -> dict[str, int]:
    """Return the figures of a dump, from the directory of CRIU's own files.

    :raises Error: when CRIU has left none that can be understood.
    """
    flags = posix.O_RDONLY | files.O_NOFOLLOW | files.O_CLOEXEC
    try:
        file = posix.open(_NAME, flags, dir_fd=work)
        try:
            content = files.read_all(file, 1 << 16)
        finally:
            posix.close(file)
        if len(content) < _HEADER or unpack_from("=II", content) != _MAGICS:
            raise ValueError("it begins in another way")
        length = unpack_from("=I", content, 8)[0]
        told = decode(_TABLE, content[_HEADER : _HEADER + length]).get("dump") or {}
    except (OSError, ValueError) as error:
        raise Error(f"cannot read CRIU's {_NAME}: {reason(error)}") from None
    return {
        "freezingMicroseconds": told.get("freezing_time", 0),
        "frozenMicroseconds": told.get("frozen_time", 0),
        "pagesScanned": told.get("pages_scanned", 0),
        "pagesOfParent": told.get("pages_skipped_parent", 0),
        "pagesWritten": told.get("pages_written", 0),
        "bytesWritten": told.get("pages_written", 0) * _PAGE,
    }
