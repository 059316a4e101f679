"""JSON text to values and back: what is accepted, what is refused and in which words."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pyrunc
from pyrunc.spec import json_text
from pyrunc.spec.json_mistake import first_mistake
from pyrunc.spec.json_text import NotJson, encode, encode_indented, parse

SOURCE = str(Path(pyrunc.__file__).parents[1])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(VALUES)
def test_what_is_encoded_is_parsed_back(value):
    assert parse(encode(value)) == value
    assert parse(encode_indented(value, "\t").encode()) == value


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.text(max_size=40) | st.text(alphabet='{}[]",:0123456789.eE-+tfn \\u', max_size=30))
def test_the_same_texts_are_json_as_for_the_package(text):
    text = text.removeprefix("\ufeff")
    try:
        expected = json.loads(text)
        refused = "NaN" in text or "Infinity" in text or "e" in text.lower()
    except ValueError:
        with pytest.raises(NotJson):
            parse(text)
        return
    try:
        assert parse(text) == expected
    except NotJson:
        assert refused


@settings(max_examples=30, deadline=None)
@given(VALUES)
def test_indentation_is_that_of_the_package(value):
    assert encode_indented(value, "  ") == json.dumps(value, indent=2)


def test_members_keep_their_order():
    assert encode({"b": 1, "a": [True, None]}) == '{"b":1,"a":[true,null]}'


def test_a_byte_order_mark_is_passed_over():
    assert parse("\ufeff{}") == parse("\ufeff{}".encode()) == {}


@settings(max_examples=200, deadline=None)
@given(VALUES, st.integers(0, 400), st.sampled_from(["", ",", "}", "]", '"', ":", "x", "\\", "1"]))
def test_a_mistake_is_found_wherever_there_is_one(value, at, changed):
    text = encode_indented(value, " ")
    text = text[:at] + changed + text[at + 1 :]
    try:
        parse(text)
    except NotJson as error:
        assert error.where != "the whole"
    else:
        assert first_mistake(text) is None


def test_of_members_named_twice_the_last_wins():
    assert parse('{"a": 1, "a": 2}') == {"a": 2}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1 column 1: expected a value, found nothing: the text is empty"),
        (" \n", "line 2 column 1: expected a value, found nothing: the text is empty"),
        (
            '{"a": 1,\n  "b" 2}',
            'invalid JSON, line 2 column 7: expected a ":" after the name, found "2"',
        ),
        ("{} {}", 'line 1 column 4: expected the end of the text, found more of it: "{"'),
        ('{"a": 1}}', 'line 1 column 9: expected the end of the text, found more of it: "}"'),
        ("// mine\n{}", "line 1 column 1: expected a value, found a comment (//); JSON has none"),
        ("{}\n# x", "line 2 column 1: expected the end of the text, found more of it: a comment"),
        ("{'a': 1}", 'line 1 column 2: expected a name in double quotes or "}", found a single'),
        ("{a: 1}", 'found the word "a" without double quotes'),
        ('{"a": 1,}', "line 1 column 9: expected a name in double quotes, found"),
        ("[1,]", "(no comma may follow the last one)"),
        ('{"a": 1,, "b": 2}', 'line 1 column 9: expected a name in double quotes, found ","'),
        ("[1 2]", 'line 1 column 4: expected "," or "]", found "2"'),
        ('{"a": [1', 'line 1 column 9: expected "," or "]", found the end of the text'),
        ('{"a"', 'line 1 column 5: expected a ":" after the name, found the end of the text'),
        ('{"a": "b', "the double quote that ends the string of line 1 column 7, found the end of"),
        (
            '["b\\',
            "the double quote that ends the string of line 1 column 2, found the end of the t",
        ),
        ('["a\nb"]', "line 1 column 4: expected the double quote that ends the string of line 1"),
        ('["\x01"]', "found a control character, U+0001"),
        (
            '["\\q"]',
            'expected one of \\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX, found "\\q"',
        ),
        ('["\\u12"]', 'found "\\u12'),
        ("[True]", "found True, which JSON writes true"),
        ("[\u201ca\u201d]", "found a typographic quote (\\u201c)"),
        ("{\0}\0", "found a NUL character (is the text UTF-16?)"),
        ("{}".encode("utf-16"), "expected UTF-8, found UTF-16 or UTF-32, by its byte order mark"),
        (b'"\xff"', "invalid JSON, line 1 column 2: expected UTF-8, found the byte 0xff"),
        (b'{"a":\n "\xc3\xa9\xe9"}', "line 2 column 4: expected UTF-8, found the byte 0xe9"),
        (b'"\xed\xa0\x80"', "expected UTF-8, found the byte 0xed"),
        (
            "[NaN]",
            'line 1 column 2: expected a value or "]", found NaN, which is not a JSON number',
        ),
        ("-Infinity", "found -Infinity, which is not a JSON number"),
        ("[1, 1e999]", "line 1 column 5: expected a number, found one out of range: 1e999"),
        ("1" * 5000, "line 1 column 1: expected a number, found one of more than 4300 digits"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        (b" " * (json_text.MAXIMUM_BYTES + 1), "expected at most 16 MiB of JSON, found more"),
    ],
)
def test_refused_texts_say_why(text, words):
    with pytest.raises(NotJson) as refused:
        parse(text)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_has_no_json_form_cannot_be_encoded():
    endless: list[object] = []
    endless.append(endless)
    for encoder in (encode, encode_indented):
        with pytest.raises(NotJson):
            encoder(endless)
        with pytest.raises(TypeError):
            encoder({"a": object()})
        with pytest.raises(ValueError, match="not JSON compliant"):
            encoder([math.inf])


def test_a_file_name_that_is_not_utf_8_survives():
    name = b"/b\xff".decode("utf-8", "surrogateescape")
    assert parse(encode(name)) == name


def test_without_the_accelerators_the_answers_are_the_same(monkeypatch):
    text = '{"a": [1, 2.5, "x\\n", {"b": null}]}'
    fast = parse(text), encode(parse(text)), encode_indented(parse(text), "\t")
    monkeypatch.setattr(json_text, "_scan", None)
    monkeypatch.setattr(json_text, "_encode_parts", None)
    assert (parse(text), encode(parse(text)), encode_indented(parse(text), "\t")) == fast
    for refused in ("[NaN]", "1e999", "[" * 100_000, '{"a" 1}'):
        with pytest.raises(NotJson):
            parse(refused)


@pytest.mark.parametrize("broken", ["raise TypeError", "return None", "return 1, 2"])
def test_an_accelerator_that_changed_is_not_used(broken):
    program = f"""
import sys, _json
class changed:
    def __init__(self, *settings): pass
    def __call__(self, *arguments): {broken}
_json.make_scanner = _json.make_encoder = changed
sys.path.insert(0, {SOURCE!r})
from pyrunc.spec import json_text
assert json_text._scan is None and json_text._encode_parts is None
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_package_is_not_imported_for_good_texts():
    program = f"""
import sys
sys.path.insert(0, {SOURCE!r})
from pyrunc.spec.json_text import parse, encode, encode_indented
parse(b'{{"a": [1, 2.5]}}'), encode([1]), encode_indented({{"a": [1]}}, " ")
assert "json" not in sys.modules and "re" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
