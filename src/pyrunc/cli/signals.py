"""Signals as typed: a number, ``TERM``, ``SIGTERM`` or ``sigterm``, ``RTMIN+3`` (signal(7))."""

from __future__ import annotations

from pyrunc.errors import Error

# x86_64 and aarch64 number them alike.
_NAMES = (
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP"
    " TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
)
_ALIASES = {"IOT": 6, "CLD": 17, "POLL": 29, "UNUSED": 31}
# As the C library counts: the two real-time signals below are its own.
_RTMIN = 34
_LAST = 64


def number(text: str) -> int:
    """Return the number of a signal.

    :raises Error: ``unknown signal "X"``.
    """
    found = -1
    if text.isascii() and text.isdigit() and len(text) <= 4:
        found = int(text)
    else:
        name = text.upper().removeprefix("SIG")
        names = _NAMES.split()
        if name in names:
            found = names.index(name) + 1
        elif name in _ALIASES:
            found = _ALIASES[name]
        elif name.startswith("RTM"):
            found = _real_time(name)
    if 0 <= found <= _LAST:
        return found
    from .text import quoted

    raise Error(f"unknown signal {quoted(text)}")


def _real_time(name: str) -> int:
    base, sign, steps = name[:5], name[5:6], name[6:]
    start = {"RTMIN": _RTMIN, "RTMAX": _LAST}.get(base, -1)
    if start < 0 or not sign:
        return start
    if sign != ("+" if base == "RTMIN" else "-") or not (steps.isascii() and steps.isdigit()):
        return -1
    found = start + int(sign + steps[:4])
    return found if _RTMIN <= found <= _LAST else -1
