"""Intel RDT through the resctrl file system (config-linux.md, "IntelRdt"; resctrl.rst).

A directory of resctrl is a class of service: it shares the last-level cache and the memory
bandwidth out. A directory in its ``mon_groups`` counts what some of its tasks use.
"""

from __future__ import annotations

import posix
from errno import EEXIST, ENOENT, ENOSPC, ESRCH

from pyrunc.errors import Error, reason
from pyrunc.linux import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pyrunc.spec.types import IntelRdt


class Group:
    """The class of service of a container, and its monitoring group."""

    __slots__ = ("created", "monitoring", "path", "removable")

    def __init__(
        self, path: str, *, monitoring: str = "", created: bool = False, removable: bool = False
    ) -> None:
        self.path = path
        #: The monitoring group's directory, or "".
        self.monitoring = monitoring
        #: Whether the directory is of our making; then a failed create takes it back.
        self.created = created
        #: Whether it goes with the container: it was made for it, and by no name of the config.
        self.removable = removable

    def create(self, settings: IntelRdt) -> None:
        """Make or check the directories and write the schemas.

        :raises Error: when a class that must be there is not, when it has other schemas, or
            when the kernel refuses.
        """
        schemas = _schemas(settings)
        named = bool(settings.get("closID"))
        if named and _is_directory(self.path):
            for schema in schemas[: len(schemas) - len(settings.get("schemata") or ())]:
                self._must_have(schema)
        elif named and not schemas:
            raise Error(
                f"cannot use linux.intelRdt.closID {settings['closID']}: there is no directory "
                f"{self.path}; make it, or give its schemata"
            )
        else:
            self.created = _make_directory(self.path)
        for schema in schemas:
            self.write_schema(schema)
        if self.monitoring:
            _make_directory(self.monitoring)

    def write_schema(self, line: str) -> None:
        """Write a line of ``schemata``.

        :raises Error: with what the kernel says of it.
        """
        try:
            files.write_file(f"{self.path}/schemata", f"{line}\n".encode())
        except OSError as error:
            said = _last_command(self.path)
            raise Error(
                f"cannot write {line!r} to {self.path}/schemata: {said or reason(error)}"
            ) from None

    def attach(self, tasks: Iterable[int]) -> None:
        """Put tasks (their children come along) into the class and the monitoring group.

        :raises Error: when the kernel refuses.
        """
        for directory in filter(None, (self.path, self.monitoring)):
            for task in tasks:
                try:
                    files.write_file(f"{directory}/tasks", b"%d" % task)
                except OSError as error:
                    if error.errno != ESRCH:
                        raise Error(
                            f"cannot put {task} into {directory}: {reason(error)}"
                        ) from None

    def destroy(self, *, undo: bool = False) -> None:
        """Remove what goes with the container; with ``undo`` all that was made for it.

        :raises Error: when the kernel refuses.
        """
        directories = [self.monitoring]
        if self.removable or (undo and self.created):
            directories.append(self.path)
        for directory in filter(None, directories):
            try:
                posix.rmdir(directory)
            except OSError as error:
                if error.errno != ENOENT:
                    raise Error(f"cannot remove {directory}: {reason(error)}") from None

    def statistics(self) -> dict[str, Any]:
        """Return ``intel_rdt`` of a stats event: the schemas of the class and what is counted."""
        found: dict[str, Any] = {}
        for name, member in (("L3", "l3_cache_schema"), ("MB", "mem_bw_schema")):
            for directory, suffix in ((_root_of(self.path), "_root"), (self.path, "")):
                if line := _lines(directory).get(name):
                    found[member + suffix] = line
        if not self.monitoring:
            return found
        domains = f"{self.monitoring}/mon_data"
        names = sorted(n for n in _listed(domains) if n.startswith("mon_L3_"))
        for member, counters in (
            ("mbm_stats", ("mbm_total_bytes", "mbm_local_bytes")),
            ("cmt_stats", ("llc_occupancy",)),
        ):
            values = [
                {c: v for c in counters if (v := _counter(f"{domains}/{name}/{c}")) is not None}
                for name in names
            ]
            if any(values):
                found[member] = values
        return found

    def to_state(self) -> dict[str, Any]:
        """Return what :func:`from_state` makes a group of."""
        return {name: getattr(self, name) for name in self.__slots__}

    def _must_have(self, schema: str) -> None:
        """:raises Error: when the class of service has another schema than this line's."""
        kind, wanted = _parse(schema)
        line = _lines(self.path).get(kind, "")
        has = _parse(line)[1]
        if any(has.get(domain) != value for domain, value in wanted.items()):
            raise Error(
                f"cannot use the class of service {self.path}: it has "
                f"{line or f'no schema for {kind}'}, and the config asks for {schema}"
            )


def from_state(state: dict[str, Any]) -> Group:
    """Return the group of a container's record."""
    return Group(
        state.get("path", ""),
        monitoring=state.get("monitoring", ""),
        created=state.get("created", False),
        removable=state.get("removable", False),
    )


def open_group(settings: IntelRdt, container_id: str, root: str = "") -> Group:
    """Return the group of a new container; nothing is made yet.

    :param root: where resctrl is mounted; looked up when it is not given.
    :raises Error: when resctrl is not mounted, or the monitoring group is another's.
    """
    root = root or _mount_point()
    name = settings.get("closID") or container_id
    path = root if name == "/" else f"{root}/{name}"
    monitoring = f"{path}/mon_groups/{container_id}" if settings.get("enableMonitoring") else ""
    if monitoring and _is_directory(monitoring):
        raise Error(f"cannot make {monitoring}: it is there already")
    removable = not settings.get("closID") and not _is_directory(path)
    return Group(path, monitoring=monitoring, removable=removable)


def tasks_of(pids: Iterable[int]) -> list[int]:
    """Return the threads of processes: resctrl knows tasks, not processes."""
    found = []
    for pid in pids:
        found += [int(name) for name in _listed(f"/proc/{pid}/task")]
    return found


def _schemas(settings: IntelRdt) -> list[str]:
    """Return the lines to write, in the order that the specification asks for."""
    lines = [settings.get("l3CacheSchema", ""), settings.get("memBwSchema", "")]
    return [line for line in (*lines, *(settings.get("schemata") or ())) if line]


def _mount_point() -> str:
    """Find the mount of resctrl in proc_pid_mountinfo(5)."""
    text = files.read_file("/proc/self/mountinfo").decode("utf-8", "surrogateescape")
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("resctrl "):
            return before.split(" ")[4]
    raise Error(
        "linux.intelRdt needs the resctrl file system, which is not mounted: "
        "mount -t resctrl resctrl /sys/fs/resctrl, on a machine whose processor has Intel RDT"
    )


def _make_directory(path: str) -> bool:
    """Make a directory; return False when it is there already."""
    try:
        posix.mkdir(path, 0o755)
    except OSError as error:
        if error.errno == EEXIST:
            return False
        why = reason(error)
        if error.errno == ENOSPC:
            why = "the processor has no more of them"
        raise Error(f"cannot make {path}: {why}") from None
    return True


def _is_directory(path: str) -> bool:
    try:
        return posix.stat(path).st_mode & files.S_IFMT == files.S_IFDIR
    except OSError:
        return False


def _root_of(path: str) -> str:
    """Return where resctrl is mounted: only its root has ``info``."""
    return path if _is_directory(f"{path}/info") else path.rpartition("/")[0]


def _last_command(path: str) -> str:
    """Return the kernel's explanation of the last failure."""
    try:
        text = files.read_file(f"{_root_of(path)}/info/last_cmd_status").decode().strip()
    except OSError:
        return ""
    return "" if text == "ok" else text


def _lines(path: str) -> dict[str, str]:
    """Return the lines of ``schemata`` by their kind: L3, MB, L3CODE and so on."""
    try:
        text = files.read_file(f"{path}/schemata").decode()
    except OSError:
        return {}
    stripped = (line.strip() for line in text.splitlines())
    return {line.partition(":")[0]: line for line in stripped if line}


def _parse(line: str) -> tuple[str, dict[str, str]]:
    """Split ``L3:0=00ff;1=f`` into its kind, and the values by domain without leading zeros."""
    kind, _, rest = line.partition(":")
    values = {}
    for entry in rest.split(";"):
        domain, _, value = entry.partition("=")
        if domain.strip():
            values[domain.strip()] = value.strip().lower().lstrip("0") or "0"
    return kind.strip(), values


def _listed(path: str) -> list[str]:
    try:
        return posix.listdir(path)
    except OSError:
        return []


def _counter(path: str) -> int | None:
    """Return a counter, or None when there is none, or when it cannot be told now."""
    try:
        return int(files.read_file(path))
    except (OSError, ValueError):
        return None
