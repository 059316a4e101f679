"""What CRIU's log says: what went wrong first, for all else comes of it; or that all is saved."""

from __future__ import annotations

import posix

from pyrunc.linux import files

#: "(00.012345) Error (criu/files-reg.c:1831): Can't lookup mount=24 for fd=-3 path=/x"; a process
#: that is being restored puts its number between the first two.
_MARK = " Error ("
#: Said of a failure in general, or of what does not stop CRIU.
_NOT_THE_CAUSE = (
    "Restoring FAILED",
    "Dumping FAILED",
    "Pre-dumping FAILED",
    "rlimit: Can't setup RLIMIT_NOFILE for self",
)
#: Also the end of "Pre-dumping finished successfully".
_SAVED = "umping finished successfully"
#: A log of level 4 of a big container has some megabytes.
_LARGEST = 64 << 20


def first_error(directory: int, name: str) -> str:
    """Return the text of the first error in the log ``name`` of a directory, or nothing."""
    for line in _read(directory, name).splitlines():
        before, mark, after = line.partition(_MARK)
        # The time, and perhaps a number, stand before: else it is a line of something else.
        if not mark or not before.startswith("("):
            continue
        cause = after.partition("): ")[2].strip()
        if cause and not cause.startswith(_NOT_THE_CAUSE):
            return cause
    return ""


def is_saved(directory: int, name: str) -> bool:
    """Tell whether a dump came to its good end; the processes are on their way out by then."""
    return _SAVED in _read(directory, name)


def _read(directory: int, name: str) -> str:
    try:
        log = posix.open(
            name, posix.O_RDONLY | files.O_NOFOLLOW | files.O_CLOEXEC, dir_fd=directory
        )
    except OSError:
        return ""
    try:
        return files.read_all(log, _LARGEST).decode("utf-8", "replace")
    finally:
        posix.close(log)
