"""What dump and restore ask of CRIU alike, and the directories that both work in."""

from __future__ import annotations

import posix

from pyrunc.checkpoint import messages
from pyrunc.errors import Error, reason
from pyrunc.linux import files
from pyrunc.process.namespaces import FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyrunc.checkpoint.options import CommonOptions
    from pyrunc.container.settings import Settings
    from pyrunc.spec.types import Spec

#: An annotation that names a file of options for CRIU, which engines know from other runtimes; none
#: are read if it is empty.
_ANNOTATION = "org.criu.config"
#: Read where the annotation is missing, the first that there is.
_CONFIGS = ("/etc/criu/pyrunc.conf", "/etc/criu/runc.conf")
#: Options that CRIU calls by the same names.
_SWITCHES = (
    "tcp_established", "ext_unix_sk", "shell_job", "file_locks", "lazy_pages", "auto_dedup",
)  # fmt: skip
_DIRECTORY = posix.O_RDONLY | files.O_DIRECTORY | files.O_CLOEXEC


def common(options: CommonOptions, spec: Spec) -> dict[str, Any]:
    """Return the options for CRIU that dump and restore have in common.

    :raises Error: when CRIU cannot do what they say.
    """
    asked: dict[str, Any] = {
        "manage_cgroups": True,
        "manage_cgroups_mode": messages.CGROUPS_MODES[options.manage_cgroups_mode],
    }
    for name in _SWITCHES:
        if getattr(options, name):
            asked[name] = True
    for kind in options.empty_ns:
        if kind != "network":
            raise Error(f"namespace {kind} is not supported by --empty-ns, only network is")
        asked["empty_ns"] = FLAGS[kind]
    process = spec.get("process")
    if process and process.get("terminal"):
        asked["orphan_pts_master"] = True
    if path := _config_file(spec):
        asked["config_file"] = path
    return asked


def _config_file(spec: Spec) -> str:
    annotations = spec.get("annotations") or {}
    if _ANNOTATION in annotations:
        return annotations[_ANNOTATION]
    return next((path for path in _CONFIGS if posix.access(path, posix.R_OK)), "")


class Places:
    """The directories of the images and of CRIU's own files, open. Close them when done."""

    __slots__ = ("images", "log", "work")

    def __init__(
        self,
        options: CommonOptions,
        log: str,
        *,
        make: bool = False,
        criu: int = 0,
        images: str = "",
    ) -> None:
        """:raises Error: when one cannot be had.

        :param log: the name of CRIU's log.
        :param make: make the directory of the images if it is missing.
        :param criu: the pid of a CRIU with a mount namespace of its own: the directories are opened
            there. It mounts things in its working directory, and can do so only where it is.
        :param images: where it sees the images there.
        """
        work_path = options.work_path or options.image_path
        image_path = images or options.image_path
        self.images = _open_directory(image_path, "image path", make=make, criu=criu)
        try:
            self.work = _open_directory(work_path, "work path", make=not criu, criu=criu)
        except BaseException:
            posix.close(self.images)
            raise
        #: The whole path of CRIU's log.
        self.log = f"{work_path}/{log}"

    def close(self) -> None:
        """Let go of them."""
        posix.close(self.images)
        posix.close(self.work)


def _open_directory(path: str, what: str, *, make: bool, criu: int) -> int:
    try:
        if make:
            files.make_directories(path, 0o700)
        if not criu:
            return posix.open(path, _DIRECTORY)
        root = posix.open(f"/proc/{criu}/root", files.O_PATH | files.O_CLOEXEC)
        try:
            # Links on the way stay in that mount namespace.
            return files.open_in_root(root, path, _DIRECTORY)
        finally:
            posix.close(root)
    except OSError as error:
        raise Error(f"cannot use {what} {path}: {reason(error)}") from None


def refuse_rootless(settings: Settings, what: str) -> None:
    """:raises Error: without root, whom CRIU needs for all that makes up a container."""
    if settings.rootless or posix.geteuid() != 0:
        raise Error(f"cannot {what} without root: CRIU needs it")


def _size(directory: int, name: str) -> int:
    try:
        return posix.stat(name, dir_fd=directory).st_size
    except OSError:
        # Just made anew.
        return 0


def told_by(options: CommonOptions, images: int = -1) -> Callable[[], None] | None:
    """Return what tells of the progress, if anybody wants to hear of it.

    :param images: the directory that memory is written to; -1 when none is.
    """
    progress = options.progress
    if progress is None:
        return None

    def tick() -> None:
        written = 0
        for name in posix.listdir(images) if images >= 0 else ():
            if name.startswith("pages-"):
                written += _size(images, name)
        progress(written)

    return tick
