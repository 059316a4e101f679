"""$NOTIFY_SOCKET: how a program in a container tells the host's service manager that it is ready.

The manager's socket (sd_notify(3)) stays outside. The container gets a socket of
ours, in a directory of the container's state that is bound to /run/notify, and
what may pass is sent on: numbers of processes inside mean nothing outside, so it
is ours to say which one is the main process. Only loaded when the variable is set.
"""

from __future__ import annotations

import posix
from errno import ECONNREFUSED, ENOENT

from pyrunc.errors import Error, reason
from pyrunc.linux import files, sockets
from pyrunc.linux import processes as p
from pyrunc.linux.libc import cstring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.spec.types import Mount

#: Name of the directory in the container's state directory.
DIRECTORY = "notify"
_NAME = "notify.sock"
_INSIDE = "/run/notify"
#: What the program is told.
ENVIRONMENT = f"NOTIFY_SOCKET={_INSIDE}/{_NAME}"
_LONGEST_MESSAGE = 4096
#: sd_notify(3): what a container may say of itself.
_PASSED = (b"READY=", b"STATUS=", b"STOPPING=", b"RELOADING=", b"MONOTONIC_USEC=", b"ERRNO=")
_PASSED_IN_FOREGROUND = (*_PASSED, b"WATCHDOG=", b"EXTEND_TIMEOUT_USEC=")
#: How long to wait until the manager has taken note, in seconds.
_BARRIER = 5.0
#: Seconds in which the container may still say something after it is ready.
_LAST_WORD = 0.1


def mount(state_directory: str) -> Mount:
    """Return the mount that brings the socket's directory into the container."""
    return {
        "destination": _INSIDE,
        "type": "bind",
        "source": f"{state_directory}/{DIRECTORY}",
        "options": ["bind", "nosuid", "noexec", "nodev", "ro"],
    }


def make_directory(state_directory: int) -> None:
    """Make the directory for the socket, which is only there once the container starts."""
    posix.mkdir(DIRECTORY, 0o755, dir_fd=state_directory)


class Proxy:
    """Our socket and the manager's."""

    def __init__(self, state_directory: int) -> None:
        """Bind the socket in the container's state directory.

        :raises Error: when that or reaching the manager's socket fails.
        """
        self._host = self.socket = -1
        address = posix.environ[b"NOTIFY_SOCKET"].decode("utf-8", "surrogateescape")
        try:
            self._host = _connect(address)
        except OSError as error:
            raise Error(f"cannot connect to $NOTIFY_SOCKET {address}: {reason(error)}") from None
        try:
            self.socket = _bind(state_directory)
        except OSError as error:
            self.close()
            raise Error(f"cannot make the container's notify socket: {reason(error)}") from None

    def close(self) -> None:
        """Close both; the container's messages are refused from now on."""
        for descriptor in (self._host, self.socket):
            if descriptor >= 0:
                posix.close(descriptor)
        self._host = self.socket = -1

    def pass_on(self) -> None:
        """Send one message on, as coming from this process: the foreground's way."""
        self._pass(_PASSED_IN_FOREGROUND)

    def wait_until_ready(self, pid: int, started: int) -> None:
        """Send on until the container's process is ready, then say that it is the main one.

        A process that ends without a word is waited for no longer.
        """
        process = p.open_process(pid, started)
        if process is None:
            return
        try:
            while True:
                ended = process.wait(None, (self.socket,))
                if not p.poll((self.socket,), 0):
                    if ended:
                        return
                    continue
                if self._pass(_PASSED):
                    self._send(b"MAINPID=%d\n" % pid)
                    self._wait_for_manager()
                    # systemd-notify(1) in the container sends a barrier right after READY=1, and
                    # fails where nobody takes it; dropped unread, it is answered.
                    process.wait(_LAST_WORD, (self.socket,))
                    return
        finally:
            process.close()

    def _pass(self, passed: tuple[bytes, ...]) -> bool:
        """Send a message on without the lines that are not for the host; tell of READY=1."""
        lines = posix.read(self.socket, _LONGEST_MESSAGE).split(b"\n")
        kept = [line for line in lines if line.startswith(passed)]
        if kept:
            self._send(b"\n".join(kept))
        return b"READY=1" in kept

    def _send(self, message: bytes) -> None:
        try:
            posix.write(self._host, message)
        except OSError as error:
            # The manager has gone or does not listen: not the container's fault.
            if error.errno not in (ECONNREFUSED, ENOENT):
                raise

    def _wait_for_manager(self) -> None:
        """Wait until the manager has read everything: it must find us alive to know us.

        sd_notify_barrier(3): it closes the descriptor that it is sent.
        """
        end, sent = posix.pipe2(files.O_CLOEXEC)
        try:
            sockets.send_descriptor(self._host, sent, b"BARRIER=1")
        except OSError:
            pass
        finally:
            posix.close(sent)
        p.poll((end,), _BARRIER)
        posix.close(end)


def proxy_for(state_directory: int) -> Proxy | None:
    """Return the proxy of a container about to start; None when it was made without a socket."""
    try:
        posix.stat(DIRECTORY, dir_fd=state_directory)
    except OSError:
        return None
    return Proxy(state_directory)


def _connect(address: str) -> int:
    if not address.startswith("@"):
        return sockets.connect_unix(address, sockets.SOCK_DGRAM)
    name = b"\0" + address[1:].encode("utf-8", "surrogateescape")
    return sockets.socket_at("connect", sockets.SOCK_DGRAM, name)


def _let_everybody_in(directory: int) -> None:
    """Give the socket mode 0777: whoever the container's program runs as.

    The directory is bound into the container, which may have put something else in its place
    (with CAP_SYS_ADMIN it makes the mount writable): only a socket is changed, never by name.
    """
    node = posix.open(_NAME, files.O_PATH | files.O_NOFOLLOW | files.O_CLOEXEC, dir_fd=directory)
    try:
        if posix.stat(node).st_mode & files.S_IFMT != files.S_IFSOCK:
            raise Error(f"{_INSIDE}/{_NAME} was replaced by the container")
        posix.chmod(f"/proc/self/fd/{node}", 0o777)
    finally:
        posix.close(node)


def _bind(state_directory: int) -> int:
    flags = posix.O_PATH | files.O_DIRECTORY | files.O_NOFOLLOW | files.O_CLOEXEC
    directory = posix.open(DIRECTORY, flags, dir_fd=state_directory)
    try:
        try:
            posix.unlink(_NAME, dir_fd=directory)
        except FileNotFoundError:
            pass
        name = cstring(f"/proc/self/fd/{directory}/{_NAME}")
        socket = sockets.socket_at("bind", sockets.SOCK_DGRAM, name)
        try:
            _let_everybody_in(directory)
        except BaseException:
            posix.close(socket)
            raise
    finally:
        posix.close(directory)
    return socket
