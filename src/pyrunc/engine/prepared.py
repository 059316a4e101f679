"""What engines take from a program, checked as config.json is; the same twice only once."""

from __future__ import annotations

import marshal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pyrunc.errors import InvalidConfig
from pyrunc.spec.load import check, check_process

if TYPE_CHECKING:
    from pyrunc.spec.types import Process, Spec

_KEPT = 64


def checked_spec(spec: dict[str, Any]) -> Spec:
    """Return a config that is good, free to be changed.

    :raises InvalidConfig: with all its mistakes.
    """
    return marshal.loads(_checked_spec(marshal.dumps(spec, 2)))  # type: ignore[no-any-return]


@lru_cache(_KEPT)
def _checked_spec(text: bytes) -> bytes:
    spec = marshal.loads(text)
    if not spec["root"]["path"]:
        # To be filled in by the engine: the host's own.
        mistakes = check({**spec, "root": {**spec["root"], "path": "/"}})
    else:
        mistakes = check(spec)
    if mistakes:
        raise InvalidConfig("the sandbox", mistakes)
    return marshal.dumps(spec, 2)


def checked_process(process: dict[str, Any]) -> Process:
    """Return a process that is good.

    :raises InvalidConfig: with all its mistakes.
    """
    return marshal.loads(_checked_process(marshal.dumps(process, 2)))  # type: ignore[no-any-return]


def has_capabilities(process: Process) -> bool:
    """Tell whether a process is to have any capability, or may come by one."""
    return any((process.get("capabilities") or {}).values())


@lru_cache(_KEPT)
def _checked_process(text: bytes) -> bytes:
    process = marshal.loads(text)
    if mistakes := check_process(process):
        raise InvalidConfig("the process", mistakes)
    return marshal.dumps(process, 2)
