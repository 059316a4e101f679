"""The state root and the directories in it: whose they are, and what is none of a container's."""

from __future__ import annotations

import json
import os

import pytest


@pytest.fixture
def foreign(pyrunc, state_root):
    """A directory under the state root that `create` did not make; returns its id and path.

    Only ever below a temporary root: an earlier `delete --force` removed it with all it held.
    """

    def make(name, *, mode=0o755, holds=()):
        assert state_root.name == "pyrunc-state"
        state_root.mkdir(mode=0o700, exist_ok=True)
        directory = state_root / name
        directory.mkdir()
        for file in holds:
            (directory / file).write_text("{}")
        directory.chmod(mode)
        return directory

    return make


@pytest.mark.parametrize(
    ("mode", "holds"),
    [
        (0o755, ()),
        (0o755, ("passwd",)),
        (0o700, ("passwd",)),
        (0o700, ("state.json", "passwd")),
        (0o711, ("state.json",)),
    ],
)
def test_what_create_did_not_make_is_no_container(foreign, pyrunc, mode, holds):
    directory = foreign("theirs", mode=mode, holds=holds)
    for command in (["delete", "--force", "theirs"], ["delete", "theirs"], ["kill", "theirs"]):
        assert pyrunc(*command).code == 1
    assert sorted(path.name for path in directory.iterdir()) == sorted(holds)
    told = pyrunc("delete", "--force", "theirs")
    assert "is not the directory of a container: it stays as it is; is --root right?" in told.stderr


def test_a_record_of_another_container_does_not_make_a_directory_ours(
    make_bundle, pyrunc, foreign, state_root
):
    container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    directory = foreign("copied", holds=("precious",))
    (directory / "state.json").write_text((state_root / container.id / "state.json").read_text())
    assert pyrunc("delete", "--force", "copied").code == 1
    assert (directory / "precious").exists()
    assert pyrunc.state(container)["status"] == "running"


def test_directories_that_are_no_containers_are_not_listed(foreign, pyrunc):
    foreign("theirs", holds=("passwd",))
    listed = pyrunc("list", "-q")
    assert (listed.code, listed.stdout, listed.stderr) == (0, "", "")
    assert "container does not exist" in pyrunc("state", "theirs").stderr


def test_links_and_files_in_the_root_are_not_listed(make_bundle, pyrunc, state_root):
    container = pyrunc.create(make_bundle())
    (state_root / "link").symlink_to(state_root / container.id)
    (state_root / "file").write_text("")
    listed = pyrunc("list", "-q")
    assert (listed.stdout, listed.stderr) == (f"{container.id}\n", "")


@pytest.mark.parametrize(("mode", "owner"), [(0o620, 0), (0o602, 0), (0o600, 1000)])
def test_a_record_that_others_can_write_to(make_bundle, pyrunc, state_root, mode, owner):
    """Its directory decides: `list` looks at that only if it is not sure of the record itself."""
    container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    directory = state_root / container.id
    record = directory / "state.json"
    record.chmod(mode)
    os.chown(record, owner, owner)
    assert pyrunc.state(container)["status"] == "running"
    (state,) = json.loads(pyrunc("list", "--format", "json").stdout)
    assert state["status"] == "running"
    directory.chmod(0o770)
    for command in (["list"], ["state", container.id]):
        assert "can be written to by others" in pyrunc(*command).stderr
    assert "damaged" in pyrunc("list").stdout
    directory.chmod(0o700)


@pytest.mark.parametrize("root", ["/", "//", "/./", "/tmp/.."])
def test_the_whole_file_system_is_no_state_root(pyrunc, root):
    # An id that no directory of the host has: the test must not need the refusal.
    name = "no-directory-of-the-host-has-this-name"
    assert not os.path.lexists(f"/{name}")
    for command in (["list"], ["state", name], ["delete", "--force", name]):
        done = pyrunc("--root", root, *command)
        assert done.code == 1
        assert "state root / holds the whole file system" in done.stderr


def test_a_root_that_others_can_write_to_is_refused(make_bundle, pyrunc, state_root):
    state_root.mkdir()
    bundle = make_bundle()
    for mode in (0o777, 0o1777, 0o720):
        state_root.chmod(mode)
        for command in (["create", "--bundle", bundle.path, "x"], ["state", "x"], ["list"]):
            bundle.save()
            done = pyrunc(*command)
            assert done.code == 1
            assert "can be written to by others" in done.stderr
    state_root.chmod(0o700)
    os.chown(state_root, 1000, 1000)
    assert "can be written to by others" in pyrunc("list").stderr


def test_the_root_and_the_directories_are_private(make_bundle, pyrunc, state_root):
    container = pyrunc.create(make_bundle(), umask=0)
    assert state_root.stat().st_mode & 0o777 == 0o700
    assert (state_root / container.id).stat().st_mode & 0o777 == 0o700
    for file in (state_root / container.id).iterdir():
        assert file.stat().st_mode & 0o077 == 0


def test_a_symlinked_directory_is_not_followed(make_bundle, pyrunc, state_root, tmp_path):
    container = pyrunc.create(make_bundle())
    elsewhere = tmp_path / "elsewhere"
    (state_root / container.id).rename(elsewhere)
    (state_root / container.id).symlink_to(elsewhere)
    for command in (["state"], ["start"], ["kill"], ["delete", "--force"]):
        pyrunc(*command, container.id)
    assert (elsewhere / "state.json").exists()
    assert pyrunc("state", container.id).code == 1
    (state_root / container.id).unlink()
    elsewhere.rename(state_root / container.id)
    assert pyrunc.state(container)["status"] == "created"
