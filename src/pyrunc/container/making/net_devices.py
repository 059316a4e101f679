"""Moving network interfaces of the host into the container (config-linux.md, "Network Devices").

The kernel moves an interface without its addresses and routes, and down. What was set up by
somebody (permanent addresses of global scope, routes that the kernel did not make by itself) is
set up again on the other side. When anything fails, all interfaces go back with all they had.
"""

from __future__ import annotations

import posix
from _struct import pack, unpack, unpack_from
from errno import EEXIST

from pyrunc.errors import Error, reason
from pyrunc.linux import rtnetlink as rt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyrunc.spec.types import NetDevice

# if_addr.h
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_IFA_CACHEINFO, _IFA_RT_PRIORITY, _IFA_PROTO = 6, 9, 11
_KEPT_OF_ADDRESSES = (_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_RT_PRIORITY, _IFA_PROTO)
_PERMANENT = 0x80
#: NODAD, HOMEADDRESS, MANAGETEMPADDR, NOPREFIXROUTE, MCAUTOJOIN: what an administrator chooses.
_CHOSEN_FLAGS = 0x02 | 0x10 | 0x100 | 0x200 | 0x400
_SCOPE_UNIVERSE = 0
# rtnetlink.h
_RTA_OIF, _RTA_GATEWAY, _RTA_CACHEINFO, _RTA_VIA = 4, 5, 12, 18
#: RTA_MULTIPATH, RTA_NH_ID: routes that are about more than one interface.
_RTA_SHARED = {9, 30}
#: Routes by redirects, of the kernel's own, and from router advertisements come by themselves.
_NOT_CHOSEN_PROTOCOLS = (1, 2, 9)
_RTN_UNICAST = 1
_RTM_F_CLONED = 0x200


class _Device:
    """An interface, and what is to be set up again wherever it goes."""

    def __init__(self, netlink: rt.Netlink, link: rt.Link) -> None:
        self.name = link.name
        self.was_up = bool(link.flags & rt.IFF_UP)
        #: Those for ever go along, those with a lifetime are only brought back.
        self.addresses, self.temporary = _addresses(netlink, link.index)
        self.routes = _routes(netlink, link.index)
        #: Its number inside; 0 until it is there.
        self.inside = 0


class NetDevices:
    """The interfaces that a container being made has been given. Close it when that is over."""

    def __init__(self, pid: int) -> None:
        """Make ready to move interfaces to the network namespace of process ``pid``.

        :raises Error: when it is the one that the interfaces are in.
        """
        self._namespace = posix.open(f"/proc/{pid}/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
        self._own = posix.open("/proc/self/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
        there, here = posix.fstat(self._namespace), posix.fstat(self._own)
        if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino):
            raise Error("cannot move network devices: the container's network is the host's")
        self._host = rt.Netlink()
        self._inside = rt.Netlink.inside(self._namespace)
        self._moved: list[_Device] = []

    def move(self, devices: Mapping[str, NetDevice]) -> None:
        """Move ``linux.netDevices`` into the container; they are up then.

        :raises Error: naming the one that could not be moved; call :meth:`restore` then.
        """
        for name, device in devices.items():
            inside = device.get("name") or name
            try:
                self._move(name, inside)
            except OSError as error:
                why = reason(error)
                if error.errno == EEXIST:
                    why = f"the container has a device named {inside} already"
                raise Error(
                    f"cannot move network device {name} into the container: {why}"
                ) from None

    def restore(self) -> list[str]:
        """Bring back what was moved, as it was; return what could not be done, a line each."""
        failed = []
        for device in reversed(self._moved):
            try:
                name = _name(device.name)
                self._inside.change_link(
                    device.inside, net_ns_fd=pack("=i", self._own), ifname=name
                )
                index = _find(self._host, device.name).index
                addresses = device.addresses + device.temporary
                _set_up(self._host, index, addresses, device.routes, up=device.was_up)
            except (OSError, Error) as error:
                failed.append(f"cannot bring back network device {device.name}: {reason(error)}")
        self._moved.clear()
        return failed

    def close(self) -> None:
        """Let go of the namespaces; what was moved stays."""
        self._host.close()
        self._inside.close()
        posix.close(self._namespace)
        posix.close(self._own)

    def _move(self, name: str, name_inside: str) -> None:
        link = _find(self._host, name)
        before = self._inside.links()
        if any(other.name == name_inside for other in before):
            raise OSError(EEXIST, posix.strerror(EEXIST))
        device = _Device(self._host, link)
        try:
            # The kernel moves it, and then gives it the name: that may fail in between.
            self._host.change_link(
                link.index, net_ns_fd=pack("=i", self._namespace), ifname=_name(name_inside)
            )
        finally:
            known = {other.index for other in before}
            new = [other for other in self._inside.links() if other.index not in known]
            if new:
                device.inside = new[0].index
                self._moved.append(device)
        _set_up(self._inside, device.inside, device.addresses, device.routes, up=True)


def _find(netlink: rt.Netlink, name: str) -> rt.Link:
    for link in netlink.links():
        if link.name == name:
            return link
    raise Error(f"cannot find network device {name}: there is none of this name")


def _name(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape") + b"\0"


def _addresses(netlink: rt.Netlink, index: int) -> tuple[list[bytes], list[bytes]]:
    """Return the addresses of global scope, the permanent ones and those with a lifetime.

    They are messages without an index, ready to take one.
    """
    permanent: list[bytes] = []
    temporary: list[bytes] = []
    for body in netlink.addresses():
        # struct ifaddrmsg: family, prefix length, flags, scope, index.
        family, prefix, flags, scope, of = unpack_from("=BBBBI", body)
        had = rt.attributes(body[8:])
        if _IFA_FLAGS in had:
            flags = unpack("=I", had[_IFA_FLAGS])[0]
        if of != index or scope != _SCOPE_UNIVERSE:
            continue
        kept = b"".join(rt.attribute(n, had[n]) for n in _KEPT_OF_ADDRESSES if n in had)
        kept += rt.attribute(_IFA_FLAGS, pack("=I", flags & _CHOSEN_FLAGS))
        message = pack("=BBBBI", family, prefix, 0, scope, 0) + kept
        if flags & _PERMANENT:
            permanent.append(message)
        else:
            temporary.append(message + rt.attribute(_IFA_CACHEINFO, had.get(_IFA_CACHEINFO, b"")))
    return permanent, temporary


def _routes(netlink: rt.Netlink, index: int) -> list[bytes]:
    """Return the routes through an interface that somebody set, those without a gateway first."""
    found = []
    for body in netlink.routes():
        # struct rtmsg: family, lengths of destination and source, type of service, table,
        # protocol, scope, type, flags.
        protocol, kind, flags = body[5], body[7], unpack_from("=I", body, 8)[0]
        had = rt.attributes(body[12:])
        if (
            protocol in _NOT_CHOSEN_PROTOCOLS
            or kind != _RTN_UNICAST
            or flags & _RTM_F_CLONED
            or _RTA_SHARED & had.keys()
            or had.get(_RTA_OIF) != pack("=I", index)
        ):
            continue
        # Whether it is "onlink" is asked for; dead or linkdown it is by itself.
        kept = body[:8] + pack("=I", flags & 0x4)
        kept += b"".join(
            rt.attribute(n, value)
            for n, value in had.items()
            if n not in (_RTA_OIF, _RTA_CACHEINFO)
        )
        found.append((_RTA_GATEWAY in had or _RTA_VIA in had, kept))
    return [route for _, route in sorted(found, key=lambda entry: entry[0])]


def _set_up(
    netlink: rt.Netlink, index: int, addresses: list[bytes], routes: list[bytes], *, up: bool
) -> None:
    """Give an interface its addresses and routes on the side where it is now."""
    if up:
        netlink.change_link(index, up=True)
    for address in addresses:
        # The kernel keeps some itself (IPv6 ones, with keep_addr_on_down).
        _add(netlink, rt.RTM_NEWADDR, address[:4] + pack("=I", index) + address[8:])
    if up:
        for route in routes:
            oif = rt.attribute(_RTA_OIF, pack("=I", index))
            _add(netlink, rt.RTM_NEWROUTE, route + oif)


def _add(netlink: rt.Netlink, kind: int, body: bytes) -> None:
    try:
        netlink.add(kind, body)
    except OSError as error:
        if error.errno != EEXIST:
            raise
