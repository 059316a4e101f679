"""What a config says its processes may: it is in the images, and no restore changes it.

So a config that says something else is refused: what it asks for would not hold.
"""

from __future__ import annotations

from pyrunc.errors import Error
from pyrunc.spec import json_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

    from pyrunc.spec.types import Spec

_PROFILES = ("process.apparmorProfile", "process.selinuxLabel")
_SECTIONS = (
    "process.user",
    "process.capabilities",
    "process.noNewPrivileges",
    "process.rlimits",
    *_PROFILES,
    "linux.seccomp",
    "linux.sysctl",
    "linux.uidMappings",
    "linux.gidMappings",
)


def digests(spec: Spec) -> dict[str, str]:
    """Return the digest (SHA-256) of each section of a config that is not empty, by its path."""
    import hashlib

    found = {}
    for section in _SECTIONS:
        value: Any = spec
        for name in section.split("."):
            value = (value or {}).get(name)
        if value:
            text = json_text.encode(_ordered(value)).encode()
            found[section] = hashlib.sha256(text).hexdigest()
    return found


def _ordered(value: Any) -> Any:
    """Return the same value with members, and lists of words, in alphabetical order."""
    if isinstance(value, dict):
        return {name: _ordered(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        if all(isinstance(one, str) for one in value):
            return sorted(value)
        return [_ordered(one) for one in value]
    return value


def check(saved: Mapping[str, str], spec: Spec, given: Collection[str] = ()) -> None:
    """See that a config says what the saved one did.

    :param saved: the digests of that.
    :param given: "profile" when the security profile is given apart from the config.
    :raises Error: naming the sections that differ.
    """
    now = digests(spec)
    differing = [
        section
        for section in _SECTIONS
        if saved.get(section) != now.get(section)
        and not ("profile" in given and section in _PROFILES)
    ]
    if differing:
        raise Error(
            f"the saved container had another {', '.join(differing)} than the config has: what its "
            "processes are and may is in the images, and stays as it was"
        )
