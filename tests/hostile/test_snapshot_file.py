"""A snapshot is run as code: only one that the caller made, for this very start, may be.

Each test damages or exchanges something, and expects the ordinary start, without a word. That the
checks are what refuses it was seen by taking each out of launcher/restore.c.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess

import pytest
from snapshots import IN_USE, Installation, fresh, installation, needed, own_package

__all__ = ["fresh", "installation", "own_package"]
pytestmark = needed

OTHER = 4321
HEAD = 6 * 8
#: Where the parts of struct key begin.
KEY = {
    "hwcap": 0,
    "hwcap2": 8,
    "user namespace": 16,
    "path of the launcher": 24,
    "CPU": 32,
    "CPU's features": 48,
    "launcher's device": 56,
    "launcher's inode": 64,
    "launcher's time of change": 104,
    "boot": 112,
    "kernel's release": 152,
}


def refused(installation, **how):
    """Tell whether the command starts all the same, but not from the snapshot."""
    return installation.status(**how).startswith("none (")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o666])
def test_a_file_that_others_may_read_or_write(installation, mode):
    installation.snapshot.chmod(mode)
    assert refused(installation)
    installation.snapshot.chmod(0o600)
    assert installation.status() == IN_USE


def test_a_file_of_another_user(installation):
    os.chown(installation.snapshot, OTHER, OTHER)
    assert refused(installation)
    os.chown(installation.snapshot, 0, OTHER)
    assert installation.status() == IN_USE


def test_a_link_to_a_good_file(installation, tmp_path):
    installation.snapshot.rename(installation.snapshot.with_suffix(".good"))
    installation.snapshot.symlink_to(installation.snapshot.with_suffix(".good"))
    assert refused(installation)


@pytest.mark.parametrize("kind", ["fifo", "directory", "socket", "device"])
def test_no_file_at_all(installation, kind):
    path = installation.snapshot
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind == "directory":
        path.mkdir(mode=0o700)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    else:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))
    try:
        assert refused(installation)
        assert installation.run("state", "x").returncode == 1
    finally:
        if kind == "directory":
            path.rmdir()


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o777, 0o1777])
def test_a_directory_that_others_may_enter(installation, tmp_path, mode):
    """/run/pyrunc is another one here, in a mount namespace of the command's own."""
    run = tmp_path / "run"
    (run / "@snapshot").mkdir(parents=True)
    (run / "@snapshot").chmod(0o700)
    shutil.copy2(installation.snapshot, run / "@snapshot")
    assert in_other_run(installation, run) == IN_USE
    (run / "@snapshot").chmod(mode)
    assert in_other_run(installation, run).startswith("none (not for")


def test_a_directory_of_another_user_or_behind_a_link(installation, tmp_path):
    run = tmp_path / "run"
    (run / "@snapshot").mkdir(parents=True)
    (run / "@snapshot").chmod(0o700)
    shutil.copy2(installation.snapshot, run / "@snapshot")
    os.chown(run / "@snapshot", OTHER, OTHER)
    assert in_other_run(installation, run).startswith("none (not for")
    os.chown(run / "@snapshot", 0, 0)
    (run / "@snapshot").rename(run / "elsewhere")
    (run / "@snapshot").symlink_to("elsewhere")
    assert in_other_run(installation, run).startswith("none (not for")


def in_other_run(installation, directory):
    script = f"mount --bind '{directory}' /run/pyrunc && exec '{installation.launcher}' --version"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.rpartition("snapshot: ")[2].strip()


@pytest.mark.parametrize("part", KEY)
def test_a_file_made_for_something_else(installation, part):
    """Another machine, boot, user namespace, launcher: one bit of the key is enough."""
    flip(installation.snapshot, HEAD + KEY[part])
    assert refused(installation)
    flip(installation.snapshot, HEAD + KEY[part])
    assert installation.status() == IN_USE


def flip(path, offset):
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("size", [0, 8, 40, 500, 4096, 100_000, -1])
def test_a_file_that_was_cut(installation, size):
    """It would end in a SIGBUS."""
    whole = installation.snapshot.stat().st_size
    os.truncate(installation.snapshot, size if size >= 0 else whole - 1)
    assert refused(installation)


@pytest.mark.parametrize("field", range(5))
@pytest.mark.parametrize("value", [0, 1, 2**16, 2**32, 2**63, 2**64 - 1])
def test_a_head_that_lies(installation, field, value):
    with installation.snapshot.open("r+b") as file:
        file.seek(8 * field)
        file.write(struct.pack("=Q", value))
    done = installation.run("--version")
    assert done.returncode == 0, done
    assert "snapshot: none (" in done.stdout or field == 2


def test_the_file_of_another_installation(installation, tmp_path):
    other = Installation(tmp_path / "other")
    other.warm_up()
    try:
        other.snapshot.replace(installation.snapshot)
        assert refused(installation)
    finally:
        other.remove()


def test_hard_links_of_the_launcher_are_not_one_installation(installation, tmp_path):
    """Package managers link files: the inode is the same, the interpreter is not."""
    other = Installation(tmp_path / "other")
    other.launcher.unlink()
    os.link(installation.launcher, other.launcher)
    installation.warm_up()
    shutil.copy2(installation.snapshot, other.snapshot)
    try:
        assert refused(other)
    finally:
        other.remove()


def test_a_program_with_more_rights_than_its_caller(installation, public_path):
    """AT_SECURE: a set-user-id root launcher, called by somebody else, starts in no way."""
    own = Installation(public_path / "installation")
    own.launcher.chmod(0o4755)
    for directory in (own.launcher.parent, own.launcher.parent.parent):
        directory.chmod(0o755)
    own.warm_up()
    try:
        as_other = {"user": OTHER, "group": OTHER, "extra_groups": []}
        done = own.run("--version", **as_other)
        assert (done.returncode, done.stdout) == (1, ""), done
        assert "rights that its caller does not have" in done.stderr
        assert own.status() == IN_USE
    finally:
        own.remove()


def test_another_user_has_another_file(installation, public_path):
    own = Installation(public_path / "installation", copy=True)
    for directory in (own.launcher.parent, own.launcher.parent.parent):
        directory.chmod(0o755)
    own.warm_up()
    directory = f"/run/user/{OTHER}"
    assert not os.path.exists(directory)
    as_other = {"user": OTHER, "group": OTHER, "extra_groups": []}
    try:
        # Not where a variable says.
        public_path.chmod(0o1777)
        environment = {"XDG_RUNTIME_DIR": str(public_path)}
        done = own.run("--version", env=environment, **as_other)
        if "permission denied" in done.stderr:
            pytest.skip(f"other users may not use this interpreter: {done.stderr}")
        assert "snapshot: none (not for this machine or caller)" in done.stdout, done
        os.makedirs(directory, 0o700)
        os.chown(directory, OTHER, OTHER)
        done = own.run("warm-up", **as_other)
        assert (done.returncode, done.stderr) == (0, ""), done
        made = done.stdout.strip()
        assert made == f"{directory}/pyrunc/@snapshot/{own.snapshot.name}"
        assert os.stat(made).st_uid == OTHER
        assert "snapshot: in use" in own.run("--version", **as_other).stdout
        # Nor is root's used by them, or theirs by root.
        shutil.copy2(made, own.snapshot)
        assert own.status() == IN_USE, "a copy belongs to who copies"
        os.chown(own.snapshot, OTHER, OTHER)
        assert refused(own)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        own.remove()


def test_a_foreign_user_namespace(installation):
    """Where ids mean something else, nothing that was made outside is used."""
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", installation.launcher, "--version"],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    if done.returncode != 0 and "unshare" in done.stderr:
        pytest.skip(f"no user namespaces: {done.stderr}")
    assert "snapshot: none (" in done.stdout, done
    assert installation.status() == IN_USE


def test_variables_do_not_choose_the_code(installation, tmp_path):
    """Nor does the current directory: none of them reaches the interpreter."""
    for name in ("posix", "os", "pyrunc", "encodings", "ctypes", "json"):
        (tmp_path / f"{name}.py").write_text('raise SystemExit("poisoned")\n')
    names = "PYTHONPATH PYTHONHOME PYTHONUSERBASE LD_LIBRARY_PATH XDG_RUNTIME_DIR HOME TMPDIR"
    environment = dict.fromkeys(names.split(), str(tmp_path))
    environment["LD_PRELOAD"] = "/no/such.so"
    assert installation.status(env=environment, cwd=tmp_path) == IN_USE


def test_nothing_of_an_environment_gets_into_it(installation):
    """Nor if somebody calls the maker as only pyrunc does."""
    secret = "eWVzLGEgc2VjcmV0"
    installation.run("list", env={"SECRET": secret, "PATH": "/bin"})
    before = installation.snapshot.stat().st_ino
    done = installation.run("warm-up", env={"SECRET": secret, "PYRUNC_SNAPSHOT": "make"})
    assert (done.returncode, installation.snapshot.stat().st_ino) == (1, before), done
    assert "a snapshot is made without environment" in done.stderr
    installation.snapshot.unlink()
    installation.run("list", env={"SECRET": secret, "PATH": "/bin"})
    installation.warm_up()
    assert secret.encode() not in installation.snapshot.read_bytes()


@pytest.mark.parametrize("wish", ["make", "try", "", "yes", "/etc/passwd", "0" * 5000])
def test_the_variable_itself_does_no_harm(installation, wish):
    done = installation.run("--version", env={"PYRUNC_SNAPSHOT": wish})
    assert done.returncode == (125 if wish == "try" else 0), done
    assert installation.status() == IN_USE
