"""Mount options of config.json in the kernel's terms (config.md, "Linux mount options").

Also the two groups of them that any mount gets in the same way, once it is attached.
"""

from __future__ import annotations

from errno import EPERM

from pyrunc.linux import mounts as m

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: Option -> (attributes set, attributes cleared) of the mount itself.
_ATTRIBUTES: dict[str, tuple[int, int]] = {
    "ro": (m.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, m.MOUNT_ATTR_RDONLY),
    "nosuid": (m.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, m.MOUNT_ATTR_NOSUID),
    "nodev": (m.MOUNT_ATTR_NODEV, 0),
    "dev": (0, m.MOUNT_ATTR_NODEV),
    "noexec": (m.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, m.MOUNT_ATTR_NOEXEC),
    "nodiratime": (m.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, m.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (m.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, m.MOUNT_ATTR_NOSYMFOLLOW),
    # The access time modes are one field: to set one, the field is cleared first.
    "noatime": (m.MOUNT_ATTR_NOATIME, m.MOUNT_ATTR_ATIME),
    "atime": (0, m.MOUNT_ATTR_ATIME),
    "strictatime": (m.MOUNT_ATTR_STRICTATIME, m.MOUNT_ATTR_ATIME),
    "nostrictatime": (0, m.MOUNT_ATTR_ATIME),
    "relatime": (0, m.MOUNT_ATTR_ATIME),
    # Without relatime the kernel does what it does by default, which is relatime.
    "norelatime": (0, 0),
}
_PROPAGATION = {
    "shared": m.MS_SHARED,
    "slave": m.MS_SLAVE,
    "private": m.MS_PRIVATE,
    "unbindable": m.MS_UNBINDABLE,
}
#: Options of the file system rather than of one mount of it; they go to fsconfig(2) as flags.
_FILESYSTEM_FLAGS = {
    "sync": "sync",
    "async": "async",
    "dirsync": "dirsync",
    "lazytime": "lazytime",
    "nolazytime": "nolazytime",
    "mand": "mand",
    "nomand": "nomand",
}
#: The same as mount(2) flags that are set and cleared, for a remount.
_MOUNT_FLAGS = {
    "sync": (m.MS_SYNCHRONOUS, 0),
    "async": (0, m.MS_SYNCHRONOUS),
    "dirsync": (m.MS_DIRSYNC, 0),
    "lazytime": (m.MS_LAZYTIME, 0),
    "nolazytime": (0, m.MS_LAZYTIME),
    "mand": (m.MS_MANDLOCK, 0),
    "nomand": (0, m.MS_MANDLOCK),
}
#: Without effect on a mount that is made with the new calls: the kernel's messages come with the
#: error instead of going to its log, and access control lists are on wherever there are any.
_IGNORED = frozenset(("defaults", "loud", "silent", "acl", "noacl"))
_RECURSIVE_ATTRIBUTES = {"r" + name: change for name, change in _ATTRIBUTES.items()}
_RECURSIVE_PROPAGATION = {"r" + name: flag for name, flag in _PROPAGATION.items()}


class MountOptions:
    """The options of one mount, sorted by what carries them out."""

    __slots__ = (
        "bind",
        "copy_up",
        "data",
        "disable",
        "enable",
        "filesystem_flags",
        "idmap",
        "iversion",
        "propagation",
        "recursive_bind",
        "recursive_disable",
        "recursive_enable",
        "recursive_idmap",
        "remount",
    )

    def __init__(self) -> None:
        self.enable = 0
        self.disable = 0
        self.recursive_enable = 0
        self.recursive_disable = 0
        #: (``MS_*`` flag, recursive) in the order given.
        self.propagation: tuple[tuple[int, bool], ...] = ()
        self.filesystem_flags: tuple[str, ...] = ()
        #: What the file system itself understands: ``key`` or ``key=value``.
        self.data: tuple[str, ...] = ()
        self.bind = False
        self.recursive_bind = False
        self.remount = False
        self.copy_up = False
        #: Only mount(2) can ask for it; fsconfig(2) has no word for it.
        self.iversion = False
        self.idmap = False
        self.recursive_idmap = False

    @property
    def read_only(self) -> bool:
        """Whether ``ro`` or ``rro`` is the last word."""
        return bool((self.enable | self.recursive_enable) & m.MOUNT_ATTR_RDONLY)


def parse_options(options: Sequence[str]) -> MountOptions:
    """Sort ``options``; of contradicting ones the last wins, unknown ones are the file system's."""
    parsed = MountOptions()
    for option in options:
        if option in _ATTRIBUTES:
            on, off = _ATTRIBUTES[option]
            parsed.enable = parsed.enable & ~off | on
            parsed.disable = parsed.disable & ~on | off
        elif option in _RECURSIVE_ATTRIBUTES:
            on, off = _RECURSIVE_ATTRIBUTES[option]
            parsed.recursive_enable = parsed.recursive_enable & ~off | on
            parsed.recursive_disable = parsed.recursive_disable & ~on | off
        elif option in _PROPAGATION:
            parsed.propagation += ((_PROPAGATION[option], False),)
        elif option in _RECURSIVE_PROPAGATION:
            parsed.propagation += ((_RECURSIVE_PROPAGATION[option], True),)
        elif option in _FILESYSTEM_FLAGS:
            parsed.filesystem_flags += (_FILESYSTEM_FLAGS[option],)
        elif option == "bind":
            parsed.bind = True
        elif option == "rbind":
            parsed.bind = parsed.recursive_bind = True
        elif option == "remount":
            parsed.remount = True
        elif option == "tmpcopyup":
            parsed.copy_up = True
        elif option in ("iversion", "noiversion"):
            parsed.iversion = option == "iversion"
        elif option == "idmap":
            parsed.idmap = True
        elif option == "ridmap":
            parsed.idmap = parsed.recursive_idmap = True
        elif option not in _IGNORED:
            parsed.data += _split_data(option)
    return parsed


def _split_data(option: str) -> tuple[str, ...]:
    """Split at commas as mount(2)'s data argument is split: not in quotes nor after a backslash."""
    if "," not in option:
        return (option,) if option else ()
    parts = [""]
    quoted = escaped = False
    for character in option:
        if character == '"':
            quoted = not quoted
        if character == "," and not quoted and not escaped:
            parts.append("")
        else:
            parts[-1] += character
        escaped = character == "\\" and not escaped
    return tuple(part for part in parts if part)


def mount_flags(options: MountOptions, attributes: int) -> int:
    """Return ``attributes`` and the other ``options`` as flags of mount(2)."""
    flags = 0
    for attribute, flag in (
        (m.MOUNT_ATTR_RDONLY, m.MS_RDONLY),
        (m.MOUNT_ATTR_NOSUID, m.MS_NOSUID),
        (m.MOUNT_ATTR_NODEV, m.MS_NODEV),
        (m.MOUNT_ATTR_NOEXEC, m.MS_NOEXEC),
        (m.MOUNT_ATTR_NODIRATIME, m.MS_NODIRATIME),
        (m.MOUNT_ATTR_NOATIME, m.MS_NOATIME),
        (m.MOUNT_ATTR_STRICTATIME, m.MS_STRICTATIME),
        (m.MOUNT_ATTR_NOSYMFOLLOW, m.MS_NOSYMFOLLOW),
    ):
        if attributes & attribute:
            flags |= flag
    for name in options.filesystem_flags:
        on, off = _MOUNT_FLAGS[name]
        flags = flags & ~off | on
    if options.iversion:
        flags |= m.MS_I_VERSION
    return flags


def set_attributes(mount: int, options: MountOptions, *, read_only: bool = True) -> None:
    """``ro``, ``nosuid`` …: the mount alone.

    :param read_only: whether it may become read-only already.
    """
    enable = options.enable if read_only else options.enable & ~m.MOUNT_ATTR_RDONLY
    if enable or options.disable:
        _change(mount, enable, options.disable, recursive=False)


def set_recursive_attributes(mount: int, options: MountOptions, *, read_only: bool = True) -> None:
    """``rro``, ``rnosuid`` …: the mount and all that is mounted below it.

    :param read_only: whether the mount itself may become read-only already.
    """
    if options.recursive_enable or options.recursive_disable:
        _change(mount, options.recursive_enable, options.recursive_disable, recursive=True)
        if options.recursive_enable & m.MOUNT_ATTR_RDONLY and not read_only:
            _change(mount, 0, m.MOUNT_ATTR_RDONLY, recursive=False)


def _change(mount: int, enable: int, disable: int, *, recursive: bool) -> None:
    try:
        m.set_attributes(mount, enable=enable, disable=disable, recursive=recursive)
    except OSError as error:
        if error.errno != EPERM:
            raise
        # mount_namespaces(7), "Restrictions on mount namespaces".
        why = (
            f"{error.strerror}: in a user namespace no option of the host's mount can be undone, "
            "nor its access times be changed"
        )
        raise OSError(EPERM, why) from None


def apply_propagation(mount: int, options: MountOptions) -> None:
    """``shared``, ``rslave`` …, in the order in which they are written."""
    for flag, recursive in options.propagation:
        m.set_attributes(mount, propagation=flag, recursive=recursive)


#: Every option with a meaning of its own here, for `pyrunc features`.
RECOGNIZED = tuple(
    sorted(
        {
            *_ATTRIBUTES,
            *_RECURSIVE_ATTRIBUTES,
            *_PROPAGATION,
            *_RECURSIVE_PROPAGATION,
            *_FILESYSTEM_FLAGS,
            *_IGNORED,
            "bind",
            "rbind",
            "remount",
            "tmpcopyup",
            "iversion",
            "noiversion",
            "idmap",
            "ridmap",
        }
    )
)
