"""Errors on their way from the engine to the program: as values, and as exceptions again."""

from __future__ import annotations

import errno as numbers
import os
import re
from typing import Any

from pyrunc.errors import Error, ExecFailed, reason

#: How init and the builder speak of the working directory (process/program.py).
_CWD = re.compile(r"(?:cannot )?chdir to cwd \((.+)\) set in config\.json: (.+)", re.DOTALL)
_PREFIXES = ("exec failed: ", "unable to start container process: ")
#: Codes of errors whose texts name files, of an image or a sandbox.
_OF_FILES = ("file-failed", "archive-invalid")


class CannotEnforce(Error):
    """A limit that was asked for cannot be set here."""

    code = "not-enforced"

    def __init__(self, limit: str, why: str, hint: str) -> None:
        self.limit = limit
        self.why = why
        self.hint = hint
        super().__init__(f"the limit {limit} cannot be enforced: {why}")


class Closed(Error):
    """The container is not there any more."""

    code = "sandbox-closed"


class FileFailure(Error):
    """A file of a sandbox cannot be read or written; ``errno`` tells which kind of failure."""

    code = "file-failed"

    def __init__(self, text: str, path: str, number: int, operation: str) -> None:
        super().__init__(text)
        self.path = path
        self.errno = number
        self.operation = operation


def described(error: BaseException) -> dict[str, Any]:
    """Return what there is to be said about an error, of what marshal knows."""
    text = str(error) if isinstance(error, Error) else _of_ours(error)
    told: dict[str, Any] = {"code": getattr(error, "code", "internal"), "text": text}
    for name in ("operation", "step", "path", "errno", "hint", "limit", "why"):
        if value := getattr(error, name, None):
            told[name] = value
    if told["code"] in _OF_FILES:
        # Whatever is in its text may be a name.
        return told
    for prefix in _PREFIXES:
        text = text.removeprefix(prefix)
    if cwd := _CWD.fullmatch(text):
        told |= _of_cwd(*cwd.groups())
    elif isinstance(error, ExecFailed) or "exec: " in text:
        told |= _of_program(text)
    return told


def _of_ours(error: BaseException) -> str:
    """Name an error that no code of ours expected: an OSError, or a bug."""
    if isinstance(error, OSError):
        about = f": {error.filename}" if error.filename else ""
        return f"{reason(error)}{about}"
    import traceback

    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{last.filename.rpartition('/pyrunc/')[2]}:{last.lineno}"
    return f"internal error: {type(error).__name__}: {error} ({where}): please report"


def _of_program(text: str) -> dict[str, Any]:
    """Return code and errno for a program that could not be executed."""
    told: dict[str, Any] = {"code": "exec-failed", "text": text}
    if "not found" in text or "no such file" in text:
        told["errno"] = numbers.ENOENT
    elif "permission denied" in text:
        told["errno"] = numbers.EACCES
    return told


def _of_cwd(shown: str, why: str) -> dict[str, Any]:
    """Return the same for a working directory that cannot be entered, by what libc says of it."""
    path = shown[1:-1]
    told: dict[str, Any] = {"code": "cwd-failed", "text": f"cannot chdir to {path}: {why}"}
    told["path"] = path
    for number in (numbers.ENOENT, numbers.ENOTDIR, numbers.EACCES, numbers.EPERM, numbers.ELOOP):
        if os.strerror(number).lower() == why:
            told["errno"] = number
    return told
