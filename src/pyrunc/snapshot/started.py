"""What the launcher tells of the start: whether it was from a snapshot, and if not, why."""

from __future__ import annotations

#: Gone on from a snapshot.
RESTORED = "restored"
#: None is there, or none that fits.
MISSING = "missing"
#: One is there, but this process has no room for it where it has to be.
UNFIT = "unfit"
#: Making one has failed on this machine.
FAILED = "failed"
#: This process is to make one.
MAKING = "make"
#: Switched off.
OFF = "off"
#: No machine, user or directory for it; also when the launcher was not what started this.
IMPOSSIBLE = "impossible"


class Started:
    """How this process began.

    ``outcome`` is one of the above; ``path`` the snapshot that is the caller's, there or not;
    ``marker`` the file that says why it cannot be made; ``key`` what one made now must be keyed
    on; ``launcher`` the path of the command; ``began`` when it was executed, in ns, if a trace was
    asked for and a snapshot is in use, else 0; ``stamp`` when the snapshot in use was made, in ns;
    ``unknown`` the command's name if what it writes to is to be kept (``footprint.py``), else "".
    """

    __slots__ = ("began", "key", "launcher", "marker", "outcome", "path", "stamp", "unknown")

    def __init__(self, told: str = "", began: int = 0) -> None:
        """``told`` is what the launcher writes (``launcher.c``, describe)."""
        lines = told.split("\n", 4) if told else [IMPOSSIBLE, "", "", "", ""]
        self.outcome, self.path, self.marker, key, self.launcher = lines
        self.key = bytes.fromhex(key)
        self.began = began
        self.stamp = 0
        self.unknown = ""

    def describe(self) -> str:
        """Return a few words for a person."""
        if self.outcome == RESTORED:
            return "in use"
        if self.outcome == FAILED:
            from pyrunc.linux.files import read_file

            try:
                why = read_file(self.marker).decode("utf-8", "replace").strip()
            except OSError:
                why = "unknown"
            return f"none (cannot be made: {why})"
        reasons = {
            MISSING: "not made yet",
            UNFIT: "no room for it in this process",
            MAKING: "it is being made",
            OFF: "switched off",
            IMPOSSIBLE: "not for this machine or caller",
        }
        return f"none ({reasons[self.outcome]})"
