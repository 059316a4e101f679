"""docs/conformance.md keeps its word: no empty cell, no place and no test that there is not."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import NamedTuple

import pytest

TOP = Path(__file__).resolve().parents[2]
DOCUMENT = TOP / "docs/conformance.md"
HEADER = ["requirement", "where", "test"]
PLACE = re.compile(r"`([\w/.-]+\.(?:py|c|h))(?:: ([\w.]+))?`")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


class Row(NamedTuple):
    line: int
    #: The headings above: page, section.
    section: str
    cells: list[str]


def rows() -> list[Row]:
    """Return the rows of all tables."""
    found = []
    headings: dict[int, str] = {}
    for number, line in enumerate(DOCUMENT.read_text().splitlines(), 1):
        if line.startswith("#"):
            marks, _, text = line.partition(" ")
            headings = {k: v for k, v in headings.items() if k < len(marks)} | {len(marks): text}
        elif line.startswith("|") and set(line) - set("|-: "):
            # A "\|" in a cell is no border.
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
            if cells != HEADER:
                found.append(Row(number, " / ".join(headings.values()), cells))
    return found


ROWS = rows()


@functools.cache
def names_in(path: str) -> frozenset[str]:
    """Return what a module defines: functions, classes, methods (also Class.method), constants."""
    names = set()
    tree = ast.parse((TOP / path).read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{m.name}" for m in node.body if isinstance(m, ast.FunctionDef)}
    return frozenset(names)


@functools.cache
def module_tests(path: str) -> dict[str, bool]:
    """Return the tests of a module, and whether each is skipped whatever the machine is like."""
    tree = ast.parse((TOP / path).read_text())
    all_skipped = any(
        isinstance(node, ast.Assign)
        and any(isinstance(t, ast.Name) and t.id == "pytestmark" for t in node.targets)
        and always_skips(node.value)
        for node in tree.body
    )
    return {
        node.name: all_skipped or any(map(always_skips, node.decorator_list)) or gives_up(node)
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }


def always_skips(mark: ast.expr) -> bool:
    """Tell whether a mark is ``pytest.mark.skip``, or ``skipif`` with a constant that holds."""
    if isinstance(mark, ast.List | ast.Tuple):
        return any(map(always_skips, mark.elts))
    called = mark.func if isinstance(mark, ast.Call) else mark
    name = ast.unparse(called)
    if name == "pytest.mark.skip":
        return True
    condition = mark.args[:1] if isinstance(mark, ast.Call) else []
    return name == "pytest.mark.skipif" and any(
        isinstance(c, ast.Constant) and bool(c.value) for c in condition
    )


def gives_up(test: ast.FunctionDef) -> bool:
    """Tell whether ``pytest.skip()`` or ``pytest.xfail()`` is the first thing that a test does."""
    first = [s for s in test.body if not is_docstring(s)][:1]
    return any(
        isinstance(s, ast.Expr)
        and isinstance(s.value, ast.Call)
        and ast.unparse(s.value.func) in ("pytest.skip", "pytest.xfail")
        for s in first
    )


def is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def wrong_places(where: str) -> list[str]:
    """Return the source files and names in a cell that there are not; paths are below src/pyrunc.

    What is no place, such as "the caller's", is words for the reader.
    """
    wrong = []
    for path, name in PLACE.findall(where):
        found = [p for p in (f"src/pyrunc/{path}", path) if (TOP / p).is_file()]
        if not found:
            wrong.append(path)
        elif name and path.endswith(".py"):
            if name not in names_in(found[0]):
                wrong.append(f"{path}: {name}")
        elif name and not re.search(rf"\b{name}\b", (TOP / found[0]).read_text()):
            wrong.append(f"{path}: {name}")
    return wrong


def wrong_tests(cell: str) -> list[str]:
    """Return the tests in a cell that there are not, or that never run."""
    wrong = []
    for path, name in TEST.findall(cell):
        if not (TOP / path).is_file() or name not in module_tests(path):
            wrong.append(f"{path}::{name} is not there")
        elif module_tests(path)[name]:
            wrong.append(f"{path}::{name} is always skipped")
    return wrong


def failing(check) -> list[str]:
    return [f"line {row.line} ({row.section}): {said}" for row in ROWS for said in check(row)]


def test_the_document_has_tables():
    assert len(ROWS) > 100
    # Each page of the specification about this runtime's part has its rows.
    pages = {row.section.split(" / ")[1] for row in ROWS}
    assert {"config-linux.md", "runtime-linux.md", "features-linux.md"} <= pages


def test_no_cell_is_empty():
    def check(row):
        if len(row.cells) != len(HEADER):
            return [f"{len(row.cells)} cells"]
        return [f"no {name}" for name, cell in zip(HEADER, row.cells, strict=True) if not cell]

    assert failing(check) == []


def test_every_place_is_there():
    assert failing(lambda row: wrong_places(row.cells[1])) == []


def test_every_test_is_there_and_runs():
    assert failing(lambda row: wrong_tests(row.cells[2])) == []


def test_a_cell_of_tests_holds_nothing_but_tests():
    def check(row):
        parts = row.cells[2].split("<br>")
        return [part for part in parts if not TEST.fullmatch(part.strip())]

    assert failing(check) == []


@pytest.mark.parametrize(
    "where",
    [
        "`spec/nowhere.py`",
        "`spec/linux.py: nothing`",
        "`rootfs/mount.py: BindMount.nothing`",
        "`init/init.c: no_such_function`",
        "the caller's, but `spec/linux.py: nothing` too",
    ],
)
def test_a_place_that_is_not_there_is_noticed(where):
    assert len(wrong_places(where)) == 1


@pytest.mark.parametrize(
    "test", ["tests/unit/test_conformance.py::nothing", "tests/unit/nothing.py::test_a"]
)
def test_a_test_that_is_not_there_is_noticed(test):
    assert wrong_tests(f"`{test}`") == [f"{test} is not there"]


@pytest.mark.parametrize(
    ("mark", "never_runs"),
    [
        ("pytest.mark.skip", True),
        ("pytest.mark.skip(reason='a')", True),
        ("pytest.mark.skipif(True, reason='a')", True),
        ("[pytest.mark.usefixtures('a'), pytest.mark.skip]", True),
        ("pytest.mark.skipif(MACHINE != 'x86_64', reason='a')", False),
        ("pytest.mark.parametrize('a', [1])", False),
    ],
)
def test_a_mark_that_always_skips_is_noticed(mark, never_runs):
    assert always_skips(ast.parse(mark, mode="eval").body) == never_runs
