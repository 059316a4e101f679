"""checkpoint and restore: after it each container goes on where it was."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

from checkpoints import (
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

from runtimes import leftovers

__all__ = ["images", "restore"]


def test_a_counter_goes_on_where_it_was(make_bundle, pyrunc, images, restore):
    bundle, container = counter(make_bundle, pyrunc)
    save(pyrunc, container, images)
    assert "container does not exist" in pyrunc("state", container.id).stderr
    before = number_in(bundle.rootfs / "tmp/count")
    time.sleep(0.1)
    assert number_in(bundle.rootfs / "tmp/count") == before
    restored = restore(bundle, images)
    assert pyrunc.state(restored)["status"] == "running"
    assert goes_on(bundle, before)


def test_what_it_took_is_told(make_bundle, pyrunc, images):
    _, container = counter(make_bundle, pyrunc)
    told = json.loads(save(pyrunc, container, images, "--stats").stdout)
    size = sum(path.stat().st_size for path in images.glob("pages-*.img"))
    assert told["bytesWritten"] == size > 0
    assert told["frozenMicroseconds"] > 0


def test_leave_running_lets_it_go_on_and_the_images_are_of_then(
    make_bundle, pyrunc, images, restore
):
    bundle = make_bundle()
    bundle.shell(MAKES_DIRECTORIES)
    container = pyrunc.start(bundle)
    wait_for(lambda: highest(bundle) > 3)
    save(pyrunc, container, images, "--leave-running")
    assert pyrunc.state(container)["status"] == "running"
    before = highest(bundle)
    wait_for(lambda: highest(bundle) > before)
    assert pyrunc("delete", "--force", container.id).code == 0
    last = highest(bundle)
    restore(bundle, images)
    wait_for(lambda: highest(bundle) > last)


def test_mounts_rights_and_names_are_the_same(make_bundle, pyrunc, images, restore, tmp_path):
    """Every mount with its options, the process's credentials and limits, host name."""
    volume = tmp_path / "a volume"
    volume.mkdir()
    bundle = make_bundle()
    bundle.bind(volume, "/vol", "ro")
    bundle.bind(volume, "/vol/again", "ro")
    bundle.bind(volume, "/writable")
    bundle.bind(volume, "/readable", "ro", "nosuid")
    (volume / "again").mkdir()
    bundle.bind("/etc/hostname", "/etc/hostname") if Path("/etc/hostname").exists() else None
    bundle.mount("/scratch", "tmpfs", "tmpfs", "size=64k", "mode=700")
    bundle.shell("echo kept > /scratch/file; while :; do sleep 1000; done")
    bundle.process["oomScoreAdj"] = 77
    # Covers of the same device, all read-only: else chmod(1) of one would reach the host's.
    bundle.linux["maskedPaths"] += ["/proc/timer_list", "/proc/interrupts", "/proc/locks"]
    container = pyrunc.start(bundle)

    def look(container):
        status = Path(f"/proc/{pyrunc.state(container)['pid']}/status").read_text()
        wanted = ("Uid", "Gid", "Groups", "Cap", "NoNewPrivs", "Seccomp", "Umask", "NSpid")
        rights = [x for x in status.splitlines() if x.startswith(wanted) and "NSpid" not in x]
        inside = pyrunc.exec(container, "sh", "-c", "cat /scratch/file; hostname; ulimit -n")
        mounts = pyrunc.exec(container, "cat", "/proc/self/mounts").stdout.splitlines()
        pid = pyrunc.state(container)["pid"]
        score = Path(f"/proc/{pid}/oom_score_adj").read_text()
        return rights, inside.stdout, sorted(mounts), score

    wait_for(lambda: "kept" in look(container)[1])
    before = look(container)
    save(pyrunc, container, images)
    after = look(restore(bundle, images))
    assert after == before


def test_two_binds_of_one_source_are_both_read_only(make_bundle, pyrunc, images, restore, tmp_path):
    bundle = make_bundle()
    for place in ("/one", "/two"):
        bundle.bind(tmp_path, place, "ro")
    bundle.shell("while :; do sleep 1000; done")
    container = pyrunc.start(bundle, stdin=subprocess.DEVNULL)
    save(pyrunc, container, images)
    manifest = json.loads((images / "pyrunc.json").read_text())
    attributes = {place: ["ro"] for place in ("/one", "/two")}
    assert manifest["restrictions"].items() >= attributes.items()
    restored = restore(bundle, images)
    mounts = pyrunc.exec(restored, "cat", "/proc/self/mounts").stdout.splitlines()
    lines = [line.split() for line in mounts if line.split()[1] in attributes]
    assert [line[3].split(",")[0] for line in lines] == ["ro", "ro"]


def test_stdio_pipes_lead_to_the_restorers(make_bundle, pyrunc, images, restore, tmp_path):
    bundle = make_bundle()
    bundle.shell("while read line; do echo got $line; done; echo end")
    bundle.save()
    name = pyrunc.new_id()
    with subprocess.Popen(
        [*pyrunc.command, "run", "-d", "--bundle", str(bundle.path), name],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as first:  # fmt: skip
        print("one", file=first.stdin, flush=True)
        assert first.stdout.readline() == "got one\n"
        assert pyrunc("checkpoint", "--image-path", images, name).code == 0
    described = json.loads((images / "descriptors.json").read_text())
    assert [x.startswith("pipe:[") for x in described] == [True] * 3
    name = pyrunc.new_id()
    with subprocess.Popen(
        [*pyrunc.command, "restore", "-d", "--bundle", str(bundle.path),
         "--image-path", str(images), name],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as second:  # fmt: skip
        print("two", file=second.stdin, flush=True)
        assert second.stdout.readline() == "got two\n"
        second.stdin.close()
        assert second.stdout.readline() == "end\n"


def test_a_shell_that_has_put_its_stdout_aside(make_bundle, pyrunc, images, restore):
    """While it redirects something, its stdout is a file, and its own has another number."""
    bundle = make_bundle()
    bundle.shell("while :; do { echo 1; sleep 0.05; } > /tmp/count; echo out; done")
    container = pyrunc.start(bundle)
    wait_for(lambda: number_in(bundle.rootfs / "tmp/count"))
    save(pyrunc, container, images)
    assert all(json.loads((images / "pyrunc.json").read_text())["stdio"])
    before = set(pyrunc.directory.glob("*.out"))
    restore(bundle, images)
    (output,) = set(pyrunc.directory.glob("*.out")) - before
    wait_for(output.read_text)
    assert goes_on(bundle, 1)


#: Holds a lock on /tmp/lock; counts, and has a child write the numbers that come through a pipe.
LOCKER = """
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>
int main(void) {
    int ends[2], number, lock = open("/tmp/lock", O_RDWR | O_CREAT, 0600);
    flock(lock, LOCK_EX);
    pipe(ends);
    if (fork() == 0) {
        close(lock);
        close(ends[1]);
        while (read(ends[0], &number, sizeof number) == sizeof number) {
            FILE *count = fopen("/tmp/count", "w");
            fprintf(count, "%d", number);
            fclose(count);
        }
        return 0;
    }
    for (number = 1;; number++) {
        write(ends[1], &number, sizeof number);
        usleep(20000);
    }
}
"""


def test_two_processes_with_a_pipe_and_a_file_lock(make_bundle, pyrunc, images, restore, compiled):
    bundle = make_bundle(["/locker"])
    shutil.copy(compiled("locker", LOCKER), bundle.rootfs / "locker")
    container = pyrunc.start(bundle)
    count = bundle.rootfs / "tmp/count"
    wait_for(lambda: number_in(count) > 3)
    refused = pyrunc("checkpoint", "--image-path", images, container.id)
    assert refused.code == 1
    assert "/tmp/lock: --file-locks saves it" in refused.stderr
    assert pyrunc.state(container)["status"] == "running"
    save(pyrunc, container, images, "--file-locks")
    before = number_in(count)
    lock = ["flock", "-n", bundle.rootfs / "tmp/lock", "true"]
    assert subprocess.run(lock, check=False).returncode == 0
    restore(bundle, images, "--file-locks")
    assert subprocess.run(lock, check=False).returncode == 1
    assert goes_on(bundle, before)


def test_a_seccomp_filter_is_there_again(make_bundle, pyrunc, images, restore):
    bundle = make_bundle()
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    }
    bundle.shell("while :; do mkdir /tmp/made 2>/dev/null; echo 1 > /tmp/count; sleep 0.02; done")
    container = pyrunc.start(bundle)
    wait_for(lambda: number_in(bundle.rootfs / "tmp/count"))
    save(pyrunc, container, images)
    restore(bundle, images)
    assert goes_on(bundle, 1)
    assert not (bundle.rootfs / "tmp/made").exists()


def test_hooks_run_around_it(make_bundle, pyrunc, images, restore, tmp_path):
    bundle = make_bundle()
    kinds = (
        "prestart",
        "createRuntime",
        "createContainer",
        "poststart",
        "poststop",
    )
    bundle.config["hooks"] = {
        kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"echo {kind} >> {tmp_path}/ran"]}]
        for kind in kinds
    }
    container = counting(pyrunc, bundle)
    ran = tmp_path / "ran"
    ran.unlink()
    save(pyrunc, container, images)
    assert ran.read_text().split() == ["poststop"]
    ran.unlink()
    restored = restore(bundle, images)
    assert ran.read_text().split() == ["prestart", "createRuntime", "poststart"]
    assert pyrunc("delete", "--force", restored.id).code == 0
    assert ran.read_text().split()[-1] == "poststop"


def test_a_paused_container_is_saved_too(make_bundle, pyrunc, images, restore):
    bundle, container = counter(make_bundle, pyrunc)
    assert pyrunc("pause", container.id).code == 0
    save(pyrunc, container, images)
    restored = restore(bundle, images)
    if pyrunc.state(restored)["status"] == "paused":
        assert pyrunc("resume", restored.id).code == 0
    assert goes_on(bundle, 3)


def test_in_the_foreground_the_exit_code_is_the_programs(make_bundle, pyrunc, images):
    bundle = make_bundle()
    bundle.shell("echo 1 > /tmp/count; while ! test -e /tmp/end; do sleep 0.02; done; exit 7")
    container = pyrunc.start(bundle)
    wait_for(lambda: number_in(bundle.rootfs / "tmp/count"))
    save(pyrunc, container, images)
    (bundle.rootfs / "tmp/end").touch()
    name = pyrunc.new_id()
    result = pyrunc("restore", "--bundle", bundle.path, "--image-path", images, name)
    assert result.code == 7
    assert "does not exist" in pyrunc("state", name).stderr


def test_the_pid_file_is_written(make_bundle, pyrunc, images, restore, tmp_path):
    bundle, container = counter(make_bundle, pyrunc)
    save(pyrunc, container, images)
    restored = restore(bundle, images, "--pid-file", tmp_path / "pid")
    assert (tmp_path / "pid").read_text() == str(pyrunc.state(restored)["pid"])


def test_the_work_path_gets_the_log(make_bundle, pyrunc, images, restore, tmp_path):
    bundle, container = counter(make_bundle, pyrunc)
    (tmp_path / "somewhere").mkdir()
    # As containerd has it; CRIU mounts things in there.
    (tmp_path / "work").symlink_to(tmp_path / "somewhere")
    save(pyrunc, container, images, "--work-path", tmp_path / "work")
    assert (tmp_path / "work/dump.log").exists()
    assert not (images / "dump.log").exists()
    restore(bundle, images, "--work-path", tmp_path / "work")
    assert (tmp_path / "work/restore.log").exists()


def test_a_failed_restore_leaves_nothing(make_bundle, pyrunc, images, restore, tmp_path):
    bundle, container = counter(make_bundle, pyrunc)
    save(pyrunc, container, images)
    (images / "pstree.img").write_bytes(b"garbage")
    failed = restore(bundle, images, fails=True)
    assert "CRIU: " in failed.stderr
    assert str(images / "restore.log") in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "does not exist" in pyrunc("state", failed.id).stderr
    assert leftovers(pyrunc, tmp_path) == []


def test_a_failed_hook_undoes_the_restore(make_bundle, pyrunc, images, restore, tmp_path):
    bundle, container = counter(make_bundle, pyrunc)
    save(pyrunc, container, images)
    bundle.config["hooks"] = {"createRuntime": [{"path": "/bin/false"}]}
    failed = restore(bundle, images, fails=True)
    assert "error running createRuntime hook #0" in failed.stderr
    assert "does not exist" in pyrunc("state", failed.id).stderr
    assert leftovers(pyrunc, tmp_path) == []
