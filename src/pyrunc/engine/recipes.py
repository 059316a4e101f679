"""How containers are made that a program asks for: found out once for all that are alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyrunc.engine import messages
from pyrunc.engine.prepared import checked_spec
from pyrunc.engine.seclusion import may_set_hostname

if TYPE_CHECKING:
    from pyrunc.engine.enforcement import Enforcement
    from pyrunc.engine.ids import Ids
    from pyrunc.spec.types import Spec

    #: The config, the layer for its root if it has one, and the limits that cannot be set here.
    Recipe = tuple[Spec, dict[str, Any] | None, list[tuple[str, str]]]

_KEPT = 64


class Recipes:
    """By what was asked for (:func:`pyrunc.engine.messages.packed`)."""

    def __init__(self, enforcement: Enforcement) -> None:
        self._enforcement = enforcement
        self._known: dict[bytes, bytes] = {}

    def find(self, wanted: bytes, ids: Ids) -> Recipe:
        """Return the recipe, free to be changed.

        :param ids: what ids there are for containers, the same in each call.
        :raises InvalidConfig: when the config has mistakes.
        :raises Error: when it asks for what cannot be had here.
        """
        recipe = self._known.get(wanted)
        if recipe is None:
            recipe = messages.packed(self._made(messages.unpacked(wanted), ids))
            if len(self._known) == _KEPT:
                self._known.clear()
            self._known[wanted] = recipe
        return messages.unpacked(recipe)  # type: ignore[no-any-return]

    def _made(self, request: dict[str, Any], ids: Ids) -> Recipe:
        ids.see_to_user(request["spec"]["process"])
        ids.see_to_image(request.get("ids"))
        spec = checked_spec(request["spec"])
        ids.confine(spec)
        if "hostname" not in request["asked"] and not may_set_hostname():
            spec.pop("hostname", None)
        return spec, request.get("layer"), self._enforcement.see_to(spec, request)
