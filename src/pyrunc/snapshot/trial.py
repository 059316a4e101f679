"""Trying a new snapshot: a command that is started from it."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import posix

from pyrunc.errors import Error
from pyrunc.linux.files import read_all
from pyrunc.linux.libc import syscall
from pyrunc.linux.numbers import SYS
from pyrunc.linux.processes import PR_SET_PDEATHSIG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .started import Started

#: Where the kernel has put something in the place of the snapshot's memory, a trial fails.
_TRIALS = 5


def check(started: Started) -> None:
    """Start a command from the new snapshot.

    :raises Error: when it does not do what it should.
    """
    code = -1
    for _ in range(_TRIALS):
        reader, writer = posix.pipe2(posix.O_CLOEXEC)
        pid = execute(started, "try", ["--version"], writer)
        posix.close(writer)
        said = read_all(reader)
        posix.close(reader)
        code = posix.waitstatus_to_exitcode(_wait(pid))
        if code == 0 and b"\nsnapshot: in use\n" in said:
            return
    raise Error(f"a command started from it ends with {code}")


def execute(started: Started, wish: str, words: Sequence[str], output: int = -1) -> int:
    """Execute the launcher and return its pid; what it inherits from here is nothing.

    It ends with this process, whatever happens.
    """
    pid = posix.fork()
    if pid:
        return pid
    try:
        syscall(SYS["prctl"], PR_SET_PDEATHSIG, _signal.SIGKILL)
        null = posix.open("/dev/null", posix.O_RDWR)
        for number, source in enumerate((null, null if output < 0 else output, null)):
            posix.dup2(source, number)
        posix.closerange(3, 1 << 20)
        for signal in range(1, _signal.NSIG):
            if signal not in (_signal.SIGKILL, _signal.SIGSTOP):
                # Not through glibc, which keeps its hands off 32 and 33, its own.
                syscall(SYS["rt_sigaction"], signal, bytes(32), 0, 8)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        # With ADDR_NO_RANDOMIZE the next start would have its stack where this one has it.
        syscall(SYS["personality"], 0)
        posix.chdir("/")
        # What is looked up in libraries is looked up once, and not by each command anew.
        environment = {"PYRUNC_SNAPSHOT": wish, "LD_BIND_NOW": "1"}
        posix.execve(started.launcher, [started.launcher, *words], environment)
    finally:
        posix._exit(127)


def _wait(pid: int) -> int:
    return posix.waitpid(pid, 0)[1]
