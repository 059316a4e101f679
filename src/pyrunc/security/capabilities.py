"""Capabilities: from the names in config.json to the system calls that leave exactly those sets.

Everything but :func:`own` is pure. Nothing here applies a set: the calls that do are listed by
:func:`capability_calls` and carried out by init, right before the user's program is executed.
"""

from __future__ import annotations

from errno import EINVAL

from pyrunc.linux.libc import syscall
from pyrunc.linux.numbers import SYS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    Call = tuple[str | int | bytes, ...]
    """``(label, name of the system call, argument, …)``; bytes are passed by address."""

# Numbers of <linux/capability.h>: the position in this list.
NAMES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
NUMBERS = {name: number for number, name in enumerate(NAMES)}

PR_SET_KEEPCAPS = 8
PR_CAPBSET_READ = 23
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
# struct __user_cap_header_struct: version, pid (0: the caller).
_HEADER = _CAPABILITY_VERSION_3.to_bytes(4, "little") + bytes(4)
SYS_PTRACE = 1 << NUMBERS["CAP_SYS_PTRACE"]
NET_ADMIN = 1 << NUMBERS["CAP_NET_ADMIN"]
_CAP_SETPCAP = 1 << NUMBERS["CAP_SETPCAP"]


class CapabilitySets:
    """The five sets of a thread (capabilities(7)), each a mask with bit N for capability N."""

    __slots__ = ("ambient", "bounding", "effective", "inheritable", "permitted")

    def __init__(
        self,
        bounding: int = 0,
        effective: int = 0,
        inheritable: int = 0,
        permitted: int = 0,
        ambient: int = 0,
    ) -> None:
        self.bounding = bounding
        self.effective = effective
        self.inheritable = inheritable
        self.permitted = permitted
        self.ambient = ambient

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CapabilitySets):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        sets = ", ".join(f"{name}={getattr(self, name):#x}" for name in self.__slots__)
        return f"CapabilitySets({sets})"


def full(last: int) -> CapabilitySets:
    """Return the sets of the first process of a new user namespace, or of one that joins it.

    It holds every capability there (user_namespaces(7)), whatever the runtime itself has.
    """
    every = (2 << last) - 1
    return CapabilitySets(bounding=every, effective=every, permitted=every)


def names_of(mask: int) -> list[str]:
    """Return the names of the capabilities in ``mask``, lowest number first."""
    return [
        NAMES[number] if number < len(NAMES) else f"CAP_{number}"
        for number in range(mask.bit_length())
        if mask >> number & 1
    ]


def last_cap() -> int:
    """Return the number of the last capability that the running kernel knows.

    The kernel is asked directly (PR_CAPBSET_READ refuses higher numbers), so this needs no
    /proc, and nothing mounted over /proc/sys/kernel/cap_last_cap can change the answer.
    """
    return _read_bounding()[1]


def own() -> tuple[CapabilitySets, int]:
    """Return the calling thread's sets and the kernel's last capability.

    ``ambient`` is left empty: what a process starts with there has no part in what it can grant.
    """
    words = bytearray(24)
    syscall(SYS["capget"], _HEADER, words)
    effective, permitted, inheritable = (
        int.from_bytes(words[at : at + 4] + words[at + 12 : at + 16], "little") for at in (0, 4, 8)
    )
    bounding, last = _read_bounding()
    return CapabilitySets(bounding, effective, inheritable, permitted), last


def wanted(
    capabilities: Mapping[str, Any] | None,
    has: CapabilitySets,
    last: int,
    *,
    is_root: bool = False,
) -> tuple[CapabilitySets, list[str]]:
    """Return the sets that ``process.capabilities`` asks for, and what to warn about.

    An absent section means no capability at all, for root too (so does runc). Names are those of
    capabilities(7), in capitals. What the kernel does not know or cannot grant is left out with a
    warning and is no error (runtime-spec config.md, "capabilities"). It cannot grant

    - to the permitted or bounding set, what ``has`` lacks there;
    - to the effective set, what is not permitted;
    - to the inheritable set, what is not in the bounding set;
    - to the ambient set, what is not both permitted and inheritable.

    ``has`` are the sets of the process that will make the calls, in the user namespace where it
    makes them: :func:`own`, or :func:`full` where the container has its own user namespace.

    :param is_root: whether the program's uid is 0.
    """
    if not capabilities:
        return CapabilitySets(), []
    every = (2 << last) - 1
    ignored: set[str] = set()
    known = every & ((1 << len(NAMES)) - 1)

    def asked(name: str, grantable: int) -> int:
        mask = _mask(capabilities.get(name) or (), known, ignored)
        ignored.update(names_of(mask & ~grantable))
        return mask & grantable

    bounding = asked("bounding", has.bounding)
    permitted = asked("permitted", has.permitted)
    effective = asked("effective", permitted)
    inheritable = asked("inheritable", bounding & (has.permitted | has.inheritable))
    ambient = _mask(capabilities.get("ambient") or (), known, ignored)

    raised = ambient & permitted & inheritable
    # Buildah writes all of its capabilities here, and none as inheritable. For root, who gets the
    # permitted ones at execve anyway, nothing is meant by it.
    is_habit = is_root and ambient == permitted and not capabilities.get("inheritable")
    warnings = _warnings(ignored, 0 if is_habit else ambient & ~raised)
    return CapabilitySets(bounding, effective, inheritable, permitted, raised), warnings


def _warnings(ignored: set[str], not_raised: int) -> list[str]:
    warnings = []
    if ignored:
        listed = " ".join(sorted(ignored))
        warnings.append(f"ignoring unknown or unavailable capabilities: [{listed}]")
    if not_raised:
        warnings.append(
            "ambient capabilities that are not both permitted and inheritable have no effect: "
            f"[{' '.join(names_of(not_raised))}]"
        )
    return warnings


def dropped(sets: CapabilitySets, has: CapabilitySets, last: int) -> int:
    """Return which capabilities leave the bounding set: all that are not in ``sets``.

    Also those up to the kernel's ``last`` one that have no name here. A process without
    CAP_SETPCAP whose bounding set already is the wanted one drops nothing; otherwise all are
    dropped, so that a wrong ``has`` fails instead of leaving something in.
    """
    if has.effective & _CAP_SETPCAP or has.bounding & ~sets.bounding:
        return ((2 << last) - 1) & ~sets.bounding
    return 0


def capability_calls(sets: CapabilitySets) -> tuple[list[Call], list[Call]]:
    """Return the calls that leave the process with ``sets``: those before and after setresuid(2).

    The order follows from these rules of capabilities(7):

    - PR_CAPBSET_DROP needs CAP_SETPCAP in the effective set: what is :func:`dropped` comes
      first, while that is full.
    - setgroups, setresgid and setresuid need CAP_SETGID and CAP_SETUID: between the two lists.
    - setresuid from 0 to another id empties the permitted, effective and ambient sets.
      PR_SET_KEEPCAPS saves the permitted set from that; the effective one is still emptied,
      which is no loss, for capset may raise again whatever is permitted.
    - capset allows a permitted set within the old one, an effective set within the new permitted
      one and an inheritable set within the bounding set: one call does all three.
    - PR_CAP_AMBIENT_RAISE takes only what is by then permitted and inheritable: after capset.
    - execve clears "keep capabilities" by itself, but nothing that is not needed stays on.

    A seccomp filter loaded without no_new_privs needs CAP_SYS_ADMIN, that is, before the second
    list; the filter must then allow what follows it. With no_new_privs it can be the last call.
    """
    before: list[Call] = [("keep capabilities across setresuid", "prctl", PR_SET_KEEPCAPS, 1)]
    after: list[Call] = [
        ("set the capabilities", "capset", _HEADER, capset_data(sets)),
        ("clear the ambient set", "prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL),
    ]
    after += [
        (
            f"raise {_name(number)} in the ambient set",
            "prctl",
            PR_CAP_AMBIENT,
            PR_CAP_AMBIENT_RAISE,
            number,
        )
        for number in range(sets.ambient.bit_length())
        if sets.ambient >> number & 1
    ]
    after.append(("keep no capabilities from here on", "prctl", PR_SET_KEEPCAPS, 0))
    return before, after


def capset_data(sets: CapabilitySets) -> bytes:
    """Return capset's two struct __user_cap_data_struct: the low 32 bits of each set, the high."""
    return b"".join(
        (mask >> shift & 0xFFFFFFFF).to_bytes(4, "little")
        for shift in (0, 32)
        for mask in (sets.effective, sets.permitted, sets.inheritable)
    )


def _name(number: int) -> str:
    return NAMES[number] if number < len(NAMES) else f"CAP_{number}"


def _mask(names: Iterable[str], known: int, ignored: set[str]) -> int:
    """Return the mask of ``names``; those the kernel does not know go to ``ignored``."""
    mask = 0
    for name in names:
        bit = 1 << NUMBERS[name] if name in NUMBERS else 0
        if bit & known:
            mask |= bit
        else:
            ignored.add(name)
    return mask


def _read_bounding() -> tuple[int, int]:
    """Return the bounding set and the last capability: the highest number not refused."""
    bounding = 0
    prctl = SYS["prctl"]
    number = 0
    while True:
        try:
            bounding |= syscall(prctl, PR_CAPBSET_READ, number) << number
        except OSError as error:
            if error.errno != EINVAL or number == 0:
                raise
            return bounding, number - 1
        number += 1
