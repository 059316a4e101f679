"""``pyrunc update``: change the limits of a container while it runs."""

from __future__ import annotations

import posix

from pyrunc.errors import Error, reason

from .flags import key
from .sizes import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyrunc.container.settings import Settings

    from .flags import Options, Table

FLAGS: Table = (
    ("resources,r", "str", "file with JSON of the limits, or '-' for the standard input"),
    ("blkio-weight", "int", "weight of block I/O, 10 to 1000"),
    ("cpu-period", "str", "length of a CFS period in microseconds; 0 for the system's"),
    ("cpu-quota", "str", "microseconds of processor time in a period; -1 for no limit"),
    ("cpu-burst", "str", "microseconds that may be saved up for a burst"),
    ("cpu-share", "str", "weight of processor time among containers"),
    ("cpu-rt-period", "str", "length of a real-time period in microseconds"),
    ("cpu-rt-runtime", "str", "microseconds of real-time scheduling in a period"),
    ("cpu-idle", "str", "1 to run only when the machine is idle, 0 not"),
    ("cpuset-cpus", "str", "processors to use, as 0-2,7"),
    ("cpuset-mems", "str", "memory nodes to use, as 0-2,7"),
    ("memory", "str", "limit of memory; -1 for none"),
    ("memory-reservation", "str", "memory to fall back to when the machine runs short"),
    ("memory-swap", "str", "limit of memory and swap together; -1 for none"),
    ("pids-limit", "int", "how many processes and threads there may be; -1 for no limit"),
    ("l3-cache-schema", "str", "schema of the L3 cache (Intel RDT/CAT)"),
    ("mem-bw-schema", "str", "schema of the memory bandwidth (Intel RDT/MBA)"),
)
ARGUMENTS = (1, 1)

# More than any list of limits takes; the file may be a pipe that never ends.
_LARGEST = 4 << 20
_MAXIMUM = {"Int": (1 << 63) - 1, "Uint": (1 << 64) - 1}


def call(settings: Settings, options: Options, arguments: list[str]) -> int:
    """Apply the limits and return 0."""
    notes: list[str] = []
    resources, intel_rdt = limits(options, notes)
    for note in notes:
        settings.log.warn(note)
    from pyrunc.container.update import update

    update(settings, arguments[0], resources, intel_rdt)
    return 0


def limits(
    options: Options, notes: list[str] | None = None
) -> tuple[dict[str, Any], dict[str, str] | None]:
    """Return what the options ask for, shaped like ``linux.resources`` and ``linux.intelRdt``.

    What was not mentioned is not in it.

    :param notes: takes a line for each thing that deserves a warning.
    :raises Error: naming the option whose value makes no sense.
    """
    if options["resources"]:
        return read_resources(options["resources"], notes), None
    resources: dict[str, Any] = {}
    for flag, section, member, convert in _MEMBERS:
        name = key((flag, "str", ""))
        value = options[name]
        if name not in options["given"] or value == "":
            continue
        try:
            resources.setdefault(section, {})[member] = convert(value)
        except ValueError as error:
            raise Error(f"invalid value for {flag}: {error}") from None
    schemas = {
        member: options[name]
        for name, member in (
            ("l3_cache_schema", "l3CacheSchema"),
            ("mem_bw_schema", "memBwSchema"),
        )
        if options[name]
    }
    return resources, schemas or None


def read_resources(path: str, notes: list[str] | None = None) -> dict[str, Any]:
    """Read the JSON object of ``--resources`` from a file, or from stdin for ``-``.

    :raises Error: when it cannot be read or breaks the specification, with all mistakes.
    """
    named = "the standard input" if path == "-" else path
    try:
        content = _read(path)
    except (OSError, ValueError) as error:
        raise Error(f"cannot read resources from {named}: {reason(error)}") from None
    if len(content) > _LARGEST:
        raise Error(f"cannot read resources from {named}: more than {_LARGEST >> 20} MiB")
    from pyrunc.spec.load import parse_resources

    return dict(parse_resources(content, f"resources in {named}", notes))


def _read(path: str) -> bytes:
    descriptor = 0 if path == "-" else posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        content = b""
        while len(content) <= _LARGEST:
            chunk = posix.read(descriptor, 1 << 16)
            if not chunk:
                break
            content += chunk
        return content
    finally:
        if path != "-":
            posix.close(descriptor)


def _number(kind: str, value: str) -> int:
    """Convert decimal digits as strconv.ParseInt or ParseUint does, with its words."""
    digits = value[1:] if kind == "Int" and value[:1] in ("-", "+") else value
    shown = value.replace("\\", "\\\\").replace('"', '\\"')
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f'strconv.Parse{kind}: parsing "{shown}": invalid syntax')
    if len(digits) > 40 or not -(1 << 63) <= int(value) <= _MAXIMUM[kind]:
        raise ValueError(f'strconv.Parse{kind}: parsing "{shown}": value out of range')
    return int(value)


def _signed(value: str) -> int:
    return _number("Int", value)


def _unsigned(value: str) -> int:
    return _number("Uint", value)


def _bytes(value: str) -> int:
    return -1 if value == "-1" else size(value)


def _weight(value: int) -> int:
    if not 0 <= value <= 0xFFFF:
        raise ValueError(f"{value} is not between 10 and 1000")
    return value


_MEMBERS: tuple[tuple[str, str, str, Callable[[Any], Any]], ...] = (
    ("blkio-weight", "blockIO", "weight", _weight),
    ("cpu-period", "cpu", "period", _unsigned),
    ("cpu-quota", "cpu", "quota", _signed),
    ("cpu-burst", "cpu", "burst", _unsigned),
    ("cpu-share", "cpu", "shares", _unsigned),
    ("cpu-rt-period", "cpu", "realtimePeriod", _unsigned),
    ("cpu-rt-runtime", "cpu", "realtimeRuntime", _signed),
    ("cpu-idle", "cpu", "idle", _signed),
    ("cpuset-cpus", "cpu", "cpus", str),
    ("cpuset-mems", "cpu", "mems", str),
    ("memory", "memory", "limit", _bytes),
    ("memory-reservation", "memory", "reservation", _bytes),
    ("memory-swap", "memory", "swap", _bytes),
    ("pids-limit", "pids", "limit", int),
)
