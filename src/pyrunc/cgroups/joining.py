"""The builder's step into the v1 cgroups that were made after its birth.

A process must be born in a v2 cgroup, but can get into those of v1 at any time: so the runtime
makes them while the builder is at work already (entrance.py has why nobody is moved).
"""

from __future__ import annotations

from pyrunc.cgroups.entrance import MYSELF, not_joined
from pyrunc.linux import files
from pyrunc.step import Build, Step


class JoinLaterCgroups(Step):
    """Get into the v1 cgroups that the runtime has made since the builder's birth, if any."""

    def describe(self) -> str:
        return "join the rest of the container's cgroups"

    def apply(self, build: Build) -> None:
        for path in build.later_cgroups:
            try:
                # Still a path of the host: the root is changed at the very end.
                files.write_file(f"{path}/tasks", MYSELF)
            except OSError as error:
                raise not_joined(path, error) from None
