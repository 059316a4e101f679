"""Configs, processes, resources and seccomp sections with strange values: accepted, or refused.

What is accepted is taken through everything that needs no kernel: the plan, the values for cgroups
and systemd, device rules, the filter. The only exception is `Error`, which is shown in one line.
"""

from __future__ import annotations

import contextlib
import json

from hypothesis import given
from hypothesis import strategies as st
from strange import JUNK, RESOURCES, SECCOMP, changed, config

from pyrunc.cgroups import device_filter, devices, systemd_properties, v1_limits, v2_limits
from pyrunc.errors import Error
from pyrunc.plan.facts import Facts
from pyrunc.plan.planner import plan
from pyrunc.security import seccomp_compile
from pyrunc.spec import json_text, load

FACTS = Facts(
    cgroup_version=1,
    cgroup_mounts={"memory": "/sys/fs/cgroup/memory"},
    cgroup_paths={"memory": "/x"},
)


def encoded(document):
    return json.dumps(document).encode("utf-8", "replace")


def copy_of(document):
    return lambda: json.loads(json.dumps(document))


def carry(resources):
    """Compute what would be written for them."""
    for compute in (
        v1_limits.early_writes, v1_limits.late_writes,
        v2_limits.early_writes, v2_limits.late_writes,
        lambda r: systemd_properties.from_resources(r, 1),
        lambda r: systemd_properties.from_resources(r, 2),
    ):  # fmt: skip
        with contextlib.suppress(Error):
            compute(resources)
    rules = devices.rules_for(resources.get("devices"))
    devices.v1_writes(rules)
    with contextlib.suppress(Error):
        device_filter.program(device_filter.fold(rules))


@given(changed(config))
def test_configs(tmp_path_factory, document):
    path = tmp_path_factory.getbasetemp() / "fuzzed.json"
    path.write_bytes(encoded(document))
    try:
        spec = load.load(str(path))
        steps = plan(spec, "/bundle", b'{"pid":0}', FACTS).builder
    except Error as error:
        assert str(error)
        return
    for step in steps:
        assert step.describe()
    carry((spec.get("linux") or {}).get("resources") or {})
    with contextlib.suppress(Error):
        systemd_properties.from_annotations(spec.get("annotations") or {})


@given(changed(lambda: config()["process"]))
def test_processes(tmp_path_factory, document):
    path = tmp_path_factory.getbasetemp() / "fuzzed-process.json"
    path.write_bytes(encoded(document))
    with contextlib.suppress(Error):
        load.load_process(str(path))


@given(changed(copy_of(RESOURCES)))
def test_resources(document):
    with contextlib.suppress(Error):
        carry(load.parse_resources(encoded(document), "resources"))


@given(changed(copy_of(SECCOMP)))
def test_seccomp_sections(document):
    whole = config()
    whole["linux"]["seccomp"] = document
    if load.check(whole):
        return
    with contextlib.suppress(Error):
        compiled = seccomp_compile.compile_filter(document)
        assert len(compiled.bpf) % 8 == 0


@given(JUNK)
def test_anything_is_checked(value):
    for check in (load.check, load.check_process, load.check_resources):
        for mistake in check(value):
            assert str(mistake)


@given(st.binary(max_size=60) | JUNK.map(lambda v: json.dumps(v).encode()))
def test_texts_are_read_as_json_reads_them(text):
    """What json takes beyond the standard (NaN, infinite numbers) is refused."""
    try:
        ours = json_text.parse(text)
    except Error:
        ours = None
    else:
        assert json.loads(text) == ours
    if ours is None:
        return
    assert json.loads(json_text.encode(ours)) == ours


@given(st.data())
def test_damaged_texts(tmp_path_factory, data):
    """Bytes changed, cut out or put in somewhere in a config."""
    text = bytearray(encoded(config()))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(len(text) - 1, 0)))
        length = data.draw(st.sampled_from([0, 1, 1, 2, 8, 400]))
        text[at : at + length] = data.draw(
            st.binary(max_size=3)
            | st.sampled_from([b"{", b"}", b"[", b'"', b",", b":", b"\\", b"\\u"])
        )
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_bytes(bytes(text))
    with contextlib.suppress(Error):
        plan(load.load(str(path)), "/bundle", b'{"pid":0}', FACTS)
