"""JSON to Python and back, without the cost of importing the ``json`` package.

The accelerators behind ``json`` (the ``_json`` module) do the work; they are
private to CPython, so a version in which they are gone or take other arguments
falls back to the package itself. What is wrong with a text that is refused is found
by :mod:`pyrunc.spec.json_mistake`. Nothing here knows what the text is about.
"""

from __future__ import annotations

from pyrunc.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: A configuration is some tens of KiB; this bounds memory, not usefulness.
MAXIMUM_BYTES = 16 * 1024 * 1024

_BLANKS = " \t\n\r"


class NotJson(Error):
    """A text is not JSON, or more of it than can be accepted.

    ``where`` is "line 3 column 7" or "the whole"; what was ``expected`` and ``found`` there.
    """

    def __init__(self, expected: str, found: str, where: str = "the whole") -> None:
        self.expected = expected
        self.found = found
        self.where = where
        super().__init__(f"invalid JSON, {where}: expected {expected}, found {found}")


def parse(text: str | bytes) -> object:
    """Return what the JSON ``text`` stands for; of members named twice the last one wins.

    Raises NotJson for anything RFC 8259 does not allow (NaN, Infinity, bytes
    that are not UTF-8), numbers out of a float's range, texts larger than
    MAXIMUM_BYTES and nesting deeper than the interpreter's recursion limit.
    A byte order mark is passed over, as section 8.1 lets a parser do.
    """
    if len(text) > MAXIMUM_BYTES:
        raise NotJson(f"at most {MAXIMUM_BYTES // (1024 * 1024)} MiB of JSON", "more")
    if isinstance(text, bytes):
        text = _decoded(text)
    text = text.removeprefix("\ufeff")
    stripped = text.strip(_BLANKS)
    try:
        if _scan is not None:
            value, end = _scan(stripped, 0)
            if end == len(stripped):
                return value
    except RecursionError:
        raise _too_deep() from None
    except (ValueError, StopIteration, SystemError):
        # SystemError: the scanner looks for its exception in the package json, which
        # nobody has imported (CPython 3.11), and comes back without one.
        pass
    return _parse_with_package(text)


def encode(value: object) -> str:
    """Return ``value`` as JSON in one line, ASCII only, members in their own order."""
    try:
        if _encode_parts is not None:
            return "".join(_encode_parts(value, 0))
        import json

        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except RecursionError:
        raise NotJson("what can be written as JSON", "values nested too deeply") from None


def encode_indented(value: object, indent: str = "\t") -> str:
    """Return ``value`` as JSON with a line for each member or element, as Go's encoder has it."""
    parts: list[str] = []
    try:
        _indented(value, "\n", indent, parts)
    except RecursionError:
        raise NotJson("what can be written as JSON", "values nested too deeply") from None
    return "".join(parts)


def check_characters(value: object) -> None:
    """Raise NotJson when a string below ``value`` holds half of a surrogate pair.

    JSON can escape one, but it stands for no character: it has no UTF-8 form.
    """
    import json

    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise NotJson("characters", "an escaped half of a surrogate pair") from None


def _indented(value: object, newline: str, indent: str, parts: list[str]) -> None:
    if not value or not isinstance(value, (dict, list, tuple)):
        parts.append(encode(value))
        return
    deeper = newline + indent
    separator = deeper
    if isinstance(value, dict):
        parts.append("{")
        for name, member in value.items():
            parts.append(f"{separator}{encode(name)}: ")
            _indented(member, deeper, indent, parts)
            separator = "," + deeper
        parts.append(newline + "}")
    else:
        parts.append("[")
        for element in value:
            parts.append(separator)
            _indented(element, deeper, indent, parts)
            separator = "," + deeper
        parts.append(newline + "]")


def _parse_with_package(text: str) -> object:
    """Parse slowly; this is the way to a message, too."""
    import json

    try:
        return json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        from pyrunc.spec.json_mistake import first_mistake, place

        mistake = first_mistake(text)
        if mistake is None:
            raise NotJson("JSON", str(error)) from None
        raise NotJson(mistake.expected, mistake.found, place(text, mistake.at)) from None


def _too_deep() -> NotJson:
    return NotJson("fewer levels", "values nested too deeply")


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        from pyrunc.spec.json_mistake import place

        found = f"the byte 0x{text[error.start]:02x}, as in a text of another encoding"
        if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
            found = "UTF-16 or UTF-32, by its byte order mark"
        before = text[: error.start].decode()
        raise NotJson("UTF-8", found, place(before, len(before))) from None


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if number - number != 0:
        raise ValueError("a number out of range")
    return number


class _Settings:
    """What the C scanner reads its options from."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    array_hook = None
    parse_float = _finite
    parse_int = int
    parse_constant = _no_constant


def _not_serialisable(value: object) -> object:
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _scanner() -> Callable[[str, int], tuple[object, int]] | None:
    try:
        from _json import make_scanner

        scan: Callable[[str, int], tuple[object, int]] = make_scanner(_Settings)  # type: ignore[arg-type]
        if scan('{"a":[1,"b"]}', 0) == ({"a": [1, "b"]}, 13):
            return scan
    except (ImportError, TypeError, AttributeError, ValueError, StopIteration):
        pass
    return None


def _encoder() -> Callable[[object, int], Iterable[str]] | None:
    try:
        from _json import encode_basestring_ascii, make_encoder

        # markers (cycle detection: off, RecursionError stops a cycle), default, string
        # encoder, indent, ": ", ", ", sort_keys, skipkeys, allow_nan
        encode_parts: Callable[[object, int], Iterable[str]] = make_encoder(
            None, _not_serialisable, encode_basestring_ascii, None, ":", ",", False, False, False
        )
        if "".join(encode_parts({"a": [1, "b"]}, 0)) == '{"a":[1,"b"]}':
            return encode_parts
    except (ImportError, TypeError, AttributeError, ValueError):
        pass
    return None


_scan = _scanner()
_encode_parts = _encoder()
