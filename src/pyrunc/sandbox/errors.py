"""The library's exceptions: each is a :class:`pyrunc.Error`, and the builtin that it resembles."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from pyrunc.errors import AlreadyExists, Error, NotFound, WrongStatus

if TYPE_CHECKING:
    from pyrunc.sandbox.result import Result


class InvalidArgument(Error, ValueError, TypeError):
    """A function was called with what makes no sense; nothing was done."""

    code = "invalid-argument"


class HostFileMissing(FileNotFoundError, InvalidArgument):
    """A file or directory of the host that an argument names is not there."""

    # The order of the bases: what an OSError keeps, ValueError's __new__ knows nothing of.
    code = "host-file-missing"


class NotEnforced(Error, PermissionError):
    """A limit that was asked for cannot be enforced on this host, or by this user.

    ``limit`` is its name, ``why`` the reason, ``hint`` what would enable it. With
    ``best_effort=True`` it is no error: ``Result.not_enforced`` lists it then.
    """

    code = "not-enforced"

    def __init__(self, message: str, limit: str = "", why: str = "") -> None:
        super().__init__(message)
        self.limit = limit
        self.why = why


class ProgramNotFound(Error, FileNotFoundError):
    """There is no such program in the container."""

    code = "program-not-found"


class ProgramNotExecutable(Error, PermissionError):
    """The program is there, but cannot be executed."""

    code = "program-not-executable"


class ProgramFailed(Error):
    """With ``check=True``: the program did not end with 0. ``result`` tells how it did."""

    code = "program-failed"

    def __init__(self, message: str, result: Result[Any]) -> None:
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.result), self.__dict__


class TimeoutExpired(Error, TimeoutError):
    """With ``check=True``, or from ``Process.wait``: the time was over.

    ``result`` is the result of the run, with what was printed so far; None from ``wait``.
    """

    code = "timeout"

    def __init__(self, message: str, result: Result[Any] | None = None) -> None:
        super().__init__(message)
        self.result = result


class ProcessGone(Error, ProcessLookupError):
    """The process has ended already."""

    code = "process-gone"


class SandboxClosed(Error):
    """The sandbox is closed, or was never opened."""

    code = "sandbox-closed"


class EngineLost(Error, ConnectionError):
    """The engine has ended, and its containers with it; the next call starts one."""

    code = "engine-lost"


class CommandFailed(Error):
    """The command of another runtime (``Runtime(command=...)``) failed, or has no such operation.

    The message is the command's own.
    """

    code = "command-failed"


class FileMissing(Error, FileNotFoundError):
    """There is no such file in the sandbox."""

    code = "file-missing"


class FileDenied(Error, PermissionError):
    """A file of the sandbox must not be read or written this way."""

    code = "file-denied"


class FileFailed(Error, OSError):
    """A file of the sandbox cannot be read or written for another reason; ``errno`` says which."""

    code = "file-failed"


class ArchiveInvalid(Error, ValueError):
    """An archive or image that a root file system was to be made of is damaged, or does harm."""

    code = "archive-invalid"


_FILE_KINDS = {
    errno.ENOENT: FileMissing,
    errno.ENOTDIR: FileMissing,
    errno.EACCES: FileDenied,
    errno.EPERM: FileDenied,
}
_BY_CODE: dict[str, type[Error]] = {
    error.code: error
    for error in (AlreadyExists, ArchiveInvalid, NotFound, SandboxClosed, WrongStatus)
}


def from_engine(told: dict[str, Any], operation: str) -> Error:
    """Return the exception for what an engine has said (:mod:`pyrunc.engine.failures`)."""
    code, text = told["code"], told["text"]
    error: Error
    if code == "not-enforced":
        message = f"{text}; {told['hint']}, or allow it with best_effort=True"
        error = NotEnforced(message, told["limit"], told["why"])
    elif code == "exec-failed" and told.get("errno") == errno.ENOENT:
        error = ProgramNotFound(text)
    elif code == "exec-failed" and told.get("errno") == errno.EACCES:
        error = ProgramNotExecutable(text)
    elif code in ("cwd-failed", "file-failed"):
        error = _FILE_KINDS.get(told.get("errno", 0), FileFailed)(text)
    else:
        error = _BY_CODE.get(code, Error)(text)
        error.code = code
    error.operation = told["operation"] if code == "file-failed" else operation
    for name in ("step", "path", "errno", "hint"):
        if name in told:
            setattr(error, name, told[name])
    return error
