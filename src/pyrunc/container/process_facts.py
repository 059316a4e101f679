"""What `create` and `exec` alike must know of the host before a process can be planned."""

from __future__ import annotations

import posix
from errno import ENOSYS, EPERM

from pyrunc.linux import refusals
from pyrunc.linux.libc import syscall
from pyrunc.linux.numbers import SYS
from pyrunc.plan.facts import ProcessFacts
from pyrunc.process.attributes import without_repetitions
from pyrunc.security import capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrunc.container.settings import Settings
    from pyrunc.process.descriptors import Passed
    from pyrunc.spec.types import Process, Spec

_KEYCTL_GET_KEYRING_ID = 0
_KEY_SPEC_SESSION_KEYRING = -3 & (1 << 64) - 1


def process_facts(
    settings: Settings,
    spec: Spec,
    process: Process,
    environment: Sequence[str],
    passed: Passed,
    *,
    keyring_of: str,
) -> ProcessFacts:
    """Find out what the host has of what ``process`` asks for.

    :param environment: all but for HOME and $LISTEN_PID.
    :param keyring_of: the container whose session keyring it joins; empty for none.
    :raises Error: when the host lacks what the config asks for.
    """
    facts = ProcessFacts()
    facts.capabilities, facts.last_capability = capabilities.own()
    facts.environment = without_repetitions(environment)
    facts.preserved = passed.total
    facts.announced = bool(passed.announced)
    seccomp = spec.get("linux", {}).get("seccomp")
    if seccomp:
        from pyrunc.security.seccomp import filter_for

        facts.filter = filter_for(seccomp, _filter_cache(settings))  # type: ignore[arg-type]
    if process.get("apparmorProfile") or process.get("selinuxLabel"):
        from pyrunc.security import lsm

        facts.label_writes = lsm.exec_labels(
            process.get("apparmorProfile", ""), process.get("selinuxLabel", "")
        )
    impossible = (refusals.NO_DESCRIPTOR, 0, 0, refusals.EVERY_FLAG)
    facts.refuses_faccessat2 = refusals.refuses("faccessat2", *impossible)
    if keyring_of and _has_keys():
        facts.keyring = f"_ses.{keyring_of}"
    return facts


def _has_keys() -> bool:
    """Tell whether there are keys here.

    There are none in a kernel without them, or where a sandbox around us forbids keyctl(2).
    """
    try:
        syscall(SYS["keyctl"], _KEYCTL_GET_KEYRING_ID, _KEY_SPEC_SESSION_KEYRING, 0)
    except OSError as error:
        if error.errno in (ENOSYS, EPERM):
            return False
    return True


def _filter_cache(settings: Settings) -> str:
    """Return the directory for compiled seccomp filters; nothing where there is no place for it.

    Not in the state root, which holds containers and nothing else. Whether it can be trusted is
    for :func:`pyrunc.security.seccomp.open_cache` to see.
    """
    if posix.geteuid() == 0 and not settings.rootless:
        return "/run/pyrunc-seccomp"
    runtime = posix.environ.get(b"XDG_RUNTIME_DIR", b"").decode("utf-8", "surrogateescape")
    return f"{runtime}/pyrunc-seccomp" if runtime[:1] == "/" else ""
