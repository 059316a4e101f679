"""The library inside a Podman container that allows user namespaces."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import SOURCES

#: Podman's masks refuse a procfs of one's own.
OPEN = ("--security-opt=unmask=ALL",)
UNFILTERED = ("--security-opt=seccomp=unconfined", *OPEN)
#: Where limits of the caller are lower than those that Podman raises to.
LIMITS = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096")
SCRIPT = """
import pyrunc
words = ["sh", "-c", "cat; id -u; set -- /proc/[0-9]*; echo $#"]
print(pyrunc.run(words, input=b"in ", timeout=60, memory="64M", best_effort=True).stdout)
with pyrunc.Sandbox(best_effort=True) as box:
    box.write_file("/tmp/file", b"content")
    print(box.run(["cat", "/tmp/file"], timeout=60).stdout)
try:
    asked = pyrunc.run(["uname", "-n"], timeout=60, best_effort=True, hostname="asked-for")
    print(asked.stdout)
except pyrunc.Error as error:
    print(error)
"""


@pytest.fixture(scope="module")
def root():
    """A root of the host's /usr, with the library in it."""
    if shutil.which("podman") is None:
        pytest.skip("needs podman")
    directory = Path(tempfile.mkdtemp(prefix="pyrunc-test-", dir="/var/tmp"))
    directory.chmod(0o755)
    for name in ("usr", "proc", "sys", "dev", "tmp", "etc", "run", "var/tmp"):
        (directory / name).mkdir(parents=True)
    for name in ("tmp", "var/tmp"):
        (directory / name).chmod(0o1777)
    for name in ("bin", "lib", "lib64", "sbin"):
        (directory / name).symlink_to(f"usr/{name}")
    shutil.copytree(SOURCES / "pyrunc", directory / "library/pyrunc")
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize(
    ("user", "options"),
    [(0, OPEN), (1000, OPEN), (0, UNFILTERED), (1000, UNFILTERED), (0, ("--privileged",))],
)
def test_inside_a_podman_container(root, user, options):
    python = Path(sys.executable).resolve()
    if not python.is_relative_to("/usr"):
        pytest.skip("needs a Python in /usr")
    done = subprocess.run(
        [
            "podman", "run", "--rm", "--network=none", f"--user={user}:{user}", *options, *LIMITS,
            "--volume=/usr:/usr:ro", "--env=PYTHONPATH=/library",
            "--rootfs", root, python, "-c", SCRIPT,
        ],
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    uid = 65534 if options == ("--privileged",) else 0
    named = r"b'asked-for\n'"
    if options == OPEN:
        # Podman's filter refuses that without CAP_SYS_ADMIN. Without asking, it is done without.
        named = "cannot set the hostname to asked-for: operation not permitted"
    # Its init, and the shell.
    expected = [rf"b'in {uid}\n2\n'", "b'content'", named]
    found = [
        line.removeprefix("unable to start container process: ")
        for line in done.stdout.splitlines()
    ]
    assert found == expected, done.stderr
