"""Storing compiled seccomp filters; :mod:`pyrunc.security.seccomp_cache` reads them."""

from __future__ import annotations

import contextlib
import os

from pyrunc.security.seccomp_cache import HEADER, checksum, library_identity, open_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.security.seccomp_compile import Compiled

KEPT = 64  # files; engines use a handful of profiles


def store(cache_dir: str, key: bytes, compiled: Compiled) -> None:
    """Keep ``compiled`` under ``key``.

    The cache only saves time: when it cannot be written to (a full or read-only file system), or
    others could write there, nothing is stored and nothing is said.
    """
    if compiled.libseccomp is None:
        return
    with contextlib.suppress(OSError):
        os.mkdir(cache_dir, 0o700)
    directory = open_cache(cache_dir)
    if directory is None:
        return
    try:
        with contextlib.suppress(OSError):
            _write(directory, f"{key.hex()}.bpf", _encode(key, compiled))
            _prune(directory)
    finally:
        os.close(directory)


def _encode(key: bytes, compiled: Compiled) -> bytes:
    """Return a cache file: checksum, header, path of libseccomp, instructions."""
    assert compiled.libseccomp is not None
    path = os.fsencode(compiled.libseccomp)
    header = HEADER.pack(
        compiled.flags,
        compiled.notify,
        len(compiled.bpf),
        *library_identity(path),
        len(path),
    )
    content = header + path + compiled.bpf
    return checksum(key, content) + content


def _write(directory: int, name: str, content: bytes) -> None:
    """Write a file so that a reader finds all of it or nothing.

    There is no fsync: after a crash the checksum tells.
    """
    temporary = f".{name}.{os.getpid()}.{os.urandom(4).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        with open(fd, "wb") as file:
            file.write(content)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        os.unlink(temporary, dir_fd=directory)
        raise


def _prune(directory: int) -> None:
    """Remove the oldest files above :data:`KEPT`, left-over temporary ones among them."""
    names = os.listdir(directory)
    if len(names) <= KEPT:
        return

    def age(name: str) -> float:
        try:
            return os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime_ns
        except OSError:  # another process has just removed it
            return 0

    for name in sorted(names, key=age)[: len(names) - KEPT]:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=directory)
