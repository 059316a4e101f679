"""Launch programs that are none: init refuses them before it carries out anything of them.

Damaged programs are given to init as it is, and many more to a build of it with sanitizers, in
which no system call is made (hosted_init.c). Seen failing without init/check.h: a label behind the
program's end, a relocation before the entries and others stop the sanitizers' build.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from pyrunc.process.launch import PID_WIDTH, LaunchProgram
from pyrunc.process.seal import execute_init, launch_fd, sealed_init

HEADER = struct.Struct("<IIIIIi8x")
ENTRY = 80
INTERESTING = (0, 1, 7, 8, 79, 80, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
HERE = Path(__file__).resolve().parent


def everything() -> bytes:
    """A program with entries of each kind."""
    program = LaunchProgram(report=4)
    program.reset_signals()
    program.call("open", "openat", -100, "/dev/null", 0, store_in_next=True)
    program.call("close", "close", 0)
    cell = program.cell()
    program.call("who", "getpid", store=cell, ignore=True)
    program.call("filter", "prctl", 22, 2, program.sock_fprog(bytes(range(64))))
    program.drop_capabilities(0x5)
    seccomp = program.seccomp_filter(0, program.sock_fprog(bytes(range(64))))
    program.hook("hook", "/bin/true", ["true"], ["A=b"], 3, 8, 0, seccomp)
    program.check_cwd("look")
    program.close_others(3, [4, 6], [5, 7])
    program.call("close", "close", cell, indirect=True)
    program.own_pid(program.blob(bytes(PID_WIDTH)), b" ")
    program.report_to(5)
    program.await_byte("wait", 6)
    program.spawn_into("go", 4, 7)
    program.await_living("wait", 6, 7)
    program.share(9)
    program.spawn("go", until_executed=True)
    program.execute("run", "/bin/true", ["true", "a", ""], ["PATH=/bin"])
    return program.encode()


def small() -> bytes:
    program = LaunchProgram()
    program.execute("run", "/bin/true", ["true"], [])
    return program.encode()


def damaged(program: bytes, generator: random.Random) -> bytes:
    """Change a program in a few places: numbers of the header, of the tables, of entries, any."""
    changed = bytearray(program)
    for _ in range(generator.choice((1, 1, 1, 2, 3, 8))):
        if not changed:
            break
        size = generator.choice((1, 4, 4, 8))
        ranges = ((0, HEADER.size), (0, len(changed)), (HEADER.size, len(changed) // 2))
        first, last = generator.choice(ranges)
        at = min(generator.randrange(first, max(last, first + 1)), len(changed) - 1)
        at = at // size * size if generator.random() < 0.8 else at
        way = generator.randrange(5)
        if way == 0:
            number = generator.choice(INTERESTING)
        elif way == 1:
            number = len(program) + generator.randrange(-16, 17)
        elif way == 2:
            number = generator.getrandbits(8 * size)
        elif way == 3:
            number = generator.randrange(len(program))
        else:
            number = int.from_bytes(changed[at : at + size], "little") + generator.choice(
                (-8, -1, 1, 8)
            )
        changed[at : at + size] = (number % (1 << 8 * size)).to_bytes(size, "little")
    if generator.random() < 0.1:
        changed = changed[: generator.randrange(len(changed) + 1)]
        if len(changed) >= 8 and generator.random() < 0.8:
            changed[4:8] = len(changed).to_bytes(4, "little")
    return bytes(changed)


@pytest.fixture(scope="session")
def hosted(tmp_path_factory):
    """Carry out programs in the build with sanitizers; return a letter for each."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("needs a C compiler")
    binary = tmp_path_factory.mktemp("hosted") / "hosted_init"
    flags = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    words = [compiler, *flags, "-o", binary, HERE / "hosted_init.c"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs a compiler with sanitizers: {done.stderr[:300]}")

    def carry_out(programs: list[bytes]) -> str:
        given = b"".join(struct.pack("<I", len(program)) + program for program in programs)
        # Init gives nothing back: its memory ends with its process.
        environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
        done = subprocess.run(
            [binary], input=given, capture_output=True, check=False, env=environment
        )
        letters = done.stdout.decode()
        if done.returncode and len(letters) < len(programs):
            guilty = programs[len(letters)]
            Path(binary.parent / "guilty").write_bytes(guilty)
            raise AssertionError(f"{guilty!r}: {done.stderr.decode(errors='replace')[:3000]}")
        return letters

    return carry_out


def test_what_python_writes_is_accepted(hosted):
    assert "r" not in hosted([everything(), small(), everything()])


@pytest.mark.parametrize("make", [everything, small])
def test_damaged_programs_under_sanitizers(hosted, tally, factor, make):
    program = make()
    refused = 0
    first = int(os.environ.get("HOSTILE_SEED", "0"))
    for seed in range(first, first + 2 * factor):
        generator = random.Random(seed)
        programs = [damaged(program, generator) for _ in range(5000)]
        letters = hosted(programs)
        refused += letters.count("r")
        for number in range(len(programs)):
            tally(f"seed {seed}, program {number}", [] if number < len(letters) else ["no answer"])
    assert refused > 1000


def patched(program: bytes, at: int, form: str, number: int) -> bytes:
    changed = bytearray(program)
    struct.pack_into(form, changed, at, number)
    return bytes(changed)


def with_side_effect(witness: Path) -> tuple[bytes, int]:
    """A program that makes a file first, and where its second entry lies."""
    program = LaunchProgram()
    program.call("make a file", "mknodat", -100, str(witness), 0o100600, 0)
    program.execute("run", "/bin/true", ["true"], ["A=b"])
    encoded = program.encode()
    return encoded, HEADER.unpack_from(encoded)[4] + ENTRY


def unterminated(program: bytes, _: int) -> bytes:
    """The last text goes to the end, and has none."""
    at = program.rindex(b"A=b\0")
    changed = program[: at + 3]
    return patched(changed, 4, "<I", len(changed))


DAMAGES = {
    "magic": lambda p, _: patched(p, 0, "<I", 1),
    "size": lambda p, _: patched(p, 4, "<I", len(p) + 1),
    "cut off": lambda p, _: p[:-8],
    "longer": lambda p, _: p + bytes(8),
    "too many relocations": lambda p, _: patched(p, 8, "<I", 1 << 30),
    "too many entries": lambda p, _: patched(p, 12, "<I", 1 << 27),
    "entries elsewhere": lambda p, _: patched(p, 16, "<I", 0),
    "entries unaligned": lambda p, _: patched(p, 16, "<I", HEADER.unpack_from(p)[4] + 4),
    "relocation in the header": lambda p, _: patched(p, HEADER.size, "<I", 8),
    "relocation outside": lambda p, _: patched(p, HEADER.size, "<I", len(p)),
    "relocation twice": lambda p, _: p[:36] + p[32:36] + p[40:],
    "pointer outside": lambda p, at: patched(p, at + 72, "<Q", len(p)),
    "kind": lambda p, at: patched(p, at, "<I", 99),
    "flags": lambda p, at: patched(p, at + 4, "<I", 8),
    "result into the entries": lambda p, at: patched(p, at + 64, "<Q", 16),
    "a text without end": unterminated,
}


@pytest.mark.parametrize("name", DAMAGES)
def test_init_does_nothing_of_a_damaged_program(tmp_path, name):
    program, second = with_side_effect(tmp_path / "made")
    encoded = DAMAGES[name](program, second)
    assert encoded != program
    pid = os.fork()
    if pid == 0:
        try:
            execute_init(sealed_init(), launch_fd(encoded))
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert not (tmp_path / "made").exists()


def test_the_undamaged_program_is_carried_out(tmp_path):
    program, _ = with_side_effect(tmp_path / "made")
    pid = os.fork()
    if pid == 0:
        try:
            execute_init(sealed_init(), launch_fd(program))
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (tmp_path / "made").exists()
