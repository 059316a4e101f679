"""The shape of a checked config, for type checkers only: nothing of it exists at run time.

Import these names under ``TYPE_CHECKING``. A member that is optional in the
specification may be absent, and is never null. ``Spec`` is what
:func:`pyrunc.spec.load.load` returns; each class names the section it mirrors
in the words of the specification.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NotRequired, TypedDict

    # ruff: noqa: D101

    class Root(TypedDict):
        path: str
        readonly: NotRequired[bool]

    class ConsoleSize(TypedDict):
        height: int
        width: int

    class User(TypedDict, total=False):
        """Absent ids are 0."""

        uid: int
        gid: int
        umask: int
        additionalGids: list[int]
        username: str

    class Capabilities(TypedDict, total=False):
        bounding: list[str]
        effective: list[str]
        inheritable: list[str]
        permitted: list[str]
        ambient: list[str]

    class Rlimit(TypedDict):
        type: str
        soft: int
        hard: int

    class Scheduler(TypedDict):
        policy: str
        nice: NotRequired[int]
        priority: NotRequired[int]
        flags: NotRequired[list[str]]
        runtime: NotRequired[int]
        deadline: NotRequired[int]
        period: NotRequired[int]

    IOPriority = TypedDict("IOPriority", {"class": str, "priority": NotRequired[int]})

    class CPUAffinity(TypedDict, total=False):
        initial: str
        final: str

    class Process(TypedDict):
        args: list[str]
        cwd: str
        terminal: NotRequired[bool]
        consoleSize: NotRequired[ConsoleSize]
        user: NotRequired[User]
        env: NotRequired[list[str]]
        capabilities: NotRequired[Capabilities]
        rlimits: NotRequired[list[Rlimit]]
        noNewPrivileges: NotRequired[bool]
        apparmorProfile: NotRequired[str]
        selinuxLabel: NotRequired[str]
        oomScoreAdj: NotRequired[int]
        scheduler: NotRequired[Scheduler]
        ioPriority: NotRequired[IOPriority]
        execCPUAffinity: NotRequired[CPUAffinity]

    class IDMapping(TypedDict):
        containerID: int
        hostID: int
        size: int

    class Mount(TypedDict):
        destination: str
        type: NotRequired[str]
        source: NotRequired[str]
        options: NotRequired[list[str]]
        uidMappings: NotRequired[list[IDMapping]]
        gidMappings: NotRequired[list[IDMapping]]

    class Hook(TypedDict):
        path: str
        args: NotRequired[list[str]]
        env: NotRequired[list[str]]
        timeout: NotRequired[int]

    class Hooks(TypedDict, total=False):
        prestart: list[Hook]
        createRuntime: list[Hook]
        createContainer: list[Hook]
        startContainer: list[Hook]
        poststart: list[Hook]
        poststop: list[Hook]

    class Namespace(TypedDict):
        """An empty path is as good as none."""

        type: str
        path: NotRequired[str]

    class TimeOffset(TypedDict, total=False):
        secs: int
        nanosecs: int

    class Device(TypedDict):
        """``major`` and ``minor`` are there unless the type is ``p``."""

        type: str
        path: str
        major: NotRequired[int]
        minor: NotRequired[int]
        fileMode: NotRequired[int]
        uid: NotRequired[int]
        gid: NotRequired[int]

    class NetDevice(TypedDict, total=False):
        name: str

    class DeviceRule(TypedDict):
        """An absent or empty type is ``a``, an absent number or -1 is any."""

        allow: bool
        type: NotRequired[str]
        major: NotRequired[int]
        minor: NotRequired[int]
        access: NotRequired[str]

    class Memory(TypedDict, total=False):
        limit: int
        reservation: int
        swap: int
        kernel: int
        kernelTCP: int
        swappiness: int
        disableOOMKiller: bool
        useHierarchy: bool
        checkBeforeUpdate: bool

    class CPU(TypedDict, total=False):
        shares: int
        quota: int
        burst: int
        period: int
        realtimeRuntime: int
        realtimePeriod: int
        cpus: str
        mems: str
        idle: int

    class Pids(TypedDict, total=False):
        limit: int

    class WeightDevice(TypedDict):
        major: int
        minor: int
        weight: NotRequired[int]
        leafWeight: NotRequired[int]

    class ThrottleDevice(TypedDict):
        major: int
        minor: int
        rate: int

    class BlockIO(TypedDict, total=False):
        weight: int
        leafWeight: int
        weightDevice: list[WeightDevice]
        throttleReadBpsDevice: list[ThrottleDevice]
        throttleWriteBpsDevice: list[ThrottleDevice]
        throttleReadIOPSDevice: list[ThrottleDevice]
        throttleWriteIOPSDevice: list[ThrottleDevice]

    class HugepageLimit(TypedDict):
        pageSize: str
        limit: int

    class InterfacePriority(TypedDict):
        name: str
        priority: int

    class Network(TypedDict, total=False):
        classID: int
        priorities: list[InterfacePriority]

    class Rdma(TypedDict, total=False):
        hcaHandles: int
        hcaObjects: int

    class Resources(TypedDict, total=False):
        devices: list[DeviceRule]
        memory: Memory
        cpu: CPU
        pids: Pids
        blockIO: BlockIO
        hugepageLimits: list[HugepageLimit]
        network: Network
        rdma: dict[str, Rdma]
        unified: dict[str, str]

    #: The name of the section in Go's bindings, and so in much that is written about it.
    LinuxResources = Resources

    class SyscallArgument(TypedDict):
        index: int
        value: int
        valueTwo: NotRequired[int]
        op: str

    class Syscall(TypedDict):
        names: list[str]
        action: str
        errnoRet: NotRequired[int]
        args: NotRequired[list[SyscallArgument]]

    class Seccomp(TypedDict):
        defaultAction: str
        defaultErrnoRet: NotRequired[int]
        architectures: NotRequired[list[str]]
        flags: NotRequired[list[str]]
        listenerPath: NotRequired[str]
        listenerMetadata: NotRequired[str]
        syscalls: NotRequired[list[Syscall]]

    class Personality(TypedDict):
        domain: str
        flags: NotRequired[list[str]]

    class IntelRdt(TypedDict, total=False):
        closID: str
        schemata: list[str]
        l3CacheSchema: str
        memBwSchema: str
        enableMonitoring: bool
        enableCMT: bool
        enableMBM: bool

    class MemoryPolicy(TypedDict):
        mode: str
        nodes: NotRequired[str]
        flags: NotRequired[list[str]]

    class Linux(TypedDict, total=False):
        namespaces: list[Namespace]
        uidMappings: list[IDMapping]
        gidMappings: list[IDMapping]
        timeOffsets: dict[str, TimeOffset]
        devices: list[Device]
        netDevices: dict[str, NetDevice]
        cgroupsPath: str
        resources: Resources
        rootfsPropagation: str
        seccomp: Seccomp
        sysctl: dict[str, str]
        maskedPaths: list[str]
        readonlyPaths: list[str]
        mountLabel: str
        personality: Personality
        intelRdt: IntelRdt
        memoryPolicy: MemoryPolicy

    class Spec(TypedDict):
        ociVersion: str
        root: Root
        process: NotRequired[Process]
        hostname: NotRequired[str]
        domainname: NotRequired[str]
        mounts: NotRequired[list[Mount]]
        hooks: NotRequired[Hooks]
        annotations: NotRequired[dict[str, str]]
        linux: NotRequired[Linux]
