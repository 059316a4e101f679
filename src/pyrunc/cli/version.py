"""``pyrunc --version``: of pyrunc, of the specification, of the parts it stands on."""

from __future__ import annotations

import sys

import pyrunc
from pyrunc.spec.default import OCI_VERSION


def show() -> int:
    """Print the versions, a line each, and return 0."""
    from .output import write

    write("\n".join(lines()) + "\n")
    return 0


def lines() -> list[str]:
    """Return ``name: version`` lines; the first is ``pyrunc version X``, as engines expect."""
    found = [f"pyrunc version {pyrunc.__version__}"]
    commit = getattr(pyrunc, "__commit__", "")  # written there by a release's build
    if commit:
        found.append(f"commit: {commit}")
    found += [f"spec: {OCI_VERSION}", f"python: {'.'.join(map(str, sys.version_info[:3]))}"]
    seccomp = libseccomp()
    if seccomp:
        found.append(f"libseccomp: {seccomp}")
    return found


def libseccomp() -> str:
    """Return the version of libseccomp, nothing when there is none (seccomp_version(3))."""
    import ctypes

    try:
        version = ctypes.CDLL("libseccomp.so.2").seccomp_version
    except (OSError, AttributeError):
        return ""
    version.restype = ctypes.POINTER(ctypes.c_uint * 3)
    return ".".join(map(str, version().contents))
