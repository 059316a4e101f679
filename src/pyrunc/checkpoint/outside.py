"""What of a running container is not its own, but for mounts: joined namespaces, and the files that
its stdin, stdout and stderr lead to. CRIU names them; at restore each name gets a descriptor.
"""

from __future__ import annotations

import posix

from pyrunc.checkpoint.mounts import mount_id, mounts_of
from pyrunc.errors import Error, reason
from pyrunc.linux import files
from pyrunc.process.namespaces import FILES, is_current, open_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyrunc.spec.types import Spec

#: The names that the images know joined namespaces by (those of runc's images).
_JOINED = {"network": "extRootNetNS", "pid": "extRootPidNS"}
#: Those that CRIU cannot leave outside, but leaves alone when it is in them itself. Nobody in there
#: sees it for that; told to join them on restore, it would change them back to what they were.
_ENTERED = ("ipc", "uts")
_O_ACCMODE = 3
#: The lowest number that shells put descriptors aside under; those below are somebody's choice.
_ASIDE = 10


def namespaces_outside(pid: int, spec: Spec) -> list[str]:
    """Return CRIU's names of the namespaces that the container has joined.

    :raises Error: for one that CRIU would make anew, where nobody would share it any more.
    """
    found = []
    for kind, _ in _joined_paths(spec):
        if kind in _ENTERED or _is_of_the_host(kind, pid):
            continue
        if kind not in _JOINED:
            raise Error(
                f"the container has joined another's {kind} namespace, which would be its own "
                "after a restore: CRIU leaves only network, pid, ipc and uts namespaces outside"
            )
        file = FILES[kind]
        found.append(f"{file}[{posix.stat(f'/proc/{pid}/ns/{file}').st_ino}]:{_JOINED[kind]}")
    return found


def namespaces_to_enter(pid: int, spec: Spec) -> list[int]:
    """Open the namespaces that CRIU is to be in for saving a container."""
    return [
        posix.open(f"/proc/{pid}/ns/{FILES[kind]}", posix.O_RDONLY | files.O_CLOEXEC)
        for kind, _ in _joined_paths(spec)
        if kind in _ENTERED
    ]


def open_namespaces(spec: Spec) -> list[tuple[str, int]]:
    """Open the namespaces that the config joins: type and descriptor, but for our own ones.

    :raises Error: when one is not there.
    """
    opened: list[tuple[str, int]] = []
    try:
        for kind, path in _joined_paths(spec):
            if kind not in _JOINED and kind not in _ENTERED:
                continue
            descriptor = open_namespace(kind, path)
            if is_current(kind, descriptor):
                posix.close(descriptor)
            else:
                opened.append((kind, descriptor))
    except BaseException:
        for _, descriptor in opened:
            posix.close(descriptor)
        raise
    return opened


def name_of(kind: str) -> str:
    """Return the name that the images know a joined namespace by; "" for one to be entered."""
    return _JOINED.get(kind, "")


def _joined_paths(spec: Spec) -> Iterator[tuple[str, str]]:
    for namespace in spec.get("linux", {}).get("namespaces") or ():
        if path := namespace.get("path"):
            yield namespace["type"], path


def _is_of_the_host(kind: str, pid: int) -> bool:
    """Tell whether a process is in the namespace of this type that we are in."""
    descriptor = posix.open(f"/proc/{pid}/ns/{FILES[kind]}", posix.O_RDONLY | files.O_CLOEXEC)
    try:
        return is_current(kind, descriptor)
    finally:
        posix.close(descriptor)


class OpenFile:
    """An open descriptor of a process, from proc_pid_fd(5) and proc_pid_fdinfo(5)."""

    __slots__ = ("access", "link", "locks", "mount", "number", "pid")

    def __init__(self, pid: int, number: str) -> None:
        self.pid = pid
        self.number = int(number)
        self.link = posix.readlink(f"/proc/{pid}/fd/{number}")
        self.mount = self.access = -1
        self.locks = False
        for line in files.read_file(f"/proc/{pid}/fdinfo/{number}").splitlines():
            name, _, value = line.partition(b":")
            if name == b"mnt_id":
                self.mount = int(value)
            elif name == b"flags":
                self.access = int(value, 8) & _O_ACCMODE
            elif name == b"lock":
                self.locks = True


def open_files(pids: Iterable[int]) -> list[OpenFile]:
    """Return what the processes have open; what ends meanwhile is left out."""
    found = []
    for pid in pids:
        try:
            numbers = posix.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for number in numbers:
            try:
                found.append(OpenFile(pid, number))
            except OSError:
                continue
    return found


class Stdio:
    """Where init's stdin, stdout and stderr lead."""

    __slots__ = ("links", "names")

    def __init__(self) -> None:
        #: CRIU's names of those that lead out of the container, "" for what is its own. A pipe is
        #: outside when nobody in the container has its other end; a file when it is on none of the
        #: container's mounts; a terminal when it is not of the container's devpts.
        self.names = ["", "", ""]
        #: What they lead to, as runc's descriptors.json has it.
        self.links = ["", "", ""]

    def look(self, pid: int, opened: list[OpenFile]) -> None:
        """Find out what is not known yet.

        The container runs: a shell that redirects what it does itself has something else open as
        its stdout for a moment, and has put its own aside (dup(2)). Its children have it all the
        same. So each of the three may also be found there.
        """
        inside = mounts_of(pid)
        own = {file.number: file for file in opened if file.pid == pid}
        for number in range(3):
            if number in own and not self.names[number]:
                self.links[number] = own[number].link
        children = (file for file in opened if file.pid != pid and file.number < 3)
        aside = (file for file in own.values() if file.number >= _ASIDE)
        for file in (*(own[n] for n in range(3) if n in own), *children):
            if not self.names[file.number]:
                self._take(file.number, file, _name_outside(file, opened, inside))
        for file in aside:
            name = _name_outside(file, opened, inside)
            if name and name not in self.names and "" in self.names:
                # Only what is written to is redirected that way, as good as always.
                places = (1, 2, 0) if file.access else (0, 1, 2)
                self._take(next(n for n in places if not self.names[n]), file, name)

    def _take(self, number: int, file: OpenFile, name: str) -> None:
        if name:
            self.names[number], self.links[number] = name, file.link


def _name_outside(file: OpenFile, opened: list[OpenFile], inside: Iterable[int]) -> str:
    if file.link.startswith("pipe:["):
        ends = {other.access for other in opened if other.link == file.link}
        return file.link if len(ends) == 1 and ends < {0, 1} else ""
    if not file.link.startswith("/") or file.mount in inside:
        return ""
    path = f"/proc/{file.pid}/fd/{file.number}"
    try:
        status = posix.stat(path)
        mount = mount_id(f"/proc/{file.pid}/fdinfo/{file.number}")
    except OSError as error:
        raise Error(f"cannot look at {path}: {reason(error)}") from None
    if status.st_mode & files.S_IFMT == files.S_IFCHR and is_terminal(status.st_rdev):
        return f"tty[{status.st_rdev:x}:{status.st_dev:x}]"
    return f"file[{mount:x}:{status.st_ino:x}]"


def is_terminal(number: int) -> bool:
    """Tell whether a device is a terminal's: a pty's slave, a console, a serial line (tty(4))."""
    major = posix.major(number)
    return major in (4, 5, 229) or 136 <= major <= 143
