"""Write the reference at the end of docs/library.md from the library's own docstrings."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

PAGE = Path(__file__).parent / "library.md"
MARK = "<!-- Made by docs/library_reference.py; a test compares. -->\n"


def reference() -> str:
    """Return the reference in Markdown: every public name, in alphabetical order."""
    import pyrunc

    parts = []
    errors = []
    for name in sorted(pyrunc.__all__, key=str.lower):
        value = getattr(pyrunc, name)
        if inspect.isclass(value) and issubclass(value, pyrunc.Error):
            errors.append((name, value))
        elif inspect.isclass(value):
            parts.append(_class(name, value))
        elif inspect.isfunction(value):
            parts.append(f"### `pyrunc.{name}{_signature(value)}`\n\n{_text(value)}")
    return "\n\n".join([*parts, _errors(errors)]) + "\n"


def _class(name: str, value: type) -> str:
    members = _fields(value)
    for member, what in members_of(value):
        if member.startswith("_"):
            continue
        if isinstance(what, property):
            members.append(f"- **`{member}`**: {_line(what)}")
        elif inspect.isfunction(what := getattr(what, "__func__", what)):
            members.append(f"- **`{member}{_signature(what)}`**: {_line(what)}")
    head = f"### `pyrunc.{name}`\n\n{_text(value)}"
    return f"{head}\n\n" + "\n".join(members) if members else head


def members_of(value: type) -> list[tuple[str, object]]:
    """Return what a class has by itself or by a class of the library below it, these first."""
    ours = [kind for kind in reversed(value.__mro__) if kind.__module__.startswith("pyrunc.")]
    return list({name: what for kind in ours for name, what in vars(kind).items()}.items())


def _fields(value: type) -> list[str]:
    """Return the fields of a record, which are told about in the comments above them."""
    if not hasattr(value, "__match_args__"):
        return []
    found, comment = [], ""
    for line in inspect.getsource(value).splitlines():
        text = line.strip()
        if text.startswith("#: ") or (comment and text.startswith("#: ")):
            comment += text[2:]
        elif (match := re.match(r"(\w+): ", text)) and match[1] in value.__match_args__:
            found.append(f"- **`{match[1]}`**:{comment}" if comment else f"- **`{match[1]}`**")
            comment = ""
    return found


def _signature(function: object) -> str:
    signature = str(inspect.signature(function))  # type: ignore[arg-type]
    signature = re.sub(r"^\((self|cls)(, )?", "(", signature).partition(" -> ")[0]
    return re.sub(r"Unpack\[(\w+)\]", r"\1", signature.replace("'", ""))


def _text(value: object) -> str:
    """Return a docstring with its fields as a list."""
    text = inspect.getdoc(value) or ""
    text = re.sub(r"\n?:param (\w+):", r"\n- **`\1`**:", text)
    text = re.sub(r"\n?:raises (\w+):", r"\n- raises **`\1`**:", text)
    text = re.sub(r":(?:class|func|meth|mod|attr):`~?([^`]+)`", r"`\1`", text)
    # An example, up to the next empty line.
    return re.sub(
        r"(?m)^>>>(?:.+\n?)+", lambda m: f"```pycon\n{m[0].rstrip()}\n```\n", text
    ).rstrip()


def _line(value: object) -> str:
    """Return a docstring in one line, without its example."""
    text = inspect.getdoc(value) or ""
    text = re.sub(r"\n\n>>>.*?(\n\n|$)", r"\n\n", text, flags=re.DOTALL)
    text = re.sub(r":param (\w+):", r"`\1`:", text)
    text = re.sub(r":raises (\w+):", r"raises `\1`:", text)
    text = re.sub(r":(?:class|func|meth|mod|attr):`~?([^`]+)`", r"`\1`", text)
    return " ".join(text.split())


def _errors(errors: list[tuple[str, type]]) -> str:
    rows = ["### Exceptions", "", "| exception | is also | `code` | when |", "|---|---|---|---|"]
    for name, error in errors:
        builtin = [
            f"`{base.__name__}`"
            for base in error.__mro__
            if base.__module__ == "builtins"
            and base not in (object, Exception, BaseException, OSError)
        ]
        code = getattr(error, "code", "")
        rows.append(f"| `{name}` | {', '.join(builtin)} | `{code}` | {_line(error)} |")
    return "\n".join(rows)


def main() -> None:
    """Replace the reference in the page."""
    text = PAGE.read_text()
    PAGE.write_text(text[: text.index(MARK) + len(MARK)] + "\n" + reference())


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
    main()
