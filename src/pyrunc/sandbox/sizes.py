"""Sizes and times as people give them."""

from __future__ import annotations

from pyrunc.sandbox.errors import InvalidArgument

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def size(value: int | str, name: str) -> int:
    """Return bytes for an int, or for a text such as "64M" (K, M, G, T are powers of 1024).

    :param name: of the argument, for the error.
    :raises InvalidArgument: for anything else.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str):
        text = value.strip().upper().removesuffix("B").removesuffix("I")
        number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS and text[-1:] else (text, "")
        if number.isascii() and number.isdigit():
            return int(number) * _UNITS[unit]
    raise InvalidArgument(f'{name} must be a number of bytes or a text like "64M", not {value!r}')


def optional_size(value: int | str | None, name: str) -> int | None:
    """Return :func:`size`, None for None."""
    return None if value is None else size(value, name)


def seconds(value: float | None, name: str) -> float | None:
    """Return a time in seconds, None for none.

    :raises InvalidArgument: for what is no positive number.
    """
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        return float(value)
    raise InvalidArgument(f"{name} must be seconds (a number above 0) or None, not {value!r}")


def count(value: int | None, name: str) -> int | None:
    """Return a positive number, None for none.

    :raises InvalidArgument: for anything else.
    """
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise InvalidArgument(f"{name} must be a whole number above 0 or None, not {value!r}")
