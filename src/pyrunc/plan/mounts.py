"""The mounts of config.json as steps: pure, as all of the plan.

Which step an entry becomes depends on its type and options; what an entry asks for that its
kind of mount cannot do is refused here, before anything is made.
"""

from __future__ import annotations

from pyrunc.errors import Error
from pyrunc.linux.files import clean_path
from pyrunc.rootfs import cgroup_mount, mount
from pyrunc.rootfs.options import MountOptions, parse_options
from pyrunc.spec.id_mappings import map_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.plan.facts import Facts
    from pyrunc.process.namespaces import Namespaces
    from pyrunc.spec.types import Mount, Spec
    from pyrunc.step import Step

#: File systems in which nothing can be made: read-only or not, they have what they have.
_FIXED = ("proc", "sysfs")


def plan_mounts(
    spec: Spec, bundle: str, spaces: Namespaces, facts: Facts, propagation: int
) -> tuple[list[Step], tuple[mount.BindMount, ...]]:
    """Return the steps for ``mounts``, and those whose source the runtime opens.

    :param propagation: ``MS_*`` flags that all mounts of the container have.
    :raises Error: naming the entry that asks for what cannot be done.
    """
    entries = spec.get("mounts", [])
    label = spec.get("linux", {}).get("mountLabel", "")
    if entries and not spaces.private("mount"):
        raise Error("mounts need a mount namespace, but linux.namespaces has none")
    steps: list[Step] = []
    opened: list[mount.BindMount] = []
    later = _read_only_later(spec)
    for index, entry in enumerate(entries):
        step = _mount(
            index,
            entry,
            bundle,
            spaces,
            facts,
            propagation=propagation,
            label=label,
            read_only_later=index in later,
        )
        steps.append(step)
        if isinstance(step, mount.BindMount) and (
            step.mapping or (spaces.private("user") and not facts.rootless)
        ):
            opened.append(step)
    return steps, tuple(opened)


def _mount(
    index: int,
    entry: Mount,
    bundle: str,
    spaces: Namespaces,
    facts: Facts,
    *,
    propagation: int,
    label: str,
    read_only_later: bool,
) -> Step:
    target = clean_path(entry["destination"])
    options = parse_options(entry.get("options", ()))
    kind = entry.get("type", "")
    source = entry.get("source", "")
    if kind == "bind":
        options.bind = True
    _refuse_copy_up(index, target, kind, options)
    if options.remount:
        return mount.Remount(target, options)
    if options.bind:
        if not source.startswith("/"):
            source = clean_path(f"{bundle}/{source}")
        mapping = _mapping(entry, options.idmap)
        if options.data:
            # The kernel would pass over it: what was meant to protect would not.
            raise Error(
                f"mounts[{index}] ({target}): a bind mount has no option {options.data[0]!r}"
            )
        return mount.BindMount(
            index, source, target, options, mapping, propagation, read_only_later
        )
    if options.idmap or entry.get("uidMappings"):
        raise Error(f"mounts[{index}] ({target}): only bind mounts can be id-mapped")
    if kind == "cgroup" or (kind == "cgroup2" and facts.cgroup_version == 2):
        return _cgroup_mount(index, target, options, spaces, facts, label)
    if not kind:
        raise Error(f"mounts[{index}] ({target}) has no type and is not a bind mount")
    return _filesystem(
        index, kind, source or kind, target, options, spaces, label, read_only_later=read_only_later
    )


def _filesystem(
    index: int,
    kind: str,
    source: str,
    target: str,
    options: MountOptions,
    spaces: Namespaces,
    label: str,
    *,
    read_only_later: bool,
) -> Step:
    """Return the step that mounts a file system; what it needs is loaded now, not in the builder.

    That imports nothing.
    """
    fill = None
    if options.copy_up:
        from pyrunc.rootfs.copy_up import copy_up

        fill = copy_up
    if kind in ("proc", "sysfs") or any(o.startswith("context=") for o in options.data):
        # What the kernel shows in these two has labels of its own; another's is left alone.
        label = ""
    layer_by_layer = None
    if kind == "overlay":
        from pyrunc.rootfs.overlay import layer_by_layer  # type: ignore[assignment]
    if kind == "devpts" and not set(options.data) - {"newinstance"}:
        options.data = mount.DEVPTS_OPTIONS
    stand_in = "/sys" if kind == "sysfs" else ""
    if kind == "proc" and not spaces.private("pid"):
        # In a pid namespace of its own it would show all processes of the host.
        stand_in = "/proc"
    opener = None
    if kind == "proc" and "pid" in spaces.joined:
        from pyrunc.process.foreign_proc import ForeignProc

        opener = ForeignProc(in_user_namespace=spaces.private("user"))
    return mount.MountFilesystem(
        index,
        kind,
        source,
        target,
        options,
        fill,
        label,
        stand_in,
        read_only_later,
        layer_by_layer,
        opener,
    )


def _refuse_copy_up(index: int, target: str, kind: str, options: MountOptions) -> None:
    """:raises Error: when there is no new tmpfs that ``tmpcopyup`` could fill."""
    if options.copy_up and (kind != "tmpfs" or options.bind or options.remount):
        raise Error(f"mounts[{index}] ({target}): tmpcopyup is for a new tmpfs")


def make_read_only(spec: Spec) -> list[Step]:
    """Return the steps for the mounts that must stay writable until all in them is made."""
    entries = spec.get("mounts", [])
    return [
        mount.MakeMountReadOnly(index, clean_path(entries[index]["destination"]))
        for index in _read_only_later(spec)
    ]


def _read_only_later(spec: Spec) -> list[int]:
    """Return which mounts become read-only at the end only.

    Every tmpfs, since it is empty, and what something else is to be mounted in, or a device to
    be made in: the place for that may be missing.
    """
    entries = spec.get("mounts", [])
    found: list[int] = []
    for index, entry in enumerate(entries):
        words = entry.get("options", ())
        if "ro" not in words and "rro" not in words:
            continue
        kind = entry.get("type")
        options = parse_options(words)
        if not options.read_only or options.remount or kind in _FIXED:
            continue
        if kind in ("cgroup", "cgroup2") and not options.bind:
            continue
        if (kind == "tmpfs" and not options.bind) or _has_more_below(spec, index):
            found.append(index)
    return found


def _has_more_below(spec: Spec, index: int) -> bool:
    entries = spec["mounts"]
    below = clean_path(entries[index]["destination"]).rstrip("/") + "/"
    places = [entry["destination"] for entry in entries[index + 1 :]]
    places += [device["path"] for device in spec.get("linux", {}).get("devices", ())]
    return any(clean_path(place).startswith(below) for place in places)


def _mapping(entry: Mount, wanted: bool) -> tuple[tuple[str, str], ...]:
    """Return the id mapping of a mount as ``(file, content)``; empty when it has none.

    The word ``container`` stands for the mapping of the container's own user namespace.
    """
    uids, gids = entry.get("uidMappings"), entry.get("gidMappings")
    if uids and gids:
        return (("uid_map", map_lines(uids)), ("gid_map", map_lines(gids)))
    return (("container", ""),) if wanted else ()


def _cgroup_mount(
    index: int, target: str, options: MountOptions, spaces: Namespaces, facts: Facts, label: str
) -> Step:
    namespaced = spaces.private("cgroup")
    if facts.cgroup_version == 2:
        directory = facts.cgroup_paths.get("", "")
        return cgroup_mount.MountCgroupV2(index, target, options, directory, namespaced)
    hierarchies: dict[str, tuple[str, str, str]] = {}
    links: list[tuple[str, str]] = []
    for controller, where in facts.cgroup_mounts.items():
        if not controller:
            continue
        name = where.rpartition("/")[2]
        shared = controller if where not in hierarchies else f"{hierarchies[where][1]},{controller}"
        if controller.startswith("name="):
            shared = f"none,{controller}"
        directory = facts.cgroup_paths.get(controller, "")
        hierarchies[where] = (name, shared, directory)
        if name != controller.removeprefix("name="):
            links.append((controller.removeprefix("name="), name))
    return cgroup_mount.MountCgroupV1(
        index,
        target,
        options,
        tuple(hierarchies.values()),
        tuple(links),
        namespaced,
        label,
    )
