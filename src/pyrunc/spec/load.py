"""Read a bundle's ``config.json`` and say everything that is wrong with it.

The first thing any container goes through; nothing on the machine has changed
yet. What a config may hold stands in the tables of this room; whether *this*
host can do it is for the plan.
"""

from __future__ import annotations

import posix
from _json import encode_basestring_ascii
from errno import ENOENT, ENOTDIR

from pyrunc.errors import Error, InvalidConfig, reason
from pyrunc.spec import config as _config
from pyrunc.spec import json_text
from pyrunc.spec import process as _process
from pyrunc.spec import resources as _resources
from pyrunc.spec.kinds import MOST_REPORTED, Spelling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.spec.kinds import Kind, Mistake, Mistakes
    from pyrunc.spec.types import Process, Resources, Spec

_S_IFMT = 0o170000
_S_IFREG = 0o100000


def load(path: str, *, stream: bool = False, notes: list[str] | None = None) -> Spec:
    """Return the checked contents of the config.json at ``path``; ``stream`` as for :func:`read`.

    Members that are null are left out of it, and what means nothing in its version. Raises
    InvalidConfig with every mistake, and Error when there is no file to read.

    :param notes: takes a line for each thing that deserves a warning.
    """
    contents = _parsed(read(path, stream=stream), path)
    _refuse(path, _checked(_config.config, contents, path, notes))
    checked: Spec = contents
    _leave_out_unset_limits(checked)
    return checked


def _leave_out_unset_limits(spec: Spec) -> None:
    """Before version 1.3 a ``pids.limit`` of 0 is one that is not set.

    The specification left it open, and callers in Go write it for "none" (Podman before 5.4).
    """
    resources: Any = spec.get("linux", {}).get("resources") or {}
    if (resources.get("pids") or {}).get("limit") == 0:
        major, minor = spec["ociVersion"].split(".")[:2]
        if (int(major), int(minor)) < (1, 3):
            del resources["pids"]


def load_process(path: str, notes: list[str] | None = None) -> Process:
    """Return the checked process of ``exec --process FILE``; all else as for :func:`load`."""
    contents = _parsed(read(path, stream=True), path)
    _refuse(path, _checked(_process.process, contents, path, notes))
    checked: Process = contents
    return checked


def parse_resources(text: bytes, source: str, notes: list[str] | None = None) -> Resources:
    """Return the checked resources of ``update --resources``, named ``source`` in errors."""
    contents = _parsed(text, source)
    _refuse(source, _checked(_resources.resources, contents, source, notes))
    checked: Resources = contents
    return checked


def check(config: object) -> list[Mistake]:
    """Return every mistake in a config as ``(path, expected, found)``; none means it is good.

    Members of ``config`` that are null are taken out of it, as null means absent, and one whose
    name has another case than in the specification gets that name.
    """
    return _checked(_config.config, config)


def check_process(process: object) -> list[Mistake]:
    """Return every mistake in a process on its own; see :func:`check`."""
    return _checked(_process.process, process)


def check_resources(resources: object) -> list[Mistake]:
    """Return every mistake in resources on their own; see :func:`check`."""
    return _checked(_resources.resources, resources)


def _checked(
    kind: Kind, contents: object, source: str = "", notes: list[str] | None = None
) -> list[Mistake]:
    """Check as often as there are names to correct: what has a wrong one was not looked at."""
    corrected = 0
    while mistakes := kind(contents):
        # Each time costs a whole check: not as often as a malicious text would have it.
        if corrected > MOST_REPORTED:
            break
        before = corrected
        for path, expected, _ in mistakes:
            if isinstance(expected, Spelling) and expected.correct():
                corrected += 1
                if notes is not None:
                    notes.append(f"{source}: {path} is taken for {expected}; its case matters")
        if corrected == before:
            break
    return _limited(mistakes)


def read(path: str, *, stream: bool = False) -> bytes:
    """Return the contents of a regular file of at most json_text.MAXIMUM_BYTES.

    It is opened without waiting, so that a FIFO in its place cannot hold up the
    runtime, and read through the descriptor that was looked at.

    :param stream: a file that was named on the command line, which may also be a pipe (of a
        process substitution), a terminal, or whatever else can be read to an end.
    """
    name = path.rpartition("/")[2]
    flags = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOCTTY
    try:
        # O_NONBLOCK does nothing to the reading of regular files.
        file = posix.open(path, flags if stream else flags | posix.O_NONBLOCK)
    except OSError as error:
        if error.errno in (ENOENT, ENOTDIR):
            raise Error(
                f"{_plain(name)} not found: open {_plain(path)}: {reason(error)} "
                "(give the bundle's directory with --bundle)"
            ) from None
        raise Error(f"open {_plain(path)}: {reason(error)}") from None
    except ValueError:
        raise Error(f"open {_plain(path)}: a path cannot contain NUL") from None
    try:
        status = posix.fstat(file)
        if status.st_mode & _S_IFMT != _S_IFREG and not stream:
            raise Error(f"read {_plain(path)}: not a regular file")
        return _read_all(file, path)
    except OSError as error:
        raise Error(f"read {_plain(path)}: {reason(error)}") from None
    finally:
        posix.close(file)


def _read_all(file: int, path: str) -> bytes:
    parts: list[bytes] = []
    length = 0
    while part := posix.read(file, 1 << 16):
        parts.append(part)
        length += len(part)
        if length > json_text.MAXIMUM_BYTES:
            most = json_text.MAXIMUM_BYTES // (1024 * 1024)
            raise Error(f"read {_plain(path)}: larger than {most} MiB")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _parsed(text: bytes, source: str) -> Any:
    try:
        contents = json_text.parse(text)
        # A \ud800 alone is no character, has no UTF-8 form, and no system call takes it.
        if b"\\ud" in text or b"\\uD" in text:
            json_text.check_characters(contents)
    except json_text.NotJson as error:
        raise InvalidConfig(source, [(error.where, error.expected, error.found)]) from None
    return contents


def _refuse(source: str, mistakes: list[Mistake]) -> None:
    if mistakes:
        raise InvalidConfig(_plain(source), mistakes)


def _plain(path: str) -> str:
    """Return a path as it is, but for letters that do not belong on a terminal."""
    return encode_basestring_ascii(path)[1:-1]


def _limited(mistakes: Mistakes) -> list[Mistake]:
    found = [(path or "the whole", expected, what) for path, expected, what in mistakes]
    if len(found) > MOST_REPORTED:
        found[MOST_REPORTED:] = [("the rest", "no mistakes", f"more than {MOST_REPORTED}")]
    return found
