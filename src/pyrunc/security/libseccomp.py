"""libseccomp through ctypes: the few functions that build a filter and write it down as BPF.

Nothing of pyrunc's policy is here. Off the hot path: loaded only to compile a filter.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os

from pyrunc.errors import Error, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LIBRARY = "libseccomp.so.2"
NATIVE = 0  # SCMP_ARCH_NATIVE
UNKNOWN_SYSCALL = -1  # __NR_SCMP_ERROR
ATTRIBUTE_OPTIMIZE = 8  # SCMP_FLTATR_CTL_OPTIMIZE, libseccomp 2.5
BINARY_TREE = 2


class LibraryMissing(Error):
    """libseccomp is not installed."""


class Comparison(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


class Libseccomp:
    """The loaded library.

    :raises LibraryMissing: when it is not installed.
    """

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise LibraryMissing(
                f"seccomp: cannot load {LIBRARY}, which the container's filter is built with; "
                "install libseccomp (Debian and Ubuntu: libseccomp2; Fedora, Arch, Alpine: "
                f"libseccomp): {error}"
            ) from None
        context, action = ctypes.c_void_p, ctypes.c_uint32
        for name, result, arguments in (
            ("seccomp_init", context, (action,)),
            ("seccomp_release", None, (context,)),
            ("seccomp_attr_set", ctypes.c_int, (context, ctypes.c_int, ctypes.c_uint32)),
            ("seccomp_arch_resolve_name", ctypes.c_uint32, (ctypes.c_char_p,)),
            ("seccomp_arch_native", ctypes.c_uint32, ()),
            ("seccomp_arch_add", ctypes.c_int, (context, ctypes.c_uint32)),
            (
                "seccomp_syscall_resolve_name_arch",
                ctypes.c_int,
                (ctypes.c_uint32, ctypes.c_char_p),
            ),
            ("seccomp_syscall_resolve_num_arch", ctypes.c_void_p, (ctypes.c_uint32, ctypes.c_int)),
            (
                "seccomp_rule_add_array",
                ctypes.c_int,
                (context, action, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p),
            ),
            ("seccomp_export_bpf", ctypes.c_int, (context, ctypes.c_int)),
        ):
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        self._library = library
        self._free = ctypes.CDLL(None).free
        self._free.restype, self._free.argtypes = None, (ctypes.c_void_p,)

    def native_architecture(self) -> int:
        """Return the token of the architecture that this process runs as."""
        return int(self._library.seccomp_arch_native())

    def architecture(self, name: str) -> int:
        """Return the token of an architecture (``x86_64``); 0 when this libseccomp has none."""
        return int(self._library.seccomp_arch_resolve_name(name.encode()))

    def syscall_number(self, architecture: int, name: str) -> int:
        """Return a system call's number on an architecture; UNKNOWN_SYSCALL without one.

        Below -1 it is libseccomp's own number for a call that this architecture lacks, or has
        both directly and through one that bundles many (socketcall and ipc of x86).
        """
        encoded = name.encode("utf-8", "surrogateescape")
        return int(self._library.seccomp_syscall_resolve_name_arch(architecture, encoded))

    def syscall_name(self, architecture: int, number: int) -> str | None:
        """Return the name of a system call on an architecture; None when there is none."""
        found = self._library.seccomp_syscall_resolve_num_arch(architecture, number)
        if not found:
            return None
        name = ctypes.string_at(found).decode()
        self._free(found)
        return name

    @contextlib.contextmanager
    def context(self, default_action: int) -> Iterator[Context]:
        """Open a filter that answers ``default_action`` where no rule says otherwise."""
        handle = self._library.seccomp_init(default_action)
        if not handle:
            raise Error(f"seccomp: libseccomp refuses the default action {default_action:#x}")
        try:
            yield Context(self._library, handle)
        finally:
            self._library.seccomp_release(handle)

    @staticmethod
    def path() -> str | None:
        """Return the file the library was loaded from, as far as the kernel can tell."""
        try:
            with open("/proc/self/maps") as maps:
                for line in maps:
                    mapped = line.rstrip("\n").partition("/")
                    if mapped[2].rpartition("/")[2].startswith("libseccomp.so."):
                        path = mapped[1] + mapped[2]
                        return path if os.path.exists(path) else None
        except OSError:
            pass
        return None


class Context:
    """A filter in the making (scmp_filter_ctx)."""

    def __init__(self, library: ctypes.CDLL, handle: int) -> None:
        self._library = library
        self._handle = handle

    def optimize(self) -> None:
        """Ask for a binary tree over the numbers, which libseccomp can build since 2.5."""
        self._library.seccomp_attr_set(self._handle, ATTRIBUTE_OPTIMIZE, BINARY_TREE)

    def add_architecture(self, token: int) -> None:
        """Cover another architecture; one that is there already is fine.

        :raises OSError: when libseccomp refuses it.
        """
        _check(self._library.seccomp_arch_add(self._handle, token), errno.EEXIST)

    def add_rule(self, action: int, number: int, comparisons: Sequence[Comparison]) -> None:
        """Answer ``action`` to system call ``number`` (native) if all ``comparisons`` hold.

        Where an earlier rule has answered the same already, that one stays.

        :raises OSError: when libseccomp refuses the rule.
        """
        array = (Comparison * len(comparisons))(*comparisons)
        result = self._library.seccomp_rule_add_array(
            self._handle, action, number, len(comparisons), array
        )
        _check(result, errno.EEXIST)

    def bpf(self) -> bytes:
        """Return the filter as an array of struct sock_filter.

        :raises Error: when libseccomp cannot generate it.
        """
        fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        try:
            _check(self._library.seccomp_export_bpf(self._handle, fd))
            os.lseek(fd, 0, os.SEEK_SET)
            with open(fd, "rb", closefd=False) as file:
                return file.read()
        except OSError as error:
            raise Error(f"seccomp: libseccomp cannot build the filter: {reason(error)}") from None
        finally:
            os.close(fd)


def _check(result: int, accepted: int = 0) -> None:
    """Turn a negative errno into OSError."""
    if result < 0 and -result != accepted:
        raise OSError(-result, os.strerror(-result))
