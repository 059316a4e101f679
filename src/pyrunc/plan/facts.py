"""What a plan needs to know about the host: asked once, then passed around."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Facts:
    """Facts about the host and this invocation that the planner turns into steps.

    ``cgroup_version`` 1 or 2; ``cgroup_mounts`` the mount point of each controller;
    ``cgroup_paths`` the container's directory in each ("" as the only key on v2);
    ``own_namespaces`` the types whose paths in the config lead to what the runtime is in.
    """

    __slots__ = (
        "cgroup_mounts",
        "cgroup_paths",
        "cgroup_version",
        "new_keyring",
        "own_namespaces",
        "pivot",
        "rootless",
    )

    def __init__(
        self,
        *,
        cgroup_version: int = 2,
        cgroup_mounts: Mapping[str, str] | None = None,
        cgroup_paths: Mapping[str, str] | None = None,
        rootless: bool = False,
        pivot: bool = True,
        new_keyring: bool = True,
        own_namespaces: frozenset[str] = frozenset(),
    ) -> None:
        self.cgroup_version = cgroup_version
        self.cgroup_mounts = cgroup_mounts or {}
        self.cgroup_paths = cgroup_paths or {}
        self.rootless = rootless
        self.pivot = pivot
        self.new_keyring = new_keyring
        self.own_namespaces = own_namespaces
