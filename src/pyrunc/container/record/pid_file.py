"""The pid file that engines ask for."""

from __future__ import annotations

import posix

from pyrunc.errors import Error, reason
from pyrunc.linux import files


def write_pid_file(path: str, pid: int) -> None:
    """Write the pid, without a newline, so that the file is there whole or not at all."""
    where, slash, name = path.rpartition("/")
    try:
        flags = files.O_PATH | files.O_DIRECTORY | files.O_CLOEXEC
        directory = posix.open(f"{where}/" if slash else ".", flags)
        try:
            _write(directory, name, b"%d" % pid)
        finally:
            posix.close(directory)
    except OSError as error:
        raise Error(f"cannot write pid file {path}: {reason(error)}") from None


def _write(directory: int, name: str, content: bytes) -> None:
    """Make a file of another name, which nobody can have put a link in place of, and rename it."""
    temporary = f".pid-{posix.urandom(8).hex()}"
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | files.O_NOFOLLOW | files.O_CLOEXEC
    descriptor = posix.open(temporary, flags, 0o644, dir_fd=directory)
    try:
        try:
            files.write_all(descriptor, content)
        finally:
            posix.close(descriptor)
        posix.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        posix.unlink(temporary, dir_fd=directory)
        raise
