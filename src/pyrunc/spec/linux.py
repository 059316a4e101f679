"""What ``linux`` may hold besides resources and seccomp: the tables of config-linux.md."""

from __future__ import annotations

from pyrunc.spec.id_mappings import id_mappings
from pyrunc.spec.kinds import (
    FINE,
    absolute_path,
    absolute_path_or_empty,
    array,
    below,
    boolean,
    id_number,
    integer,
    join,
    key,
    line,
    mapping,
    members,
    number_list,
    one_of,
    show,
    text,
    uint32,
    wrong,
)
from pyrunc.spec.process import repeated
from pyrunc.spec.resources import resources
from pyrunc.spec.seccomp import seccomp
from pyrunc.spec.sysctl import outside_namespaces, sysctl_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.spec.kinds import Kind, Mistake, Mistakes

NAMESPACES = ("cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts")
PROPAGATIONS = (
    "private",
    "shared",
    "slave",
    "unbindable",
    # Beyond the specification: Docker writes the recursive names.
    "rprivate",
    "rshared",
    "rslave",
    "runbindable",
    "",
)
MEMORY_POLICY_MODES = (
    "MPOL_DEFAULT",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_WEIGHTED_INTERLEAVE",
    "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY",
    "MPOL_LOCAL",
)
MEMORY_POLICY_FLAGS = ("MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES")

#: Modes with nodes that MPOL_F_NUMA_BALANCING does not go with.
_NOT_BALANCED = ("MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED")

_LONGEST_INTERFACE_NAME = 15

_int64 = integer(-(2**63), 2**63 - 1)


_namespace_list = array(
    members({"type": one_of(*NAMESPACES), "path": absolute_path_or_empty}, required=("type",))
)


def _namespaces(value: object) -> Mistakes:
    return _namespace_list(value) or repeated(value, "type")  # type: ignore[arg-type]


def _paths(value: object) -> Mistakes:
    """Take an array of absolute paths."""
    if type(value) is list:
        for element in value:
            if type(element) is not str or element[:1] != "/" or "\0" in element:
                break
        else:
            return FINE
    return _absolute_paths(value)


_absolute_paths = array(absolute_path)


def _cgroups_path(value: object) -> Mistakes:
    if type(value) is str and "\0" not in value and ".." not in value.split("/"):
        return FINE
    return wrong('a path without ".." components', value)


def _device_has_numbers(device: dict[str, Any]) -> Mistakes:
    mistakes: list[Mistake] = []
    if device["type"] != "p":
        for name in ("major", "minor"):
            if name not in device:
                mistakes.append((name, "the number of the device", "nothing"))
    return mistakes


def _interface(template: bool) -> Kind:
    """Take what the kernel takes as the name of a network interface (dev_valid_name)."""

    def check(value: object) -> Mistakes:
        if type(value) is str:
            name = value.removesuffix("%d") if template else value
            if (
                0 < len(value.encode(errors="replace")) <= _LONGEST_INTERFACE_NAME
                and name not in (".", "..")
                and not any(letter in "/:%\0" or letter.isspace() for letter in name)
            ):
                return FINE
            if template and not value:
                return FINE
        return wrong("the name of a network interface, shorter than 16 bytes", value)

    return check


def _closid(value: object) -> Mistakes:
    """Take the name of a directory of resctrl, or ``/`` for its root."""
    if not line(value) and value not in ("", ".", "..") and (value == "/" or "/" not in str(value)):
        return FINE
    return wrong("the name of a class of service", value)


def _memory_bandwidth(value: object) -> Mistakes:
    if not line(value) and str(value).startswith("MB:"):
        return FINE
    return wrong("one line that starts with MB:", value)


def _policy_fits_mode(policy: dict[str, Any]) -> Mistakes:
    """Return what set_mempolicy(2) would refuse."""
    mode, nodes, flags = policy["mode"], policy.get("nodes", ""), policy.get("flags", [])
    listed = nodes.strip(" ,")
    fixed = [flag for flag in flags if flag != "MPOL_F_NUMA_BALANCING"]
    mistakes: list[Mistake] = []
    if mode in ("MPOL_DEFAULT", "MPOL_LOCAL"):
        if listed:
            found = f"invalid memory policy: {show(nodes)}"
            mistakes.append(("nodes", f"no nodes with {mode}", found))
        if flags:
            mistakes.append(("flags", f"no flags with {mode}", f"invalid memory policy: {flags}"))
    elif not listed and mode != "MPOL_PREFERRED":
        mistakes.append(("nodes", f"at least one node with {mode}", "invalid memory policy: none"))
    elif not listed and fixed:
        found = f"invalid memory policy: none, but {fixed[0]}"
        mistakes.append(("nodes", "at least one node", found))
    if len(set(fixed)) > 1:
        found = "invalid memory policy: both"
        mistakes.append(("flags", "one of MPOL_F_RELATIVE_NODES, MPOL_F_STATIC_NODES", found))
    if "MPOL_F_NUMA_BALANCING" in flags and mode in _NOT_BALANCED:
        found = "invalid memory policy: MPOL_F_NUMA_BALANCING"
        mistakes.append(("flags", f"other flags with {mode}", found))
    return mistakes


def _no_flags(value: object) -> Mistakes:
    return FINE if value == [] else wrong("no flags, as none is supported", value)


# What needs a namespace of the container's own


def _types(linux: dict[str, Any]) -> set[str]:
    return {namespace["type"] for namespace in linux.get("namespaces", ())}


def _needs(
    member: str, namespace: str, found: str, linux: dict[str, Any], types: set[str]
) -> Mistakes:
    if linux.get(member) and namespace not in types:
        return ((member, f'"{namespace}" in linux.namespaces', found),)
    return FINE


def _namespaces_of_members(linux: dict[str, Any]) -> Mistakes:
    types = _types(linux)
    unmapped = "mappings, but no user namespace"
    unmounted = "none: unable to restrict sys entries without a private MNT namespace"
    return (
        *_needs("uidMappings", "user", unmapped, linux, types),
        *_needs("gidMappings", "user", unmapped, linux, types),
        *_needs("timeOffsets", "time", "offsets, but no time namespace", linux, types),
        *_needs("netDevices", "network", "devices, but no network namespace", linux, types),
        *_needs("maskedPaths", "mount", unmounted, linux, types),
        *_needs("readonlyPaths", "mount", unmounted, linux, types),
    )


def _clocks_of_a_new_namespace(linux: dict[str, Any]) -> Mistakes:
    """The clocks of a time namespace are set before its first process: never of one that is there.

    time_namespaces(7): a write to timens_offsets fails once a process is in it.
    """
    joined = any(n["type"] == "time" and n.get("path") for n in linux.get("namespaces", ()))
    if joined and linux.get("timeOffsets"):
        return (("timeOffsets", "a new time namespace", "offsets, but one that is joined"),)
    return FINE


def _sysctls_in_namespaces(linux: dict[str, Any]) -> Mistakes:
    mistakes: list[Mistake] = []
    types = _types(linux)
    for name in linux.get("sysctl", ()):
        if outside := outside_namespaces(name, types):
            mistakes += below(join("sysctl", key(name)), outside)
    return mistakes


def without_namespaces(linux: dict[str, Any]) -> Mistakes:
    """Return what asks for a namespace that is not listed."""
    return (*_namespaces_of_members(linux), *_sysctls_in_namespaces(linux))


def _different_names_inside(linux: dict[str, Any]) -> Mistakes:
    mistakes: list[Mistake] = []
    taken: set[str] = set()
    for name, device in linux.get("netDevices", {}).items():
        inside = device.get("name") or name
        if inside in taken and not inside.endswith("%d"):
            found = f"{show(inside)} a second time"
            mistakes.append((f"netDevices{key(name)}.name", "a name of its own", found))
        taken.add(inside)
    return mistakes


linux = members(
    {
        "namespaces": _namespaces,
        "uidMappings": id_mappings,
        "gidMappings": id_mappings,
        "timeOffsets": mapping(
            members({"secs": _int64, "nanosecs": integer(0, 999_999_999)}),
            one_of("monotonic", "boottime"),
        ),
        "devices": array(
            members(
                {
                    "type": one_of("c", "b", "u", "p"),
                    "path": absolute_path,
                    # The kernel's dev_t has 12 bits for the one and 20 for the other.
                    "major": integer(0, 2**12 - 1),
                    "minor": integer(0, 2**20 - 1),
                    # Engines pass st_mode as it is, type bits and all.
                    "fileMode": uint32,
                    "uid": id_number,
                    "gid": id_number,
                },
                required=("type", "path"),
                rules=((("type", "major", "minor"), _device_has_numbers),),
            )
        ),
        "netDevices": mapping(members({"name": _interface(True)}), _interface(False)),
        "cgroupsPath": _cgroups_path,
        "resources": resources,
        "rootfsPropagation": one_of(*PROPAGATIONS),
        "seccomp": seccomp,
        "sysctl": mapping(text, sysctl_name),
        "maskedPaths": _paths,
        "readonlyPaths": _paths,
        "mountLabel": line,
        "personality": members(
            {"domain": one_of("LINUX", "LINUX32"), "flags": _no_flags}, required=("domain",)
        ),
        "intelRdt": members(
            {
                "closID": _closid,
                "schemata": array(line),
                "l3CacheSchema": line,
                "memBwSchema": _memory_bandwidth,
                "enableMonitoring": boolean,
                "enableCMT": boolean,
                "enableMBM": boolean,
            }
        ),
        "memoryPolicy": members(
            {
                "mode": one_of(*MEMORY_POLICY_MODES, called="invalid memory policy mode"),
                "nodes": number_list(1023, "memory nodes"),
                "flags": array(
                    one_of(*MEMORY_POLICY_FLAGS, called="invalid memory policy flag"),
                ),
            },
            required=("mode",),
            rules=((("mode", "nodes", "flags"), _policy_fits_mode),),
        ),
    },
    rules=(
        (
            ("namespaces",),
            _namespaces_of_members,
        ),
        (("namespaces", "timeOffsets"), _clocks_of_a_new_namespace),
        (("namespaces", "sysctl"), _sysctls_in_namespaces),
        (("netDevices",), _different_names_inside),
    ),
)
