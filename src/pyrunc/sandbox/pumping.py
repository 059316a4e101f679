"""All input in, all output out, of pipes that belong to somebody else."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from pyrunc.sandbox.waiting import READABLE, WRITABLE, Wait

if TYPE_CHECKING:
    from collections.abc import Sequence

_AT_ONCE = 1 << 16
#: A pipe that poll(2) calls writable takes at least as much without blocking (PIPE_BUF, pipe(7)).
_CERTAIN = 4096


async def pump(descriptors: Sequence[int], input: bytes) -> tuple[bytes, bytes]:
    """Write ``input`` to the first descriptor, read the other two to their ends; -1 is none.

    The first one is closed by the caller, who has the file: so it is replaced by the null device,
    which the process sees as the end of its input.
    """
    stdin = descriptors[0]
    left = memoryview(input)
    pieces: dict[int, list[bytes]] = {d: [] for d in descriptors[1:] if d >= 0}
    watched = dict.fromkeys(pieces, READABLE)
    if stdin >= 0:
        watched[stdin] = WRITABLE
    while watched:
        for descriptor in await Wait(watched):
            if descriptor == stdin:
                left = left[_write(stdin, left[:_CERTAIN]) :] if left else left
                if not left:
                    _end(stdin)
                    del watched[stdin]
                continue
            piece = os.read(descriptor, _AT_ONCE)
            pieces[descriptor].append(piece)
            if not piece:
                del watched[descriptor]
    stdout, stderr = (b"".join(pieces.get(d, ())) for d in descriptors[1:])
    return stdout, stderr


def _write(descriptor: int, piece: memoryview) -> int:
    try:
        return os.write(descriptor, piece)
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
        # It reads no more: as if all were written.
        return 1 << 62


def _end(descriptor: int) -> None:
    null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, descriptor, inheritable=False)
    os.close(null)
