"""What only the host's root can open or make for the builder: bind sources, mappings, devices.

The builder, root of a user namespace, may not be let through to a volume, cannot give a mount of
the host's an id mapping, and cannot make a device node. It inherits descriptors of all these.
"""

from __future__ import annotations

import posix
from errno import EINVAL, ENOENT, ENOTDIR, EPERM

from pyrunc.container.making.idmap import user_namespace_with
from pyrunc.errors import Error, reason
from pyrunc.linux import files, mounts, refusals
from pyrunc.linux.files import clean_path
from pyrunc.process.mapped_ids import outside
from pyrunc.rootfs.devices import NODE, is_on_host, mode_of
from pyrunc.rootfs.mount import open_bind_source
from pyrunc.spec.id_mappings import map_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.making.idmap import Ids
    from pyrunc.plan.plan import Plan
    from pyrunc.rootfs.devices import MakeDevice
    from pyrunc.rootfs.mount import BindMount
    from pyrunc.spec.types import Spec
    from pyrunc.step import Opened


def open_for_builder(
    opened: Opened, plan: Plan, spec: Spec, root: str, user_namespace: int, ids: Ids
) -> None:
    """Open what the plan says, into ``opened``.

    :param root: path of the root file system.
    :param user_namespace: descriptor of the user namespace that the container joins, or -1.
    :param ids: how its ids are called here.
    :raises Error: naming what cannot be opened or made.
    """
    refused = _refused_calls()
    for step in plan.opened_by_runtime:
        if refused and not step.mapping:
            # The builder finds it by its path, as root of the container's user namespace.
            continue
        if refused:
            raise Error(f"cannot bind {step.source} with an id mapping: {refused}")
        holder = _mapping_holder(dict(step.mapping), spec, user_namespace)
        if _is_covered(step, spec, root, in_user_namespace=plan.namespaces.private("user")):
            if holder >= 0:
                opened.holders[step.index] = holder
            continue
        opened.sources[step.index] = _open_source(step, holder)
        if holder >= 0:
            posix.close(holder)
    for device in plan.devices_of_runtime:
        on_host = is_on_host(device)
        if on_host and (refused or not device.strict):
            # The builder binds the host's, as it is.
            continue
        if refused:
            raise Error(f"cannot {device.describe()}: {refused}")
        try:
            opened.devices[device.path] = _make_node(device, ids)
        except OSError as error:
            if error.errno != EPERM or not on_host:
                raise Error(f"cannot {device.describe()}: {reason(error)}") from None


def _refused_calls() -> str:
    """Say which calls are refused that mounts attached nowhere take; nothing when none is."""
    if not refusals.are_likely():
        return ""
    from pyrunc.linux.mounts_by_path import calls_refused

    calls = ", ".join(f"{name}(2)" for name in calls_refused())
    why = "refused, by an old kernel or by a seccomp filter around pyrunc"
    return f"{calls} {why}" if calls else ""


def _open_source(step: BindMount, holder: int) -> int:
    try:
        tree = open_bind_source(step.source, step.options)
    except OSError as error:
        raise Error(f"cannot bind {step.source}: {reason(error)}") from None
    if holder >= 0:
        try:
            mounts.map_ids(tree, holder, recursive=step.options.recursive_idmap)
        except OSError as error:
            why = f"{reason(error)}{_why_not_mapped(step.source, error)}"
            raise Error(f"cannot bind {step.source} with an id mapping: {why}") from None
    return tree


def _why_not_mapped(source: str, error: OSError) -> str:
    """Say what mount_setattr(2) means by its errno for an id mapping."""
    if error.errno == EPERM:
        return "; it has an id mapping already, or its file system is not this user's to map"
    if error.errno != EINVAL:
        return ""
    place = posix.open(source, files.O_PATH | files.O_CLOEXEC)
    mount_id = ""
    for line in files.read_file(f"/proc/self/fdinfo/{place}").decode().splitlines():
        if line.startswith("mnt_id:"):
            mount_id = line.split()[1]
    posix.close(place)
    kind = ""
    for line in files.read_file("/proc/self/mountinfo").decode("utf-8", "replace").splitlines():
        if line.split(" ", 1)[0] == mount_id:
            kind = line.partition(" - ")[2].split(" ")[0] + " "
    return f"; this kernel has no id mappings for {kind}file systems"


def _mapping_holder(mapping: dict[str, str], spec: Spec, user_namespace: int) -> int:
    """Return a user namespace that has the mapping, -1 for none; the container's may not be yet."""
    if not mapping:
        return -1
    if "container" not in mapping:
        return user_namespace_with(mapping)
    if user_namespace >= 0:
        return posix.dup(user_namespace)
    linux = spec.get("linux", {})
    return user_namespace_with(
        {
            "uid_map": map_lines(linux.get("uidMappings") or []),
            "gid_map": map_lines(linux.get("gidMappings") or []),
        }
    )


def _is_covered(step: BindMount, spec: Spec, root: str, *, in_user_namespace: bool) -> bool:
    """Tell whether a mount made before in the container may cover what we would find.

    Whatever lies in the root file system is opened by the builder therefore; but an id mapping
    takes rights that root of a user namespace lacks, so there it must really be covered.
    """
    inside = _path_inside(root, step.source)
    if not inside:
        return False
    if not (step.mapping and in_user_namespace):
        return True
    before = (clean_path(mount["destination"]) for mount in spec["mounts"][: step.index])
    return any(inside == place or inside.startswith(f"{place}/") for place in before)


def _path_inside(root: str, source: str) -> str:
    """Return where in the root file system ``source`` is, or would be; nothing if it is not."""
    real_root = _real_path(root).rstrip("/")
    path, missing = source, ""
    while True:
        try:
            found = _real_path(path)
        except OSError as error:
            if error.errno not in (ENOENT, ENOTDIR):
                return ""
            path, _, name = path.rstrip("/").rpartition("/")
            path, missing = path or "/", f"/{name}{missing}"
            continue
        if found == real_root or found.startswith(f"{real_root}/"):
            return clean_path(found[len(real_root) :] + missing)
        return ""


def _real_path(path: str) -> str:
    descriptor = posix.open(path, files.O_PATH | files.O_CLOEXEC)
    try:
        return posix.readlink(f"/proc/self/fd/{descriptor}")
    finally:
        posix.close(descriptor)


def _make_node(device: MakeDevice, ids: Ids) -> int:
    """Make the device in a tmpfs of its own, with the mode and owner of the config.

    It is the container's, and not a name of the host's: what is changed there changes nothing
    here. An owner that the user namespace does not map stays nobody's.

    :raises OSError: EPERM without CAP_MKNOD, for one.
    """
    holder = mounts.new_filesystem("tmpfs", "tmpfs", ("mode=755", "size=4k"), 0)
    try:
        number = posix.makedev(device.major, device.minor)
        posix.mknod(NODE, mode_of(device), number, dir_fd=holder)
        node = posix.open(NODE, files.O_PATH | files.O_NOFOLLOW | files.O_CLOEXEC, dir_fd=holder)
        here = f"/proc/self/fd/{node}"
        posix.chown(here, outside(ids.uids, device.uid), outside(ids.gids, device.gid))
        # The umask took bits from mknod's mode.
        posix.chmod(here, device.mode)
        posix.close(node)
    except OSError:
        posix.close(holder)
        raise
    return holder
