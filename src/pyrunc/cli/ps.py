"""``pyrunc ps``: the processes of a container, as ps(1) shows them."""

from __future__ import annotations

from pyrunc.errors import Error, reason

from .output import write, write_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pyrunc.container.settings import Settings

    from .flags import Options, Table

FLAGS: Table = (("format,f", "str", "form of the list: table or json", "table"),)
ARGUMENTS = (1, None)
FLAGS_ANYWHERE = False

_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def call(settings: Settings, options: Options, arguments: list[str]) -> int:
    """Print the lines of ps that are the container's, or its pids as JSON; return 0.

    :raises Error: when ps fails or shows no process ids.
    """
    form = options["format"]
    if form not in ("table", "json"):
        raise Error("invalid format option")
    from pyrunc.container.record.processes import pids

    found = pids(settings, arguments[0])
    if form == "json":
        write_json(found)
        return 0
    write(own_lines(_ps(arguments[1:] or ["-ef"]), found))
    return 0


def own_lines(listing: str, pids: Collection[int]) -> str:
    """Keep the header of ps's output, and the lines whose PID is one of ``pids``.

    :raises Error: when there is no PID column, or something else in it.
    """
    header, *lines = listing.split("\n")
    columns = header.split()
    if "PID" not in columns:
        raise Error("couldn't find PID field in ps output")
    column = columns.index("PID")
    kept = [header]
    for line in lines:
        fields = line.split(None, column + 1)
        if not fields:
            continue
        # With -m a process is followed by lines for its threads, which have no pid of their own.
        if len(fields) > column and fields[column] == "-":
            continue
        try:
            pid = int(fields[column])
        except (IndexError, ValueError):
            raise Error(f"unable to parse pid in ps output: {line!r}") from None
        if pid in pids:
            kept.append(line)
    return "\n".join(kept) + "\n"


def _ps(words: Sequence[str]) -> str:
    import os
    import subprocess

    environment = dict(os.environ)
    environment.setdefault("PATH", _SEARCH_PATH)
    try:
        ran = subprocess.run(
            ["ps", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            check=False,
        )
    except FileNotFoundError:
        raise Error('exec: "ps": executable file not found in $PATH') from None
    except (OSError, ValueError) as error:
        raise Error(f"cannot run ps: {reason(error)}") from None
    listing = ran.stdout.decode("utf-8", "surrogateescape")
    if ran.returncode:
        cause = " ".join(listing.split()) or "no output"
        raise Error(f"ps failed: exit status {ran.returncode}: {cause}")
    return listing
