"""``pyrunc spec``: write a config.json to begin with."""

from __future__ import annotations

import posix

from pyrunc.errors import Error, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.settings import Settings

    from .flags import Options, Table

FLAGS: Table = (
    ("bundle,b", "str", "directory to write to (default: the current directory)"),
    ("rootless", "bool", "write one for a container without root"),
)
ARGUMENTS = (0, 0)


def call(settings: Settings, options: Options, arguments: list[str]) -> int:
    """Write the file and return 0.

    :raises Error: when there is one already, or it cannot be written.
    """
    from pyrunc.spec.default import default_spec, rootless_spec
    from pyrunc.spec.json_text import encode_indented

    directory = options["bundle"]
    path = f"{directory.rstrip('/') or '/'}/config.json" if directory else "config.json"
    spec = rootless_spec() if options["rootless"] else default_spec()
    try:
        descriptor = posix.open(
            path, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o666
        )
    except FileExistsError:
        raise Error("File config.json exists. Remove it first") from None
    except (OSError, ValueError) as error:
        raise Error(f"cannot write {path}: {reason(error)}") from None
    try:
        content = encode_indented(spec, "\t").encode()
        while content:
            content = content[posix.write(descriptor, content) :]
    except OSError as error:
        posix.unlink(path)
        raise Error(f"cannot write {path}: {reason(error)}") from None
    finally:
        posix.close(descriptor)
    return 0
