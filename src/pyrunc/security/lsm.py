"""AppArmor and SELinux: what to write, and where, so that the next execve gets the label.

Only the question "is this module active?" touches the machine, and only when a label is asked for.
A label that cannot be applied is an error: the program would run with less confinement than asked.
"""

from __future__ import annotations

import posix

from pyrunc.errors import Error
from pyrunc.linux.libc import cstring, syscall
from pyrunc.linux.numbers import SYS

_APPARMOR_PARAMETER = "/sys/module/apparmor/parameters/enabled"
_APPARMOR_ATTRIBUTES = "/proc/self/attr/apparmor/exec"  # Linux 5.8
_SELINUX_FS = "/sys/fs/selinux"
_SELINUX_MAGIC = 0xF97CFF8C


def apparmor_enabled() -> bool:
    """Tell whether AppArmor is active, so that a profile can be asked for."""
    try:
        fd = posix.open(_APPARMOR_PARAMETER, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return False
    try:
        return posix.read(fd, 1) == b"Y"
    finally:
        posix.close(fd)


def selinux_enabled() -> bool:
    """Tell whether SELinux is active: its file system is mounted at the usual place."""
    answer = bytearray(120)
    try:
        syscall(SYS["statfs"], cstring(_SELINUX_FS), answer)
    except OSError:
        return False
    # f_type comes first, a long in the order of the machine (little endian on both).
    return int.from_bytes(answer[:4], "little") == _SELINUX_MAGIC


def exec_labels(apparmor_profile: str, selinux_label: str) -> list[tuple[str, bytes]]:
    """Return what gives the program its labels, as ``(file under /proc/self, content)``.

    Each content is to be written with one write(2), by the thread that executes the program, after
    the last thing it does that the profile might forbid. Empty names ask for nothing.
    AppArmor's "unconfined" is what everything is on a machine without AppArmor.

    :raises Error: when the security module that is asked for is not active here.
    """
    labels: list[tuple[str, bytes]] = []
    if apparmor_profile:
        if apparmor_enabled():
            # attr/exec belongs to whichever security module is first; the other one is AppArmor's.
            path = "attr/apparmor/exec" if _exists(_APPARMOR_ATTRIBUTES) else "attr/exec"
            labels.append((path, b"exec " + _plain(apparmor_profile, "AppArmor profile")))
        elif apparmor_profile != "unconfined":
            raise Error(
                f"apparmor failed to apply profile: {apparmor_profile}: "
                "AppArmor is not enabled on this machine"
            )
    if selinux_label:
        check_selinux("process.selinuxLabel")
        labels.append(("attr/exec", _plain(selinux_label, "SELinux label")))
    return labels


def check_selinux(member: str) -> None:
    """Refuse the label of a ``member`` on a machine without SELinux, in words that callers know.

    :raises Error: when SELinux is not active.
    """
    if not selinux_enabled():
        raise Error(
            "selinux label is specified in config, but selinux is disabled or not supported"
            f" ({member})"
        )


def _plain(name: str, what: str) -> bytes:
    """Encode a label; a zero byte or a new line would end it early."""
    if "\0" in name or "\n" in name:
        raise Error(f"{what} {name!r} contains a zero byte or a new line")
    return name.encode("utf-8", "surrogateescape")


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True
