"""`exec` into containers that lack namespaces: always the container's root, never the host's."""

from __future__ import annotations

import itertools
import os
import stat

import pytest

from pyrunc.rootfs.devices import DEFAULT_DEVICES

KINDS = ("mount", "pid", "network", "ipc", "uts")


def without(bundle, *kinds):
    bundle.without_namespace(*kinds)
    if "mount" in kinds:
        bundle.config["mounts"] = []
        bundle.linux.pop("maskedPaths")
        bundle.linux.pop("readonlyPaths")
    if "uts" in kinds:
        bundle.config.pop("hostname")


@pytest.mark.parametrize(
    "kinds",
    [("mount",), ("mount", "pid"), KINDS, *itertools.combinations(KINDS[1:], 1), KINDS[1:]],
    ids="+".join,
)
def test_exec_runs_in_the_containers_root(make_bundle, pyrunc, kinds):
    """Seen: without a mount namespace the host's program ran, in the host's root."""
    bundle = make_bundle(args=["sleep", "1000"])
    without(bundle, *kinds)
    (bundle.rootfs / "only-here").mkdir()
    tool = bundle.rootfs / "bin/only-tool"
    tool.write_text("#!/bin/sh\npwd\nls -di /\nls -d /only-here /proc/1/root/etc/shadow\n")
    tool.chmod(0o755)
    container = pyrunc.start(bundle)
    result = pyrunc("exec", "--cwd", "/only-here", container.id, "only-tool")
    here = bundle.rootfs.stat().st_ino
    assert result.stdout.split()[:4] == ["/only-here", str(here), "/", "/only-here"], result
    shell = pyrunc.exec(container, "sh", "-c", "readlink /bin/sh; ls -di /..")
    assert shell.stdout.split()[:2] == ["busybox", str(here)], shell


def test_exec_in_a_user_namespace_without_a_mount_namespace(make_bundle, pyrunc, public_path):
    bundle = make_bundle(args=["sleep", "1000"], at=public_path / "bundle")
    without(bundle, "mount")
    # Nothing can be bound here, so the image must have the devices.
    for path, major, minor in DEFAULT_DEVICES:
        os.mknod(bundle.rootfs / path[1:], 0o666 | stat.S_IFCHR, os.makedev(major, minor))
    bundle.user_namespace(host=100000)
    bundle.give_to(100000)
    container = pyrunc.start(bundle)
    result = pyrunc.exec(container, "sh", "-c", "ls -di /; id -u")
    assert result.stdout.split() == [str(bundle.rootfs.stat().st_ino), "/", "0"], result


def test_the_root_is_left_by_no_descriptor(make_bundle, pyrunc):
    bundle = make_bundle(args=["sleep", "1000"])
    without(bundle, "mount")
    container = pyrunc.start(bundle)
    (bundle.rootfs / "proc").mkdir(exist_ok=True)
    result = pyrunc("exec", container.id, "sh", "-c", "for n in 3 4 5 6 7 8 9; do "
                    "(eval \"exec <&$n\") 2>/dev/null && echo $n; done; true")  # fmt: skip
    assert (result.code, result.stdout) == (0, ""), result
