"""Files of a container in and out, where only the engine has the ids that they belong to.

The program itself does this elsewhere (:mod:`pyrunc.engine.box_files` is for both). What is opened
is handed over as a descriptor; trees are copied by another process, as that takes its time.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from pyrunc.engine import box_files, messages
from pyrunc.engine.worker import collect, work

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from pyrunc.engine.box import Box
    from pyrunc.engine.watch import Watch

_OPENED: dict[str, Callable[..., int]] = {
    "open_to_read": box_files.open_to_read,
    "open_to_write": box_files.open_to_write,
}
_COPIED: dict[str, Callable[..., None]] = {"put": box_files.put, "get": box_files.get}


def handle(box: Box, request: dict[str, Any], line: socket.socket, watch: Watch) -> None:
    """Do what a program asks for, and answer.

    :raises FileFailure: when a file cannot be opened.
    """
    doing, arguments = request["doing"], request["arguments"]
    root = box.open_root()
    try:
        if open_ := _OPENED.get(doing):
            opened = open_(root, *arguments)
            try:
                messages.tell(line, "done", None, (opened,))
            finally:
                os.close(opened)
        else:
            copy = partial(_copy, _COPIED[doing], root, arguments, request["umask"])
            pidfd = work(line, copy, kept=root)
            watch.add(pidfd, lambda: collect(watch, pidfd))
    finally:
        os.close(root)
    # Where there is another process, that one answers.
    line.close()


def _copy(copy: Callable[..., None], root: int, arguments: list[Any], umask: int) -> None:
    # What is made outside is the program's.
    os.umask(umask)
    copy(root, *arguments)
