"""What a plan needs to know about the host: asked once, then passed around."""

from __future__ import annotations

from pyrunc.security.capabilities import CapabilitySets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyrunc.security.seccomp import Filter


class ProcessFacts:
    """What the host has of what one process asks for."""

    __slots__ = (
        "announced",
        "capabilities",
        "environment",
        "filter",
        "keyring",
        "label_writes",
        "last_capability",
        "preserved",
        "refuses_faccessat2",
    )

    def __init__(self) -> None:
        #: The caller's, and the number of the last one that the kernel knows.
        self.capabilities = CapabilitySets()
        self.last_capability = 0
        #: The environment but for HOME and $LISTEN_PID.
        self.environment: Sequence[str] = ()
        #: How many of the caller's descriptors from 3 on are passed, and whether some of them are
        #: announced ($LISTEN_FDS), so that $LISTEN_PID is wanted.
        self.preserved = 0
        self.announced = False
        #: ``linux.seccomp``, compiled.
        self.filter: Filter | None = None
        #: LSM labels: (file below the process's own /proc directory, content).
        self.label_writes: Sequence[tuple[str, bytes]] = ()
        #: Whether a filter around us, or an old kernel, refuses faccessat2(2).
        self.refuses_faccessat2 = False
        #: Name of the session keyring to join; empty to keep the caller's.
        self.keyring = ""


class Facts:
    """Facts about the host and this invocation that the planner turns into steps.

    ``cgroup_version`` 1 or 2; ``cgroup_mounts`` the mount point of each controller;
    ``cgroup_paths`` the container's directory in each ("" as the only key on v2);
    ``cgroup_needs_process`` whether they can be made only for a process that is there (systemd);
    ``own_namespaces`` the types whose paths in the config lead to what the runtime is in;
    ``process`` what the host has for the process; ``held`` whether that is never to be started;
    ``serves`` whether a held one is for one process, which init is told of;
    ``has_network`` whether the network namespace that the config wants as a new one is there;
    ``stands_still`` whether the runtime does nothing while the builder is at work.
    """

    __slots__ = (
        "cgroup_mounts",
        "cgroup_needs_process",
        "cgroup_paths",
        "cgroup_version",
        "has_network",
        "held",
        "new_keyring",
        "own_namespaces",
        "pivot",
        "process",
        "rootless",
        "serves",
        "stands_still",
    )

    def __init__(
        self,
        *,
        cgroup_version: int = 2,
        cgroup_mounts: Mapping[str, str] | None = None,
        cgroup_paths: Mapping[str, str] | None = None,
        cgroup_needs_process: bool = False,
        rootless: bool = False,
        pivot: bool = True,
        new_keyring: bool = True,
        own_namespaces: frozenset[str] = frozenset(),
        process: ProcessFacts | None = None,
        held: bool = False,
        serves: bool = False,
        has_network: bool = False,
        stands_still: bool = False,
    ) -> None:
        self.cgroup_version = cgroup_version
        self.cgroup_mounts = cgroup_mounts or {}
        self.cgroup_paths = cgroup_paths or {}
        self.cgroup_needs_process = cgroup_needs_process
        self.rootless = rootless
        self.pivot = pivot
        self.new_keyring = new_keyring
        self.own_namespaces = own_namespaces
        self.process = process or ProcessFacts()
        self.held = held
        self.serves = serves
        self.has_network = has_network
        self.stands_still = stands_still
