"""A container's config as a value: checked, never changed, with changes that give another."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from pyrunc.errors import InvalidConfig
from pyrunc.sandbox.errors import InvalidArgument
from pyrunc.sandbox.options import arguments_of
from pyrunc.sandbox.sizes import count, seconds, size
from pyrunc.security import default_filter
from pyrunc.spec.default import default_spec, rootless_spec
from pyrunc.spec.load import check, load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

_PERIOD = 100_000


class Spec:
    """A config.json of the OCI runtime specification, good as far as that can be seen.

    >>> spec = pyrunc.Spec.default("/srv/alpine", ["sh", "-c", "echo hello"])
    >>> spec.with_memory("64M").without_network().readonly().to_dict()["root"]["readonly"]
    True

    :param config: as config.json has it; it is copied.
    :raises InvalidConfig: with every mistake in it.
    """

    __slots__ = ("_config",)

    def __init__(self, config: Mapping[str, Any]) -> None:
        try:
            copied = json.loads(json.dumps(config))
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"config is not what JSON can hold: {error}") from None
        if mistakes := check(copied):
            raise InvalidConfig("the spec", mistakes)
        self._config: dict[str, Any] = copied

    @classmethod
    def default(cls, rootfs: str | os.PathLike[str], argv: Sequence[str]) -> Self:
        """Return the config to begin with: what `pyrunc spec` writes, made stricter.

        No terminal, no capability, the library's seccomp filter, a root that is not written to.
        Without root it has a user namespace, and the host's network.
        """
        config: dict[str, Any] = dict(default_spec() if os.geteuid() == 0 else rootless_spec())
        config["hostname"] = "container"
        config["root"] = {"path": os.path.abspath(rootfs), "readonly": True}
        config["process"] |= {
            "terminal": False,
            "args": list(arguments_of(argv)),
            "capabilities": {},
        }
        config["linux"]["seccomp"] = default_filter.section()
        return cls(config)

    @classmethod
    def from_bundle(cls, bundle: str | os.PathLike[str]) -> Self:
        """Return the config of a bundle; relative paths in it become absolute.

        :raises Error: when there is none; :raises InvalidConfig: when it is wrong.
        """
        directory = os.path.abspath(bundle)
        config: dict[str, Any] = dict(load(f"{directory}/config.json"))
        config["root"]["path"] = os.path.join(directory, config["root"]["path"])
        for mount in config.get("mounts") or ():
            options = mount.get("options") or ()
            if mount.get("type") == "bind" or "bind" in options or "rbind" in options:
                mount["source"] = os.path.join(directory, mount.get("source", ""))
        return cls(config)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the config that a JSON text holds.

        :raises InvalidArgument: when it is no JSON.
        """
        try:
            return cls(json.loads(text))
        except json.JSONDecodeError as error:
            raise InvalidArgument(f"not JSON: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """Return a copy of the config as dictionaries and lists."""
        copied: dict[str, Any] = json.loads(json.dumps(self._config))
        return copied

    def to_json(self) -> str:
        """Return the config as config.json has it."""
        return json.dumps(self._config, indent=2)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and self._config == other._config

    def __hash__(self) -> int:
        return hash(json.dumps(self._config, sort_keys=True))

    def __repr__(self) -> str:
        args = (self._config.get("process") or {}).get("args")
        return f"<Spec {self._config['root']['path']} {args}>"

    def _with(self, section: str, **members: Any) -> Self:
        """Return a config with members of ``process``, ``root`` or ``linux`` set."""
        config = self.to_dict()
        config.setdefault(section, {}).update(members)
        return type(self)(config)

    def _with_resources(self, name: str, **members: Any) -> Self:
        resources = self.to_dict().get("linux", {}).get("resources") or {}
        resources[name] = {**(resources.get(name) or {}), **members}
        return self._with("linux", resources=resources)

    def with_args(self, *argv: str) -> Self:
        """Execute another program."""
        return self._with("process", args=list(arguments_of(argv)))

    def with_env(self, **variables: str) -> Self:
        """Set variables of the environment, beside those that are there."""
        env = (self._config.get("process") or {}).get("env") or []
        kept = [entry for entry in env if entry.partition("=")[0] not in variables]
        return self._with("process", env=[*kept, *(f"{k}={v}" for k, v in variables.items())])

    def with_cwd(self, path: str) -> Self:
        """Start the program in another directory."""
        return self._with("process", cwd=path)

    def as_user(self, uid: int, gid: int | None = None, groups: Sequence[int] = ()) -> Self:
        """Run the program as this user; the group's number is the user's when left out."""
        user = {"uid": uid, "gid": uid if gid is None else gid, "additionalGids": list(groups)}
        return self._with("process", user=user)

    def with_capabilities(self, *names: str) -> Self:
        """Give the program these capabilities ("CAP_NET_BIND_SERVICE"), and no others."""
        sets = ("bounding", "effective", "permitted", "inheritable", "ambient")
        return self._with("process", capabilities={kind: list(names) for kind in sets})

    def with_rootfs(self, path: str | os.PathLike[str]) -> Self:
        """Use another root file system."""
        return self._with("root", path=os.path.abspath(path))

    def readonly(self, value: bool = True) -> Self:
        """Let the root not be written to; or with False, let it."""
        return self._with("root", readonly=value)

    def with_hostname(self, name: str) -> Self:
        """Set the host name inside."""
        return type(self)({**self._config, "hostname": name})

    def with_mount(
        self,
        destination: str,
        source: str | os.PathLike[str] = "",
        *,
        type: str = "bind",
        options: Sequence[str] = (),
    ) -> Self:
        """Mount something at ``destination``, after what is mounted already.

        Without ``options`` a bind mount is recursive, read-only, without devices and set-id bits.
        """
        if type == "bind":
            options = options or ("rbind", "rro", "rnosuid", "rnodev")
            source = os.path.abspath(source)
        mount = {"destination": destination, "type": type, "options": list(options)}
        mount["source"] = os.fspath(source) or type
        mounts = [*(self._config.get("mounts") or ()), mount]
        return self.__class__({**self._config, "mounts": mounts})

    def without_mount(self, destination: str) -> Self:
        """Leave out what is mounted at ``destination``."""
        mounts = self._config.get("mounts") or ()
        kept = [mount for mount in mounts if mount["destination"] != destination]
        return type(self)({**self._config, "mounts": kept})

    def without_network(self) -> Self:
        """Give it a network namespace of its own, with a loopback interface only."""
        kept = [n for n in self._namespaces() if n["type"] != "network"]
        return self._with("linux", namespaces=[*kept, {"type": "network"}])

    def with_host_network(self) -> Self:
        """Let it use the host's network."""
        kept = [n for n in self._namespaces() if n["type"] != "network"]
        return self._with("linux", namespaces=kept)

    def _namespaces(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.to_dict().get("linux", {}).get("namespaces") or []
        return found

    def with_memory(self, limit: int | str, swap: int | str = 0) -> Self:
        """Limit memory, and swap in addition to it: bytes, or texts such as "64M"."""
        memory = size(limit, "limit")
        return self._with_resources("memory", limit=memory, swap=memory + size(swap, "swap"))

    def with_pids(self, limit: int) -> Self:
        """Limit processes and threads."""
        return self._with_resources("pids", limit=count(limit, "limit"))

    def with_cpu(self, share: float) -> Self:
        """Limit the share of processor time: 0.5 is the half of one processor."""
        quota = int((seconds(share, "share") or 0) * _PERIOD)
        return self._with_resources("cpu", quota=quota, period=_PERIOD)

    def with_annotation(self, name: str, value: str) -> Self:
        """Add an annotation."""
        annotations = {**(self._config.get("annotations") or {}), name: value}
        return type(self)({**self._config, "annotations": annotations})

    def with_seccomp(self, section: Mapping[str, Any] | None) -> Self:
        """Use another seccomp filter, as ``linux.seccomp`` has it; None for none."""
        config = self.to_dict()
        linux = config.setdefault("linux", {})
        linux.pop("seccomp", None)
        if section is not None:
            linux["seccomp"] = section
        return type(self)(config)
