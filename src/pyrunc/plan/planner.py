"""From a checked config.json to the steps that make the container. Pure: nothing is touched.

The order of the builder's steps is the story of how a container comes to be;
reading :func:`plan` from top to bottom tells it.
"""

from __future__ import annotations

from pyrunc.cgroups.joining import JoinLaterCgroups
from pyrunc.errors import Error
from pyrunc.linux import mounts as m
from pyrunc.linux.files import clean_path
from pyrunc.plan.first_process import created_state, plan_first_process
from pyrunc.plan.mounts import make_read_only, plan_mounts
from pyrunc.plan.plan import Plan
from pyrunc.plan.process import LISTEN_PID, UNKNOWN_PID
from pyrunc.process import channel, console, namespaces, program
from pyrunc.process.hooks import container_hooks
from pyrunc.rootfs import cgroup_mount, devices, protect, root
from pyrunc.spec.id_mappings import is_mapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.plan.facts import Facts
    from pyrunc.process.namespaces import Namespaces
    from pyrunc.spec.types import ConsoleSize, Process, Spec
    from pyrunc.step import Step

_PROPAGATION = {
    "shared": m.MS_SHARED,
    "slave": m.MS_SLAVE,
    "private": m.MS_PRIVATE,
    "unbindable": m.MS_UNBINDABLE,
    # Not in the specification's list, but what engines write and runc takes.
    "rshared": m.MS_SHARED | m.MS_REC,
    "rslave": m.MS_SLAVE | m.MS_REC,
    "rprivate": m.MS_PRIVATE | m.MS_REC,
    "runbindable": m.MS_UNBINDABLE | m.MS_REC,
}


def plan(spec: Spec, bundle: str, state: bytes, facts: Facts) -> Plan:
    """Plan the container of ``spec``.

    :param bundle: absolute path of the bundle, for relative paths in it.
    :param state: the state JSON for createContainer hooks, compact, with ``"pid":0``.
    :raises Error: when the config asks for what cannot be planned.
    """
    spaces = plan_namespaces(spec, facts.own_namespaces)
    if facts.has_network:
        spaces = spaces.with_one_there("network")
    if "user" in spaces.new:
        _check_root_is_mapped(spec)
        _check_user_is_mapped(spec)
    in_user_namespace = spaces.private("user")
    mount_steps, opened = plan_mounts(spec, bundle, spaces, facts, _base_propagation(spec))
    steps: list[Step] = []
    if spaces.is_born_inside:
        steps += [namespaces.JoinNamespace(kind, path) for kind, path in spaces.joined.items()]
        if "user" in spaces.new:
            steps.append(channel.AwaitRuntime("the id mappings"))
            steps.append(namespaces.BecomeRoot(facts.rootless))
    steps += _identity(spec, spaces)
    steps += _root(spec, bundle, spaces)
    steps += _after_cgroup(spec, spaces, facts, mount_steps)
    device_steps = _devices(spec, in_user_namespace, spaces.private("mount"))
    steps += device_steps
    steps += _terminal(spec)
    if spec.get("linux", {}).get("netDevices"):
        steps.append(channel.AskForNetDevices())
    steps += _hooks(spec, state)
    steps += _sysctls(spec)
    process = spec.get("process")
    if process and process["cwd"] not in ("/", ""):
        steps.append(program.MakeWorkingDirectory(process["cwd"]))
    steps += _protection(spec, spaces)
    steps += _new_root(spec, bundle, spaces, facts)
    if process:
        steps.append(program.EnterWorkingDirectory(process["cwd"]))
        if process.get("terminal"):
            steps.append(console.TakeTerminal())
        else:
            steps.append(program.GiveStdio((process.get("user") or {}).get("uid", 0)))
        steps += _found_inside(spec, process, spaces, facts, state)
    made: tuple[devices.MakeDevice, ...] = ()
    if in_user_namespace and not facts.rootless:
        made = tuple(
            step
            for step in device_steps
            if isinstance(step, devices.MakeDevice) and step.bind and step.kind != "p"
        )
    init, served, warnings = plan_first_process(spec, spaces, facts, state)
    return Plan(spaces, tuple(steps), opened, made, init, served, warnings)


def _found_inside(
    spec: Spec, process: Process, spaces: Namespaces, facts: Facts, state: bytes
) -> list[Step]:
    """What init needs to know of the container, now that it can be looked at as it will be."""
    environment = facts.process.environment
    if facts.held:
        # It executes nothing.
        return []
    steps: list[Step] = [
        program.FindProgram(process["args"][0], environment, process["cwd"]),
    ]
    # Into a pid namespace that is joined init goes itself: only there it learns its number.
    joins = "pid" in spaces.joined
    uid = (process.get("user") or {}).get("uid", 0)
    listen_pid = LISTEN_PID + UNKNOWN_PID if joins else ""
    announced = facts.process.announced
    steps.append(program.CompleteEnvironment(environment, uid, announced, listen_pid))
    if spec.get("hooks", {}).get("startContainer"):
        place = b"" if joins else UNKNOWN_PID.encode()
        steps.append(program.OpenHookFiles(created_state(state, UNKNOWN_PID), place))
    return steps


def _after_cgroup(
    spec: Spec, spaces: Namespaces, facts: Facts, mount_steps: list[Step]
) -> list[Step]:
    """Let the builder wait for its cgroup as late as it can: the runtime makes it meanwhile."""
    if not needs_cgroup_early(spec, spaces):
        return mount_steps
    waiting: list[Step] = []
    if not facts.stands_still:
        waiting.append(channel.AwaitRuntime("the container's cgroup"))
        if facts.cgroup_version == 1:
            waiting.append(JoinLaterCgroups())
    if "cgroup" in spaces.new:
        waiting.append(namespaces.UnshareCgroupNamespace())
    kinds = (cgroup_mount.MountCgroupV1, cgroup_mount.MountCgroupV2)
    first = next((i for i, s in enumerate(mount_steps) if isinstance(s, kinds)), len(mount_steps))
    return [*mount_steps[:first], *waiting, *mount_steps[first:]]


def _check_root_is_mapped(spec: Spec) -> None:
    """Without a root of its own, nobody could make the container: execve takes the capabilities.

    :raises Error: when id 0 is not among the mapped ones.
    """
    linux = spec.get("linux", {})
    for name, mappings in (
        ("uidMappings", linux.get("uidMappings")),
        ("gidMappings", linux.get("gidMappings")),
    ):
        if not any(mapping["containerID"] == 0 for mapping in mappings or ()):
            raise Error(f"a new user namespace needs an id of the host for id 0 in linux.{name}")


def _check_user_is_mapped(spec: Spec) -> None:
    """Nobody can become an id that the user namespace does not map.

    :raises Error: naming the member and the id.
    """
    linux = spec.get("linux", {})
    process = spec.get("process")
    if not process:
        return
    user = process.get("user") or {}
    groups = user.get("additionalGids") or []
    if (spec.get("annotations") or {}).get("run.oci.keep_original_groups") == "1":
        groups = []
    uids, gids = linux.get("uidMappings") or (), linux.get("gidMappings") or ()
    for member, number, name, mappings in (
        ("uid", user.get("uid", 0), "uidMappings", uids),
        ("gid", user.get("gid", 0), "gidMappings", gids),
        *((f"additionalGids[{i}]", group, "gidMappings", gids) for i, group in enumerate(groups)),
    ):
        if not is_mapped(mappings, number):
            raise Error(f"process.user.{member}: linux.{name} does not map id {number}")


def plan_namespaces(spec: Spec, own: frozenset[str] = frozenset()) -> Namespaces:
    """Sort ``linux.namespaces`` into new and joined ones; those of ``own`` are the host's."""
    new: set[str] = set()
    joined: dict[str, str] = {}
    for namespace in spec.get("linux", {}).get("namespaces", ()):
        if namespace["type"] in own:
            continue
        if namespace.get("path"):
            joined[namespace["type"]] = namespace["path"]
        else:
            new.add(namespace["type"])
    return namespaces.Namespaces(frozenset(new), joined)


def _identity(spec: Spec, spaces: Namespaces) -> list[Step]:
    """Names and network of the new namespaces."""
    steps: list[Step] = []
    if "network" in spaces.new:
        steps.append(namespaces.BringLoopbackUp())
    if spec.get("hostname"):
        steps.append(namespaces.SetHostname(spec["hostname"]))
    if spec.get("domainname"):
        steps.append(namespaces.SetDomainname(spec["domainname"]))
    return steps


def _sysctls(spec: Spec) -> list[Step]:
    """Kernel parameters: after the hooks, which may have brought the interfaces they are about."""
    sysctls = spec.get("linux", {}).get("sysctl")
    if not sysctls:
        return []
    from pyrunc.spec.sysctl import path_of

    return [namespaces.SetSysctl(name, path_of(name), value) for name, value in sysctls.items()]


def root_path(spec: Spec, bundle: str) -> str:
    """Return the absolute path of the root file system on the host."""
    path = spec["root"]["path"]
    return path if path.startswith("/") else clean_path(f"{bundle}/{path}")


def _root(spec: Spec, bundle: str, spaces: Namespaces) -> list[Step]:
    path = root_path(spec, bundle)
    if not spaces.private("mount"):
        return [root.UseRootInPlace(path)]
    flags = _base_propagation(spec)
    name = next(name for name, flag in _PROPAGATION.items() if flag == flags & ~m.MS_REC)
    return [
        root.SetPropagation(name, flags),
        root.BringRoot(path, parent_is_shared=bool(flags & m.MS_SHARED)),
    ]


def _base_propagation(spec: Spec) -> int:
    """What all mounts of the new namespace become first: ``rootfsPropagation``, recursively.

    Unbindable mounts could not be bound into the container: that comes last, for the root.
    """
    name = spec.get("linux", {}).get("rootfsPropagation") or "slave"
    flags = _PROPAGATION[name] | m.MS_REC
    return m.MS_PRIVATE | m.MS_REC if flags & m.MS_UNBINDABLE else flags


def _new_root(spec: Spec, bundle: str, spaces: Namespaces, facts: Facts) -> list[Step]:
    steps: list[Step] = []
    if not spaces.private("mount"):
        _refuse_unprotected_root(spec)
        return [root.ChangeRoot()]
    if spec["root"].get("readonly"):
        steps.append(root.MakeRootReadOnly())
    steps.append(root.PivotRoot() if facts.pivot else root.MoveRoot(root_path(spec, bundle)))
    name = spec.get("linux", {}).get("rootfsPropagation")
    if name and name.removeprefix("r") != "private":
        steps.append(root.SetRootPropagation(name, _PROPAGATION[name]))
    return steps


def _refuse_unprotected_root(spec: Spec) -> None:
    """:raises Error: for what is asked of the root's mount, when it has none of its own."""
    asked = "root.readonly" if spec["root"].get("readonly") else ""
    if spec.get("linux", {}).get("rootfsPropagation"):
        asked = "linux.rootfsPropagation"
    if asked:
        raise Error(f"{asked} needs a mount namespace, but linux.namespaces has none")


def needs_cgroup_early(spec: Spec, spaces: Namespaces) -> bool:
    """Whether the builder must be in (or at least see) its cgroup before it mounts."""
    if spec.get("hooks", {}).get("createContainer"):
        return True
    process = spec.get("process")
    if process and process.get("scheduler"):
        # On cgroup v1 a real-time process is only taken by a cgroup that has time for such.
        return True
    return "cgroup" in spaces.new or any(
        entry.get("type") in ("cgroup", "cgroup2") for entry in spec.get("mounts", ())
    )


def _binds_dev(spec: Spec) -> bool:
    """Whether /dev is bound from somewhere: then it stays as it is."""
    return any(
        clean_path(entry["destination"]) == "/dev"
        and (entry.get("type") == "bind" or {"bind", "rbind"} & set(entry.get("options", ())))
        for entry in spec.get("mounts", ())
    )


def _place(spec: Spec, path: str) -> tuple[int, str]:
    """Return the last of the config's mounts that the directory ``path`` lies on.

    As its number and its destination; -1 and "/" for the root file system.
    """
    found = (-1, "/")
    for index, entry in enumerate(spec.get("mounts", ())):
        destination = clean_path(entry["destination"])
        inside = path == destination or path.startswith(f"{destination}/")
        if (
            inside
            and len(destination) >= len(found[1])
            and "remount" not in entry.get("options", ())
        ):
            found = (index, destination)
    return found


def _devices(spec: Spec, in_user_namespace: bool, may_bind: bool) -> list[Step]:
    how = {"bind": in_user_namespace and may_bind, "may_bind": may_bind}
    bound = _binds_dev(spec)
    #: By path: the config has the say over a default device, and its last entry over those before.
    wanted: dict[str, Step] = {}
    place = _place(spec, "/dev")
    if not bound:
        for path, major, minor in devices.DEFAULT_DEVICES:
            wanted[path] = devices.MakeDevice(
                path, "c", major, minor, 0o666, 0, 0, place=place, **how
            )
    for device in spec.get("linux", {}).get("devices", ()):
        path = clean_path(device["path"])
        # The config has the say over a default device, and its last word counts.
        wanted.pop(path, None)
        kind, major, minor = device["type"], device.get("major", 0), device.get("minor", 0)
        if bound and path.startswith("/dev/"):
            wanted[path] = devices.FindDevice(path, kind, major, minor)
            continue
        if path == devices.MULTIPLEXER:
            # It is the one of the container's own terminals, a link of every /dev.
            continue
        mode = device.get("fileMode", 0o666) & 0o7777
        uid, gid = device.get("uid", 0), device.get("gid", 0)
        lies_on = _place(spec, path.rpartition("/")[0] or "/")
        wanted[path] = devices.MakeDevice(
            path, kind, major, minor, mode, uid, gid, strict=True, place=lies_on, **how
        )
    steps = list(wanted.values())
    if not bound:
        steps.append(devices.MakeDeviceLinks(place))
    return steps


def _terminal(spec: Spec) -> list[Step]:
    process = spec.get("process")
    if not process or not process.get("terminal"):
        return []
    size: ConsoleSize = process.get("consoleSize") or {"height": 0, "width": 0}
    uid = (process.get("user") or {}).get("uid", 0)
    return [console.OpenTerminal(size["height"], size["width"], uid, _place(spec, "/dev"))]


def _hooks(spec: Spec, state: bytes) -> list[Step]:
    steps: list[Step] = []
    hooks = spec.get("hooks", {})
    kinds = tuple(kind for kind in ("prestart", "createRuntime") if hooks.get(kind))
    if kinds:
        steps.append(channel.RuntimeHooks(kinds))
    if hooks.get("createContainer"):
        steps.append(container_hooks(hooks["createContainer"], state))
    return steps


def _protection(spec: Spec, spaces: Namespaces) -> list[Step]:
    """What is taken away again, now that everything is there: read-only and masked paths."""
    linux = spec.get("linux", {})
    protected = linux.get("readonlyPaths", ())
    masked = linux.get("maskedPaths", ())
    if (protected or masked) and not spaces.private("mount"):
        raise Error("maskedPaths and readonlyPaths need a mount namespace")
    steps: list[Step] = [protect.ProtectPath(path) for path in dict.fromkeys(protected)]
    label = linux.get("mountLabel", "")
    steps += [protect.MaskPath(path, label) for path in dict.fromkeys(masked)]
    steps += make_read_only(spec)
    return steps
