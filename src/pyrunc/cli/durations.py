"""Durations as Go writes them: ``5s``, ``100ms``, ``1m30s``, ``1.5h``."""

from __future__ import annotations

# The micro sign and the Greek letter mu look alike; both are typed.
_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "\u00b5s": 1e-6,
    "\u03bcs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}


def seconds(text: str) -> float:
    """Return the seconds of a duration; a number needs a unit, except ``0``.

    :raises ValueError: when it is not one.
    :raises OverflowError: when it is longer than the 292 years Go can count.
    """
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0.0
    if not rest:
        raise ValueError(text)
    total = 0.0
    while rest:
        digits = _leading(rest, "0123456789.")
        unit = _leading(rest[len(digits) :], "nu\u00b5\u03bcmsh")
        if not digits.strip(".") or digits.count(".") > 1 or unit not in _UNITS:
            raise ValueError(text)
        total += float(digits) * _UNITS[unit]
        rest = rest[len(digits) + len(unit) :]
    if total > (1 << 63) / 1e9:
        raise OverflowError(text)
    return -total if text[0] == "-" else total


def _leading(text: str, characters: str) -> str:
    return text[: len(text) - len(text.lstrip(characters))]
