"""An OCI container runtime for Linux: a command, and a library for programs that need containers.

>>> import pyrunc
>>> pyrunc.run(["echo", "hello"], text=True).stdout
'hello\\n'

Importing this loads nothing; each name is loaded when it is first used.
"""

from __future__ import annotations

import sys

if sys.implementation.name != "cpython":
    raise ImportError(f"pyrunc needs CPython, and {sys.executable} is {sys.implementation.name}")

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc import aio as aio
    from pyrunc.errors import AlreadyExists as AlreadyExists
    from pyrunc.errors import Error as Error
    from pyrunc.errors import InvalidConfig as InvalidConfig
    from pyrunc.errors import NotFound as NotFound
    from pyrunc.errors import WrongStatus as WrongStatus
    from pyrunc.sandbox.errors import ArchiveInvalid as ArchiveInvalid
    from pyrunc.sandbox.errors import CommandFailed as CommandFailed
    from pyrunc.sandbox.errors import EngineLost as EngineLost
    from pyrunc.sandbox.errors import FileDenied as FileDenied
    from pyrunc.sandbox.errors import FileFailed as FileFailed
    from pyrunc.sandbox.errors import FileMissing as FileMissing
    from pyrunc.sandbox.errors import HostFileMissing as HostFileMissing
    from pyrunc.sandbox.errors import InvalidArgument as InvalidArgument
    from pyrunc.sandbox.errors import NotEnforced as NotEnforced
    from pyrunc.sandbox.errors import ProcessGone as ProcessGone
    from pyrunc.sandbox.errors import ProgramFailed as ProgramFailed
    from pyrunc.sandbox.errors import ProgramNotExecutable as ProgramNotExecutable
    from pyrunc.sandbox.errors import ProgramNotFound as ProgramNotFound
    from pyrunc.sandbox.errors import SandboxClosed as SandboxClosed
    from pyrunc.sandbox.errors import TimeoutExpired as TimeoutExpired
    from pyrunc.sandbox.executor import Executor as Executor
    from pyrunc.sandbox.executor import RemoteTraceback as RemoteTraceback
    from pyrunc.sandbox.executor import TaskFailed as TaskFailed
    from pyrunc.sandbox.result import Change as Change
    from pyrunc.sandbox.result import Result as Result
    from pyrunc.sandbox.result import Status as Status
    from pyrunc.sandbox.runtime import Container as Container
    from pyrunc.sandbox.runtime import Runtime as Runtime
    from pyrunc.sandbox.spec import Spec as Spec
    from pyrunc.sandbox.started import Process as Process
    from pyrunc.sandbox.sync import DEVNULL as DEVNULL
    from pyrunc.sandbox.sync import PIPE as PIPE
    from pyrunc.sandbox.sync import STDOUT as STDOUT
    from pyrunc.sandbox.sync import Sandbox as Sandbox
    from pyrunc.sandbox.sync import run as run

#: Module -> the names that are loaded from it, when they are first used.
_MODULES = {
    "errors": ("Error", "AlreadyExists", "InvalidConfig", "NotFound", "WrongStatus"),
    "sandbox.errors": (
        "ArchiveInvalid",
        "CommandFailed",
        "EngineLost",
        "FileDenied",
        "FileFailed",
        "FileMissing",
        "HostFileMissing",
        "InvalidArgument",
        "NotEnforced",
        "ProcessGone",
        "ProgramFailed",
        "ProgramNotExecutable",
        "ProgramNotFound",
        "SandboxClosed",
        "TimeoutExpired",
    ),
    "sandbox.executor": ("Executor", "RemoteTraceback", "TaskFailed"),
    "sandbox.result": ("Change", "Result", "Status"),
    "sandbox.runtime": ("Container", "Runtime"),
    "sandbox.spec": ("Spec",),
    "sandbox.started": ("Process",),
    "sandbox.sync": ("DEVNULL", "PIPE", "STDOUT", "Sandbox", "run"),
}
_NAMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", "aio", *_NAMES]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    # Also asked for the submodules of ``from pyrunc import ids``, before those are imported.
    if name != "aio" and name not in _NAMES:
        raise AttributeError(f"module 'pyrunc' has no attribute {name!r}")
    from importlib import import_module

    if name == "aio":
        return import_module("pyrunc.aio")
    value: object = getattr(import_module(f"pyrunc.{_NAMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
