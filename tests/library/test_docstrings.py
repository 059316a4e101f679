"""What the library says of itself: each public name, with units, errors and examples that run."""

from __future__ import annotations

import doctest
import inspect
import pickle
import re

import pytest

import pyrunc
from pyrunc import aio

NAMES = [name for name in pyrunc.__all__ if inspect.isclass(getattr(pyrunc, name))]
CLASSES = [name for name in NAMES if not issubclass(getattr(pyrunc, name), pyrunc.Error)]
ERRORS = [name for name in NAMES if name not in CLASSES]
#: Of parameters with these names a docstring says in which unit they are.
UNITS = {"timeout": "second", "interval": "second", "cpu_time": "second", "limit": "byte"}
UNITS |= {"memory": "byte", "swap": "byte", "rows": "character"}
#: Examples that need a root file system, which is not there for sure.
ELSEWHERE = re.compile("/srv/|/run/my-containers")


def public_members(value):
    return [
        (name, member)
        for kind in reversed(value.__mro__)
        if kind.__module__.startswith("pyrunc.")
        for name, member in ((name, _function(what)) for name, what in vars(kind).items())
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
    ]


def _function(member):
    """Return what a class method calls, and anything else as it is."""
    return getattr(member, "__func__", member)


@pytest.mark.parametrize("module", [pyrunc, aio], ids=["pyrunc", "aio"])
def test_every_public_name_has_a_docstring(module):
    without = []
    for name in module.__all__:
        value = getattr(module, name)
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        members = public_members(value) if inspect.isclass(value) else []
        without += [
            f"{name}.{member}".rstrip(".")
            for member, what in [("", value), *members]
            if not inspect.getdoc(what)
        ]
    assert without == []


def test_units_and_errors_are_told():
    missing = []
    for name in [*CLASSES, "run"]:
        value = getattr(pyrunc, name)
        for member, what in [("", value), *(public_members(value) if name != "run" else ())]:
            text = (inspect.getdoc(what) or "") + (inspect.getdoc(value) or "")
            if inspect.isfunction(what):
                missing += [
                    f"{name}.{member}: unit of {parameter}"
                    for parameter in inspect.signature(what).parameters
                    if parameter in UNITS
                    and UNITS[parameter] not in text
                    and (parameter, member) != ("limit", "with_pids")
                ]
        if name not in ("Change", "RemoteTraceback", "Result") and ":raises" not in "".join(
            inspect.getdoc(what) or ""
            for _, what in [("", value), *(public_members(value) if name != "run" else ())]
        ):
            missing.append(f"{name}: errors")
    assert missing == []


@pytest.mark.usefixtures("no_remains")
@pytest.mark.parametrize("name", [*CLASSES, "run"])
def test_every_name_has_an_example_that_works(name):
    value = getattr(pyrunc, name)
    text = inspect.getdoc(value)
    assert ">>>" in text
    if ELSEWHERE.search(text):
        return
    tests = doctest.DocTestParser().get_doctest(text, {"pyrunc": pyrunc}, name, None, None)
    said = []
    doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(tests, out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize("name", ERRORS)
def test_errors_have_codes_of_their_own_and_can_be_pickled(name):
    """Process pools and clusters send them on."""
    kind = getattr(pyrunc, name)
    assert inspect.getdoc(kind)
    codes = [getattr(pyrunc, other).code for other in ERRORS]
    assert codes.count(kind.code) == 1
    result = pyrunc.Result(("true",), "timeout", -9, b"x", b"", not_enforced={"memory": "why"})
    if issubclass(kind, pyrunc.ProgramFailed | pyrunc.TimeoutExpired):
        error = kind("what went wrong", result)
    elif kind is pyrunc.InvalidConfig:
        error = kind("config.json", [("/root", "an object", "a number")])
    else:
        error = kind("what went wrong")
        error.hint = "what to do"
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (kind, str(error), vars(error))
