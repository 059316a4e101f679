"""containerd in a room of its own, driving the runtime, with an image that is made here."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from engine_room import Room, root_archive, runtime_path, wait_until

if TYPE_CHECKING:
    import subprocess

IMAGE = "docker.io/library/box:latest"
#: What restricts a v1 machine's cgroup mounts is not the runtime's affair.
CONFIG = """\
version = 2
root = "{directory}/root"
state = "/run/containerd/state"
[grpc]
  address = "{directory}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  restrict_oom_score_adj = true
  disable_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{directory}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "tested"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.tested]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.tested.options]
        BinaryName = "{runtime}"
"""
BRIDGE = {
    "cniVersion": "0.4.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipam": {"type": "host-local", "subnet": "10.88.0.0/16"},
        }
    ],
}


class Containerd:
    """The daemon; calling it runs ``ctr``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = f"{directory}/containerd.sock"
        self.room = Room(directory)
        (directory / "cni").mkdir()
        (directory / "cni/10-bridge.conflist").write_text(json.dumps(BRIDGE))
        config = directory / "config.toml"
        config.write_text(CONFIG.format(directory=directory, image=IMAGE, runtime=runtime_path()))
        self.log = directory / "containerd.log"
        self.daemon = self.room.start("containerd", "--config", config, log=self.log)
        try:
            wait_until(lambda: self("version").returncode == 0, 60, f"containerd ({self.log})")
            archive = docker_archive(directory)
            for namespace in ("default", "k8s.io"):
                self("-n", namespace, "images", "import", archive, check=True)
        except BaseException:
            print(self.log.read_text()[-3000:])
            self.close()
            raise

    def __call__(
        self, *words: str | Path, stdin: str = "", check: bool = False
    ) -> subprocess.CompletedProcess[str]:
        return self.room("ctr", "-a", self.socket, *words, stdin=stdin, check=check)

    def out(self, *words: str | Path, stdin: str = "") -> str:
        """Return what a command that has to succeed prints."""
        return self(*words, stdin=stdin, check=True).stdout

    def close(self) -> None:
        """End the daemon and all that it started."""
        self.daemon.terminate()
        self.daemon.wait(30)
        self.room.close()


def docker_archive(directory: Path) -> Path:
    """Return an archive as `docker save` writes it, of one layer with busybox."""
    layer = root_archive(directory)
    digest = hashlib.sha256(layer.read_bytes()).hexdigest()
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
            "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["sleep", "100000"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": ["box:latest"], "Layers": ["layer.tar"]}]
    archive = directory / "box.tar"
    with tarfile.open(archive, "w") as tar:
        for member, content in ((name, config), ("manifest.json", json.dumps(manifest).encode())):
            header = tarfile.TarInfo(member)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
        tar.add(layer, arcname="layer.tar")
    return archive
