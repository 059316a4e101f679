"""The steps of the runtime that `create` and `exec` have in common."""

from __future__ import annotations

import posix

from pyrunc.container.undertaking import RuntimeStep
from pyrunc.errors import Error
from pyrunc.linux import files
from pyrunc.process.attributes import why_no_score

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.undertaking import Birth


class SetOomScore(RuntimeStep):
    """``process.oomScoreAdj``, once Python is gone from the process."""

    score: int

    def describe(self) -> str:
        return f"set oom_score_adj to {self.score}"

    def apply(self, doing: Birth) -> None:
        try:
            files.write_file(f"/proc/{doing.pid}/oom_score_adj", b"%d" % self.score)
        except OSError as error:
            raise Error(f"cannot {self.describe()}: {why_no_score(error)}") from None


class SendPidfd(RuntimeStep):
    """``--pidfd-socket``."""

    socket: str

    def describe(self) -> str:
        return f"send the pidfd to socket {self.socket}"

    def apply(self, doing: Birth) -> None:
        from pyrunc.process.console import send_pidfd

        send_pidfd(self.socket, doing.pidfd)


class WritePidFile(RuntimeStep):
    """``--pid-file``."""

    path: str

    def describe(self) -> str:
        return f"write pid file {self.path}"

    def apply(self, doing: Birth) -> None:
        from pyrunc.container.record.pid_file import write_pid_file

        write_pid_file(self.path, doing.pid)
        doing.wrote_pid_file = True

    def undo(self, doing: Birth) -> None:
        if doing.wrote_pid_file:
            posix.unlink(self.path)
