"""cgroup v2, systemd and AppArmor in a throw-away virtual machine (machine/README.md).

The images must be there already: making them takes minutes and the distribution's archive.
Run ``tests/vm/machine/build`` once for that.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
CGROUPS = ("guest_cgroups.py", "guest_pods.py", "guest_systemd.py", "guest_values.py")
CHECKPOINT = ("guest_checkpoint.py", "guest_launcher.py")
#: What the host's kernel and CRIU may be unable to do.
MEMORY = (
    "test_memory_goes_to_a_page_server",
    "test_memory_is_read_when_it_is_used",
    "test_memory_comes_from_the_checkpoint_itself",
)
CACHE = Path(os.environ.get("VM_CACHE") or Path.home() / ".cache/oci-vm")


def why_not() -> str:
    if os.geteuid() != 0:
        return "the virtual machine needs root"
    if shutil.which("qemu-system-x86_64") is None:
        return "qemu-system-x86_64 (package qemu-system-x86) is not installed"
    if not CACHE.is_dir() or not any(CACHE.iterdir()):
        return f"no images in {CACHE}: tests/vm/machine/build makes them"
    return ""


@pytest.fixture
def native_parts():
    """Have the native parts in the sources, which the guest cannot build, and none left behind.

    Where they are, tests take the sources for what is installed, and old ones for new.
    """
    package = TOP / "src/pyrunc"
    parts = {"init": package / "init/pyrunc-init", "syscall": package / "linux/_syscall.abi3.so"}
    kept = [part for part in parts.values() if part.exists()]
    for native in (*parts, "launcher"):
        subprocess.run(["make", "-s", "-C", TOP / native], check=True)
    yield
    for part in parts.values():
        if part not in kept:
            part.unlink()


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("user", "files"),
    [("root", CGROUPS), ("tester", CGROUPS), ("root", CHECKPOINT)],
    ids=["root", "tester", "checkpoint and launcher"],
)
def test_guest(user, files, request):
    """Files of guest/, each row in one machine: root has both managers, tester its own systemd."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    request.getfixturevalue("native_parts")
    done = in_guest(user, *(f"tests/vm/guest/{file}" for file in files))
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def in_guest(user, *words):
    """Run pytest in a fresh machine; skip when that gives no result."""
    done = subprocess.run(
        [
            HERE / "machine/run", "--timeout", "600", "--share", TOP, "--user", user, "--",
            "python3", "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *words,
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode in (124, 125):
        # Its own failure, or an emulation too slow for the time: no word about pyrunc.
        pytest.skip(f"the virtual machine gave no result: {done.stderr[-500:]}")
    return done


@pytest.mark.timeout(900)
def test_memory_through_servers(request):
    """The host's tests of page servers and lazy pages; here, none may be skipped."""
    if reason := why_not():
        pytest.skip(reason)
    request.getfixturevalue("native_parts")
    file = "tests/integration/test_checkpoint_flags.py"
    tests = (f"{file}::{name}" for name in MEMORY)
    done = in_guest("root", "-o", "pythonpath=tests src", *tests)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert f"{len(MEMORY)} passed" in done.stdout, done.stdout
