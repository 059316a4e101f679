"""Make the start-up image: every module of pyrunc, compiled, in one file.

    python launcher/image.py SOURCE_DIRECTORY TARGET

An image serves exactly the Python version that made it; the file is named after
it, and under any other version the modules are imported in the ordinary way.
Docstrings are left out, as ``python -OO`` would: they are a third of the bytes.

Layout: the finder (``image_finder.py``), the index {module: (file, is package,
offset, size)}, each after its length in 4 bytes, little endian; the modules'
code. All in the marshal format of the interpreter.
"""

from __future__ import annotations
import __future__

import ast
import marshal
import sys
from pathlib import Path


def image_name() -> str:
    """Return the file's name inside the package, for the running interpreter."""
    return f"startup.{sys.implementation.cache_tag}"


def make_image(source: Path) -> bytes:
    """Return the image of the package below ``source`` (the directory that holds ``pyrunc``)."""
    index: dict[str, tuple[str, bool, int, int]] = {}
    modules = b""
    for path in sorted((source / "pyrunc").rglob("*.py")):
        relative = path.relative_to(source)
        is_package = path.name == "__init__.py"
        name = ".".join(relative.parent.parts if is_package else relative.with_suffix("").parts)
        code = marshal.dumps(_compile(path, str(relative)))
        index[name] = (f"/{relative}", is_package, len(modules), len(code))
        modules += code
    finder = marshal.dumps(_compile(Path(__file__).with_name("image_finder.py"), "image_finder.py"))
    table = marshal.dumps(index)
    lengths = len(finder).to_bytes(4, "little"), len(table).to_bytes(4, "little")
    return lengths[0] + finder + lengths[1] + table + modules


def _compile(path: Path, shown: str) -> object:
    """Compile a module; annotations stay text without a run-time import of ``__future__``."""
    tree = ast.parse(path.read_bytes())
    tree.body = [node for node in tree.body if not _is_future_import(node)]
    flags = __future__.annotations.compiler_flag
    return compile(tree, shown, "exec", flags=flags, dont_inherit=True, optimize=2)


def _is_future_import(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(make_image(Path(sys.argv[1])))
