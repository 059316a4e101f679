"""What :class:`pyrunc.Process` and :class:`pyrunc.aio.Process` have alike: all that never waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyrunc.sandbox.process import ProcessLogic
    from pyrunc.sandbox.result import Result


class ProcessFace:
    """A program that was started in a container."""

    _logic: ProcessLogic

    def __del__(self) -> None:
        if hasattr(self, "_logic"):
            # Forgotten, it goes on for as long as its container does.
            self._logic.close(kill=False)

    @property
    def args(self) -> tuple[str, ...]:
        """What was executed."""
        return self._logic.args

    @property
    def pid(self) -> int:
        """Its pid, as the host numbers it."""
        return self._logic.pid

    @property
    def pidfd(self) -> int:
        """A descriptor that can be waited for with poll(2), until the process is closed."""
        return self._logic.pidfd

    @property
    def terminal(self) -> int:
        """The descriptor of its terminal's master, to be read and written; -1 for none."""
        return self._logic.terminal

    @property
    def returncode(self) -> int | None:
        """The exit code, or minus the number of a signal; None while it runs."""
        result = self._logic.result
        return None if result is None else result.returncode

    @property
    def result(self) -> Result[bytes] | None:
        """How it ended and what it used, but not what it printed; None while it runs."""
        return self._logic.result

    def send_signal(self, signal: int) -> None:
        """Send it a signal.

        :raises ProcessGone: when it has ended.
        """
        self._logic.send_signal(signal)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(15)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(9)

    def resize(self, rows: int, columns: int) -> None:
        """Tell its terminal how large it is, in characters."""
        self._logic.resize(rows, columns)
