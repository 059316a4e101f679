"""Network interfaces, addresses and routes, through rtnetlink(7)."""

from __future__ import annotations

import posix
from _struct import pack, unpack_from
from errno import EINTR

from pyrunc.linux import processes as p
from pyrunc.linux.libc import syscall
from pyrunc.linux.numbers import SYS

RTM_NEWLINK = 16
RTM_GETLINK = 18
RTM_NEWADDR = 20
RTM_GETADDR = 22
RTM_NEWROUTE = 24
RTM_GETROUTE = 26

IFLA_IFNAME = 3
IFLA_NET_NS_FD = 28
IFF_UP = 1

_AF_NETLINK = 16
_SOCK_RAW = 3
_SOCK_CLOEXEC = 0o2000000
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_REQUEST = 1
_ACKNOWLEDGE = 4
_DUMP = 0x300
#: if_link.h, if_addr.h and rtnetlink.h: NLM_F_EXCL | NLM_F_CREATE.
_MAKE_NEW = 0x600
_LARGEST_MESSAGE = 1 << 16


class Link:
    """A network interface as the kernel describes it."""

    __slots__ = ("flags", "index", "name")

    def __init__(self, index: int, name: str, flags: int) -> None:
        self.index = index
        self.name = name
        self.flags = flags


class Netlink:
    """A netlink socket. It stays in the network namespace that it was made in. Close it."""

    def __init__(self) -> None:
        self._socket = syscall(SYS["socket"], _AF_NETLINK, _SOCK_RAW | _SOCK_CLOEXEC, 0)

    @classmethod
    def inside(cls, namespace: int) -> Netlink:
        """Open a socket in another network namespace, given as a descriptor."""
        own = posix.open("/proc/self/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            p.setns(namespace, p.CLONE_NEWNET)
            try:
                return cls()
            finally:
                p.setns(own, p.CLONE_NEWNET)
        finally:
            posix.close(own)

    def close(self) -> None:
        """Close the socket; it kept the namespace in being."""
        posix.close(self._socket)

    def links(self) -> list[Link]:
        """Return all interfaces."""
        found = []
        for body in self._dump(RTM_GETLINK, pack("=BxHiII", 0, 0, 0, 0, 0)):
            # struct ifinfomsg: family, type, index, flags, change.
            index, flags = unpack_from("=iI", body, 4)
            name = attributes(body[16:]).get(IFLA_IFNAME, b"")
            found.append(Link(index, name.rstrip(b"\0").decode("utf-8", "surrogateescape"), flags))
        return found

    def change_link(self, index: int, *, up: bool = False, **attributes: bytes) -> None:
        """Change an interface: ``ifname``, ``net_ns_fd``; and set it up.

        :raises OSError: when the kernel refuses.
        """
        flag = IFF_UP if up else 0
        body = pack("=BxHiII", 0, 0, index, flag, flag)
        for number, name in ((IFLA_NET_NS_FD, "net_ns_fd"), (IFLA_IFNAME, "ifname")):
            if name in attributes:
                body += attribute(number, attributes[name])
        self._request(RTM_NEWLINK, _ACKNOWLEDGE, body)

    def addresses(self) -> list[bytes]:
        """Return all addresses, each as a struct ifaddrmsg with its attributes."""
        return self._dump(RTM_GETADDR, pack("=BBBBI", 0, 0, 0, 0, 0))

    def routes(self) -> list[bytes]:
        """Return all routes, each as a struct rtmsg with its attributes."""
        return self._dump(RTM_GETROUTE, bytes(12))

    def add(self, kind: int, body: bytes) -> None:
        """Add an address or a route (RTM_NEWADDR, RTM_NEWROUTE).

        :raises OSError: when the kernel refuses, as it does with one that is there.
        """
        self._request(kind, _ACKNOWLEDGE | _MAKE_NEW, body)

    def _dump(self, kind: int, body: bytes) -> list[bytes]:
        """Return all that there is of a kind; again when it changed meanwhile (NLM_F_DUMP_INTR)."""
        while True:
            try:
                return self._request(kind, _DUMP, body)
            except InterruptedError:
                continue

    def _request(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        # struct nlmsghdr: length, type, flags, sequence, port.
        header = pack("=IHHII", 16 + len(body), kind, _REQUEST | flags, 0, 0)
        posix.write(self._socket, header + body)
        found: list[bytes] = []
        interrupted = False
        while True:
            text = posix.read(self._socket, _LARGEST_MESSAGE)
            at = 0
            while at < len(text):
                length, answer, marks = unpack_from("=IHH", text, at)
                content = text[at + 16 : at + length]
                at += length + 3 & ~3
                interrupted = interrupted or bool(marks & 0x10)
                if answer == _NLMSG_ERROR:
                    code = -unpack_from("=i", content)[0]
                    if code:
                        raise OSError(code, posix.strerror(code))
                    return found
                if answer == _NLMSG_DONE:
                    if interrupted:
                        raise InterruptedError(EINTR, posix.strerror(EINTR))
                    return found
                found.append(content)


def attribute(number: int, value: bytes) -> bytes:
    """Return a struct rtattr, padded."""
    return pack("=HH", 4 + len(value), number) + value + bytes(-len(value) % 4)


def attributes(text: bytes) -> dict[int, bytes]:
    """Return the attributes that follow a message's fixed part."""
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(text):
        length, number = unpack_from("=HH", text, at)
        if length < 4:
            break
        found[number & 0x3FFF] = text[at + 4 : at + length]
        at += length + 3 & ~3
    return found
