"""Checkpoints as the users of Podman and containerd make them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from containerd_engine import IMAGE, Containerd
from engine_room import PROJECT, need, runtime_path, started, wait_until
from podman_engine import Podman

if TYPE_CHECKING:
    from collections.abc import Iterator

sys.path.append(str(PROJECT / "tests/integration"))

COUNT = "i=0; while :; do i=$((i+1)); echo $i > /tmp/count; sleep 0.05; done"


@pytest.fixture(scope="module", autouse=True)
def criu() -> Iterator[None]:
    """CRIU in everybody's $PATH."""
    from checkpoints import find_criu

    found = find_criu()
    if found is None:
        pytest.skip("needs a CRIU that works on this kernel (`criu check`)")
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{found.parent}:{before}"
    yield
    os.environ["PATH"] = before


@pytest.fixture(scope="module")
def podman(criu: None) -> Iterator[Podman]:
    need("podman", "conmon")
    with started(Podman) as engine:
        yield engine


@pytest.fixture(scope="module")
def containerd(criu: None) -> Iterator[Containerd]:
    need("containerd", "ctr", "containerd-shim-runc-v2")
    with started(Containerd) as engine:
        yield engine


def count_of(podman: Podman, name: str) -> int:
    # The file is empty between its opening and the writing.
    texts = (podman.out("exec", name, "cat", "/tmp/count") for _ in range(20))
    return int(next((text for text in texts if text), 0))


def counting(podman: Podman, name: str) -> int:
    words = ["run", "-d", "--name", name, "--network", "none", "box", "sh", "-c", COUNT]
    podman(*words, check=True)
    wait_until(lambda: count_of(podman, name) > 3)
    return count_of(podman, name)


def test_podman_checkpoint_and_restore(podman: Podman):
    before = counting(podman, "saved")
    podman("container", "checkpoint", "saved", check=True)
    assert podman.inspect("saved", ".State.Status") == "exited"
    podman("container", "restore", "saved", check=True)
    assert podman.inspect("saved", ".State.Status") == "running"
    assert count_of(podman, "saved") >= before
    podman("rm", "-f", "-t", "0", "saved", check=True)


def test_podman_leave_running(podman: Podman):
    counting(podman, "left")
    podman("container", "checkpoint", "--leave-running", "left", check=True)
    assert podman.inspect("left", ".State.Status") == "running"
    podman("rm", "-f", "-t", "0", "left", check=True)


def test_podman_export_and_import_onto_another_container(podman: Podman):
    before = counting(podman, "origin")
    archive = podman.directory / "origin.tar"
    words = ["--export", archive, "--compress", "none", "origin"]
    podman("container", "checkpoint", *words, check=True)
    podman("container", "restore", "--import", archive, "--name", "copy", check=True)
    wait_until(lambda: count_of(podman, "copy") >= before)
    podman("rm", "-f", "-t", "0", "origin", "copy", check=True)


def test_ctr_checkpoint_and_restore(containerd: Containerd):
    def count(name: str) -> int:
        done = containerd("tasks", "exec", "--exec-id", "look", name, "cat", "/tmp/count")
        return int(done.stdout or 0)

    def gone(name: str) -> bool:
        return containerd("tasks", "rm", name).returncode == 0

    words = ["run", "-d", "--runc-binary", runtime_path(), IMAGE, "saved", "sh", "-c", COUNT]
    containerd(*words, check=True)
    wait_until(lambda: count("saved") > 3)
    images = containerd.directory / "images"
    images.mkdir()
    containerd("tasks", "checkpoint", "--image-path", images, "saved", check=True)
    assert (images / "inventory.img").exists()
    before = count("saved")
    reference = "docker.io/library/saved:latest"
    words = ["--rw", "--image", "--task", "saved", reference]
    containerd("containers", "checkpoint", *words, check=True)
    containerd("tasks", "kill", "-s", "KILL", "saved", check=True)
    wait_until(lambda: gone("saved"))
    # The copy has the same cgroup in its config.
    containerd("containers", "restore", "--rw", "--live", "copy", reference, check=True)
    wait_until(lambda: count("copy") >= before)
    containerd("tasks", "kill", "-s", "KILL", "copy", check=True)
    wait_until(lambda: gone("copy"))
    containerd("containers", "rm", "saved", "copy", check=True)
