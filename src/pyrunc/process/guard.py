"""Programs of the host that the runtime waits for, its hooks above all: none outlives the runtime.

The kernel can end a child with its parent (PR_SET_PDEATHSIG), but not the child's children, and it
forgets the order when ids change. So a fork of the runtime, the guard, stands between: the
programs are its children, and it ends their process groups when the runtime lets go of a pipe,
however that comes about. Of the runtime's descriptors it keeps what it needs and no lock.

Nothing here imports anything: the builder runs hooks as well.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import posix
from _struct import pack
from errno import ENOENT

from pyrunc.errors import Error, reason
from pyrunc.linux import files
from pyrunc.linux import processes as p
from pyrunc.linux.libc import address_of, cstring, syscall
from pyrunc.linux.numbers import SYS
from pyrunc.linux.refusals import EVERY_FLAG, refuses
from pyrunc.process.descriptors import close_all_but

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn, Protocol

    class Signals(Protocol):
        """Blocked signals that can be asked for (:class:`pyrunc.process.foreground.Relay`)."""

        signals: int
        ended_by: int

        def interrupted(self) -> int: ...


_ALL_SIGNALS = pack("=Q", (1 << 64) - 1)
_NO_SIGNALS = pack("=Q", 0)
#: The kernel's struct sigaction: handler, flags, restorer, mask; all zero is SIG_DFL.
_DEFAULT_ACTION = bytes(32)
#: Those that become an exception (container/making/interrupts.py).
_ENDING_SIGNALS = (p.SIGHUP, p.SIGINT, p.SIGTERM)
_OUTPUT_SHOWN = 4096
#: How long to wait for the guard, which waits for what it has killed.
_LONGEST_DEATH = 10.0


class Program:
    """A program of the host: what to execute, with what on stdin, for how long at most."""

    __slots__ = ("arguments", "environment", "path", "stdin", "timeout")

    def __init__(
        self,
        path: str,
        arguments: Sequence[str],
        environment: Sequence[str],
        stdin: bytes = b"",
        timeout: int = 0,
    ) -> None:
        self.path = path
        self.arguments = arguments
        self.environment = environment
        self.stdin = stdin
        #: In seconds; 0 for no limit.
        self.timeout = timeout


class Failed(Error):
    """A program failed, or could not be executed."""

    def __init__(self, index: int, text: str) -> None:
        #: Which of the programs.
        self.index = index
        super().__init__(text)


def run_in_turn(
    programs: Sequence[Program], *, container: int = -1, signals: Signals | None = None
) -> None:
    """Run the programs one after another, each in a process group of its own.

    :param container: a pidfd; when that process dies a program is not waited for any longer.
    :param signals: where signals are blocked: what tells of one that wants us to end.
    :raises Failed: at the first that fails; the rest are not run.
    """
    if refuses("memfd_create", 0, EVERY_FLAG):
        from pyrunc.linux.unnamed_files import rehearse

        rehearse()
    leash, our_end = posix.pipe2(files.O_CLOEXEC)
    report, their_end = posix.pipe2(files.O_CLOEXEC)
    # In the guard no handler of ours may run.
    mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, _ENDING_SIGNALS)
    pid = pidfd = -1
    try:
        try:
            pid, pidfd = p.clone(0)
            if pid == 0:
                _guard(programs, leash, their_end, container)
        finally:
            posix.close(leash)
            posix.close(their_end)
            # One that came meanwhile is delivered here.
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        answer = _answer(report, signals)
    finally:
        # Whatever still runs is ended now.
        posix.close(our_end)
        posix.close(report)
        if pidfd >= 0:
            p.reap(pid, pidfd, _LONGEST_DEATH)
            posix.close(pidfd)
    # The first failure counts: what comes after it comes of it.
    index, _, text = answer.partition(b"\0")[0].partition(b" ")
    if index != b"done":
        if not text:
            raise Failed(0, "the process that runs it was killed")
        raise Failed(int(index), text.decode("utf-8", "replace"))


def _answer(report: int, signals: Signals | None) -> bytes:
    answer = b""
    while True:
        if signals is not None and report not in p.poll((report, signals.signals)):
            if signal := signals.interrupted():
                return b"0 interrupted by signal %d" % signal
            continue
        piece = posix.read(report, 65536)
        if not piece:
            return answer
        answer += piece


def _guard(programs: Sequence[Program], leash: int, report: int, container: int) -> NoReturn:
    index = 0
    try:
        syscall(SYS["rt_sigprocmask"], p.SIG_SETMASK, _ALL_SIGNALS, 0, 8)
        close_all_but((leash, report, container))
        for index, program in enumerate(programs):
            if failure := _run(index, program, leash, report, container):
                raise Error(failure)
        posix.write(report, b"done")
    except BaseException as error:
        try:
            files.write_all(report, b"%d %s\0" % (index, _encoded(reason(error))))
        except OSError:
            pass  # the runtime is gone
    posix._exit(0)


def _run(index: int, program: Program, leash: int, report: int, container: int) -> str:
    """Run one program; return what went wrong, or nothing."""
    # Memory files instead of pipes: a program that does not read cannot block us,
    # nor can one that writes more than a pipe holds.
    stdin = files.memory_file("hook-stdin", program.stdin)
    output = files.memory_file("hook-output", b"")
    guard = posix.getpid()
    pid, pidfd = p.clone(0)
    if pid == 0:
        _become(index, program, (stdin, output, output), report, guard)
    try:
        # The child does the same: whoever comes first.
        posix.setpgid(pid, pid)
    except OSError:
        pass
    ready = p.poll((pidfd, leash, container), program.timeout or None)
    if pidfd not in ready:
        try:
            posix.killpg(pid, p.SIGKILL)
        finally:
            posix.waitpid(pid, 0)
        if leash in ready:
            posix._exit(1)
        return (
            "killed, since the container died meanwhile"
            if ready
            else f"timed out after {program.timeout} s and was killed"
        )
    status = posix.waitpid(pid, 0)[1]
    failure = f"{program.path}: {_ending(status)}{_said(output)}" if status else ""
    for descriptor in (stdin, output, pidfd):
        posix.close(descriptor)
    return failure


def _become(
    index: int, program: Program, stdio: tuple[int, int, int], report: int, guard: int
) -> NoReturn:
    try:
        p.die_with_parent(guard)
        posix.setpgid(0, 0)
        for number, descriptor in enumerate(stdio):
            posix.dup2(descriptor, number)
        # Those of glibc's own too (32 and 33), which its functions, and so Python's, refuse.
        for signal in range(1, 65):
            if signal not in (9, 19):
                syscall(SYS["rt_sigaction"], signal, _DEFAULT_ACTION, 0, 8)
        syscall(SYS["rt_sigprocmask"], p.SIG_SETMASK, _NO_SIGNALS, 0, 8)
        _execute(program)
    except BaseException as error:
        text = _encoded(f"{program.path}: {reason(error)}")
        files.write_all(report, b"%d %s\0" % (index, text))
    posix._exit(127)


def _execute(program: Program) -> None:
    """execve(2), with an environment that may hold anything: Python's function is choosy."""
    kept: list[bytearray] = []

    def vector(texts: Sequence[str]) -> bytes:
        strings = [bytearray(cstring(text)) for text in texts]
        kept.extend(strings)
        return pack(f"={len(texts) + 1}Q", *map(address_of, strings), 0)

    arguments, environment = vector(program.arguments), vector(program.environment)
    path = cstring(program.path)
    syscall(SYS["execve"], path, arguments, environment)
    raise OSError(ENOENT, "execve returned")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace").replace(b"\0", b"?")


def _ending(status: int) -> str:
    if posix.WIFSIGNALED(status):
        return f"killed by signal {posix.WTERMSIG(status)}"
    return f"exit status {posix.WEXITSTATUS(status)}"


def _said(output: int) -> str:
    """Return what the program printed, shortened and in one line, for the error message."""
    text = posix.pread(output, _OUTPUT_SHOWN, 0).decode("utf-8", "replace")
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return f", output: {'; '.join(lines)}" if lines else ""
