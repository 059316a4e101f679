"""``linux.resources`` and annotations as unit properties (systemd.resource-control(5))."""

from __future__ import annotations

from pyrunc.cgroups.v2_limits import io_weight_of, weight_of_shares
from pyrunc.errors import Error
from pyrunc.linux.number_lists import mask_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyrunc.cgroups.systemd_bus import Property

_UNLIMITED = (1 << 64) - 1
_PREFIX = "org.systemd.property."
_DEFAULT_PERIOD = 100_000
#: What systemd calls a weight of "idle"; one that was not told sets cpu.idle back.
IDLE: Property = ("CPUWeight", "t", 0)
#: The first version of systemd that knows it.
IDLE_SINCE = 252


def from_resources(resources: Mapping[str, Any], version: int) -> list[Property]:
    """Return what systemd has properties for; all else is only in the files."""
    properties: list[Property] = []
    memory = resources.get("memory") or {}
    cpu = resources.get("cpu") or {}
    limit, swap = memory.get("limit"), memory.get("swap")
    if limit:
        properties.append(("MemoryMax" if version == 2 else "MemoryLimit", "t", _bytes(limit)))
    if version == 2:
        if memory.get("reservation"):
            properties.append(("MemoryLow", "t", _bytes(memory["reservation"])))
        if swap == -1:
            properties.append(("MemorySwapMax", "t", _UNLIMITED))
        elif swap and limit and limit > 0:
            properties.append(("MemorySwapMax", "t", swap - limit))
        for member, name in (("cpus", "AllowedCPUs"), ("mems", "AllowedMemoryNodes")):
            if cpu.get(member):
                properties.append((name, "ay", _bit_mask(cpu[member])))
    if cpu.get("idle"):
        if version == 2:
            properties.append(IDLE)
    elif cpu.get("shares"):
        if version == 2:
            properties.append(("CPUWeight", "t", weight_of_shares(cpu["shares"])))
        else:
            properties.append(("CPUShares", "t", cpu["shares"]))
    properties += _quota(cpu)
    pids = (resources.get("pids") or {}).get("limit")
    if pids is not None:
        # systemd has no zero here: one is as much, since the init itself counts.
        properties.append(("TasksMax", "t", _UNLIMITED if pids < 0 else max(1, pids)))
    weight = (resources.get("blockIO") or {}).get("weight")
    if weight:
        if version == 2:
            properties.append(("IOWeight", "t", io_weight_of(weight)))
        else:
            properties.append(("BlockIOWeight", "t", weight))
    if version == 2:
        unified = _from_unified(resources.get("unified") or {})
        named = {name for name, _, _ in unified}
        properties = [one for one in properties if one[0] not in named] + unified
    return properties


#: Files of cgroup v2 whose value is that of a property.
_AMOUNTS = {
    "memory.min": "MemoryMin",
    "memory.low": "MemoryLow",
    "memory.high": "MemoryHigh",
    "memory.max": "MemoryMax",
    "memory.swap.max": "MemorySwapMax",
    "pids.max": "TasksMax",
    "cpu.weight": "CPUWeight",
}
#: Kernels are built for 8,192 CPUs at most (CONFIG_NR_CPUS), and for fewer memory nodes.
_LARGEST_NUMBER = 8191
_SETS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}


def _from_unified(files: Mapping[str, str]) -> list[Property]:
    """Return what systemd should know of ``unified``; what makes no sense the kernel refuses."""
    properties: list[Property] = []
    for name, text in files.items():
        words = text.split()
        try:
            if name in _AMOUNTS and len(words) == 1:
                properties.append((_AMOUNTS[name], "t", _amount(words[0])))
            elif name in _SETS and words:
                properties.append((_SETS[name], "ay", _bit_mask(text)))
            elif name == "cpu.max" and len(words) in (1, 2):
                quota = -1 if words[0] == "max" else int(words[0])
                period = int(words[1]) if len(words) == 2 else 0
                properties += _quota({"quota": quota, "period": period})
        except ValueError:
            continue
    return properties


def _amount(word: str) -> int:
    if word == "max":
        return _UNLIMITED
    unit = "KMGT".find(word[-1].upper()) + 1
    return int(word[:-1] if unit else word) << 10 * unit


def _bytes(value: int) -> int:
    return _UNLIMITED if value < 0 else value


def _quota(cpu: Mapping[str, Any]) -> list[Property]:
    quota, period = cpu.get("quota"), cpu.get("period")
    properties: list[Property] = []
    if period:
        properties.append(("CPUQuotaPeriodUSec", "t", period))
    if quota or period:
        per_second = _UNLIMITED
        if quota and quota > 0:
            per_second = quota * 1_000_000 // (period or _DEFAULT_PERIOD)
            # systemd keeps whole percents: round up, never to less than was asked for.
            per_second = -(-per_second // 10_000) * 10_000
        properties.append(("CPUQuotaPerSecUSec", "t", per_second))
    return properties


def _bit_mask(ranges: str) -> list[int]:
    """:raises Error: when it is no list of numbers, which without systemd the kernel would say."""
    ends = [end for end in ranges.replace("-", ",").replace(" ", "").split(",") if end]
    try:
        if max(map(int, ends), default=0) > _LARGEST_NUMBER:
            raise ValueError
        mask = mask_of(ranges)
    except ValueError:
        raise Error(
            f"{ranges!r} is no list of CPUs or memory nodes such as 0-3,7, "
            "or has numbers that no kernel knows"
        ) from None
    return list(mask.to_bytes((mask.bit_length() + 7) // 8, "little"))


def from_annotations(annotations: Mapping[str, str]) -> list[Property]:
    """Return the properties that ``org.systemd.property.*`` annotations ask for.

    Values are in GVariant's text form: ``'text'``, ``true``, ``123``, ``uint64 5``, ``['a', 'b']``.
    A name that ends in ``Sec`` is a time in seconds, which systemd has in microseconds.

    :raises Error: for a value in any other form.
    """
    properties: list[Property] = []
    for key, text in sorted(annotations.items()):
        if not key.startswith(_PREFIX):
            continue
        name = key.removeprefix(_PREFIX)
        if not (name.isalnum() and name[:1].isupper()):
            raise Error(f"annotation {key}: {name!r} is not the name of a unit property")
        try:
            signature, value = parse_variant(text)
        except ValueError as error:
            raise Error(f"annotation {key}: cannot read value {text!r}: {error}") from None
        if name.endswith("Sec") and not name.endswith("USec") and signature in "iutxd":
            name, signature, value = f"{name[:-3]}USec", "t", int(value * 1_000_000)
        properties.append((name, signature, value))
    return properties


_NUMBER_TYPES = {
    "int32": "i",
    "uint32": "u",
    "int64": "x",
    "uint64": "t",
    "double": "d",
}


def parse_variant(text: str) -> tuple[str, Any]:
    """Return the D-Bus signature and the value of a GVariant text.

    :raises ValueError: when it has another form.
    """
    text = text.strip()
    if text in ("true", "false"):
        return "b", text == "true"
    if text[:1] in ("'", '"'):
        return "s", _quoted(text)
    if text.startswith("["):
        if not text.endswith("]"):
            raise ValueError("the list does not end")
        items = [parse_variant(item) for item in _split(text[1:-1])]
        kinds = {signature for signature, _ in items}
        if len(kinds) > 1:
            raise ValueError("the items of a list must be of one type")
        return f"a{kinds.pop() if kinds else 's'}", [value for _, value in items]
    kind, space, number = text.partition(" ")
    if space and kind in _NUMBER_TYPES:
        value = float(number) if kind == "double" else int(number, 0)
        return _NUMBER_TYPES[kind], value
    if "." in text:
        return "d", float(text)
    return "i", int(text, 0)


def _quoted(text: str) -> str:
    if len(text) < 2 or text[-1] != text[0]:
        raise ValueError("the quotes do not match")
    return text[1:-1].replace("\\" + text[0], text[0]).replace("\\\\", "\\")


def _split(text: str) -> list[str]:
    """Split at commas outside quotes."""
    items = [""]
    quote = ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        if character == "," and not quote:
            items.append("")
        else:
            items[-1] += character
    return [item for item in items if item.strip()]
