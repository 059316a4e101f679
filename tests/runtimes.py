"""The commands of pyrunc, runc and crun under test; nothing of a container is left by them."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cgroup_tree import cgroups_named
from pyrunc.linux.libc import syscall
from pyrunc.linux.numbers import SYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bundles import Bundle

SOURCES = Path(__file__).resolve().parents[1] / "src"

_ids = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def no_ignored_signals() -> None:
    """Give the signals that the tests' caller ignores their default action.

    nohup(1) ignores SIGHUP, and a shell SIGINT for what it runs in the background: a command
    under test would honour that. 32 and 33, glibc's own, runc and crun would hand on to their
    containers; glibc refuses to touch them, so the kernel is asked (rt_sigaction(2), 8 bytes of
    mask).
    """
    for ignored in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(ignored) is signal.SIG_IGN:
            signal.signal(ignored, signal.SIG_DFL)
    for number in (32, 33):
        syscall(SYS["rt_sigaction"], number, bytes(32), 0, 8)


class Result:
    """How a command ended. The container's output goes to the same files, even later on."""

    def __init__(self, container_id: str, code: int, stdout: Path, stderr: Path) -> None:
        self.id = container_id
        self.code = code
        self._stdout = stdout
        self._stderr = stderr

    @property
    def stdout(self) -> str:
        return self._stdout.read_text(errors="surrogateescape")

    @property
    def stderr(self) -> str:
        return self._stderr.read_text(errors="surrogateescape")

    def __repr__(self) -> str:
        return f"Result(code={self.code}, stdout={self.stdout!r}, stderr={self.stderr!r})"


class Runtime:
    """A container runtime's command, with a state root of its own."""

    def __init__(self, name: str, command: Sequence[str], directory: Path) -> None:
        self.name = name
        self.command = [*command, "--root", str(directory / f"{name}-state")]
        self.directory = directory
        self.ids: list[str] = []
        self.roots: set[tuple[int, int] | None] = set()

    def __call__(self, *arguments: str | Path, id: str = "", **options: Any) -> Result:
        """Run the command with ``arguments``; ``options`` go to subprocess.run."""
        number = next(_ids)
        out, err = (self.directory / f"{self.name}-{number}.{end}" for end in ("out", "err"))
        if self.name == "crun":
            # crun gives its stdin to the container's user, even if that is the host's /dev/null.
            options.setdefault("input", b"")
        else:
            options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("timeout", 60)
        with out.open("wb") as stdout, err.open("wb") as stderr:
            done = subprocess.run(
                [*self.command, *map(str, arguments)],
                stdout=stdout, stderr=stderr, check=False, **options,
            )  # fmt: skip
        return Result(id, done.returncode, out, err)

    def new_id(self) -> str:
        """Return an id for a container that will be removed with the test."""
        self.ids.append(f"test-{os.getpid()}-{next(_ids)}")
        return self.ids[-1]

    def run(self, bundle: Bundle, *options: str, **how: Any) -> Result:
        """Run the bundle's program in the foreground."""
        return self._from_bundle("run", bundle, *options, **how)

    def create(self, bundle: Bundle, *options: str, **how: Any) -> Result:
        """Create a container."""
        return self._from_bundle("create", bundle, *options, **how)

    def start(self, bundle: Bundle, *options: str, **how: Any) -> Result:
        """Create a container, start it and return; it must work."""
        created = self.create(bundle, *options, **how)
        assert created.code == 0, created
        started = self("start", created.id)
        assert started.code == 0, started
        return created

    def _from_bundle(self, command: str, bundle: Bundle, *options: str, **how: Any) -> Result:
        bundle.save()
        self.roots.add(identity(bundle.rootfs))
        name = self.new_id()
        return self(command, "--bundle", bundle.path, *options, name, id=name, **how)

    def exec(self, container: Result, *command: str) -> Result:
        """Run a command in a running container."""
        return self("exec", container.id, *command)

    def state(self, container: Result) -> dict[str, Any]:
        """Return what `state` tells."""
        result = self("state", container.id)
        assert result.code == 0, result
        return json.loads(result.stdout)

    def wait(self, container: Result, status: str = "stopped", seconds: float = 10) -> None:
        """Wait until the container has this status."""
        end = time.monotonic() + seconds
        while (found := self.state(container)["status"]) != status:
            assert time.monotonic() < end, f"still {found}, not {status}, after {seconds} s"
            time.sleep(0.01)

    def remove_all(self) -> None:
        """Kill and delete every container made here that has a record still."""
        options = len(self.command) - 1 - self.command[::-1].index("--root")
        for name in self.ids:
            if os.path.lexists(f"{self.command[options + 1]}/{name}"):
                self("delete", "--force", name)


def pyrunc_command() -> list[str]:
    """Return how to call pyrunc: $PYRUNC, the sources here when init is built, the installed one.

    The sources come before the installed one, which would be tested as it was when installed.
    """
    if os.environ.get("PYRUNC"):
        return [os.environ["PYRUNC"]]
    installed = Path(sys.executable).parent / "pyrunc"
    if installed.exists() and not (SOURCES / "pyrunc/init/pyrunc-init").exists():
        return [str(installed)]
    boot = (
        f"import sys; sys.path.insert(0, {str(SOURCES)!r}); sys.argv[0] = 'pyrunc'; "
        "from pyrunc.cli.main import main; main()"
    )
    return [sys.executable, "-I", "-S", "-X", "utf8", "-c", boot]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Make a static program of C source, which runs in any root file system."""

    def compile_program(name: str, source: str) -> Path:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if not compiler:
            pytest.skip("needs a C compiler")
        program = tmp_path_factory.mktemp("compiled") / name
        program.with_suffix(".c").write_text(source)
        words = [compiler, "-static", "-o", program, program.with_suffix(".c")]
        if subprocess.run(words, capture_output=True, check=False).returncode:
            pytest.skip("needs a static C library")
        return program

    return compile_program


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A directory like ``tmp_path``, but every user of the machine is let in."""
    path = Path(tempfile.mkdtemp(prefix="pyrunc-test-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def pyrunc(tmp_path: Path, rootfs_template: Path) -> Iterator[Runtime]:
    """The command under test; at the end nothing of its containers may be left."""
    runtime = Runtime("pyrunc", pyrunc_command(), tmp_path)
    yield runtime
    runtime.remove_all()
    left = leftovers(runtime, tmp_path)
    if left:
        # A record may have got lost; nothing is to stay for the next test.
        for name in runtime.ids:
            runtime("delete", "--force", name)
    assert left == []


@pytest.fixture
def state_root(tmp_path: Path) -> Path:
    """Where the command under test has its containers."""
    return tmp_path / "pyrunc-state"


@pytest.fixture
def runc(tmp_path: Path, rootfs_template: Path) -> Iterator[Runtime]:
    """The reference runtime."""
    yield from _other_runtime("runc", tmp_path)


@pytest.fixture
def crun(tmp_path: Path, rootfs_template: Path) -> Iterator[Runtime]:
    """The runtime written in C."""
    yield from _other_runtime("crun", tmp_path)


def _other_runtime(name: str, directory: Path) -> Iterator[Runtime]:
    found = shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed")
    command = [found]
    if name == "crun" and Path("/sys/fs/cgroup/unified").exists():
        command = [*mount_missing_controllers(), found]
    runtime = Runtime(name, command, directory)
    yield runtime
    runtime.remove_all()


def mount_missing_controllers() -> list[str]:
    """Return a prefix for a command, which gives it the v1 controllers that crun insists on.

    They are mounted in a mount namespace of the command's own; the host keeps only the
    empty directories.
    """
    directories = (
        Path("/sys/fs/cgroup", name) for name in ("hugetlb", "perf_event", "net_cls", "net_prio")
    )
    mounts = [
        f"mkdir -p {directory} && mount -t cgroup -o {directory.name} cgroup {directory} && "
        for directory in directories
        if not directory.is_mount()
    ]
    return ["unshare", "-m", "sh", "-c", "".join(mounts) + 'exec "$@"', "sh"]


def leftovers(runtime: Runtime, directory: Path) -> list[str]:
    """Name everything of the containers that is still on the machine."""
    roots = runtime.roots - {None}
    found: list[str] = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and identity(process / "root") in roots:
            found.append(f"process {process.name} in a root file system of the test")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if line.split()[4].startswith(f"{directory}/"):
            found.append(f"mount {line}")
    found += [f"cgroup {path}" for path in cgroups_named(*runtime.ids)]
    return found


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from all others, or nothing when it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
