"""What a container sees of itself, as objects."""

from __future__ import annotations

from typing import NamedTuple


class MountLine(NamedTuple):
    """A line of /proc/PID/mountinfo (proc_pid_mountinfo(5))."""

    id: int
    parent: int
    root: str
    point: str
    options: frozenset[str]
    propagation: frozenset[str]
    kind: str
    source: str
    superblock: frozenset[str]

    @property
    def tags(self) -> frozenset[str]:
        """The propagation without the numbers of the groups."""
        return frozenset(field.partition(":")[0] for field in self.propagation)


def parse_mountinfo(text: str) -> list[MountLine]:
    """Return the lines in the order of the kernel, which is that of mounting."""
    lines = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        number, parent, _, root, point, options, *propagation = before.split()
        kind, source, superblock = after.split(" ", 2)
        lines.append(
            MountLine(
                int(number),
                int(parent),
                root,
                point.replace("\\040", " "),
                frozenset(options.split(",")),
                frozenset(propagation),
                kind,
                source,
                frozenset(superblock.split(",")),
            )
        )
    return lines


def mounts_by_point(text: str) -> dict[str, MountLine]:
    """Return the mount that is seen at each place: the last one there."""
    return {line.point: line for line in parse_mountinfo(text)}
