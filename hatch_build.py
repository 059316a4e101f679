"""The package's build: compiles what is native and names the wheel's platform.

`init/init.c`, `syscall/syscall.c` and `freeze/freeze.c` become files of the package, `launcher/*.c`
the command `pyrunc`. All need a C compiler ($CC, cc, gcc, clang or the package ziglang) and nothing
else, no libc.

For wheels that other machines install (tools/wheels) the environment says more: PYRUNC_MACHINE,
the processor that $CC compiles for; PYRUNC_PYTHONS, further interpreters that the wheel is to start
as fast under as under the one that builds it.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
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
#: The same for LLVM's linker; zig takes -fpie together with -no-pie for neither.
_HIGH_LLVM = ("-fPIC", "-no-pie", "-static", "-Wl,--image-base=0x600000000000")
_MODULE_LLVM = ("-fPIC", "-shared", "-fvisibility=hidden")
_MODULE = (*_MODULE_LLVM, "-Wl,-z,noseparate-code")
_MODULES = ("syscall", "freeze")
_MACHINES = ("x86_64", "aarch64")


class NativePrograms(BuildHookInterface):  # type: ignore[type-arg]
    """Compile init and the launcher for a wheel, or for an installation in place."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say where the results go; ``version`` is "standard" or "editable"."""
        root = Path(self.root)
        if self.target_name == "sdist":
            if commit := _commit(root):
                (root / "build").mkdir(exist_ok=True)
                (root / "build/COMMIT").write_text(commit + "\n")
                build_data["force_include"][str(root / "build/COMMIT")] = "COMMIT"
            return
        if sys.implementation.name != "cpython":
            raise SystemExit(f"pyrunc needs CPython, and {sys.executable} is {sys.version!r}")
        for_others = os.environ.get("PYRUNC_MACHINE")
        machine = for_others or os.uname().machine
        if os.uname().sysname != "Linux" or machine not in _MACHINES:
            raise SystemExit(
                f"pyrunc runs on Linux on {' and '.join(_MACHINES)}, not on"
                f" {os.uname().sysname} on {machine}"
            )
        compiler = _compiler()
        built = root / "build"
        launcher = (root / "launcher/launcher.c", root / "launcher/restore.c")
        llvm = _is_llvm(compiler, built)
        high = (_HIGH_LLVM if llvm else _HIGH) if machine == "x86_64" else _PROGRAM
        module = _MODULE_LLVM if llvm else _MODULE
        _compile(compiler, high, launcher, built / "bin/pyrunc")
        # In an editable installation the package stays where it is, so these have to be there too.
        package = root / "src/pyrunc" if version == "editable" else built / "package"
        for flags, source, target in (
            (_PROGRAM, "init/init.c", "init/pyrunc-init"),
            *((module, f"{name}/{name}.c", f"linux/_{name}.abi3.so") for name in _MODULES),
        ):
            _compile(compiler, flags, [root / source], package / target)
            if version != "editable":
                build_data["force_include"][str(package / target)] = f"pyrunc/{target}"
        if version != "editable":
            shared = build_data["shared_data"]
            shutil.rmtree(built / "startup", ignore_errors=True)
            for python in [sys.executable, *shlex.split(os.environ.get("PYRUNC_PYTHONS", ""))]:
                _startup(python, root, built / "startup")
            for image in sorted((built / "startup").glob("startup.*")):
                build_data["force_include"][str(image)] = f"pyrunc/{image.name}"
            for file in sorted((built / "startup/encodings").rglob("*.py*")):
                shared[str(file)] = f"lib/pyrunc/{file.relative_to(built / 'startup')}"
            if commit := _commit(root):
                (built / "COMMIT").write_text(commit + "\n")
                build_data["force_include"][str(built / "COMMIT")] = "pyrunc/COMMIT"
            if machine == os.uname().machine and (filters := _known_filters(root, built, machine)):
                build_data["force_include"][str(filters)] = f"pyrunc/{filters.name}"
            native = [built / "bin/pyrunc", *sorted((built / "package").rglob("*.*"))]
            bill = _bill_of_materials(compiler, [*native, built / "package/init/pyrunc-init"])
            (built / "pyrunc.cdx.json").write_text(bill)
            build_data["sbom_files"] = ["build/pyrunc.cdx.json"]
        for page in sorted((root / "man").glob("*.8")):
            build_data["shared_data"][str(page)] = f"share/man/man8/{page.name}"
        build_data["pure_python"] = False
        # Any Python, any libc: the programs use none, and pyrunc finds the system's through the
        # interpreter. auditwheel has nothing to check in a static program, so that the names of
        # old C libraries hold is what tools/check-wheel sees to.
        platforms = f"manylinux_2_17_{machine}.manylinux2014_{machine}.musllinux_1_1_{machine}"
        build_data["tag"] = f"py3-none-{platforms if for_others else f'linux_{machine}'}"

    def clean(self, versions: list[str]) -> None:
        """Remove what was compiled."""
        shutil.rmtree(Path(self.root) / "build", ignore_errors=True)
        for name in ("init/pyrunc-init", *(f"linux/_{name}.abi3.so" for name in _MODULES)):
            (Path(self.root) / "src/pyrunc" / name).unlink(missing_ok=True)


#: What each interpreter does for the start under it; the arguments are root and target.
_STARTUP = """
import importlib.util, pathlib, py_compile, shutil, sys
root, target = map(pathlib.Path, sys.argv[1:])
spec = importlib.util.spec_from_file_location("image", root / "launcher/image.py")
image = importlib.util.module_from_spec(spec)
spec.loader.exec_module(image)
(target / image.image_name()).write_bytes(image.make_image(root / "src"))
shown = "encodings/__init__.py"
# Installers set times of their own, so none may be in it.
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
py_compile.compile(str(target / shown), None, shown, True, 0, mode)
"""


def _startup(python: str, root: Path, target: Path) -> None:
    """Make the start-up image and the package `encodings` of the start for an interpreter."""
    copy = target / "encodings/__init__.py"
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / "launcher/startup/encodings/__init__.py", copy)
    # The order of sets of strings is in the image otherwise.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    command = [python, "-B", "-c", _STARTUP, str(root), str(target)]
    try:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, env=environment)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"cannot make the start-up image of {python}: {error}") from None


#: Compiles the sections of the files in its arguments, but for the first, which it writes.
_FILTERS = """
import json, pathlib, sys
sys.path.insert(0, "src")
from pyrunc.security import known_filters
sections = (json.loads(pathlib.Path(name).read_bytes()) for name in sys.argv[2:])
pathlib.Path(sys.argv[1]).write_bytes(known_filters.compiled(sections))
"""


def _known_filters(root: Path, built: Path, machine: str) -> Path | None:
    """Compile the engines' seccomp sections; libseccomp does it, and where it is missing nobody."""
    target = built / f"known-filters.{machine}"
    sections = sorted(map(str, (root / "seccomp").glob(f"*.{machine}.json")))
    command = [sys.executable, "-B", "-c", _FILTERS, str(target), *sections]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"no filters of engines are built in: {done.stderr[-200:]}", file=sys.stderr)
        return None
    return target


def _bill_of_materials(compiler: list[str], native: Sequence[Path]) -> str:
    """Return what the wheel is made of, as CycloneDX 1.5 (PEP 770): pyrunc, and its native parts.

    There is nothing else, no library is linked or brought along. No times and no random numbers
    are in it, as the same sources have to give the same bytes.
    """
    asked = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=False)
    license_ = [{"license": {"id": "Apache-2.0"}}]
    made_with = {"name": "compiler", "value": asked.stdout.partition("\n")[0]}
    components = [
        {
            "type": "file",
            "name": file.name,
            "licenses": license_,
            "hashes": [{"alg": "SHA-256", "content": sha256(file.read_bytes()).hexdigest()}],
            "properties": [made_with],
        }
        for file in native
    ]
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "pyrunc", "licenses": license_}},
        "components": components,
        "dependencies": [],
    }
    return json.dumps(bill, indent=2) + "\n"


def _commit(root: Path) -> str:
    """Return the commit that is built, for ``pyrunc --version``; nothing outside of a checkout."""
    if (root / "COMMIT").exists():  # of a source distribution
        return (root / "COMMIT").read_text().strip()
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
    for name in ("cc", "gcc", "clang"):
        found = shutil.which(name)
        if found:
            return [found]
    for python in (sys.executable, shutil.which("python3") or sys.executable):
        command = [str(python), "-m", "ziglang"]
        asked = subprocess.run([*command, "version"], capture_output=True, check=False)
        if asked.returncode == 0:
            # Of its own accord it compiles for the very processor that it runs on.
            return [*command, "cc", "-target", f"{os.uname().machine}-linux-musl"]
    raise SystemExit(
        "pyrunc's build needs a C compiler for its small native parts: install gcc"
        " (Debian and Ubuntu: apt-get install gcc), clang or ziglang (from PyPI), or set CC"
    )


def _is_llvm(compiler: list[str], built: Path) -> bool:
    """Tell whether this compiler's linker is LLVM's, which has other names for some options."""
    source, probe = built / "probe.c", built / "probe"
    built.mkdir(exist_ok=True)
    source.write_text("void _start(void) { for (;;) ; }\n")
    command = [*compiler, *_FLAGS, *_MODULE, "-Wl,-Ttext-segment=0x10000", "-o", str(probe)]
    try:
        done = subprocess.run([*command, str(source)], capture_output=True, check=False)
        return done.returncode != 0
    finally:
        source.unlink()
        probe.unlink(missing_ok=True)


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
