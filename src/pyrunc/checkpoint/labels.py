"""Whether processes run under the security profile that a restore was told.

CRIU gives it only to what was saved with a profile, and says nothing of the others.
"""

from __future__ import annotations

import posix

from pyrunc.errors import Error
from pyrunc.linux import files
from pyrunc.linux import processes as p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def enforce(pids: Iterable[int], profile: str) -> None:
    """See that what is restored has the profile, as ``--lsm-profile`` names it, or kill it.

    :param pids: all that CRIU has stopped and would have go on, whatever it is told. So are those
        who could wait for them: the numbers stay theirs.
    :raises Error: naming the first process that has it not.
    """
    try:
        for pid in pids:
            _check(pid, profile)
    except (Error, OSError):
        for pid in pids:
            posix.kill(pid, p.SIGKILL)
        raise


def _check(pid: int, profile: str) -> None:
    kind, _, name = profile.partition(":")
    for thread in posix.listdir(f"/proc/{pid}/task"):
        label = _label(f"/proc/{pid}/task/{thread}/attr", kind)
        # AppArmor's labels may be several, one upon the other.
        if name not in label.split("//&"):
            raise Error(
                f"--lsm-profile {profile} has no effect on process {pid}, which is {label!r}: "
                "CRIU gives a profile only to what was saved with one"
            )


def _label(attributes: str, kind: str) -> str:
    if kind == "apparmor":
        try:
            # The other file belongs to whichever security module is first.
            text = files.read_file(f"{attributes}/apparmor/current")
        except FileNotFoundError:
            text = files.read_file(f"{attributes}/current")
        # The mode comes after it: "name (enforce)".
        text = text.rstrip().rpartition(b" (")[0] or text
    else:
        text = files.read_file(f"{attributes}/current")
    return text.rstrip(b"\0\n").decode("utf-8", "replace")
