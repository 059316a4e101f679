"""An OCI container runtime for Linux: a command, and a library for programs that need containers.

>>> import pyrunc
>>> pyrunc.run(["echo", "hello"], text=True).stdout
'hello\\n'

Importing this loads nothing; each name is loaded when it is first used.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.errors import Error as Error
    from pyrunc.sandbox.errors import EngineLost as EngineLost
    from pyrunc.sandbox.errors import InvalidArgument as InvalidArgument
    from pyrunc.sandbox.errors import NotEnforced as NotEnforced
    from pyrunc.sandbox.errors import ProgramFailed as ProgramFailed
    from pyrunc.sandbox.errors import ProgramNotExecutable as ProgramNotExecutable
    from pyrunc.sandbox.errors import ProgramNotFound as ProgramNotFound
    from pyrunc.sandbox.errors import TimeoutExpired as TimeoutExpired
    from pyrunc.sandbox.result import Result as Result
    from pyrunc.sandbox.sync import run as run

#: Name -> module that it is in.
_NAMES = {
    "Error": "errors",
    "Result": "sandbox.result",
    "run": "sandbox.sync",
    **dict.fromkeys(
        (
            *("EngineLost", "InvalidArgument", "NotEnforced", "ProgramFailed"),
            *("ProgramNotExecutable", "ProgramNotFound", "TimeoutExpired"),
        ),
        "sandbox.errors",
    ),
}

__all__ = ["__version__", *_NAMES]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    if name not in _NAMES:
        raise AttributeError(f"module 'pyrunc' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"pyrunc.{_NAMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
