"""Every error pyrunc reports to its caller.

There is one family, :class:`Error`. Its text is one line that a person can
act on: what was being done, to what, and why it failed. Modules raise these
(or let an ``OSError`` travel up to the step that can name itself); only the
command line turns them into output and exit codes.
"""

from __future__ import annotations

import posix
from errno import EBADF, EFAULT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NamedTuple

    class Mistake(NamedTuple):
        """One thing wrong in a config.json."""

        path: str
        expected: str
        found: str


#: After "cannot join cgroup": EINVAL of sched-rt-group.rst.
NEEDS_REAL_TIME = "with a real-time policy (chrt(1)) it takes linux.resources.cpu.realtimeRuntime"


class Error(Exception):
    """Something pyrunc was asked to do could not be done.

    ``str(error)`` is the whole message, one line, no trailing full stop.
    """

    #: A short word for the kind of error that stays the same: "not-found", "not-enforced" …
    code = "error"
    #: What was asked for ("run", "start", "create" …), and the step of it that failed, if known.
    operation = ""
    step = ""
    #: The file or container that it is about, if it is about one.
    path = ""
    #: The kernel's error number, if it was the kernel that refused.
    errno: int | None = None
    #: What to do about it, if there is something to be said.
    hint = ""

    @property
    def lines(self) -> tuple[str, ...]:
        """The message as a terminal shows it: a line for each thing that is wrong."""
        return (str(self),)


class InvalidConfig(Error):
    """A bundle's config.json breaks the OCI runtime specification.

    ``mistakes`` holds every one of them as ``(path, expected, found)``, and so
    does the message.
    """

    code = "invalid-config"

    def __init__(self, source: str, mistakes: Sequence[tuple[str, str, str]]) -> None:
        self.source = source
        self.mistakes = tuple(mistakes)
        super().__init__(f"{source}: {'; '.join(self._sentences())}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.source, self.mistakes)

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(f"{self.source}: {sentence}" for sentence in self._sentences())

    def _sentences(self) -> list[str]:
        return [
            f"{path}: expected {expected}, found {found}" for path, expected, found in self.mistakes
        ]


class NotFound(Error):
    """No container of this id exists under the state root."""

    code = "not-found"


class AlreadyExists(Error):
    """The id is taken."""

    code = "already-exists"


class WrongStatus(Error):
    """The container exists but its status forbids the operation."""

    code = "wrong-status"


class BeingCreated(WrongStatus):
    """The container is not complete yet."""


class NotSaved(Error):
    """What a container's directory is to hold could not be written."""


class ExecFailed(Error):
    """The program of the process could not be executed."""

    code = "exec-failed"


class HookFailed(Error):
    """A hook of `start` failed: the container is to be stopped and destroyed."""

    code = "hook-failed"


def reason(error: BaseException) -> str:
    """Say why, in the lower-case words that callers of runtimes match on.

    ``OSError`` becomes its own explanation in lower case, which is the errno's
    text ("no such file or directory") unless whoever raised it knew more;
    anything else its own message.
    """
    if isinstance(error, OSError) and error.errno:
        text = error.strerror or posix.strerror(error.errno)
        return text[:1].lower() + text[1:]
    return str(error) or type(error).__name__


def failure_of_the_machine(error: BaseException) -> str:
    """Say why, when it is the machine that failed or its owner that forbids; else nothing.

    A full disk, too many open files, a broken installation: no such thing is a bug of ours.
    """
    if isinstance(error, OSError) and error.errno and error.errno not in (EBADF, EFAULT):
        return reason(error) + (f" ({error.filename!r})" if error.filename else "")
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, ImportError):
        return f"its own code cannot be loaded ({error}): is pyrunc installed completely?"
    return ""
