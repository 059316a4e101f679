"""Kubernetes' container runtime interface: containerd's CRI plugin with the runtime as handler."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from containerd_engine import IMAGE, Containerd
from engine_room import need, started, wait_until

grpc = pytest.importorskip("grpc")
api = pytest.importorskip("cri_api.v1.api_pb2")
stubs = pytest.importorskip("cri_api.v1.api_pb2_grpc")

if TYPE_CHECKING:
    from collections.abc import Iterator

HANDLER = "tested"
RUNNING, EXITED = 1, 2
ON_V1 = Path("/sys/fs/cgroup/memory").exists()


class Cri:
    """A kubelet's view of containerd."""

    def __init__(self, directory: Path) -> None:
        self.engine = Containerd(directory)
        self.directory = directory
        self.channel = grpc.insecure_channel(f"unix:{self.engine.socket}")
        self.runtime = stubs.RuntimeServiceStub(self.channel)
        self._number = 0

    def name(self) -> str:
        self._number += 1
        return f"n{self._number}"

    def pod(self, **namespaces: int) -> Pod:
        """Run a pod sandbox; its network is the node's unless told otherwise."""
        options = api.NamespaceOption(**({"network": api.NODE} | namespaces))
        context = api.LinuxSandboxSecurityContext(namespace_options=options)
        name = self.name()
        config = api.PodSandboxConfig(
            metadata=api.PodSandboxMetadata(name=name, uid=name, namespace="default"),
            # As a kubelet does: a pod in the network of its node has the name of the node.
            hostname="" if options.network == api.NODE else f"host-{name}",
            log_directory=f"{self.directory}/logs/{name}",
            linux=api.LinuxPodSandboxConfig(cgroup_parent="/pyrunc-cri", security_context=context),
        )
        request = api.RunPodSandboxRequest(config=config, runtime_handler=HANDLER)
        return Pod(self, config, self.runtime.RunPodSandbox(request).pod_sandbox_id)

    def close(self) -> None:
        for pod in self.runtime.ListPodSandbox(api.ListPodSandboxRequest()).items:
            self.runtime.StopPodSandbox(api.StopPodSandboxRequest(pod_sandbox_id=pod.id))
            self.runtime.RemovePodSandbox(api.RemovePodSandboxRequest(pod_sandbox_id=pod.id))
        self.channel.close()
        self.engine.close()


class Pod:
    """A sandbox with its containers."""

    def __init__(self, cri: Cri, config: Any, pod_id: str) -> None:
        self.cri = cri
        self.runtime = cri.runtime
        self.config = config
        self.id = pod_id

    def create(self, *command: str, security: Any = None, resources: Any = None) -> str:
        """Create a container and return its id."""
        name = self.cri.name()
        linux = api.LinuxContainerConfig(security_context=security, resources=resources)
        config = api.ContainerConfig(
            metadata=api.ContainerMetadata(name=name),
            image=api.ImageSpec(image=IMAGE),
            command=command,
            log_path=f"{name}.log",
            linux=linux,
        )
        request = api.CreateContainerRequest(
            pod_sandbox_id=self.id, config=config, sandbox_config=self.config
        )
        return str(self.runtime.CreateContainer(request).container_id)

    def run(self, *command: str, security: Any = None, resources: Any = None) -> str:
        container = self.create(*command, security=security, resources=resources)
        self.runtime.StartContainer(api.StartContainerRequest(container_id=container))
        return container

    def status(self, container: str) -> Any:
        request = api.ContainerStatusRequest(container_id=container)
        return self.runtime.ContainerStatus(request).status

    def finish(self, *command: str, security: Any = None, resources: Any = None) -> Any:
        """Run a container to its end and return its status."""
        container = self.run(*command, security=security, resources=resources)
        wait_until(lambda: self.status(container).state == EXITED, what="the container's end")
        return self.status(container)

    def output(self, *command: str, security: Any = None) -> str:
        """Return what a container printed, from its log in the CRI's format."""
        status = self.finish(*command, security=security)
        log = Path(status.log_path)
        # containerd may still be writing when the container is gone.
        before = None
        while before is None or before != log.read_text():
            wait_until(lambda: log.exists() and log.read_text() != "", what=f"a log in {log}")
            before = log.read_text()
            time.sleep(0.1)
        lines = [line.split(" ", 3) for line in log.read_text().splitlines()]
        return "".join(f"{text}\n" for _, _, _, text in lines)

    def execute(self, container: str, *command: str) -> tuple[int, str, str]:
        request = api.ExecSyncRequest(container_id=container, cmd=command, timeout=30)
        answer = self.runtime.ExecSync(request)
        return answer.exit_code, answer.stdout.decode(), answer.stderr.decode()

    def remove(self) -> None:
        self.runtime.StopPodSandbox(api.StopPodSandboxRequest(pod_sandbox_id=self.id))
        self.runtime.RemovePodSandbox(api.RemovePodSandboxRequest(pod_sandbox_id=self.id))


@pytest.fixture(scope="module")
def cri() -> Iterator[Cri]:
    need("containerd", "ctr", "containerd-shim-runc-v2")
    with started(Cri) as client:
        yield client
    left = list(Path("/sys/fs/cgroup").glob("*/pyrunc-cri/*/"))
    for parent in Path("/sys/fs/cgroup").glob("*/pyrunc-cri/"):
        if not left:
            parent.rmdir()
    assert not left


@pytest.fixture(scope="module")
def pod(cri: Cri) -> Iterator[Pod]:
    """A pod that the tests share."""
    pod = cri.pod()
    yield pod
    pod.remove()


def context(**what: Any) -> Any:
    return api.LinuxContainerSecurityContext(**what)


def test_version_and_status_show_the_runtime(cri: Cri):
    assert cri.runtime.Version(api.VersionRequest()).runtime_name == "containerd"
    status = cri.runtime.Status(api.StatusRequest(verbose=True))
    conditions = {c.type: c.status for c in status.status.conditions}
    assert conditions["RuntimeReady"]
    assert HANDLER in json.loads(status.info["config"])["containerd"]["runtimes"]


def test_pod_is_ready_and_gone_after_removal(cri: Cri):
    pod = cri.pod()
    request = api.PodSandboxStatusRequest(pod_sandbox_id=pod.id)
    assert cri.runtime.PodSandboxStatus(request).status.state == api.SANDBOX_READY
    cri.runtime.StopPodSandbox(api.StopPodSandboxRequest(pod_sandbox_id=pod.id))
    assert cri.runtime.PodSandboxStatus(request).status.state == api.SANDBOX_NOTREADY
    pod.remove()
    assert pod.id not in [
        p.id for p in cri.runtime.ListPodSandbox(api.ListPodSandboxRequest()).items
    ]


def test_unknown_handler_is_refused(cri: Cri):
    metadata = api.PodSandboxMetadata(name="x", uid="x", namespace="default")
    request = api.RunPodSandboxRequest(
        config=api.PodSandboxConfig(metadata=metadata), runtime_handler="nosuch"
    )
    with pytest.raises(grpc.RpcError, match="nosuch"):
        cri.runtime.RunPodSandbox(request)


def test_pod_with_a_network_of_its_own(cri: Cri):
    pod = cri.pod(network=api.POD)
    request = api.PodSandboxStatusRequest(pod_sandbox_id=pod.id)
    address = cri.runtime.PodSandboxStatus(request).status.network.ip
    assert address.startswith("10.88.")
    assert f"inet {address}/" in pod.output("ip", "addr", "show", "eth0")
    pod.remove()


def test_created_container_waits(pod: Pod):
    container = pod.create("sleep", "1000")
    assert pod.status(container).state == api.CONTAINER_CREATED
    pod.runtime.StartContainer(api.StartContainerRequest(container_id=container))
    assert pod.status(container).state == RUNNING
    pod.runtime.StopContainer(api.StopContainerRequest(container_id=container, timeout=0))
    assert pod.status(container).exit_code == 137
    pod.runtime.RemoveContainer(api.RemoveContainerRequest(container_id=container))
    listed = pod.runtime.ListContainers(api.ListContainersRequest()).containers
    assert container not in [c.id for c in listed]


def test_two_containers_share_the_pods_namespaces(pod: Pod):
    first, second = pod.run("sleep", "1000"), pod.run("sleep", "1000")
    for kind, shared in (
        ("ipc", True),
        ("net", True),
        ("uts", True),
        ("pid", True),
        ("mnt", False),
    ):
        link = ("readlink", f"/proc/self/ns/{kind}")
        assert (pod.execute(first, *link) == pod.execute(second, *link)) is shared, kind


def test_exec_sync(pod: Pod):
    container = pod.run("sleep", "1000")
    assert pod.execute(container, "sh", "-c", "echo out; echo err >&2; exit 7") == (
        7,
        "out\n",
        "err\n",
    )
    assert pod.execute(container, "cat", "/proc/1/comm") == (0, "sleep\n", "")
    with pytest.raises(grpc.RpcError, match="no such file or directory"):
        pod.execute(container, "/no/such/program")


def test_exec_sync_times_out(pod: Pod):
    container = pod.run("sleep", "1000")
    request = api.ExecSyncRequest(container_id=container, cmd=["sleep", "100"], timeout=1)
    with pytest.raises(grpc.RpcError, match="timeout"):
        pod.runtime.ExecSync(request)


def test_exec_gives_a_url(pod: Pod):
    container = pod.run("sleep", "1000")
    request = api.ExecRequest(container_id=container, cmd=["sh"], tty=True, stdin=True, stdout=True)
    assert pod.runtime.Exec(request).url.startswith("http://")


def test_exit_codes_and_logs(pod: Pod):
    assert pod.finish("sh", "-c", "exit 3").exit_code == 3
    assert pod.output("sh", "-c", "echo one; echo two") == "one\ntwo\n"


def test_a_program_that_is_missing_fails_the_start(pod: Pod):
    with pytest.raises(grpc.RpcError, match="no such file or directory"):
        pod.run("/no/such/program")


def test_stats(pod: Pod):
    container = pod.run("sleep", "1000")
    request = api.ContainerStatsRequest(container_id=container)
    stats = pod.runtime.ContainerStats(request).stats
    assert stats.memory.working_set_bytes.value > 0
    assert stats.cpu.usage_core_nano_seconds.value > 0


def test_user_and_groups(pod: Pod):
    security = context(
        run_as_user=api.Int64Value(value=2000),
        run_as_group=api.Int64Value(value=2001),
        supplemental_groups=[77],
    )
    shown = pod.output("sh", "-c", "id -u; id -g; id -G", security=security).splitlines()
    assert shown[:2] == ["2000", "2001"]
    assert "77" in shown[2].split()


def test_read_only_root(pod: Pod):
    security = context(readonly_rootfs=True)
    script = "touch /x 2>/dev/null || echo sealed"
    assert pod.output("sh", "-c", script, security=security) == "sealed\n"


def status_field(pod: Pod, field: str, **what: Any) -> str:
    text = pod.output("cat", "/proc/self/status", security=context(**what))
    return next(x for x in text.splitlines() if x.startswith(f"{field}:")).split()[1]


def test_capabilities(pod: Pod):
    usual = int(status_field(pod, "CapEff"), 16)
    added = api.Capability(add_capabilities=["NET_ADMIN"])
    assert int(status_field(pod, "CapEff", capabilities=added), 16) == usual | 1 << 12
    dropped = api.Capability(drop_capabilities=["ALL"])
    assert int(status_field(pod, "CapEff", capabilities=dropped), 16) == 0


def test_no_new_privileges_and_seccomp(pod: Pod):
    assert status_field(pod, "NoNewPrivs", no_new_privs=True) == "1"
    default = api.SecurityProfile(profile_type=api.SecurityProfile.RuntimeDefault)
    assert status_field(pod, "Seccomp", seccomp=default) == "2"
    unconfined = api.SecurityProfile(profile_type=api.SecurityProfile.Unconfined)
    assert status_field(pod, "Seccomp", seccomp=unconfined) == "0"


def test_masked_paths(pod: Pod):
    security = context(masked_paths=["/proc/version"], readonly_paths=["/proc/sys"])
    script = "wc -c < /proc/version; grep -c '/proc/sys .*ro,' /proc/self/mountinfo"
    assert pod.output("sh", "-c", script, security=security).split() == ["0", "1"]


def test_host_processes(cri: Cri):
    pod = cri.pod(pid=api.NODE)
    options = api.NamespaceOption(pid=api.NODE, network=api.NODE)
    shown = pod.output("cat", "/proc/1/comm", security=context(namespace_options=options))
    assert shown == "tini\n"
    pod.remove()


def test_pod_wide_processes(cri: Cri):
    pod = cri.pod(pid=api.POD)
    options = api.NamespaceOption(pid=api.POD, network=api.NODE)
    # The pod's first process is the pause container's.
    shown = pod.output("cat", "/proc/1/cmdline", security=context(namespace_options=options))
    assert shown.startswith("sleep")
    pod.remove()


def test_out_of_memory(pod: Pod):
    resources = api.LinuxContainerResources(memory_limit_in_bytes=16 << 20)
    command = ("dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1")
    status = pod.finish(*command, resources=resources)
    assert (status.reason, status.exit_code) == ("OOMKilled", 137)


def test_update_of_resources(pod: Pod):
    container = pod.run("sleep", "1000")
    resources = api.LinuxContainerResources(memory_limit_in_bytes=64 << 20, cpu_shares=256)
    request = api.UpdateContainerResourcesRequest(container_id=container, linux=resources)
    pod.runtime.UpdateContainerResources(request)
    path = "memory/memory.limit_in_bytes" if ON_V1 else "memory.max"
    assert pod.execute(container, "cat", f"/sys/fs/cgroup/{path}")[1].strip() == str(64 << 20)
