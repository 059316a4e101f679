"""Messages between a program and its engine: a marshalled value and descriptors, one packet each.

The sockets are of type SOCK_SEQPACKET, so a message arrives whole, and several threads may send
at once. What is too large for a packet goes through a memory file. Both ends are of one program
and one Python, and nobody else has the socket: marshal is safe here, and quick.
"""

from __future__ import annotations

import marshal
import os
import socket
from array import array
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Larger ones go through a memory file: far below the smallest buffer of a socket (socket(7)).
_LARGEST_PACKET = 32 << 10
_MOST_DESCRIPTORS = 16


def packed(value: Any) -> bytes:
    """Return a value as one that messages can carry unopened: equal for what is equal."""
    # A later version tells apart what is the same object, and what only is equal.
    return marshal.dumps(value, 2)


def unpacked(content: bytes) -> Any:
    """Return the value that was packed."""
    return marshal.loads(content)


def pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a new line."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def line_of(descriptor: int) -> socket.socket:
    """Return the end of a line that a descriptor is of, which is the socket's from now on."""
    # Not told what it is, it would find out by three system calls.
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, descriptor)


def send(line: socket.socket, message: Any, descriptors: Sequence[int] = ()) -> None:
    """Send ``message``, of what marshal knows, with ``descriptors``.

    :raises OSError: when the other side is gone.
    :raises BlockingIOError: when the line is full and does not block; nothing was sent then.
    """
    content = marshal.dumps(message)
    memory = -1
    passed = list(descriptors)
    if len(content) > _LARGEST_PACKET:
        memory = os.memfd_create("message", os.MFD_CLOEXEC)
        with open(os.dup(memory), "wb") as file:
            file.write(content)
        content = b""
        passed.append(memory)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", passed))] if passed else []
    try:
        # A marshalled value is never empty, so that one more byte tells where it is.
        line.sendmsg([b"f" if memory >= 0 else b"m", content], rights, socket.MSG_NOSIGNAL)
    finally:
        if memory >= 0:
            os.close(memory)


def tell(line: socket.socket, kind: str, value: Any, descriptors: Sequence[int] = ()) -> None:
    """Send a message of this kind, for whoever may not be there any more."""
    try:
        send(line, (kind, value), descriptors)
    except OSError:
        # Nobody wants to know any more.
        return


def receive(line: socket.socket) -> tuple[Any, list[int]] | None:
    """Return the next message and its descriptors (close-on-exec); None when the line has ended.

    :raises BlockingIOError: when there is none yet on a line that does not block.
    """
    room = socket.CMSG_SPACE(_MOST_DESCRIPTORS * 4)
    try:
        content, ancillary, _, _ = line.recvmsg(_LARGEST_PACKET + 1, room, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        # The other side has closed without reading all of ours. That is told once, before what it
        # had sent: the next call has that, or the end.
        content, ancillary, _, _ = line.recvmsg(_LARGEST_PACKET + 1, room, socket.MSG_CMSG_CLOEXEC)
    descriptors = array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    if not content:
        return None
    passed = list(descriptors)
    if content[:1] == b"f":
        with open(passed.pop(), "rb") as file:
            file.seek(0)
            return marshal.loads(file.read()), passed
    return marshal.loads(memoryview(content)[1:]), passed
