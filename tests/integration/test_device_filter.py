"""The v2 device filter against the v1 kernel code whose meaning it has: the same verdicts."""

import os
import random
import sys
from pathlib import Path

import pytest

from pyrunc.cgroups.device_filter import fold, program
from pyrunc.cgroups.devices import Rule, v1_writes

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))
from ebpf import run

DEVICES = Path("/sys/fs/cgroup/devices")
NUMBERS = (240, 241, 242)
LISTS = 220

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="making device nodes needs root"),
    pytest.mark.skipif(
        not (DEVICES / "devices.list").exists(), reason="no v1 devices cgroup on this host"
    ),
]


def random_rules(source: random.Random) -> list[Rule]:
    rules = [Rule(source.random() < 0.3, "a", -1, -1, "rwm")]
    for _ in range(source.randint(0, 8)):
        if source.random() < 0.06:
            rules.append(Rule(source.random() < 0.5, "a", -1, -1, "rwm"))
            continue
        access = "".join(letter for letter in "rwm" if source.random() < 0.6) or "r"
        rules.append(
            Rule(
                source.random() < 0.5,
                source.choice("bc"),
                source.choice((-1, *NUMBERS)),
                source.choice((-1, *NUMBERS)),
                access,
            )
        )
    return rules


def kernel_verdicts(cgroup: Path, nodes: Path) -> dict[tuple[str, int, int, str], bool]:
    """Ask the kernel from a child in the cgroup: access(2) checks as open does, mknod(2) itself."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        answers = bytearray()
        try:
            (cgroup / "cgroup.procs").write_text(str(os.getpid()))
            for kind, major, minor in everything():
                node = nodes / f"{kind}{major}-{minor}"
                for mode in (os.R_OK, os.W_OK, os.R_OK | os.W_OK):
                    answers.append(os.access(node, mode))
                made = nodes / "made"
                mode = 0o020600 if kind == "c" else 0o060600
                try:
                    os.mknod(made, mode, os.makedev(major, minor))
                    made.unlink()
                    answers.append(1)
                except PermissionError:
                    answers.append(0)
            os.write(write, bytes(answers))
        finally:
            os._exit(0)
    os.close(write)
    answers = b""
    while piece := os.read(read, 4096):
        answers += piece
    os.close(read)
    os.waitpid(child, 0)
    keys = [(*d, access) for d in everything() for access in ("r", "w", "rw", "m")]
    assert len(answers) == len(keys)
    return {key: bool(answer) for key, answer in zip(keys, answers, strict=True)}


def everything() -> list[tuple[str, int, int]]:
    return [(k, major, minor) for k in "bc" for major in NUMBERS for minor in NUMBERS]


def test_verdicts_equal_those_of_the_v1_kernel(tmp_path):
    source = random.Random(20261124)
    for kind, major, minor in everything():
        mode = 0o020600 if kind == "c" else 0o060600
        os.mknod(tmp_path / f"{kind}{major}-{minor}", mode, os.makedev(major, minor))
    cgroup = DEVICES / f"pyrunc-filter-{os.getpid()}"
    cgroup.mkdir()
    try:
        for _ in range(LISTS):
            rules = random_rules(source)
            for name, line in v1_writes(rules):
                (cgroup / name).write_text(line)
            code = program(fold(rules))
            for (kind, major, minor, access), allowed in kernel_verdicts(cgroup, tmp_path).items():
                ours = run(code, kind, major, minor, access)
                shown = [f"{'allow' if r.allow else 'deny'} {r.line()}" for r in rules]
                assert ours == allowed, (kind, major, minor, access, shown)
    finally:
        cgroup.rmdir()
