"""What state.json holds, and whether it does: every member has its type, down to the last.

The record is ours, but a full disk, a careless hand or another version may have left anything
there. What is wrong is found here, once, so that nobody who reads a record has to expect it.
"""

from __future__ import annotations

from pyrunc.errors import Error
from pyrunc.spec import json_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypedDict

    from pyrunc.spec.types import Hooks

    class Record(TypedDict, total=False):
        """What state.json holds."""

        format: int
        ociVersion: str
        id: str
        bundle: str
        rootfs: str
        created: str
        owner: str
        ownerUid: int
        annotations: dict[str, str]
        #: "creating" until create is done.
        phase: str
        pid: int
        startTime: int
        #: The CRIU that is restoring it, as pid and startTime are of init.
        criu: dict[str, int]
        cgroup: dict[str, Any]
        namespaces: dict[str, str]
        hooks: Hooks
        rootless: bool
        #: Without a pid namespace of its own, the death of init does not end the others.
        sharedPidNamespace: bool
        #: Made with --no-new-keyring: `exec` makes none either.
        noNewKeyring: bool
        intelRdt: dict[str, Any]


RECORD_FORMAT = 1
REMEDY = "delete --force removes it"
_NEEDED = ("ociVersion", "bundle", "rootfs", "created", "pid", "startTime", "id", "phase", "cgroup")
#: What a record of another form is still asked for: to find processes and cgroups, to run hooks.
_SALVAGED = ("pid", "startTime", "criu", "cgroup", "sharedPidNamespace", "hooks", "intelRdt")
#: The kernel's highest number of a process and then some (proc_sys_kernel(5), pid_max).
_HIGHEST_PID = (1 << 31) - 1


def parse(text: bytes, container_id: str) -> dict[str, Any]:
    """Return the members of a record, whatever they are.

    :raises Error: when it has none.
    """
    try:
        record = json_text.parse(text)
    except Error as error:
        raise Error(
            f"the state of container {container_id} is damaged: {error}; {REMEDY}"
        ) from None
    if not isinstance(record, dict):
        raise Error(f"the state of container {container_id} is damaged; {REMEDY}")
    return record


def record_in(text: bytes, container_id: str) -> Record:
    """Return the record, every member of which is what it must be.

    :raises Error: when it is damaged: ``delete --force`` removes it.
    """
    record = parse(text, container_id)
    if record.get("format") != RECORD_FORMAT:
        raise Error(
            f"the state of container {container_id} is not one that this version can read; {REMEDY}"
        )
    if wrong := first_wrong(record, container_id):
        raise Error(f"the state of container {container_id} is damaged: {wrong!r}; {REMEDY}")
    return record  # type: ignore[return-value]


def first_wrong(record: dict[str, Any], container_id: str) -> str:
    """Return the name of the first member that is missing or is not what it must be, or ""."""
    for name in _NEEDED:
        if name not in record:
            return name
    kind_of = _KINDS.get
    for name, value in record.items():
        kind = kind_of(name)
        # Half of them are texts: a call for each would take half as long again.
        if kind is _text:
            if type(value) is not str or "\0" in value:
                return name
        elif kind is not None and not kind(value):
            return name
    return "" if record["id"] == container_id else "id"


def salvaged(record: dict[str, Any]) -> Record:
    """Return those members of a damaged record that can be relied on."""
    return {  # type: ignore[return-value]
        name: record[name] for name in _SALVAGED if name in record and _KINDS[name](record[name])
    }


def _text(value: object) -> bool:
    return type(value) is str and "\0" not in value


def _truth(value: object) -> bool:
    return type(value) is bool


def _number(most: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and 0 <= value <= most


def _path(value: object) -> bool:
    """A path of the host's, or none; where it leads is checked when it is used."""
    return _text(value) and str(value)[:1] in ("/", "")


def _texts(value: object) -> bool:
    if type(value) is not dict:
        return False
    return not value or all(_text(x) for pair in value.items() for x in pair)


def _paths(value: object) -> bool:
    """A table of paths; written for speed, as there is one in each record."""
    if type(value) is not dict:
        return False
    try:
        joined = "\0".join(value.values())
    except TypeError:
        return False
    seams = len(value) - 1
    if joined[:1] == "/" and joined.count("\0/") == joined.count("\0") == seams:
        return "\0" not in "".join(value)
    return all(_text(name) and _path(path) for name, path in value.items())


def _cgroup(value: object) -> bool:
    if type(value) is not dict or value.get("version", 1) not in (0, 1, 2):
        return False
    if not value:
        return True
    return (
        type(value.get("version")) is int
        and _paths(value.get("paths"))
        and (value["version"] != 2 or _path(value.get("mount")))
        and _truth(value.get("ignoreErrors", False))
        and ("systemd" not in value or _scope(value["systemd"]))
    )


def _scope(value: object) -> bool:
    return (
        type(value) is dict
        and _text(value.get("unit"))
        and _text(value.get("slice"))
        and _truth(value.get("user"))
    )


def _hooks(value: object) -> bool:
    return type(value) is dict and all(
        type(hooks) is list and all(_hook(hook) for hook in hooks) for hooks in value.values()
    )


def _hook(value: object) -> bool:
    return (
        type(value) is dict
        and _text(value.get("path"))
        and value["path"][:1] == "/"
        and all(
            type(value.get(name, [])) is list and all(_text(x) for x in value.get(name, []))
            for name in ("args", "env")
        )
        and _number((1 << 63) - 1)(value.get("timeout", 1))
    )


def _rdt(value: object) -> bool:
    return (
        type(value) is dict
        and all(_path(value.get(name, "")) for name in ("path", "monitoring"))
        and all(_truth(value.get(name, False)) for name in ("created", "removable"))
    )


def _process(value: object) -> bool:
    return (
        type(value) is dict
        and _number(_HIGHEST_PID)(value.get("pid"))
        and _number((1 << 63) - 1)(value.get("startTime"))
    )


_KINDS: dict[str, Callable[[object], bool]] = {
    "ociVersion": _text,
    "id": _text,
    "bundle": _text,
    "rootfs": _text,
    "created": _text,
    "owner": _text,
    "ownerUid": _number((1 << 32) - 1),
    "annotations": _texts,
    "phase": _text,
    "pid": _number(_HIGHEST_PID),
    "startTime": _number((1 << 63) - 1),
    "criu": _process,
    "cgroup": _cgroup,
    "hooks": _hooks,
    "rootless": _truth,
    "sharedPidNamespace": _truth,
    "noNewKeyring": _truth,
    "intelRdt": _rdt,
}
