"""A /dev that sandboxes share whose users could not change one of their own.

It is made once, as every container's is, and bound read-only: neither its files nor their modes,
owners and times can be changed from there. Terminals and shared memory are each one's own.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pyrunc.engine.prepared import has_capabilities
from pyrunc.engine.roots import mount_on
from pyrunc.linux import mounts as m
from pyrunc.rootfs.devices import DEFAULT_DEVICES, LINKS

if TYPE_CHECKING:
    from pyrunc.spec.types import Spec

_OWN = ("pts", "shm")


class SharedDev:
    """The /dev of one engine's sandboxes."""

    def __init__(self, directory: str) -> None:
        self._path = f"{directory}/@dev"
        #: Whether it is there; None while nobody has wanted it.
        self._is_made: bool | None = None

    def give(self, spec: Spec) -> None:
        """Have a container use it in place of the tmpfs that its config asks for, if it may."""
        if not _may_share(spec):
            return
        if self._is_made is None:
            self._is_made = self._make()
        if not self._is_made:
            return
        for mount in spec["mounts"]:
            if mount["destination"] == "/dev":
                kept = [name for name in mount["options"] if name in ("nosuid", "noexec")]
                mount["type"], mount["source"] = "bind", self._path
                mount["options"] = ["bind", "ro", *kept]

    def _make(self) -> bool:
        """Make it; tell whether this host lets us."""
        try:
            os.mkdir(self._path, 0o755)
            options = ("mode=755", "size=64k")
            mount_on(self._path, m.new_filesystem("tmpfs", "tmpfs", options, 0))
            for path, major, minor in DEFAULT_DEVICES:
                here = f"{self._path}/{path.rpartition('/')[2]}"
                os.mknod(here, 0o020666, os.makedev(major, minor))
                # The umask took bits from mknod's mode.
                os.chmod(here, 0o666)
            for name in _OWN:
                os.mkdir(f"{self._path}/{name}", 0o755)
            links = [*LINKS, ("ptmx", "pts/ptmx")]
            if os.path.lexists("/proc/kcore"):
                links.append(("core", "/proc/kcore"))
            for name, target in links:
                os.symlink(target, f"{self._path}/{name}")
        except OSError:
            # A container around us has no CAP_MKNOD, say: a builder knows what to do then.
            return False
        return True


def _may_share(spec: Spec) -> bool:
    """Tell whether a container asks for the usual /dev, for a program that cannot write to it."""
    process: Any = spec["process"]
    linux: Any = spec["linux"]
    mounts = [mount for mount in spec["mounts"] if f"{mount['destination']}/".startswith("/dev/")]
    return (
        (process.get("user") or {}).get("uid", 0) != 0
        and not has_capabilities(process)
        and not process.get("terminal")
        and not linux.get("devices")
        and not any(namespace["type"] == "user" for namespace in linux["namespaces"])
        and {mount["destination"] for mount in mounts} == {"/dev", *(f"/dev/{n}" for n in _OWN)}
        and all(mount.get("type") != "bind" for mount in mounts)
    )
