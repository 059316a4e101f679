"""What ``linux.seccomp`` may hold: config-linux.md#seccomp.

The names of system calls are not looked up here: which ones exist is a matter
of the architecture, and unknown ones are left out of the filter.
"""

from __future__ import annotations

from pyrunc.spec.kinds import (
    FINE,
    MISSING,
    array,
    integer,
    members,
    one_of,
    text,
    texts,
    uint32,
    uint64,
    wrong,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.spec.kinds import Mistake, Mistakes

ACTIONS = (
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
)
OPERATORS = (
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
)
ARCHITECTURES = (
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
)
FLAGS = (
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
)

_WITH_ERRNO = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")

_action = one_of(*ACTIONS)


def _names(value: object) -> Mistakes:
    if value is MISSING or value == []:
        return wrong("at least one name", value)
    return texts(value)


def _errno_fits_action(call: dict[str, Any]) -> Mistakes:
    if "errnoRet" in call and call["action"] not in _WITH_ERRNO:
        return wrong(f"nothing, as {call['action']} takes no errno", call["errnoRet"], "errnoRet")
    return FINE


def _write_not_notified(call: dict[str, Any]) -> Mistakes:
    """The runtime needs write(2) after the filter is on: nobody could be asked about it yet."""
    if call["action"] == "SCMP_ACT_NOTIFY" and "write" in call["names"]:
        found = "SCMP_ACT_NOTIFY cannot be used for the write syscall"
        return (("action", "another action for write", found),)
    return FINE


_syscall = members(
    {
        "names": _names,
        "action": _action,
        "errnoRet": uint32,
        "args": array(
            members(
                {
                    "index": integer(0, 5),
                    "value": uint64,
                    "valueTwo": uint64,
                    "op": one_of(*OPERATORS),
                },
                required=("index", "value", "op"),
            )
        ),
    },
    required=("names", "action"),
    rules=(
        (("action", "errnoRet"), _errno_fits_action),
        (("action", "names"), _write_not_notified),
    ),
)


def _rules_of_whole(seccomp: dict[str, Any]) -> Mistakes:
    mistakes: list[Mistake] = []
    action = seccomp["defaultAction"]
    if action == "SCMP_ACT_NOTIFY":
        found = "SCMP_ACT_NOTIFY cannot be used as default action"
        mistakes.append(("defaultAction", "another action", found))
    elif "defaultErrnoRet" in seccomp and action not in _WITH_ERRNO:
        words = f"nothing, as {action} takes no errno"
        mistakes += wrong(words, seccomp["defaultErrnoRet"], "defaultErrnoRet")
    return mistakes


def _metadata_has_path(seccomp: dict[str, Any]) -> Mistakes:
    if seccomp.get("listenerMetadata") and not seccomp.get("listenerPath"):
        words = "nothing, as there is no listenerPath"
        return wrong(words, seccomp["listenerMetadata"], "listenerMetadata")
    return FINE


seccomp = members(
    {
        "defaultAction": _action,
        "defaultErrnoRet": uint32,
        "architectures": array(one_of(*ARCHITECTURES)),
        "flags": array(one_of(*FLAGS)),
        "listenerPath": text,
        "listenerMetadata": text,
        "syscalls": array(_syscall),
    },
    required=("defaultAction",),
    rules=(
        (("defaultAction", "defaultErrnoRet"), _rules_of_whole),
        (("listenerPath", "listenerMetadata"), _metadata_has_path),
    ),
)
