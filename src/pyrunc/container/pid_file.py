"""The pid file that engines ask for."""

from __future__ import annotations

import posix

from pyrunc.errors import Error, reason
from pyrunc.linux import files


def write_pid_file(path: str, pid: int) -> None:
    """Write the pid, without a newline, so that the file is there whole or not at all."""
    directory, _, name = path.rpartition("/")
    temporary = f"{directory or '.'}/.{name}"
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | files.O_CLOEXEC
    try:
        descriptor = posix.open(temporary, flags, 0o644)
        try:
            files.write_all(descriptor, b"%d" % pid)
        finally:
            posix.close(descriptor)
        posix.rename(temporary, path)
    except OSError as error:
        raise Error(f"cannot write pid file {path}: {reason(error)}") from None
