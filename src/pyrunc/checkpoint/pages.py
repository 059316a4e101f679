"""Memory in CRIU's images: whether all of it is there.

``pagemap-*.img`` (images/pagemap.proto) says which pages a process has, and in which
``pages-*.img`` they are, one after the other. CRIU 4.2 looks for ever for what is missing at the
end of that.
"""

from __future__ import annotations

import posix
from _struct import unpack_from

from pyrunc.checkpoint.messages import IMAGE_HEADER, entries, fields
from pyrunc.errors import Error, reason
from pyrunc.linux import files

_MAGICS = (0x54564319, 0x56084025)
_PREFIX = "pagemap-"
_LARGEST = 256 << 20
_PAGE: int = posix.sysconf("SC_PAGE_SIZE")
#: Fields of an entry; the number of pages was the second one before it became too large for it.
_OLD_NUMBER, _IN_PARENT, _FLAGS, _NUMBER = 2, 3, 4, 5
#: Of a process in pstree.img: its number in its own pid namespace, which names its images.
_PID = 1
#: What CRIU is known to say of a page: it is in the parent's images; it may be fetched when it is
#: used; it is in these images.
_PARENT, _LAZY, _PRESENT = 1, 2, 4
_FILE = posix.O_RDONLY | posix.O_NONBLOCK | files.O_NOFOLLOW | files.O_CLOEXEC
_DIRECTORY = posix.O_RDONLY | files.O_DIRECTORY | files.O_CLOEXEC


def check(images: int, path: str) -> None:
    """See that what is said to be in the images in a directory, and in their parents', is there.

    What is not known here, as a later CRIU may write it, is left to CRIU.

    :param path: what to call the directory in errors.
    :raises Error: naming the file that lacks something.
    """
    names = [name for name in posix.listdir(images) if name.startswith(_PREFIX)]
    names = _without_ended(images, names)
    seen = set()
    directory = posix.dup(images)
    try:
        while names := _check_directory(directory, path, names):
            status = posix.stat(directory)
            seen.add((status.st_dev, status.st_ino))
            try:
                parent = posix.open("parent", _DIRECTORY, dir_fd=directory)
            except OSError:
                return
            posix.close(directory)
            directory, path = parent, f"{path}/parent"
            status = posix.stat(directory)
            if (status.st_dev, status.st_ino) in seen:
                raise Error(f"{path} leads back to where it comes from")
    finally:
        posix.close(directory)


def _without_ended(images: int, names: list[str]) -> list[str]:
    """Leave out what an earlier checkpoint into the same directory has left of other processes.

    ``pstree.img`` (images/pstree.proto) has the processes that are restored.
    """
    try:
        numbers = [_pid(process) for process in entries(_content(images, "pstree.img"))]
    except (OSError, ValueError):
        numbers = []
    if not numbers:
        # CRIU's to name.
        return names
    processes = {f"{_PREFIX}{number}.img" for number in numbers}
    return [n for n in names if n in processes or not n[len(_PREFIX) :][:1].isdigit()]


def _check_directory(directory: int, path: str, names: list[str]) -> list[str]:
    """Check what pagemaps tell of; return those that have pages in the parent's images."""
    least: dict[int, int] = {}
    above = []
    for name in names:
        try:
            told = _pages(_content(directory, name))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise Error(f"cannot read {path}/{name}: {reason(error)}") from None
        if told is None:
            continue
        file, present, in_parent = told
        if present:
            # Only one is of this checkpoint; shared memory that has gone may have left the other.
            least[file] = min(present, least.get(file, present))
        if in_parent:
            above.append(name)
    for file, present in least.items():
        _check_size(directory, path, f"pages-{file}.img", present * _PAGE)
    return above


def _content(directory: int, name: str) -> bytes:
    file = posix.open(name, _FILE, dir_fd=directory)
    try:
        if posix.stat(file).st_mode & files.S_IFMT != files.S_IFREG:
            raise ValueError("it is not a file")
        return files.read_all(file, _LARGEST)
    finally:
        posix.close(file)


def _check_size(directory: int, path: str, name: str, least: int) -> None:
    try:
        size = posix.stat(name, dir_fd=directory).st_size
    except OSError as error:
        raise Error(f"the images are not whole: {path}/{name}: {reason(error)}") from None
    if size < least:
        raise Error(f"the images are not whole: {path}/{name} has {size} bytes of {least}")


def _pid(process: bytes) -> int:
    """Return the number of a process in pstree.img.

    :raises ValueError: when there is none.
    """
    for number, value, _ in fields(process):
        if number == _PID and isinstance(value, int):
            return value
    raise ValueError("no process")


def _pages(content: bytes) -> tuple[int, int, int] | None:
    """Return the number of the file of pages, how many are in there, and how many in the parent's.

    Of what is not known here, None.

    :raises ValueError: when it is cut off.
    """
    if len(content) < IMAGE_HEADER:
        raise ValueError("cut off")
    if unpack_from("=II", content) != _MAGICS:
        return None
    messages = entries(content)
    head = _numbers(next(messages, b""))
    if head is None or list(head) != [1]:
        return None
    present = in_parent = 0
    for message in messages:
        entry = _numbers(message)
        if entry is None or any(field > _NUMBER for field in entry):
            return None
        number = entry.get(_NUMBER) or entry.get(_OLD_NUMBER, 0)
        flags = entry.get(_FLAGS, _PARENT if entry.get(_IN_PARENT) else _PRESENT)
        if flags & ~(_PARENT | _LAZY | _PRESENT):
            return None
        present += number if flags & _PRESENT else 0
        in_parent += number if flags & _PARENT else 0
    return head[1], present, in_parent


def _numbers(message: bytes) -> dict[int, int] | None:
    """Return a message of nothing but numbers, by field."""
    found = {}
    for number, value, _ in fields(message):
        if not isinstance(value, int):
            return None
        found[number] = value
    return found
