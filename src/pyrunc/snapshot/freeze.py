"""The process that a snapshot is taken of: it stops in one place, and goes on in many."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import gc
import posix
import sys

from pyrunc.errors import Error

from .gaps import fill_gaps
from .rehearsal import TIMES, rehearse
from .started import RESTORED, Started

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def stop(channel: int, started: Started, invoke: Callable[[list[str]], int]) -> Started:
    """Get ready, say through ``channel`` what was loaded from where, and stop.

    Returns only where the snapshot is put back, with ``sys.argv`` and the environment of then.

    :raises Error: when this process cannot be stopped so.
    """
    rehearse(invoke, started.path)
    for _ in range(TIMES):
        _go_on(Started(), [b"pyrunc"], [b"PATH=/bin"], 0, 0, b"list")
    if len(posix.listdir("/proc/self/task")) != 1:
        raise Error("there is more than one thread")
    from pyrunc.linux import _freeze

    names = "\0".join(_files()).encode("utf-8", "surrogateescape")
    posix.write(channel, len(names).to_bytes(4, "little") + names)
    gc.collect()
    fill_gaps()
    gc.freeze()
    try:
        told = _freeze.freeze(channel)
    except RuntimeError as error:
        raise Error(str(error)) from None
    return _go_on(started, *told)


def _files() -> list[str]:
    """Return the files that modules, and init, were read from, but for those that are mapped."""
    from pyrunc.process.seal import INIT

    found = {INIT}
    # launcher/image_finder.py
    images: list[Any] = [finder for finder in sys.meta_path if hasattr(finder, "image")]
    for finder in images:
        found.add(finder.image)
        # The descriptor will not be there.
        finder.close()
    for module in tuple(sys.modules.values()):
        path = getattr(module, "__file__", None)
        origin = getattr(getattr(module, "__spec__", None), "origin", None)
        if path is None or origin in ("built-in", "frozen"):
            continue
        if not any(finder.holds(module.__name__) for finder in images):
            found.add(path)
    return sorted(found)


def _go_on(
    started: Started,
    arguments: list[bytes],
    environment: list[bytes],
    ignored: int,
    began: int,
    unknown: bytes,
) -> Started:
    """Give the interpreter what belongs to this command (``struct handover``)."""
    here: dict[Any, bytes] = posix.environ
    here.clear()
    for entry in environment:
        name, equals, value = entry.partition(b"=")
        if equals:
            here.setdefault(name, value)
    words = [word.decode("utf-8", "surrogateescape") for word in arguments]
    sys.argv[:] = ["pyrunc", *words[1:]]
    sys.orig_argv[:] = words
    while ignored:
        number = ignored.bit_length()
        ignored ^= 1 << (number - 1)
        if _signal.getsignal(number) is not _signal.SIG_IGN:
            # As the interpreter finds it when it starts; 32 and 33 are glibc's.
            try:
                _signal.signal(number, _signal.SIG_IGN)
            except (OSError, ValueError):
                continue
    started.outcome = RESTORED
    started.began = began
    started.unknown = unknown.decode()
    return started
