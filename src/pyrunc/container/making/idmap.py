"""User namespace mappings: written for a process, or held by one for id-mapped mounts."""

from __future__ import annotations

import posix
from errno import ENOENT, EPERM

from pyrunc.errors import Error, reason
from pyrunc.linux import files
from pyrunc.linux import processes as p
from pyrunc.process.descriptors import close_all_but
from pyrunc.process.guard import Failed, Program, run_in_turn
from pyrunc.process.mapped_ids import id_mapping
from pyrunc.spec.id_mappings import MOST_BYTES, map_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

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
    path = _find(helper)
    if not path:
        raise Error(f"mapping more than one id without root needs {helper} (package uidmap)")
    try:
        run_in_turn([Program(path, arguments, ())])
    except Failed as error:
        raise Error(
            f"{helper} refused the mapping ({error}); "
            f"see /etc/sub{name[:3]} for the ids that are yours"
        ) from None


def missing_helpers() -> list[str]:
    """Return which of newuidmap(1) and newgidmap(1) are not there, or out of our reach."""
    missing = []
    for helper in _HELPERS.values():
        try:
            if _find(helper):
                continue
        except OSError:
            pass
        missing.append(helper)
    return missing


def _find(helper: str) -> str:
    """Return the path of a helper; nothing where it is missing."""
    for directory in _HELPER_DIRECTORIES:
        path = f"{directory}/{helper}"
        try:
            posix.stat(path)
        except OSError as error:
            if error.errno != ENOENT:
                raise
            continue
        return path
    return ""


class Ids:
    """How the ids of a container's user namespace are called here: ``(inside, outside, count)``."""

    __slots__ = ("gids", "uids")

    def __init__(self, uids: list[tuple[int, int, int]], gids: list[tuple[int, int, int]]) -> None:
        self.uids = uids
        self.gids = gids


def ids_of(spec: Spec, user_namespace: int, path: str) -> Ids:
    """Return the mapping of the container's user namespace: the config's, or the joined one's.

    :param user_namespace: the one that is joined, at ``path``, or -1.
    :raises Error: when the config tells of another mapping than the joined one has. Files and
        devices would be given to users that are not the container's.
    """
    linux = spec.get("linux", {})
    told = Ids(_ranges(linux.get("uidMappings")), _ranges(linux.get("gidMappings")))
    if user_namespace < 0:
        return told
    try:
        found = _ids_of_namespace(user_namespace)
    except OSError as error:
        raise Error(f"cannot join user namespace {path}: {reason(error)}") from None
    for name, asked, has in (
        ("linux.uidMappings", told.uids, found.uids),
        ("linux.gidMappings", told.gids, found.gids),
    ):
        if asked and _joined(asked) != _joined(has):
            raise Error(
                f"{name} is {_text(asked)}, but user namespace {path}, which is joined, has "
                f"{_text(has)}; leave {name} out, or say the same"
            )
    return found


def _ranges(mappings: Sequence[IDMapping] | None) -> list[tuple[int, int, int]]:
    return [(m["containerID"], m["hostID"], m["size"]) for m in mappings or ()]


def _joined(ranges: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Return as few ranges as mean the same, in order."""
    joined: list[tuple[int, int, int]] = []
    for inside, out, count in sorted(ranges):
        if joined:
            first, first_out, before = joined[-1]
            if inside - first == before == out - first_out:
                joined[-1] = (first, first_out, before + count)
                continue
        joined.append((inside, out, count))
    return joined


def _text(ranges: list[tuple[int, int, int]]) -> str:
    return ", ".join(f"{inside}:{out}:{count}" for inside, out, count in ranges) or "none"


def _ids_of_namespace(user_namespace: int) -> Ids:
    """Ask the kernel, through a short-lived child in it: a namespace itself does not tell."""
    runtime = posix.getpid()
    ready, inside = posix.pipe2(files.O_CLOEXEC)
    pid, pidfd = p.clone(0)
    if pid == 0:
        _enter(user_namespace, inside, runtime)
    posix.close(inside)
    try:
        if failure := int(posix.read(ready, 8) or EPERM):
            raise OSError(failure, posix.strerror(failure))
        return Ids(id_mapping(pid, "uid_map"), id_mapping(pid, "gid_map"))
    finally:
        posix.close(ready)
        p.pidfd_send_signal(pidfd, p.SIGKILL)
        p.reap(pid, pidfd)
        posix.close(pidfd)


def _enter(user_namespace: int, inside: int, runtime: int) -> NoReturn:
    """Go there and say so by a 0, or by the errno that says why not; wait to be looked at."""
    try:
        close_all_but((user_namespace, inside))
        # Who is there may see this, in the host's pid namespace, and must not be able to trace it:
        # the kernel does not see to that where root owns the user namespace.
        p.prctl(p.PR_SET_DUMPABLE, 0)
        p.setns(user_namespace, p.CLONE_NEWUSER)
        # Only now: with the new capabilities the kernel forgets the order.
        p.die_with_parent(runtime)
        posix.write(inside, b"0")
        while True:
            p.poll((), 3600)
    except OSError as error:
        posix.write(inside, b"%d" % (error.errno or EPERM))
    finally:
        posix._exit(1)


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
