"""Rules of seccomp, and what they compile to."""

from __future__ import annotations

import json
import pathlib
import platform

import cbpf
import pytest

from pyrunc.security.libseccomp import Libseccomp

x86_64_only = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="about the three ABIs of x86_64"
)


CONFIGS = pathlib.Path(__file__).parent.parent / "data" / "configs"


NATIVE = {"x86_64": cbpf.X86_64, "aarch64": cbpf.AARCH64}[platform.machine()]


LIB = Libseccomp()


def number_of(name: str, architecture: str = "") -> int:
    token = LIB.architecture(architecture) if architecture else LIB.native_architecture()
    number = LIB.syscall_number(token, name)
    assert number >= 0
    return number


def rule(name: str, action: str = "SCMP_ACT_ERRNO", *args: tuple, **more) -> dict:
    keys = ("index", "op", "value", "valueTwo")
    return {
        "names": [name],
        "action": action,
        "args": [dict(zip(keys, arg, strict=False)) for arg in args],
        **more,
    }


def section(*rules: dict, default: str = "SCMP_ACT_ALLOW", **more) -> dict:
    return {"defaultAction": default, "syscalls": list(rules), **more}


@pytest.fixture(scope="module")
def engine_profile() -> dict:
    """The default profile of container engines, with EPERM as Docker has it."""
    profile = json.loads((CONFIGS / "podman-seccomp.json").read_text())["linux"]["seccomp"]
    del profile["defaultErrnoRet"]
    return profile
