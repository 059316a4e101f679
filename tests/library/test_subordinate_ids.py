"""The library for an ordinary user who has subordinate ids, and newuidmap(1) to map them."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import tarfile
import tempfile
import time
from pathlib import Path

import pytest
from conftest import BUSY_USER
from images import (
    BUSYBOX,
    busybox_layer,
    docker_archive,
    layer,
    oci_archive,
    oci_files,
    oci_layout,
)
from user_rooms import COUNT, FIRST, HELPERS, NAME, USER, Room, wait_until_nothing_is_left

SHOW = """
def show(*args, **options):
    try:
        result = pyrunc.run(*args, text=True, **options)
    except pyrunc.Error as error:
        print(type(error).__name__, error.code, error)
    else:
        print(result.status, *result.stdout.split(), *result.stderr.split())
"""
OWNED = layer(
    ("home", tarfile.DIRTYPE),
    ("home/worker", tarfile.DIRTYPE, "", 0o700, 1000),
    ("home/worker/link", tarfile.SYMTYPE, "x", 0o777, 1000),
    ("secret", tarfile.DIRTYPE, "", 0o700, 70),
    ("secret/below", tarfile.DIRTYPE, "", 0o500, 71),
)


@pytest.fixture
def room(sources):
    directory = Path(tempfile.mkdtemp(prefix="pyrunc-test-", dir="/var/tmp"))
    directory.chmod(0o755)
    yield Room(directory, sources)
    try:
        wait_until_nothing_is_left()
    finally:
        shutil.rmtree(directory)


@pytest.fixture(params=["docker", "oci-directory", "oci-tar", "tar"])
def image(request, room):
    """An image whose files are several users', in each of the forms."""
    return made_image(room, request.param)


def made_image(room, form="docker", layers=(), **config):
    if not BUSYBOX.exists():
        pytest.skip(f"needs {BUSYBOX} (package busybox-static)")
    path = room.directory / "image"
    layers = [busybox_layer(), OWNED, *layers]
    config = {"Env": ["PATH=/bin"], "User": "worker", "WorkingDir": "/home/worker", **config}
    if form == "docker":
        return docker_archive(path, layers, **config)
    if form == "oci-directory":
        return oci_layout(path, oci_files(layers, **config))
    if form == "oci-tar":
        return oci_archive(path, oci_files(layers, **config))
    with tarfile.open(path, "w") as whole:
        for content in layers:
            with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                for member in archive:
                    whole.addfile(member, archive.extractfile(member) if member.isreg() else None)
    return path


def test_a_program_is_nobody_or_whom_it_is_told_to_be(room):
    text = (
        SHOW
        + """
show(["sh", "-c", "id -u; id -g; grep Groups /proc/self/status; cat /proc/self/setgroups"])
show(["sh", "-c", "id -u; id -g; umask 77; echo >/tmp/x; stat -c %u:%g:%a /tmp/x"], user=(5, 6))
show(["sh", "-c", "id -u"], user=0)
show(["cat", "/proc/self/uid_map", "/proc/self/gid_map"])
show(["grep", "Cap[PEB]", "/proc/self/status"])
"""
    )
    own, others = "0 0 1", f"1 1 {COUNT}"
    none = "0" * 16
    assert room.run(text) == [
        "exited 65534 65534 Groups: allow",
        "exited 5 6 5:6:600",
        "exited 0",
        f"exited {own} {others} {own} {others}",
        f"exited CapPrm: {none} CapEff: {none} CapBnd: {none}",
    ]


def test_an_image_s_files_are_those_of_its_users(room, image):
    script = "cd /; stat -c %u:%g:%a:%n home home/worker home/worker/link secret"
    text = f"""
        def show(*argv, **options):
            result = pyrunc.run(argv, rootfs={str(image)!r}, text=True, **options)
            print(*result.stdout.split(), *result.stderr.split())
        show("/bin/sh", "-c", "id -u; id -g")
        show("/bin/sh", "-c", {script!r}, user=1000)
        show("/bin/ls", "/secret", user=70)
    """
    user = "1000 1001" if image.is_dir() or _is_image(image) else "0 0"
    files = "0:0:755:home 1000:1000:700:home/worker 1000:1000:777:home/worker/link 70:70:700:secret"
    assert room.run(text) == [user, files, "below"]
    (kept,) = [path for path in room.images.glob("ids-*/*") if not path.name.startswith(".")]
    assert (kept / "home/worker").stat().st_uid == FIRST + 999
    assert (kept / "secret/below").stat().st_gid == FIRST + 70
    assert kept.stat().st_uid == USER
    # Nobody else's way to them.
    assert room.images.stat().st_mode & 0o777 == 0o700


def _is_image(path):
    with tarfile.open(path) as archive:
        names = archive.getnames()
    return "manifest.json" in names or "oci-layout" in names


def test_a_sandbox_s_files_are_its_user_s(room):
    image = made_image(room)
    (room.directory / "tree/below").mkdir(parents=True)
    (room.directory / "tree/below/file").write_text("put")
    text = f"""
        import os
        os.umask(0o027)
        os.chdir({str(room.home)!r})
        with pyrunc.Sandbox(rootfs={str(image)!r}) as box:
            def sh(script): print(*box.run(["sh", "-c", script], text=True).stdout.split())
            box.write_file("/home/worker/new/main.sh", "echo ran >out; id -u", mode=0o600)
            sh("cd new; sh main.sh; stat -c %u:%g:%a . main.sh out")
            box.write_file("/home/worker/new/main.sh", "echo again")
            sh("sh new/main.sh; echo mine >own; stat -c %u:%g:%a new/main.sh")
            print(box.read_file("/home/worker/own"), box.read_file("/home/worker/own", limit=2))
            print(*(change.path for change in box.changes()))
            box.put("{room.directory}/tree", "/home/worker/tree")
            sh("stat -c %u:%g tree tree/below tree/below/file; cat tree/below/file")
            box.get("/home/worker", "got")
            print(sorted(os.listdir("got")), open("got/own").read().strip())
            print(oct(os.stat("got/own").st_mode), os.stat("got/own").st_uid == os.getuid())
            for doing in (
                lambda: box.read_file("/none"),
                lambda: box.read_file("/dev/null"),
                lambda: box.write_file("/proc/1/comm", "x"),
                lambda: box.put("/etc/shadow", "/tmp/x"),
                lambda: box.get("/home/worker/own", "/root/x"),
            ):
                try: doing()
                except pyrunc.Error as error: print(type(error).__name__, error.path, error.errno)
            box.reset()
            print(box.changes())
            sh("id -u; echo *")
    """
    assert room.run(text) == [
        "1000 1000:1001:755 1000:1001:600 1000:1001:644",
        "again 1000:1001:600",
        r"b'mine\n' b'mi'",
        "/home/worker/new /home/worker/new/main.sh /home/worker/new/out /home/worker/own",
        "1000:1001 1000:1001 1000:1001 put",
        "['link', 'new', 'own', 'tree'] mine",
        "0o100640 True",
        "FileMissing /none 2",
        "FileDenied /dev/null 13",
        "FileDenied /proc/1 13",
        "FileDenied /tmp/x 13",
        "FileDenied /home/worker/own 13",
        "[]",
        "1000 link",
    ]


def test_an_owner_who_is_not_mapped_is_an_error(room):
    image = made_image(room, layers=[layer(("big", tarfile.DIRTYPE, "", 0o700, 99_999))])
    (line,) = room.run(SHOW + f"show(['true'], rootfs={str(image)!r})")
    assert "cannot give big to user 99999 and group 99999" in line
    assert "/etc/subuid" in line
    assert not list(room.images.glob("ids-*/.*.new"))


@pytest.mark.parametrize(
    ("ids", "hidden", "options", "words"),
    [
        ("", (), (), f"/etc/subuid has no range for {NAME}, as `usermod --add-subuids` gives"),
        (None, HELPERS, (), "newuidmap and newgidmap would have to be there (package uidmap)"),
        (None, HELPERS[1:], (), "newgidmap would have to be there (package uidmap)"),
        (None, (), ("--no-new-privs",), "newuidmap refused the mapping"),
        # The user's own group is in it: the kernel takes nothing twice, when uids are mapped.
        (f"{NAME}:{USER - 5}:100\n", (), (), "newgidmap refused the mapping"),
    ],
    ids=["no-ranges", "no-helpers", "no-newgidmap", "no-new-privileges", "bad-group-range"],
)
def test_without_them_all_is_as_before(room, ids, hidden, options, words):
    image = made_image(room)
    if ids is not None:
        room.give_ids(f"{NAME}:{FIRST}:{COUNT}\n" if ids else "", ids)
    text = (
        SHOW
        + f"""
show(["sh", "-c", "id -u; cat /proc/self/uid_map /proc/self/setgroups"])
show(["sh", "-c", "id -u; stat -c %u /home/worker /secret"], rootfs={str(image)!r}, user=0)
show(["true"], rootfs={str(image)!r})
show(["true"], user=(0, 7))
with pyrunc.Sandbox() as box:
    box.write_file("/tmp/x", "1")
    print(box.run(["cat", "/tmp/x"]).stdout, box.read_file("/tmp/x"), box.changes())
"""
    )
    lines = room.run(text, hidden=hidden, options=options)
    assert lines[:2] == ["exited 0 0 0 1 deny", "exited 0 0 0"]
    for line, about in zip(lines[2:4], ("uid 1000", "gid 7"), strict=True):
        assert line.startswith(f"Error no-such-user {about}: only 0, which is the user, can be had")
        assert words in line
    assert lines[4] == "b'1' b'1' [Change(path='/tmp/x', kind='added')]"


def test_a_short_range_has_no_nobody(room):
    room.give_ids(f"{NAME}:{FIRST}:1000\n{USER}:{FIRST + 5000}:1000\n")
    text = (
        SHOW
        + """
show(["id", "-u"])
show(["sh", "-c", "id -u; cat /proc/self/uid_map"], user=1500)
show(["id", "-u"], user=2001)
"""
    )
    assert room.run(text) == [
        "exited 0",
        "exited 1500 0 0 1 1 1 1000 1001 1001 1000",
        "Error no-such-user uid 2001: only 0 to 2000 can be had here:"
        " a longer range in /etc/subuid would give more",
    ]


def test_other_ids_have_other_images(room):
    image = made_image(room)
    text = SHOW + f'show(["stat", "-c", "%u", "/secret"], rootfs={str(image)!r}, user=0)'
    assert room.run(text) == ["exited 70"]
    room.give_ids("".join(f"{NAME}:{FIRST + i}:1000\n" for i in range(10_000, 40_000, 1000)))
    assert room.run(text) == ["exited 70"]
    assert room.run(text, hidden=HELPERS) == ["exited 0"]
    assert len(list(room.images.glob("ids-*"))) == 2


@pytest.mark.parametrize("also_engines", [False, True])
def test_what_was_half_unpacked_is_removed(room, also_engines):
    many = [(f"many/{i}", tarfile.DIRTYPE, "", 0o700, 1 + i % 100) for i in range(8000)]
    image = made_image(room, layers=[layer(("many", tarfile.DIRTYPE, "", 0o700, 5), *many)])
    killed = room.start(f'pyrunc.run(["true"], rootfs={str(image)!r})')
    end = time.monotonic() + 60
    while not list(room.images.glob("ids-*/.*.new/many/1")):
        assert time.monotonic() < end
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.01)
    kill_at_once([killed.pid, *(all_of_the_user() if also_engines else ())])
    killed.communicate()
    if also_engines:
        assert list(room.images.glob("ids-*/.*.new/many/1"))
        other = made_image(room, Cmd=["true"])
        assert room.run(SHOW + f"show(None, rootfs={str(other)!r})") == ["exited"]
    end = time.monotonic() + 60
    while list(room.images.glob("ids-*/.*.new")):
        assert time.monotonic() < end
        time.sleep(0.05)


def kill_at_once(pids):
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in dict.fromkeys(pids):
            # It may have ended since it was seen.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def all_of_the_user():
    found = []
    for entry in Path("/proc").iterdir():
        # Any process may end while it is looked at.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if entry.name.isdigit() and entry.stat().st_uid == USER:
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("also_engines", [False, True])
def test_nothing_is_left_of_a_killed_program(room, also_engines):
    """The fixture waits for it, those of subordinate ids among it."""
    killed = room.start(BUSY_USER)
    assert killed.stdout.readline() == "ready\n", killed.stderr.read()
    kill_at_once([*(all_of_the_user() if also_engines else ()), killed.pid])
    killed.communicate()
    if also_engines:
        assert room.run(SHOW + 'show(["true"])') == ["exited"]


def test_an_executor_and_a_pool(room):
    text = """
        import os
        with pyrunc.Executor(2, results="json") as executor:
            print(sorted(executor.map(max, [1, 2], [3, 1])), executor.submit(os.getuid).result())
        with pyrunc.Executor(1, results="json", user=(7, 8), pool=1) as executor:
            print(executor.submit(os.getuid).result(), executor.submit(os.getgroups).result())
    """
    assert room.run(text) == ["[2, 3] 65534", "7 []"]


@pytest.mark.parametrize("hidden", [(), HELPERS], ids=["all-ids", "own-id"])
def test_limits_in_a_cgroup_of_the_user_s(room, hidden):
    places = []
    for controller in ("memory", "pids"):
        mount = Path("/sys/fs/cgroup", controller)
        if not (mount / "cgroup.procs").exists():
            pytest.skip("needs cgroup v1 with memory and pids; tests/vm has cgroup v2")
        place = mount / f"pyrunc-user-{os.getpid()}"
        place.mkdir()
        os.chown(place, USER, USER)
        places.append(place)
    room.cgroups = [str(place) for place in places]
    text = (
        SHOW
        + """
show(["sh", "-c", "head -c 100M /dev/zero | tail"], memory="16M")
show(["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done"], pids=4)
result = pyrunc.run(["sh", "-c", "sleep 0.1 & sleep 0.1; wait"], memory="32M", pids=8)
print(result.status, result.memory_peak > 0, result.pids_peak >= 3, sorted(result.not_enforced))
"""
    )
    try:
        lines = room.run(text, hidden=hidden)
        wait_until_nothing_is_left()
    finally:
        for place in places:
            place.rmdir()
    assert lines[0].startswith("oom"), lines
    assert "fork" in lines[1]
    assert lines[2] == "exited True True []"


@pytest.mark.parametrize("hidden", [(), HELPERS], ids=["all-ids", "own-id"])
def test_a_container_of_a_state_root_outlives_its_program(room, hidden):
    """What it maps is the config's: the command's containers are like it, and this is one."""
    if not BUSYBOX.exists():
        pytest.skip(f"needs {BUSYBOX} (package busybox-static)")
    root = room.home / "root"
    for name in ("bin", "proc", "dev", "sys", "tmp"):
        (root / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin/sh")
    for name in ("id", "sleep"):
        (root / "bin" / name).symlink_to("sh")
    user = 0 if hidden else 1000
    mapped = [ids(0, USER, 1), *([] if hidden else [ids(1, FIRST, COUNT)])]
    begin = f"""
        from subprocess import PIPE
        runtime = pyrunc.Runtime({str(room.home / "state")!r})
        config = pyrunc.Spec.default({str(root)!r}, ["sh", "-c", "id -u; sleep 1000"]).to_dict()
        config["linux"] |= {{"uidMappings": {mapped}, "gidMappings": {mapped}}}
        box = runtime.create(pyrunc.Spec(config).as_user({user}), "box", stdout=PIPE)
        box.start()
        print(box.process.stdout.readline(), box.exec(["sh", "-c", "exit 3"]).wait())
    """
    end = f"""
        from subprocess import PIPE
        runtime = pyrunc.Runtime({str(room.home / "state")!r})
        (box,) = runtime.containers()
        print(box.state()["status"], box.exec(["sh", "-c", "id -u"], stdout=PIPE).stdout.read())
        box.delete(force=True)
        print(runtime.containers())
    """
    shown = rf"b'{user}\n'"
    try:
        assert room.run(begin, hidden=hidden) == [f"{shown} 3"]
    finally:
        lines = room.run(end, hidden=hidden)
    assert lines == [f"running {shown}", "[]"]


def ids(inside, outside, count):
    return {"containerID": inside, "hostID": outside, "size": count}
