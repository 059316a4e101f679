"""The seccomp filter that the library gives to a container, without libseccomp.

A table of the calls that no container needs and that reach what namespaces do not divide, with
their numbers. It is a section of config.json (:func:`section`), which any runtime takes, and the
same in BPF (:func:`assembled`), which adds what a section cannot say: that calls newer than this
table do not exist, so that a C library falls back on an older one, and which of a few values an
argument may have (personality).
"""

from __future__ import annotations

from functools import cache

from pyrunc.linux import bpf
from pyrunc.linux.bpf import Instruction
from pyrunc.linux.numbers import MACHINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Name -> its number on x86_64 and on aarch64, -1 where there is none.
_DENIED = {
    # Keys are not divided by namespaces (keyrings(7)).
    "add_key": (248, 217),
    "keyctl": (250, 219),
    "request_key": (249, 218),
    # Mounts and namespaces are what the container is made of.
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    # What runs in the kernel, or watches it.
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "fanotify_init": (300, 262),
    "lookup_dcookie": (212, 18),
    "kcmp": (312, 272),
    "syslog": (103, 116),
    "acct": (163, 89),
    # The machine: its modules, clocks, swap, ports, names and quotas.
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "create_module": (174, -1),
    "get_kernel_syms": (177, -1),
    "query_module": (178, -1),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "iopl": (172, -1),
    "ioperm": (173, -1),
    "vhangup": (153, 58),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "nfsservctl": (180, 42),
    # Files by handle, past the root (open_by_handle_at(2)).
    "open_by_handle_at": (304, 265),
    # Where memory lies on the machine.
    "mbind": (237, 235),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "set_mempolicy": (238, 237),
    "set_mempolicy_home_node": (450, 450),
    # Relics with a history of mistakes.
    "modify_ldt": (154, -1),
    "uselib": (134, -1),
    "ustat": (136, -1),
    "sysfs": (139, -1),
    "_sysctl": (156, -1),
}
_CLONE, _CLONE3, _PERSONALITY, _IOCTL = (56, 220), (435, 435), (135, 92), (16, 29)
_SOCKET = (41, 198)
#: The newest call that was weighed for the table: futex_requeue of Linux 6.7, everywhere.
_NEWEST = 456

_EPERM, _ENOSYS, _EAFNOSUPPORT = 1, 38, 97
#: CLONE_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID and _NEWNET of linux/sched.h.
_NEW_NAMESPACES = 0x7E020000
#: Domains that namespaces do not divide: AF_ALG (the kernel's cryptography) and AF_VSOCK.
_DOMAINS = (38, 40)
#: PER_LINUX, PER_LINUX32, both with UNAME26, and "tell me" (personality(2)).
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
#: TIOCSTI types on the terminal of whoever started us, TIOCLINUX pastes (ioctl_console(2)).
_REQUESTS = (0x5412, 0x541C)


@cache
def section() -> dict[str, Any]:
    """Return the filter as ``linux.seccomp`` of config.json."""
    equal = "SCMP_CMP_EQ"
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            _rule(list(_DENIED)),
            _rule(["clone3"], errno=_ENOSYS),
            *(
                _rule(["clone"], {"index": 0, "value": flag, "valueTwo": flag, "op": _MASKED})
                for flag in (1 << bit for bit in range(32) if _NEW_NAMESPACES >> bit & 1)
            ),
            *(_rule(["ioctl"], {"index": 1, "value": r, "op": equal}) for r in _REQUESTS),
            *(
                _rule(["socket"], {"index": 0, "value": d, "op": equal}, errno=_EAFNOSUPPORT)
                for d in _DOMAINS
            ),
        ],
    }


_MASKED = "SCMP_CMP_MASKED_EQ"


def _rule(names: list[str], *arguments: dict[str, Any], errno: int = _EPERM) -> dict[str, Any]:
    rule = {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno}
    return {**rule, "args": list(arguments)} if arguments else rule


@cache
def assembled(machine: str = MACHINE) -> bytes:
    """Return the filter as an array of struct sock_filter for ``machine``.

    Numbers are looked for by halves. When a filter is loaded the kernel tries each number there is
    with it, to keep those that are always allowed (seccomp_cache_prepare() of kernel/seccomp.c),
    which would take longer than anything else about it, one comparison after the other.
    """
    which = tuple(bpf.ARCHITECTURES).index(machine)
    program: list[Instruction | str] = [
        Instruction(bpf.LOAD_WORD, bpf.ARCHITECTURE),
        # Calls through another ABI (int 0x80 of x86) have other numbers: there are none.
        Instruction(bpf.JUMP_EQUAL, bpf.ARCHITECTURES[machine], None, "missing"),
        Instruction(bpf.LOAD_WORD, bpf.NUMBER),
        *_search(_verdicts(which)),
        *("clone", Instruction(bpf.LOAD_WORD, bpf.FIRST_ARGUMENT)),
        Instruction(bpf.JUMP_SET, _NEW_NAMESPACES, "denied", "allowed"),
        *("personality", Instruction(bpf.LOAD_WORD, bpf.FIRST_ARGUMENT)),
        *(Instruction(bpf.JUMP_EQUAL, value, "allowed") for value in _PERSONALITIES),
        Instruction(bpf.RETURN, bpf.RET_ERRNO | _EPERM),
        *("ioctl", Instruction(bpf.LOAD_WORD, bpf.SECOND_ARGUMENT)),
        *(Instruction(bpf.JUMP_EQUAL, request, "denied") for request in _REQUESTS),
        Instruction(bpf.RETURN, bpf.RET_ALLOW),
        *("socket", Instruction(bpf.LOAD_WORD, bpf.FIRST_ARGUMENT)),
        *(Instruction(bpf.JUMP_EQUAL, domain, "unsupported") for domain in _DOMAINS),
        *("allowed", Instruction(bpf.RETURN, bpf.RET_ALLOW)),
        *("unsupported", Instruction(bpf.RETURN, bpf.RET_ERRNO | _EAFNOSUPPORT)),
        *("denied", Instruction(bpf.RETURN, bpf.RET_ERRNO | _EPERM)),
        *("missing", Instruction(bpf.RETURN, bpf.RET_ERRNO | _ENOSYS)),
    ]
    return bpf.assemble(program)


def _verdicts(which: int) -> list[tuple[int, str]]:
    """Return from which number on which verdict holds, in order, from 0 on."""
    single = {pair[which]: "denied" for pair in _DENIED.values() if pair[which] >= 0}
    single |= {_CLONE3[which]: "missing", _CLONE[which]: "clone", _SOCKET[which]: "socket"}
    single |= {_PERSONALITY[which]: "personality", _IOCTL[which]: "ioctl"}
    found = [(0, single.get(0, "allowed"))]
    for number in range(1, _NEWEST + 1):
        if (verdict := single.get(number, "allowed")) != found[-1][1]:
            found.append((number, verdict))
    # The x32 ABI's numbers start at 0x40000000.
    return [*found, (_NEWEST + 1, "missing")]


def _search(verdicts: list[tuple[int, str]]) -> list[Instruction | str]:
    """Return the instructions that find the verdict on the number that is loaded."""
    middle = len(verdicts) // 2
    below, above = verdicts[:middle], verdicts[middle:]
    number = above[0][0]
    here = f"from {number}"
    then = above[0][1] if len(above) == 1 else here
    otherwise = below[0][1] if len(below) == 1 else None
    program: list[Instruction | str] = [
        Instruction(bpf.JUMP_GREATER_EQUAL, number, then, otherwise)
    ]
    if otherwise is None:
        program += _search(below)
    if then == here:
        program += [here, *_search(above)]
    return program
