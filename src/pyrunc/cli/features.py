"""``pyrunc features``: what this runtime and this machine can do (features.md)."""

from __future__ import annotations

from .output import write_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.settings import Settings

    from .flags import Options, Table

FLAGS: Table = ()
ARGUMENTS = (0, 0)


def call(settings: Settings, options: Options, arguments: list[str]) -> int:
    """Print the features structure and return 0."""
    from pyrunc import __version__
    from pyrunc.security.capabilities import NAMES
    from pyrunc.security.seccomp_compile import supported_flags
    from pyrunc.spec.features import features

    from .version import libseccomp

    annotations = {"pyrunc.version": __version__}
    annotations["pyrunc.snapshot"] = options["global"]["started"].describe()
    seccomp = libseccomp()
    if seccomp:
        annotations["io.github.seccomp.libseccomp.version"] = seccomp
    write_json(features(NAMES, seccomp_flags=supported_flags(), annotations=annotations), "    ")
    return 0
