"""Root file systems that an engine puts together: the host's /usr in a skeleton, and overlays.

All mounts are made in the engine's own mount namespace: nobody else sees them, and they are gone
when it ends, however it does.
"""

from __future__ import annotations

import os
import shutil
from functools import cache
from typing import TYPE_CHECKING, Any

from pyrunc.container.settings import Kept
from pyrunc.errors import Error, reason
from pyrunc.linux import mounts as m
from pyrunc.process.seal import sealed_init
from pyrunc.rootfs.protect import empty_filesystem

if TYPE_CHECKING:
    from pyrunc.spec.types import Mount

#: Name of a directory of every sandbox's, for what its programs make and keep.
WORK = "work"
_DIRECTORIES = ("dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr", "var", WORK)
#: On most systems links into /usr; elsewhere directories to be bound like it.
_BESIDE_USR = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_FILES = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n",
    "group": "root:x:0:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
#: What stat(2) says for an owner that is not mapped (user_namespaces(7)).
_OVERFLOW = 65534


def host_root(directory: str) -> tuple[str, list[Mount]]:
    """Return a root for programs of the host's /usr, made when it is not there, and its mounts.

    Of the host's /etc there is only what the dynamic linker and Debian's alternatives take.
    """
    path = f"{directory}/@host"
    mounts = [_bound("/usr"), *(_bound(f"/{name}") for name in _directories_beside_usr())]
    if not os.path.isdir(path):
        made = f"{path}.new"
        shutil.rmtree(made, ignore_errors=True)
        _make_skeleton(made)
        os.rename(made, path)
    return path, mounts


@cache
def _directories_beside_usr() -> list[str]:
    """Return the names of those beside the host's /usr: no system that runs comes by others."""
    names = ((name, f"/{name}") for name in _BESIDE_USR)
    return [name for name, path in names if os.path.isdir(path) and not os.path.islink(path)]


def kept_for_all(directory: str) -> Kept:
    """Make what all sandboxes of root's engine can use, none of which has a capability."""
    empty = f"{directory}/@empty"
    os.makedirs(empty, 0o700, exist_ok=True)
    mount_on(empty, empty_filesystem())
    return Kept(init=sealed_init(), empty=empty)


def _bound(path: str) -> Mount:
    options = ["rbind", "rro", "rnosuid", "rnodev"]
    return {"destination": path, "type": "bind", "source": path, "options": options}


def _make_skeleton(path: str) -> None:
    os.mkdir(path, 0o755)
    for name in _DIRECTORIES:
        os.mkdir(f"{path}/{name}", 0o755)
    for name in ("tmp", WORK):
        os.chmod(f"{path}/{name}", 0o1777)
    for name in _BESIDE_USR:
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), f"{path}/{name}")
        elif os.path.isdir(f"/{name}"):
            os.mkdir(f"{path}/{name}", 0o755)
    for name, text in _FILES.items():
        with open(f"{path}/etc/{name}", "w") as file:
            file.write(text)
    os.symlink("../usr/lib/os-release", f"{path}/etc/os-release")
    if os.path.isfile("/etc/ld.so.cache"):
        shutil.copyfile("/etc/ld.so.cache", f"{path}/etc/ld.so.cache")
    if os.path.isdir("/etc/alternatives"):
        shutil.copytree("/etc/alternatives", f"{path}/etc/alternatives", symlinks=True)


class Layer:
    """A throw-away layer over a root that nobody may change: an overlay with a tmpfs on top."""

    def __init__(
        self, directory: str, lower: str, *, size: int, files: int, saved: str = ""
    ) -> None:
        """Make it below ``directory``, over ``lower``.

        :param size: how many bytes may be written, :param files: how many files made; 0 is any.
        :param saved: an archive of what is to be in it (:mod:`pyrunc.engine.layer_archive`).
        """
        self.lower = lower
        self._directory = directory
        self._options = tuple(
            f"{name}={value}" for name, value in (("size", size), ("nr_inodes", files)) if value
        )
        os.makedirs(directory, 0o700, exist_ok=True)
        self._mount(saved)

    @property
    def root(self) -> str:
        """The path of the root file system, in the engine's mount namespace."""
        return f"{self._directory}/root"

    @property
    def upper(self) -> str:
        """Where what was changed lies."""
        return f"{self._directory}/upper"

    def _mount(self, saved: str = "") -> None:
        try:
            options = ("mode=700", *self._options)
            mount_on(self._directory, m.new_filesystem("tmpfs", "tmpfs", options, 0))
            for name in ("upper", "work", "root"):
                os.mkdir(f"{self._directory}/{name}", 0o755)
            status = os.stat(self.lower)
            os.chown(self.upper, *_owner(status))
            os.chmod(self.upper, status.st_mode & 0o7777)
            if saved:
                # Before the overlay is there, which must not see it change.
                from pyrunc.engine.layer_archive import fill

                fill(self.upper, saved)
            layers: dict[str, Any] = {"lowerdir": self.lower, "upperdir": self.upper}
            layers["workdir"] = f"{self._directory}/work"
            options = (
                *(f"{name}={path}" for name, path in layers.items()),
                *_extended_attributes(),
            )
            mount_on(self.root, m.new_filesystem("overlay", "overlay", options, m.MOUNT_ATTR_NODEV))
        except Error:
            self.remove()
            raise
        except OSError as error:
            self.remove()
            raise Error(f"cannot lay an overlay over {self.lower}: {reason(error)}") from None

    def reset(self) -> None:
        """Forget all changes. Nothing may use the root any more."""
        self._unmount()
        self._mount()

    def _unmount(self) -> None:
        for path in (self.root, self._directory):
            try:
                m.unmount(path)
            except OSError:
                continue

    def remove(self) -> None:
        """Take it away."""
        self._unmount()
        shutil.rmtree(self._directory, ignore_errors=True)


def mount_on(path: str, mount: int) -> None:
    """Attach a mount to a directory of the engine's mount namespace, and close it."""
    target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        m.attach(mount, target)
    finally:
        os.close(target)
        os.close(mount)


def _owner(status: os.stat_result) -> tuple[int, int]:
    """Return whose a layer's root is to be: the lower one's, or ours if that is nobody's here.

    An owner that the engine's user namespace does not have is shown as nobody (65534), who may be
    a user of the sandbox.
    """
    if _is_real_root():
        return status.st_uid, status.st_gid
    uid, gid = (0 if number == _OVERFLOW else number for number in (status.st_uid, status.st_gid))
    return uid, gid


def _extended_attributes() -> tuple[str, ...]:
    """Return the option that an overlay of a user namespace needs (overlayfs.rst, "userxattr")."""
    return () if _is_real_root() else ("userxattr",)


def _is_real_root() -> bool:
    with open("/proc/self/uid_map") as file:
        return file.read().split() == ["0", "0", "4294967295"]
