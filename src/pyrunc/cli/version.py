"""``pyrunc --version``: of pyrunc, of the specification, of the parts it stands on."""

from __future__ import annotations

import sys

import pyrunc
from pyrunc.linux.files import read_file
from pyrunc.spec.default import OCI_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.snapshot.started import Started


def show(started: Started) -> int:
    """Print the versions and whether this began in a snapshot, a line each, and return 0."""
    from .output import write

    write("\n".join((*lines(), f"snapshot: {started.describe()}")) + "\n")
    return 0


def lines() -> list[str]:
    """Return ``name: version`` lines; the first is ``pyrunc version X``, as engines expect."""
    found = [f"pyrunc version {pyrunc.__version__}"]
    if commit := _commit():
        found.append(f"commit: {commit}")
    found += [f"spec: {OCI_VERSION}", f"python: {'.'.join(map(str, sys.version_info[:3]))}"]
    seccomp = libseccomp()
    if seccomp:
        found.append(f"libseccomp: {seccomp}")
    return found


def _commit() -> str:
    """Return the commit that this was built from, which the build writes down if it knows."""
    try:
        return read_file(f"{pyrunc.__path__[0]}/COMMIT").decode().strip()
    except OSError:
        return ""


def libseccomp() -> str:
    """Return the version of libseccomp, nothing when there is none (seccomp_version(3))."""
    import ctypes

    try:
        version = ctypes.CDLL("libseccomp.so.2").seccomp_version
    except (OSError, AttributeError):
        return ""
    version.restype = ctypes.POINTER(ctypes.c_uint * 3)
    return ".".join(map(str, version().contents))
