"""What a snapshot may hold: modules that have asked the host nothing (docs/snapshot.md).

Commands go on from the memory of a process that loaded them earlier, with another environment, and
perhaps with other cgroups mounted. So a module finds things out when it is called, each time.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2] / "src/pyrunc"
#: Rooms of the library, which is no command.
LIBRARY = {"aio", "engine", "images", "sandbox"}
ASKING = {
    "files",
    "fcntl",
    "open",
    "os",
    "platform",
    "posix",
    "read_file",
    "sys",
    "syscall",
    "time",
}
#: Of the machine or of numbers alone.
ALLOWED = {"posix.makedev", "posix.sysconf", "posix.uname"}
#: What makes the system calls is chosen once; the builder, a fork, sets the other for itself; a
#: snapshot is keyed on the file of init.
CHOSEN_ONCE = {
    *(("libc.py", "_native"), ("libc.py", "_fetch")),
    *(("seal.py", "_proc"), ("seal.py", "_program")),
}
#: Reckons from constants.
PURE = {"default_filter.py"}


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(SOURCES.rglob("*.py")):
        if path.relative_to(SOURCES).parts[0] not in LIBRARY:
            yield path, ast.parse(path.read_text())


def run_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk over what is executed when a module is loaded: not the bodies of functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield node
        yield from run_at_import(node)


def test_no_module_asks_the_host_when_it_is_loaded() -> None:
    found = [
        f"{path.relative_to(SOURCES)}:{node.lineno} {called}"
        for path, tree in modules()
        for node in run_at_import(tree)
        if isinstance(node, ast.Call)
        and (called := ast.unparse(node.func)).split(".")[0] in ASKING
        and called not in ALLOWED
    ]
    assert found == []


def test_no_module_keeps_what_it_has_found() -> None:
    found = [
        f"{path.relative_to(SOURCES)}:{node.lineno} {name}"
        for path, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Global)
        for name in node.names
        if (path.name, name) not in CHOSEN_ONCE
    ]
    caches = [
        f"{path.relative_to(SOURCES)}:{node.lineno}"
        for path, tree in modules()
        if path.name not in PURE
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "functools"
        for alias in node.names
        if "cache" in alias.name
    ]
    assert found + caches == []
