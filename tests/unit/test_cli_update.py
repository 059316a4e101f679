"""``update`` turns its options into the shape of linux.resources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyrunc.cli import flags, update
from pyrunc.errors import Error


def limits(*words: str) -> tuple[dict[str, Any], dict[str, str] | None]:
    return update.limits(flags.parse(update.FLAGS, words)[0])


@pytest.mark.parametrize(
    ("words", "resources"),
    [
        ((), {}),
        (("--memory", "512m"), {"memory": {"limit": 512 << 20}}),
        (("--memory=-1", "--memory-swap=-1"), {"memory": {"limit": -1, "swap": -1}}),
        (("--memory-reservation", "1g"), {"memory": {"reservation": 1 << 30}}),
        (("--cpu-share", "512"), {"cpu": {"shares": 512}}),
        (("--cpu-quota", "-1", "--cpu-period", "0"), {"cpu": {"quota": -1, "period": 0}}),
        (("--cpu-burst", "500", "--cpu-idle", "1"), {"cpu": {"burst": 500, "idle": 1}}),
        (("--cpuset-cpus", "0-1"), {"cpu": {"cpus": "0-1"}}),
        (("--pids-limit", "-1"), {"pids": {"limit": -1}}),
        (("--pids-limit", "0"), {"pids": {"limit": 0}}),
        (("--blkio-weight", "500"), {"blockIO": {"weight": 500}}),
        (("--memory", ""), {}),
    ],
)
def test_only_what_is_mentioned_is_there(words: tuple[str, ...], resources: object) -> None:
    assert limits(*words) == (resources, None)


def test_cache_schemas_are_apart() -> None:
    assert limits("--l3-cache-schema", "L3:0=f") == ({}, {"l3CacheSchema": "L3:0=f"})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--memory", "foo"), "invalid value for memory: invalid size: 'foo'"),
        (
            ("--cpu-period", "foo"),
            'invalid value for cpu-period: strconv.ParseUint: parsing "foo": invalid syntax',
        ),
        (
            ("--cpu-period", "-1"),
            'invalid value for cpu-period: strconv.ParseUint: parsing "-1": invalid syntax',
        ),
        (
            ("--cpu-quota", "9" * 19),
            'invalid value for cpu-quota: strconv.ParseInt: parsing "9999999999999999999":'
            " value out of range",
        ),
        (
            ("--blkio-weight", "99999"),
            "invalid value for blkio-weight: 99999 is not between 10 and 1000",
        ),
    ],
)
def test_a_value_that_makes_no_sense_is_named(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(Error) as caught:
        limits(*words)
    assert str(caught.value) == message


def test_a_file_replaces_all_options(tmp_path: Path) -> None:
    path = tmp_path / "resources.json"
    path.write_text('{"memory": {"limit": 5}}')
    assert limits("-r", str(path), "--memory", "9") == ({"memory": {"limit": 5}}, None)


@pytest.mark.parametrize("content", ["{", "[]", "", "\xff"])
def test_a_file_that_is_no_json_object_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "resources.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(Error, match=f"resources in {path}: "):
        limits("-r", str(path))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Error, match="no such file or directory"):
        limits("-r", str(tmp_path / "none"))
