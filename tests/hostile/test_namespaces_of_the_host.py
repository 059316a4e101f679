"""Namespaces by path that turn out to be the host's: nothing in the config may reach them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

KINDS = {"network": "net", "ipc": "ipc", "uts": "uts", "mount": "mnt", "cgroup": "cgroup"}


def paths(kind: str, tmp_path: Path) -> list[str]:
    """Return several names of the host's namespace."""
    link = tmp_path / "link"
    link.symlink_to(f"/proc/self/ns/{KINDS[kind]}")
    return [str(link), *(f"/proc/{pid}/ns/{KINDS[kind]}" for pid in ("self", os.getpid()))]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("network", "net.ipv4.ip_default_ttl"),
        ("network", "net/core/somaxconn"),
        ("ipc", "kernel.msgmax"),
        ("ipc", "fs.mqueue.msg_max"),
        ("uts", "kernel.domainname"),
    ],
)
def test_sysctls_stay_off_the_host(make_bundle, pyrunc, tmp_path, kind, name):
    """Seen: the host's parameter had the container's value afterwards."""
    where = Path("/proc/sys", name.replace(".", "/"))
    if not where.exists():
        pytest.skip(f"this kernel has no {name}")
    before = where.read_text()
    value = "elsewhere" if kind == "uts" else str(int(before) + 1)
    for path in paths(kind, tmp_path):
        bundle = make_bundle(args=["true"])
        bundle.config.pop("hostname")
        bundle.namespace(kind, path)
        bundle.linux["sysctl"] = {name: value}
        try:
            result = pyrunc.run(bundle)
            assert where.read_text() == before
        finally:
            where.write_text(before)
        assert result.code == 1, (path, result)
        assert "the host's own" in result.stderr


@pytest.mark.parametrize("member", ["hostname", "domainname"])
def test_names_stay_off_the_host(make_bundle, pyrunc, tmp_path, member):
    """Seen: the host had another name."""
    before = os.uname().nodename, Path("/proc/sys/kernel/domainname").read_text()
    for path in paths("uts", tmp_path):
        bundle = make_bundle(args=["true"])
        bundle.config.pop("hostname")
        bundle.config[member] = "hostile"
        bundle.namespace("uts", path)
        try:
            result = pyrunc.run(bundle)
            after = os.uname().nodename, Path("/proc/sys/kernel/domainname").read_text()
            assert after == before
        finally:
            Path("/proc/sys/kernel/hostname").write_text(before[0])
            Path("/proc/sys/kernel/domainname").write_text(before[1])
        assert result.code == 1
        assert "the host's own uts namespace" in result.stderr


def test_mounts_stay_off_the_host(make_bundle, pyrunc, tmp_path):
    """In a mount namespace of the test's own, so that the machine survives a failure.

    Seen: everything was mounted, and the root pivoted, in the namespace that the runtime is in.
    """
    for path in ("/proc/self/ns/mnt", "/proc/1/ns/mnt"):
        bundle = make_bundle(args=["true"])
        bundle.namespace("mount", path)
        bundle.save()
        script = (
            'before=$(cat /proc/self/mountinfo); "$@"; code=$?; '
            '[ "$before" = "$(cat /proc/self/mountinfo)" ] || code=99; exit $code'
        )
        words = ["unshare", "-m", "-p", "-f", "--mount-proc", "sh", "-c", script, "sh"]
        done = subprocess.run(
            [*words, *pyrunc.command, "run", "-b", str(bundle.path), pyrunc.new_id()],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 1, done
        assert "host's" in done.stderr


def test_a_mount_namespace_of_the_first_process_is_never_pivoted(make_bundle, pyrunc):
    """The runtime in a mount namespace of its own (PrivateMounts=), the path process 1's."""
    bundle = make_bundle(args=["true"])
    bundle.namespace("mount", "/proc/1/ns/mnt")
    bundle.config["mounts"] = []
    bundle.linux.pop("maskedPaths")
    bundle.linux.pop("readonlyPaths")
    bundle.save()
    # The first process is the outer unshare's child, the runtime is in a namespace inside.
    words = ["unshare", "-m", "-p", "-f", "--mount-proc", "sh", "-c", 'unshare -m "$@"; exit $?']
    done = subprocess.run(
        [*words, "sh", *pyrunc.command, "run", "-b", str(bundle.path), pyrunc.new_id()],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1, done
    assert "the mount namespace to join is the host's" in done.stderr


def test_net_devices_are_not_renamed_on_the_host(make_bundle, pyrunc):
    bundle = make_bundle(args=["true"])
    bundle.namespace("network", "/proc/self/ns/net")
    bundle.linux["netDevices"] = {"lo": {"name": "lost"}}
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert "network namespace" in result.stderr
    assert Path("/sys/class/net/lo").exists()


@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "cgroup"])
def test_the_hosts_own_is_the_same_as_none(make_bundle, pyrunc, kind):
    """What asks for nothing there runs, as it would without the entry."""
    bundle = make_bundle(args=["readlink", f"/proc/self/ns/{KINDS[kind]}"])
    bundle.config.pop("hostname")
    bundle.namespace(kind, f"/proc/self/ns/{KINDS[kind]}")
    result = pyrunc.run(bundle)
    assert result.stdout == os.readlink(f"/proc/self/ns/{KINDS[kind]}") + "\n", result


def test_the_cgroups_of_the_host_are_not_mounted(make_bundle, pyrunc):
    """Seen: with the path of the host's cgroup namespace its whole tree was mounted, not bound."""
    bundle = make_bundle()
    bundle.namespace("cgroup", "/proc/self/ns/cgroup")
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev")
    bundle.shell("grep -c test- /proc/self/mountinfo; find /sys/fs/cgroup -name release_agent")
    result = pyrunc.run(bundle)
    assert "release_agent" not in result.stdout, result
