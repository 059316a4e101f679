"""Which cgroup a container gets in each hierarchy (config-linux.md, "Cgroups Path")."""

from __future__ import annotations

from pyrunc.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cgroups.host import Layout

#: Each is made in every hierarchy, a dozen on v1, and takes longer the deeper it is. An engine in
#: a container of Kubernetes has about ten.
MOST_PARTS = 100


def paths_for(layout: Layout, cgroups_path: str, container_id: str) -> dict[str, str]:
    """Return the container's directory by controller; the key of the v2 hierarchy is "".

    An absolute path lies below the mount point; a relative one, or the id when there is none,
    below the cgroup that the caller is in. On v2 it lies beside that: a cgroup with processes
    in it cannot have children with controllers ("no internal processes", cgroup-v2.rst).

    :raises Error: for a path that leads upwards, or deeper than :data:`MOST_PARTS`.
    """
    parts = cgroups_path.split("/")
    if ".." in parts:
        raise Error(f"invalid cgroupsPath {cgroups_path!r}: it must not contain '..'")
    if (depth := len(parts) - parts.count("")) > MOST_PARTS:
        raise Error(
            f"linux.cgroupsPath is {depth} cgroups deep: {MOST_PARTS} at most, as each is made in "
            "every hierarchy; use a shorter path"
        )
    wanted = cgroups_path or container_id
    paths: dict[str, str] = {}
    for controller, mount in layout.mounts.items():
        paths[controller] = _below(mount, layout.own.get(controller, "/"), wanted)
    if layout.unified:
        own = layout.own.get("", "/")
        paths[""] = _below(layout.unified, own.rpartition("/")[0] or "/", wanted)
    return paths


def _below(mount: str, own: str, wanted: str) -> str:
    if wanted.startswith("/"):
        return mount + "/" + wanted.strip("/")
    # Outside of the caller's cgroup namespace the path starts with "/..".
    inside = "" if own.startswith("/..") else own.strip("/")
    return "/".join(part for part in (mount, inside, wanted.strip("/")) if part)
