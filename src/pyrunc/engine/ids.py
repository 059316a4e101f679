"""Which users and groups there are for an engine's containers.

Root's engine has all. Anybody else's has a user namespace, in which 0 is the user, and 1 and those
after it are the user's subordinate ids (subuid(5), subgid(5)). These only newuidmap(1) and
newgidmap(1) can map, and only from outside: so the keeper has them do it (mapping.py). Where they
are missing, or refuse, there is the user alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyrunc.engine import messages
from pyrunc.errors import Error
from pyrunc.ids import HIGHEST

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from pyrunc.spec.types import IDMapping, Process, Spec, User

#: What programs run as unless told otherwise: where there is such a user, and where not.
_NOBODY: User = {"uid": 65534, "gid": 65534}
_ROOT: User = {"uid": 0, "gid": 0}


class NoSuchUser(Error):
    """A program is to run as a user that the engine's user namespace has not."""

    code = "no-such-user"


class Ids:
    """The ids that there are: those from 0 on.

    :param uids: the sizes of the ranges that the user namespace has of them, one after another.
    :param gids: the same of groups.
    :param key: names the mapping; empty when that is of the user's own ids only.
    :param why: why there are no more than the user's own.
    """

    def __init__(
        self,
        uids: Sequence[int],
        gids: Sequence[int],
        *,
        key: str = "",
        why: str = "",
        is_confined: bool = True,
    ) -> None:
        self._sizes = {"uidMappings": uids, "gidMappings": gids}
        self._uids, self._gids = sum(uids), sum(gids)
        self.key = key
        self._why = why
        #: Whether the engine is root of a user namespace of its own only.
        self.is_confined = is_confined

    @property
    def default_user(self) -> User:
        """What a program runs as unless told otherwise."""
        return _NOBODY if self._uids > _NOBODY["uid"] and self._gids > _NOBODY["gid"] else _ROOT

    def see_to_user(self, process: dict[str, Any] | Process) -> None:
        """Give a process the default user, if it has none.

        :raises NoSuchUser: when its own is none that there is.
        """
        user = process.setdefault("user", self.default_user)
        if not self.is_confined or not isinstance(user, dict):
            # Whether it is a user at all is looked at with the rest of the config.
            return
        groups = [user.get("gid", 0), *(user.get("additionalGids") or ())]
        for name, numbers, count in (
            ("uid", [user.get("uid", 0)], self._uids),
            ("gid", groups, self._gids),
        ):
            for number in numbers:
                if isinstance(number, int) and number >= count:
                    raise self._missing(name, number, count)

    def _missing(self, name: str, number: int, count: int) -> Error:
        there = "only 0, which is the user," if count == 1 else f"only 0 to {count - 1}"
        why = self._why or f"a longer range in /etc/sub{name} would give more"
        error = NoSuchUser(f"{name} {number}: {there} can be had here: {why}")
        error.hint = why
        return error

    def see_to_image(self, key: str | None) -> None:
        """See that an image was unpacked with these very ids, if it was by an engine.

        :raises Error: when its files belong to others.
        """
        if key is not None and key != self.key:
            raise Error(
                "an image that was unpacked for other subordinate ids cannot be used by an engine"
                " that has come since /etc/subuid or /etc/subgid were changed: start the program"
                " anew"
            )

    def confine(self, spec: Spec) -> None:
        """Give a container a user namespace with all the ids, where the engine has one itself."""
        if not self.is_confined:
            return
        linux = spec["linux"]
        linux["namespaces"] = [*(linux.get("namespaces") or ()), {"type": "user"}]
        linux["uidMappings"] = _same(self._sizes["uidMappings"])
        linux["gidMappings"] = _same(self._sizes["gidMappings"])


def _same(sizes: Sequence[int]) -> list[IDMapping]:
    """Map ids to themselves, by the ranges that they have here: the kernel takes no others.

    A range must lie in one of the namespace above (map_id_range_down() of
    kernel/user_namespace.c).
    """
    firsts = [sum(sizes[:index]) for index in range(len(sizes))]
    return [
        {"containerID": first, "hostID": first, "size": size}
        for first, size in zip(firsts, sizes, strict=True)
    ]


#: The ids of an engine that has no user namespace.
EVERYBODY = Ids((HIGHEST + 1,), (HIGHEST + 1,), is_confined=False)


def ask(keeper: socket.socket) -> Ids:
    """Have the keeper map this process's new user namespace, or learn that we are to do it.

    :return: what is mapped; without a ``key`` nothing is yet.
    :raises Error: when there is no keeper any more.
    """
    messages.send(keeper, "ids")
    received = messages.receive(keeper)
    if received is None:
        raise Error("the process that was to map the ids of the engine has ended")
    _, told = received[0]
    return Ids(**told)
