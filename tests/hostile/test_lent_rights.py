"""Rights that are lent or lie open: set-user-ID, file capabilities, files that others can write."""

from __future__ import annotations

import json
import os
import shutil
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from public_command import installation

USER = 1000
LAUNCHER = Path(sys.executable).parent / "pyrunc"
MINOR = f"python{sys.version_info[0]}.{sys.version_info[1]}"
#: linux/capability.h: VFS_CAP_REVISION_2 with VFS_CAP_FLAGS_EFFECTIVE.
CAPABILITIES = struct.pack("<IIIII", 0x02000001, 1 << 21 | 1 << 7 | 1 << 6, 0, 0, 0)


@pytest.fixture
def installed(public_path):
    """A copy of the command and its package, as pip puts them."""
    if not LAUNCHER.exists():
        pytest.skip("the launcher is not installed")
    return installation(LAUNCHER, public_path / "top")


def run(top, *words, user=None):
    how = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    return subprocess.run(
        [top / "bin/pyrunc", *words],
        capture_output=True, text=True, check=False, timeout=60,
        env={"PYRUNC_SNAPSHOT": "0"}, **how,
    )  # fmt: skip


@pytest.mark.parametrize("bits", [stat.S_ISUID, stat.S_ISGID, stat.S_ISUID | stat.S_ISGID])
def test_a_set_id_launcher_works_for_nobody(installed, bits):
    """Seen: `id -u` of what it started was 0 for an ordinary user."""
    assert run(installed, "--version", user=USER).returncode == 0
    (installed / "bin/pyrunc").chmod(0o755 | bits)
    result = run(installed, "--version", user=USER)
    assert (result.returncode, result.stdout) == (1, "")
    assert "rights that its caller does not have" in result.stderr
    if bits == stat.S_ISUID:
        assert run(installed, "--version").returncode == 0


def test_a_launcher_with_file_capabilities_works_for_nobody(installed):
    os.setxattr(installed / "bin/pyrunc", "security.capability", CAPABILITIES)
    result = run(installed, "--version", user=USER)
    assert (result.returncode, result.stdout) == (1, "")
    assert "rights that its caller does not have" in result.stderr


@pytest.mark.parametrize(
    "part",
    [
        "",
        "cli",
        "cli/main.py",
        "init/pyrunc-init",
        "linux/_syscall.abi3.so",
        "container/record/store.py",
    ],
)
def test_root_runs_no_package_that_others_can_write(installed, part):
    """Seen: whatever lay there was executed as root. Others run what they like as themselves."""
    path = installed / "lib" / MINOR / "site-packages/pyrunc" / part
    if not path.exists():
        pytest.skip("it is not built")
    path.chmod(path.stat().st_mode | 0o002)
    # With a start-up image the modules' own files are only used for --debug.
    words = ("--debug", "--version") if part.endswith(".py") else ("--version",)
    result = run(installed, *words)
    assert (result.returncode, result.stdout) == (1, "")
    assert f"others can write to {path}".rstrip("/") in result.stderr
    assert run(installed, "--version", user=USER).returncode == 0
    path.chmod(path.stat().st_mode & ~0o002 | 0o020)
    os.chown(path, 0, 7)
    assert run(installed, *words).returncode == 1
    os.chown(path, 0, 0)
    assert run(installed, *words).returncode == 0


@pytest.mark.parametrize("part", ["", "bin", "lib", f"lib/{MINOR}/site-packages"])
def test_root_runs_no_package_that_others_can_replace(installed, part):
    (installed / part).chmod(0o777)
    assert run(installed, "--version").returncode == 1
    if part != "bin":
        (installed / part).chmod(0o1777)
        assert run(installed, "--version").returncode == 0


def test_a_state_root_that_others_can_replace(pyrunc, make_bundle, tmp_path):
    """Where everybody may rename it, the next root is theirs, with records that name hooks."""
    above = tmp_path / "above"
    above.mkdir()
    words = list(pyrunc.command)
    words[words.index("--root") + 1] = str(above / "below/root")
    (above / "below/root").mkdir(parents=True, mode=0o700)
    (above / "below/root").chmod(0o700)
    above.chmod(0o777)
    for command in (["list"], ["state", "x"], ["delete", "--force", "x"]):
        done = subprocess.run([*words, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 1, command
        assert f"everybody may write to {above}" in done.stderr
    above.chmod(0o1777)
    done = subprocess.run([*words, "list"], capture_output=True, text=True, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("how", ["owner", "mode"])
def test_a_record_of_another_user_is_not_used(pyrunc, tmp_path, how):
    """Seen: with a state.json of theirs in it, `delete` ran their hooks as root."""
    root = Path(pyrunc.command[pyrunc.command.index("--root") + 1])
    directory = root / "planted"
    directory.mkdir(parents=True, mode=0o700)
    root.chmod(0o700)
    done = tmp_path / "done"
    hook = {"path": "/bin/touch", "args": ["touch", str(done)]}
    record = {
        "format": 1, "ociVersion": "1.0.2", "id": "planted", "bundle": "/", "rootfs": "/",
        "created": "2026-01-01T00:00:00Z", "phase": "created", "pid": 0, "startTime": 0,
        "cgroup": {}, "hooks": {"poststop": [hook]},
    }  # fmt: skip
    (directory / "state.json").write_text(json.dumps(record))
    if how == "owner":
        os.chown(directory, USER, USER)
    else:
        directory.chmod(0o777)
    for command in (["delete", "planted"], ["delete", "--force", "planted"], ["state", "planted"]):
        result = pyrunc(*command)
        assert result.code == 1, command
        assert "can be written to by others" in result.stderr
    assert not done.exists()
    shutil.rmtree(directory)


def test_the_state_root_holds_containers_and_nothing_else(make_bundle, pyrunc):
    """The cache of seccomp filters is elsewhere, and nobody else's."""
    root = Path(pyrunc.command[pyrunc.command.index("--root") + 1])
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}],
    }
    container = pyrunc.start(bundle)
    assert os.listdir(root) == [container.id]
    cache = Path("/run/pyrunc-seccomp")
    assert cache.stat().st_mode & 0o777 == 0o700
    assert cache.stat().st_uid == 0
