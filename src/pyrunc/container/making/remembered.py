"""What a process that makes many containers need not find out, plan and write out each time.

A plan is a pure function of the config and of facts about the host. Who makes a second container
of the same config, as the library's engine does all the time, knows both already.
"""

from __future__ import annotations

import marshal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyrunc.cgroups.host import Layout
    from pyrunc.container.making.create_options import CreateOptions
    from pyrunc.plan.facts import Facts
    from pyrunc.plan.plan import Plan
    from pyrunc.process.seal import FilledIn
    from pyrunc.spec.types import Spec

#: How many plans are kept; then all are forgotten: whoever has more kinds gains little.
_MOST = 64


class Planned:
    """A plan, the facts that it was made from, and its launch programs as last filled in."""

    __slots__ = ("facts", "filled", "plan", "served")

    def __init__(self, plan: Plan, facts: Facts) -> None:
        self.plan = plan
        self.facts = facts
        self.filled: FilledIn | None = None
        #: The launch program that init is told through a socket, likewise.
        self.served: FilledIn | None = None


class Remembered:
    """What one process remembers of the containers that it has made."""

    __slots__ = ("_planned", "gives_stdio", "layout", "owner")

    def __init__(self) -> None:
        #: How the host's cgroups are mounted, and where among them this process is.
        self.layout: Layout | None = None
        self._planned: dict[bytes, Planned] = {}
        #: The login name of whoever this process works for.
        self.owner = ""
        #: Whether this process can give a container's user its standard streams, as far as known.
        self.gives_stdio = True

    def get(self, key: bytes) -> Planned | None:
        """Return what is known of containers with this :func:`key_of`."""
        return self._planned.get(key) if key else None

    def put(self, key: bytes, planned: Planned) -> None:
        """Remember it, unless the key is empty."""
        if key:
            if len(self._planned) >= _MOST:
                self._planned.clear()
            self._planned[key] = planned


def key_of(spec: Spec, options: CreateOptions, *host: bool) -> bytes:
    """Return what containers have in common that have one plan; nothing for one of its own.

    A container's id and cgroup are in no plan but for that of hooks and of mounts of its cgroup.
    What a config asks of the host that may come and go (namespaces to join, labels) is looked up
    each time.

    :param host: whatever else a plan depends on.
    """
    linux: Mapping[str, Any] = spec.get("linux", {})
    process: Mapping[str, Any] = spec.get("process") or {}
    if (
        spec.get("hooks")
        or options.notify_socket
        or options.console_socket
        or options.pidfd_socket
        or options.pid_file
        or options.preserve_fds
        or linux.get("mountLabel")
        or linux.get("intelRdt")
        or process.get("apparmorProfile")
        or process.get("selinuxLabel")
        or any(namespace.get("path") for namespace in linux.get("namespaces") or ())
        or any(mount.get("type") in ("cgroup", "cgroup2") for mount in spec.get("mounts") or ())
    ):
        return b""
    compared = {**spec, "linux": {**linux, "cgroupsPath": ""}}
    there = (options.network >= 0, options.served is not None)
    flags = (options.held, options.no_pivot, options.no_new_keyring, *there)
    told = (compared, flags, options.bundle, host)
    # The format without references: else equal values would be written differently.
    return marshal.dumps(told, 2)
