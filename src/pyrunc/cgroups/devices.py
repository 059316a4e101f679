"""Which devices a container may use: the rules of config.json, and those every container gets."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


class Rule:
    """One line of the devices cgroup: allow or deny, which devices, which accesses.

    ``kind`` is ``a``, ``b`` or ``c``; -1 as a number stands for all.
    """

    __slots__ = ("access", "allow", "kind", "major", "minor")

    def __init__(self, allow: bool, kind: str, major: int, minor: int, access: str) -> None:
        self.allow = allow
        self.kind = kind
        self.major = major
        self.minor = minor
        self.access = access

    def line(self) -> str:
        """Return the rule as devices.allow and devices.deny take it."""
        major = "*" if self.major < 0 else str(self.major)
        minor = "*" if self.minor < 0 else str(self.minor)
        return f"{self.kind} {major}:{minor} {self.access}"


#: The devices of rootfs/devices.py, terminals, /dev/net/tun (which makes interfaces of the
#: container's own network only, and takes CAP_NET_ADMIN there), and making (not opening) any
#: node, which is harmless where opening it is not allowed.
ALWAYS_ALLOWED = (
    Rule(True, "c", -1, -1, "m"),
    Rule(True, "b", -1, -1, "m"),
    Rule(True, "c", 1, 3, "rwm"),
    Rule(True, "c", 1, 8, "rwm"),
    Rule(True, "c", 1, 7, "rwm"),
    Rule(True, "c", 5, 0, "rwm"),
    Rule(True, "c", 1, 5, "rwm"),
    Rule(True, "c", 1, 9, "rwm"),
    Rule(True, "c", 136, -1, "rwm"),
    Rule(True, "c", 5, 2, "rwm"),
    Rule(True, "c", 10, 200, "rwm"),
)
_DENY_ALL = Rule(False, "a", -1, -1, "rwm")


def rules_for(entries: Iterable[dict[str, Any]] | None) -> list[Rule]:
    """Return the rules of ``resources.devices`` in order, between "deny all" and our own.

    A container starts with nothing allowed, whatever its config says or leaves out.
    """
    rules = [_DENY_ALL]
    for entry in entries or ():
        rules += _rules(entry)
    rules += ALWAYS_ALLOWED
    return rules


def _rules(entry: dict[str, Any]) -> list[Rule]:
    """Return the rules for one entry: of all kinds but with numbers, there is one for each kind."""
    major, minor = entry.get("major"), entry.get("minor")
    letters = entry.get("access") or "rwm"
    # In the kernel's order, each once: v1 reads three letters and no more.
    allow, access = bool(entry.get("allow")), "".join(x for x in "rwm" if x in letters)
    major = -1 if major is None else major
    minor = -1 if minor is None else minor
    kind = entry.get("type") or "a"
    if kind == "a" and (major >= 0 or minor >= 0):
        return [Rule(allow, each, major, minor, access) for each in "bc"]
    return [Rule(allow, kind, major, minor, access)]


def v1_writes(rules: Iterable[Rule]) -> list[tuple[str, str]]:
    """Return ``(file, line)`` for the v1 devices cgroup, whose kernel keeps the order's meaning.

    "a" takes neither numbers nor accesses: it is all devices with all accesses (devices.rst).
    """
    return [
        (
            "devices.allow" if rule.allow else "devices.deny",
            "a" if rule.kind == "a" else rule.line(),
        )
        for rule in rules
    ]
