"""Which layers an image has, and what its config says: OCI layouts, archives of `docker save`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyrunc.images.errors import ImageInvalid
from pyrunc.images.sources import Digested, read_json

if TYPE_CHECKING:
    from pyrunc.images.sources import Source

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
#: An index in an index in an index is a mistake, or meant to be one.
_DEEPEST_INDEX = 4


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: its file, the digest of that file if it is known, and of what it unpacks to."""

    name: str
    digest: str
    diff_id: str


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says about programs in it."""

    environment: dict[str, str]
    user: str
    working_directory: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Image:
    """An image; ``digest`` is its config's, which names all of its content."""

    digest: str
    layers: tuple[Layer, ...]
    config: ImageConfig


def read_image(source: Source) -> Image | None:
    """Return the image that a source holds; None when it is none, but just files.

    :raises ImageInvalid: when it is damaged, holds several, or none for this machine.
    """
    if source.has("oci-layout") and source.has("index.json"):
        return _from_layout(source)
    if source.has("manifest.json"):
        return _from_docker(source)
    return None


def _from_layout(source: Source) -> Image:
    manifest = read_json(source, "index.json")
    for _ in range(_DEEPEST_INDEX):
        if not isinstance(manifest, dict) or "manifests" not in manifest:
            break
        descriptor = _for_this_machine(manifest["manifests"])
        manifest = read_json(source, *_blob(descriptor))
    try:
        config_name, config_digest = _blob(manifest["config"])
        blobs = [_blob(layer) for layer in manifest["layers"]]
    except (KeyError, TypeError):
        raise ImageInvalid("the image's manifest names no config, or no layers") from None
    config = read_json(source, config_name, config_digest)
    diff_ids = _diff_ids(config, len(blobs))
    layers = (
        Layer(name, digest, diff) for (name, digest), diff in zip(blobs, diff_ids, strict=True)
    )
    return Image(config_digest, tuple(layers), _config(config))


def _for_this_machine(descriptors: Any) -> Any:
    """Pick a manifest; those that are no image (attestations) have an unknown platform."""
    architecture = _ARCHITECTURES.get(os.uname().machine, os.uname().machine)
    try:
        fitting = [d for d in descriptors if _fits(d.get("platform"), architecture)]
    except (TypeError, AttributeError):
        raise ImageInvalid("the image's index has no list of manifests") from None
    if len(fitting) != 1:
        raise ImageInvalid(
            f"{len(fitting)} of the {len(descriptors)} images in it are for linux/{architecture};"
            " save one image alone"
        )
    return fitting[0]


def _fits(platform: Any, architecture: str) -> bool:
    if not platform:
        return True
    return (platform.get("os"), platform.get("architecture")) == ("linux", architecture)


def _blob(descriptor: Any) -> tuple[str, str]:
    """Return file and digest of what a descriptor names."""
    digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
    match = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    if match is None:
        raise ImageInvalid(f"{digest!r} is not a SHA-256 digest")
    return f"blobs/sha256/{match[1]}", match[0]


def _from_docker(source: Source) -> Image:
    manifest = read_json(source, "manifest.json")
    if not isinstance(manifest, list) or not all(isinstance(entry, dict) for entry in manifest):
        raise ImageInvalid("manifest.json is no list of images")
    if len(manifest) != 1:
        raise ImageInvalid(f"there are {len(manifest)} images in it; save one alone")
    name, names = manifest[0].get("Config"), manifest[0].get("Layers")
    if not isinstance(name, str) or not isinstance(names, list):
        raise ImageInvalid("manifest.json names no Config, or no Layers")
    with source.open(name) as file:
        digest = Digested(file).digest()
    named = "sha256:" + name.rpartition("/")[2].removesuffix(".json")
    config = read_json(source, name, named if _DIGEST.fullmatch(named) else digest)
    diff_ids = _diff_ids(config, len(names))
    layers = (Layer(str(name), "", diff) for name, diff in zip(names, diff_ids, strict=True))
    return Image(digest, tuple(layers), _config(config))


def _diff_ids(config: Any, count: int) -> list[str]:
    try:
        diff_ids = config["rootfs"]["diff_ids"]
    except (KeyError, TypeError):
        diff_ids = None
    if (
        not isinstance(diff_ids, list)
        or len(diff_ids) != count
        or not all(isinstance(d, str) and _DIGEST.fullmatch(d) for d in diff_ids)
    ):
        raise ImageInvalid("the image's config has not one digest for each layer")
    return diff_ids


def _config(config: Any) -> ImageConfig:
    given = config.get("config") or {}
    texts = {name: given.get(name) or "" for name in ("User", "WorkingDir")}
    lists = {name: given.get(name) or [] for name in ("Env", "Entrypoint", "Cmd")}
    if not all(isinstance(text, str) for text in texts.values()) or not all(
        isinstance(words, list) and all(isinstance(word, str) for word in words)
        for words in lists.values()
    ):
        raise ImageInvalid("the image's config has an Env, User or Cmd that is none")
    pairs = (entry.partition("=") for entry in lists["Env"])
    return ImageConfig(
        environment={name: value for name, _, value in pairs},
        user=texts["User"],
        working_directory=texts["WorkingDir"] or "/",
        entrypoint=tuple(lists["Entrypoint"]),
        command=tuple(lists["Cmd"]),
    )
