"""The package's build: compiles what is native and names the wheel's platform.

`init/init.c`, `syscall/syscall.c` and `freeze/freeze.c` become files of the package, `launcher/*.c`
the command `pyrunc`. All need a C compiler ($CC, cc or gcc) and nothing else, no libc.
"""

from __future__ import annotations

import importlib.util
import os
import py_compile
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_FLAGS = [
    *("-std=gnu11", "-Os", "-Wall", "-Wextra", "-ffreestanding", "-fno-stack-protector"),
    *("-fno-asynchronous-unwind-tables", "-fno-builtin", "-nostdlib", "-Wl,--build-id=none"),
    *("-Wl,-z,noexecstack", "-Wl,-z,norelro", "-Wl,-z,max-page-size=4096", "-Wl,-s"),
]
_PROGRAM = ("-fno-pie", "-no-pie", "-static")
#: On x86_64 above the memory of an interpreter, which it may have to put back (docs/snapshot.md).
_HIGH = ("-fpie", "-no-pie", "-static", "-Wl,-Ttext-segment=0x600000000000")
_MODULE = ("-fPIC", "-shared", "-fvisibility=hidden", "-Wl,-z,noseparate-code")
_MODULES = ("syscall", "freeze")
_MACHINES = ("x86_64", "aarch64")


class NativePrograms(BuildHookInterface):  # type: ignore[type-arg]
    """Compile init and the launcher for a wheel, or for an installation in place."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say where the results go; ``version`` is "standard" or "editable"."""
        if self.target_name != "wheel":
            return
        machine = os.uname().machine
        if os.uname().sysname != "Linux" or machine not in _MACHINES:
            raise SystemExit(
                f"pyrunc runs on Linux on {' and '.join(_MACHINES)}, not on"
                f" {os.uname().sysname} on {machine}"
            )
        root = Path(self.root)
        compiler = _compiler()
        built = root / "build"
        launcher = (root / "launcher/launcher.c", root / "launcher/restore.c")
        high = _HIGH if machine == "x86_64" else _PROGRAM
        _compile(compiler, high, launcher, built / "bin/pyrunc")
        # In an editable installation the package stays where it is, so these have to be there too.
        package = root / "src/pyrunc" if version == "editable" else built / "package"
        for flags, source, target in (
            (_PROGRAM, "init/init.c", "init/pyrunc-init"),
            *((_MODULE, f"{name}/{name}.c", f"linux/_{name}.abi3.so") for name in _MODULES),
        ):
            _compile(compiler, flags, [root / source], package / target)
            if version != "editable":
                build_data["force_include"][str(package / target)] = f"pyrunc/{target}"
        if version != "editable":
            image = _startup_image(root, built)
            build_data["force_include"][str(image)] = f"pyrunc/{image.name}"
            shared = build_data["shared_data"]
            for file in _startup_package(root, built):
                shared[str(file)] = f"lib/pyrunc/{file.relative_to(built / 'startup')}"
            if commit := _commit(root):
                (built / "COMMIT").write_text(commit + "\n")
                build_data["force_include"][str(built / "COMMIT")] = "pyrunc/COMMIT"
        for page in sorted((root / "man").glob("*.8")):
            build_data["shared_data"][str(page)] = f"share/man/man8/{page.name}"
        build_data["pure_python"] = False
        # Any Python, any libc: the programs use none, and pyrunc finds the system's through the
        # interpreter. A manylinux tag would promise which libc symbols are needed, and a package
        # index would want it checked by auditwheel, which has nothing to check in a static program.
        build_data["tag"] = f"py3-none-linux_{machine}"

    def clean(self, versions: list[str]) -> None:
        """Remove what was compiled."""
        shutil.rmtree(Path(self.root) / "build", ignore_errors=True)
        for name in ("init/pyrunc-init", *(f"linux/_{name}.abi3.so" for name in _MODULES)):
            (Path(self.root) / "src/pyrunc" / name).unlink(missing_ok=True)


def _startup_image(root: Path, built: Path) -> Path:
    """Make the start-up image for the Python that runs this build, and return its path."""
    spec = importlib.util.spec_from_file_location("image", root / "launcher/image.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    target = built / module.image_name()
    target.write_bytes(module.make_image(root / "src"))
    return target


def _startup_package(root: Path, built: Path) -> Iterator[Path]:
    """Copy the package `encodings` of the start and compile it for the Python that runs this."""
    source = root / "launcher/startup/encodings/__init__.py"
    target = built / "startup/encodings/__init__.py"
    target.parent.mkdir(parents=True, exist_ok=True)
    yield Path(shutil.copyfile(source, target))
    # Installers set times of their own, so none may be in it.
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    shown = "encodings/__init__.py"
    yield Path(py_compile.compile(str(target), dfile=shown, optimize=0, invalidation_mode=mode))


def _commit(root: Path) -> str:
    """Return the commit that is built, for ``pyrunc --version``; nothing outside of a checkout."""
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    command += ["--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _compiler() -> list[str]:
    """Return the compiler's command line.

    :raises SystemExit: when there is none.
    """
    chosen = os.environ.get("CC")
    if chosen:
        words = shlex.split(chosen)
        if shutil.which(words[0]):
            return words
        raise SystemExit(f"the C compiler that CC names is not there: {chosen}")
    for name in ("cc", "gcc"):
        found = shutil.which(name)
        if found:
            return [found]
    raise SystemExit(
        "pyrunc's build needs a C compiler for its small native parts: install gcc"
        " (Debian and Ubuntu: apt-get install gcc) or set CC"
    )


def _compile(
    compiler: list[str], flags: Sequence[str], sources: Sequence[Path], target: Path
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # Another build in the same tree must never see half a file.
    made = target.with_name(f".{target.name}.{os.getpid()}")
    command = [*compiler, *_FLAGS, *flags, "-o", str(made), *map(str, sources)]
    try:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        made.replace(target)
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"cannot compile {target.name}: {shlex.join(command)}: {error}") from None
    finally:
        made.unlink(missing_ok=True)
