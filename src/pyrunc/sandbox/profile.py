"""From a sandbox's options to a config.json: what "safe by default" means, in one place."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any

from pyrunc.security import default_filter
from pyrunc.spec.default import OCI_VERSION, default_spec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyrunc.sandbox.options import SandboxOptions
    from pyrunc.sandbox.rootfs import RootFilesystem

_PERIOD = 100_000
#: The sandbox's init, what enters the sandbox, and the program that this brings forth.
LEAST_PIDS = 3
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: With the host's network, what a program needs of its /etc to use it.
_NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl", "/etc/ca-certificates")


@cache
def _protected() -> tuple[list[str], list[str]]:
    """The paths of /proc and /sys to mask and to make read-only."""
    linux = default_spec()["linux"]
    masked = [path for path in linux["maskedPaths"] if path.startswith("/proc/")]
    return masked, [path for path in linux["readonlyPaths"] if path.startswith("/proc/")]


def box_request(
    options: SandboxOptions, root: RootFilesystem, limits: Sequence[str], *, writable: bool
) -> dict[str, Any]:
    """Return the engine's request for a sandbox.

    :param limits: more limits that the caller asked for (``cpu_time``).
    :param writable: whether the root gets a throw-away layer; else it is read-only.
    """
    set_ = [*limits, *(n for n in ("memory", "swap", "pids", "cpu") if _is_set(options, n))]
    layer = None
    if writable or options.rootfs or options.binds:
        # Also where nothing may be written: mount points that are missing are made in it.
        layer = {"size": options.disk or 0, "files": options.files or 0}
    return {
        "spec": _spec(options, root, writable=writable),
        "limits": set_,
        "asked": [*limits, *options.asked],
        "best_effort": options.best_effort,
        "layer": layer,
        "ids": root.ids,
    }


def _is_set(options: SandboxOptions, name: str) -> bool:
    return getattr(options, name) is not None


def _spec(options: SandboxOptions, root: RootFilesystem, *, writable: bool) -> dict[str, Any]:
    masked, read_only = _protected()
    kinds = ["pid", "ipc", "uts", "mount", *(() if options.network else ("network",))]
    linux: dict[str, Any] = {
        "namespaces": [{"type": kind} for kind in kinds],
        "maskedPaths": masked,
        "readonlyPaths": read_only,
        "resources": resources(options),
        "seccomp": default_filter.section(),
    }
    return {
        "ociVersion": OCI_VERSION,
        "root": {"path": root.path, "readonly": not writable},
        "hostname": options.hostname,
        "process": process(options, root, ("true",)),
        "mounts": _mounts(options, root, writable=writable),
        "linux": linux,
    }


def pids_limit(pids: int) -> int:
    """Return the limit for a cgroup that also holds the sandbox's own init."""
    return pids + 1


def resources(options: SandboxOptions) -> dict[str, Any]:
    """Return the limits as ``linux.resources``."""
    found: dict[str, Any] = {"devices": [{"allow": False, "access": "rwm"}]}
    if options.memory is not None:
        found["memory"] = {"limit": options.memory}
        if options.swap is not None:
            found["memory"]["swap"] = options.memory + options.swap
    if options.pids is not None:
        found["pids"] = {"limit": max(pids_limit(options.pids), LEAST_PIDS)}
    if options.cpu is not None:
        found["cpu"] = {"quota": int(options.cpu * _PERIOD), "period": _PERIOD}
    return found


def process(
    options: SandboxOptions,
    root: RootFilesystem,
    words: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    terminal: bool = False,
) -> dict[str, Any]:
    """Return the ``process`` of config.json for a program in the sandbox."""
    user = options.user or root.user
    environment = {"PATH": _PATH, "LANG": "C.UTF-8", **root.environment, **options.env}
    if not root.is_image:
        environment.setdefault("HOME", "/tmp")
    environment |= env or {}
    # Else the engine's, which knows what ids there are.
    named = {"user": {"uid": user[0], "gid": user[1]}} if user else {}
    return {
        **named,
        "terminal": terminal,
        "args": list(words),
        "env": [f"{name}={value}" for name, value in environment.items()],
        "cwd": cwd or options.cwd or root.cwd,
        "capabilities": {},
        "noNewPrivileges": True,
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024},
            {"type": "RLIMIT_CORE", "hard": 0, "soft": 0},
        ],
    }


def _mounts(options: SandboxOptions, root: RootFilesystem, *, writable: bool) -> list[Any]:
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        _tmpfs("/dev", "nosuid", "noexec", "mode=755", "size=64k"),
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
        },
        _tmpfs("/dev/shm", "nosuid", "nodev", "noexec", "mode=1777", *_bounds(options)),
    ]
    if not writable:
        mounts.append(_tmpfs("/tmp", "nosuid", "nodev", "mode=1777", *_bounds(options)))
    if options.network and not root.is_image:
        found = [path for path in _NETWORK_FILES if os.path.exists(path)]
        mounts += [_bind(path, path, "rro") for path in found]
    for inside, outside in options.binds.items():
        path = inside.removesuffix(":rw")
        mounts.append(_bind(path, outside, *(() if path != inside else ("rro",))))
    return mounts


def _bounds(options: SandboxOptions) -> list[str]:
    found = []
    if options.disk is not None:
        found.append(f"size={options.disk}")
    if options.files is not None:
        found.append(f"nr_inodes={options.files}")
    return found


def _tmpfs(path: str, *options: str) -> dict[str, Any]:
    return {"destination": path, "type": "tmpfs", "source": "tmpfs", "options": list(options)}


def _bind(path: str, source: str, *options: str) -> dict[str, Any]:
    flags = ["rbind", "rnosuid", "rnodev", *options]
    return {"destination": path, "type": "bind", "source": source, "options": flags}
