"""The wheel for aarch64 and the unit tests, on Debian 13 for arm64 under qemu-user.

qemu-user translates the program's instructions and hands its system calls to this machine's
kernel. So it shows that what is compiled for aarch64 runs, that numbers and structures of the
kernel's interface are the right ones, and that nothing takes the processor for another. It makes
no namespaces (its clone(2) takes threads and forks alone) and loads no seccomp filters
(tests/unit/emulated.py): that containers run on aarch64, only a real kernel can show.

`make test-aarch64` runs this; a quarter of an hour.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import CHECKOUT, bare_machine
from test_wheels import dist

from pyrunc.linux.libc import syscall
from pyrunc.linux.numbers import SYS

__all__ = ["dist"]

_PACKAGES = (
    "base-files base-passwd dash bash coreutils sed grep findutils libc-bin util-linux mount passwd"
    " python3 python3-pip gcc libc6-dev make libseccomp2 procps git busybox-static"
)
_TESTS = "pytest pytest-timeout hypothesis jsonschema pexpect"
#: What the kernel knows an ELF program of aarch64 by, and how it hands it over (binfmt_misc); F:
#: qemu is opened now, so that it need not be in the root.
_ELF = (
    r":qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:"
)
#: In a user namespace, whose binfmt_misc is its own (Linux 6.7): this machine's stays as it is.
_ENTER = """
read -r _
cd "$PLACE"
mkdir -p binfmt
mount -t binfmt_misc none binfmt
printf '%s' "$ELF$QEMU:FP" >binfmt/register
mount --bind root root
cd root
mount -t proc proc proc
mount --bind ../binfmt proc/sys/fs/binfmt_misc
mount --rbind /sys sys
mount --rbind /dev dev
mkdir -p before
pivot_root . before
cd /
umount -l /before
exec env -i HOME=/root PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin sh -euc "$SCRIPT"
"""


class Emulated:
    """A root of Debian for arm64, whose programs qemu-user runs."""

    def __init__(self, place: Path, qemu: Path) -> None:
        self.place = place
        self.root = place / "root"
        self.qemu = qemu

    def run(self, script: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a script of sh(1), as root of a user namespace with all ids."""
        unshare = ["unshare", "--user", "--mount", "--pid", "--fork", "--kill-child"]
        process = subprocess.Popen(
            [*unshare, "sh", "-euc", _ENTER],
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "PLACE": str(self.place),
                "QEMU": str(self.qemu),
                "ELF": _ELF,
                "SCRIPT": script,
            },
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            preexec_fn=_reset_signals_of_libc,  # noqa: PLW1509
        )  # fmt: skip
        try:
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{_child_of(process.pid)}/{name}").write_text("0 0 4294967295\n")
            said, _ = process.communicate("go\n", timeout=timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess([], process.returncode, said, "")

    def must(self, script: str, timeout: float = 300) -> str:
        """Run a script that has to succeed and return what it printed."""
        done = self.run(script, timeout)
        assert done.returncode == 0, done.stdout[-20000:]
        return done.stdout


def _reset_signals_of_libc() -> None:
    """Take back what posix_spawn(3) of glibc, and so make(1), has done: qemu-user cannot."""
    for number in (32, 33):
        syscall(SYS["rt_sigaction"], number, bytes(32), 0, 8)


def _child_of(pid: int) -> str:
    end = time.monotonic() + 20
    while not (children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return children[0]


@pytest.fixture(scope="module")
def arm(dist: Path) -> Iterator[Emulated]:
    if not Path("/proc/sys/fs/binfmt_misc").exists():
        pytest.skip("a kernel without binfmt_misc")
    place = CHECKOUT / "build/aarch64"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        with bare_machine("trixie") as machine:
            script = "cd /opt; apt-get download -q qemu-user; dpkg -x qemu-user_*.deb q"
            machine.must(f"apt-get -q update; {script}")
            # Statically linked.
            machine.take("opt/q/usr/bin/qemu-aarch64", place / "qemu-aarch64")
        made = _root(place)
        (wheel,) = dist.glob("*aarch64.whl")
        shutil.copy(wheel, made.root / "opt")
        made.must("python3 -m pip -q install --break-system-packages --no-index /opt/*.whl")
        yield made
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _root(place: Path) -> Emulated:
    """Unpack the packages, which is all they need for this, and what the tests want of PyPI."""
    options = ["--mode=root", "--arch=arm64", "--variant=extract"]
    include = f"--include={_PACKAGES.replace(' ', ',')}"
    command = ["mmdebstrap", *options, include, "trixie", str(place / "root")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no network to make a root for arm64: {done.stderr[-200:]}")
    root = place / "root"
    (root / "usr/bin/cc").symlink_to("gcc")
    for name in ("passwd", "group"):
        shutil.copy(root / f"usr/share/base-passwd/{name}.master", root / "etc" / name)
    (root / "etc/ssl/certs").mkdir(parents=True, exist_ok=True)
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", root / "etc/ssl/certs")
    platform = ["--platform", "manylinux_2_28_aarch64", "--platform", "manylinux2014_aarch64"]
    pip = [sys.executable, "-m", "pip", "-q", "install", "--python-version", "3.13", *platform]
    target = ["--only-binary=:all:", "--target", str(root / "opt/tests")]
    subprocess.run([*pip, *target, *_TESTS.split()], check=True)
    return Emulated(place, place / "qemu-aarch64")


@pytest.mark.timeout(1200)
def test_the_command_of_the_wheel(arm: Emulated) -> None:
    """The launcher, the interpreter that it starts, and both native modules."""
    shown = arm.must(
        "uname -m; pyrunc --version; cd /tmp; pyrunc spec; mkdir s; pyrunc --root s list"
    )
    assert shown.startswith("aarch64\npyrunc version ")
    assert shown.splitlines()[-1].split()[:2] == ["ID", "PID"]
    native = "from pyrunc.linux import _freeze, _syscall; print(_syscall.__name__)"
    assert "_syscall" in arm.must(f"python3 -c '{native}'")


@pytest.mark.timeout(3600)
def test_unit_tests(arm: Emulated) -> None:
    listed = subprocess.run(
        ["git", "-C", CHECKOUT, "ls-files", "-z", "-co", "--exclude-standard"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        target = arm.root / "opt/checkout" / name
        if (CHECKOUT / name).exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, target)
    # Without Hypothesis' own clock.
    options = "-q -ra -p emulated -p no:cacheprovider --hypothesis-profile=ci --timeout=1500"
    tests = f"python3 -m pytest {options} tests/unit"
    print(
        arm.must(f"cd /opt/checkout; PYTHONPATH=/opt/tests:tests/unit {tests}", timeout=3500)[
            -2000:
        ]
    )
