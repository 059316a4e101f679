"""How a program has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar

from pyrunc.sandbox.errors import ProgramFailed, TimeoutExpired

if TYPE_CHECKING:
    from collections.abc import Mapping

Status = Literal["exited", "signaled", "timeout", "cpu", "oom", "output", "stopped", "lost"]
Output = TypeVar("Output", bytes, str)


@dataclass(frozen=True, slots=True)
class Result(Generic[Output]):
    """How a program has ended, what it printed and what it used.

    >>> result = pyrunc.run(["sh", "-c", "echo hello; exit 3"], text=True)
    >>> result.status, result.returncode, result.stdout
    ('exited', 3, 'hello\\n')
    """

    #: What was executed.
    args: tuple[str, ...]
    #: "exited" by itself, "signaled", or ended for a limit: "timeout", "cpu" (processor time),
    #: "oom" (the kernel killed for want of memory, and the program failed), "output" (too much
    #: of it); "stopped" with its sandbox, "lost" with its engine.
    status: Status
    #: The exit code, or minus the number of the signal that ended it.
    returncode: int
    #: What it printed; bytes, or str with ``text=True``. When ``truncated``, the last part of it.
    stdout: Output
    stderr: Output
    #: Whether the limit ``output`` has cut off the beginning of stdout or stderr.
    truncated: bool = False
    #: Seconds from the execution of the program to its end.
    duration: float = 0.0
    #: Seconds of all processors that everything in the container has used meanwhile; None here
    #: and below: this host does not tell.
    cpu_time: float | None = None
    #: The most memory that the container used at any time, in bytes.
    memory_peak: int | None = None
    #: The most processes and threads that there were at any time.
    pids_peak: int | None = None
    #: Limits that this host or user cannot enforce, by name, and why.
    not_enforced: Mapping[str, str] = ()  # type: ignore[assignment]
    #: What went not quite as it should, in words.
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the program exited with 0."""
        return self.status == "exited" and self.returncode == 0

    def check(self) -> None:
        """Raise unless the program exited with 0.

        :raises TimeoutExpired: when its time was over.
        :raises ProgramFailed: for every other end.
        """
        if self.ok:
            return
        name = self.args[0]
        if self.status == "timeout":
            raise TimeoutExpired(f"{name} did not end in time ({self.duration:.1f} s)", self)
        how = {
            "exited": f"exited with {self.returncode}",
            "signaled": f"was ended by signal {-self.returncode}",
            "cpu": "used up its processor time",
            "oom": "was killed as it ran out of memory",
            "output": "printed too much",
            "stopped": "was stopped with its sandbox",
            "lost": "was lost with its engine",
        }[self.status]
        raise ProgramFailed(f"{name} {how}", self)


class Change(NamedTuple):
    """Something that differs from a sandbox's root, in its throw-away layer.

    >>> with pyrunc.Sandbox() as box:
    ...     box.write_file("/tmp/new", b"")
    ...     print(box.changes())
    [Change(path='/tmp/new', kind='added')]
    """

    #: The absolute path in the sandbox.
    path: str
    #: "added", "changed" or "deleted".
    kind: str


def result_of(
    args: tuple[str, ...], report: dict[str, Any], outputs: tuple[Any, Any], truncated: bool
) -> Result[Any]:
    """Make a result of an engine's report (:meth:`pyrunc.engine.process.Running.report`)."""
    status: Status = "exited" if report["returncode"] >= 0 else "signaled"
    if report["why"]:
        status = report["why"]
    elif report["oom"] and report["returncode"] != 0:
        status = "oom"
    return Result(
        args,
        status,
        report["returncode"],
        *outputs,
        truncated=truncated,
        duration=report["duration"],
        cpu_time=report["cpu_time"],
        memory_peak=report["memory_peak"],
        pids_peak=report["pids_peak"],
        not_enforced=dict(report["not_enforced"]),
        warnings=tuple(report["warnings"]),
    )


def lost_result(args: tuple[str, ...], outputs: tuple[Any, Any], truncated: bool) -> Result[Any]:
    """Make the result of a program whose engine has ended before it."""
    return Result(args, "lost", -9, *outputs, truncated=truncated, not_enforced={})
