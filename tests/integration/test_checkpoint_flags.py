"""Flags of checkpoint and restore that the other tests of checkpoints do not use."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from checkpoints import (
    COUNTER,
    counter,
    find_criu,
    goes_on,
    images,
    number_in,
    restore,
    save,
    wait_for,
)
from terminal_fixtures import Keyboard
from test_checkpoint_memory import MEMORY

__all__ = ["images", "restore"]


class Server:
    """`criu page-server` or `criu lazy-pages`, with its log in ``directory``."""

    def __init__(self, directory: Path, kind: str, *words: str | Path) -> None:
        directory.mkdir(exist_ok=True)
        self.log = directory / "server.log"
        # A number that is not in use; CRIU takes no 0.
        self.port = 20000 + os.getpid() % 10000
        self.address = f"127.0.0.1:{self.port}"
        at = ["--address", "127.0.0.1", "--port", str(self.port)]
        log = ["-v4", "-W", directory, "-o", "server.log"]
        self.words = [find_criu(), kind, *at, *log, *words]
        self.process: subprocess.Popen[bytes]

    def start(self, sign: str) -> Server:
        self.process = subprocess.Popen(self.words, stderr=subprocess.DEVNULL)
        wait_for(lambda: self.log.exists() and sign in self.log.read_text(errors="replace"))
        return self

    def end(self) -> int:
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()


def test_memory_goes_to_a_page_server(make_bundle, pyrunc, images, restore, tmp_path):
    bundle, container = counter(make_bundle, pyrunc)
    images.mkdir()
    server = Server(tmp_path / "server", "page-server", "-D", images).start("Starting page server")
    save(pyrunc, container, images, "--page-server", server.address)
    assert server.end() == 0
    restore(bundle, images)
    assert goes_on(bundle, 1)


def test_without_its_page_server_the_container_goes_on(make_bundle, pyrunc, images):
    bundle, container = counter(make_bundle, pyrunc)
    words = ["checkpoint", "--image-path", images, "--page-server", "127.0.0.1:1", container.id]
    refused = pyrunc(*words)
    assert refused.code == 1
    assert "CRIU: " in refused.stderr
    assert goes_on(bundle, 1)
    assert pyrunc.state(container)["status"] == "running"


@pytest.fixture
def remembering(make_bundle, pyrunc):
    """A container with some memory, which it looks at all the time."""
    bundle = make_bundle(["awk", MEMORY])
    container = pyrunc.start(bundle)
    wait_for(lambda: number_in(bundle.rootfs / "tmp/count") > 1, seconds=60)
    return bundle, container


def test_memory_is_read_when_it_is_used(remembering, pyrunc, images, restore, tmp_path):
    bundle, container = remembering
    save(pyrunc, container, images)
    server = Server(tmp_path / "work", "lazy-pages", "-D", images).start("Waiting for incoming")
    restore(bundle, images, "--lazy-pages", "--work-path", tmp_path / "work")
    assert goes_on(bundle, 1)
    assert server.end() == 0
    assert goes_on(bundle, 1)


def test_memory_comes_from_the_checkpoint_itself(remembering, pyrunc, images, restore, tmp_path):
    """The saved container is a page server for the restored one, until all is there."""
    bundle, container = remembering
    images.mkdir()
    server = Server(tmp_path / "work", "lazy-pages", "--page-server", "-D", images)
    reader, status = os.pipe()
    words = ["checkpoint", "--image-path", str(images), "--lazy-pages"]
    words += ["--page-server", server.address, "--status-fd", str(status), container.id]
    dump = subprocess.Popen([*pyrunc.command, *words], pass_fds=[status], stderr=subprocess.PIPE)
    os.close(status)
    assert os.read(reader, 1) == b"\0"
    os.close(reader)
    server.start("Waiting for incoming")
    bundle.save()
    name = pyrunc.new_id()
    words = ["restore", "-d", "--bundle", bundle.path, "--image-path", images, "--lazy-pages"]
    restored = pyrunc(*words, "--work-path", tmp_path / "work", name, id=name)
    errors = dump.communicate(timeout=60)[1]
    server.end()
    if b"splice: -1: Bad file descriptor" in errors:
        assert pyrunc.state(container)["status"] == "running"
        assert restored.code == 1
        assert "does not exist" in pyrunc("state", name).stderr
        pytest.skip(
            "needs a CRIU whose `dump --lazy-pages` works on this kernel (4.2 on 6.18 fails)"
        )
    assert restored.code == 0, restored
    assert dump.returncode == 0, errors
    assert "does not exist" in pyrunc("state", container.id).stderr
    assert goes_on(bundle, 1)


def test_strict_has_criu_make_the_cgroups(make_bundle, pyrunc, images, restore):
    bundle, container = counter(make_bundle, pyrunc)
    bundle.linux["resources"] = {**bundle.linux.get("resources", {}), "pids": {"limit": 77}}
    save(pyrunc, container, images, "--manage-cgroups-mode", "strict")
    restored = restore(bundle, images, "--manage-cgroups-mode", "strict")
    assert goes_on(bundle, 1)
    assert restored.id in Path(f"/proc/{pyrunc.state(restored)['pid']}/cgroup").read_text()
    told = pyrunc("events", "--stats", restored.id).stdout
    assert '"limit":77' in told


def test_a_file_without_a_name(make_bundle, pyrunc, images, restore):
    """It has another name that CRIU does not know: --link-remap gives it one for the while."""
    bundle = make_bundle()
    bundle.shell(
        "exec 7> /tmp/gone; ln /tmp/gone /tmp/other; rm /tmp/gone; i=0; "
        "while :; do i=$((i+1)); echo $i >&7; echo $i > /tmp/count; sleep 0.02; done"
    )
    container = pyrunc.start(bundle)
    wait_for(lambda: number_in(bundle.rootfs / "tmp/count") > 3)
    refused = pyrunc("checkpoint", "--image-path", images, container.id)
    assert "Use link-remap option" in refused.stderr
    assert goes_on(bundle, 3)
    save(pyrunc, container, images, "--link-remap")
    restore(bundle, images)
    assert goes_on(bundle, 3)
    assert {path.name for path in (bundle.rootfs / "tmp").iterdir()} <= {"count", "other"}
    size = (bundle.rootfs / "tmp/other").stat().st_size
    wait_for(lambda: (bundle.rootfs / "tmp/other").stat().st_size > size)


def test_auto_dedup_gives_back_the_space_of_what_is_restored(make_bundle, pyrunc, images, restore):
    bundle, container = counter(make_bundle, pyrunc)
    save(pyrunc, container, images, "--auto-dedup")

    def blocks():
        return sum(path.stat().st_blocks for path in images.glob("pages-*.img"))

    assert blocks() > 0
    restore(bundle, images, "--auto-dedup")
    assert goes_on(bundle, 1)
    assert blocks() == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--lsm-profile", "nonsense"], "invalid argument nonsense for --lsm-profile"),
        (["--lsm-profile", "apparmor:nobody-has-it"], "nobody-has-it"),
        (["--lsm-profile", "selinux:a:b:c:d"], "selinux LSM specified but"),
    ],
)
def test_a_security_profile_that_cannot_be(make_bundle, pyrunc, images, restore, flags, words):
    bundle, container = counter(make_bundle, pyrunc)
    save(pyrunc, container, images)
    active = Path("/sys/module/apparmor/parameters/enabled")
    if "apparmor" in flags[1] and not (active.exists() and active.read_text() == "Y\n"):
        words = "apparmor not supported by kernel"
    refused = restore(bundle, images, *flags, fails=True)
    assert words in refused.stderr
    assert "does not exist" in pyrunc("state", refused.id).stderr


def test_connections_under_way_are_left_out(make_bundle, pyrunc, images, restore):
    bundle, container = counter(make_bundle, pyrunc)
    save(pyrunc, container, images, "--tcp-skip-in-flight")
    restore(bundle, images)
    assert goes_on(bundle, 1)


def test_an_idle_criu_says_nothing_of_its_end(make_bundle, pyrunc, images):
    """Where what is asked for cannot be had, there is one line, and it is ours."""
    _, container = counter(make_bundle, pyrunc)
    words = ["checkpoint", "--pre-dump", "--image-path", images, container.id]
    done = pyrunc(*words)
    if done.code == 0:
        pytest.skip("needs a kernel that does not track changes of memory")
    assert done.stderr.count("\n") == 1
    assert "does not track changes of memory" in done.stderr
    assert list(images.iterdir()) == []
    assert pyrunc.state(container)["status"] == "running"


def slowed(bundle, tmp_path):
    """Have CRIU take two seconds more, by a script that it calls (criu(8), "--action-script")."""
    script = tmp_path / "slow"
    script.write_text(
        '#!/bin/sh\ncase "$CRTOOLS_SCRIPT_ACTION" in pre-dump|pre-restore) sleep 2;; esac\n'
    )
    script.chmod(0o755)
    (tmp_path / "criu.conf").write_text(f"action-script {script}\n")
    bundle.config["annotations"] = {"org.criu.config": str(tmp_path / "criu.conf")}


def test_a_terminal_shows_that_it_takes_long(make_bundle, pyrunc, images, tmp_path):
    bundle = make_bundle()
    slowed(bundle, tmp_path)
    bundle.shell(COUNTER)
    container = pyrunc.start(bundle)
    words = ["checkpoint", "--image-path", images, "--leave-running", container.id]
    keyboard = Keyboard([*pyrunc.command, *words])
    try:
        keyboard.expect(f"\r\33[Ksaving {container.id}: ", seconds=60)
        assert keyboard.end(60) == 0, keyboard.shown
        assert keyboard.shown.endswith(b"\r\33[K")
    finally:
        keyboard.close()
    silent = pyrunc("checkpoint", "--image-path", images, container.id)
    assert (silent.code, silent.stdout, silent.stderr) == (0, "", "")
    name = pyrunc.new_id()
    words = ["restore", "-d", "--bundle", bundle.path, "--image-path", images, name]
    keyboard = Keyboard([*pyrunc.command, *words])
    try:
        keyboard.expect(f"restoring {name}: ", seconds=60)
        assert keyboard.end(60) == 0, keyboard.shown
    finally:
        keyboard.close()
