"""User namespace mappings: written for a process, or held by one for id-mapped mounts."""

from __future__ import annotations

import posix
from errno import EINVAL, ENOENT, EPERM

from pyrunc.errors import Error, reason
from pyrunc.linux import files, mounts
from pyrunc.linux import processes as p
from pyrunc.process.descriptors import close_all_but
from pyrunc.process.guard import Failed, Program, run_in_turn
from pyrunc.rootfs.mount import open_bind_source
from pyrunc.spec.id_mappings import MOST_BYTES, map_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from pyrunc.rootfs.mount import BindMount
    from pyrunc.spec.types import IDMapping, Spec

_HELPERS = {"uid_map": "newuidmap", "gid_map": "newgidmap"}
_HELPER_DIRECTORIES = ("/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin")


def write_mappings(pid: int, spec: Spec, *, rootless: bool) -> None:
    """Write ``linux.uidMappings`` and ``gidMappings`` for the user namespace that ``pid`` is in.

    Without root, a mapping of more than the caller's own ids takes the setuid
    helpers newuidmap(1) and newgidmap(1). Root of a user namespace needs them as little as
    real root: it may hand on what it has, which the helpers' files know nothing of.

    :raises Error: naming the mapping and what the kernel or the helper said.
    """
    unprivileged = rootless and posix.geteuid() != 0
    linux = spec.get("linux", {})
    uids, gids = linux.get("uidMappings") or [], linux.get("gidMappings") or []
    for name, mappings, own in (
        ("uid_map", uids, posix.geteuid()),
        ("gid_map", gids, posix.getegid()),
    ):
        if not mappings:
            continue
        try:
            if unprivileged and not _is_own_id(mappings, own):
                _run_helper(name, pid, mappings)
                continue
            if unprivileged and name == "gid_map":
                # user_namespaces(7): without privilege, giving up setgroups comes first.
                files.write_file(f"/proc/{pid}/setgroups", b"deny")
            files.write_file(f"/proc/{pid}/{name}", _in_one_page(name, mappings))
        except OSError as error:
            hint = "; are the host ids mapped here?" if error.errno == EPERM else ""
            raise Error(f"cannot write {name} of the container: {reason(error)}{hint}") from None


def _in_one_page(name: str, mappings: Sequence[IDMapping]) -> bytes:
    """Return the mapping as the kernel takes it.

    :raises Error: when it is too long for that.
    """
    content = map_lines(mappings).encode()
    if len(content) > MOST_BYTES:
        raise Error(
            f"{name} of the container has {len(content)} bytes, the kernel takes {MOST_BYTES}: "
            "fewer or longer ranges are needed"
        )
    return content


def _is_own_id(mappings: Sequence[IDMapping], own: int) -> bool:
    return len(mappings) == 1 and mappings[0]["size"] == 1 and mappings[0]["hostID"] == own


def _run_helper(name: str, pid: int, mappings: Sequence[IDMapping]) -> None:
    helper = _HELPERS[name]
    arguments = [helper, str(pid), *map_lines(mappings).split()]
    for directory in _HELPER_DIRECTORIES:
        path = f"{directory}/{helper}"
        try:
            posix.stat(path)
        except OSError as error:
            if error.errno != ENOENT:
                raise
            continue
        try:
            run_in_turn([Program(path, arguments, ())])
        except Failed as error:
            raise Error(
                f"{helper} refused the mapping ({error}); "
                f"see /etc/sub{name[:3]} for the ids that are yours"
            ) from None
        return
    raise Error(f"mapping more than one id without root needs {helper} (package uidmap)")


def open_source(step: BindMount, spec: Spec, user_namespace: int) -> int:
    """Open the source of a bind mount for the builder, id-mapped if the config wants that.

    :param user_namespace: descriptor of the user namespace that the container joins, or -1.
    :raises Error: naming the source.
    """
    try:
        tree = open_bind_source(step.source, step.options)
    except OSError as error:
        raise Error(f"cannot bind {step.source}: {reason(error)}") from None
    if step.mapping:
        holder = _mapping_holder(dict(step.mapping), spec, user_namespace)
        try:
            mounts.set_attributes(
                tree,
                enable=mounts.MOUNT_ATTR_IDMAP,
                user_namespace=holder,
                recursive=step.options.recursive_idmap,
            )
        except OSError as error:
            why = f"{reason(error)}{_why_not_mapped(step.source, error)}"
            raise Error(f"cannot bind {step.source} with an id mapping: {why}") from None
        if holder != user_namespace:
            posix.close(holder)
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
    """Return a user namespace that has the mapping; the container's own may not exist yet."""
    if "container" not in mapping:
        return user_namespace_with(mapping)
    if user_namespace >= 0:
        return user_namespace
    linux = spec.get("linux", {})
    return user_namespace_with(
        {
            "uid_map": map_lines(linux.get("uidMappings") or []),
            "gid_map": map_lines(linux.get("gidMappings") or []),
        }
    )


def user_namespace_with(mapping: dict[str, str]) -> int:
    """Return the descriptor of a new user namespace with this mapping, for MOUNT_ATTR_IDMAP.

    A short-lived child makes it; the descriptor keeps it after the child is gone.
    """
    runtime = posix.getpid()
    pid, pidfd = p.clone(p.CLONE_NEWUSER)
    if pid == 0:
        _wait_for_death(runtime)
    try:
        for name, lines in mapping.items():
            files.write_file(f"/proc/{pid}/{name}", lines.encode())
        return posix.open(f"/proc/{pid}/ns/user", posix.O_RDONLY | files.O_CLOEXEC)
    except OSError as error:
        raise Error(f"cannot make the id mapping of a mount: {reason(error)}") from None
    finally:
        p.pidfd_send_signal(pidfd, p.SIGKILL)
        p.reap(pid, pidfd)
        posix.close(pidfd)


def _wait_for_death(runtime: int) -> NoReturn:
    """Hold nothing, the container's lock least of all, and end with the runtime."""
    try:
        p.die_with_parent(runtime)
        close_all_but(())
        while True:
            p.poll((), 3600)
    finally:
        posix._exit(1)
