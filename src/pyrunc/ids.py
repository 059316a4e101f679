"""User and group ids: the one place that turns text into them, and tells what is one.

The kernel takes ids in registers of which it looks at the lower 32 bits, and takes the highest
of them, (uid_t)-1, for "leave as it is" (setresuid(2)). So 4294967296 would be root, and
4294967295 whoever is asking: neither may ever get that far.
"""

from __future__ import annotations

from pyrunc.errors import Error

HIGHEST = 2**32 - 2


def parse(text: str) -> int:
    """Return the id that ``text``, all of it, writes in decimal ASCII digits.

    :raises ValueError: when it is anything else.
    :raises OverflowError: when it is a number, but no id.
    """
    if not (text.isascii() and text.isdigit()):
        raise ValueError(text)
    digits = text.lstrip("0")
    # int() takes time, and refuses in its own way, for texts of any length.
    number = int(digits or "0") if len(digits) <= 10 else HIGHEST + 1
    if number > HIGHEST:
        raise OverflowError(text)
    return number


def check(number: object, what: str) -> int:
    """Return ``number`` when it is an id.

    :param what: "uid" or "gid", for the error.
    :raises Error: when it is not.
    """
    if type(number) is not int or not 0 <= number <= HIGHEST:
        raise Error(f"{what} {number!r} is no id: expected an integer from 0 to {HIGHEST}")
    return number
