"""Fixtures for tests with real containers: a root file system, bundles, and the command itself.

    def test_hostname(make_bundle, pyrunc):
        bundle = make_bundle(args=["hostname"], hostname="box")
        assert pyrunc.run(bundle).stdout == "box\n"

``make_bundle`` gives a bundle whose config is a plain dictionary, to be changed at will until
it is run. ``pyrunc`` runs the command with a state root of its own, removes all its containers
when the test is over, and makes sure that nothing of them is left on the machine. ``runc`` and
``crun`` are the same for those runtimes, where they are installed.
"""

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

from pyrunc.linux.libc import syscall
from pyrunc.linux.numbers import SYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SOURCES = Path(__file__).resolve().parents[2] / "src"
BUSYBOX = Path("/bin/busybox")
CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]

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
            os.chown(path, uid, uid, follow_symlinks=False)

    def shell(self, script: str) -> None:
        """Let the container run a shell script."""
        self.process["args"] = ["sh", "-c", script]

    def save(self) -> None:
        (self.path / "config.json").write_text(json.dumps(self.config, indent=1))


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
        """Kill and delete every container made here."""
        for name in self.ids:
            # Many tests remove their containers; others never made one.
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


def missing_for_containers() -> str:
    """Say what this machine lacks to run these tests; nothing when it has everything."""
    if os.geteuid() != 0:
        return "root"
    if not BUSYBOX.exists():
        return f"{BUSYBOX} (package busybox-static)"
    return ""


@pytest.fixture(scope="session")
def rootfs_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system with busybox and nothing else; copy it, do not change it."""
    if missing := missing_for_containers():
        pytest.skip(f"real containers need {missing}")
    template = tmp_path_factory.mktemp("template") / "rootfs"
    for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp", "var"):
        (template / name).mkdir(parents=True)
    (template / "tmp").chmod(0o1777)
    shutil.copy2(BUSYBOX, template / "bin/busybox")
    applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True)
    for name in applets.stdout.split():
        if name != "busybox":
            (template / "bin" / name).symlink_to("busybox")
    (template / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (template / "etc/group").write_text("root:x:0:\n")
    return template


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
def make_bundle(rootfs_template: Path, tmp_path: Path) -> Callable[..., Bundle]:
    """Make a bundle: ``make_bundle(args=[...], linux={...})`` changes the default config.

    Dictionaries are merged into what is there, everything else takes its place. ``at`` is
    the directory to make, when it must not be below the test's own.
    """
    numbers = itertools.count(1)

    def make(args: Sequence[str] = ("true",), at: Path | None = None, **changes: Any) -> Bundle:
        path = at or tmp_path / f"bundle{next(numbers)}"
        path.mkdir(parents=True)
        shutil.copytree(rootfs_template, path / "rootfs", symlinks=True)
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


@pytest.fixture
def pyrunc(tmp_path: Path, rootfs_template: Path) -> Iterator[Runtime]:
    """The command under test; at the end nothing of its containers may be left."""
    runtime = Runtime("pyrunc", pyrunc_command(), tmp_path)
    yield runtime
    runtime.remove_all()
    assert leftovers(runtime, tmp_path) == []


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
    for path, names, _ in os.walk("/sys/fs/cgroup"):
        found += [f"cgroup {path}/{name}" for name in names if name in runtime.ids]
    return found


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from all others, or nothing when it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
