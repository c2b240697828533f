"""The shapes of runtime-spec 1.3 for Linux, for the type checker only.

Nothing imports this module at run time (``if TYPE_CHECKING:``), since ``typing`` is too slow for the cold path. The
values are the plain dicts that ``corral.oci.json.loads`` returns. The types describe a document *after*
``corral.oci.validate.normalize``: members are absent, never null. No member of config.json is marked as required, for
the checkers work on documents that lack some; code that runs after ``validate`` found no errors may index what the
specification requires. ``windows``, ``solaris``, ``vm`` and ``zos`` are ignored, as unknown properties are.

Source: runtime-spec config.md, config-linux.md, runtime.md "State", features.md, features-linux.md.
"""

from __future__ import annotations

from typing import Required, TypedDict


class Box(TypedDict, total=False):
    """process.consoleSize, in characters."""

    height: int
    width: int


class User(TypedDict, total=False):
    """process.user. Ids are the container's."""

    uid: int
    gid: int
    umask: int
    additionalGids: list[int]
    username: str


class Capabilities(TypedDict, total=False):
    """process.capabilities: five sets of CAP_* names."""

    bounding: list[str]
    effective: list[str]
    inheritable: list[str]
    permitted: list[str]
    ambient: list[str]


class Rlimit(TypedDict, total=False):
    """One of process.rlimits. 2**64 - 1 means unlimited."""

    type: str
    soft: int
    hard: int


class Scheduler(TypedDict, total=False):
    """process.scheduler. Times in nanoseconds."""

    policy: str
    nice: int
    priority: int
    flags: list[str]
    runtime: int
    deadline: int
    period: int


# process.ioPriority. ``class`` is a keyword, hence the functional form.
IOPriority = TypedDict("IOPriority", {"class": str, "priority": int}, total=False)


class ExecCPUAffinity(TypedDict, total=False):
    """process.execCPUAffinity: CPU lists, before and after the move to the container's cgroup."""

    initial: str
    final: str


class Process(TypedDict, total=False):
    """process, and the whole of exec's process.json."""

    terminal: bool
    consoleSize: Box
    user: User
    args: list[str]
    env: list[str]
    cwd: str
    capabilities: Capabilities
    rlimits: list[Rlimit]
    noNewPrivileges: bool
    apparmorProfile: str
    oomScoreAdj: int
    scheduler: Scheduler
    selinuxLabel: str
    ioPriority: IOPriority
    execCPUAffinity: ExecCPUAffinity


class Root(TypedDict, total=False):
    """root. A relative path is relative to the bundle."""

    path: str
    readonly: bool


class IDMapping(TypedDict, total=False):
    """One extent of uidMappings or gidMappings."""

    containerID: int
    hostID: int
    size: int


class Mount(TypedDict, total=False):
    """One of mounts."""

    destination: str
    type: str
    source: str
    options: list[str]
    uidMappings: list[IDMapping]
    gidMappings: list[IDMapping]


class Hook(TypedDict, total=False):
    """One hook. ``timeout`` in seconds."""

    path: str
    args: list[str]
    env: list[str]
    timeout: int


class Hooks(TypedDict, total=False):
    """hooks, in the order of the lifecycle."""

    prestart: list[Hook]
    createRuntime: list[Hook]
    createContainer: list[Hook]
    startContainer: list[Hook]
    poststart: list[Hook]
    poststop: list[Hook]


class Namespace(TypedDict, total=False):
    """One of linux.namespaces. Without a path (or with an empty one) a new namespace is made."""

    type: str
    path: str


class Device(TypedDict, total=False):
    """One of linux.devices."""

    type: str
    path: str
    major: int
    minor: int
    fileMode: int
    uid: int
    gid: int


class DeviceRule(TypedDict, total=False):
    """One of linux.resources.devices. Absent type: all; absent major or minor, or -1: any; absent access: rwm."""

    allow: bool
    type: str
    major: int
    minor: int
    access: str


class Memory(TypedDict, total=False):
    """linux.resources.memory, in bytes; -1 means unlimited. ``swap`` is memory and swap together."""

    limit: int
    reservation: int
    swap: int
    kernel: int
    kernelTCP: int
    swappiness: int
    disableOOMKiller: bool
    useHierarchy: bool
    checkBeforeUpdate: bool


class Cpu(TypedDict, total=False):
    """linux.resources.cpu. Times in microseconds."""

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
    """linux.resources.pids."""

    limit: int


class WeightDevice(TypedDict, total=False):
    """One of linux.resources.blockIO.weightDevice."""

    major: int
    minor: int
    weight: int
    leafWeight: int


class ThrottleDevice(TypedDict, total=False):
    """One throttle: bytes, or operations, per second."""

    major: int
    minor: int
    rate: int


class BlockIO(TypedDict, total=False):
    """linux.resources.blockIO."""

    weight: int
    leafWeight: int
    weightDevice: list[WeightDevice]
    throttleReadBpsDevice: list[ThrottleDevice]
    throttleWriteBpsDevice: list[ThrottleDevice]
    throttleReadIOPSDevice: list[ThrottleDevice]
    throttleWriteIOPSDevice: list[ThrottleDevice]


class HugepageLimit(TypedDict, total=False):
    """One of linux.resources.hugepageLimits, in bytes."""

    pageSize: str
    limit: int


class InterfacePriority(TypedDict, total=False):
    """One of linux.resources.network.priorities."""

    name: str
    priority: int


class Network(TypedDict, total=False):
    """linux.resources.network (cgroup v1 only)."""

    classID: int
    priorities: list[InterfacePriority]


class Rdma(TypedDict, total=False):
    """The limits of one device in linux.resources.rdma."""

    hcaHandles: int
    hcaObjects: int


class Resources(TypedDict, total=False):
    """linux.resources, and the whole of update's document."""

    devices: list[DeviceRule]
    memory: Memory
    cpu: Cpu
    pids: Pids
    blockIO: BlockIO
    hugepageLimits: list[HugepageLimit]
    network: Network
    rdma: dict[str, Rdma]
    unified: dict[str, str]


class SeccompArg(TypedDict, total=False):
    """One condition of a seccomp rule."""

    index: int
    value: int
    valueTwo: int
    op: str


class SeccompRule(TypedDict, total=False):
    """One of linux.seccomp.syscalls."""

    names: list[str]
    action: str
    errnoRet: int
    args: list[SeccompArg]


class Seccomp(TypedDict, total=False):
    """linux.seccomp."""

    defaultAction: str
    defaultErrnoRet: int
    architectures: list[str]
    flags: list[str]
    listenerPath: str
    listenerMetadata: str
    syscalls: list[SeccompRule]


class IntelRdt(TypedDict, total=False):
    """linux.intelRdt. ``enableCMT`` and ``enableMBM`` are from before 1.3."""

    closID: str
    schemata: list[str]
    l3CacheSchema: str
    memBwSchema: str
    enableMonitoring: bool
    enableCMT: bool
    enableMBM: bool


class Personality(TypedDict, total=False):
    """linux.personality."""

    domain: str
    flags: list[str]


class TimeOffset(TypedDict, total=False):
    """One of linux.timeOffsets."""

    secs: int
    nanosecs: int


class NetDevice(TypedDict, total=False):
    """One of linux.netDevices, keyed by the name on the host; ``name`` is the name inside."""

    name: str


class MemoryPolicy(TypedDict, total=False):
    """linux.memoryPolicy."""

    mode: str
    nodes: str
    flags: list[str]


class Linux(TypedDict, total=False):
    """linux."""

    uidMappings: list[IDMapping]
    gidMappings: list[IDMapping]
    sysctl: dict[str, str]
    resources: Resources
    cgroupsPath: str
    namespaces: list[Namespace]
    devices: list[Device]
    netDevices: dict[str, NetDevice]
    seccomp: Seccomp
    rootfsPropagation: str
    maskedPaths: list[str]
    readonlyPaths: list[str]
    mountLabel: str
    intelRdt: IntelRdt
    memoryPolicy: MemoryPolicy
    personality: Personality
    timeOffsets: dict[str, TimeOffset]


class Spec(TypedDict, total=False):
    """config.json."""

    ociVersion: str
    process: Process
    root: Root
    hostname: str
    domainname: str
    mounts: list[Mount]
    hooks: Hooks
    annotations: dict[str, str]
    linux: Linux


class State(TypedDict, total=False):
    """The state that hooks read from stdin and the ``state`` command prints."""

    ociVersion: Required[str]
    id: Required[str]
    status: Required[str]
    pid: int
    bundle: Required[str]
    annotations: dict[str, str]


class ContainerProcessState(TypedDict, total=False):
    """What the seccomp agent at linux.seccomp.listenerPath receives."""

    ociVersion: Required[str]
    fds: list[str]
    pid: Required[int]
    metadata: str
    state: Required[State]


class Enabled(TypedDict):
    """A feature that is there or not."""

    enabled: bool


class CgroupFeatures(TypedDict):
    """features: linux.cgroup."""

    v1: bool
    v2: bool
    systemd: bool
    systemdUser: bool
    rdma: bool


class SeccompFeatures(TypedDict, total=False):
    """features: linux.seccomp."""

    enabled: Required[bool]
    actions: list[str]
    operators: list[str]
    archs: list[str]
    knownFlags: list[str]
    supportedFlags: list[str]


class IntelRdtFeatures(TypedDict):
    """features: linux.intelRdt."""

    enabled: bool
    schemata: bool
    monitoring: bool


class MemoryPolicyFeatures(TypedDict):
    """features: linux.memoryPolicy."""

    modes: list[str]
    flags: list[str]


class MountExtensions(TypedDict):
    """features: linux.mountExtensions."""

    idmap: Enabled


class LinuxFeatures(TypedDict):
    """features: linux."""

    namespaces: list[str]
    capabilities: list[str]
    cgroup: CgroupFeatures
    seccomp: SeccompFeatures
    apparmor: Enabled
    selinux: Enabled
    intelRdt: IntelRdtFeatures
    memoryPolicy: MemoryPolicyFeatures
    mountExtensions: MountExtensions
    netDevices: Enabled


class Features(TypedDict):
    """What the ``features`` command prints."""

    ociVersionMin: str
    ociVersionMax: str
    hooks: list[str]
    mountOptions: list[str]
    linux: LinuxFeatures
    annotations: dict[str, str]
    potentiallyUnsafeConfigAnnotations: list[str]
