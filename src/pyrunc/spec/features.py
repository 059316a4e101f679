"""The features structure: what of the specification pyrunc knows (features.md).

It says what the runtime recognises, whatever this host can do; only the seccomp flags are
also told by what its kernel takes. The lists of seccomp, namespaces and hooks are those the
checker of this room goes by, so the two cannot disagree.
"""

from __future__ import annotations

from pyrunc.spec import linux, seccomp
from pyrunc.spec.config import HOOKS
from pyrunc.spec.default import OCI_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

OCI_VERSION_MINIMUM = "1.0.0"

_OF_A_MOUNT = (
    "atime",
    "dev",
    "diratime",
    "exec",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "relatime",
    "ro",
    "rw",
    "shared",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "unbindable",
)
_OTHERS = (
    "acl",
    "async",
    "bind",
    "defaults",
    "dirsync",
    "idmap",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noacl",
    "noiversion",
    "nolazytime",
    "nomand",
    "rbind",
    "remount",
    "ridmap",
    "silent",
    "sync",
    "tmpcopyup",
)
#: The options of a mount also come with an "r" before them: for the mounts below it too.
MOUNT_OPTIONS = sorted((*_OF_A_MOUNT, *("r" + name for name in _OF_A_MOUNT), *_OTHERS))


def features(
    capabilities: Sequence[str],
    *,
    mount_options: Sequence[str] = MOUNT_OPTIONS,
    seccomp_flags: Sequence[str] = seccomp.FLAGS,
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the features structure.

    ``capabilities`` are the names that are recognised, ``seccomp_flags`` those that can be
    carried out, and ``annotations`` what else there is to say, such as the versions of libraries.
    """
    return {
        "ociVersionMin": OCI_VERSION_MINIMUM,
        "ociVersionMax": OCI_VERSION,
        "hooks": list(HOOKS),
        "mountOptions": list(mount_options),
        "linux": {
            "namespaces": list(linux.NAMESPACES),
            "capabilities": list(capabilities),
            "cgroup": {
                "v1": True,
                "v2": True,
                "systemd": True,
                "systemdUser": True,
                "rdma": True,
            },
            "seccomp": {
                "enabled": True,
                "actions": list(seccomp.ACTIONS),
                "operators": list(seccomp.OPERATORS),
                "archs": list(seccomp.ARCHITECTURES),
                "knownFlags": list(seccomp.FLAGS),
                "supportedFlags": list(seccomp_flags),
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": True, "schemata": True, "monitoring": True},
            "memoryPolicy": {
                "modes": list(linux.MEMORY_POLICY_MODES),
                "flags": list(linux.MEMORY_POLICY_FLAGS),
            },
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        "annotations": dict(annotations or {}),
        # They change what is done on the host, or leave the container groups of the caller.
        "potentiallyUnsafeConfigAnnotations": [
            "org.criu.config",
            "org.systemd.property.",
            "run.oci.keep_original_groups",
        ],
    }
