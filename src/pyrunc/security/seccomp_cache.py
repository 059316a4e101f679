"""Compiled seccomp filters on disk: what a file is made of, and how it is read.

What is kept is bound to the section of config.json, to the processor and to the libseccomp that
compiled it (a newer one knows more system calls); a file that does not match in every byte is
compiled anew, never used. :mod:`pyrunc.security.seccomp_store` writes them.
"""

from __future__ import annotations

import marshal
import posix
from _blake2 import blake2b
from _struct import Struct

from pyrunc.linux.numbers import MACHINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Change it whenever the same section may give another filter, or a file another layout.
FORMAT = b"pyrunc-seccomp-1"
DIGEST_SIZE = 32
# flags, notify, instructions' bytes; libseccomp's device, inode, size, mtime; bytes of its path.
HEADER = Struct("<IIIQQQQI")
_LARGEST = 1 << 16  # 4096 instructions of 8 bytes, the header and a path fit


def cache_key(seccomp: dict[str, Any]) -> bytes:
    """Return the digest of all that the compiled filter depends on, but for libseccomp.

    Marshal format 2 writes equal values alike and different ones differently (it has no
    references and no mark for interned strings). Members in another order only cost a miss.
    """
    return blake2b(
        b"%s %s " % (FORMAT, MACHINE.encode()) + marshal.dumps(seccomp, 2),
        digest_size=DIGEST_SIZE,
    ).digest()


def checksum(key: bytes, content: bytes) -> bytes:
    """Return what a cache file starts with: the digest of its ``content``, bound to its key."""
    return blake2b(content, key=key, digest_size=DIGEST_SIZE).digest()


def open_cache(cache_dir: str) -> int | None:
    """Open the cache's directory; None when it is missing or others could have written there."""
    try:
        fd = posix.open(
            cache_dir, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
        )
    except OSError:
        return None
    if _is_ours(posix.fstat(fd)):
        return fd
    posix.close(fd)
    return None


def library_identity(path: str | bytes) -> tuple[int, int, int, int]:
    """Return what tells one libseccomp from the next: device, inode, size and mtime (ns)."""
    library = posix.stat(path)
    return library.st_dev, library.st_ino, library.st_size, library.st_mtime_ns


def look_up(cache_dir: str, key: bytes) -> tuple[bytes, int, bool] | None:
    """Return a stored filter's BPF, flags and whether it notifies; None when it is not usable."""
    directory = open_cache(cache_dir)
    if directory is None:
        return None
    try:
        # O_NONBLOCK: a fifo of this name would otherwise hold us up.
        fd = posix.open(
            f"{key.hex()}.bpf",
            posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC | posix.O_NONBLOCK,
            dir_fd=directory,
        )
    except OSError:
        return None
    finally:
        posix.close(directory)
    try:
        if not _is_ours(posix.fstat(fd)):
            return None
        stored = posix.read(fd, _LARGEST)
    except OSError:
        return None
    finally:
        posix.close(fd)
    return _decode(key, stored)


def _decode(key: bytes, stored: bytes) -> tuple[bytes, int, bool] | None:
    """Take a cache file apart; None when it is damaged or of another libseccomp."""
    content = stored[DIGEST_SIZE:]
    if len(content) < HEADER.size or checksum(key, content) != stored[:DIGEST_SIZE]:
        return None
    flags, notify, size, device, inode, length, mtime, path_size = HEADER.unpack_from(content)
    path = content[HEADER.size : HEADER.size + path_size]
    bpf = content[HEADER.size + path_size :]
    try:
        if library_identity(path) != (device, inode, length, mtime):
            return None
    except OSError:
        return None
    if not bpf or len(bpf) != size:
        return None
    return bpf, flags, bool(notify)


def _is_ours(status: posix.stat_result) -> bool:
    """Tell whether nobody but us (and root) can have written what ``status`` is about."""
    return status.st_uid == posix.geteuid() and not status.st_mode & 0o022
