"""A builder that has the runtime's memory, which stands still meanwhile (vfork).

A fork of Python copies a thousand pages that one of the two writes to, and its page tables, to
throw them away when init is executed: a third of all that a container of the library's costs.
This builder copies nothing. In return nothing can be done beside it, nor can it ask for anything;
and whoever kills it right then ends the runtime as well, whose interpreter it leaves in the middle
of something: `delete --force` then takes away what there is, as for a runtime that was killed.
"""

from __future__ import annotations

import gc
import posix
import sys
from errno import ENOSYS, EPERM

from pyrunc.cgroups.entrance import Entrance
from pyrunc.container.making.builder import Doing, Handover, carry_out, close_imports, tell_failure
from pyrunc.linux import refusals
from pyrunc.linux.libc import can_vfork
from pyrunc.linux.vfork import vfork
from pyrunc.process.seal import execution_of_init

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyrunc.spec.types import Spec

_LAST_WORDS = (
    "the process that builds the container was killed, and with it the memory that it shared with "
    "pyrunc: delete --force removes what is left\n"
)
#: Hooks that run while the container is built.
_HOOKS = ("prestart", "createRuntime", "createContainer")


def fits(spec: Spec) -> bool:
    """Tell whether the container can be built like this: the runtime is needed for nothing.

    Nor may there be anybody else in the builder's namespaces, or a user namespace, which needs its
    mappings.
    """
    linux: Mapping[str, Any] = spec.get("linux", {})
    namespaces = linux.get("namespaces") or ()
    kinds = {namespace["type"] for namespace in namespaces}
    hooks: Mapping[str, Any] = spec.get("hooks") or {}
    process: Mapping[str, Any] = spec.get("process") or {}
    return (
        {"mount", "pid"} <= kinds
        and kinds.isdisjoint(("user", "time"))
        and not any(namespace.get("path") for namespace in namespaces)
        and not any(hooks.get(kind) for kind in _HOOKS)
        and not {"terminal", "scheduler"} & {name for name, value in process.items() if value}
        and not linux.get("netDevices")
        and can_vfork()
        and not refusals.are_likely()
    )


def spawn(handover: Handover, flags: int) -> tuple[int, int] | None:
    """Have the container built and init executed; return its ``(pid, pidfd)``.

    :return: None where this cannot be: a kernel, or something around us, does not let it.
    """
    work = _Work(handover)
    try:
        return vfork(flags, handover.entrance.birthplace, _LAST_WORDS, work)
    except OSError as error:
        # The cgroup may take nobody: who moves a process there hears why.
        if error.errno in (ENOSYS, EPERM) or handover.entrance.birthplace >= 0:
            return None
        raise


class _Work:
    """What the builder does: to be called in it."""

    def __init__(self, handover: Handover) -> None:
        self._handover = handover
        self._doing = Doing()

    def __call__(self, refused: int = 0) -> tuple[Any, ...] | None:
        """Build; return the call that executes init, or None after a failure."""
        handover = self._handover
        try:
            if refused:
                raise OSError(refused, posix.strerror(refused))
            return _build(handover, self._doing)
        except BaseException as error:
            tell_failure(handover.up, self._doing, error)
            return None


def _build(handover: Handover, doing: Doing) -> tuple[Any, ...]:
    # What is open is each one's own, what is written down of it is not.
    own = handover.twin()
    own.entrance = Entrance(handover.entrance.birthplace, handover.entrance.tasks)
    own.opened = handover.opened.twin()
    ways = (sys.meta_path, sys.path_hooks, sys.path)
    before, cache = [list(way) for way in ways], dict(sys.path_importer_cache)
    close_imports()
    # What is found to be garbage here would close descriptors of this process's alone.
    collects = gc.isenabled()
    gc.disable()
    try:
        return execution_of_init(own.init, *carry_out(own, doing))
    finally:
        for way, entries in zip(ways, before, strict=True):
            way[:] = entries  # type: ignore[index]
        sys.path_importer_cache.update(cache)
        if collects:
            gc.enable()
