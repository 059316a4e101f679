"""The container's terminal: a pty from its own devpts, bound to /dev/console."""

from __future__ import annotations

import posix
from _struct import pack
from errno import EEXIST, ENOENT, EROFS

from pyrunc.errors import Error, reason
from pyrunc.linux import files, mounts, sockets
from pyrunc.linux.libc import syscall
from pyrunc.linux.numbers import SYS
from pyrunc.linux.own_directory import open_own
from pyrunc.process.channel import TERMINAL, tell_descriptor
from pyrunc.process.tty import set_window_size
from pyrunc.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.step import Build

TIOCSCTTY = 0x540E
_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441
#: pts(4).
_MULTIPLEXER = posix.makedev(5, 2)


def open_terminal(root: int) -> tuple[int, int]:
    """Open a new pty of the container's devpts; return ``(master, slave)``.

    The slave is opened through the master (TIOCGPTPEER, Linux 4.13): no name in
    the container's /dev/pts is trusted (CVE-2025-52565).

    :raises Error: when the container has no devpts.
    """
    try:
        multiplexer = files.open_in_root(root, "/dev/pts/ptmx")
    except OSError as error:
        if error.errno != ENOENT:
            raise
        raise Error("a terminal needs a devpts file system mounted on /dev/pts") from None
    try:
        status = posix.stat(multiplexer)
        if (
            status.st_mode & files.S_IFMT != files.S_IFCHR
            or status.st_rdev != _MULTIPLEXER
            or files.filesystem_magic(multiplexer) != files.DEVPTS_SUPER_MAGIC
        ):
            raise Error("/dev/pts/ptmx is not the multiplexer of a devpts file system")
        master = files.reopen(multiplexer, posix.O_RDWR | posix.O_NOCTTY)
    finally:
        posix.close(multiplexer)
    syscall(SYS["ioctl"], master, _TIOCSPTLCK, pack("=i", 0))
    flags = posix.O_RDWR | posix.O_NOCTTY | files.O_CLOEXEC
    return master, syscall(SYS["ioctl"], master, _TIOCGPTPEER, flags)


def send_to_socket(path: str, descriptor: int, text: bytes, what: str) -> None:
    """Give a descriptor to whoever listens at the unix socket ``path``.

    :param what: what it is, for the error: "the terminal".
    :raises Error: when nobody does.
    """
    try:
        socket = sockets.connect_unix(path)
        try:
            sockets.send_descriptor(socket, descriptor, text)
        finally:
            posix.close(socket)
    except OSError as error:
        raise Error(f"cannot send {what} to socket {path}: {reason(error)}") from None


def send_pidfd(path: str, pidfd: int) -> None:
    """Give a process's pidfd (-1 where there are none) to whoever listens at the socket.

    :raises Error: when nobody does.
    """
    if pidfd < 0:
        raise Error(
            f"cannot send the pidfd to socket {path}: pidfd_open(2) is refused, "
            "by an old kernel or by a seccomp filter around pyrunc"
        )
    send_to_socket(path, pidfd, b"pidfd", "the pidfd")


class OpenTerminal(Step):
    """Make the terminal, hand its master to the runtime, bind the slave to /dev/console."""

    height: int
    width: int
    uid: int
    #: Number and destination of the config's mount that is /dev; -1 for the root file system.
    place: tuple[int, str] = (-1, "/")

    def comes_back_to(self) -> tuple[int, ...]:
        return self.place[:1]

    def describe(self) -> str:
        return "open the container's terminal"

    def apply(self, build: Build) -> None:
        master, slave = open_terminal(build.root)
        if self.height or self.width:
            set_window_size(master, self.height, self.width)
        if self.uid:
            posix.fchown(slave, self.uid, -1)
        self._bind_console(build, slave)
        tell_descriptor(build, TERMINAL, master)
        posix.close(master)
        build.console_peer = slave

    def _bind_console(self, build: Build, slave: int) -> None:
        """/dev/console is a plain file of ours that the slave is bound over, by descriptor."""
        index, destination = self.place
        mount = build.mounts[index] if index >= 0 else build.root
        directory = open_own(build.root, "/dev", mount, destination)
        try:
            target = _console_in(directory)
        finally:
            posix.close(directory)
        try:
            if posix.stat(target).st_mode & files.S_IFMT == files.S_IFLNK:
                raise Error("/dev/console is a symbolic link")
            console = mounts.clone_tree(slave, "", recursive=False)
            mounts.attach(console, target)
            posix.close(console)
        finally:
            posix.close(target)


def _console_in(directory: int) -> int:
    """Open (O_PATH) what is called console, an empty file if it was missing."""
    flags = files.O_NOFOLLOW | files.O_CLOEXEC
    try:
        made = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | flags
        posix.close(posix.open("console", made, 0o600, dir_fd=directory))
    except OSError as error:
        # EROFS: a bound /dev may be read-only, and have one.
        if error.errno not in (EEXIST, EROFS):
            raise
    return posix.open("console", files.O_PATH | flags, dir_fd=directory)


class TakeTerminal(Step):
    """Make the terminal the builder's stdin, stdout and stderr, and so the program's."""

    def describe(self) -> str:
        return "connect the terminal to stdin, stdout and stderr"

    def apply(self, build: Build) -> None:
        for descriptor in (0, 1, 2):
            posix.dup2(build.console_peer, descriptor, True)
        posix.close(build.console_peer)
