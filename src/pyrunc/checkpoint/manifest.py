"""What lies beside CRIU's images: ``descriptors.json``, which runc reads and writes as well, and
``pyrunc.json``, which tells of the container and the machine what images do not tell.

Both come from whoever made the archive: what they hold is checked before it is used.
"""

from __future__ import annotations

import posix

from pyrunc.errors import Error, reason
from pyrunc.linux import files
from pyrunc.spec import json_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyrunc.checkpoint.mounts import Source
    from pyrunc.spec.types import Spec

FORMAT = 1
_NAME = "pyrunc.json"
_DESCRIPTORS = "descriptors.json"
#: The container's config, where the library has saved it.
CONFIG = "config.json"
_LARGEST = 4 << 20


class Manifest:
    """Read from ``pyrunc.json``, or as much as can be told without one."""

    __slots__ = (
        "config",
        "criu",
        "kernel",
        "machine",
        "mounts",
        "namespaces",
        "restrictions",
        "stdio",
        "terminal",
    )

    def __init__(self) -> None:
        self.criu: tuple[int, int, int] = (0, 0, 0)
        self.kernel = ""
        self.machine = ""
        #: Digests of what the config says that is in the images.
        self.config: dict[str, str] | None = None
        #: Types of the container's own namespaces, and of those it has joined.
        self.namespaces: dict[str, str] | None = None
        self.terminal: bool | None = None
        self.mounts: dict[str, Source] | None = None
        #: "ro", "nosuid", "nodev", "noexec" of each mount, by place.
        self.restrictions: dict[str, list[str]] = {}
        #: CRIU's names of stdin, stdout and stderr; "" for those that are the container's own.
        self.stdio: list[str] = ["", "", ""]

    def check(self, spec: Spec, criu: tuple[int, int, int]) -> list[str]:
        """See that a container of this config can come of it here; return what to warn about.

        :raises Error: naming what does not fit.
        """
        here = posix.uname()
        if self.machine and self.machine != here.machine:
            raise Error(f"it was saved on {self.machine}, this is {here.machine}")
        if criu[:2] < self.criu[:2]:
            was, is_ = (".".join(map(str, version[:2])) for version in (self.criu, criu))
            raise Error(f"it was saved by CRIU {was}, here is the older {is_}")
        if self.namespaces is not None and self.namespaces != (wanted := namespaces_of(spec)):
            raise Error(
                f"the saved container had the namespaces {_listed(self.namespaces)}; "
                f"by the config it has {_listed(wanted)}"
            )
        terminal = has_terminal(spec)
        if self.terminal is not None and self.terminal != terminal:
            had, has = ((x and "a terminal") or "no terminal" for x in (self.terminal, terminal))
            raise Error(f"the saved container had {had}; by the config it has {has}")
        if self.kernel and self.kernel != here.release:
            return [f"saved on Linux {self.kernel}, restored on {here.release}"]
        return []


def has_terminal(spec: Spec) -> bool:
    """Tell whether the config's process has a terminal."""
    process = spec.get("process")
    return bool(process and process.get("terminal"))


def namespaces_of(spec: Spec) -> dict[str, str]:
    """Return the types of namespaces: "new" or "joined"."""
    return {
        namespace["type"]: "joined" if namespace.get("path") else "new"
        for namespace in spec.get("linux", {}).get("namespaces") or ()
    }


def _listed(namespaces: dict[str, str]) -> str:
    names = [
        f"{kind} ({how})" if how != "new" else kind for kind, how in sorted(namespaces.items())
    ]
    return ", ".join(names) or "none"


def write(directory: int, manifest: Manifest, descriptors: list[str]) -> None:
    """Write both files into the directory of the images.

    :raises Error: when it cannot.
    """
    contents = {
        "format": FORMAT,
        "criu": list(manifest.criu),
        "kernel": manifest.kernel,
        "machine": manifest.machine,
        "config": manifest.config,
        "namespaces": manifest.namespaces,
        "terminal": manifest.terminal,
        "mounts": {place: list(source) for place, source in (manifest.mounts or {}).items()},
        "restrictions": manifest.restrictions,
        "stdio": manifest.stdio,
    }
    _write(directory, _NAME, contents)
    _write(directory, _DESCRIPTORS, descriptors)


def write_config(directory: int, spec: Spec) -> None:
    """Write the container's config as ``config.json`` into the directory of the images.

    :raises Error: when it cannot.
    """
    _write(directory, CONFIG, spec)


def _write(directory: int, name: str, content: object) -> None:
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | files.O_NOFOLLOW | files.O_CLOEXEC
    try:
        file = posix.open(name, flags, 0o600, dir_fd=directory)
        try:
            files.write_all(file, json_text.encode(content).encode())
        finally:
            posix.close(file)
    except OSError as error:
        raise Error(f"cannot write {name} beside the images: {reason(error)}") from None


def read(directory: int) -> Manifest:
    """Read what there is of the two.

    :raises Error: when one holds what it cannot.
    """
    manifest = Manifest()
    descriptors = _parsed(directory, _DESCRIPTORS)
    if descriptors is not None:
        if not _is_list_of(descriptors, str) or len(descriptors) > 3:
            raise Error(f"{_DESCRIPTORS} beside the images is damaged")
        # The others are the container's own files.
        manifest.stdio = [name if name.startswith("pipe:[") else "" for name in descriptors]
    told = _parsed(directory, _NAME)
    if told is None:
        return manifest
    if not isinstance(told, dict):
        raise Error(f"{_NAME} beside the images is damaged")
    if told.get("format") != FORMAT:
        raise Error(f"{_NAME} beside the images is not one that this version can read")
    for name, fits in _KINDS.items():
        if name not in told or not fits(told[name]):
            raise Error(f"{_NAME} beside the images is damaged: {name!r}")
    manifest.criu = tuple(told["criu"])
    for name in ("kernel", "machine", "namespaces", "terminal", "stdio", "restrictions"):
        setattr(manifest, name, told[name])
    if "config" in told:
        # Earlier versions had none.
        if not _is_texts(told["config"]):
            raise Error(f"{_NAME} beside the images is damaged: 'config'")
        manifest.config = told["config"]
    manifest.mounts = {place: tuple(source) for place, source in told["mounts"].items()}
    return manifest


def _parsed(directory: int, name: str) -> Any:
    flags = posix.O_RDONLY | posix.O_NONBLOCK | files.O_NOFOLLOW | files.O_CLOEXEC
    try:
        file = posix.open(name, flags, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Error(f"cannot read {name} beside the images: {reason(error)}") from None
    try:
        if posix.stat(file).st_mode & files.S_IFMT != files.S_IFREG:
            raise Error(f"{name} beside the images is not a file")
        return json_text.parse(files.read_all(file, _LARGEST))
    except (OSError, Error) as error:
        raise Error(f"cannot read {name} beside the images: {reason(error)}") from None
    finally:
        posix.close(file)


def _is_list_of(value: object, kind: type, length: int = -1) -> bool:
    return (
        isinstance(value, list)
        and all(type(one) is kind for one in value)
        and length in (-1, len(value))
    )


def _is_texts(value: object) -> bool:
    return isinstance(value, dict) and _is_list_of([*value.values()], str)


def _is_mounts(value: object) -> bool:
    return isinstance(value, dict) and all(
        place.startswith("/") and _is_list_of(source, str, 3) and ".." not in source[2].split("/")
        for place, source in value.items()
    )


_KINDS: dict[str, Callable[[Any], bool]] = {
    "criu": lambda value: _is_list_of(value, int, 3),
    "kernel": lambda value: isinstance(value, str),
    "machine": lambda value: isinstance(value, str),
    "namespaces": _is_texts,
    "terminal": lambda value: isinstance(value, bool),
    "mounts": _is_mounts,
    "restrictions": lambda value: (
        isinstance(value, dict) and all(_is_list_of(names, str) for names in value.values())
    ),
    "stdio": lambda value: _is_list_of(value, str, 3),
}
