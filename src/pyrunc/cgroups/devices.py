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


#: The devices of rootfs/devices.py, terminals, and making (not opening) any node, which
#: is harmless where opening it is not allowed.
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
)
_DENY_ALL = Rule(False, "a", -1, -1, "rwm")


def rules_for(entries: Iterable[dict[str, Any]] | None) -> list[Rule]:
    """Return the rules of ``resources.devices`` in order, between "deny all" and our own.

    A container starts with nothing allowed, whatever its config says or leaves out.
    """
    rules = [_DENY_ALL]
    rules += [_rule(entry) for entry in entries or ()]
    rules += ALWAYS_ALLOWED
    return rules


def _rule(entry: dict[str, Any]) -> Rule:
    major, minor = entry.get("major"), entry.get("minor")
    return Rule(
        bool(entry.get("allow")),
        entry.get("type") or "a",
        -1 if major is None else major,
        -1 if minor is None else minor,
        entry.get("access") or "rwm",
    )


def v1_writes(rules: Iterable[Rule]) -> list[tuple[str, str]]:
    """Return ``(file, line)`` for the v1 devices cgroup, whose kernel keeps the order's meaning."""
    writes = []
    for rule in rules:
        name = "devices.allow" if rule.allow else "devices.deny"
        # "a" takes no numbers: it is all devices with all accesses (devices.rst).
        whole = rule.kind == "a" and rule.major < 0 and rule.minor < 0 and set(rule.access) == set("rwm")
        if whole:
            writes.append((name, "a"))
        elif rule.kind == "a":
            for kind in "bc":
                split = Rule(rule.allow, kind, rule.major, rule.minor, rule.access)
                writes.append((name, split.line()))
        else:
            writes.append((name, rule.line()))
    return writes
