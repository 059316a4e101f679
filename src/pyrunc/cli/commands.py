"""What can be typed: the commands, and the options before them.

The tables that :mod:`pyrunc.cli.main`, the help, the man page and the completions have in common.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .flags import Table

#: Command -> module. Only the one asked for is loaded.
COMMANDS = {
    "checkpoint": "checkpoint",
    "create": "create",
    "delete": "delete",
    "events": "events",
    "exec": "execute",
    "kill": "kill",
    "list": "list",
    "pause": "pause",
    "ps": "ps",
    "restore": "restore",
    "resume": "resume",
    "run": "run",
    "spec": "spec",
    "start": "start",
    "state": "state",
    "update": "update",
    "warm-up": "warm_up",
    "features": "features",
    "help": "help",
    "h": "help",
}

#: Commands that come often, and so are worth a snapshot to start from (docs/snapshot.md).
FREQUENT = frozenset((
    "create", "delete", "events", "exec", "kill", "list", "pause", "ps", "resume", "run", "start",
    "state", "update",
))  # fmt: skip

GLOBAL_FLAGS: Table = (
    ("debug", "bool", "log what is done in detail"),
    ("log", "str", "file the log is appended to (default: stderr)"),
    ("log-format", "str", "form of the log: 'text' or 'json'", "text"),
    ("root", "str", "directory of the containers' state, best on a tmpfs"),
    ("criu", "str", "accepted for old callers; criu is looked up in $PATH"),
    ("systemd-cgroup", "bool", 'let systemd make the cgroups; cgroupsPath is "slice:prefix:name"'),
    ("cgroup-manager", "str", "'cgroupfs', 'systemd' or 'disabled'"),
    ("rootless", "str", "pass over cgroup permission errors: 'true', 'false' or 'auto'", "auto"),
    ("trace", "str", "write where the time goes to this file (for chrome://tracing)"),
    ("version,v", "bool", "print the version"),
)
