"""Overlays with more layers than fit into the options of mount(2), one page.

The kernel cuts what is longer, and without a word mounts an overlay of fewer layers. The newer
calls take the layers one by one, ``lowerdir+`` for each (overlayfs.rst; since Linux 6.7).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def layer_by_layer(options: Iterable[str]) -> tuple[str, ...]:
    r"""Return the options with ``lowerdir+=`` and ``datadir+=`` in place of ``lowerdir=``.

    In the list a colon separates, two come before the layers with data only, and a backslash
    takes the next letter's meaning away; one by one, paths are literal.
    """
    result: list[str] = []
    for option in options:
        key, equals, value = option.partition("=")
        if key == "lowerdir" and equals:
            result += _layers(value)
        else:
            result.append(option)
    return tuple(result)


def _layers(value: str) -> list[str]:
    names = [""]
    escaped = False
    for letter in value:
        if escaped or letter not in "\\:":
            names[-1] += letter
            escaped = False
        elif letter == ":":
            names.append("")
        else:
            escaped = True
    key = "lowerdir+"
    layers: list[str] = []
    for name in names:
        if name:
            layers.append(f"{key}={name}")
        else:
            key = "datadir+"
    return layers
