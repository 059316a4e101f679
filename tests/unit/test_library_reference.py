"""docs/library.md: the reference is what the docstrings say, and every public name has one."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path

import pyrunc

DOCS = Path(__file__).resolve().parents[2] / "docs"


def load():
    spec = importlib.util.spec_from_file_location(
        "library_reference", DOCS / "library_reference.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_up_to_date():
    module = load()
    text = (DOCS / "library.md").read_text()
    assert text.partition(module.MARK)[2] == f"\n{module.reference()}", (
        "run docs/library_reference.py"
    )


def test_every_public_name_is_there_and_documented():
    for name in pyrunc.__all__:
        value = getattr(pyrunc, name)
        if inspect.isclass(value) or inspect.isroutine(value):
            assert value.__doc__, name
            for member, what in vars(value).items():
                if not member.startswith("_") and inspect.isroutine(what):
                    assert what.__doc__, f"{name}.{member}"


def test_codes_of_errors_are_one_each():
    errors = [
        value
        for value in (getattr(pyrunc, name) for name in pyrunc.__all__)
        if inspect.isclass(value) and issubclass(value, pyrunc.Error)
    ]
    codes = [error.code for error in errors]
    assert len(set(codes)) == len(codes), codes
