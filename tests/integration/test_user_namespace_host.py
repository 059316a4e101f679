"""What the host's root does for a container in a user namespace, whose root could not.

Its stdio, its devices, its volumes; and whether the namespace that it joins is the one meant.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from public_command import for_everybody

FIRST = 100000
SCRIPT = "echo out > /dev/stdout; cat /dev/stdin > /dev/stderr"


@pytest.fixture
def bundle(make_bundle, public_path):
    """A bundle whose container's root is user 100000 of the host."""
    made = make_bundle(at=public_path / "bundle")
    made.give_to(FIRST)
    made.user_namespace(FIRST)
    return made


def device(path: str, kind: str, major: int, minor: int, **more: int) -> dict[str, object]:
    return {"path": path, "type": kind, "major": major, "minor": minor, **more}


# Its stdio, opened again by name as web servers' log files are


@pytest.mark.parametrize("uid", [0, 101])
@pytest.mark.parametrize("joined", [False, True])
def test_stdio_is_opened_again_by_run(bundle, pyrunc, tmp_path, uid, joined):
    if joined:
        bundle.process["args"] = ["sleep", "100"]
        pid = pyrunc.state(pyrunc.start(bundle))["pid"]
        bundle.namespace("user", f"/proc/{pid}/ns/user")
    bundle.process["user"] = {"uid": uid, "gid": uid}
    bundle.shell(SCRIPT)
    (tmp_path / "in").write_text("in\n")
    with (tmp_path / "in").open() as file:
        done = pyrunc.run(bundle, stdin=file)
    assert (done.stdout, done.stderr) == ("out\n", "in\n")


@pytest.mark.parametrize("uid", [0, 101])
def test_stdio_is_opened_again_after_start(bundle, pyrunc, uid):
    bundle.process["user"] = {"uid": uid, "gid": uid}
    bundle.shell("echo out > /dev/stdout; echo err > /dev/stderr")
    container = pyrunc.start(bundle)
    pyrunc.wait(container)
    assert (container.stdout, container.stderr) == ("out\n", "err\n")


@pytest.mark.parametrize("uid", [0, 101])
def test_pipes_are_opened_again_by_exec(bundle, pyrunc, uid):
    bundle.process["args"] = ["sleep", "100"]
    container = pyrunc.start(bundle)
    words = [*pyrunc.command, "exec", "--user", str(uid), container.id, "sh", "-c", SCRIPT]
    done = subprocess.run(words, input="in\n", capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("out\n", "in\n")


def test_the_null_device_of_the_host_is_not_given_away(bundle, pyrunc):
    before = os.stat("/dev/null").st_uid
    assert pyrunc.run(bundle).code == 0
    assert os.stat("/dev/null").st_uid == before


# Its devices


@pytest.mark.parametrize("user_namespace", [True, False])
@pytest.mark.parametrize("name", ["/dev/ptmx", "/dev/./ptmx"])
def test_the_multiplexer_is_the_container_s_own(bundle, pyrunc, user_namespace, name):
    """Generated configs list every device of the host, and this one among them."""
    if not user_namespace:
        bundle.without_namespace("user")
        del bundle.linux["uidMappings"], bundle.linux["gidMappings"]
        bundle.give_to(0)
    bundle.linux["devices"] = [device(name, "c", 5, 2, fileMode=0o666)]
    bundle.shell("readlink /dev/ptmx; exec 3<>/dev/ptmx && echo opened")
    assert pyrunc.run(bundle).stdout == "pts/ptmx\nopened\n"


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr", "fd", "core"])
def test_a_device_in_the_place_of_a_link(bundle, pyrunc, name):
    bundle.linux["devices"] = [device(f"/dev/{name}", "c", 1, 3)]
    bundle.process["args"] = ["stat", "-c", "%F %t:%T", f"/dev/{name}"]
    assert pyrunc.run(bundle).stdout == "character special file 1:3\n"


def test_a_device_has_the_owner_and_mode_of_the_config(bundle, pyrunc):
    """A bind of the host's would be nobody's."""
    bundle.linux["devices"] = [
        device("/dev/zero", "c", 1, 5, fileMode=0o640, uid=7, gid=8),
        device("/dev/nowhere", "c", 1, 5, fileMode=0o600),
        device("/dev/fuse", "c", 10, 229, fileMode=0o666),
        device("/dev/block", "b", 7, 99, fileMode=0o604, gid=70000),
    ]
    bundle.linux["resources"]["devices"].append({"allow": True, "access": "rwm"})
    names = "/dev/zero /dev/nowhere /dev/fuse /dev/block"
    bundle.shell(f"stat -c '%t:%T %a %u:%g' {names}; head -c 3 /dev/nowhere | od -An -tx1")
    assert pyrunc.run(bundle).stdout.splitlines() == [
        "1:5 640 7:8",
        "1:5 600 0:0",
        "a:e5 666 0:0",
        "7:63 604 0:65534",
        " 00 00 00",
    ]


@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv (util-linux)")
def test_without_the_right_to_make_devices_the_host_s_is_bound(bundle, pyrunc):
    pyrunc.command[:0] = ["setpriv", "--bounding-set=-mknod", "--inh-caps=-all", "--"]
    bundle.linux["devices"] = [device("/dev/full", "c", 1, 7, fileMode=0o600)]
    bundle.process["args"] = ["stat", "-c", "%t:%T %a", "/dev/full"]
    assert pyrunc.run(bundle).stdout == "1:7 666\n"
    bundle.linux["devices"] = [device("/dev/nowhere", "c", 1, 7)]
    done = pyrunc.run(bundle)
    assert "make device /dev/nowhere (c 1:7): operation not permitted" in done.stderr


def test_what_is_done_to_a_device_does_not_reach_the_host(bundle, pyrunc):
    """With ids mapped to themselves, root of the container owns what root of the host does."""
    bundle.user_namespace(0)
    bundle.give_to(0)
    for names in bundle.process["capabilities"].values():
        names += ["CAP_FOWNER", "CAP_CHOWN"]
    bundle.linux["devices"] = [device("/dev/zero", "c", 1, 5)]
    bundle.shell("chmod 600 /dev/full; chown 7 /dev/null; chmod 640 /dev/zero && echo > /dev/null")
    before = [os.stat(f"/dev/{name}") for name in ("full", "null", "zero")]
    try:
        assert pyrunc.run(bundle).code == 0
        now = [os.stat(f"/dev/{name}") for name in ("full", "null", "zero")]
        assert [(s.st_mode, s.st_uid) for s in now] == [(s.st_mode, s.st_uid) for s in before]
    finally:
        for name in ("full", "null", "zero"):
            os.chown(f"/dev/{name}", 0, 0), os.chmod(f"/dev/{name}", 0o666)


def test_the_last_word_on_a_device_counts(bundle, pyrunc):
    bundle.linux["devices"] = [device("/dev/x", "c", 1, 3), device("/dev//x", "c", 1, 5)]
    bundle.process["args"] = ["stat", "-c", "%t:%T", "/dev/x"]
    done = pyrunc.run(bundle)
    assert done.stdout == "1:5\n", done


@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv (util-linux)")
@pytest.mark.parametrize("path", ["/dev/other-null", "/dev/null"])
def test_without_root_the_host_s_device_of_the_number_is_bound(make_bundle, pyrunc, path, unshared):
    bundle = unshared
    bundle.linux["devices"] = [device(path, "c", 1, 3)]
    bundle.shell(f"touch {path} /dev/full && echo x > {path} && stat -c %t:%T {path}")
    done = pyrunc.run(bundle)
    assert done.stdout == "1:3\n", done


@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv (util-linux)")
def test_without_root_a_device_that_the_host_lacks_is_an_error(pyrunc, unshared):
    unshared.linux["devices"] = [device("/dev/nowhere", "b", 7, 99)]
    done = pyrunc.run(unshared)
    assert "make device /dev/nowhere (b 7:99)" in done.stderr
    assert "the host's /dev has none of this number" in done.stderr


@pytest.fixture
def unshared(make_bundle, pyrunc, public_path):
    """A bundle without a user namespace, run as an ordinary user's in one: as Podman does."""
    made = make_bundle(at=public_path / "bundle")
    for path in (public_path, made.path):
        os.chown(path, 4242, 4242)
    made.give_to(4242)
    del made.linux["resources"]
    made.config["mounts"][2]["options"].remove("gid=5")
    options = pyrunc.command.index("--root")
    pyrunc.command[options + 1] = str(public_path / "state")
    pyrunc.command[:options] = for_everybody(pyrunc.command[:options])
    become = ["setpriv", "--reuid=4242", "--regid=4242", "--clear-groups"]
    pyrunc.command[:0] = [*become, "unshare", "--user", "--map-root-user", "--mount"]
    return made


# The namespace that it joins


@pytest.fixture
def joining(bundle, pyrunc):
    bundle.process["args"] = ["sleep", "100"]
    pid = pyrunc.state(pyrunc.start(bundle))["pid"]
    bundle.namespace("user", f"/proc/{pid}/ns/user")
    bundle.process["args"] = ["stat", "-c", "%u", "/"]
    return bundle


def ranges(*numbers: tuple[int, int, int]) -> list[dict[str, int]]:
    names = ("containerID", "hostID", "size")
    return [dict(zip(names, each, strict=True)) for each in numbers]


@pytest.mark.parametrize(
    "mappings",
    [
        None,
        ranges((0, FIRST, 65536)),
        ranges((1000, FIRST + 1000, 64536), (0, FIRST, 1000)),
    ],
)
def test_the_same_mapping_in_other_words_is_taken(joining, pyrunc, mappings):
    for name in ("uidMappings", "gidMappings"):
        joining.linux[name] = mappings
    assert pyrunc.run(joining).stdout == "0\n"


@pytest.mark.parametrize("name", ["uidMappings", "gidMappings"])
@pytest.mark.parametrize(
    "mappings", [ranges((0, 200000, 65536)), ranges((0, FIRST, 65535)), ranges((0, 0, 1))]
)
def test_another_mapping_than_the_joined_namespace_has_is_refused(joining, pyrunc, name, mappings):
    joining.linux[name] = mappings
    done = pyrunc.run(joining)
    assert done.code == 1
    text = ":".join(str(number) for number in mappings[0].values())
    assert f"linux.{name} is {text}, but user namespace /proc/" in done.stderr
    assert f"has 0:{FIRST}:65536" in done.stderr


# Volumes that an earlier mount of the same config makes


@pytest.fixture
def covering(bundle):
    """The root file system has one file, a tmpfs that is filled from below covers it."""
    for name in ("data", "data/sub"):
        (bundle.rootfs / name).mkdir()
    (bundle.rootfs / "data/sub/file").write_text("below\n")
    bundle.give_to(FIRST)
    bundle.mount("/data", "tmpfs", "tmpfs", "tmpcopyup")
    bundle.mount("/data/sub/only-here", "tmpfs", "tmpfs")
    return bundle


@pytest.mark.parametrize("by_link", [False, True])
@pytest.mark.parametrize("user_namespace", [True, False])
def test_a_source_is_what_earlier_mounts_made_of_it(
    covering, pyrunc, public_path, user_namespace, by_link
):
    bundle = covering
    if not user_namespace:
        bundle.without_namespace("user")
        del bundle.linux["uidMappings"], bundle.linux["gidMappings"]
    source = bundle.rootfs
    if by_link:
        source = public_path / "link"
        source.symlink_to(bundle.rootfs)
    bundle.bind(source / "data/sub", "/volume", "rbind")
    bundle.bind(source / "data/sub/only-here", "/other")
    bundle.process["args"] = ["ls", "/volume"]
    assert pyrunc.run(bundle).stdout.split() == ["file", "only-here"]


@pytest.mark.parametrize("user_namespace", [True, False])
def test_such_a_source_with_an_id_mapping(covering, pyrunc, user_namespace):
    """In a user namespace it takes rights over the file system, which the host's root has alone."""
    bundle = covering
    if not user_namespace:
        bundle.without_namespace("user")
        del bundle.linux["uidMappings"], bundle.linux["gidMappings"]
        bundle.give_to(0)
    mapping = ranges((0, 7, 1))
    bundle.bind(bundle.rootfs / "data/sub", "/volume", "idmap")
    bundle.config["mounts"][-1] |= {"uidMappings": mapping, "gidMappings": mapping}
    bundle.process["args"] = ["stat", "-c", "%u", "/volume/file", "/data/sub/file"]
    done = pyrunc.run(bundle)
    if user_namespace:
        assert "own root file system cannot be id-mapped" in done.stderr
    else:
        assert done.stdout.split() == ["7", "0"], done


def test_a_part_of_the_root_file_system_that_nothing_covers_is_id_mapped(bundle, pyrunc):
    (bundle.rootfs / "data").mkdir()
    (bundle.rootfs / "data").chmod(0o755)
    bundle.bind(bundle.rootfs / "data", "/volume", "idmap")
    mapping = ranges((0, FIRST + 7, 1))
    bundle.config["mounts"][-1] |= {"uidMappings": mapping, "gidMappings": mapping}
    bundle.process["args"] = ["stat", "-c", "%u", "/volume"]
    assert pyrunc.run(bundle).stdout == "7\n"


def test_a_missing_source_is_named(bundle, pyrunc):
    bundle.bind("/nowhere/at/all", "/volume")
    done = pyrunc.run(bundle)
    assert "cannot bind /nowhere/at/all: no such file or directory" in done.stderr
    bundle.config["mounts"][-1]["source"] = str(Path(bundle.rootfs, "nowhere"))
    assert f"bind {bundle.rootfs}/nowhere to /volume: no such file" in pyrunc.run(bundle).stderr
