"""Handing a descriptor over a unix socket, without the ``socket`` module (2 ms at import)."""

from __future__ import annotations

import posix
from _struct import pack, unpack_from
from errno import EPROTO

from pyrunc.linux.libc import address_of, cstring, syscall
from pyrunc.linux.numbers import SYS

_AF_UNIX = 1
_SOCK_STREAM = 1
SOCK_DGRAM = 2
SOCK_SEQPACKET = 5
_SOCK_CLOEXEC = 0o2000000
_SOL_SOCKET = 1
_SCM_RIGHTS = 1
#: sizeof(sun_path) in unix(7), less the closing zero byte.
_LONGEST_PATH = 107


def connect_unix(path: str, kind: int = _SOCK_STREAM) -> int:
    """Connect to the socket at ``path`` and return the descriptor.

    A path longer than a socket address holds is reached through its directory.
    """
    name = cstring(path)
    if len(name) <= _LONGEST_PATH + 1:
        return socket_at("connect", kind, name)
    parent, _, base = path.rpartition("/")
    directory = posix.open(parent or "/", posix.O_PATH | posix.O_CLOEXEC)
    try:
        return socket_at("connect", kind, cstring(f"/proc/self/fd/{directory}/{base}"))
    finally:
        posix.close(directory)


def socket_at(call: str, kind: int, name: bytes) -> int:
    """Make a unix socket, connect or bind it to the address ``name``, and return the descriptor.

    :param call: ``"connect"`` or ``"bind"``.
    :param name: a path with a zero byte at its end, or a name after one (unix(7), "abstract").
    """
    socket = syscall(SYS["socket"], _AF_UNIX, kind | _SOCK_CLOEXEC, 0)
    try:
        address = pack("=H", _AF_UNIX) + name
        syscall(SYS[call], socket, address, len(address))
    except BaseException:
        posix.close(socket)
        raise
    return socket


def send_descriptor(socket: int, descriptor: int, text: bytes) -> None:
    """Send ``text`` with ``descriptor`` attached, in one message (unix(7), SCM_RIGHTS)."""
    body = bytearray(text)
    vector = bytearray(pack("=QQ", address_of(body), len(text)))
    control = bytearray(pack("=Qiii4x", 20, _SOL_SOCKET, _SCM_RIGHTS, descriptor))
    # struct msghdr: name, its length, vector, its length, control, its length, flags.
    message = pack("=QI4xQQQQi4x", 0, 0, address_of(vector), 1, address_of(control), 24, 0)
    syscall(SYS["sendmsg"], socket, message, 0x4000)  # MSG_NOSIGNAL


def socket_pair(kind: int = _SOCK_STREAM) -> tuple[int, int]:
    """Return two unix sockets of this kind that are connected to each other (socketpair(2))."""
    pair = bytearray(8)
    syscall(SYS["socketpair"], _AF_UNIX, kind | _SOCK_CLOEXEC, 0, pair)
    return unpack_from("=i", pair)[0], unpack_from("=i", pair, 4)[0]


def receive_descriptor(socket: int) -> int:
    """Wait for a message of one byte with a descriptor, and return that (close-on-exec)."""
    descriptor = receive(socket, 1)[1]
    if descriptor < 0:
        raise OSError(EPROTO, "a message without a descriptor")
    return descriptor


def receive(socket: int, limit: int) -> tuple[bytes, int]:
    """Wait for a message of at most ``limit`` bytes; return it with its descriptor, or -1.

    The message is empty once the other side has closed. The descriptor is close-on-exec.
    """
    body, control = bytearray(limit), bytearray(24)
    vector = bytearray(pack("=QQ", address_of(body), limit))
    message = bytearray(
        pack("=QI4xQQQQi4x", 0, 0, address_of(vector), 1, address_of(control), 24, 0)
    )
    length = syscall(SYS["recvmsg"], socket, message, 0x40000000)  # MSG_CMSG_CLOEXEC
    descriptor = -1
    header = unpack_from("=Qii", control)
    if unpack_from("=Q", message, 40)[0] and header == (20, _SOL_SOCKET, _SCM_RIGHTS):
        descriptor = unpack_from("=i", control, 16)[0]
    return bytes(memoryview(body)[:length]), descriptor
