"""The interpreter's first import, made short: UTF-8 alone, and the rest of the codecs on demand.

No Python starts without a package ``encodings``. The standard library's lies in a directory of
two hundred files, which the import system lists, and brings a table of three hundred names with
it: 0.6 ms of the 7 that the interpreter takes to start, for one codec. `pyrunc`'s launcher puts
this directory first in the search path, for this import only (``launcher.c``).

Whoever asks for another codec gets the standard package in the place of this one.
"""

import codecs
import sys

# Submodules are the standard library's.
__path__.append(f"{sys._stdlib_dir}/encodings")


class IncrementalEncoder(codecs.IncrementalEncoder):
    """As in ``encodings.utf_8``."""

    def encode(self, input, final=False):
        """Encode a piece."""
        return codecs.utf_8_encode(input, self.errors)[0]


class IncrementalDecoder(codecs.BufferedIncrementalDecoder):
    """As in ``encodings.utf_8``."""

    _buffer_decode = codecs.utf_8_decode


def decode(input, errors="strict"):
    """Decode all of it: a character that ends too early is an error."""
    return codecs.utf_8_decode(input, errors, True)


def stream_reader(stream, errors="strict"):
    """Make a reader, which the command never does."""
    from encodings.utf_8 import StreamReader

    return StreamReader(stream, errors)


def stream_writer(stream, errors="strict"):
    """Make a writer, which the command never does."""
    from encodings.utf_8 import StreamWriter

    return StreamWriter(stream, errors)


def search(name):
    """Return the codec of this name (:func:`codecs.register`)."""
    if name in ("utf_8", "utf8"):
        return codecs.CodecInfo(
            name="utf-8",
            encode=codecs.utf_8_encode,
            decode=decode,
            incrementalencoder=IncrementalEncoder,
            incrementaldecoder=IncrementalDecoder,
            streamreader=stream_reader,
            streamwriter=stream_writer,
        )
    module = sys.modules[__name__]
    if not hasattr(module, "search_function"):
        from importlib.machinery import SourceFileLoader

        SourceFileLoader(__name__, f"{__path__[-1]}/__init__.py").exec_module(module)
    return module.search_function(name)


codecs.register(search)
