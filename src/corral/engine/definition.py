"""What a container, a pod and a volume *are*: the typed content of their JSON files.

Everything is resolved here: images to digests, names to ids, sizes to bytes, times to seconds. Keys that are absent
have the documented default. Only types live in this module; it costs nothing to import.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, NotRequired, TypedDict

    from corral.image.config import HealthCheck
    from corral.image.config import ImageConfig as ImageConfig

    class RootSource(TypedDict):
        """Where the root filesystem comes from."""

        kind: Literal["image", "host", "rootfs"]
        image: NotRequired[str]
        """As the user wrote it, for display (``docker.io/library/alpine:latest``)."""
        image_id: NotRequired[str]
        """``sha256:...`` of the image's config; its layers are found by it."""
        path: NotRequired[str]
        """``rootfs``: an absolute directory, used as the lower layer, or as it is when ``is_direct``."""
        is_direct: NotRequired[bool]

    class Mount(TypedDict):
        """One ``--volume``, ``--mount`` or ``--tmpfs``."""

        type: Literal["bind", "volume", "tmpfs", "image"]
        target: str
        source: NotRequired[str]
        """bind: absolute host path; volume: its name (anonymous ones are named by 64 hex digits); image: image id."""
        options: NotRequired[list[str]]
        """``ro``, ``nosuid``, ``rprivate``, ``U`` (chown), ``size=...`` ... as in mount(8) and podman-run(1)."""
        copy_up: NotRequired[bool]
        """A fresh volume is filled with what the image has at the target (default True)."""
        is_anonymous: NotRequired[bool]

    class Port(TypedDict):
        """One published port."""

        host_ip: str
        host_port: int
        container_port: int
        protocol: Literal["tcp", "udp", "sctp"]

    class NetworkAttachment(TypedDict):
        """Membership of one CNI network."""

        name: str
        aliases: NotRequired[list[str]]
        ip: NotRequired[str]
        mac: NotRequired[str]
        interface: NotRequired[str]

    class Network(TypedDict):
        """How the container is reached and what it reaches."""

        mode: Literal["bridge", "host", "none", "container", "pod", "pasta", "slirp4netns"]
        container: NotRequired[str]
        """``container``: the id whose network namespace is shared."""
        options: NotRequired[list[str]]
        """``slirp4netns``: ``key=value``; ``pasta``: its own flags."""
        attachments: NotRequired[list[NetworkAttachment]]
        ports: NotRequired[list[Port]]
        publish_all: NotRequired[bool]
        """Also each port that the image exposes, on any free port of the host (resolved at create)."""
        dns: NotRequired[list[str]]
        dns_search: NotRequired[list[str]]
        dns_options: NotRequired[list[str]]
        extra_hosts: NotRequired[list[str]]
        """``name:ip``, as given."""

    class Resources(TypedDict):
        """Limits; absent = none."""

        memory_bytes: NotRequired[int]
        memory_swap_bytes: NotRequired[int]
        """memory + swap, as Docker's --memory-swap; -1 = unlimited swap."""
        memory_reservation_bytes: NotRequired[int]
        memory_swappiness: NotRequired[int]
        cpu_quota_us: NotRequired[int]
        cpu_period_us: NotRequired[int]
        cpu_shares: NotRequired[int]
        cpuset_cpus: NotRequired[str]
        cpuset_mems: NotRequired[str]
        pids: NotRequired[int]
        blkio_weight: NotRequired[int]
        device_limits: NotRequired[list[dict[str, object]]]
        oom_kill_disable: NotRequired[bool]
        oom_score_adj: NotRequired[int]
        unified: NotRequired[dict[str, str]]

    class Health(HealthCheck):
        """A health check: the image's, or one asked for."""

        on_failure: NotRequired[Literal["none", "kill", "restart", "stop"]]

    class Restart(TypedDict):
        """The restart policy."""

        policy: Literal["no", "always", "on-failure", "unless-stopped"]
        max_retries: NotRequired[int]
        """0 or absent: no bound."""

    class Log(TypedDict):
        """Where output goes."""

        driver: Literal["k8s-file", "json-file", "none"]
        max_bytes: NotRequired[int]
        files: NotRequired[int]

    class Security(TypedDict):
        """What ``--security-opt``, ``--cap-add`` and ``--privileged`` come to."""

        privileged: NotRequired[bool]
        cap_add: NotRequired[list[str]]
        cap_drop: NotRequired[list[str]]
        no_new_privileges: NotRequired[bool]
        seccomp: NotRequired[str]
        """``unconfined``, an absolute path of a profile, or absent: the default profile."""
        apparmor: NotRequired[str]
        selinux_label: NotRequired[str]
        unmask: NotRequired[list[str]]
        mask: NotRequired[list[str]]
        writable_cgroups: NotRequired[bool]
        read_only: NotRequired[bool]

    class Process(TypedDict):
        """What runs. Absent entrypoint, command, env, user, workdir: the image's."""

        entrypoint: NotRequired[list[str]]
        command: NotRequired[list[str]]
        env: NotRequired[list[str]]
        user: NotRequired[str]
        groups: NotRequired[list[str]]
        workdir: NotRequired[str]
        terminal: NotRequired[bool]
        stdin: NotRequired[bool]
        stdin_once: NotRequired[bool]
        """The end of the first client's input is the end of the process's: set by a run in the foreground."""
        init: NotRequired[bool]
        """A reaper as pid 1 (``--init``)."""
        umask: NotRequired[str]
        ulimits: NotRequired[list[str]]
        """``name=soft:hard``, validated."""
        stop_signal: NotRequired[str]
        stop_timeout_s: NotRequired[float]
        """Absent: 10."""

    class Namespaces(TypedDict):
        """Each: ``private`` (default), ``host``, ``container:ID``, ``pod``; user also ``auto``, ``keep-id`` or maps."""

        pid: NotRequired[str]
        ipc: NotRequired[str]
        uts: NotRequired[str]
        cgroup: NotRequired[str]
        user: NotRequired[str]
        uid_map: NotRequired[list[tuple[int, int, int]]]
        """(inside, outside, size), resolved at create."""
        gid_map: NotRequired[list[tuple[int, int, int]]]

    class Definition(TypedDict):
        """STORE/containers/ID/definition.json: what was asked for. Replaced as a whole (``update``, ``rename``)."""

        schema: int
        id: str
        name: str
        created_ns: int
        root: RootSource
        process: Process
        network: Network
        namespaces: NotRequired[Namespaces]
        mounts: NotRequired[list[Mount]]
        devices: NotRequired[list[str]]
        """``/host[:/inside[:rwm]]``."""
        device_rules: NotRequired[list[str]]
        resources: NotRequired[Resources]
        security: NotRequired[Security]
        health: NotRequired[Health]
        restart: NotRequired[Restart]
        log: NotRequired[Log]
        labels: NotRequired[dict[str, str]]
        annotations: NotRequired[dict[str, str]]
        hostname: NotRequired[str]
        domainname: NotRequired[str]
        sysctls: NotRequired[dict[str, str]]
        shm_bytes: NotRequired[int]
        storage_bytes: NotRequired[int]
        """The most that the writable layer may hold; needs a store on a filesystem with project quotas."""
        no_hosts: NotRequired[bool]
        """/etc/hosts is the image's own."""
        cgroup_parent: NotRequired[str]
        cgroup_manager: NotRequired[Literal["cgroupfs", "systemd", "direct", "disabled"]]
        pod: NotRequired[str]
        """Id of the pod that it belongs to."""
        is_infra: NotRequired[bool]
        """The process that holds a pod's namespaces."""
        auto_remove: NotRequired[bool]
        pid_file: NotRequired[str]
        hooks: NotRequired[dict[str, object]]

    class Pod(TypedDict):
        """STORE/pods/ID/definition.json."""

        schema: int
        id: str
        name: str
        created_ns: int
        share: list[str]
        """Of ``net``, ``ipc``, ``uts``, ``pid``."""
        infra: str
        """Id of the infra container."""
        labels: NotRequired[dict[str, str]]
        hostname: NotRequired[str]
        cgroup_parent: NotRequired[str]

    class Account(TypedDict):
        """A user and its groups, as numbers inside the container (``engine/accounts.py``)."""

        uid: int
        gid: int
        groups: list[int]
        home: str

    class HostDevice(TypedDict):
        """One device node of the host and where it appears inside."""

        source: str
        target: str
        access: str
        type: Literal["b", "c"]
        major: int
        minor: int
        mode: int
        uid: int
        gid: int

    class SpecPlace(TypedDict):
        """What ``compile_spec`` needs to know of this host and this run: gathered by others, so that it is pure."""

        rootfs: str
        """Where the runtime mounts the root filesystem."""
        cgroups_path: str
        """``linux.cgroupsPath``; empty: none."""
        account: Account
        machine: str
        """``uname -m``."""
        capabilities: list[str]
        """What this process could give away: its bounding set."""
        files: NotRequired[dict[str, str]]
        """Files of the engine's own that are bind-mounted: path inside -> path outside (/etc/hosts ...)."""
        volumes: NotRequired[dict[str, str]]
        """Name -> directory."""
        volume_devices: NotRequired[dict[str, dict[str, str]]]
        """Name -> ``type``, ``device``, ``o`` of a volume that is mounted from elsewhere."""
        images: NotRequired[dict[str, str]]
        """Image id of an image mount -> directory that holds its merged tree."""
        namespaces: NotRequired[dict[str, str]]
        """Kind as in config.json (``network``, ``ipc`` ...) -> path of the namespace that is joined."""
        gid_map: NotRequired[list[tuple[int, int, int]]]
        """The map of the user namespace that is joined."""
        shm: NotRequired[str]
        """A directory that stands in for a private /dev/shm (shared with a pod, or the host's)."""
        devices: NotRequired[list[HostDevice]]
        init: NotRequired[str]
        """Path of corral-init on this host; needed for ``process.init``."""
        seccomp: NotRequired[dict[str, object]]
        """A profile of the user's own, already read and reduced to the runtime's form."""
        is_rootless: NotRequired[bool]
        nofile_hard: NotRequired[int]
        """The highest RLIMIT_NOFILE that this process may set."""
        can_limit_swap: NotRequired[bool]


SCHEMA = 1
