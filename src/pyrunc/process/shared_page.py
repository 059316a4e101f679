"""What init writes where a container cannot: a page that it shares with the runtime.

A process that the container can see must hold nothing but what is the container's. So the one
that enters a pid namespace reports nothing itself: the kernel writes its pid to this page of its
maker's (CLONE_PARENT_SETTID), and by the kernel the runtime tells what became of it. The layout is
``struct shared`` in ``init/report.h``.
"""

from __future__ import annotations

import posix
from _struct import unpack
from errno import errorcode

from pyrunc.linux import files, process_stat
from pyrunc.linux import processes as p
from pyrunc.process.failure import describe_failure, parse_failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_SIZE = 4096
_RECORD_AT = 8
#: In seconds: how long the end of an execve may take when others have the processor, and how
#: often it is looked for.
_LONGEST_EXECUTION, _PAUSE = 5.0, 0.001
#: How init names itself, before the number of the call that failed.
_NAME = b"call "


def make_page() -> int:
    """Return a memory file (close-on-exec) of one page, for init."""
    page = files.new_memory_file("shared")
    posix.ftruncate(page, _SIZE)
    return page


def sibling_in(page: int) -> int:
    """Return the pid of the process that init has brought forth, or 0."""
    number: int = unpack("=i", posix.pread(page, 4, 0))[0]
    return number


def failure_in(page: int) -> str:
    """Say what failed in init before its sibling was born; nothing when it did not say."""
    failure = parse_failure(posix.pread(page, _SIZE, _RECORD_AT))
    return describe_failure(failure) if failure else ""


def why_not_executed(pid: int, labels: Sequence[str]) -> str:
    """Return why the child ``pid`` has not executed its program; nothing when it has.

    It has executed, ended or is stuck by now. In the latter two cases it is gone afterwards.

    :param labels: what its launch program calls its calls; the last one executes.
    """
    waited = 0.0
    # vfork(2)'s parent goes on when the child has its new memory, a moment before the kernel
    # notes that it has executed (begin_new_exec() of fs/exec.c).
    while (
        not (executed := process_stat.has_executed(pid))
        and not process_stat.has_ended(pid)
        and waited < _LONGEST_EXECUTION
    ):
        p.poll((), _PAUSE)
        waited += _PAUSE
    # One that has ended may have executed after the last look.
    if executed or process_stat.has_executed(pid):
        return ""
    name = process_stat.name_of(pid)
    posix.kill(pid, p.SIGKILL)
    status = posix.waitpid(pid, 0)[1]
    code = posix.WEXITSTATUS(status) if posix.WIFEXITED(status) else 0
    if code not in errorcode:
        return (
            f"init died (exit status {p.exit_status(status)}; was it killed, out of memory, "
            "or forbidden too much by its seccomp filter?)"
        )
    # The name is only as good as what a tracer inside has left of it.
    digits = name.removeprefix(_NAME) if name.startswith(_NAME) else b""
    index = int(digits) if digits.isdigit() and int(digits) < len(labels) else -1
    return describe_failure((index, code, 0, labels[index]))
