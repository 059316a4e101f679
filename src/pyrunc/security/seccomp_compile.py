"""From ``linux.seccomp`` of config.json to the BPF that the kernel runs at each system call.

libseccomp knows the system calls of every architecture and builds the tree of comparisons; what is
decided here is what it is told. Two things are put around it:

*Rules for nobody.* Names that libseccomp does not know are left out: the kernel, or this version
of the library, does not have them. So are rules that answer what the default answers anyway, which
libseccomp refuses.

*System calls newer than the profile.* A C library tries a new call first and falls back on an old
one when the kernel says ENOSYS, but not when it says EPERM. A profile that denies what it does not
list would so break programs each time the kernel learns a call the profile's author could not
know. Where the default denies, a number above every one that the profile names for that
architecture is therefore answered with ENOSYS, by a few instructions in front of libseccomp's.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, NamedTuple

from pyrunc.errors import Error, reason
from pyrunc.linux import bpf
from pyrunc.linux.libc import syscall
from pyrunc.linux.numbers import MACHINE, SYS
from pyrunc.security.libseccomp import UNKNOWN_SYSCALL, Comparison, Libseccomp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# SECCOMP_RET_*, which libseccomp's SCMP_ACT_* equal. The low 16 bits are an errno or a message.
ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
# With these as default a newer system call runs, or someone decides about it: no ENOSYS.
_OPEN_ACTIONS = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY")
_LARGEST_VALUE = {
    "SCMP_ACT_ERRNO": 4095,  # MAX_ERRNO; the kernel cuts what is above
    "SCMP_ACT_TRACE": 0xFFFF,
}
OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
ARCHITECTURES = (
    *("X86", "X86_64", "X32", "ARM", "AARCH64", "MIPS", "MIPS64", "MIPS64N32", "MIPSEL"),
    *("MIPSEL64", "MIPSEL64N32", "PPC", "PPC64", "PPC64LE", "S390", "S390X", "PARISC"),
    *("PARISC64", "RISCV64", "LOONGARCH64", "M68K", "SH", "SHEB"),
)
# All that a kernel for this machine can ever put in seccomp_data.arch.
_EXECUTABLE = {"x86_64": ("X86_64", "X86", "X32"), "aarch64": ("AARCH64", "ARM")}

FLAG_TSYNC = 1
FLAG_SPEC_ALLOW = 4
FLAG_NEW_LISTENER = 8
FLAG_WAIT_KILLABLE_RECV = 32
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": FLAG_TSYNC,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": FLAG_WAIT_KILLABLE_RECV,
}
_SET_MODE_FILTER = 1
_X32_BIT = 0x40000000  # __X32_SYSCALL_BIT
_ARM_PRIVATE = 0xF0000  # __ARM_NR_BASE: breakpoint, cacheflush, set_tls and few more
_LARGEST_NUMBER = 1023  # of ordinary system calls; Linux 6.18 has got to 470


class Compiled(NamedTuple):
    """What :func:`compile_filter` returns; ``libseccomp`` is the path of it, None if unknown."""

    bpf: bytes
    flags: int
    notify: bool
    libseccomp: str | None


class _Architecture(NamedTuple):
    name: str
    token: int


def compile_filter(seccomp: Mapping[str, Any]) -> Compiled:
    """Build the filter of a ``linux.seccomp`` section.

    :raises Error: when it cannot be built as written, or would be too long for the kernel.
    """
    library = Libseccomp()
    rules: Sequence[Mapping[str, Any]] = seccomp.get("syscalls") or ()
    default = _default_action(seccomp)
    notify = _notifies(seccomp, rules)
    architectures = _architectures(library, seccomp.get("architectures") or ())

    with library.context(default) as context:
        context.optimize()
        for architecture in architectures:
            try:
                context.add_architecture(architecture.token)
            except OSError as error:
                raise Error(
                    f"seccomp: libseccomp cannot add architecture SCMP_ARCH_{architecture.name}: "
                    f"{reason(error)}"
                ) from None
        _add_rules(library, context, rules, default)
        instructions = context.bpf()

    if seccomp["defaultAction"] not in _OPEN_ACTIONS and default != _errno(errno.ENOSYS):
        instructions = _newer_calls(library, architectures, rules) + instructions
    count = len(instructions) // bpf.INSTRUCTION_SIZE
    if count > bpf.MAX_INSTRUCTIONS:
        raise Error(
            f"seccomp: the filter has {count} instructions, the kernel takes "
            f"{bpf.MAX_INSTRUCTIONS} at most; use fewer rules with arguments or architectures"
        )
    return Compiled(instructions, _flags(seccomp.get("flags"), notify), notify, library.path())


def _errno(number: int) -> int:
    return ACTIONS["SCMP_ACT_ERRNO"] | number


def _action(name: str, value: int | None, where: str) -> int:
    """Return an action as the kernel takes it; ``value`` is errnoRet, by default EPERM."""
    if name not in ACTIONS:
        raise Error(f"seccomp: {where}: {name!r} is not a valid action")
    if name not in _LARGEST_VALUE:
        if value is not None:
            raise Error(f"seccomp: {where}: {name} takes no errno, but {value} is given")
        return ACTIONS[name]
    if value is None:
        value = errno.EPERM
    # Cut to 16 bits, as the kernel's word has them, 65536 would make a denied call succeed.
    if not 0 <= value <= _LARGEST_VALUE[name]:
        raise Error(
            f"seccomp: {where}: errno {value} of {name} is not in 0..{_LARGEST_VALUE[name]}"
        )
    return ACTIONS[name] | value


def _default_action(seccomp: Mapping[str, Any]) -> int:
    """Return the action of a system call without a rule.

    Nobody could tell the listener about calls made before it is there, so NOTIFY is refused.
    """
    name = seccomp["defaultAction"]
    if name == "SCMP_ACT_NOTIFY":
        raise Error("seccomp: SCMP_ACT_NOTIFY cannot be used as default action")
    return _action(name, seccomp.get("defaultErrnoRet"), "defaultAction")


def _notifies(seccomp: Mapping[str, Any], rules: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether a rule asks a listener, and check that there can be one."""
    asking = [rule for rule in rules if rule["action"] == "SCMP_ACT_NOTIFY"]
    if not asking:
        return False
    # The process that installs the filter must be able to say so before the listener is served.
    if any("write" in rule["names"] for rule in asking):
        raise Error("seccomp: SCMP_ACT_NOTIFY cannot be used for the write syscall")
    if not seccomp.get("listenerPath"):
        raise Error("seccomp: listenerPath is not set, but a rule uses SCMP_ACT_NOTIFY")
    return True


def supported_flags() -> list[str]:
    """Return the flags of :data:`FLAGS` that this kernel takes.

    A flag that it knows gets it as far as the filter, which is not there (EFAULT); one that it
    does not know is EINVAL before that (seccomp(2)). Nothing is loaded either way.
    """
    found = []
    for name, flag in FLAGS.items():
        # The kernel takes this one only together with a listener.
        asked = flag | (FLAG_NEW_LISTENER if flag == FLAG_WAIT_KILLABLE_RECV else 0)
        try:
            syscall(SYS["seccomp"], _SET_MODE_FILTER, asked, 0)
        except OSError as error:
            if error.errno == errno.EFAULT:
                found.append(name)
    return found


def _flags(names: Sequence[str] | None, notify: bool) -> int:
    """Return SECCOMP_FILTER_FLAG_*.

    Without the member the filter does not switch on the mitigation of speculative store bypass,
    which is slow and which Linux since 5.16 does not switch on by itself either; an empty list
    switches it on where the kernel couples the two. The process that loads the filter has one
    thread: TSYNC changes nothing and is left out together with NEW_LISTENER, as the kernel
    refuses the two. WAIT_KILLABLE_RECV means nothing without a listener and is refused then.
    """
    flags = FLAG_SPEC_ALLOW if names is None else 0
    for name in names or ():
        if name not in FLAGS:
            raise Error(f"seccomp: {name!r} is not a known flag")
        flags |= FLAGS[name]
    if notify:
        return flags & ~FLAG_TSYNC | FLAG_NEW_LISTENER
    return flags & ~FLAG_WAIT_KILLABLE_RECV


def _architectures(library: Libseccomp, listed: Sequence[str]) -> list[_Architecture]:
    """Return the native architecture and those listed that this machine can execute.

    One that it cannot execute never shows up in seccomp_data.arch: leaving it out changes no
    verdict, makes the filter shorter, and lets a profile list an architecture that the installed
    libseccomp does not know. One that it may execute and libseccomp does not know is an error.
    System calls of an architecture that is not covered kill the thread (libseccomp's default).
    """
    executable = _EXECUTABLE.get(MACHINE, ARCHITECTURES)
    native = library.native_architecture()
    found = [_Architecture("NATIVE", native)]
    for full_name in listed:
        name = full_name.removeprefix("SCMP_ARCH_")
        if name == full_name or name not in ARCHITECTURES:
            raise Error(f"seccomp: {full_name!r} is not a valid architecture")
        if name not in executable:
            continue
        token = library.architecture(name.lower())
        if not token:
            raise Error(f"seccomp: the installed libseccomp does not know {full_name}")
        if token not in [architecture.token for architecture in found]:
            found.append(_Architecture(name, token))
    return found


def _add_rules(
    library: Libseccomp, context: Any, rules: Sequence[Mapping[str, Any]], default: int
) -> None:
    """Give libseccomp the rules, in their order: of two that match alike the first holds."""
    native = library.native_architecture()
    for index, rule in enumerate(rules):
        where = f"syscalls[{index}]"
        action = _action(rule["action"], rule.get("errnoRet"), where)
        alternatives = list(_comparisons(rule.get("args") or (), where))
        if action == default:
            continue
        for name in rule["names"]:
            if not name:
                raise Error(f"seccomp: {where}: an empty string is not a valid syscall")
            number = library.syscall_number(native, name)
            if number == UNKNOWN_SYSCALL:
                continue
            for comparisons in alternatives:
                try:
                    context.add_rule(action, number, comparisons)
                except OSError as error:
                    raise Error(
                        f"seccomp: {where}: libseccomp refuses the rule for {name}: {reason(error)}"
                    ) from None


def _comparisons(args: Sequence[Mapping[str, Any]], where: str) -> Iterator[list[Comparison]]:
    """Return the alternatives of a rule, each a list of comparisons that must all hold.

    The comparisons of ``args`` hold together, but when one argument is in there twice each is an
    alternative of its own: runc reads it so, and profiles rely on it.
    """
    comparisons = []
    for number, arg in enumerate(args):
        operator = OPERATORS.get(arg["op"])
        if operator is None:
            raise Error(f"seccomp: {where}.args[{number}]: {arg['op']!r} is not a valid operator")
        if not 0 <= arg["index"] <= 5:
            raise Error(
                f"seccomp: {where}.args[{number}]: system calls have arguments 0 to 5, "
                f"not {arg['index']}"
            )
        # SCMP_CMP_MASKED_EQ: (argument & value) == valueTwo.
        comparisons.append(
            Comparison(arg["index"], operator, arg["value"], arg.get("valueTwo") or 0)
        )
    if len({comparison.argument for comparison in comparisons}) < len(comparisons):
        for comparison in comparisons:
            yield [comparison]
    else:
        yield comparisons


def _newer_calls(
    library: Libseccomp,
    architectures: Sequence[_Architecture],
    rules: Sequence[Mapping[str, Any]],
) -> bytes:
    """Return instructions that answer ENOSYS to what is newer than the profile, and else go on.

    x32 shares x86_64's architecture and sets a high bit in the number; arm has some calls of its
    own far above the others. Numbers from there on are left to libseccomp's part, except x32's
    where the profile covers x32. An architecture for which the profile names nothing gets no
    ENOSYS: there, "newer" has no meaning.
    """
    names = {name for rule in rules for name in rule["names"]}
    newest: dict[int, int] = {}
    newest_x32 = None
    for architecture in architectures:
        if architecture.name == "X32":
            newest_x32 = _newest(library, architecture.token, names, _X32_BIT)
        else:
            newest[architecture.token] = _newest(library, architecture.token, names, 0)
    newest = {token: number for token, number in newest.items() if number >= 0}
    if not newest:
        return b""

    x86_64, arm = library.architecture("x86_64"), library.architecture("arm")
    program: list[bpf.Instruction | str] = [bpf.Instruction(bpf.LOAD_WORD, bpf.ARCHITECTURE)]
    for place, (token, number) in enumerate(newest.items(), 1):
        other = f"architecture {place}" if place < len(newest) else "filter"
        program += [
            bpf.Instruction(bpf.JUMP_EQUAL, token, None, other),
            bpf.Instruction(bpf.LOAD_WORD, bpf.NUMBER),
        ]
        if token == x86_64:
            if newest_x32 is not None and newest_x32 >= 0:
                program.append(bpf.Instruction(bpf.JUMP_GREATER, newest_x32, "newer", None))
            program.append(bpf.Instruction(bpf.JUMP_GREATER_EQUAL, _X32_BIT, "filter", None))
        elif token == arm:
            program.append(bpf.Instruction(bpf.JUMP_GREATER_EQUAL, _ARM_PRIVATE, "filter", None))
        program.append(bpf.Instruction(bpf.JUMP_GREATER, number, "newer", "filter"))
        if place < len(newest):
            program.append(other)
    program += ["newer", bpf.Instruction(bpf.RETURN, _errno(errno.ENOSYS)), "filter"]
    return bpf.assemble(program)


def _newest(library: Libseccomp, token: int, names: set[str], bit: int) -> int:
    """Return the highest number that one of ``names`` has on an architecture; -1 if none.

    ``bit`` is set in all of the architecture's numbers. Numbers are looked up both ways: by name
    there is none for socket(2) on x86, by number no alias is found.
    """
    by_name = (library.syscall_number(token, name) for name in names)
    below = bit + _LARGEST_NUMBER
    by_number = (
        number
        for number in range(below, bit - 1, -1)
        if library.syscall_name(token, number) in names
    )
    return max(
        max((number for number in by_name if bit <= number <= below), default=-1),
        next(by_number, -1),
    )
