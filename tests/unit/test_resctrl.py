"""Classes of service and monitoring groups (config-linux.md, "IntelRdt").

Few machines have resctrl. Its directories are like those of cgroup v1, with a file ``tasks``: a
cgroup stands in for it where tasks are moved, a plain directory where schemas are written.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pyrunc.cgroups import resctrl
from pyrunc.errors import Error

SCHEMATA = "    L3:0=7f0;1=001f\n    MB:0=100;1=70\n"


@pytest.fixture
def root(tmp_path):
    """Two classes of service, and files that take what is written."""
    (tmp_path / "info").mkdir()
    (tmp_path / "info/last_cmd_status").write_text("ok\n")
    for directory in (tmp_path, tmp_path / "gold"):
        (directory / "mon_groups").mkdir(parents=True)
        (directory / "schemata").write_text(SCHEMATA)
        (directory / "tasks").write_text("")
    return tmp_path


@pytest.fixture
def hierarchy():
    """A cgroup of v1: directories with a file ``tasks``, which go with all that is in them."""
    path = Path(f"/sys/fs/cgroup/pids/test-resctrl-{os.getpid()}")
    if os.geteuid() or not path.parent.is_mount():
        pytest.skip("needs root and cgroup v1")
    path.mkdir()
    yield path
    for directory, _, _ in os.walk(path, topdown=False):
        os.rmdir(directory)


@pytest.fixture
def sleeper():
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process.pid
        process.kill()


def test_without_a_name_it_has_the_container_s_and_goes_with_it(hierarchy, sleeper):
    group = resctrl.open_group({}, "box", str(hierarchy))
    group.create({})
    group.attach([sleeper])
    assert (hierarchy / "box/tasks").read_text() == f"{sleeper}\n"
    (hierarchy / "tasks").write_text(str(sleeper))
    again = resctrl.from_state(group.to_state())
    again.destroy()
    assert not (hierarchy / "box").exists()
    # Removed twice is removed.
    again.destroy()


def test_one_of_this_name_that_was_there_stays(hierarchy):
    (hierarchy / "box").mkdir()
    group = resctrl.open_group({}, "box", str(hierarchy))
    group.create({})
    group.destroy(undo=True)
    assert (hierarchy / "box").exists()


def test_a_class_of_the_config_s_stays(hierarchy, sleeper):
    (hierarchy / "gold").mkdir()
    group = resctrl.open_group({"closID": "gold"}, "box", str(hierarchy))
    group.create({"closID": "gold"})
    group.attach([sleeper])
    assert (hierarchy / "gold/tasks").read_text() == f"{sleeper}\n"
    group.destroy(undo=True)
    assert (hierarchy / "gold").exists()


def test_the_default_class(hierarchy, sleeper):
    group = resctrl.open_group({"closID": "/"}, "box", str(hierarchy))
    group.create({"closID": "/"})
    group.attach([sleeper])
    group.destroy(undo=True)
    assert (hierarchy / "tasks").read_text() == f"{sleeper}\n"
    assert [entry.name for entry in hierarchy.iterdir() if entry.is_dir()] == []


def test_a_class_without_schemas_must_be_there(hierarchy):
    group = resctrl.open_group({"closID": "gold"}, "box", str(hierarchy))
    with pytest.raises(Error, match=r"closID gold: there is no directory .*/gold"):
        group.create({"closID": "gold"})
    assert not (hierarchy / "gold").exists()


def test_a_class_with_schemas_is_made_and_taken_back_when_they_are_refused(hierarchy):
    settings = {"closID": "gold", "schemata": ["L3:0=f"]}
    group = resctrl.open_group(settings, "box", str(hierarchy))
    # A cgroup has no such file.
    with pytest.raises(Error, match=r"cannot write 'L3:0=f' to .*/gold/schemata: no such file"):
        group.create(settings)
    assert (hierarchy / "gold").exists()
    group.destroy(undo=True)
    assert not (hierarchy / "gold").exists()


def test_a_class_that_is_gone_is_no_trouble_for_a_task_that_is_too(hierarchy):
    group = resctrl.open_group({}, "box", str(hierarchy))
    group.create({})
    with subprocess.Popen(["true"]) as process:
        process.wait()
    group.attach([process.pid])


def test_schemas_are_written_in_order(root, monkeypatch):
    written = []
    monkeypatch.setattr(
        resctrl.files, "write_file", lambda path, content: written.append((path, content))
    )
    settings = {
        "closID": "gold",
        "schemata": ["L2:0=1", "MB:1=20"],
        "memBwSchema": "MB:0=100;1=70",
        "l3CacheSchema": "L3:0=7f0;1=1f",
    }
    resctrl.open_group(settings, "box", str(root)).create(settings)
    assert [content for _, content in written] == [
        b"L3:0=7f0;1=1f\n",
        b"MB:0=100;1=70\n",
        b"L2:0=1\n",
        b"MB:1=20\n",
    ]
    assert {path for path, _ in written} == {f"{root}/gold/schemata"}


@pytest.mark.parametrize(
    "settings",
    [
        {"l3CacheSchema": "L3:0=07f0"},
        {"l3CacheSchema": "L3:1=1F;0=7F0"},
        {"memBwSchema": "MB:1=70"},
        {"l3CacheSchema": "L3:0=7f0;1=1f", "memBwSchema": "MB:0=100;1=70"},
    ],
)
def test_a_class_that_is_there_has_what_the_config_wants(root, settings):
    settings = {"closID": "gold", **settings}
    resctrl.open_group(settings, "box", str(root)).create(settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"l3CacheSchema": "L3:0=7ff"}, "it has L3:0=7f0;1=001f, and the config asks for L3:0=7ff"),
        ({"memBwSchema": "MB:0=70"}, "it has MB:0=100;1=70, and the config asks for MB:0=70"),
        ({"l3CacheSchema": "L3CODE:0=f"}, "it has no schema for L3CODE"),
    ],
)
def test_a_class_that_is_there_has_something_else(root, settings, said):
    settings = {"closID": "gold", **settings}
    with pytest.raises(Error, match=said):
        resctrl.open_group(settings, "box", str(root)).create(settings)
    assert (root / "gold/schemata").read_text() == SCHEMATA


def test_without_schemas_none_is_written(root):
    settings = {"closID": "gold"}
    resctrl.open_group(settings, "box", str(root)).create(settings)
    assert (root / "gold/schemata").read_text() == SCHEMATA


def test_the_kernel_s_explanation_is_told(root):
    (root / "info/last_cmd_status").write_text("Mask 5 has non-consecutive 1-bits\n")
    shutil.rmtree(root / "gold")
    (root / "gold/schemata").mkdir(parents=True)
    with pytest.raises(Error, match="Mask 5 has non-consecutive"):
        resctrl.Group(f"{root}/gold").write_schema("L3:0=5")


def test_monitoring(root, sleeper):
    settings = {"closID": "gold", "enableMonitoring": True}
    group = resctrl.open_group(settings, "box", str(root))
    group.create(settings)
    own = root / "gold/mon_groups/box"
    assert own.is_dir()
    (own / "tasks").touch()
    group.attach([sleeper])
    assert (own / "tasks").read_text() == str(sleeper)
    assert (root / "gold/tasks").read_text() == str(sleeper)
    for domain, count in (("mon_L3_00", 5), ("mon_L3_01", 7)):
        (own / "mon_data" / domain).mkdir(parents=True)
        (own / "mon_data" / domain / "mbm_total_bytes").write_text(f"{count}\n")
        (own / "mon_data" / domain / "mbm_local_bytes").write_text("Unavailable\n")
        (own / "mon_data" / domain / "llc_occupancy").write_text(f"{count * 2}\n")
    assert group.statistics() == {
        "l3_cache_schema_root": "L3:0=7f0;1=001f",
        "l3_cache_schema": "L3:0=7f0;1=001f",
        "mem_bw_schema_root": "MB:0=100;1=70",
        "mem_bw_schema": "MB:0=100;1=70",
        "mbm_stats": [{"mbm_total_bytes": 5}, {"mbm_total_bytes": 7}],
        "cmt_stats": [{"llc_occupancy": 10}, {"llc_occupancy": 14}],
    }
    with pytest.raises(Error, match="mon_groups/box: it is there already"):
        resctrl.open_group(settings, "box", str(root))
    shutil.rmtree(own)
    own.mkdir()
    group.destroy()
    assert not own.exists()
    assert (root / "gold").exists()


def test_a_monitoring_group_that_cannot_be_made_is_an_error(root):
    """As when the processor has no more of them; here it is a class that can have none."""
    settings = {"closID": "new", "enableMonitoring": True}
    (root / "new").mkdir()
    group = resctrl.open_group(settings, "box", str(root))
    with pytest.raises(Error, match=r"cannot make .*/new/mon_groups/box: "):
        group.create(settings)


def test_the_tasks_of_a_process_are_its_threads():
    assert os.getpid() in resctrl.tasks_of([os.getpid()])
