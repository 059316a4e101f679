"""Talking to systemd: sd-bus(3) of libsystemd through ctypes.

libsystemd is there wherever systemd is, speaks the protocol completely, and
needs no package. Loaded only for ``--systemd-cgroup``: the import of ctypes
takes 3 ms.
"""

from __future__ import annotations

import ctypes
import time

from pyrunc.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    #: Name, D-Bus signature of the value, value.
    Property = tuple[str, str, Any]

_DESTINATION = b"org.freedesktop.systemd1"
_PATH = b"/org/freedesktop/systemd1"
_MANAGER = b"org.freedesktop.systemd1.Manager"
#: How long a unit's job may take, in seconds.
_LONGEST_JOB = 30.0

_C_TYPES: dict[str, Any] = {
    "y": ctypes.c_uint8,
    "b": ctypes.c_int,
    "i": ctypes.c_int32,
    "u": ctypes.c_uint32,
    "x": ctypes.c_int64,
    "t": ctypes.c_uint64,
    "d": ctypes.c_double,
}


class _BusError(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("message", ctypes.c_char_p),
        ("_need_free", ctypes.c_int),
    )


class BusCallFailed(Error):
    """systemd answered with an error; ``name`` is its D-Bus name."""

    def __init__(self, doing: str, name: str, message: str) -> None:
        self.name = name
        super().__init__(f"systemd: cannot {doing}: {message}")


class Bus:
    """A connection to the system's or the caller's own service manager."""

    def __init__(self, *, user: bool) -> None:
        """Connect.

        :raises Error: when there is no libsystemd or no bus.
        """
        try:
            self._library = ctypes.CDLL("libsystemd.so.0")
        except OSError as error:
            raise Error(
                f"the systemd cgroup driver needs libsystemd.so.0: {error}; "
                "leave --systemd-cgroup out to use cgroupfs"
            ) from None
        self._bus = ctypes.c_void_p()
        opening = self._library.sd_bus_open_user if user else self._library.sd_bus_open_system
        code = opening(ctypes.byref(self._bus))
        if code < 0:
            whose = "user's" if user else "system"
            raise Error(f"cannot connect to the {whose} bus of systemd: {_reason(code)}")

    def close(self) -> None:
        """Disconnect."""
        self._library.sd_bus_flush_close_unref(self._bus)

    def start_scope(self, unit: str, properties: Sequence[Property]) -> None:
        """Start a transient scope and wait until it is there."""
        self._add_match()
        message = self._message("StartTransientUnit")
        self._append(message, "ss", unit, "replace")
        self._append_properties(message, properties)
        self._open(message, "a", "(sa(sv))")
        self._close(message)
        self._wait_for_job(self._call_for_job(f"start {unit}", message), f"start {unit}")

    def stop_unit(self, unit: str) -> None:
        """Stop a unit and wait until it is gone; one that is not there is no error."""
        self._add_match()
        message = self._message("StopUnit")
        self._append(message, "ss", unit, "replace")
        try:
            job = self._call_for_job(f"stop {unit}", message)
        except BusCallFailed as error:
            if error.name.endswith(".NoSuchUnit"):
                return
            raise
        self._wait_for_job(job, f"stop {unit}")

    def reset_failed(self, unit: str) -> None:
        """Let systemd forget a unit that failed, so that its name is free again."""
        message = self._message("ResetFailedUnit")
        self._append(message, "s", unit)
        try:
            self._call(f"reset {unit}", message)
        except BusCallFailed as error:
            if not error.name.endswith(".NoSuchUnit"):
                raise

    def set_properties(self, unit: str, properties: Sequence[Property]) -> None:
        """Change properties of a running unit, until the next boot."""
        message = self._message("SetUnitProperties")
        self._append(message, "sb", unit, True)
        self._append_properties(message, properties)
        self._call(f"set properties of {unit}", message)

    def control_group(self) -> str:
        """Return the cgroup of the service manager itself, "" for the root."""
        return self._property("ControlGroup")

    def version(self) -> int:
        """Return the version of systemd, 0 when it cannot be told."""
        digits = self._property("Version").partition(".")[0].partition(" ")[0].partition("~")[0]
        return int(digits) if digits.isascii() and digits.isdigit() else 0

    def _property(self, name: str) -> str:
        text = ctypes.c_char_p()
        error = _BusError()
        code = self._library.sd_bus_get_property_string(
            self._bus, _DESTINATION, _PATH, _MANAGER, name.encode(),
            ctypes.byref(error), ctypes.byref(text),
        )  # fmt: skip
        if code < 0:
            raise _failure(f"tell its {name}", error, code)
        return (text.value or b"").decode()

    def _message(self, method: str) -> ctypes.c_void_p:
        message = ctypes.c_void_p()
        self._check(
            self._library.sd_bus_message_new_method_call(
                self._bus, ctypes.byref(message), _DESTINATION, _PATH, _MANAGER, method.encode()
            )
        )
        return message

    def _append(self, message: ctypes.c_void_p, signature: str, *values: Any) -> None:
        for kind, value in zip(signature, values, strict=True):
            if kind in "sog":
                argument: Any = ctypes.c_char_p(str(value).encode())
            else:
                argument = ctypes.byref(_C_TYPES[kind](value))
            code = self._library.sd_bus_message_append_basic(
                message, ctypes.c_char(kind.encode()), argument
            )
            self._check(code)

    def _open(self, message: ctypes.c_void_p, kind: str, contents: str) -> None:
        self._check(
            self._library.sd_bus_message_open_container(
                message, ctypes.c_char(kind.encode()), contents.encode()
            )
        )

    def _close(self, message: ctypes.c_void_p) -> None:
        self._check(self._library.sd_bus_message_close_container(message))

    def _append_properties(self, message: ctypes.c_void_p, properties: Sequence[Property]) -> None:
        self._open(message, "a", "(sv)")
        for name, signature, value in properties:
            self._open(message, "r", "sv")
            self._append(message, "s", name)
            self._open(message, "v", signature)
            if signature.startswith("a"):
                self._open(message, "a", signature[1:])
                for item in value:
                    self._append(message, signature[1:], item)
                self._close(message)
            else:
                self._append(message, signature, value)
            self._close(message)
            self._close(message)
        self._close(message)

    def _call(self, doing: str, message: ctypes.c_void_p) -> ctypes.c_void_p:
        error = _BusError()
        reply = ctypes.c_void_p()
        code = self._library.sd_bus_call(
            self._bus, message, ctypes.c_uint64(0), ctypes.byref(error), ctypes.byref(reply)
        )
        self._library.sd_bus_message_unref(message)
        if code < 0:
            raise _failure(doing, error, code)
        return reply

    def _call_for_job(self, doing: str, message: ctypes.c_void_p) -> bytes:
        reply = self._call(doing, message)
        job = ctypes.c_char_p()
        self._check(self._library.sd_bus_message_read(reply, b"o", ctypes.byref(job)))
        path = job.value or b""
        self._library.sd_bus_message_unref(reply)
        return path

    def _add_match(self) -> None:
        rule = b"type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'"
        self._check(self._library.sd_bus_add_match(self._bus, None, rule, None, None))

    def _wait_for_job(self, job: bytes, doing: str) -> None:
        deadline = time.monotonic() + _LONGEST_JOB
        while (left := deadline - time.monotonic()) > 0:
            message = ctypes.c_void_p()
            code = self._library.sd_bus_process(self._bus, ctypes.byref(message))
            self._check(code)
            if code == 0:
                self._check(self._library.sd_bus_wait(self._bus, ctypes.c_uint64(int(left * 1e6))))
                continue
            if not message:
                continue
            result = self._result_of(message, job)
            self._library.sd_bus_message_unref(message)
            if result == b"done":
                return
            if result is not None:
                raise Error(f"systemd: cannot {doing}: the job ended as {result.decode()!r}")
        raise Error(f"systemd: cannot {doing}: no answer within {_LONGEST_JOB:.0f} s")

    def _result_of(self, message: ctypes.c_void_p, job: bytes) -> bytes | None:
        if self._library.sd_bus_message_is_signal(message, _MANAGER, b"JobRemoved") <= 0:
            return None
        number = ctypes.c_uint32()
        path, unit, result = ctypes.c_char_p(), ctypes.c_char_p(), ctypes.c_char_p()
        self._check(
            self._library.sd_bus_message_read(
                message, b"uoss", ctypes.byref(number), ctypes.byref(path),
                ctypes.byref(unit), ctypes.byref(result),
            )
        )  # fmt: skip
        return result.value if path.value == job else None

    @staticmethod
    def _check(code: int) -> None:
        if code < 0:
            raise Error(f"systemd: the bus failed: {_reason(code)}")


def _failure(doing: str, error: _BusError, code: int) -> BusCallFailed:
    name = (error.name or b"").decode()
    message = (error.message or b"").decode() or _reason(code)
    return BusCallFailed(doing, name, message)


def _reason(code: int) -> str:
    import os

    return os.strerror(-code).lower()
