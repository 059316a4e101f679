"""Below a seccomp filter of before their time, newer system calls are refused: ENOSYS or EPERM.

As in a container of an older engine, or on an older kernel. Everything works in another way and
looks the same from inside.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import re
import struct
import subprocess
from pathlib import Path

import pytest

NEWER = {
    "pidfd_send_signal": 424, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431,
    "fsmount": 432, "pidfd_open": 434, "clone3": 435, "close_range": 436, "openat2": 437,
    "faccessat2": 439, "mount_setattr": 442,
    "memfd_create": 279 if platform.machine() == "aarch64" else 319,
    "execveat": 281 if platform.machine() == "aarch64" else 322,
}  # fmt: skip
MOUNT_CALLS = ("open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "mount_setattr")
ERRORS = ("ENOSYS", "EPERM")


def refusing(error, *names):
    """Return options for a command below a filter that answers ``error`` to these calls."""
    numbers = [NEWER[name] for name in names]
    # Load the number; jump to the end for each that is meant; allow; the errno (seccomp(2)).
    steps = [(0x20, 0, 0, 0)]
    steps += [(0x15, len(numbers) - at, 0, number) for at, number in enumerate(numbers)]
    steps += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | getattr(errno, error))]
    text = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = struct.pack("@HP", len(steps), ctypes.addressof(text))
    libc = ctypes.CDLL(None, use_errno=True)

    def load():
        assert text  # keeps what `program` points to
        if libc.prctl(22, 2, program, 0, 0):
            raise OSError(ctypes.get_errno(), "cannot load the filter")

    return {"preexec_fn": load}


@pytest.fixture
def life(make_bundle, pyrunc, tmp_path):
    """Lead a container's life below a filter; return how each command went."""

    def lead(filtered):
        hook = tmp_path / "hook"
        hook.write_text(f"#!/bin/sh\ncat >>{tmp_path}/hooked\n")
        hook.chmod(0o755)
        host_hook = {"path": str(hook), "timeout": 10}
        hooks = {name: [host_hook] for name in ("createRuntime", "createContainer", "poststop")}
        hooks["startContainer"] = [{"path": "/bin/true", "timeout": 10}]
        bundle = make_bundle(hooks=hooks)
        bundle.shell("echo inside; exit 3")
        bundle.process["cwd"] = "/tmp"
        went = {"run": pyrunc.run(bundle, **filtered)}
        bundle.process["args"] = ["sleep", "1000"]
        went["create"] = created = pyrunc.create(bundle, **filtered)
        went["start"] = pyrunc("start", created.id, **filtered)
        script = "pwd; exit 4"
        went["exec"] = pyrunc("exec", created.id, "sh", "-c", script, **filtered)
        went["state"] = pyrunc("state", created.id, **filtered)
        went["kill"] = pyrunc("kill", created.id, "KILL", **filtered)
        went["delete"] = pyrunc("delete", "--force", created.id, **filtered)
        went["hooks"] = tmp_path / "hooked"
        return went

    return lead


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", [*NEWER, "all"])
def test_a_whole_life(life, error, name):
    went = life(refusing(error, *(NEWER if name == "all" else [name])))
    hooked = went.pop("hooks")
    codes = {command: done.code for command, done in went.items()}
    expected = dict.fromkeys(("create", "start", "state", "kill", "delete"), 0)
    assert codes == {"run": 3, "exec": 4, **expected}, went
    assert hooked.read_text().count('"id"') == 6
    assert (went["run"].stdout, went["exec"].stdout) == ("inside\n", "/tmp\n")
    assert json.loads(went["state"].stdout)["status"] == "running"
    assert {done.stderr for done in went.values()} == {""}


@pytest.fixture
def many_mounts(make_bundle, public_path, pyrunc):
    """A bundle with mounts of every sort, and a volume with a mount below it."""
    volume = public_path / "volume"
    (volume / "below").mkdir(parents=True)
    (volume / "file").write_text("volume's")
    subprocess.run(["mount", "-t", "tmpfs", "inner", volume / "below"], check=True)
    bundle = make_bundle(at=public_path / "bundle", root={"readonly": True})
    (bundle.rootfs / "copied").mkdir()
    (bundle.rootfs / "copied/file").write_text("copied")
    bundle.mount("/v1", "bind", volume, "rbind", "rro")
    bundle.mount("/v2", "bind", volume, "rbind", "ro", "nosuid", "noexec", "noatime")
    bundle.mount("/v3", "bind", volume, "rbind", "rshared")
    bundle.mount("/v4", "bind", volume, "bind", "rprivate", "nodiratime")
    bundle.mount("/file", "bind", volume / "file", "bind", "ro")
    bundle.mount("/copied", "tmpfs", "tmpfs", "tmpcopyup", "ro", "strictatime")
    bundle.mount("/mode", "tmpfs", "tmpfs", "ro", "mode=711", "size=1m")
    bundle.mount("/queue", "mqueue", "mqueue", "nosuid", "noexec", "nodev")
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro", "nosuid")
    bundle.linux["devices"] = [{"path": "/dev/null", "type": "c", "major": 1, "minor": 3}]
    yield bundle
    subprocess.run(["umount", volume / "below"], check=True)


def mounts_of(done):
    """Return what `cat /proc/self/mountinfo; …` said, without numbers that are new each time."""
    assert done.code == 0, done
    assert done.stderr == ""
    text = re.sub(r"(?m)^\d+ \d+ \d+:\d+ ", "", done.stdout)
    text = re.sub(r"test-\d+-\d+", "ID", re.sub(r"(shared|master):\d+", r"\1", text))
    # In the order of their numbers, in which they were opened and not always attached.
    return sorted(text.splitlines())


@pytest.mark.parametrize("namespace", ["host's ids", "user namespace"])
@pytest.mark.parametrize("refused", [MOUNT_CALLS, ("mount_setattr", "openat2"), ("move_mount",)])
def test_mounts_are_the_same(many_mounts, pyrunc, namespace, refused):
    bundle = many_mounts
    if namespace == "user namespace":
        # The builder has to find the volume as root of the user namespace, to whom access times
        # and what lies below a mount of the host's are locked (mount_namespaces(7)).
        mounts = bundle.config["mounts"]
        mounts[:] = [mount for mount in mounts if mount["destination"] != "/v4"]
        for mount in mounts:
            mount["options"] = [x for x in mount.get("options", ()) if x != "noatime"]
        # A device node with a mode and an owner of its own has no other way there.
        del bundle.linux["devices"]
        bundle.user_namespace(100000)
        bundle.give_to(100000)
    bundle.shell("cat /proc/self/mountinfo /copied/file /file; ls -ln /dev /v3 | cut -c1-40; pwd")
    usual = mounts_of(pyrunc.run(bundle))
    assert mounts_of(pyrunc.run(bundle, **refusing("EPERM", *refused))) == usual


def test_nothing_of_the_scratch_is_left(make_bundle, pyrunc):
    """What stands in for mounts that are attached nowhere is gone, from a joined namespace, too."""
    filtered = refusing("EPERM", *MOUNT_CALLS)
    holder = subprocess.Popen(["unshare", "-m", "sh", "-c", "echo x; exec sleep 1000"], stdout=-1)
    try:
        holder.stdout.readline()
        table = Path(f"/proc/{holder.pid}/mountinfo")
        before = len(table.read_text().splitlines())
        bundle = make_bundle(args=["true"], mounts=[])
        bundle.linux.update(maskedPaths=[], readonlyPaths=[])
        bundle.namespace("mount", f"/proc/{holder.pid}/ns/mnt")
        done = pyrunc.run(bundle, **filtered)
        # The root is bound to itself there, whichever way.
        assert done.code == 0, done
        lines = table.read_text().splitlines()
        assert not [line for line in lines[before:] if " / / " in line]
    finally:
        holder.kill()
        holder.wait()


def test_what_has_no_other_way_is_named(make_bundle, pyrunc, tmp_path):
    bundle = make_bundle()
    mapping = [{"containerID": 0, "hostID": 5, "size": 1}]
    bundle.config["mounts"].append(
        {"destination": "/v", "source": str(tmp_path), "options": ["bind"],
         "uidMappings": mapping, "gidMappings": mapping}
    )  # fmt: skip
    done = pyrunc.run(bundle, **refusing("ENOSYS", "mount_setattr"))
    assert done.code == 1
    assert "with an id mapping: mount_setattr(2) refused" in done.stderr
    assert "seccomp filter around pyrunc" in done.stderr
    plain = make_bundle()
    done = pyrunc.create(plain, "--pidfd-socket", "/nowhere", **refusing("ENOSYS", "openat2"))
    assert "/nowhere" in done.stderr


@pytest.mark.parametrize("namespaces", ["all", "user", "host's network and user", "none"])
def test_exec_enters_one_namespace_after_another(make_bundle, public_path, pyrunc, namespaces):
    bundle = make_bundle(args=["sleep", "1000"], at=public_path / "bundle")
    if "user" in namespaces:
        bundle.user_namespace(100000)
        bundle.give_to(100000)
    if "network" in namespaces:
        bundle.without_namespace("network")
    if namespaces == "none":
        for kind in ("pid", "network", "ipc"):
            bundle.without_namespace(kind)
    container = pyrunc.start(bundle)
    script = "for n in pid net ipc uts mnt user; do readlink /proc/self/ns/$n; done; id -u"
    look = ["sh", "-c", script]
    usual = pyrunc.exec(container, *look)
    assert usual.code == 0, usual
    other = pyrunc("exec", container.id, *look, **refusing("EPERM", "pidfd_open"))
    assert (other.code, other.stdout, other.stderr) == (0, usual.stdout, "")


def test_memory_files_that_may_not_be_executed(make_bundle, pyrunc):
    """Sysctl vm.memfd_noexec=2, which each pid namespace has of its own."""
    if not os.path.exists("/proc/sys/vm/memfd_noexec"):
        pytest.skip("Linux before 6.3 has no vm.memfd_noexec")
    bundle = make_bundle(args=["echo", "inside"])
    bundle.save()
    script = 'echo 2 >/proc/sys/vm/memfd_noexec && exec "$@"'
    words = [*pyrunc.command, "run", "--bundle", str(bundle.path), pyrunc.new_id()]
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", script, "sh", *words],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "inside\n", "")
