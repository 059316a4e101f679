"""What CRIU cannot save, or only when it is told to, named before anything is stopped.

Not all can be known beforehand: the container goes on while it is looked at. Then CRIU says it, in
its own words, and the container goes on as well.
"""

from __future__ import annotations

from errno import EPERM

from pyrunc.errors import Error
from pyrunc.linux import files, process_stat
from pyrunc.linux.libc import syscall
from pyrunc.linux.numbers import SYS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyrunc.checkpoint.options import CheckpointOptions
    from pyrunc.checkpoint.outside import OpenFile

#: Kinds of descriptors that CRIU has no images for, as links of /proc/PID/fd begin, and what
#: they are.
_UNSAVABLE = {
    "anon_inode:[io_uring]": "an io_uring",
    "anon_inode:[perf_event]": "a perf event",
    "anon_inode:[userfaultfd]": "a userfaultfd",
    "anon_inode:kvm-": "a virtual machine",
    "anon_inode:[fscontext]": "a file system that is not mounted yet",
    "anon_inode:landlock-ruleset": "a Landlock ruleset",
    "anon_inode:seccomp notify": "a seccomp listener",
    "/dev/fuse": "a FUSE file system",
}
#: proc_net_tcp(5): state 1 is ESTABLISHED.
_ESTABLISHED = b"01"


def check(
    init: int,
    processes: Iterable[int],
    opened: list[OpenFile],
    stdio: list[str],
    options: CheckpointOptions,
) -> None:
    """See that nothing stands in the way.

    :raises Error: naming process and thing, and the flag that allows it if there is one.
    """
    _check_tree(init, processes)
    _check_limits(processes)
    for file in opened:
        where = f"process {file.pid} ({_name(file.pid)}) has descriptor {file.number} open"
        for start, what in _UNSAVABLE.items():
            if file.link.startswith(start):
                raise Error(f"{where}, {what}: CRIU cannot save it")
        if file.locks and not options.file_locks:
            raise Error(f"{where} with a lock on {file.link}: --file-locks saves it")
    if any(name.startswith("tty[") for name in stdio) and not options.shell_job:
        raise Error(
            "the container's stdin, stdout or stderr is a terminal of the caller's: "
            "--shell-job accepts that"
        )
    if not options.tcp_established and not options.empty_ns:
        _check_connections(init, opened)


def _check_tree(init: int, processes: Iterable[int]) -> None:
    """CRIU saves init and its descendants: a process of `exec` is none of these."""
    parents = {pid: _parent(pid) for pid in processes}
    for pid in parents:
        above = pid
        while above != init and above in parents:
            above = parents[above]
        if above != init and process_stat.start_time(pid):
            raise Error(
                f"process {pid} ({_name(pid)}) was brought in by `exec` and is no descendant of "
                "the container's init, so CRIU cannot save it: end it first"
            )


def _check_limits(processes: Iterable[int]) -> None:
    """CRIU reads them as prlimit(2) lets it: a container's root may lack what that takes."""
    for pid in processes:
        try:
            syscall(SYS["prlimit64"], pid, 0, 0, 0)
        except OSError as error:
            if error.errno == EPERM:
                raise Error(
                    f"process {pid} ({_name(pid)}) is another user's, and CRIU cannot read its "
                    "limits: that takes CAP_SYS_RESOURCE, which root has not here"
                ) from None


def _check_connections(init: int, opened: list[OpenFile]) -> None:
    ours = {file.link: file for file in opened if file.link.startswith("socket:[")}
    for table in ("tcp", "tcp6"):
        try:
            lines = files.read_file(f"/proc/{init}/net/{table}").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] != _ESTABLISHED:
                continue
            file = ours.get(f"socket:[{fields[9].decode()}]")
            if file is not None:
                port = int(fields[1].rpartition(b":")[2], 16)
                raise Error(
                    f"process {file.pid} ({_name(file.pid)}) has an open TCP connection "
                    f"(local port {port}): --tcp-established saves it"
                )


def _parent(pid: int) -> int:
    try:
        status = files.read_file(f"/proc/{pid}/status")
    except OSError:
        return 0
    return int(status.partition(b"\nPPid:")[2].split(None, 1)[0])


def _name(pid: int) -> str:
    return process_stat.name_of(pid).decode("utf-8", "replace")
