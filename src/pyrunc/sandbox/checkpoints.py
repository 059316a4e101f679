"""What `checkpoint` and `restore` can be told in the library, and how an engine is told it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypedDict

from pyrunc.checkpoint import manifest
from pyrunc.checkpoint.criu import find
from pyrunc.checkpoint.messages import CGROUPS_MODES
from pyrunc.checkpoint.options import CheckpointOptions, RestoreOptions
from pyrunc.sandbox.errors import InvalidArgument
from pyrunc.spec.load import load

if TYPE_CHECKING:
    from collections.abc import Mapping


class CheckpointArguments(TypedDict, total=False):
    """The keyword arguments of :meth:`pyrunc.Container.checkpoint`, for annotations."""

    leave_running: bool
    pre_dump: bool
    parent_path: str
    work_path: str | os.PathLike[str]
    tcp_established: bool
    tcp_skip_in_flight: bool
    ext_unix_sk: bool
    file_locks: bool
    link_remap: bool
    auto_dedup: bool
    empty_ns: tuple[str, ...]
    manage_cgroups_mode: str
    page_server: str


class RestoreArguments(TypedDict, total=False):
    """The keyword arguments of :meth:`pyrunc.Runtime.restore`, for annotations."""

    work_path: str | os.PathLike[str]
    tcp_established: bool
    ext_unix_sk: bool
    file_locks: bool
    auto_dedup: bool
    lazy_pages: bool
    empty_ns: tuple[str, ...]
    manage_cgroups_mode: str
    lsm_profile: str
    lsm_mount_context: str


#: What the arguments are, by name.
CHECKPOINT = {
    name: type(getattr(CheckpointOptions, name)) for name in CheckpointArguments.__annotations__
}
RESTORE = {name: type(getattr(RestoreOptions, name)) for name in RestoreArguments.__annotations__}


def options_of(
    path: str | os.PathLike[str], arguments: Mapping[str, Any], known: Mapping[str, type]
) -> dict[str, Any]:
    """Return what an engine is to be told.

    :param known: :data:`CHECKPOINT` or :data:`RESTORE`.
    :raises InvalidArgument: naming the argument that makes no sense.
    :raises pyrunc.Error: when there is no CRIU in $PATH.
    """
    told = dict(arguments)
    if told.get("work_path"):
        told["work_path"] = os.path.abspath(os.fspath(told["work_path"]))
    if isinstance(told.get("empty_ns"), list):
        told["empty_ns"] = tuple(told["empty_ns"])
    for name, value in told.items():
        kind = known.get(name)
        if kind is None:
            raise InvalidArgument(f"unknown argument {name!r}")
        if type(value) is not kind:
            raise InvalidArgument(f"{name} must be a {kind.__name__}, not {value!r}")
    mode = told.get("manage_cgroups_mode", "soft")
    if mode not in CGROUPS_MODES:
        modes = ", ".join(map(repr, CGROUPS_MODES))
        raise InvalidArgument(f"manage_cgroups_mode must be one of {modes}, not {mode!r}")
    # The engine has no $PATH.
    return {**told, "image_path": os.path.abspath(path), "criu": find()}


def saved_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the config of the container that was saved there.

    :raises pyrunc.Error: when it was not saved by the library.
    """
    return dict(load(f"{os.path.abspath(path)}/{manifest.CONFIG}"))
