"""Flags as Go programs take them, so that a command line written for runc is understood.

One or two dashes, ``--name=value`` or ``--name value``; a boolean takes a
value only after ``=``; ``--`` ends the flags. Not for long help texts: those
are in :mod:`pyrunc.cli.help`.

A flag table is a tuple of ``(names, kind, help)`` or ``(names, kind, help,
default)``: ``names`` is comma-separated, the first one names the option in
the result (with ``_`` for ``-``); ``kind`` is one of

=============  ==============================  ==================
kind           value on the command line       value when absent
=============  ==============================  ==================
``bool``       none, or ``=true``/``=false``   ``False``
``str``        any text                        ``""``
``int``        decimal, 0x, 0o or 0b           ``0``
``list``       any text, may be repeated       ``[]``
``ids``        id, decimal, may be repeated    ``[]``
``duration``   ``1m30s``, ``100ms``            ``0.0`` (seconds)
=============  ==============================  ==================

unless the fourth member says otherwise.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Flag = tuple[str, str, str] | tuple[str, str, str, Any]
    Table = tuple[Flag, ...]
    Options = dict[str, Any]

HELP: Flag = ("help,h", "bool", "show help")

_ABSENT = {"bool": False, "str": "", "int": 0, "duration": 0.0}
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")


class UsageError(Exception):
    """What was typed cannot be understood; the text says which part."""


def key(flag: Flag) -> str:
    """Return the name under which a flag's value is found in the options."""
    return flag[0].partition(",")[0].replace("-", "_")


def parse(
    table: Table, words: Sequence[str], *, flags_anywhere: bool = True
) -> tuple[Options, list[str]]:
    """Sort ``words`` into options and arguments.

    With ``flags_anywhere`` flags may follow arguments; without, everything
    from the first argument on is an argument, whatever it looks like.
    The options hold every flag of ``table``, plus ``help``; the keys of those
    really given are in ``options["given"]`` (a set).

    :raises UsageError: in the words of Go's flag package.
    """
    options, flags = _declared(table)
    arguments: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if len(word) < 2 or word[0] != "-":
            if not flags_anywhere:
                arguments += words[position - 1 :]
                break
            arguments.append(word)
            continue
        if word == "--":
            arguments += words[position:]
            break
        name, equals, value = word[2 if word[1] == "-" else 1 :].partition("=")
        if not name or name[0] == "-":
            raise UsageError(f"bad flag syntax: {word}")
        flag = flags.get(name)
        if flag is None:
            raise UsageError(f"flag provided but not defined: -{name}")
        if not equals and flag[1] == "bool":
            value = "true"
        elif not equals:
            if position == len(words):
                raise UsageError(f"flag needs an argument: -{name}")
            value = words[position]
            position += 1
        converted = _converted(flag[1], name, value)
        where = key(flag)
        options["given"].add(where)
        if flag[1] in ("list", "ids"):
            options[where].append(converted)
        else:
            options[where] = converted
    return options, arguments


def _declared(table: Table) -> tuple[Options, dict[str, Flag]]:
    """Return the options when nothing is given, and each flag under all its names."""
    options: Options = {"help": False, "given": set()}
    flags = {"help": HELP, "h": HELP}
    for flag in table:
        kind = flag[1]
        if len(flag) == 4:
            options[key(flag)] = flag[3]
        else:
            options[key(flag)] = [] if kind in ("list", "ids") else _ABSENT[kind]
        for name in flag[0].split(","):
            flags[name] = flag
    return options, flags


def boolean(text: str) -> bool:
    """Read a truth value.

    :raises ValueError: when it is none of those Go knows.
    """
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(text)


def _converted(kind: str, name: str, value: str) -> str | int | float:
    if kind in ("str", "list"):
        return value
    try:
        if kind == "bool":
            return boolean(value)
        if kind == "duration":
            from .durations import seconds

            return seconds(value)
        if kind == "ids":
            from pyrunc import ids

            return ids.parse(value)
        return integer(value)
    except OverflowError:
        cause = "value out of range"
    except ValueError:
        cause = "parse error"
        if kind == "ids":
            cause = f"strconv.ParseInt: parsing {_quoted(value)}: invalid syntax"
    if kind == "bool":
        raise UsageError(f"invalid boolean value {_quoted(value)} for -{name}: {cause}")
    raise UsageError(f"invalid value {_quoted(value)} for flag -{name}: {cause}")


def integer(text: str) -> int:
    """Read a signed 64-bit integer as Go does with base 0: ``10``, ``-1``, ``0x1f``, ``017``.

    :raises ValueError: when it is not a number.
    :raises OverflowError: when it needs more than 64 bits.
    """
    if not text.isascii() or text != text.strip():
        raise ValueError(text)
    digits = text.lstrip("+-")
    octal = len(digits) > 1 and digits[0] == "0" and digits[1] in "01234567_"
    number = int(text, 8 if octal else 0)
    if not -(1 << 63) <= number < 1 << 63:
        raise OverflowError(text)
    return number


def _quoted(text: str) -> str:
    from .text import quoted

    return quoted(text)
