"""System calls that may be refused where pyrunc itself runs: in a container, on an old kernel.

An outer seccomp filter of before their time answers ENOSYS or EPERM to the calls that pyrunc
would rather make. For each there is another way that keeps the same promises; the modules with
these ways are loaded when there is a reason to, and before the fork, for the builder imports
nothing.
"""

from __future__ import annotations

import posix
from errno import ENOSYS, EPERM

from pyrunc.linux.libc import syscall
from pyrunc.linux.numbers import SYS

_PR_GET_SECCOMP = 21
#: No call knows all of these flags, and no descriptor has this number.
EVERY_FLAG = NO_DESCRIPTOR = 0xFFFFFFFF
#: The first kernel with everything (mount_setattr(2) came last).
_COMPLETE = (5, 12)


def is_refusal(error: OSError) -> bool:
    """Tell whether a filter or an old kernel may have refused the call. EPERM has other reasons."""
    return error.errno in (ENOSYS, EPERM)


def are_likely() -> bool:
    """Tell whether there is a seccomp filter around this process, or an old kernel below it.

    Two cheap calls, the only price of all this where nothing is refused.
    """
    version = posix.uname().release.split(".")
    try:
        if (int(version[0]), int(version[1])) < _COMPLETE:
            return True
        return syscall(SYS["prctl"], _PR_GET_SECCOMP, 0, 0, 0, 0) != 0
    except (OSError, ValueError, IndexError):
        return True


def refuses(name: str, *arguments: int) -> bool:
    """Tell whether this process may not make the call ``name``.

    :param arguments: some that the kernel refuses otherwise: flags that do not exist.
    """
    try:
        syscall(SYS[name], *arguments)
    except OSError as error:
        return is_refusal(error)
    return False


def explained(error: OSError, calls: str) -> OSError:
    """Return the error of a call that has no other way left, with who may have refused it."""
    if not is_refusal(error) or not are_likely():
        return error
    return OSError(
        error.errno, f"{error.strerror} (a seccomp filter around pyrunc may refuse {calls})"
    )
