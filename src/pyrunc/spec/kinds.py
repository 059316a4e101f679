"""The vocabulary in which the tables of this room say what a config may hold.

A *kind* is a function: given a value it returns the mistakes in it, each as
``(path, expected, found)`` with the path relative to the value, and nothing
(an empty tuple) when all is well. Kinds of objects and arrays are made from
the kinds of their members, which put their own name before a path only when
there is a mistake: checking a good config builds no path at all.

:data:`MISSING` stands for a value that is not there; every kind refuses it in
its own words, so that a missing member is reported with what it should be.
"""

from __future__ import annotations

from _json import encode_basestring_ascii

from pyrunc import ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Mistake = tuple[str, str, str]
    Mistakes = Sequence[Mistake]
    Kind = Callable[[object], Mistakes]
    #: The members (dotted) that a rule looks at, and the rule: it is asked only
    #: when none of them has a mistake of its own.
    Rule = tuple[tuple[str, ...], Callable[[dict[str, object]], Mistakes]]

FINE: Mistakes = ()
MISSING = object()
_LONGEST_SHOWN = 60

#: A config of thousands of mistakes is no config: arrays and maps stop looking, so that
#: 16 MiB of them neither take seconds nor fill memory.
MOST_REPORTED = 500


def show(value: object) -> str:
    """Describe a found value in one short line of printable ASCII."""
    if isinstance(value, str):
        if len(value) > _LONGEST_SHOWN:
            return f"{encode_basestring_ascii(value[:_LONGEST_SHOWN])}... ({len(value)} characters)"
        return encode_basestring_ascii(value)
    if value is MISSING:
        return "nothing"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "an object" if value else "an empty object"
    if isinstance(value, (list, tuple)):
        return "an array" if value else "an empty array"
    if isinstance(value, (int, float)):
        try:
            digits = str(value)
        except ValueError:  # more than sys.get_int_max_str_digits() of them
            return "a huge number"
        return digits if len(digits) <= 30 else digits[:30] + "..."
    return f"a Python {type(value).__name__}"


def wrong(expected: str, value: object, path: str = "") -> Mistakes:
    """Return the one mistake that ``value`` is not what was ``expected``."""
    return ((path, expected, show(value)),)


def join(name: str, path: str) -> str:
    """Put the name of a member, or ``[index]`` of an element, before a path below it."""
    if not path:
        return name
    return name + path if path[0] == "[" else f"{name}.{path}"


def key(name: str) -> str:
    """Return the path of an entry of a map, whose name may hold anything."""
    return f"[{show(name)}]"


def below(name: str, mistakes: Mistakes) -> list[Mistake]:
    """Return the mistakes of a member as mistakes of what it is a member of."""
    return [(join(name, path), expected, found) for path, expected, found in mistakes]


# Single values


def boolean(value: object) -> Mistakes:
    """Take true and false."""
    return FINE if value is True or value is False else wrong("true or false", value)


def integer(low: int, high: int) -> Kind:
    """Take the integers from ``low`` to ``high``; 1.0 and true are none."""
    words = f"an integer from {low} to {high}"

    def check(value: object) -> Mistakes:
        if type(value) is int and low <= value <= high:
            return FINE
        return wrong(words, value)

    return check


uint16 = integer(0, 2**16 - 1)
uint32 = integer(0, 2**32 - 1)
uint64 = integer(0, 2**64 - 1)
int32 = integer(-(2**31), 2**31 - 1)
int64 = integer(-(2**63), 2**63 - 1)
#: A uid or gid.
id_number = integer(0, ids.HIGHEST)


def text(value: object) -> Mistakes:
    """Take a string; NUL ends strings in the kernel, so it may not be part of one."""
    if type(value) is str and "\0" not in value:
        return FINE
    return wrong("a string without NUL" if isinstance(value, str) else "a string", value)


def path(value: object) -> Mistakes:
    """Take a path, absolute or relative, that is not empty."""
    if type(value) is str and value and "\0" not in value:
        return FINE
    return wrong("a path", value)


def absolute_path(value: object) -> Mistakes:
    """Take an absolute path."""
    if type(value) is str and value[:1] == "/" and "\0" not in value:
        return FINE
    return wrong("an absolute path", value)


def absolute_path_or_empty(value: object) -> Mistakes:
    """Take an absolute path, or the empty string that engines write for "not given"."""
    return FINE if value == "" else absolute_path(value)


def line(value: object) -> Mistakes:
    """Take a string that stays one line when it is written to a kernel file."""
    if type(value) is str and "\0" not in value and "\n" not in value:
        return FINE
    return wrong("a string of one line", value)


def one_of(*names: str, called: str = "") -> Kind:
    """Take one of the ``names``; what is found is ``called`` so, for those who match on it."""
    known = frozenset(names)

    def check(value: object) -> Mistakes:
        if type(value) is str and value in known:
            return FINE
        expected = "one of " + ", ".join(name or '""' for name in names)
        return (("", expected, f"{called} {show(value)}".strip()),)

    return check


def number_list(maximum: int, what: str) -> Kind:
    """Take a list such as ``0-3,7``; blanks and empty entries are allowed."""
    words = f"a list of {what} such as 0-3,7, none above {maximum}"

    def check(value: object) -> Mistakes:
        if type(value) is not str or len(value) > 65536:
            return wrong(words, value)
        for entry in value.split(","):
            low, dash, high = entry.strip(" ").partition("-")
            if not low and not dash:
                continue
            high = high if dash else low
            if not (_is_digits(low) and _is_digits(high)):
                return wrong(words, value)
            if not int(low) <= int(high) <= maximum:
                return wrong(words, value)
        return FINE

    return check


def _is_digits(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= 10


# Values made of values


def texts(value: object) -> Mistakes:
    """Take an array of strings without NUL."""
    if type(value) is list:
        try:
            if "\0" not in "".join(value):  # in C: thousands of names cost microseconds
                return FINE
        except TypeError:
            pass
    return _each_text(value)


def array(kind: Kind, least: int = 0, most: int = 0) -> Kind:
    """Take an array whose elements are of one kind, at least ``least`` and at most ``most``."""

    def check(value: object) -> Mistakes:
        if type(value) is not list:
            return wrong("an array", value)
        mistakes: list[Mistake] = []
        if len(value) < least:
            mistakes += wrong("at least one element", value)
        if most and len(value) > most:
            mistakes.append(("", f"at most {most} elements", f"{len(value)} elements"))
            return mistakes
        for element in value:
            if kind(element):
                break
        else:
            return mistakes
        for index, element in enumerate(value):
            if in_element := kind(element):
                mistakes += below(f"[{index}]", in_element)
                if len(mistakes) > MOST_REPORTED:
                    break
        return mistakes

    return check


_each_text = array(text)


def mapping(kind: Kind, name_kind: Kind | None = None) -> Kind:
    """Take an object used as a map, whose values are of one kind (and so its names)."""

    def check(value: object) -> Mistakes:
        if type(value) is not dict:
            return wrong("an object", value)
        mistakes: list[Mistake] = []
        for name, entry in value.items():
            if name_kind and (about_name := name_kind(name)):
                mistakes += below(key(name), about_name)
            if about_entry := kind(entry):
                mistakes += below(key(name), about_entry)
            if len(mistakes) > MOST_REPORTED:
                break
        return mistakes

    return check


class Spelling(str):
    """What is ``expected`` of a member whose name only differs in its case from a known one.

    Decoders in Go, and so every other runtime, take it for that one. It is not taken for it
    while checking, which changes no names, but by :meth:`correct`.
    """

    __slots__ = ("_holder", "_known", "_name")
    _holder: dict[str, object]
    _known: str
    _name: str

    def __new__(cls, holder: dict[str, object], name: str, known: str) -> Spelling:
        spelling = super().__new__(cls, f"the name {show(known)}")
        spelling._holder, spelling._name, spelling._known = holder, name, known
        return spelling

    def correct(self) -> bool:
        """Give the member its known name; False if there is one of that name as well."""
        if self._known in self._holder or self._name not in self._holder:
            return False
        self._holder[self._known] = self._holder.pop(self._name)
        return True


def members(
    kinds: dict[str, Kind], required: tuple[str, ...] = (), rules: tuple[Rule, ...] = ()
) -> Kind:
    """Take an object with these members; unknown ones are left alone.

    One whose name is known but for its case is a mistake with a :class:`Spelling`. A member
    that is null counts as absent, as it does for Go's decoder, and is taken out of the
    object: nobody after the check meets a null.
    """
    kind_of = kinds.get
    by_lower_case: dict[str, str] = {}

    def misspelt(value: dict[str, object], name: str) -> Mistakes:
        if not by_lower_case:
            by_lower_case.update({known.lower(): known for known in kinds})
        known = by_lower_case.get(name.lower())
        return ((key(name), Spelling(value, name, known), show(name)),) if known else FINE

    def check(value: object) -> Mistakes:
        if type(value) is not dict:
            return wrong("an object", value)
        mistakes: list[Mistake] = []
        nulls = False
        for name, member in value.items():
            if member is None:
                nulls = True
            elif (kind := kind_of(name)) is None:
                mistakes += misspelt(value, name)
            elif in_member := kind(member):
                mistakes += below(name, in_member)
        if nulls:
            for name in [name for name, member in value.items() if member is None]:
                del value[name]
        for name in required:
            if name not in value:
                mistakes += below(name, kinds[name](MISSING))
        of_members = mistakes[:]
        for looked_at, rule in rules:
            if not of_members or not _any_about(of_members, looked_at):
                mistakes += rule(value)
        return mistakes

    return check


def _any_about(mistakes: list[Mistake], names: tuple[str, ...]) -> bool:
    """Tell whether a mistake lies at, in or around one of the (dotted) members."""
    return any(
        at.startswith(name) or name.startswith(at + ".") for at, _, _ in mistakes for name in names
    )
