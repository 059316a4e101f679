"""Runs first when the command starts: imports pyrunc's modules from one file instead of many.

Looking up, opening and checking sixty small files takes longer than what is in
them. This code is stored, compiled, at the head of the image that
``launcher/image.py`` makes; the launcher's bootstrap executes it with ``file``
(the open image), ``base`` (where the index begins) and ``home`` (the directory
that holds the package).

The import system is asked only for a module that nothing here has imported yet. What such
a module imports at its head is loaded and handed over here: the import system takes 0.03 ms
for a module, and for each ``from … import`` of one that is there already.
"""

import gc
import marshal
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import EXTENSION_SUFFIXES, ExtensionFileLoader
from posix import O_CLOEXEC, close, fstat, open, pread, stat

# A command lives for milliseconds: collecting garbage would cost more than it frees.
gc.disable()
# RTLD_LAZY, a system's constant: of a native module's fifty functions a command calls five, and to
# look all of them up takes half of the time in which it is loaded.
sys.setdlopenflags(1)

start = base + 4 + int.from_bytes(pread(file, 4, base), "little")  # noqa: F821
index = marshal.loads(pread(file, start - base - 4, base + 4))  # noqa: F821
modules = sys.modules
#: Where these lie below a directory of sys.path that ends so, and as what; the ordinary finders
#: would read through the directories first.
EXTENSIONS = {
    "_json": ("/lib-dynload", f"/_json{EXTENSION_SUFFIXES[0]}"),
    "pyrunc.linux._syscall": (home, "/pyrunc/linux/_syscall.abi3.so"),  # noqa: F821
}
module_type = type(sys)


def read(size, offset):
    """Return bytes of the image, which is opened again if it was closed."""
    global file
    if file < 0:
        file = open(ImageFinder.image, O_CLOEXEC)
        if state(file) != opened:
            raise ImportError("pyrunc was replaced while it ran")
    return pread(file, size, start + offset)


def state(file):
    """Return what tells two states of a file apart."""
    status = fstat(file)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class ImageFinder:
    """Finds and loads what is in the image; everything else is left to the ordinary finders."""

    image = f"{home}/pyrunc/startup.{sys.implementation.cache_tag}"  # noqa: F821

    @staticmethod
    def close():
        """Close the image until something of it is needed again."""
        global file, opened
        opened = state(file)
        close(file)
        file = -1

    @staticmethod
    def holds(name):
        """Tell whether this module comes from the image."""
        return name in index

    @staticmethod
    def find_spec(name, path=None, target=None):
        """Return a spec for ``name``, or None."""
        entry = index.get(name)
        if entry is None:
            return extension(name) if name in EXTENSIONS else None
        spec = ModuleSpec(name, ImageFinder, origin=home + entry[0], is_package=entry[1])  # noqa: F821
        if entry[1]:
            # What is not in the image is found here.
            spec.submodule_search_locations.append(spec.origin.rpartition("/")[0])
        return spec

    @staticmethod
    def create_module(spec):
        """Leave it to the import system."""

    @staticmethod
    def exec_module(module):
        """Run the module's code."""
        module.__file__ = module.__spec__.origin
        run(module.__name__, module.__dict__)


def extension(name):
    """Return the spec of a native module, where it is there for this interpreter."""
    end, file_name = EXTENSIONS[name]
    if not file_name.endswith(tuple(EXTENSION_SUFFIXES)):
        return None
    for directory in sys.path:
        if directory.endswith(end):
            path = directory + file_name
            try:
                stat(path)
            except OSError:
                return None
            spec = ModuleSpec(name, ExtensionFileLoader(name, path), origin=path)
            spec.has_location = True
            return spec
    return None


def load(name):
    """Make a module that the import system has not been asked for."""
    module = module_type(name)
    path, is_package, _, _ = index[name]
    module.__file__ = path = home + path  # noqa: F821
    module.__loader__ = ImageFinder
    parent, _, last = name.rpartition(".")
    module.__package__ = name if is_package else parent
    if is_package:
        module.__path__ = [path.rpartition("/")[0]]
    modules[name] = module
    try:
        run(name, module.__dict__)
    except BaseException:
        del modules[name]
        raise
    if parent:
        setattr(modules[parent], last, module)


def run(name, namespace):
    """Give a module what it imports, and execute its code."""
    _, _, offset, size = index[name]
    needed, taken, code = marshal.loads(read(size, offset))
    for other in needed:
        if other not in modules:
            load(other)
    words = iter(taken)
    for source in words:
        there = next(words)
        namespace[next(words)] = modules[source].__dict__[there]
    exec(code, namespace)


sys.meta_path.insert(0, ImageFinder)
