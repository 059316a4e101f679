"""Bundles with a small root file system, for tests with real containers."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BUSYBOX = Path("/bin/busybox")
CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]


def default_config() -> dict[str, Any]:
    """Return what `runc spec` writes, but without terminal and with a writable root."""
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["true"],
            "env": ["PATH=/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                name: list(CAPABILITIES) for name in ("bounding", "effective", "permitted")
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": False},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": [
                    "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5",
                ],
            },
            {
                "destination": "/dev/shm",
                "type": "tmpfs",
                "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
            },
            {
                "destination": "/sys",
                "type": "sysfs",
                "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"],
            },
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [
                {"type": name} for name in ("pid", "network", "ipc", "uts", "mount")
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"],
        },
    }  # fmt: skip


class Bundle:
    """A bundle on disk. Change ``config`` freely: running it saves it first."""

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        self.config = config

    @property
    def rootfs(self) -> Path:
        return self.path / "rootfs"

    @property
    def process(self) -> dict[str, Any]:
        return self.config["process"]

    @property
    def linux(self) -> dict[str, Any]:
        return self.config["linux"]

    def mount(self, destination: str, kind: str, source: str | Path, *options: str) -> None:
        """Add a mount."""
        self.config["mounts"].append(
            {
                "destination": destination,
                "type": kind,
                "source": str(source),
                "options": list(options),
            }
        )

    def bind(self, source: str | Path, destination: str, *options: str) -> None:
        """Add a bind mount."""
        self.mount(destination, "bind", source, "bind", *options)

    def namespace(self, kind: str, path: str | None = None) -> None:
        """Ask for a new namespace of this type, or for the one at ``path``."""
        self.without_namespace(kind)
        entry = {"type": kind} | ({"path": str(path)} if path else {})
        self.linux["namespaces"].append(entry)

    def without_namespace(self, *kinds: str) -> None:
        """Stay in the host's namespaces of these types."""
        kept = [n for n in self.linux["namespaces"] if n["type"] not in kinds]
        self.linux["namespaces"] = kept

    def user_namespace(self, host: int = 0, size: int = 65536) -> None:
        """Ask for a user namespace whose ids from 0 on are the host's from ``host`` on."""
        mapping = {"containerID": 0, "hostID": host, "size": size}
        self.linux.update(uidMappings=[mapping], gidMappings=[mapping])
        self.namespace("user")

    def give_to(self, uid: int) -> None:
        """Make user and group ``uid`` of the host the owners of the root file system."""
        for path in (self.rootfs, *self.rootfs.rglob("*")):
            own(path)
            os.chown(path, uid, uid, follow_symlinks=False)

    def shell(self, script: str) -> None:
        """Let the container run a shell script."""
        self.process["args"] = ["sh", "-c", script]

    def save(self) -> None:
        (self.path / "config.json").write_text(json.dumps(self.config, indent=1))


def missing_for_containers() -> str:
    """Say what this machine lacks to run these tests; nothing when it has everything."""
    if os.geteuid() != 0:
        return "root"
    if not BUSYBOX.exists():
        return f"{BUSYBOX} (package busybox-static)"
    return ""


def busybox_root(root: Path) -> Path:
    """Make a root file system at ``root`` with busybox, under all its names, and return that."""
    for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp", "var"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    shutil.copy2(BUSYBOX, root / "bin/busybox")
    applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True)
    for name in applets.stdout.split():
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    return root


@pytest.fixture(scope="session")
def rootfs_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system with busybox and nothing else; copy it, do not change it."""
    if missing := missing_for_containers():
        pytest.skip(f"real containers need {missing}")
    template = busybox_root(tmp_path_factory.mktemp("template") / "rootfs")
    (template / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (template / "etc/group").write_text("root:x:0:\n")
    return template


def copy_root(template: str | Path, root: str | Path) -> None:
    """Copy a root file system; its symbolic links get further names where that is possible.

    A link takes several times as long to make as to name, and busybox has hundreds. What can be
    changed of one is its owner: :func:`own` first.
    """
    os.mkdir(root)
    with os.scandir(template) as entries:
        for entry in entries:
            to = f"{root}/{entry.name}"
            if entry.is_symlink():
                _name_again(entry.path, to)
            elif entry.is_dir():
                copy_root(entry.path, to)
            else:
                shutil.copy2(entry.path, to)
    shutil.copystat(template, root)


def _name_again(link: str, name: str) -> None:
    try:
        os.link(link, name, follow_symlinks=False)
    except OSError:
        # On another file system; or there are 65,000 already.
        os.symlink(os.readlink(link), name)


def own(path: Path) -> None:
    """Make a symbolic link that is one of :func:`copy_root`'s a link of its own."""
    if path.is_symlink() and path.lstat().st_nlink > 1:
        target = path.readlink()
        path.unlink()
        path.symlink_to(target)


@pytest.fixture
def make_bundle(rootfs_template: Path, tmp_path: Path) -> Callable[..., Bundle]:
    """Make a bundle: ``make_bundle(args=[...], linux={...})`` changes the default config.

    Dictionaries are merged into what is there, everything else takes its place. ``at`` is
    the directory to make, when it must not be below the test's own.
    """
    numbers = itertools.count(1)

    def make(args: Sequence[str] = ("true",), at: Path | None = None, **changes: Any) -> Bundle:
        path = at or tmp_path / f"bundle{next(numbers)}"
        path.mkdir(parents=True)
        copy_root(rootfs_template, path / "rootfs")
        config = default_config()
        config["process"]["args"] = list(args)
        _merge(config, changes)
        return Bundle(path, config)

    return make


def _merge(into: dict[str, Any], changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = value
