"""Where an image's files come from: a tar file, or a directory in the OCI image layout."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
import tarfile
import zlib
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from pyrunc.images.errors import ImageInvalid

if TYPE_CHECKING:
    from collections.abc import Callable

#: Manifests and configs are small; nobody makes us read more as JSON.
_LARGEST_JSON = 8 << 20
_AT_ONCE = 1 << 20
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_DECOMPRESSORS: tuple[tuple[bytes, Callable[[IO[bytes]], Any]], ...] = (
    (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file, mode="rb")),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\x00", lzma.LZMAFile),
)


class Source(Protocol):
    """Files by name."""

    def has(self, name: str) -> bool:
        """Tell whether there is a file of this name."""

    def open(self, name: str) -> IO[bytes]:
        """Open a file.

        :raises ImageInvalid: when there is none.
        """


class Directory:
    """A directory. Links in it are not followed out of it: its files are named by digests."""

    def __init__(self, path: str) -> None:
        self._path = path

    def has(self, name: str) -> bool:
        """Tell whether there is a file of this name."""
        return os.path.isfile(f"{self._path}/{name}")

    def open(self, name: str) -> IO[bytes]:
        """Open a file."""
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            return open(os.open(f"{self._path}/{name}", flags), "rb")
        except OSError as error:
            raise ImageInvalid(f"{self._path}: cannot read {name}: {error.strerror}") from None


class TarFile:
    """A tar file, compressed or not."""

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            # Open for as long as this is: there are files to be read from it.
            file = open(path, "rb")  # noqa: SIM115
            self._archive = tarfile.open(fileobj=decompressed(file), mode="r:")  # noqa: SIM115
            members = self._archive.getmembers()
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise ImageInvalid(f"{path}: not a tar file, or a damaged one: {error}") from None
        self._members = {member.name.removeprefix("./"): member for member in members}

    def has(self, name: str) -> bool:
        """Tell whether there is a file of this name."""
        return name in self._members

    def open(self, name: str) -> IO[bytes]:
        """Open a file; what `docker save` has as a link to another layer is that layer."""
        seen = 0
        member = self._members.get(name)
        while member is not None and (member.issym() or member.islnk()) and seen < 8:
            base = os.path.dirname(name) if member.issym() else ""
            name = os.path.normpath(os.path.join(base, member.linkname))
            member = self._members.get(name)
            seen += 1
        file = self._archive.extractfile(member) if member and member.isfile() else None
        if file is None:
            raise ImageInvalid(f"{self._path}: there is no file {name} in it")
        return file


def decompressed(file: IO[bytes]) -> IO[bytes]:
    """Return the content of a file that may be compressed (gzip, bzip2, xz).

    :raises ImageInvalid: for zstd where this Python has none.
    """
    start = file.read(6)
    file.seek(0)
    for magic, decompressor in _DECOMPRESSORS:
        if start.startswith(magic):
            return cast("IO[bytes]", decompressor(file))
    if start.startswith(_ZSTD_MAGIC):
        return _zstd(file)
    return file


def _zstd(file: IO[bytes]) -> IO[bytes]:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise ImageInvalid(
            "a layer is compressed with zstd, which Python knows from 3.14 on; save the image with"
            " gzip (skopeo copy --dest-compress-format gzip)"
        ) from None
    return cast("IO[bytes]", zstd.ZstdFile(file))


class Digested:
    """A file whose SHA-256 is reckoned as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Read on."""
        piece = self._file.read(size)
        self._digest.update(piece)
        return piece

    def digest(self) -> str:
        """Read to the end; return the digest of the whole as images name it."""
        while self.read(_AT_ONCE):
            pass
        return f"sha256:{self._digest.hexdigest()}"


def read_json(source: Source, name: str, digest: str = "") -> Any:
    """Return a JSON file's content.

    :param digest: that it must have.
    :raises ImageInvalid: when it has another, or is no JSON.
    """
    with source.open(name) as file:
        content = file.read(_LARGEST_JSON)
    if digest and digest != f"sha256:{hashlib.sha256(content).hexdigest()}":
        raise ImageInvalid(f"{name}: its content is not that of its digest")
    try:
        return json.loads(content)
    except ValueError as error:
        raise ImageInvalid(f"{name}: not JSON: {error}") from None
