"""The config.json to begin with: what ``pyrunc spec`` writes.

The members and their order are those of ``runc spec``, so that a person who
compares the two sees only the version differ.
"""

from __future__ import annotations

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.spec.types import DeviceRule, Linux, Mount, Namespace, Spec

OCI_VERSION = "1.3.0"

_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
_MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def default_spec(cgroup_v2: bool | None = None) -> Spec:
    """Return the config of a container that root runs.

    With ``cgroup_v2`` (None: as this host has it) there is a cgroup namespace.
    """
    rule: DeviceRule = {"allow": False, "access": "rwm"}
    linux: Linux = {
        "resources": {"devices": [rule]},
        "namespaces": _namespaces(("pid", "network", "ipc", "uts", "mount"), cgroup_v2),
        "maskedPaths": list(_MASKED),
        "readonlyPaths": list(_READ_ONLY),
    }
    return _spec(_mounts(), linux)


def rootless_spec(
    uid: int | None = None, gid: int | None = None, cgroup_v2: bool | None = None
) -> Spec:
    """Return the config of a container that the user ``uid`` (None: the caller) runs.

    It differs from root's in what an ordinary user cannot have: a user
    namespace that maps container root to the user, the host's network and
    /sys, no group for terminals and no device rules.
    """
    mounts = _mounts()
    for mount in mounts:
        if mount["destination"] == "/dev/pts":
            mount["options"].remove("gid=5")  # not mapped in the user namespace
        elif mount["destination"] == "/sys":
            # sysfs can only be mounted by who owns the network namespace.
            mount["type"] = "none"
            mount["source"] = "/sys"
            mount["options"].insert(0, "rbind")
    user = posix.geteuid() if uid is None else uid
    group = posix.getegid() if gid is None else gid
    linux: Linux = {
        "uidMappings": [{"containerID": 0, "hostID": user, "size": 1}],
        "gidMappings": [{"containerID": 0, "hostID": group, "size": 1}],
        "namespaces": [
            *_namespaces(("pid", "ipc", "uts", "mount"), cgroup_v2),
            {"type": "user"},
        ],
        "maskedPaths": list(_MASKED),
        "readonlyPaths": list(_READ_ONLY),
    }
    return _spec(mounts, linux)


def _spec(mounts: list[Mount], linux: Linux) -> Spec:
    return {
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ],
            "cwd": "/",
            "capabilities": {
                "bounding": list(_CAPABILITIES),
                "effective": list(_CAPABILITIES),
                "permitted": list(_CAPABILITIES),
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        # runc's own word: images and scripts were written against it.
        "hostname": "runc",
        "mounts": mounts,
        "linux": linux,
    }


def _mounts() -> list[Mount]:
    return [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount(
            "/dev/pts",
            "devpts",
            "devpts",
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620",
            "gid=5",
        ),
        _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro"),
    ]


def _mount(destination: str, kind: str, source: str, *options: str) -> Mount:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def _namespaces(types: tuple[str, ...], cgroup_v2: bool | None) -> list[Namespace]:
    if cgroup_v2 is None:
        cgroup_v2 = posix.access("/sys/fs/cgroup/cgroup.controllers", posix.F_OK)
    return [{"type": name} for name in (*types, *(("cgroup",) if cgroup_v2 else ()))]
