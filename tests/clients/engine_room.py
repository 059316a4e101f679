"""A place apart for an engine: namespaces and a /run of its own, and the runtime to be tested.

An engine finds an empty /run, a network with nothing but a loopback device, and process numbers
that begin at 1; what it leaves running ends with the room. The host's files and cgroups are
seen as they are, so every engine gets a data root below a temporary directory.

PYRUNC_CLIENT_RUNTIME chooses the runtime that the engines drive: ``pyrunc`` (the default), or
``runc`` or ``crun``, to tell the faults of a machine from those of pyrunc.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import pytest

from bundles import BUSYBOX, busybox_root

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).resolve().parents[2]
RUNTIME = os.environ.get("PYRUNC_CLIENT_RUNTIME", "pyrunc")

#: For Podman, whose defaults would raise hard limits; `format` it with the runtime's path.
CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=1024:2048", "nproc=1024:2048"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "tested"
runtime_supports_json = ["tested"]
runtime_supports_nocgroup = ["tested"]
[engine.runtimes]
tested = ["{runtime}"]
"""
#: Of cgroup v1 every controller is mounted: crun insists on that, and Podman takes the empty
#: directory of one that is not for a cgroup. Inside another tmpfs: the host's stays as it is.
_SETUP = """
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/host-cgroup
mount -t proc proc /proc
ip link set lo up
if ! test -e /sys/fs/cgroup/cgroup.controllers; then
    mount --rbind /sys/fs/cgroup /run/host-cgroup
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    for place in /run/host-cgroup/*; do
        if mountpoint -q "$place"; then
            mkdir "/sys/fs/cgroup/${place##*/}"
            mount --bind "$place" "/sys/fs/cgroup/${place##*/}"
        fi
    done
    umount -l /run/host-cgroup
    for controller in hugetlb perf_event net_cls net_prio; do
        if ! test -e "/sys/fs/cgroup/$controller"; then
            mkdir "/sys/fs/cgroup/$controller"
            mount -t cgroup -o "$controller" cgroup "/sys/fs/cgroup/$controller" 2>/dev/null ||
                rmdir "/sys/fs/cgroup/$controller"
        fi
    done
fi
echo ready
exec sleep infinity
"""


def runtime_path() -> str:
    """Return the absolute path of the runtime that the engines are to drive."""
    if RUNTIME != "pyrunc":
        found = shutil.which(RUNTIME)
        if not found:
            pytest.skip(f"{RUNTIME} is not installed")
        return found
    if os.environ.get("PYRUNC"):
        return os.environ["PYRUNC"]
    if (PROJECT / "build/bin/pyrunc-python").exists():
        return str(PROJECT / "build/bin/pyrunc")
    installed = Path(sys.executable).parent / "pyrunc"
    if not installed.exists():
        pytest.skip("pyrunc is not installed beside this Python")
    return str(installed)


def need(*programs: str) -> None:
    """Skip unless root runs the tests and the programs are installed."""
    if os.geteuid() != 0:
        pytest.skip("engines are started as root")
    for name in ("tini", "ip", "setpriv", *programs):
        if not shutil.which(name):
            pytest.skip(f"{name} is not installed")
    if not BUSYBOX.exists():
        pytest.skip(f"{BUSYBOX} (package busybox-static) is not there")


class Room:
    """Namespaces that last until :meth:`close`; calling it runs a command inside."""

    def __init__(self, directory: Path, environment: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "LANG": "C.UTF-8"}
        # Podman 5 writes to stderr that it would rather have cgroup v2.
        self.environment["PODMAN_IGNORE_CGROUPSV1_WARNING"] = "1"
        self.environment |= environment or {}
        # Should the tests be killed, their engines do not stay.
        unshare = ["setpriv", "--pdeathsig", "KILL"]
        unshare += ["unshare", "-n", "-m", "-i", "-p", "--fork", "--kill-child"]
        self._holder = subprocess.Popen(
            [*unshare, "tini", "-s", "--", "sh", "-c", _SETUP],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout
        assert self._holder.stdout.readline() == "ready\n", "the room's namespaces cannot be made"
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children")
        self.init = int(children.read_text().split()[0])

    def command(self, *command: str | Path) -> list[str]:
        """Return how to run the command inside, for those who start it themselves."""
        enter = ["nsenter", "-t", str(self.init), "-n", "-m", "-i", "-p", "--"]
        return [*enter, *map(str, command)]

    def __call__(
        self,
        *command: str | Path,
        stdin: str = "",
        timeout: float = 120,
        check: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside and return its result; ``check`` makes a failure an assertion."""
        result = subprocess.run(
            self.command(*command),
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env=self.environment,
            cwd=self.directory,
            check=False,
        )
        if check:
            assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
        return result

    def start(self, *command: str | Path, log: Path) -> subprocess.Popen[bytes]:
        """Start a daemon inside; its output goes to ``log``."""
        with log.open("wb") as output:
            return subprocess.Popen(
                self.command(*command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=self.directory,
            )

    def close(self) -> None:
        """End everything inside and wait until it is gone."""
        os.kill(self.init, 9)
        self._holder.wait()


class Startable(Protocol):
    """An engine: starts when it is made, with all that it keeps in a directory."""

    def __init__(self, directory: Path) -> None: ...

    def close(self) -> None: ...


StartableT = TypeVar("StartableT", bound=Startable)


@contextlib.contextmanager
def started(engine: type[StartableT]) -> Iterator[StartableT]:
    """Start an engine with a data root of its own; in the end both are gone, whatever happens."""
    name = f"pyrunc-{engine.__name__.lower()}-"
    # Not below pytest's directories: an overlay's and a socket's paths must not be too long.
    with tempfile.TemporaryDirectory(
        prefix=name, dir="/var/tmp", ignore_cleanup_errors=True
    ) as directory:
        running = engine(Path(directory))
        try:
            yield running
        finally:
            running.close()


def root_filesystem(directory: Path) -> Path:
    """Make a busybox root file system below ``directory`` and return its path."""
    root = busybox_root(directory / "image-rootfs")
    (root / "run").mkdir()
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nbox:x:1000:1000::/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nbox:x:1000:\n")
    return root


def root_archive(directory: Path) -> Path:
    """Return a tar archive of :func:`root_filesystem`, as `podman import` and others take it."""
    archive = directory / "image.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(root_filesystem(directory), arcname=".")
    return archive


def wait_until(condition, seconds: float = 20, what: str = "the condition") -> None:
    """Wait until ``condition()`` is true; an assertion fails when it never is."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not come true within {seconds} s"
        time.sleep(0.05)
