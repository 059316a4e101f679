"""Write ``pyrunc.bash`` next to this file, from the commands' own flags.

Run it after a change to them: ``python3 completions/generate.py``. A unit
test fails when the file is stale.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "src"))

from pyrunc.cli import flags, help  # noqa: E402
from pyrunc.cli.commands import GLOBAL_FLAGS  # noqa: E402

_TAKES_ID = "checkpoint delete events exec kill pause ps resume start state update"
_SCRIPT = """\
# bash completion for pyrunc; written by completions/generate.py
_pyrunc() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    local command= root= valued i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in
            --root) root=${{COMP_WORDS[++i]}} ;;
            {global_valued}) ((i++)) ;;
            -*) ;;
            *) command=${{COMP_WORDS[i]}}; break ;;
        esac
    done
    local options arguments=
    case $command in
        '') options='{global_options}'; valued='{global_valued}'; arguments='{commands}' ;;
{cases}
        *) return ;;
    esac
    if [[ "|$valued|" == *"|$before|"* ]]; then
        COMPREPLY=($(compgen -f -- "$word"))
    elif [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$word"))
    else
        case $command in
            {takes_id})
                # compgen -W expands its words as the shell does: nothing but ids may get there.
                arguments=$(pyrunc ${{root:+--root "$root"}} list -q 2>/dev/null |
                    grep -x '[A-Za-z0-9_+.-]*') ;;
        esac
        COMPREPLY=($(compgen -W "$arguments" -- "$word"))
    fi
}}
complete -o filenames -F _pyrunc pyrunc
"""


def script() -> str:
    """Return the text of the completion script."""
    commands = [name for name in help.TOPICS if name != "help"]
    cases = "\n".join(
        f"        {name}) options='{_spelled(table)}'; valued='{_spelled(table, valued=True)}' ;;"
        for name in commands
        for table in [help.module_flags(name)]
    )
    return _SCRIPT.format(
        global_options=_spelled(GLOBAL_FLAGS),
        global_valued=_spelled(GLOBAL_FLAGS, valued=True),
        commands=" ".join([*commands, "help"]),
        cases=cases,
        takes_id="|".join(_TAKES_ID.split()),
    )


def _spelled(table: flags.Table, *, valued: bool = False) -> str:
    """Return the flags as typed; with ``valued`` those that take a value, joined by bars."""
    words = [
        f"{'--' if len(name) > 1 else '-'}{name}"
        for flag in (*table, flags.HELP)
        if not valued or flag[1] != "bool"
        for name in flag[0].split(",")
    ]
    return ("|" if valued else " ").join(words)


if __name__ == "__main__":
    (HERE / "pyrunc.bash").write_text(script())
