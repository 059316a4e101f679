"""checkpoint and restore with other ids, cgroups, namespaces, roots, by another runtime."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from checkpoints import (
    COUNTER,
    MAKES_DIRECTORIES,
    counter,
    counting,
    goes_on,
    highest,
    images,
    number_in,
    restore,
    save,
    wait_for,
)

__all__ = ["images", "restore"]


def test_restored_under_a_new_id_it_is_in_the_new_ones_cgroup(make_bundle, pyrunc, images, restore):
    bundle, container = counter(make_bundle, pyrunc)
    save(pyrunc, container, images)
    restored = restore(bundle, images)
    cgroups = Path(f"/proc/{pyrunc.state(restored)['pid']}/cgroup").read_text()
    assert restored.id in cgroups
    assert container.id not in cgroups
    assert pyrunc("pause", restored.id).code == 0
    assert pyrunc.state(restored)["status"] == "paused"
    assert pyrunc("resume", restored.id).code == 0
    assert str(pyrunc.state(restored)["pid"]) in pyrunc("ps", restored.id).stdout


def test_several_copies_of_one_image_in_fresh_root_file_systems(
    make_bundle, pyrunc, images, restore, tmp_path
):
    bundle = make_bundle()
    volume = tmp_path / "volume"
    volume.mkdir()
    bundle.bind(volume, "/not/there/yet")
    bundle.shell(MAKES_DIRECTORIES)
    container = pyrunc.start(bundle)
    wait_for(lambda: highest(bundle) > 3)
    save(pyrunc, container, images)
    bundle.config["hostname"] = "changed"
    for _ in range(3):
        copy = make_bundle()
        copy.config = bundle.config
        restore(copy, images)
        assert wait_for(lambda copy=copy: highest(copy)) > 3


@pytest.mark.parametrize("mode", ["soft", "full", "ignore"])
def test_each_way_to_manage_cgroups(make_bundle, pyrunc, images, restore, mode):
    bundle, container = counter(make_bundle, pyrunc)
    save(pyrunc, container, images, "--manage-cgroups-mode", mode)
    restored = restore(bundle, images, "--manage-cgroups-mode", mode)
    assert goes_on(bundle, 1)
    pids = pyrunc("ps", "--format", "json", restored.id).stdout
    assert len(json.loads(pids)) >= 1


def test_cgroups_of_others_are_not_saved(make_bundle, pyrunc, images):
    """Where the container has no cgroup of its own, those of the whole host are below its one."""
    _, container = counter(make_bundle, pyrunc)
    pid = pyrunc.state(container)["pid"]
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    shared = [line.split(":")[1] for line in lines if line.endswith(":/")]
    mounts = [Path("/sys/fs/cgroup", name) for name in shared]
    others = [path / f"{container.id}-other" for path in mounts if path.is_dir()]
    if not others:
        pytest.skip("needs cgroup v1 with a hierarchy that containers are not in (hugetlb)")
    for other in others:
        other.mkdir()
    try:
        save(pyrunc, container, images)
    finally:
        for other in others:
            other.rmdir()
    assert f"{container.id}-other".encode() not in (images / "cgroup.img").read_bytes()


def test_a_cgroup_namespace_and_its_mounts(make_bundle, pyrunc, images, restore):
    bundle = make_bundle()
    bundle.namespace("cgroup")
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro")
    container = counting(pyrunc, bundle)
    save(pyrunc, container, images)
    restored = restore(bundle, images)
    assert goes_on(bundle, 3)
    shown = pyrunc.exec(restored, "cat", "/proc/1/cgroup").stdout
    assert restored.id not in shown


def test_the_cgroups_of_the_host_that_are_shown(make_bundle, pyrunc, images, restore):
    """Without a cgroup namespace each v1 hierarchy is a bind of the container's own directory."""
    bundle = make_bundle()
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro")
    container = counting(pyrunc, bundle)
    save(pyrunc, container, images)
    restored = restore(bundle, images)
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        script = "cat /sys/fs/cgroup/pids/cgroup.procs | wc -l"
        assert int(pyrunc.exec(restored, "sh", "-c", script).stdout) >= 2


def test_a_user_namespace(make_bundle, pyrunc, images, restore):
    bundle = make_bundle()
    bundle.user_namespace(100000)
    bundle.give_to(100000)
    bundle.path.parent.chmod(0o755)
    for parent in bundle.path.parents:
        if parent.stat().st_mode & 0o005 != 0o005:
            parent.chmod(0o755)
    container = counting(pyrunc, bundle)
    save(pyrunc, container, images)
    restored = restore(bundle, images)
    assert goes_on(bundle, 3)
    assert Path(f"/proc/{pyrunc.state(restored)['pid']}").stat().st_uid == 100000


def test_a_time_namespace_goes_on_with_its_clocks(make_bundle, pyrunc, images, restore):
    bundle = make_bundle()
    bundle.namespace("time")
    bundle.linux["timeOffsets"] = {"boottime": {"secs": 1000000}}
    container = counting(pyrunc, bundle)

    def uptime(container):
        return float(pyrunc.exec(container, "cat", "/proc/uptime").stdout.split()[0])

    before = uptime(container)
    assert before > 1000000
    save(pyrunc, container, images)
    restored = restore(bundle, images)
    assert goes_on(bundle, 3)
    assert before <= uptime(restored) < before + 100


def test_images_go_from_runc_to_pyrunc(make_bundle, pyrunc, runc, images):
    bundle = make_bundle()
    bundle.shell(COUNTER)
    bundle.save()
    saved, restored = runc.new_id(), pyrunc.new_id()

    def started(command, *words):
        # With pipes: runc cannot save a container whose stdio leads to files.
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen([*command, *map(str, words)], **pipes)

    first = started(runc.command, "run", "-d", "--bundle", bundle.path, saved)
    wait_for(lambda: number_in(bundle.rootfs / "tmp/count") > 3)
    assert runc("checkpoint", "--image-path", images, saved).code == 0
    words = ["restore", "-d", "--bundle", bundle.path, "--image-path", images, restored]
    pages = images / "pages-1.img"
    whole = pages.read_bytes()
    pages.write_bytes(whole[:-1])
    refused = pyrunc(*words)
    assert f"{pages} has {len(whole) - 1} bytes of {len(whole)}" in refused.stderr
    pages.write_bytes(whole)
    second = started(pyrunc.command, *words)
    assert second.wait(30) == 0, second.stdout.read()
    assert goes_on(bundle, 3)
    assert pyrunc("delete", "--force", restored).code == 0
    for process in (first, second):
        process.communicate(timeout=30)
