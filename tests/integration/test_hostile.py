"""Root file systems and processes that mean harm (docs/security.md): what must hold, holds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest


def replace(path: Path, target: str) -> None:
    """Put a link where a directory or file of the rootfs is."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(target)


def test_a_script_run_by_proc_self_exe_gets_init_and_not_the_hosts_python(make_bundle, pyrunc):
    """CVE-2019-5736: without the sealed init, /proc/self/exe would be the host's interpreter."""
    bundle = make_bundle(args=["/evil"])
    (bundle.rootfs / "evil").write_text("#!/proc/self/exe\nimport os\n")
    (bundle.rootfs / "evil").chmod(0o755)
    before = Path(sys.executable).resolve().stat().st_mtime_ns
    result = pyrunc.run(bundle)
    assert result.code != 0
    assert "Python" not in result.stderr
    assert Path(sys.executable).resolve().stat().st_mtime_ns == before


def test_an_exec_of_proc_self_exe_gets_init_too(make_bundle, pyrunc):
    bundle = make_bundle(args=["sleep", "1000"])
    (bundle.rootfs / "evil").write_text("#!/proc/self/exe\nimport os\n")
    (bundle.rootfs / "evil").chmod(0o755)
    container = pyrunc.start(bundle)
    result = pyrunc.exec(container, "/evil")
    assert result.code != 0
    assert "Python" not in result.stderr


def test_what_waits_behind_proc_pid_exe_cannot_be_written(make_bundle, pyrunc):
    container = pyrunc.create(make_bundle(args=["true"]))
    exe = f"/proc/{pyrunc.state(container)['pid']}/exe"
    assert os.readlink(exe).startswith("/memfd:pyrunc-init")
    with pytest.raises(OSError, match=r"not permitted|busy"), open(exe, "r+b") as file:
        file.write(b"x")


@pytest.mark.parametrize("number", range(3, 31))
def test_a_working_directory_behind_a_descriptor_is_refused(make_bundle, pyrunc, number):
    """CVE-2024-21626: a descriptor of a host directory must not become the cwd."""
    bundle = make_bundle(args=["pwd"])
    bundle.process["cwd"] = f"/proc/self/fd/{number}"
    result = pyrunc.run(bundle)
    assert result.code != 0
    assert "chdir to cwd" in result.stderr, result


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_proc_and_sys_must_not_be_links(make_bundle, pyrunc, name):
    """CVE-2019-19921: labels and masks would be written to where the link leads."""
    bundle = make_bundle(args=["true"])
    replace(bundle.rootfs / name, "/tmp")
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert "must be mounted on ordinary directory" in result.stderr


def test_a_dev_that_links_to_etc_changes_nothing_of_the_host(make_bundle, pyrunc):
    bundle = make_bundle(args=["true"])
    replace(bundle.rootfs / "dev", "../../../../../../../../etc")
    before = sorted(os.listdir("/etc"))
    pyrunc.run(bundle)
    assert sorted(os.listdir("/etc")) == before


def test_missing_mount_points_are_made_inside_the_root_only(make_bundle, pyrunc, tmp_path):
    """CVE-2024-45310: a dangling link in a volume must not make files on the host."""
    outside = tmp_path / "outside"
    bundle = make_bundle(args=["true"])
    (bundle.rootfs / "link").symlink_to(outside)
    source = tmp_path / "source"
    source.mkdir()
    bundle.bind(source, "/link/inner")
    pyrunc.run(bundle)
    assert not outside.exists()


def test_masks_do_not_come_from_the_containers_null_device(make_bundle, pyrunc):
    """CVE-2025-31133: with /dev bound from an image, its /dev/null may be anything."""
    bundle = make_bundle()
    fake = bundle.path / "fake-dev"
    fake.mkdir()
    (fake / "null").write_text("not null")
    bundle.config["mounts"] = [m for m in bundle.config["mounts"] if m["destination"] != "/dev"]
    bundle.config["mounts"] = [
        m for m in bundle.config["mounts"] if not m["destination"].startswith("/dev/")
    ]
    bundle.bind(fake, "/dev", "ro")
    bundle.linux["maskedPaths"] = ["/proc/keys"]
    bundle.shell("stat -c '%t:%T %F' /proc/keys; wc -c </proc/keys")
    bundle.save()
    result = pyrunc.run(bundle)
    assert result.stdout.split("\n")[:2] == ["1:3 character special file", "0"], result


def test_poisoned_modules_and_libraries_in_the_root_are_never_opened(make_bundle, pyrunc, tmp_path):
    """Design invariant 1: after the fork the builder imports and loads nothing."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    bundle = make_bundle(args=["true"])
    poison = "raise SystemExit('poisoned')"
    stdlib = Path(os.__file__).parent
    for directory in (stdlib, Path("/usr/lib/python3.11")):
        where = bundle.rootfs / directory.relative_to("/")
        (where / "encodings").mkdir(parents=True, exist_ok=True)
        for name in ("os.py", "json.py", "socket.py", "encodings/idna.py", "encodings/ascii.py"):
            (where / name).write_text(poison)
    (bundle.rootfs / "etc/nsswitch.conf").write_text("passwd: evil\n")
    bundle.save()
    log = tmp_path / "strace"
    words = ["strace", "-f", "-e", "trace=open,openat,openat2,execve,execveat,pivot_root"]
    name = pyrunc.new_id()
    done = subprocess.run(
        [*words, "-o", log, *pyrunc.command, "run", "--bundle", bundle.path, name],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = log.read_text().splitlines()
    builder = next(line.split()[0] for line in lines if "pivot_root" in line)
    opened = [line.split('"')[1] for line in lines if line.split()[0] == builder and '"' in line]
    assert opened
    for path in opened:
        assert not path.endswith((".py", ".pyc", ".so", "nsswitch.conf")), opened


def test_a_poisoned_environment_and_directory_change_nothing(make_bundle, pyrunc, tmp_path):
    """Design invariant 2, with the installed command or with -I -S."""
    bundle = make_bundle(args=["true"])
    bundle.save()
    for name in ("json.py", "posix.py", "_ctypes.py", "os.py", "pyrunc.py", "sitecustomize.py"):
        (tmp_path / name).write_text("raise SystemExit('poisoned')")
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        "PYTHONHOME": str(tmp_path),
        "PYTHONSTARTUP": str(tmp_path / "os.py"),
    }
    done = subprocess.run(
        [*pyrunc.command, "run", "--bundle", bundle.path, pyrunc.new_id()],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env=environment,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_tracer_inside_gains_nothing_from_processes_that_enter(make_bundle, pyrunc):
    """With CAP_SYS_PTRACE, look at every process there is while `exec` enters again and again.

    What shows itself must never have more capabilities than the container, nor a program that
    is not init or the container's own.
    """
    sets = ["CAP_SYS_PTRACE", "CAP_KILL"]
    bundle = make_bundle()
    bundle.process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), sets)
    bundle.shell(
        "(while [ ! -e /stop ]; do for p in /proc/[0-9]*; do "
        "grep -h CapPrm $p/status; readlink $p/exe; ls -l $p/fd | grep python; "
        "done; done >/seen 2>/dev/null; touch /done) & exec sleep 1000"
    )
    bundle.save()
    container = pyrunc.start(bundle)
    for _ in range(30):
        assert pyrunc.exec(container, "true").code == 0
    (bundle.rootfs / "stop").touch()
    deadline = time.monotonic() + 10
    while not (bundle.rootfs / "done").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    seen = set((bundle.rootfs / "seen").read_text().splitlines())
    most = (1 << 19) | (1 << 5)
    for line in seen:
        if line.startswith("CapPrm"):
            assert int(line.split()[1], 16) & ~most == 0, line
        else:
            assert line.startswith(("/bin/", "/memfd:pyrunc-init")), line


def test_a_volume_that_swaps_a_directory_for_a_link_stays_inside(make_bundle, pyrunc, tmp_path):
    """CVE-2021-30465: mount points are opened once, below the root, and used as descriptors."""
    volume, victim, payload = (tmp_path / n for n in ("volume", "victim", "payload"))
    for directory in (volume, victim, payload):
        directory.mkdir()
    (volume / "a").mkdir()
    (volume / "b").symlink_to(victim)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for old, new in (("a", "x"), ("b", "a"), ("a", "b"), ("x", "a")):
                try:
                    os.rename(volume / old, volume / new)
                except OSError:
                    continue

    bundle = make_bundle(args=["true"])
    bundle.bind(volume, "/volume")
    bundle.bind(payload, "/volume/a")
    bundle.save()
    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(60):
            pyrunc.run(bundle)
            assert not os.path.ismount(victim)
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    "text",
    [b"[" * 100_000, b'{"a":' * 100_000, b" " * (50 << 20), b'"\xff\xfe"', b"", b"nul"],
    ids=["lists", "objects", "50 MiB", "not UTF-8", "empty", "word"],
)
def test_a_config_that_means_to_exhaust_us_is_refused(make_bundle, pyrunc, text):
    bundle = make_bundle()
    (bundle.path / "config.json").write_bytes(text)
    started = time.monotonic()
    result = pyrunc("run", "--bundle", bundle.path, id=pyrunc.new_id())
    assert result.code == 1
    assert "Traceback" not in result.stderr
    assert "internal error" not in result.stderr
    assert time.monotonic() - started < 10


def test_escape_codes_do_not_reach_the_terminal(make_bundle, pyrunc):
    bundle = make_bundle(args=["\x1b[31mno\x07such"])
    bundle.config["hostname"] = "ok"
    bundle.save()
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert "\x1b" not in result.stderr
    assert "\x07" not in result.stderr


def test_devices_that_are_not_allowed_cannot_be_opened(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.process["capabilities"] = {
        k: ["CAP_MKNOD"] for k in ("bounding", "effective", "permitted")
    }
    bundle.shell("mknod /tmp/mem c 1 1 && cat /tmp/mem; mknod /tmp/null c 1 3 && cat /tmp/null")
    bundle.save()
    result = pyrunc.run(bundle)
    assert "can't open '/tmp/mem': Operation not permitted" in result.stderr, result
    assert "/tmp/null" not in result.stderr


def test_the_cgroup_mount_is_read_only_for_the_container(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "ro")
    bundle.shell("for d in /sys/fs/cgroup /sys/fs/cgroup/*/; do mkdir $d/escape; done")
    bundle.save()
    result = pyrunc.run(bundle)
    assert result.code != 0
    assert result.stderr.count("Read-only file system") == len(result.stderr.splitlines()) > 0
