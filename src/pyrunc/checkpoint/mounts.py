"""Which of a container's mounts come from outside: CRIU leaves those out, and has to be told at
restore what to bind there instead.

A mount is known by its place as the container sees it. Where it comes from is written down in terms
of the config, not of the host: at restore the bundle, the host's paths and the cgroups may be
others.
"""

from __future__ import annotations

import posix

from pyrunc.errors import Error
from pyrunc.linux import files
from pyrunc.linux.files import clean_path
from pyrunc.linux.mounts_by_path import unescaped
from pyrunc.rootfs.options import parse_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pyrunc.spec.types import Mount, Spec

    #: ``("bind", DESTINATION, REST)``: what is at REST below the source of the config's mount on
    #: DESTINATION; ``("device", PATH, "")``: the host's device of that path; ``("cgroup",
    #: CONTROLLER, "")``: the container's directory in that v1 hierarchy, or with "" in that of v2.
    Source = tuple[str, str, str]

_NULL = "/dev/null"


class MountPoint:
    """A line of mountinfo (proc_pid_mountinfo(5))."""

    __slots__ = ("attributes", "id", "kind", "options", "parent", "place", "root")

    def __init__(self, line: bytes) -> None:
        before, _, after = line.partition(b" - ")
        fields = before.split(b" ")
        self.id = int(fields[0])
        self.parent = int(fields[1])
        self.root = _text(fields[3])
        self.place = _text(fields[4])
        #: The mount's own: "ro", "nosuid" …
        self.attributes = _text(fields[5]).split(",")
        self.kind, _, self.options = map(_text, after.split(b" ", 2))


def _text(field: bytes) -> str:
    return unescaped(field).decode("utf-8", "surrogateescape")


def mounts_of(pid: int) -> dict[int, MountPoint]:
    """Return the mounts that a process sees, by their ids."""
    lines = files.read_file(f"/proc/{pid}/mountinfo").splitlines()
    return {mount.id: mount for mount in map(MountPoint, lines)}


def binds(spec: Spec) -> Iterator[tuple[str, Mount]]:
    """Return the bind mounts of a config, each with its destination."""
    for entry in spec.get("mounts", ()):
        options = parse_options(entry.get("options", ()))
        if (options.bind or entry.get("type") == "bind") and not options.remount:
            yield clean_path(entry["destination"]), entry


def from_outside(pid: int, spec: Spec) -> dict[str, Source]:
    """Return the mounts of a running container that come from outside, by their place.

    :raises Error: naming one that CRIU can neither save nor leave out.
    """
    there = mounts_of(pid)
    root = posix.open(f"/proc/{pid}/root", files.O_PATH | files.O_DIRECTORY | files.O_CLOEXEC)
    found: dict[str, Source] = {}
    try:
        for destination, entry in binds(spec):
            bound = there.get(_mount_at(root, destination), None)
            if bound is None or bound.place == "/":
                continue
            if entry.get("uidMappings") or {"idmap", "ridmap"} & set(entry.get("options", ())):
                raise Error(f"the mount on {destination} has mapped ids, which CRIU cannot save")
            for mount in _with_all_below(bound.id, there):
                rest = mount.place[len(bound.place) :]
                found[mount.place] = ("bind", destination, rest)
        for mount in there.values():
            if mount.place not in found and (source := _source(root, mount)):
                found[mount.place] = source
    finally:
        posix.close(root)
    return found


def _mount_at(root: int, path: str) -> int:
    """Return the id of the mount that ``path`` below ``root`` is on; -1 when it is not there."""
    try:
        there = files.open_in_root(root, path)
    except OSError:
        return -1
    try:
        return mount_id(f"/proc/self/fdinfo/{there}")
    finally:
        posix.close(there)


def mount_id(fdinfo: str) -> int:
    """Return the id of the mount that a descriptor is on, from its file in /proc/PID/fdinfo."""
    for line in files.read_file(fdinfo).splitlines():
        if line.startswith(b"mnt_id:"):
            return int(line.split()[1])
    return -1


def _with_all_below(top: int, there: Mapping[int, MountPoint]) -> Iterator[MountPoint]:
    yield there[top]
    for mount in there.values():
        if mount.parent == top and mount.id != top:
            yield from _with_all_below(mount.id, there)


def _source(root: int, mount: MountPoint) -> Source | None:
    """Return where a mount comes from that no entry of the config's names, if from outside."""
    if mount.kind in ("cgroup", "cgroup2") and mount.root != "/":
        # The container's own directory of the host, as we see it: it may have a cgroup namespace.
        # The one hierarchy of v2 has options, as "nsdelegate", but no controller's name.
        names = mount.options.split(",") if mount.kind == "cgroup" else []
        return "cgroup", _controller(names), ""
    if mount.root == "/" or mount.kind in ("devpts", "proc", "sysfs", "mqueue"):
        return None
    try:
        node = files.open_in_root(root, mount.place)
    except OSError:
        return None
    try:
        status = posix.stat(node)
    finally:
        posix.close(node)
    if status.st_mode & files.S_IFMT not in (files.S_IFCHR, files.S_IFBLK):
        return None
    if status.st_rdev == posix.makedev(1, 3):
        # A masked file.
        return "device", _NULL, ""
    return "device", mount.place, ""


def _controller(options: list[str]) -> str:
    """Return the controller of a v1 hierarchy, from its super options: "rw,cpu,cpuacct"."""
    for name in options:
        if name.startswith("name=") or name not in ("rw", "ro", "xattr", "clone_children"):
            return name
    return ""


def sources(
    outside: Mapping[str, Source], spec: Spec, bundle: str, cgroups: Mapping[str, str]
) -> dict[str, str]:
    """Return what to bind on restore: a path of the host by place.

    :param cgroups: the new container's directories, by controller.
    :raises Error: when the config lacks one.
    """
    bound = {destination: entry.get("source", "") for destination, entry in binds(spec)}
    found = {}
    for place, (kind, name, rest) in outside.items():
        if kind == "bind":
            if name not in bound:
                raise Error(
                    f"the saved container had a bind mount on {name}, the config has none: "
                    "add one to its mounts"
                )
            source = bound[name]
            path = source if source[:1] == "/" else clean_path(f"{bundle}/{source}")
            found[place] = f"{path}{rest}"
        elif kind == "cgroup":
            if name not in cgroups:
                raise Error(f"the saved container had cgroup {name!r} on {place}: there is none")
            found[place] = cgroups[name]
        else:
            found[place] = _device(name)
    return found


def _device(path: str) -> str:
    """:raises Error: when the host has no such device: nothing else is bound by name."""
    try:
        kind = posix.stat(path, follow_symlinks=False).st_mode & files.S_IFMT
    except OSError:
        kind = 0
    if kind not in (files.S_IFCHR, files.S_IFBLK) or not path.startswith("/dev/"):
        raise Error(f"the saved container had the host's device {path}: there is none")
    return path


def expected(spec: Spec) -> dict[str, Source]:
    """Return what must come from outside by the config alone: for images without a manifest."""
    found: dict[str, Source] = {place: ("bind", place, "") for place, _ in binds(spec)}
    # runc gives all masked files this one name.
    found[_NULL] = ("device", _NULL, "")
    return found
