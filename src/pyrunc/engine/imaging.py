"""Images unpacked where the ids are that their files belong to: in an engine's user namespace.

Another process does it, which takes away what is half done when the engine ends before it.
"""

from __future__ import annotations

import signal
from functools import partial
from typing import TYPE_CHECKING, Any

from pyrunc.engine.worker import collect, work
from pyrunc.errors import Error

if TYPE_CHECKING:
    import socket
    from typing import NoReturn

    from pyrunc.engine.ids import Ids
    from pyrunc.engine.watch import Watch


def unpack(request: dict[str, Any], ids: Ids, line: socket.socket, watch: Watch) -> None:
    """Have an image unpacked, and the program told of it."""
    pidfd = work(line, partial(_unpack, request["path"], request["kept"], ids.key))
    watch.add(pidfd, lambda: collect(watch, pidfd))
    line.close()


def _unpack(path: str, kept: str, key: str) -> dict[str, Any]:
    # Imported here: most engines unpack nothing.
    from pyrunc.images import store

    signal.signal(signal.SIGTERM, _give_up)
    if key:
        # With other ids its files would belong to others.
        store.make_directory(kept)
        kept = f"{kept}/ids-{key}"
    return {**store.unpacked(path, kept, owns=bool(key)).described(), "ids": key}


def _give_up(*_: object) -> NoReturn:
    # The keeper, which is our parent then, ends as well: taking away goes on.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Error("the engine has ended")
