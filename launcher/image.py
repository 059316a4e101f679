"""Make the start-up image: every module of pyrunc, compiled, in one file.

    python launcher/image.py SOURCE_DIRECTORY TARGET

An image serves exactly the Python version that made it; the file is named after
it, and under any other version the modules are imported in the ordinary way.
Docstrings are left out, as ``python -OO`` would: they are a third of the bytes. So are the
tables of line numbers, another quarter, and 0.3 ms of a `run`: with --debug, when a traceback
may be shown, the launcher takes the modules' files instead.

Layout: the finder (``image_finder.py``), the index, each after its length in 4
bytes, little endian; the modules. All in the marshal format of the interpreter. The
index is {module: (file, is package, offset, size)}.

A module is there as three things: the modules of the package that it imports, the names that
it takes from them, and its code without these imports. Annotations of functions are left out, too.
"""

from __future__ import annotations
import __future__

import ast
import marshal
import sys
from collections.abc import Collection
from pathlib import Path
from types import CodeType


def image_name() -> str:
    """Return the file's name inside the package, for the running interpreter."""
    return f"startup.{sys.implementation.cache_tag}"


def make_image(source: Path) -> bytes:
    """Return the image of the package below ``source`` (the directory that holds ``pyrunc``)."""
    files = {_module_name(path.relative_to(source)): path for path in source.glob("pyrunc/**/*.py")}
    modules = {name: _Module(name, path, files.keys()) for name, path in sorted(files.items())}
    index: dict[str, tuple[str, bool, int, int]] = {}
    code = b""
    for name, module in modules.items():
        path = f"/{files[name].relative_to(source)}"
        packed = marshal.dumps(module.packed(path[1:]))
        index[name] = (path, path.endswith("/__init__.py"), len(code), len(packed))
        code += packed
    finder_source = ast.parse(Path(__file__).with_name("image_finder.py").read_bytes())
    finder = marshal.dumps(_compile(finder_source, "image_finder.py"))
    table = marshal.dumps(index)
    lengths = len(finder).to_bytes(4, "little"), len(table).to_bytes(4, "little")
    return lengths[0] + finder + lengths[1] + table + code


def _module_name(relative: Path) -> str:
    parts = (
        relative.parent.parts if relative.name == "__init__.py" else relative.with_suffix("").parts
    )
    return ".".join(parts)


class _Module:
    """A module's source, taken apart."""

    def __init__(self, name: str, path: Path, known: Collection[str]) -> None:
        """``known`` are all modules."""
        self.tree = ast.parse(path.read_bytes())
        #: The package it is in, and the modules of ours that it imports when it runs, in order.
        self.needed = [name.rpartition(".")[0]] if "." in name else []
        #: (module, name there, name here) of ``from … import …``, one after the other.
        self.taken: list[str] = []
        rest: list[ast.stmt] = []
        for node in self.tree.body:
            source = _source(name, node)
            if isinstance(node, ast.ImportFrom) and source in known:
                self.needed.append(source)
                for alias in node.names:
                    if f"{source}.{alias.name}" in known:
                        self.needed.append(f"{source}.{alias.name}")
                    self.taken += [source, alias.name, alias.asname or alias.name]
            elif source != "__future__":
                rest.append(node)
        self.tree.body = rest
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                node.returns = None
            elif isinstance(node, ast.arg):
                node.annotation = None

    def packed(self, shown: str) -> tuple[tuple[str, ...], tuple[str, ...], object]:
        """Return what the image holds; ``shown`` is the file's name in a traceback."""
        return tuple(self.needed), tuple(self.taken), _compile(self.tree, shown)


def _source(name: str, node: ast.stmt) -> str:
    """Return the module that a ``from … import`` in module ``name`` is about."""
    if not isinstance(node, ast.ImportFrom):
        return ""
    package = name.split(".")[: -node.level] if node.level else []
    return ".".join([*package, *([node.module] if node.module else [])])


def _compile(tree: ast.Module, shown: str) -> CodeType:
    """Compile a module; annotations of classes stay text without ``from __future__``."""
    flags = __future__.annotations.compiler_flag
    code: CodeType = compile(tree, shown, "exec", flags=flags, dont_inherit=True, optimize=2)
    return _lean(code)


def _lean(code: CodeType) -> CodeType:
    """Leave out what only tracebacks show: lines, and the names of what a function is in."""
    constants = tuple(_lean(c) if isinstance(c, CodeType) else c for c in code.co_consts)
    return code.replace(co_linetable=b"", co_qualname=code.co_name, co_consts=constants)


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(make_image(Path(sys.argv[1])))
