"""The log: warnings, errors and debug lines, to stderr or to the file of ``--log``.

The format is the one engines parse: ``time=… level=… msg=…``, or one JSON
object a line. With a log file, errors are also written bare to stderr.
"""

from __future__ import annotations

import posix
import time

from pyrunc.errors import Error, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_STDERR = 2
_UNQUOTED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._/@^+")


class Log:
    """Writes entries; until :meth:`configure` is called, as text to stderr."""

    __slots__ = ("_descriptor", "_json", "debugging")

    def __init__(self) -> None:
        self.debugging = False
        self._json = False
        self._descriptor = _STDERR

    def configure(self, path: str, form: str, debugging: bool) -> None:
        """Apply ``--log``, ``--log-format`` and ``--debug``.

        :raises Error: when the format is unknown or the file cannot be opened.
        """
        self.debugging = debugging
        if form not in ("", "text", "json"):
            raise Error(f"invalid log-format: {form}")
        self._json = form == "json"
        if path in ("", "/dev/stderr"):
            return
        from pyrunc.linux.given_files import open_or_make

        try:
            # 0644 less the umask: the engine that reads the log need not be its owner.
            self._descriptor = open_or_make(path, posix.O_WRONLY | posix.O_APPEND)
        except (OSError, ValueError) as error:
            raise Error(f"cannot open log file {path}: {reason(error)}") from None

    def debug(self, message: str) -> None:
        """Record a detail, when ``--debug`` was given."""
        if self.debugging:
            self._entries("debug", *message.split("\n"))

    def warn(self, message: str) -> None:
        """Record something that went wrong but does not stop the operation."""
        self._entries("warning", message)

    def error(self, message: str, lines: Sequence[str] = ()) -> None:
        """Record why the command failed: one entry, as engines show the first or the last.

        :param lines: the message as a person at a terminal reads it.
        """
        shown = lines if lines and posix.isatty(_STDERR) else (message,)
        if self._descriptor == _STDERR:
            self._entries("error", *shown)
            return
        self._entries("error", message)
        from .text import visible

        _write(_STDERR, "".join(f"{visible(line)}\n" for line in shown))

    def _entries(self, level: str, *messages: str) -> None:
        now = timestamp(time.time())
        form = json_entry if self._json else text_entry
        _write(self._descriptor, "".join(form(now, level, message) for message in messages))


def text_entry(now: str, level: str, message: str) -> str:
    """Return one line ``time="…" level=… msg=…``; plain words go unquoted."""
    if _UNQUOTED.issuperset(message):
        return f'time="{now}" level={level} msg={message}\n'
    try:
        from .text import quoted
    except (ImportError, OSError):
        # What is to be told may be that nothing can be opened any more.
        return f'time="{now}" level={level} msg="{plain(message)}"\n'
    return f'time="{now}" level={level} msg={quoted(message)}\n'


def plain(message: str) -> str:
    """Return the message with nothing in it that could end the quotes, or be an escape code."""
    return "".join(c if c.isprintable() and c not in '"\\' else "?" for c in message)


def json_entry(now: str, level: str, message: str) -> str:
    """Return one line of JSON with the keys level, msg and time."""
    from _json import encode_basestring_ascii

    from .text import visible

    # A stray byte is no character: name it, as a lone surrogate is not valid JSON text.
    shown = visible(message) if not _encodable(message) else message
    escaped = encode_basestring_ascii(shown).replace("\x7f", "\\u007f")
    return f'{{"level":"{level}","msg":{escaped},"time":"{now}"}}\n'


def timestamp(seconds: float) -> str:
    """Format a time as RFC 3339 in the local zone, to the second."""
    local = time.localtime(seconds)
    offset = local.tm_gmtoff // 60
    hours, minutes = divmod(abs(offset), 60)
    zone = f"{'-' if offset < 0 else '+'}{hours:02}:{minutes:02}" if offset else "Z"
    year, month, day, hour, minute, second = local[:6]
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{zone}"


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _write(descriptor: int, text: str) -> None:
    content = text.encode("utf-8", "backslashreplace")
    try:
        while content:
            content = content[posix.write(descriptor, content) :]
    except OSError:
        pass  # there is nowhere left to say so
