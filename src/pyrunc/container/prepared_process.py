"""What `create` and `exec` alike make of a process and its container's config for the last mile."""

from __future__ import annotations

import posix

from pyrunc.process.last_mile import LastMile, session_keyring
from pyrunc.security import capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrunc.container.settings import Settings
    from pyrunc.process.descriptors import Passed
    from pyrunc.security.capabilities import CapabilitySets
    from pyrunc.spec.types import Process, Spec


def prepare(
    settings: Settings,
    spec: Spec,
    process: Process,
    environment: Sequence[str],
    passed: Passed,
    *,
    user_namespace: bool,
    keyring_of: str,
) -> tuple[LastMile, CapabilitySets]:
    """Return the last mile of ``process``, and the capabilities that it ends with.

    :param user_namespace: whether it runs in a user namespace of the container's own.
    :param keyring_of: the container whose session keyring it joins; empty for none.
    :raises Error: when the host lacks what the config asks for.
    """
    last_mile = LastMile(process, "", environment)
    has, last = capabilities.own()
    if user_namespace:
        has = capabilities.full(last)
    asked = process.get("capabilities")
    sets, warnings = capabilities.wanted(asked, has, last)
    for warning in warnings:
        settings.log.warn(warning)
    last_mile.dropped = capabilities.dropped(sets, has, last)
    last_mile.capability_calls = capabilities.capability_calls(sets)
    linux = spec.get("linux", {})
    if linux.get("seccomp"):
        from pyrunc.security.seccomp import filter_for

        last_mile.seccomp = filter_for(linux["seccomp"], _filter_cache(settings))  # type: ignore[arg-type]
    if process.get("apparmorProfile") or process.get("selinuxLabel"):
        from pyrunc.security import lsm

        last_mile.label_writes = lsm.exec_labels(
            process.get("apparmorProfile", ""), process.get("selinuxLabel", "")
        )
    if keyring_of:
        last_mile.keyring = session_keyring(keyring_of)
    last_mile.personality = linux.get("personality")
    last_mile.memory_policy = linux.get("memoryPolicy")
    last_mile.preserved = passed.total
    last_mile.preserved_listen = bool(passed.announced)
    return last_mile, sets


def _filter_cache(settings: Settings) -> str:
    """Return the directory for compiled seccomp filters; nothing where there is no place for it.

    Not in the state root, which holds containers and nothing else. Whether it can be trusted is
    for :func:`pyrunc.security.seccomp.open_cache` to see.
    """
    if posix.geteuid() == 0 and not settings.rootless:
        return "/run/pyrunc-seccomp"
    runtime = posix.environ.get(b"XDG_RUNTIME_DIR", b"").decode("utf-8", "surrogateescape")
    return f"{runtime}/pyrunc-seccomp" if runtime[:1] == "/" else ""
