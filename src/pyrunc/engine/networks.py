"""Network namespaces of sandboxes: each is used again, as long as nothing was ever done in it.

To make one, bring its loopback interface up and take it away is a fifth of what the kernel does for
a container, and most programs never open a socket. What a program could leave in such a namespace
for the next one, without any capability and with /proc/sys read-only, is seen in its counters: they
must be what they were before the first program ran, to the byte, with no socket left.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyrunc.spec.types import Spec

#: Below /proc/PID/net: interfaces with their packets; what was sent, received or refused; labels
#: that outlive their socket for a while.
_COUNTERS = ("dev", "snmp", "snmp6", "ip6_flowlabel")
_SOCKETS = "sockstat"
_NO_SOCKET = b"sockets: used 0\n"
#: How many unused ones are kept; more than that are never used at a time for long.
_MOST = 8


class Network:
    """A namespace that a container was made with; nothing has run in it but our own."""

    def __init__(self, pid: int) -> None:
        """Take that of a process.

        :raises OSError: when there is nothing to see of it.
        """
        self.namespace = -1
        self._counters: list[int] = []
        self._sockets = -1
        try:
            self.namespace = _open(f"/proc/{pid}/ns/net")
            self._sockets = _open(f"/proc/{pid}/net/{_SOCKETS}")
            for name in _COUNTERS:
                try:
                    self._counters.append(_open(f"/proc/{pid}/net/{name}"))
                except FileNotFoundError:
                    # A kernel without IPv6.
                    continue
            self._as_made = self._counted()
        except BaseException:
            self.close()
            raise

    def _counted(self) -> list[bytes]:
        # Read from its beginning, such a file tells how things are now.
        return [os.pread(counter, 65536, 0) for counter in self._counters]

    @property
    def is_untouched(self) -> bool:
        """Whether nothing was ever done in it, nor is there a socket of it anywhere."""
        return (
            os.pread(self._sockets, len(_NO_SOCKET), 0) == _NO_SOCKET
            and self._counted() == self._as_made
        )

    def close(self) -> None:
        """Let go of it: it ends with the last process or socket in it."""
        for descriptor in (self.namespace, self._sockets, *self._counters):
            if descriptor >= 0:
                os.close(descriptor)
        self.namespace = self._sockets = -1
        self._counters.clear()


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def network_of(pid: int) -> Network | None:
    """Return that of a process, before anything has run in it; None if it cannot be watched."""
    try:
        return Network(pid)
    except OSError:
        return None


class Networks:
    """Those that no container uses at the moment."""

    def __init__(self) -> None:
        #: Those that were looked at, and others; what was put back first comes first.
        self._like_new: list[Network] = []
        self._unused: list[Network] = []

    def look(self) -> None:
        """Look at one that was put back, in which nobody is any more, so that take() need not."""
        if self._unused and self._unused[0].is_untouched:
            self._like_new.append(self._unused.pop(0))

    def take(self) -> Network | None:
        """Return one that is like new, if there is one."""
        if self._like_new:
            return self._like_new.pop(0)
        while self._unused:
            # The one that was put back last may have sockets that the kernel is yet to free.
            network = self._unused.pop(0)
            if network.is_untouched:
                return network
            network.close()
        return None

    def put_back(self, network: Network) -> None:
        """Keep one in which no process is any more, for another container."""
        if len(self._unused) + len(self._like_new) < _MOST:
            self._unused.append(network)
        else:
            network.close()


def may_pass_on(spec: Spec) -> bool:
    """Tell whether a container's network namespace may be another's later.

    It must have been made for it, and by the host's root: a user namespace owns those that are
    made in it.
    """
    linux: Any = spec.get("linux", {})
    kinds = {namespace["type"] for namespace in linux.get("namespaces") or ()}
    return (
        "network" in kinds
        and "user" not in kinds
        and "/proc/sys" in (linux.get("readonlyPaths") or ())
        and not linux.get("sysctl")
    )
