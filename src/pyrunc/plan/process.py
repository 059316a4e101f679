"""What of a process is planned for `create` and `exec` alike."""

from __future__ import annotations

from pyrunc.process.last_mile import LastMile
from pyrunc.process.launch import PID_WIDTH
from pyrunc.security import capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.plan.facts import ProcessFacts
    from pyrunc.security.capabilities import CapabilitySets
    from pyrunc.spec.types import Process, Spec

#: Stands for a pid that is not known yet.
UNKNOWN_PID = " " * PID_WIDTH
LISTEN_PID = "LISTEN_PID="


def plan_last_mile(
    spec: Spec, process: Process, facts: ProcessFacts, *, in_user_namespace: bool
) -> tuple[LastMile, CapabilitySets, list[str]]:
    """Return the last mile of ``process``, the capabilities that it ends with, and warnings."""
    has, last = facts.capabilities, facts.last_capability
    if in_user_namespace:
        has = capabilities.full(last)
    is_root = not (process.get("user") or {}).get("uid", 0)
    asked = process.get("capabilities")
    sets, warnings = capabilities.wanted(asked, has, last, is_root=is_root)
    last_mile = LastMile(process)
    last_mile.dropped = capabilities.dropped(sets, has, last)
    last_mile.capability_calls = capabilities.capability_calls(sets)
    last_mile.seccomp = facts.filter
    last_mile.label_writes = facts.label_writes
    last_mile.old_access_check = facts.refuses_faccessat2
    last_mile.keyring = facts.keyring
    linux = spec.get("linux", {})
    last_mile.personality = linux.get("personality")
    last_mile.memory_policy = linux.get("memoryPolicy")
    return last_mile, sets, warnings
