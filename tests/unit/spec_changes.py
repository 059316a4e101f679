"""The default config with one thing changed."""

from __future__ import annotations

import copy

from pyrunc.spec.default import default_spec

MAPPING = {"containerID": 0, "hostID": 1000, "size": 10}


def changed(path, value, base=None):
    """Return the default config with the member at the dotted ``path`` set to ``value``."""
    spec = copy.deepcopy(base) if base else default_spec(cgroup_v2=False)
    *way, last = path.split(".")
    at = spec
    for name in way:
        at = at.setdefault(name, {})
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return spec


def seccomp(**members):
    return {"defaultAction": "SCMP_ACT_ERRNO", **members}


def call(**members):
    return seccomp(syscalls=[{"names": ["read"], "action": "SCMP_ACT_ERRNO", **members}])


def argument(**members):
    return call(args=[{"index": 0, "value": 1, "op": "SCMP_CMP_EQ", **members}])
