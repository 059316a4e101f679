"""``python -m pyrunc``: the command, where only the package is at hand.

The interpreter is the caller's, with its settings and start-up, so it starts slower than
``pyrunc`` does.
"""

from __future__ import annotations

from pyrunc.cli.main import main

main()
