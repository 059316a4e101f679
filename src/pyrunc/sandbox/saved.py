"""A sandbox on disk: what lies beside CRIU's images, written by an engine, read for a restore."""

from __future__ import annotations

import json
import os
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from pyrunc.checkpoint.criu import find
from pyrunc.engine.layer_archive import NAME as LAYER
from pyrunc.engine.saving import DESCRIPTION
from pyrunc.errors import Error, reason
from pyrunc.sandbox.checkpoints import saved_config
from pyrunc.sandbox.errors import InvalidArgument
from pyrunc.sandbox.options import SandboxOptions, sandbox_options
from pyrunc.sandbox.profile import box_request

if TYPE_CHECKING:
    from pyrunc.sandbox.options import SandboxArguments
    from pyrunc.sandbox.rootfs import RootFilesystem

_FORMAT = 1
#: Arguments of a sandbox that the images hold, and no restore can change.
_IN_THE_IMAGES = ("network", "user", "hostname")


def description(
    options: SandboxOptions, args: tuple[str, ...], flags: dict[str, bool]
) -> dict[str, Any]:
    """Return what is to be known of a sandbox that is saved.

    :param args: of the program that runs in it.
    :param flags: what CRIU was told, and is to be told again.
    """
    arguments = {field.name: getattr(options, field.name) for field in fields(options)}
    asked = list(arguments.pop("asked"))
    arguments["user"] = options.user and list(options.user)
    arguments |= {"binds": dict(options.binds), "env": dict(options.env)}
    return {
        "format": _FORMAT,
        "args": list(args),
        "arguments": arguments,
        "asked": asked,
        "flags": flags,
    }


class Saved:
    """A sandbox that was saved, and what is to be another in the one that is made of it."""

    def __init__(self, path: str | os.PathLike[str], arguments: SandboxArguments) -> None:
        """Read the description.

        :raises InvalidArgument: when an argument makes no sense, or cannot be another.
        :raises Error: when no sandbox was saved there.
        """
        for name in _IN_THE_IMAGES:
            if name in arguments:
                raise InvalidArgument(f"{name} cannot be another for a sandbox that is restored")
        self.path = os.path.abspath(path)
        asked = sandbox_options(arguments).asked
        told = _read(f"{self.path}/{DESCRIPTION}")
        try:
            if told["format"] != _FORMAT:
                raise Error(f"{DESCRIPTION} in {self.path} is not one that this version can read")
            self.args = tuple(map(str, told["args"]))
            saved = dict(told["arguments"])
            saved["user"] = saved["user"] and tuple(saved["user"])
            options = sandbox_options({**saved, **arguments})
            asked = tuple(sorted({*asked, *told["asked"]}))
            self._flags = {name: bool(value) for name, value in told["flags"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise Error(f"{DESCRIPTION} in {self.path} is damaged: {error}") from None
        self.options = replace(options, asked=asked)

    def box_request(self, root: RootFilesystem) -> dict[str, Any]:
        """Return the engine's request for the container, in which nothing runs yet."""
        request = box_request(self.options, root, (), writable=True)
        # What processes are and may is in the images: the defaults of this version do not count.
        config = saved_config(self.path)
        spec = request["spec"]
        spec["process"] = config["process"]
        spec["linux"]["seccomp"] = config["linux"].get("seccomp")
        request["layer"]["saved"] = f"{self.path}/{LAYER}"
        return request

    def restore_request(self) -> dict[str, Any]:
        """Return what the engine is to tell CRIU."""
        # The engine has no $PATH.
        return {**self._flags, "image_path": self.path, "criu": find()}


def _read(path: str) -> Any:
    try:
        with open(path, "rb") as file:
            return json.load(file)
    except OSError as error:
        raise Error(f"cannot restore a sandbox: {path}: {reason(error)}") from None
    except ValueError as error:
        raise Error(f"cannot restore a sandbox: {path} is damaged: {error}") from None
