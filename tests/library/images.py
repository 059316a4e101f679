"""Images of a few files, made as `docker save` and the OCI layout have them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

BUSYBOX = Path("/bin/busybox")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def layer(*members: tuple) -> bytes:
    """Make a layer: ``(name, content)``, or ``(name, kind, target, mode, uid)``.

    Kinds are tarfile's, each a single byte; such content is given as a text.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, what, *rest in members:
            member = tarfile.TarInfo(name)
            member.mode = 0o755
            if isinstance(what, str) or len(what) != 1:
                content = what.encode() if isinstance(what, str) else what
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
                continue
            member.type = what
            if rest:
                member.linkname = rest[0]
            if len(rest) > 1:
                member.mode = rest[1]
            if len(rest) > 2:
                member.uid = member.gid = rest[2]
            archive.addfile(member)
    return buffer.getvalue()


def busybox_layer() -> bytes:
    """A root with a shell."""
    names = ("sh", "cat", "ls", "echo", "id", "pwd", "env", "stat", "sleep", "true", "rm")
    links = [(f"bin/{name}", tarfile.SYMTYPE, "busybox") for name in names]
    directories = [(name, tarfile.DIRTYPE) for name in ("bin", "etc", "tmp", "proc", "dev")]
    passwd = b"root:x:0:0::/root:/bin/sh\nworker:x:1000:1001::/home/worker:/bin/sh\n"
    files = [("bin/busybox", BUSYBOX.read_bytes()), ("etc/passwd", passwd)]
    return layer(*directories, *files, *links)


def config_of(layers: list[bytes], **config: object) -> bytes:
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    return json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(x)}" for x in layers]},
        }
    ).encode()


def docker_archive(path: Path, layers: list[bytes], **config: object) -> Path:
    """Write what `docker save` did before it had the OCI layout."""
    encoded = config_of(layers, **config)
    names = [f"{sha256(content)}/layer.tar" for content in layers]
    manifest = [{"Config": f"{sha256(encoded)}.json", "RepoTags": ["x:y"], "Layers": names}]
    files = {f"{sha256(encoded)}.json": encoded, "manifest.json": json.dumps(manifest).encode()}
    files |= dict(zip(names, layers, strict=True))
    _write_tar(path, files)
    return path


def oci_files(layers: list[bytes], **config: object) -> dict[str, bytes]:
    """Return the files of an OCI layout, with layers compressed by gzip."""
    encoded = config_of(layers, **config)
    blobs = [gzip.compress(content) for content in layers]
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "config": _descriptor(encoded, "application/vnd.oci.image.config.v1+json"),
            "layers": [
                _descriptor(blob, "application/vnd.oci.image.layer.v1.tar+gzip") for blob in blobs
            ],
        }
    ).encode()
    kind = "application/vnd.oci.image.manifest.v1+json"
    index = {"schemaVersion": 2, "manifests": [_descriptor(manifest, kind)]}
    files = {f"blobs/sha256/{sha256(blob)}": blob for blob in (*blobs, encoded, manifest)}
    files["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    files["index.json"] = json.dumps(index).encode()
    return files


def oci_layout(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def oci_archive(path: Path, files: dict[str, bytes]) -> Path:
    _write_tar(path, files)
    return path


def _descriptor(content: bytes, kind: str) -> dict[str, object]:
    return {"mediaType": kind, "digest": f"sha256:{sha256(content)}", "size": len(content)}


def _write_tar(path: Path, files: dict[str, bytes]) -> None:
    path.write_bytes(layer(*files.items()))
