"""Why a text is not JSON: the place, and in plain words what was expected and found there.

Loaded only when a text has been refused: a parser's own words are for those who write parsers,
and differ from one Python version to the next.
"""

from __future__ import annotations

import re
import sys

from pyrunc.spec.kinds import show

_BLANKS = re.compile(r"[ \t\n\r]*")
#: A string as far as it is one: up to its last quote, or to what cannot be part of it.
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_LITERAL = re.compile(r"(?:true|false|null)(?![A-Za-z0-9_])")
_WORD = re.compile(r"-?[A-Za-z_][A-Za-z0-9_]*")
_ESCAPE = re.compile(r"\\(?:u.{0,4}|.?)")
_PYTHON = {"True": "true", "False": "false", "None": "null"}

# What may come next.
_VALUE, _FIRST_VALUE, _NAME, _FIRST_NAME, _COLON, _AFTER_VALUE = range(6)
_EXPECTED = {
    _VALUE: "a value",
    _FIRST_VALUE: 'a value or "]"',
    _NAME: "a name in double quotes",
    _FIRST_NAME: 'a name in double quotes or "}"',
    _COLON: 'a ":" after the name',
}


class Mistake(Exception):
    """The first thing that is not JSON: where it is (an index), what was expected, and found."""

    def __init__(self, at: int, expected: str, found: str) -> None:
        self.at = at
        self.expected = expected
        self.found = found
        super().__init__(expected, found)


def first_mistake(text: str) -> Mistake | None:
    """Return the first mistake in ``text``; None when it is JSON as RFC 8259 has it."""
    try:
        _check(text)
    except Mistake as mistake:
        return mistake
    return None


def place(text: str, at: int) -> str:
    """Return where the index ``at`` is, as editors count: ``line 3 column 7``."""
    return f"line {text.count(chr(10), 0, at) + 1} column {at - text.rfind(chr(10), 0, at)}"


def _check(text: str) -> None:
    """Go through the text without recursion: it may be nested as deeply as it likes."""
    awaited = _VALUE
    closers: list[str] = []
    at = 0
    while True:
        at = _BLANKS.match(text, at).end()  # type: ignore[union-attr]
        letter = text[at : at + 1]
        if awaited == _AFTER_VALUE and not closers:
            if letter:
                raise Mistake(at, "the end of the text", f"more of it: {_found(text, at)}")
            return
        closer = closers[-1] if closers else ""
        if letter and letter == closer and awaited in (_AFTER_VALUE, _FIRST_NAME, _FIRST_VALUE):
            closers.pop()
            awaited = _AFTER_VALUE
            at += 1
        elif awaited == _AFTER_VALUE:
            if letter != ",":
                raise Mistake(at, f'"," or "{closer}"', _found(text, at))
            awaited = _NAME if closer == "}" else _VALUE
            at += 1
        elif awaited == _COLON:
            if letter != ":":
                raise Mistake(at, _EXPECTED[_COLON], _found(text, at))
            awaited = _VALUE
            at += 1
        elif awaited in (_NAME, _FIRST_NAME):
            if letter != '"':
                raise _misplaced(text, at, awaited)
            at = _end_of_string(text, at)
            awaited = _COLON
        elif letter in ("{", "["):
            closers.append("}" if letter == "{" else "]")
            awaited = _FIRST_NAME if letter == "{" else _FIRST_VALUE
            at += 1
        else:
            at = _end_of_scalar(text, at, awaited)
            awaited = _AFTER_VALUE


def _misplaced(text: str, at: int, awaited: int) -> Mistake:
    found = _found(text, at)
    if awaited in (_NAME, _VALUE) and text[at : at + 1] in ("}", "]"):
        before = text[:at].rstrip(" \t\n\r")[-1:]
        if before == ",":
            found += " after a comma (no comma may follow the last one)"
    return Mistake(at, _EXPECTED[awaited], found)


def _end_of_scalar(text: str, at: int, awaited: int) -> int:
    if text[at : at + 1] == '"':
        return _end_of_string(text, at)
    if literal := _LITERAL.match(text, at):
        return literal.end()
    number = _NUMBER.match(text, at)
    if not number:
        raise _misplaced(text, at, awaited)
    _check_number(number.group(), at)
    return number.end()


def _check_number(digits: str, at: int) -> None:
    most = sys.get_int_max_str_digits()
    if digits.lstrip("-").isdigit():
        if most and len(digits.lstrip("-")) > most:
            raise Mistake(at, "a number", f"one of more than {most} digits")
    elif abs(float(digits)) == float("inf"):
        raise Mistake(at, "a number", f"one out of range: {show(digits)[1:-1]}")


def _end_of_string(text: str, at: int) -> int:
    """Return the index after the string that begins at ``at``."""
    end: int = _STRING.match(text, at).end()  # type: ignore[union-attr]
    letter = text[end : end + 1]
    if letter == '"':
        return end + 1
    closing = f"the double quote that ends the string of {place(text, at)}"
    if letter == "\\":
        escape = _ESCAPE.match(text, end)
        if escape and end + 1 < len(text):
            expected = r"one of \" \\ \/ \b \f \n \r \t \uXXXX"
            raise Mistake(end, expected, _as_it_is(escape.group()))
        raise Mistake(len(text), closing, "the end of the text")
    if letter in ("\n", "\r"):
        raise Mistake(end, closing, r"the end of the line (a line break is written \n)")
    if letter:
        raise Mistake(end, closing, f"a control character, U+{ord(letter):04X}")
    raise Mistake(end, closing, "the end of the text")


def _found(text: str, at: int) -> str:
    """Say what is at an index where it does not belong."""
    if at >= len(text):
        return "the end of the text" if text.strip(" \t\n\r") else "nothing: the text is empty"
    letter = text[at]
    if text.startswith(("//", "/*"), at) or letter == "#":
        return f"a comment ({'#' if letter == '#' else text[at : at + 2]}); JSON has none"
    if letter == "'":
        return "a single quote; JSON has double quotes only"
    if letter in "\u2018\u2019\u201c\u201d\u00ab\u00bb":
        return f"a typographic quote ({show(letter)[1:-1]}); JSON has plain double quotes only"
    if letter == "\0":
        return "a NUL character (is the text UTF-16?)"
    if word := _WORD.match(text, at):
        name = word.group()
        if name in _PYTHON:
            return f"{name}, which JSON writes {_PYTHON[name]}"
        if name.lstrip("-") in ("NaN", "Infinity"):
            return f"{name}, which is not a JSON number"
        return f"the word {_as_it_is(name)} without double quotes"
    return _as_it_is(letter)


def _as_it_is(letters: str) -> str:
    """Quote what is found: no escapes but for what is not plain ASCII."""
    if len(letters) > 40:
        letters = f"{letters[:40]}..."
    return f'"{letters}"' if letters.isascii() and letters.isprintable() else show(letters)
