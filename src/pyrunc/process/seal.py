"""Init as a sealed memory file: what a container sees behind /proc/PID/exe.

Nothing inside can change it, and nothing of the host is behind it: what runs
there is a copy that lasts as long as the process (CVE-2019-5736).
"""

from __future__ import annotations

from _struct import pack
from errno import EACCES, EINVAL, ENOENT

from pyrunc.errors import Error, reason
from pyrunc.linux import files
from pyrunc.linux.libc import address_of, cstring, syscall
from pyrunc.linux.numbers import SYS

_MFD_CLOEXEC = 0x1
_MFD_ALLOW_SEALING = 0x2
_MFD_EXEC = 0x10
_F_ADD_SEALS = 1033
# F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE.
_SEALS = 0x1 | 0x2 | 0x4 | 0x8
_F_SEAL_EXEC = 0x20
_AT_EMPTY_PATH = 0x1000

_BINARY = __file__.rpartition("/process/")[0] + "/init/pyrunc-init"


def sealed_init() -> int:
    """Return a descriptor of a sealed memory file that holds the init program.

    :raises Error: when the package lacks the program, or the host forbids executable memory files.
    """
    try:
        content = files.read_file(_BINARY)
    except OSError as error:
        raise Error(
            f"cannot read init program {_BINARY}: {reason(error)}; is pyrunc installed completely?"
        ) from None
    descriptor = _memory_file(b"pyrunc-init\0", _MFD_CLOEXEC | _MFD_ALLOW_SEALING)
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
    """memfd_create(2), executable: said so where the kernel wants to hear it (Linux 6.3)."""
    try:
        return syscall(SYS["memfd_create"], name, flags | _MFD_EXEC)
    except OSError as error:
        if error.errno == EACCES:
            raise Error(
                "executable memory files are forbidden here: set sysctl vm.memfd_noexec below 2"
            ) from None
        if error.errno != EINVAL:
            raise
    return syscall(SYS["memfd_create"], name, flags)


def launch_fd(program: bytes) -> int:
    """Return a descriptor of a memory file with the launch program.

    It is meant to outlive the execve of init, which closes it.
    """
    descriptor = syscall(SYS["memfd_create"], b"launch\0", 0)
    files.write_all(descriptor, program)
    return descriptor


def execute_init(init: int, *programs: int) -> None:
    """Become init, with nothing but the launch programs' descriptors as arguments.

    :raises OSError: when the kernel will not execute it; otherwise this does not return.
    """
    words = [bytearray(cstring(word)) for word in ("pyrunc-init", *map(str, programs))]
    vector = pack(f"={len(words) + 1}Q", *map(address_of, words), 0)
    no_environment = pack("=Q", 0)
    syscall(SYS["execveat"], init, b"\0", vector, no_environment, _AT_EMPTY_PATH)
    raise OSError(ENOENT, "execveat returned")
