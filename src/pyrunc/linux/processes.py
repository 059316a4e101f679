"""Making, entering, signalling and waiting for processes: clone3(2), setns(2), pidfds."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import posix
import select
from _struct import pack, unpack_from
from errno import ECHILD, ENOSYS, EPERM, ESRCH

from pyrunc.linux import process_stat
from pyrunc.linux.libc import address_of, syscall
from pyrunc.linux.numbers import SYS

CLONE_NEWTIME = 0x00000080
CLONE_PIDFD = 0x00001000
CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000

SIGHUP = 1
SIGINT = 2
SIGQUIT = 3
SIGKILL = 9
SIGPIPE = 13
SIGTERM = 15
SIGCHLD = 17

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

POLLIN = 0x1
SIG_BLOCK = 0
SIG_SETMASK = 2
_SIGNALS = tuple(s for s in range(1, 32) if s not in (9, 19))
#: How often to look, in seconds, whether a process without a pidfd has ended.
LOOK_AGAIN = 0.01


def clone(flags: int, cgroup: int = -1) -> tuple[int, int]:
    """Fork with namespaces: return ``(pid, pidfd)`` in the parent, ``(0, -1)`` in the child.

    The child is a copy of this single-threaded interpreter. Python's fork hooks
    do not run; nothing here relies on them.

    :param flags: ``CLONE_NEW*``, ``CLONE_PARENT``.
    :param cgroup: descriptor of a cgroup v2 directory to be born in, or -1.
    """
    pidfd = bytearray(4)
    # The sibling inherits our own signal; clone3 refuses any other.
    exit_signal = 0 if flags & CLONE_PARENT else SIGCHLD
    arguments = clone3_arguments(flags, pidfd, exit_signal, cgroup)
    try:
        pid = syscall(SYS["clone3"], arguments, len(arguments))
    except OSError as error:
        if error.errno not in (ENOSYS, EPERM) or cgroup >= 0:
            raise
        # A filter cannot look into clone3's arguments, so many refuse it. The third argument is
        # where CLONE_PIDFD puts the descriptor (clone(2)).
        at = address_of(pidfd)
        pid = syscall(SYS["clone"], flags | CLONE_PIDFD | exit_signal, 0, at, 0, 0)
    return (pid, unpack_from("=i", pidfd)[0]) if pid else (0, -1)


def clone3_arguments(flags: int, pidfd: bytearray, exit_signal: int, cgroup: int) -> bytes:
    """Return clone3(2)'s arguments, with the place where the pidfd goes."""
    flags |= CLONE_PIDFD | (CLONE_INTO_CGROUP if cgroup >= 0 else 0)
    return pack("=11Q", flags, address_of(pidfd), 0, 0, exit_signal, *(0,) * 5, max(cgroup, 0))


def unshare(flags: int) -> None:
    """Leave the namespaces given by ``CLONE_NEW*`` for new ones (unshare(2))."""
    syscall(SYS["unshare"], flags)


def setns(descriptor: int, flags: int) -> None:
    """Enter the namespace (or, with a pidfd, several) behind ``descriptor`` (setns(2))."""
    syscall(SYS["setns"], descriptor, flags)


def prctl(option: int, value: int | bytes = 0) -> int:
    """prctl(2) with one argument."""
    return syscall(SYS["prctl"], option, value, 0, 0, 0)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; end at once if it has done so.

    The kernel forgets this when ids or capabilities change (prctl(2), PR_SET_PDEATHSIG).

    :param parent: the parent's pid, as it was known before the fork.
    """
    prctl(PR_SET_PDEATHSIG, SIGKILL)
    if posix.getppid() != parent:
        posix._exit(1)


def pidfd_open(pid: int) -> int:
    """Return a descriptor that stands for the process, whatever becomes of its number.

    It is -1 where an old kernel or a filter around us refuses the call.
    """
    try:
        return posix.pidfd_open(pid)
    except OSError as error:
        if error.errno not in (ENOSYS, EPERM):
            raise
        return -1


def pidfd_send_signal(pidfd: int, signal: int) -> bool:
    """Send ``signal``; return whether there was a process to take it."""
    try:
        _signal.pidfd_send_signal(pidfd, signal)
    except OSError as error:
        if error.errno in (ENOSYS, EPERM):
            return _kill(_pid_behind(pidfd), signal)
        if error.errno != ESRCH:
            raise
        return False
    return True


def _pid_behind(pidfd: int) -> int:
    """Return the number of the process that a pidfd stands for, or 0 when it is gone."""
    with_pid = b"Pid:"
    descriptor = posix.open(f"/proc/self/fdinfo/{pidfd}", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        lines = posix.read(descriptor, 4096).split(b"\n")
    finally:
        posix.close(descriptor)
    return max(0, *(int(x[len(with_pid) :]) for x in lines if x.startswith(with_pid)), 0)


def _kill(pid: int, signal: int) -> bool:
    """kill(2), which may hit a wrong process if this one has ended and its number is used anew."""
    if not pid:
        return False
    try:
        posix.kill(pid, signal)
    except ProcessLookupError:
        return False
    return True


def pidfd_getfd(pidfd: int, number: int) -> int:
    """Take a copy of descriptor ``number`` of another process (pidfd_getfd(2), Linux 5.6)."""
    return syscall(SYS["pidfd_getfd"], pidfd, number, 0)


def poll(descriptors: tuple[int, ...], timeout: float | None = None) -> tuple[int, ...]:
    """Wait until one of ``descriptors`` can be read or has hung up; return those that can.

    Negative ones stand for nothing and are passed over, as by poll(2).

    :param timeout: in seconds, to the millisecond; none waits for ever. An empty answer means
        that it passed.
    """
    return tuple(poll_for(dict.fromkeys(descriptors, POLLIN), timeout))


def poll_for(watched: dict[int, int], timeout: float | None = None) -> dict[int, int]:
    """Wait for the events asked for (poll(2)); return those there are, by descriptor.

    :param timeout: in seconds.
    """
    poll = select.poll()
    for descriptor, events in watched.items():
        if descriptor >= 0:
            poll.register(descriptor, events)
    return dict(poll.poll(None if timeout is None else timeout * 1000))


def wait(pid: int) -> int:
    """Wait for the child ``pid`` and return its status as a shell would: code, or 128 + signal."""
    try:
        status = posix.waitpid(pid, 0)[1]
    except OSError as error:
        if error.errno != ECHILD:
            raise
        return 255
    return exit_status(status)


def reap(pid: int, pidfd: int, timeout: float | None = None) -> None:
    """Wait until the child has ended, at most ``timeout`` seconds, and collect it.

    One that is traced ends, but can only be collected when its tracer has let go of it: it is
    not waited for. Nor is it an error when somebody else in this program has collected it.
    """
    how = posix.WNOHANG
    try:
        if pidfd >= 0:
            poll((pidfd,), timeout)
        else:
            Process(pid, process_stat.start_time(pid), pidfd).wait(timeout)
    except OSError:
        # An undo goes on though there is no memory even for that.
        how = 0
    try:
        posix.waitpid(pid, how)
    except ChildProcessError:
        pass


def exit_status(status: int) -> int:
    """Turn a wait(2) status into an exit code: the code itself, or 128 + the signal's number."""
    if posix.WIFSIGNALED(status):
        return 128 + posix.WTERMSIG(status)
    return posix.WEXITSTATUS(status)


def spawn(path: str, arguments: list[str], stdio: tuple[int, ...] = ()) -> int:
    """Execute a program in a new process, with no environment and the default action of signals.

    :param stdio: what becomes its stdin, stdout and stderr in place of ours.
    """
    actions = [(posix.POSIX_SPAWN_DUP2, descriptor, n) for n, descriptor in enumerate(stdio)]
    try:
        return posix.posix_spawn(
            path, arguments, {}, file_actions=actions, setsigmask=(), setsigdef=_SIGNALS
        )
    except PermissionError as error:
        if error.errno != EPERM:
            raise
    # A filter that answers EPERM to clone3(2), which glibc uses, and only takes ENOSYS for a no.
    pid, pidfd = clone(0)
    if pid == 0:
        try:
            for number, descriptor in enumerate(stdio):
                posix.dup2(descriptor, number)
            for number in _SIGNALS:
                _signal.signal(number, _signal.SIG_DFL)
            _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
            posix.execve(path, arguments, {})
        finally:
            posix._exit(127)
    posix.close(pidfd)
    return pid


class Process:
    """A process known by number and start time, and held by a pidfd where those can be had.

    Without one its start time is looked at again before each signal, and its end at intervals.
    """

    __slots__ = ("_pid", "_started", "pidfd")

    def __init__(self, pid: int, started: int, pidfd: int) -> None:
        self._pid = pid
        self._started = started
        #: Descriptor of the process, or -1.
        self.pidfd = pidfd

    def signal(self, number: int) -> bool:
        """Send a signal; return whether there was a process to take it."""
        if self.pidfd >= 0:
            return pidfd_send_signal(self.pidfd, number)
        return process_stat.is_running(self._pid, self._started) and _kill(self._pid, number)

    def wait(self, timeout: float | None = None, others: tuple[int, ...] = ()) -> bool:
        """Wait until it ends, for ``timeout`` seconds at most, and return whether it has.

        :param others: descriptors that end the wait as well when they can be read.
        """
        if self.pidfd >= 0:
            return self.pidfd in poll((self.pidfd, *others), timeout)
        waited = 0.0
        while process_stat.is_running(self._pid, self._started):
            step = LOOK_AGAIN if timeout is None else min(LOOK_AGAIN, timeout - waited)
            if step <= 0 or poll(others, step):
                return False
            waited += step
        return True

    def close(self) -> None:
        """Let go of it."""
        if self.pidfd >= 0:
            posix.close(self.pidfd)
            self.pidfd = -1


def open_process(pid: int, started: int) -> Process | None:
    """Return the process that had this number and start time, or None when it is gone."""
    if pid <= 0:
        return None
    try:
        process = Process(pid, started, pidfd_open(pid))
    except OSError:
        return None
    if not process_stat.is_running(pid, started):
        process.close()
        return None
    return process
