"""linux.mountLabel: the SELinux context of the mounts (config-linux.md, "Mount Label")."""

from __future__ import annotations

import pytest

from pyrunc.plan.facts import Facts
from pyrunc.plan.planner import plan
from pyrunc.rootfs.mount import MountFilesystem
from pyrunc.rootfs.protect import MaskPath
from pyrunc.security.lsm import selinux_enabled

LABEL = "system_u:object_r:container_file_t:s0:c715,c811"


@pytest.mark.skipif(selinux_enabled(), reason="SELinux is active here")
def test_a_label_without_selinux_is_refused(make_bundle, pyrunc):
    """Nothing would be confined as the config asks for."""
    result = pyrunc.create(make_bundle(linux={"mountLabel": LABEL}))
    assert result.code == 1
    words = "selinux label is specified in config, but selinux is disabled or not supported"
    assert f"{words} (linux.mountLabel)" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert pyrunc("state", result.id).code == 1


@pytest.mark.skipif(not selinux_enabled(), reason="SELinux is not active here")
def test_new_file_systems_have_the_label(make_bundle, pyrunc):
    bundle = make_bundle(
        args=["stat", "-c", "%C", "/dev", "/dev/shm", "/sys/firmware"],
        linux={"mountLabel": LABEL},
    )
    assert pyrunc.run(bundle).stdout.split() == [LABEL] * 3


def test_the_label_is_planned_for_all_but_proc_and_sysfs(make_bundle):
    bundle = make_bundle(linux={"mountLabel": LABEL})
    bundle.mount("/dev/mqueue", "mqueue", "mqueue")
    bundle.mount("/own", "tmpfs", "tmpfs", "context=mine")
    steps = plan(bundle.config, str(bundle.path), b"", Facts()).builder
    labels = {s.target: s.label for s in steps if isinstance(s, MountFilesystem)}
    assert labels == {
        "/proc": "", "/dev": LABEL, "/dev/pts": LABEL, "/dev/shm": LABEL, "/sys": "",
        "/dev/mqueue": LABEL, "/own": "",
    }  # fmt: skip
    assert {s.label for s in steps if isinstance(s, MaskPath)} == {LABEL}
