"""Make the start-up image: every module of pyrunc, compiled, in one file.

    python launcher/image.py SOURCE_DIRECTORY TARGET

An image serves exactly the Python version that made it; the file is named after
it, and under any other version the modules are imported in the ordinary way.
Docstrings are left out, as ``python -OO`` would: they are a third of the bytes. So are the
tables of line numbers, another quarter, and 0.3 ms of a `run`: with --debug, when a traceback
may be shown, the launcher takes the modules' files instead.

Layout: the finder (``image_finder.py``), the index, each after its length in 4
bytes, little endian; the groups of modules. All in the marshal format of the interpreter. The
index is a triple: {module: (file, is package, its group, its place there)}, ((offset, size) of
each group), {module: what to load with it}.

Modules that the same commands need are one group, which is read at one go: the strings
that they have in common are made once. A module is there as three things: the modules of
the package that it imports, the names that it takes from them, and its code without these
imports. Annotations of functions are left out, too. All of it together saves half of the
time that the modules take.
"""

from __future__ import annotations
import __future__

import ast
import marshal
import sys
from collections.abc import Collection
from pathlib import Path
from types import CodeType

_CREATE = (
    "container.making.create", "cgroups.driver", "cgroups.host", "cgroups.paths", "cgroups.devices",
    "spec.process", "spec.linux", "spec.resources",
)  # fmt: skip
#: What runs together, and from where its imports begin. A module that is missing here is found
#: all the same, in a group of its own.
_USERS = {
    "all": (
        "cli.main", "container.record.store", "container.record.state", "cgroups.frozen",
        "cli.paths",
    ),
    "create": ("cli.create", *_CREATE),
    "run": ("cli.run", *_CREATE, "container.run", "container.delete", "process.foreground"),
    "start": ("cli.start", "container.start"),
    "exec": ("cli.execute", "container.entering.execute", "cgroups.driver", "process.foreground"),
    "state": ("cli.state", "cli.output"),
    "list": ("cli.list", "cli.output"),
    "kill": ("cli.kill", "container.kill"),
    "delete": ("cli.delete", "container.delete", "cgroups.driver"),
    "v1": ("cgroups.v1",),
    "v1 limits": ("cgroups.v1_limits",),
    "v2": ("cgroups.v2",),
    "v2 limits": ("cgroups.v2_limits", "cgroups.device_filter"),
    "systemd": ("cgroups.systemd", "cgroups.systemd_bus", "cgroups.systemd_properties"),
}  # fmt: skip


def image_name() -> str:
    """Return the file's name inside the package, for the running interpreter."""
    return f"startup.{sys.implementation.cache_tag}"


def make_image(source: Path) -> bytes:
    """Return the image of the package below ``source`` (the directory that holds ``pyrunc``)."""
    files = {_module_name(path.relative_to(source)): path for path in source.glob("pyrunc/**/*.py")}
    modules = {name: _Module(name, path, files.keys()) for name, path in sorted(files.items())}
    index: dict[str, tuple[str, bool, int, int]] = {}
    places: list[tuple[int, int]] = []
    code = b""
    for number, group in enumerate(_groups(modules)):
        for place, name in enumerate(group):
            path = f"/{files[name].relative_to(source)}"
            index[name] = (path, path.endswith("/__init__.py"), number, place)
        entries = [modules[name].packed(index[name][0][1:]) for name in group]
        packed = marshal.dumps(tuple(entries))
        places.append((len(code), len(packed)))
        code += packed
    finder_source = ast.parse(Path(__file__).with_name("image_finder.py").read_bytes())
    finder = marshal.dumps(_compile(finder_source, "image_finder.py"))
    together = {
        f"pyrunc.{first}": tuple(f"pyrunc.{other}" for other in others)
        for first, *others in _USERS.values()
        if first.startswith("cli.") and others
    }
    table = marshal.dumps((index, tuple(places), together))
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


def _in_order(name: str, modules: dict[str, _Module], begun: set[str]) -> list[str]:
    """Return ``name`` after all that it needs and is not begun yet."""
    if name in begun:
        return []
    begun.add(name)
    return [x for n in modules[name].needed for x in _in_order(n, modules, begun)] + [name]


def _groups(modules: dict[str, _Module]) -> list[list[str]]:
    """Sort the modules into groups by the commands that need them; each other one is alone."""
    users: dict[str, list[str]] = {name: [] for name in modules}
    for user, roots in _USERS.items():
        begun: set[str] = set()
        for root in roots:
            for name in _in_order(f"pyrunc.{root}", modules, begun):
                users[name].append(user)
    groups: dict[object, list[str]] = {}
    for name, wanted in users.items():
        groups.setdefault(tuple(wanted) or name, []).append(name)
    return list(groups.values())


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
