"""--trace: where the time of a command goes, on a track for each process."""

from __future__ import annotations

import itertools
import json

import pytest

TRACKS = {"runtime": 1, "builder": 2, "init": 3}


def events_of(path):
    return json.loads(path.read_text())


@pytest.fixture
def traced(pyrunc, tmp_path):
    def run(*words):
        path = tmp_path / "trace.json"
        done = pyrunc("--trace", str(path), *words)
        assert done.code == 0, done
        return events_of(path)

    return run


def names(events, track):
    return [e["name"] for e in events if e["ph"] == "X" and e["tid"] == TRACKS[track]]


def test_run_is_on_three_tracks(make_bundle, pyrunc, traced):
    bundle = make_bundle(args=["true"])
    bundle.save()
    events = traced("run", "-b", str(bundle.path), pyrunc.new_id())
    tracks = {e["args"]["name"]: e["tid"] for e in events if e["name"] == "thread_name"}
    assert tracks == TRACKS
    assert "load and check config.json" in names(events, "runtime")
    assert "mount proc on /proc" in names(events, "builder")
    assert names(events, "init")[0] == "become undumpable"
    assert names(events, "init")[-1] == "tell that the program is executed"


def test_times_follow_each_other_across_the_processes(make_bundle, pyrunc, traced):
    bundle = make_bundle(args=["true"])
    bundle.save()
    events = traced("run", "-b", str(bundle.path), pyrunc.new_id())
    spans = {
        track: [
            (e["ts"], e["ts"] + e["dur"]) for e in events if e.get("tid") == number and "ts" in e
        ]
        for track, number in TRACKS.items()
    }
    for track in spans.values():
        assert all(a[1] <= b[0] + 1 for a, b in itertools.pairwise(track))
    assert spans["runtime"][0][0] < spans["builder"][0][0] < spans["init"][0][0]
    assert spans["builder"][-1][1] <= spans["init"][0][0]
    assert spans["init"][-1][1] <= spans["runtime"][-1][1]


def test_exec_shows_init_too(make_bundle, pyrunc, traced):
    container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    events = traced("exec", container.id, "true")
    assert "join the container's namespaces" in names(events, "init")


def test_a_container_does_not_see_the_trace(make_bundle, pyrunc, tmp_path):
    bundle = make_bundle(args=["ls", "-l", "/proc/self/fd"])
    bundle.save()
    words = ("--trace", str(tmp_path / "t"), "run", "-b", str(bundle.path), pyrunc.new_id())
    assert "trace" not in pyrunc(*words).stdout


def test_a_strict_filter_is_no_obstacle(make_bundle, pyrunc, traced):
    """Once a filter is in force init tells no more times: the filter might end it for that."""
    bundle = make_bundle(args=["true"])
    bundle.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["clock_gettime", "pwrite64"], "action": "SCMP_ACT_KILL_PROCESS"}],
    }
    for no_new_privileges in (True, False):
        bundle.config["process"]["noNewPrivileges"] = no_new_privileges
        bundle.save()
        events = traced("run", "-b", str(bundle.path), pyrunc.new_id())
        assert "reset the signals" in names(events, "init")


def test_names_are_json_whatever_is_in_them(make_bundle, pyrunc, traced):
    bundle = make_bundle(args=["true"])
    target = '/caf\u00e9 "quoted" \\ \t'
    bundle.mount(target, "tmpfs", "tmpfs")
    bundle.save()
    events = traced("run", "-b", str(bundle.path), pyrunc.new_id())
    assert f"mount tmpfs on {target}" in names(events, "builder")


def test_the_array_is_closed_when_the_command_fails(make_bundle, pyrunc, tmp_path):
    path = tmp_path / "trace.json"
    bundle = make_bundle(args=["/nowhere"])
    bundle.save()
    for words in (["run", "-b", bundle.path, pyrunc.new_id()], ["state", "nobody"]):
        assert pyrunc("--trace", path, *words).code == 1
        assert events_of(path)
