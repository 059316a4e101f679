"""Processes in namespaces of their own, and which namespaces these are."""

from __future__ import annotations

import os

FILES = {
    "pid": "pid",
    "network": "net",
    "ipc": "ipc",
    "uts": "uts",
    "mount": "mnt",
    "cgroup": "cgroup",
    "time": "time",
    "user": "user",
}


def namespaces_of(pid: int | str) -> dict[str, str]:
    """Return what /proc/PID/ns holds, by config.json's names."""
    return {kind: os.readlink(f"/proc/{pid}/ns/{file}") for kind, file in FILES.items()}


def running(make_bundle, pyrunc, change=lambda bundle: None):
    """Start a container that only sleeps; return it and its process's number."""
    bundle = make_bundle(args=["sleep", "100"])
    change(bundle)
    container = pyrunc.start(bundle)
    return container, pyrunc.state(container)["pid"]


def shared_with(pid: int, other: int | str = "self") -> set[str]:
    """Return the types of namespace in which both processes are."""
    mine, theirs = namespaces_of(other), namespaces_of(pid)
    return {kind for kind in FILES if mine[kind] == theirs[kind]}
