"""Sizes of memory as typed: bytes, or with a unit in powers of 1024 (``512m``, ``1.5GiB``)."""

from __future__ import annotations

_POWERS = "kmgtp"


def size(text: str) -> int:
    """Return the bytes of a size.

    :raises ValueError: ``invalid size: '…'`` or ``invalid suffix: '…'``.
    """
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    suffix = text[len(number) :].lower()
    number = number.removesuffix(" ")
    whole, _, fraction = number.partition(".")
    digits = whole + fraction
    if not (digits.isascii() and digits.isdigit()) or number.count(".") > 1:
        raise ValueError(f"invalid size: '{text}'")
    power = 0
    if suffix not in ("", "b"):
        if suffix[1:] not in ("", "b", "ib") or suffix[0] not in _POWERS:
            raise ValueError(f"invalid suffix: '{suffix}'")
        power = _POWERS.index(suffix[0]) + 1
    # In integers: a float would round what lies above 8 PiB.
    found = (int(digits) << 10 * power) // int("1" + "0" * len(fraction))
    if found >= 1 << 63:
        raise ValueError(f"invalid size: '{text}'")
    return found
