"""Init as a sealed memory file: what a container sees behind /proc/PID/exe.

Nothing inside can change it, and nothing of the host is behind it: what runs
there is a copy that lasts as long as the process (CVE-2019-5736).
"""

from __future__ import annotations

import posix
from _struct import pack
from errno import EACCES, EINVAL, ENOENT, ENOSYS, EPERM

from pyrunc.errors import Error, reason
from pyrunc.linux import files
from pyrunc.linux.libc import address_of, cstring, syscall
from pyrunc.linux.numbers import SYS
from pyrunc.linux.refusals import EVERY_FLAG, NO_DESCRIPTOR, refuses
from pyrunc.trace import OFF

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyrunc.process.late import Known
    from pyrunc.process.launch import LaunchProgram
    from pyrunc.trace import NoTrace

_MFD_CLOEXEC = 0x1
_MFD_ALLOW_SEALING = 0x2
_MFD_EXEC = 0x10
_F_ADD_SEALS = 1033
# F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE.
_SEALS = 0x1 | 0x2 | 0x4 | 0x8
_F_SEAL_EXEC = 0x20
_AT_EMPTY_PATH = 0x1000

#: The host's procfs, for :func:`execute_by_path_where_refused`; -1 as a rule.
_proc = -1

INIT = __file__.rpartition("/process/")[0] + "/init/pyrunc-init"
#: What that file holds, once it has been read.
_program = b""


def init_program() -> bytes:
    """Return the init program. It is read once: a snapshot has it in memory (docs/snapshot.md).

    :raises Error: when the package lacks it.
    """
    global _program
    if not _program:
        try:
            _program = files.read_file(INIT)
        except OSError as error:
            raise Error(
                f"cannot read init program {INIT}: {reason(error)}; is pyrunc installed completely?"
            ) from None
    return _program


def sealed_init() -> int:
    """Return a descriptor of a sealed memory file that holds the init program.

    :raises Error: when the package lacks the program, or the host forbids executable memory files.
    """
    content = init_program()
    try:
        descriptor = _memory_file(b"pyrunc-init\0", _MFD_CLOEXEC | _MFD_ALLOW_SEALING)
    except OSError as error:
        if error.errno not in (EACCES, ENOSYS, EPERM):
            raise
        return _unsealed_init(content)
    files.write_all(descriptor, content)
    try:
        syscall(SYS["fcntl"], descriptor, _F_ADD_SEALS, _SEALS | _F_SEAL_EXEC)
    except OSError as error:
        # F_SEAL_EXEC is known since Linux 6.3.
        if error.errno != EINVAL:
            raise
        syscall(SYS["fcntl"], descriptor, _F_ADD_SEALS, _SEALS)
    return descriptor


def _memory_file(name: bytes, flags: int) -> int:
    """memfd_create(2), executable: said so where the kernel wants to hear it (Linux 6.3).

    EACCES is the answer of the sysctl vm.memfd_noexec when it is 2.
    """
    try:
        return syscall(SYS["memfd_create"], name, flags | _MFD_EXEC)
    except OSError as error:
        if error.errno != EINVAL:
            raise
    return syscall(SYS["memfd_create"], name, flags)


def _unsealed_init(content: bytes) -> int:
    """Return a copy of init that lies in a file without a name, where no memory file will do.

    It is there for this one process and nobody has it open for writing. While it runs the kernel
    lets nobody open it so (ETXTBSY), and init, which is undumpable, lets nobody in a container
    look behind its /proc/PID/exe; afterwards it is gone.
    """
    from pyrunc.linux.unnamed_files import unnamed_file

    try:
        writable = unnamed_file(executable=True)
    except OSError as error:
        raise Error(
            "cannot make a copy of init to execute: memory files that can be executed are refused "
            f"here (by sysctl vm.memfd_noexec, or by a seccomp filter), and {reason(error)}"
        ) from None
    try:
        files.write_all(writable, content)
        posix.chmod(writable, 0o555)
        return files.reopen(writable, posix.O_RDONLY)
    finally:
        posix.close(writable)


def launch_fd(program: bytes) -> int:
    """Return a descriptor of a memory file with the launch program.

    It is meant to outlive the execve of init, which closes it.
    """
    descriptor = files.memory_file("launch", program)
    posix.set_inheritable(descriptor, True)
    return descriptor


class FilledIn:
    """Launch programs that belong together, filled in with what their places will hold.

    For who makes many processes alike, and who fills them in before the last is known.
    """

    __slots__ = ("_contents", "_descriptors", "_values")

    def __init__(self, programs: Sequence[LaunchProgram], known: Known) -> None:
        filled = [program.filled(known) for program in programs]
        #: What was put in, by name.
        self._values = {name: known.get(name) for program in programs for name in program.names()}
        self._descriptors = {number for program in filled for number in program.descriptors}
        self._contents = [program.encode() for program in filled]

    def holds(self, known: Known) -> bool:
        """Tell whether filling in with what is ``known`` now would give the same."""
        return all(known.get(name) == value for name, value in self._values.items())

    def open(self) -> list[int]:
        """Return memory files with them, as :func:`launch_fds` does."""
        for descriptor in self._descriptors:
            posix.set_inheritable(descriptor, True)
        return [launch_fd(content) for content in self._contents]


def filled_in(before: FilledIn | None, programs: Sequence[LaunchProgram], known: Known) -> FilledIn:
    """Return launch programs filled in, the same as ``before`` if nothing has changed."""
    return before if before and before.holds(known) else FilledIn(programs, known)


def launch_fds(programs: Sequence[LaunchProgram], known: Known, trace: NoTrace = OFF) -> list[int]:
    """Fill in launch programs that belong together, and return memory files with them.

    What of the descriptors that are ``known`` the programs are about is inherited from now on.
    """
    opened = []
    for program in programs:
        filled = program.filled(known)
        for descriptor in filled.descriptors:
            posix.set_inheritable(descriptor, True)
        if filled.stamped:
            posix.set_inheritable(trace.stamps, True)
            trace.expect(filled.stamped)
        opened.append(launch_fd(filled.encode()))
    return opened


def execute_init(init: int, *programs: int) -> None:
    """Become init, with nothing but the launch programs' descriptors as arguments.

    :raises OSError: when the kernel will not execute it; otherwise this does not return.
    """
    call = execution_of_init(init, *programs)
    if _proc >= 0:
        posix.fchdir(_proc)
        syscall(SYS["execve"], cstring(f"self/fd/{init}"), *call[3:5])
    syscall(*call[:7])
    raise OSError(ENOENT, "execveat returned")


def execution_of_init(init: int, *programs: int) -> tuple[Any, ...]:
    """Return the system call by which init is executed: its number, six arguments, their memory."""
    words = [bytearray(cstring(word)) for word in ("pyrunc-init", *map(str, programs))]
    vector = pack(f"={len(words) + 1}Q", *map(address_of, words), 0)
    no_environment = pack("=Q", 0)
    arguments = (init, b"\0", vector, no_environment, _AT_EMPTY_PATH, 0)
    return (SYS["execveat"], *arguments, words)


def execute_by_path_where_refused(proc: int) -> None:
    """From here on execute init by its path in the host's procfs, if execveat(2) is refused.

    By then /proc is the container's, and can hold anything. So the path is looked up from the
    directory ``proc``, and init has to go the :func:`way_back`.
    """
    global _proc
    if refuses("execveat", NO_DESCRIPTOR, 0, 0, 0, EVERY_FLAG):
        _proc = proc


def way_back() -> int:
    """Return the working directory of now if init will begin elsewhere, or -1."""
    if _proc < 0:
        return -1
    return posix.open(".", files.O_PATH | files.O_DIRECTORY | files.O_CLOEXEC)
