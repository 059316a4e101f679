"""What a whole config may hold: the top of config.md, and what ties its sections together."""

from __future__ import annotations

from pyrunc.spec.id_mappings import id_mappings
from pyrunc.spec.kinds import (
    FINE,
    MISSING,
    absolute_path,
    array,
    below,
    boolean,
    integer,
    mapping,
    members,
    path,
    show,
    text,
    texts,
    wrong,
)
from pyrunc.spec.linux import linux, without_namespaces
from pyrunc.spec.process import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.spec.kinds import Kind, Mistake, Mistakes

HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")

#: __NEW_UTS_LEN of the kernel, for the host name and the domain name.
_LONGEST_HOSTNAME = 64


def _version(value: object) -> Mistakes:
    """Take the versions this runtime knows: SemVer 2.0.0, major version 1."""
    words = "a version of the OCI runtime specification such as 1.3.0"
    if type(value) is not str:
        return wrong(words, value)
    numbers, plus, build = value.partition("+")
    numbers, dash, before_release = numbers.partition("-")
    core = numbers.split(".")
    if (
        len(core) != 3
        or not all(_is_number(number) for number in core)
        or (plus and not _are_identifiers(build))
        or (dash and not _are_identifiers(before_release, numbers_are_plain=True))
    ):
        return wrong(words, value)
    if core[0] != "1":
        return (("", "version 1 of the OCI runtime specification", f"version {show(value)}"),)
    return FINE


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit() and (word == "0" or word[0] != "0")


def _are_identifiers(words: str, numbers_are_plain: bool = False) -> bool:
    """Tell whether SemVer takes ``words`` after its ``-`` or ``+``."""
    return all(
        word.isascii()
        and word.replace("-", "0").isalnum()
        and not (numbers_are_plain and word.isdigit() and not _is_number(word))
        for word in words.split(".")
    )


def _host_name(value: object) -> Mistakes:
    if not text(value) and len(str(value).encode(errors="replace")) <= _LONGEST_HOSTNAME:
        return FINE
    return wrong(f"a name of at most {_LONGEST_HOSTNAME} bytes", value)


def _annotation_name(value: object) -> Mistakes:
    return FINE if value != "" else wrong("a name", value)


def _any_string(value: object) -> Mistakes:
    return FINE if type(value) is str else wrong("a string", value)


def _both_mappings(mount: dict[str, Any]) -> Mistakes:
    for given, other in (("uidMappings", "gidMappings"), ("gidMappings", "uidMappings")):
        if mount.get(given) and not mount.get(other):
            return ((other, f"mappings, as there are {given}", show(mount.get(other, MISSING))),)
    return FINE


def _bind_has_source(mount: dict[str, Any]) -> Mistakes:
    """Without one the bundle itself would be bound, config and all."""
    options = mount.get("options", ())
    binds = mount.get("type") == "bind" or "bind" in options or "rbind" in options
    if binds and "remount" not in options and not mount.get("source"):
        return wrong("the path of what to bind", mount.get("source", MISSING), "source")
    return FINE


_hooks: Kind = array(
    members(
        {"path": absolute_path, "args": texts, "env": texts, "timeout": integer(1, 2**63 - 1)},
        required=("path",),
    )
)


def _types(config: dict[str, Any]) -> set[str]:
    namespaces = config.get("linux", {}).get("namespaces", ())
    return {namespace["type"] for namespace in namespaces}


def _names_in_uts_namespace(config: dict[str, Any]) -> Mistakes:
    mistakes: list[Mistake] = []
    if "uts" not in _types(config):
        for name in ("hostname", "domainname"):
            if config.get(name):
                found = f"none: unable to set {name} without a private UTS namespace"
                mistakes.append((name, '"uts" in linux.namespaces', found))
    return mistakes


def _idmap_has_mappings(config: dict[str, Any]) -> Mistakes:
    """An idmapped mount takes its mappings from the mount or from the user namespace."""
    mistakes: list[Mistake] = []
    has_user_namespace: bool | None = None
    for index, mount in enumerate(config.get("mounts", ())):
        options = mount.get("options", ())
        if ("idmap" in options or "ridmap" in options) and not mount.get("uidMappings"):
            if has_user_namespace is None:
                has_user_namespace = "user" in _types(config)
            if not has_user_namespace:
                words = "uidMappings and gidMappings, or a user namespace, for idmap"
                mistakes.append((f"mounts[{index}]", words, "neither"))
    return mistakes


def lacking(config: Any, kinds: set[str]) -> Mistakes:
    """Return what of a config that has been checked needs a namespace of one of these types.

    For those that turn out not to be the container's own, but the host's.
    """
    linux = config.get("linux", {})
    kept = [entry for entry in linux.get("namespaces", ()) if entry["type"] not in kinds]
    changed = {**config, "linux": {**linux, "namespaces": kept}}
    return (
        *_names_in_uts_namespace(changed),
        *_idmap_has_mappings(changed),
        *below("linux", without_namespaces(changed["linux"])),
    )


config = members(
    {
        "ociVersion": _version,
        "root": members({"path": path, "readonly": boolean}, required=("path",)),
        "process": process,
        "hostname": _host_name,
        "domainname": _host_name,
        "mounts": array(
            members(
                {
                    "destination": path,
                    "type": text,
                    "source": text,
                    "options": texts,
                    "uidMappings": id_mappings,
                    "gidMappings": id_mappings,
                },
                required=("destination",),
                rules=(
                    (("uidMappings", "gidMappings"), _both_mappings),
                    (("type", "source", "options"), _bind_has_source),
                ),
            )
        ),
        "hooks": members(dict.fromkeys(HOOKS, _hooks)),
        "annotations": mapping(_any_string, _annotation_name),
        "linux": linux,
    },
    required=("ociVersion", "root"),
    rules=(
        (("linux.namespaces", "hostname", "domainname"), _names_in_uts_namespace),
        (("linux.namespaces", "mounts"), _idmap_has_mappings),
    ),
)
