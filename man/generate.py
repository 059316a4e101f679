"""Write the manual pages next to this file, from the commands' own flags and help texts.

Run it after a change to either: ``python3 man/generate.py``. A unit test
fails when the pages are stale.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "src"))

import pyrunc  # noqa: E402
from pyrunc.cli import flags, help  # noqa: E402
from pyrunc.cli.commands import GLOBAL_FLAGS  # noqa: E402

EXIT_CODES = {
    "": [
        ("0", "The command did what it was asked to."),
        ("1", "It did not; the last line of the log says why."),
        ("3", "There is no such command."),
    ],
    "run": [
        ("N", "The container's program exited with code N."),
        ("128+N", "It was killed by signal N."),
        ("1", "The container could not be made or started."),
    ],
    "exec": [
        ("N", "The program exited with code N."),
        ("128+N", "It was killed by signal N."),
        ("255", "It could not be executed."),
    ],
}

FILES = [
    ("/run/pyrunc", "State of the containers, when root runs pyrunc without --root."),
    ("$XDG_RUNTIME_DIR/pyrunc", "The same for other users."),
    ("/run/pyrunc/@snapshot, /run/user/UID/pyrunc/@snapshot", "What commands start from."),
    ("/etc/pyrunc/no-snapshot", "Where it is there, they start in the ordinary way."),
    ("config.json", "The configuration in a bundle, as the OCI runtime specification has it."),
]


def pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    found = {"pyrunc.8": _general()}
    for command in help.TOPICS:
        if command != "help":
            found[f"pyrunc-{command}.8"] = _command(command)
    return found


def _general() -> str:
    commands = "".join(
        f".TP\n\\fBpyrunc\\-{_roff(name)}\\fR(8)\n{_roff(topic[0])}\n"
        for name, topic in help.TOPICS.items()
        if name != "help"
    )
    return (
        _title("pyrunc", "Open Container Initiative runtime")
        + ".SH SYNOPSIS\n\\fBpyrunc\\fR [global options] command [command options] [arguments...]\n"
        + f".SH DESCRIPTION\n{_paragraphs(help.ABOUT)}"
        + f".SH COMMANDS\n{commands}"
        + f".SH GLOBAL OPTIONS\n{_options(GLOBAL_FLAGS)}"
        + f".SH EXIT STATUS\n{_terms(EXIT_CODES[''])}"
        + f".SH FILES\n{_terms(FILES)}"
        + ".SH SEE ALSO\n\\fBps\\fR(1), \\fBcgroups\\fR(7), \\fBnamespaces\\fR(7)\n"
    )


def _command(name: str) -> str:
    summary, usage, story = help.TOPICS[name]
    forms = f"pyrunc {name} {usage}".split("\n")
    return (
        _title(f"pyrunc-{name}", summary)
        + ".SH SYNOPSIS\n"
        + ".br\n".join(f"{_roff(form.strip())}\n" for form in forms)
        + f".SH DESCRIPTION\n{_paragraphs(story)}"
        + f".SH OPTIONS\n{_options(help.module_flags(name))}"
        + f".SH EXIT STATUS\n{_terms(EXIT_CODES.get(name, EXIT_CODES[''][:2]))}"
        + ".SH SEE ALSO\n\\fBpyrunc\\fR(8)\n"
    )


def _title(name: str, summary: str) -> str:
    return (
        f'.TH {_roff(name.upper())} 8 "" "pyrunc {pyrunc.__version__}" "System Administration"\n'
        f".SH NAME\n{_roff(name)} \\- {_roff(summary)}\n"
    )


def _options(table: flags.Table) -> str:
    return _terms([(help.spelled(f), f[2] + help.default(f)) for f in (*table, flags.HELP)])


def _terms(terms: list[tuple[str, str]]) -> str:
    return "".join(f".TP\n\\fB{_roff(term)}\\fR\n{_roff(meaning)}\n" for term, meaning in terms)


def _paragraphs(text: str) -> str:
    parts = []
    for paragraph in text.strip("\n").split("\n\n"):
        body = _roff(paragraph)
        parts.append(f".nf\n{body}\n.fi\n" if paragraph.startswith("    ") else f"{body}\n")
    return ".PP\n".join(parts)


def _roff(text: str) -> str:
    """Escape what roff would take for its own: backslashes, dashes, control lines."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(
        f"\\&{line}" if line[:1] in (".", "'") else line for line in escaped.split("\n")
    )


if __name__ == "__main__":
    for file_name, content in pages().items():
        (HERE / file_name).write_text(content)
