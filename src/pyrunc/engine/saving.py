"""A box with the program that runs in it, saved: memory by CRIU, the layer as an archive.

CRIU saves a tree of processes below a first one. So the program has to be the container's first
process: what is executed in a container comes from outside and is nobody's child there.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pyrunc.engine.worker import collect, work
from pyrunc.errors import Error, WrongStatus, reason

if TYPE_CHECKING:
    import socket

    from pyrunc.engine.box import Box
    from pyrunc.engine.watch import Watch

#: Beside CRIU's images: what the program that made the sandbox knows of it.
DESCRIPTION = "sandbox.json"


def save(box: Box, request: dict[str, Any], line: socket.socket, watch: Watch) -> None:
    """Have another process save a box, and answer.

    :raises WrongStatus: when it cannot be saved as it is.
    """
    pidfd = work(line, _Saving(box, request).carry_out)
    watch.add(pidfd, lambda: collect(watch, pidfd))
    line.close()


class _Saving:
    def __init__(self, box: Box, request: dict[str, Any]) -> None:
        if box.first is None:
            raise WrongStatus(
                "nothing runs in the sandbox that can be saved: start it with checkpointable=True"
            )
        if others := len(box.processes) - 1:
            raise WrongStatus(
                f"other programs ({others}) run in the sandbox, which cannot be saved with it: "
                "end them first"
            )
        self._box = box
        self._options = request["options"]
        self._description = request["description"]

    def carry_out(self) -> dict[str, int]:
        """Save it; return what that took.

        :raises Error: when it cannot be saved; the program goes on.
        """
        from pyrunc.checkpoint.dump import checkpoint
        from pyrunc.checkpoint.options import CheckpointOptions

        options = CheckpointOptions(
            **self._options,
            stats=True,
            keep_config=True,
            leave_record=True,
            when_saved=self._save_rest,
        )
        return checkpoint(self._box.settings, self._box.id, options)

    def _save_rest(self, images: int) -> None:
        """Write the rest while nothing changes."""
        from pyrunc.engine import layer_archive
        from pyrunc.spec import json_text

        directory = f"/proc/self/fd/{images}"
        try:
            if self._box.layer is not None:
                layer_archive.save(self._box.layer.upper, f"{directory}/{layer_archive.NAME}")
            with open(f"{directory}/{DESCRIPTION}", "w", opener=_for_root) as file:
                file.write(json_text.encode(self._description))
        except BaseException as error:
            for name in (layer_archive.NAME, DESCRIPTION):
                if os.path.exists(f"{directory}/{name}"):
                    os.unlink(f"{directory}/{name}")
            if isinstance(error, OSError):
                raise Error(f"cannot save the sandbox's files: {reason(error)}") from None
            raise


def _for_root(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
