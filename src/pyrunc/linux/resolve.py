"""openat2(2) by hand, where a seccomp filter around us or an old kernel refuses the call.

A path is followed name by name, each opened without following links, relative to the directory
that the last one led to. Links are read and their text is followed in the same way, so nothing
ever goes by way of a name that somebody could have changed meanwhile. ``..`` goes back to where
the walk came from, never above its beginning.
"""

from __future__ import annotations

import posix
from _stat import S_ISDIR, S_ISLNK
from errno import EINVAL, ELOOP, ENOENT, ENOTDIR, EXDEV

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LOOK = posix.O_PATH | posix.O_NOFOLLOW | posix.O_CLOEXEC
#: As many links as the kernel follows in one resolution (path_resolution(7)).
_MAXIMUM_LINKS = 40
#: The root directory of every procfs (PROC_ROOT_INO in the kernel).
_PROC_ROOT = 1


class Walk:
    """One resolution below ``directory``, under the rules of openat2(2) that are given."""

    def __init__(
        self,
        directory: int,
        *,
        in_root: bool,
        links: bool,
        magic_links: bool,
        one_mount: bool,
        in_procfs: Callable[[int], bool],
    ) -> None:
        """Set the rules.

        :param in_root: ``/`` and ``..`` at the top mean ``directory`` (RESOLVE_IN_ROOT);
            otherwise they are errors (RESOLVE_BENEATH).
        :param links: whether links may be followed at all.
        :param magic_links: whether those of procfs may, whose text is not where they lead.
        :param one_mount: stay in the mount of ``directory``.
        :param in_procfs: tells whether a descriptor lies in a procfs.
        """
        self._directory = directory
        self._in_root = in_root
        self._follows = links
        self._magic_links = magic_links
        self._one_mount = one_mount
        self._in_procfs = in_procfs
        #: The directories on the way down, and in the end what was found.
        self._way: list[int] = []
        self._links = 0

    def open(self, path: str, flags: int) -> int:
        """Open ``path``.

        :raises OSError: as openat2(2) does. What is created has no place here: EINVAL.
        """
        if flags & posix.O_CREAT:
            raise _error(EINVAL)
        if not path:
            raise _error(ENOENT)
        try:
            name = self._follow(path, keep_link=bool(flags & posix.O_NOFOLLOW))
            return self._opened(name, flags)
        finally:
            self._go_to_top()

    def _follow(self, path: str, *, keep_link: bool) -> str:
        """Walk; return the last name, or "." where the last step was none."""
        self._start(path)
        names = path.split("/")[::-1]
        last = "."
        while names:
            name = names.pop()
            if name in ("", "."):
                last = "."
            elif name == "..":
                self._go_up()
                last = "."
            else:
                found = posix.open(name, _LOOK, dir_fd=self._here)
                self._way.append(found)
                mode = posix.stat(found).st_mode
                if S_ISLNK(mode) and (names or not keep_link):
                    text = self._text_of_link()
                    names += text.split("/")[::-1]
                    self._start(text)
                    continue
                if self._one_mount and self._mount(found) != self._mount(self._directory):
                    raise _error(EXDEV)
                if names and not S_ISDIR(mode):
                    raise _error(ENOTDIR)
                last = name
        return last

    def _opened(self, name: str, flags: int) -> int:
        """Open what was found the way it is wanted, and make sure that it is still that."""
        found = self._here
        status = posix.stat(found)
        if flags & posix.O_DIRECTORY and not S_ISDIR(status.st_mode):
            raise _error(ENOTDIR)
        if flags & posix.O_PATH and self._way:
            return self._way.pop()
        flags |= posix.O_NOFOLLOW | posix.O_CLOEXEC
        if S_ISDIR(status.st_mode):
            return posix.open(".", flags, dir_fd=found)
        above = self._way[-2] if len(self._way) > 1 else self._directory
        descriptor = posix.open(name, flags, dir_fd=above)
        now = posix.stat(descriptor)
        same_mount = not self._one_mount or self._mount(descriptor) == self._mount(found)
        if (now.st_dev, now.st_ino) != (status.st_dev, status.st_ino) or not same_mount:
            posix.close(descriptor)
            raise _error(EXDEV)
        return descriptor

    @property
    def _here(self) -> int:
        return self._way[-1] if self._way else self._directory

    def _start(self, path: str) -> None:
        """Begin at the top if the path is absolute."""
        if path.startswith("/"):
            if not self._in_root:
                raise _error(EXDEV)
            self._go_to_top()

    def _go_up(self) -> None:
        if self._way:
            posix.close(self._way.pop())
        elif not self._in_root:
            raise _error(EXDEV)

    def _go_to_top(self) -> None:
        while self._way:
            posix.close(self._way.pop())

    def _text_of_link(self) -> str:
        """Return where the link just found leads, and step back to the directory it is in."""
        link = self._way.pop()
        try:
            self._links += 1
            if not self._follows or self._links > _MAXIMUM_LINKS:
                raise _error(ELOOP)
            # The ordinary links of procfs (self, mounts, net) are in its root.
            is_magic = self._in_procfs(link) and posix.stat(self._here).st_ino != _PROC_ROOT
            if is_magic and not self._magic_links:
                raise _error(ELOOP)
            text = posix.readlink("", dir_fd=link)
        finally:
            posix.close(link)
        if not text:
            raise _error(ENOENT)
        return text

    def _mount(self, descriptor: int) -> bytes:
        """Return the id of the mount that a descriptor is in (proc_pid_fdinfo(5)).

        Asked of the procfs that the walk is in, or of the host's, which is on /proc for as long
        as anybody looks into a container's root from outside.
        """
        own = self._in_procfs(self._directory)
        path = f"{'' if own else '/proc/'}self/fdinfo/{descriptor}"
        flags = posix.O_RDONLY | posix.O_CLOEXEC
        file = posix.open(path, flags, dir_fd=self._directory if own else None)
        try:
            lines = posix.read(file, 4096).split(b"\n")
        finally:
            posix.close(file)
        return next(line for line in lines if line.startswith(b"mnt_id:"))


def _error(number: int) -> OSError:
    return OSError(number, posix.strerror(number))
