"""Filters of the build: what libseccomp would compile now, found by the section alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import pyrunc
from pyrunc.linux.numbers import MACHINE
from pyrunc.security import known_filters, libseccomp, seccomp
from pyrunc.security.libseccomp import LibraryMissing, Libseccomp
from pyrunc.security.seccomp_compile import compile_filter

SECTIONS = sorted((Path(__file__).parents[2] / "seccomp").glob(f"*.{MACHINE}.json"))


@pytest.fixture
def built_in(tmp_path, monkeypatch):
    """A package with the filters in it, on a machine without libseccomp."""
    try:
        Libseccomp()
    except LibraryMissing as error:
        pytest.skip(str(error))
    sections = [json.loads(path.read_bytes()) for path in SECTIONS]
    (tmp_path / known_filters.FILE).write_bytes(known_filters.compiled(sections))
    monkeypatch.setattr(pyrunc, "__path__", [str(tmp_path), *pyrunc.__path__])
    expected = [compile_filter(section) for section in sections]
    monkeypatch.setattr(libseccomp, "LIBRARY", "libseccomp.so.none")
    return list(zip(sections, expected, strict=True))


def test_engines_sections_need_no_libseccomp(built_in, tmp_path):
    for section, expected in built_in:
        found = seccomp.filter_for(section, str(tmp_path / "cache"))
        assert (found.bpf, found.flags, found.notify) == (expected.bpf, expected.flags, False)


@pytest.mark.usefixtures("built_in")
def test_another_section_says_what_to_install(tmp_path):
    section = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []}
    with pytest.raises(LibraryMissing, match="install libseccomp"):
        seccomp.filter_for(section, str(tmp_path / "cache"))
