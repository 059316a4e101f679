"""What a sandbox can be told, checked: the arguments that `run` and `Sandbox` have in common."""

from __future__ import annotations

import os
from dataclasses import dataclass
from errno import ENOENT
from typing import TYPE_CHECKING, TypedDict

from pyrunc.errors import reason
from pyrunc.sandbox.errors import HostFileMissing, InvalidArgument
from pyrunc.sandbox.sizes import count, optional_size, seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    class SandboxArguments(TypedDict, total=False):
        """The keyword arguments of :class:`pyrunc.Sandbox`, for annotations."""

        rootfs: str | os.PathLike[str] | None
        memory: int | str | None
        swap: int | str | None
        pids: int | None
        cpu: float | None
        disk: int | str | None
        files: int | None
        network: bool
        binds: Mapping[str, str | os.PathLike[str]] | None
        env: Mapping[str, str] | None
        cwd: str | None
        user: int | tuple[int, int] | None
        hostname: str
        best_effort: bool


#: What every sandbox has unless told otherwise.
DEFAULT_MEMORY, DEFAULT_PIDS, DEFAULT_DISK, DEFAULT_FILES = "256M", 64, "64M", 10_000
DEFAULT_TIMEOUT, DEFAULT_OUTPUT = 10.0, "8M"


class _Default:
    """Stands for an argument that was not given."""

    def __repr__(self) -> str:
        return "default"


DEFAULT = _Default()


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """The arguments, in bytes and numbers; None is "no limit"."""

    rootfs: str | None
    memory: int | None
    swap: int | None
    pids: int | None
    cpu: float | None
    disk: int | None
    files: int | None
    network: bool
    binds: Mapping[str, str]
    env: Mapping[str, str]
    cwd: str | None
    user: tuple[int, int] | None
    hostname: str
    best_effort: bool
    #: What the caller gave of limits and hostname: not to be had is an error for these.
    asked: tuple[str, ...]


def sandbox_options(arguments: SandboxArguments) -> SandboxOptions:
    """Check what a sandbox was told.

    :raises InvalidArgument: naming the argument, and what it should be.
    """
    given = dict(arguments)
    unknown = given.keys() - _KNOWN
    if unknown:
        raise InvalidArgument(f"unknown argument {min(unknown)!r}")
    memory = optional_size(arguments.get("memory", DEFAULT_MEMORY), "memory")
    swap = optional_size(arguments.get("swap", 0), "swap")
    rootfs = arguments.get("rootfs")
    cpu = arguments.get("cpu")
    return SandboxOptions(
        rootfs=None if rootfs is None else os.path.abspath(rootfs),
        memory=memory,
        swap=swap if memory is not None else None,
        pids=count(arguments.get("pids", DEFAULT_PIDS), "pids"),
        cpu=seconds(cpu, "cpu"),
        disk=optional_size(arguments.get("disk", DEFAULT_DISK), "disk"),
        files=count(arguments.get("files", DEFAULT_FILES), "files"),
        network=bool(arguments.get("network", False)),
        binds=_binds(arguments.get("binds") or {}),
        env=_environment(arguments.get("env") or {}),
        cwd=_absolute(arguments.get("cwd"), "cwd"),
        user=_user(arguments.get("user")),
        hostname=arguments.get("hostname", "sandbox"),
        best_effort=bool(arguments.get("best_effort", False)),
        asked=tuple(
            name for name in ("memory", "swap", "pids", "cpu", "hostname") if name in given
        ),
    )


#: What stands for "no user" and "no group" in system calls.
_NO_ID = 0xFFFFFFFF
_KNOWN = {
    *("rootfs", "memory", "swap", "pids", "cpu", "disk", "files", "network", "binds", "env"),
    *("cwd", "user", "hostname", "best_effort"),
}


def _binds(binds: Mapping[str, str | os.PathLike[str]]) -> dict[str, str]:
    checked = {}
    for inside, outside in binds.items():
        path = inside.removesuffix(":rw")
        if not path.startswith("/"):
            raise InvalidArgument(f"binds: {inside!r} must be an absolute path in the sandbox")
        checked[inside] = os.path.abspath(outside)
        try:
            os.stat(checked[inside])
        except OSError as error:
            kind = HostFileMissing if error.errno == ENOENT else InvalidArgument
            raise kind(f"binds: {checked[inside]}: {reason(error)}") from None
    return checked


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    for name, value in env.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise InvalidArgument(f"env: {name!r}: names and values are texts")
        if not name or "=" in name or "\0" in name + value:
            raise InvalidArgument(f"env: {name!r} cannot be a name, or its value holds a NUL")
    return dict(env)


def _user(user: object) -> tuple[int, int] | None:
    match user:
        case None:
            return None
        case bool():
            pass
        case int() if 0 <= user < _NO_ID:
            return user, user
        case (int(uid), int(gid)) if 0 <= uid < _NO_ID and 0 <= gid < _NO_ID:
            return uid, gid
    raise InvalidArgument(f"user must be a uid, or (uid, gid), not {user!r}: names are an image's")


def _absolute(path: str | None, name: str) -> str | None:
    if path is not None and not path.startswith("/"):
        raise InvalidArgument(f"{name} must be an absolute path in the sandbox, not {path!r}")
    return path


def arguments_of(argv: Sequence[str]) -> tuple[str, ...]:
    """Return a program's arguments.

    :raises InvalidArgument: for a single text: nothing here splits or expands words.
    """
    if isinstance(argv, str | bytes):
        raise InvalidArgument(
            f"argv is a list of words, not one text: [{argv!r}], or for a shell's syntax"
            f' ["sh", "-c", {argv!r}]'
        )
    words = tuple(os.fspath(word) for word in argv)
    if not words or not all(isinstance(word, str) for word in words):
        raise InvalidArgument("argv must hold the program's name, and nothing but texts")
    if any("\0" in word for word in words):
        raise InvalidArgument("argv: no word can hold a NUL")
    return words
