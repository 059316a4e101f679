"""`run`: the whole of it but for how it waits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pyrunc.engine.messages import packed
from pyrunc.sandbox.communicating import Communication, run_alone
from pyrunc.sandbox.errors import InvalidArgument
from pyrunc.sandbox.options import (
    DEFAULT_OUTPUT,
    DEFAULT_TIMEOUT,
    arguments_of,
    sandbox_options,
)
from pyrunc.sandbox.profile import LEAST_PIDS, box_request, pids_limit, process
from pyrunc.sandbox.rootfs import root_filesystem
from pyrunc.sandbox.sizes import optional_size, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypedDict

    from pyrunc.sandbox.options import SandboxArguments, SandboxOptions
    from pyrunc.sandbox.result import Result
    from pyrunc.sandbox.rootfs import RootFilesystem

    class ProgramArguments(TypedDict, total=False):
        """The keyword arguments of a run that are about the program, for annotations."""

        input: bytes | str | None
        timeout: float | None
        cpu_time: float | None
        output: int | str | None
        stop_on_output: bool
        check: bool

    class RunArguments(SandboxArguments, ProgramArguments, total=False):
        """The keyword arguments of :func:`pyrunc.run`, for annotations."""

        pool: int

    #: The options, the root, and the request for the engine, packed.
    _Described = tuple[SandboxOptions, RootFilesystem, bytes]

_MOST_KNOWN = 16
_known: dict[bytes, _Described] = {}

PROGRAM_ARGUMENTS = frozenset(("input", "timeout", "cpu_time", "output", "stop_on_output", "check"))


class Program:
    """What a run was told about its program."""

    def __init__(self, argv: Sequence[str], arguments: ProgramArguments, *, text: bool) -> None:
        unknown = arguments.keys() - PROGRAM_ARGUMENTS
        if unknown:
            raise InvalidArgument(f"unknown argument {min(unknown)!r}")
        self.args = arguments_of(argv)
        self.timeout = seconds(arguments.get("timeout", DEFAULT_TIMEOUT), "timeout")
        self.cpu_time = seconds(arguments.get("cpu_time"), "cpu_time")
        self._output = optional_size(arguments.get("output", DEFAULT_OUTPUT), "output")
        self._stop_on_output = bool(arguments.get("stop_on_output", False))
        self._check = bool(arguments.get("check", False))
        self._text = text
        self._input = _bytes(arguments.get("input"), text=self._text)

    def communication(self) -> Communication:
        """Open what is to be the program's standard streams."""
        return Communication(
            self.args, self._input, self._output, stop_on_output=self._stop_on_output
        )

    def limits(self) -> dict[str, Any]:
        """Return the limits that its engine watches over."""
        return {"timeout": self.timeout, "cpu_time": self.cpu_time}

    def result(self, result: Result[bytes]) -> Result[Any]:
        """Return the result as it was asked for.

        :raises ProgramFailed: with ``check``.
        """
        wanted: Result[Any] = result
        if self._text:
            stdout, stderr = (x.decode("utf-8", "replace") for x in (result.stdout, result.stderr))
            wanted = replace(wanted, stdout=stdout, stderr=stderr)
        if self._check:
            wanted.check()
        return wanted


def _bytes(given: bytes | str | None, *, text: bool) -> bytes | None:
    if isinstance(given, str):
        if not text:
            raise InvalidArgument("input is a text: give bytes, or say text=True")
        return given.encode()
    if given is None or isinstance(given, bytes | bytearray | memoryview):
        return None if given is None else bytes(given)
    raise InvalidArgument(f"input must be bytes, not {type(given).__name__}")


async def _described(about_box: dict[str, Any], limits: tuple[str, ...]) -> _Described:
    """Return what a run was told about its container.

    The same need not be looked at again where it is made of the host's own files.
    """
    try:
        key = packed((about_box, limits))
    except ValueError:
        # A path, for example.
        key = b""
    if known := _known.get(key):
        return known
    options = sandbox_options(about_box)  # type: ignore[arg-type]
    root = await root_filesystem(options.rootfs)
    described = options, root, packed(box_request(options, root, limits, writable=False))
    if key and not (options.rootfs or options.binds or options.network):
        if len(_known) == _MOST_KNOWN:
            _known.clear()
        _known[key] = described
    return described


async def run(argv: Sequence[str] | None, arguments: RunArguments, *, text: bool) -> Result[Any]:
    """Run a program in a container of its own; see :func:`pyrunc.run`."""
    pool = arguments.pop("pool", 0)
    about_program = {k: v for k, v in arguments.items() if k in PROGRAM_ARGUMENTS}
    about_box = {k: v for k, v in arguments.items() if k not in PROGRAM_ARGUMENTS}
    if argv is not None:
        arguments_of(argv)
    limits = ("cpu_time",) if arguments.get("cpu_time") is not None else ()
    options, root, box = await _described(about_box, limits)
    if argv is None and not root.command:
        raise InvalidArgument("there is no image with a program of its own: give argv")
    program = Program(argv or root.command, about_program, text=text)  # type: ignore[arg-type]
    request: dict[str, Any] = {
        "box": box,
        "pool": pool,
        "process": {
            "process": process(options, root, program.args),
            "alone": True,
            **program.limits(),
        },
    }
    if options.pids is not None and pids_limit(options.pids) < LEAST_PIDS:
        # Set once the program runs.
        request["process"]["pids"] = pids_limit(options.pids)
    return program.result(await run_alone(program.communication(), request))
