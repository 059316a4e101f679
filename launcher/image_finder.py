"""Runs first when the command starts: imports pyrunc's modules from one file instead of many.

Looking up, opening and checking sixty small files takes longer than what is in
them. This code is stored, compiled, at the head of the image that
``launcher/image.py`` makes; the launcher's bootstrap executes it with ``file``
(the open image), ``base`` (where the index begins) and ``home`` (the directory
that holds the package).
"""

import gc
import marshal
import sys
from _frozen_importlib import ModuleSpec
from posix import pread

# A command lives for milliseconds: collecting garbage would cost more than it frees.
gc.disable()

start = base + 4 + int.from_bytes(pread(file, 4, base), "little")  # noqa: F821
index = marshal.loads(pread(file, start - base - 4, base + 4))  # noqa: F821


class ImageFinder:
    """Finds and loads what is in the image; everything else is left to the ordinary finders."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        """Return a spec for ``name``, or None."""
        entry = index.get(name)
        if entry is None:
            return None
        spec = ModuleSpec(name, ImageFinder, origin=home + entry[0], is_package=entry[1])  # noqa: F821
        spec.has_location = True
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
        _, _, offset, size = index[module.__name__]
        exec(marshal.loads(pread(file, size, start + offset)), module.__dict__)  # noqa: F821


sys.meta_path.insert(0, ImageFinder)
