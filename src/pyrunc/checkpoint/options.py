"""What `checkpoint` and `restore` can be told: the flags of the same names; paths are absolute."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrunc.spec.types import Spec


class _Options:
    def __init__(self, **values: object) -> None:
        for name, value in values.items():
            if not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} has no option {name!r}")
            setattr(self, name, value)


class CommonOptions(_Options):
    """What both are told, alike for CRIU."""

    #: Called twice a second while CRIU works, with the bytes of memory that are written so far; at
    #: the end with None.
    progress: Callable[[int | None], None] | None = None
    #: CRIU's program; the first one in $PATH when empty.
    criu: str = ""
    #: Directory of the images.
    image_path: str = ""
    #: Directory of CRIU's log and other files; that of the images when empty.
    work_path: str = ""
    tcp_established: bool = False
    ext_unix_sk: bool = False
    shell_job: bool = False
    file_locks: bool = False
    lazy_pages: bool = False
    auto_dedup: bool = False
    #: "soft", "full", "strict" or "ignore".
    manage_cgroups_mode: str = "soft"
    #: Types of namespaces whose contents are not kept; CRIU can do that with "network".
    empty_ns: tuple[str, ...] = ()


class CheckpointOptions(CommonOptions):
    """What `checkpoint` can be told."""

    #: An earlier pre-dump, relative to the directory of the images.
    parent_path: str = ""
    leave_running: bool = False
    tcp_skip_in_flight: bool = False
    link_remap: bool = False
    pre_dump: bool = False
    #: Return what it took.
    stats: bool = False
    #: Write the container's config beside the images, for a restore without a bundle.
    keep_config: bool = False
    #: Called with a descriptor of the directory of the images once all is in there, while the
    #: processes still stand still; when it fails, with an Error or OSError, they go on.
    when_saved: Callable[[int], None] | None = None
    #: Leave the record and the cgroups to the caller, who removes them.
    leave_record: bool = False
    #: Where CRIU writes a byte once lazy pages can be fetched, or -1.
    status_fd: int = -1
    #: ADDRESS:PORT that the memory is sent to.
    page_server: str = ""


class RestoreOptions(CommonOptions):
    """What `restore` can be told."""

    bundle: str = ""
    #: The config, if not the bundle's; the bundle is then only what relative paths start from.
    spec: Spec | None = None
    console_socket: str = ""
    pid_file: str = ""
    detach: bool = False
    no_subreaper: bool = False
    #: TYPE:NAME of the security profile to run under.
    lsm_profile: str = ""
    #: Security context of the mounts.
    lsm_mount_context: str = ""
