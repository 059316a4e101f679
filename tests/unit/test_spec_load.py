"""Reading config.json: from the file to the checked Spec, and what is said when that fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import pyrunc
from pyrunc.errors import Error, InvalidConfig
from pyrunc.spec.default import default_spec
from pyrunc.spec.load import check, load, load_process, parse_resources

DATA = Path(__file__).parents[1] / "data"
FROM_ENGINES = sorted([*(DATA / "spec").glob("*.json"), *(DATA / "configs").glob("*.json")])
SOURCE = str(Path(pyrunc.__file__).parents[1])


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.json"

    def write(contents):
        raw = contents if isinstance(contents, bytes) else json.dumps(contents).encode()
        path.write_bytes(raw)
        return str(path)

    return write


@pytest.mark.parametrize("path", FROM_ENGINES, ids=lambda path: path.stem)
def test_configs_of_engines_are_good(path):
    assert load(str(path))["ociVersion"].startswith("1.")


def test_what_is_loaded_is_what_is_written(config):
    assert load(config(default_spec(cgroup_v2=False))) == default_spec(cgroup_v2=False)


def test_nulls_are_left_out(config):
    spec = default_spec(cgroup_v2=False)
    spec["process"].update(rlimits=None, capabilities=None, apparmorProfile=None)
    spec["linux"]["seccomp"] = None
    spec["mounts"][0]["options"] = None
    loaded = load(config(spec))
    assert "rlimits" not in loaded["process"]
    assert "capabilities" not in loaded["process"]
    assert "seccomp" not in loaded["linux"]
    assert loaded["mounts"][0] == {"destination": "/proc", "type": "proc", "source": "proc"}


def test_unknown_members_are_kept_and_not_looked_at(config):
    spec = {**default_spec(cgroup_v2=False), "windows": {"x": [1.5]}, "org.example": 1}
    assert load(config(spec)) == spec


@pytest.mark.parametrize(
    ("version", "limit", "kept"),
    [
        ("1.0.2-dev", 0, False),
        ("1.2.1", 0, False),
        ("1.3.0", 0, True),
        ("1.10.0", 0, True),
        ("1.2.1", -1, True),
        ("1.0.2", 5, True),
    ],
)
def test_a_pids_limit_of_zero_is_none_before_1_3(config, version, limit, kept):
    spec = {"ociVersion": version, "root": {"path": "r"}}
    spec["linux"] = {"resources": {"pids": {"limit": limit}, "devices": []}}
    assert ("pids" in load(config(spec))["linux"]["resources"]) == kept


def test_every_mistake_is_in_the_error(config):
    spec = default_spec(cgroup_v2=False)
    spec["ociVersion"] = "nine"
    spec["process"]["cwd"] = "relative"
    spec["linux"]["namespaces"].append({"type": "moon"})
    path = config(spec)
    with pytest.raises(InvalidConfig) as refused:
        load(path)
    assert [mistake[0] for mistake in refused.value.mistakes] == [
        "ociVersion",
        "process.cwd",
        "linux.namespaces[5].type",
    ]
    assert "\n" not in str(refused.value)
    assert '; process.cwd: expected an absolute path, found "relative"; ' in str(refused.value)
    _, second, _ = refused.value.lines
    assert second == f'{path}: process.cwd: expected an absolute path, found "relative"'


def test_no_control_character_of_the_config_reaches_the_message(config):
    nasty = "\x1b]0;pwned\x07\n\x9b31m\x7f" + "x" * 1000
    spec = default_spec(cgroup_v2=False)
    spec["process"]["cwd"] = nasty
    spec["linux"]["sysctl"] = {nasty: "1", "vm." + nasty: "1"}
    spec["annotations"] = {nasty: 1}
    spec["linux"]["namespaces"].append({"type": nasty})
    with pytest.raises(InvalidConfig) as refused:
        load(config(spec))
    for line in (str(refused.value), *refused.value.lines):
        assert line.isascii()
        assert line.isprintable()
    assert all(len(line) < 400 for line in refused.value.lines)


def test_a_missing_config_says_what_to_do(tmp_path):
    with pytest.raises(Error, match=r"config\.json not found: .*no such file.*--bundle"):
        load(f"{tmp_path}/config.json")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_only_a_regular_file_is_read(tmp_path, make):
    path = f"{tmp_path}/config.json"
    make(path)
    with pytest.raises(Error, match="not a regular file"):
        load(path)


def test_a_path_with_nul_is_an_error():
    with pytest.raises(Error, match="NUL"):
        load("/a\0b")


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (b'{"a": }', "line 1 column 7"),
        (b"", "line 1 column 1"),
        (b"[]", "the whole: expected an object, found an empty array"),
        (b"null", "the whole: expected an object, found null"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b'"\xff"', "expected UTF-8"),
        (b'{"x": "\\ud800"}', "surrogate"),
    ],
)
def test_what_is_no_config_at_all(config, contents, words):
    with pytest.raises(InvalidConfig, match=words):
        load(config(contents))


def test_a_pair_of_escaped_surrogates_is_a_character(config):
    path = config({**default_spec(cgroup_v2=False), "annotations": {"a": "\U0001f600"}})
    assert b"\\ud83d" in Path(path).read_bytes()
    assert load(path)["annotations"] == {"a": "\U0001f600"}


def test_a_config_of_50_mib_is_refused_quickly(tmp_path):
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(50 << 20)
    with pytest.raises(Error, match="larger than 16 MiB"):
        load(str(path))


@pytest.mark.parametrize("flood", [[1] * 1_000_000, [{"options": [1] * 1000}] * 1000])
def test_a_flood_of_mistakes_is_cut_off(config, flood):
    spec = {**default_spec(cgroup_v2=False), "mounts": flood}
    with pytest.raises(InvalidConfig) as refused:
        load(config(spec))
    assert len(refused.value.mistakes) == 501
    assert refused.value.mistakes[-1] == ("the rest", "no mistakes", "more than 500")


def test_a_process_on_its_own(config):
    assert load_process(config({"args": ["ls"], "cwd": "/", "user": None})) == {
        "args": ["ls"],
        "cwd": "/",
    }
    with pytest.raises(InvalidConfig, match="args"):
        load_process(config({"args": [], "cwd": "/"}))


def test_resources_on_their_own():
    assert parse_resources(b'{"memory": {"limit": -1}, "cpu": null}', "-") == {
        "memory": {"limit": -1}
    }
    with pytest.raises(InvalidConfig, match=r"-: pids\.limit"):
        parse_resources(b'{"pids": {"limit": "max"}}', "-")


def test_checking_a_large_seccomp_section_takes_about_a_millisecond():
    calls = [{"names": [f"call{i}"], "action": "SCMP_ACT_ALLOW"} for i in range(400)]
    spec = default_spec(cgroup_v2=False)
    spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": calls}
    best = 1.0
    for _ in range(20):
        began = time.perf_counter()
        assert check(spec) == []
        best = min(best, time.perf_counter() - began)
    assert best < 0.003  # under 1 ms on an idle machine; the slack is for busy ones


def test_loading_imports_only_what_the_hot_path_may():
    program = f"""
import sys
sys.path.insert(0, {SOURCE!r})
before = set(sys.modules)
from pyrunc.spec.load import load
load({str(DATA / "spec" / "podman-plain.json")!r})
print(*sorted(set(sys.modules) - before))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True
    )
    imported = {name for name in done.stdout.split() if not name.startswith("pyrunc")}
    assert imported <= {"__future__", "_json", "errno", "posix", "sys", "time", "marshal"}


def capitals(value, *path):
    """Return ``value`` with the name of one member, however deep, in capitals."""
    holder = value
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1].upper()] = holder.pop(path[-1])
    return value


@pytest.mark.parametrize(
    "path",
    [
        ("process",),
        ("process", "args"),
        ("mounts", 1, "options"),
        ("linux", "resources", "devices", 0, "allow"),
        ("ociVersion",),
    ],
)
def test_a_name_in_another_case_is_taken_and_noted(config, path):
    good = default_spec(cgroup_v2=False)
    spec = capitals(default_spec(cgroup_v2=False), *path)
    notes = []
    assert load(config(spec), notes=notes) == good
    (note,) = notes
    assert f'["{path[-1].upper()}"] is taken for the name "{path[-1]}"' in note
    assert check(spec) == []


def test_names_in_another_case_are_checked_like_others(config):
    spec = capitals(default_spec(cgroup_v2=False), "process", "cwd")
    capitals(spec, "process")
    spec["PROCESS"]["CWD"] = "relative"
    with pytest.raises(InvalidConfig) as refused:
        load(config(spec))
    assert [mistake[0] for mistake in refused.value.mistakes] == ["process.cwd"]


def test_two_spellings_of_one_member_are_a_mistake(config):
    """Which of them counts is a matter of the decoder: nobody should have to guess."""
    spec = default_spec(cgroup_v2=False)
    spec["process"]["Args"] = ["other"]
    with pytest.raises(InvalidConfig, match=r'process\["Args"\]: expected the name "args", found'):
        load(config(spec))


def test_maps_have_names_of_any_case(config):
    spec = default_spec(cgroup_v2=False)
    spec["annotations"] = {"A": "1", "a": "2", "Process": "3"}
    notes = []
    assert load(config(spec), notes=notes)["annotations"] == spec["annotations"]
    assert notes == []


def test_very_many_names_in_another_case_do_not_take_for_ever():
    """Each correction costs a whole check: after some hundred they are mistakes."""
    spec = default_spec(cgroup_v2=False)
    spec["mounts"] += [{"Destination": "/x", "Type": "tmpfs"} for _ in range(20000)]
    assert len(check(spec)) > 400
