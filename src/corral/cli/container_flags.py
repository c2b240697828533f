"""The flags that describe a container, shared by ``run``, ``create`` and, for limits, ``update``.

Named as in Podman and Docker. What they mean is ``engine/options.py``'s to say.
"""

from __future__ import annotations

from corral.cli.flags import many, switch, value

LIMITS = (
    value("memory", "SIZE", "the most memory, as in 512m", "m"),
    value("memory-reservation", "SIZE", "memory that is protected from reclaim when the host runs short"),
    value("memory-swap", "SIZE", "the most of memory and swap together; -1: no bound on swap"),
    value("memory-swappiness", "N", "0 to 100: how readily memory is swapped out (cgroup v1)"),
    value("cpus", "N", "the most CPU time, in CPUs, as in 1.5"),
    value("cpu-shares", "N", "the share of CPU time when there is not enough (default 1024)", "c"),
    value("cpu-quota", "MICROSECONDS", "CPU time in each period"),
    value("cpu-period", "MICROSECONDS", "the length of a period (default 100000)"),
    value("cpuset-cpus", "LIST", "CPUs that may be used, as in 0-2,4"),
    value("cpuset-mems", "LIST", "memory nodes that may be used"),
    value("pids-limit", "N", "the most processes and threads (default 2048); -1: no bound"),
    value("blkio-weight", "N", "10 to 1000: the share of I/O when there is not enough"),
    many("device-read-bps", "DEVICE:SIZE", "the most bytes read from a device in a second"),
    many("device-write-bps", "DEVICE:SIZE", "the most bytes written to a device in a second"),
    many("device-read-iops", "DEVICE:N", "the most reads from a device in a second"),
    many("device-write-iops", "DEVICE:N", "the most writes to a device in a second"),
    many("cgroup-conf", "FILE=VALUE", "a file of cgroup v2 and what to write to it, as in memory.high=100000000"),
)

_PROCESS = (
    switch("interactive", "keep stdin open, and connected to this command's", "i"),
    switch("tty", "give the program a terminal", "t"),
    value("entrypoint", "WORD|JSON", "the program, in place of the image's; '' for none"),
    many("env", "NAME=VALUE", "a variable of the environment; NAME alone takes this shell's", "e"),
    many("env-file", "FILE", "a file with one NAME=VALUE a line", complete="file"),
    switch("env-host", "all variables of this shell"),
    many("unsetenv", "NAME", "a variable of the image that is not to be there"),
    value("user", "USER[:GROUP]", "who the program runs as: names of the image, or numbers", "u"),
    many("group-add", "GROUP", "a further group"),
    value("workdir", "DIR", "the working directory", "w"),
    value("umask", "MODE", "the umask, in octal"),
    switch("init", "run a small init that reaps orphans and forwards signals"),
    many("ulimit", "NAME=SOFT[:HARD]", "a resource limit, as in nofile=1024:4096"),
    value("stop-signal", "SIGNAL", "what `stop` sends first (default SIGTERM)", complete="signal"),
    value("stop-timeout", "SECONDS", "how long `stop` waits before SIGKILL (default 10)"),
)
_FILES = (
    many("volume", "SOURCE:TARGET[:OPTIONS]", "mount a host directory or a volume, as in ./src:/src:ro", "v", "mount"),
    many("mount", "type=TYPE,...", "mount, in words: type=bind,source=/x,target=/y,readonly"),
    many("tmpfs", "TARGET[:OPTIONS]", "mount an empty directory in memory, as in /scratch:size=64m"),
    many("device", "HOST[:INSIDE[:rwm]]", "a device of this host", complete="file"),
    many("device-cgroup-rule", "RULE", "a rule for devices that appear later, as in 'c 189:* rmw'"),
    switch("read-only", "mount the root filesystem read-only"),
    switch("read-only-tmpfs", "with --read-only, mount writable /run, /tmp and /var/tmp (default true)"),
    value("shm-size", "SIZE", "the size of /dev/shm (default 64m)"),
    many("storage-opt", "size=SIZE", "the most that it may write to its root; needs project quotas (ext4, xfs)"),
    switch("rootfs", "IMAGE is a directory: the root filesystem itself, or with :O the base of an overlay"),
)
_NETWORK = (
    many(
        "network",
        "MODE|NAME[:OPTIONS]",
        "bridge, none, host, pasta, container:NAME, or a network",
        complete="network-mode",
    ),
    many("publish", "[IP:][HOST:]INSIDE[/PROTOCOL]", "publish a port, as in 8080:80", "p"),
    switch("publish-all", "publish every port that the image exposes, on free ports", "P"),
    many("network-alias", "NAME", "a further name on the network"),
    value("ip", "ADDRESS", "the address on the network"),
    value("mac-address", "ADDRESS", "the hardware address on the network"),
    many("dns", "ADDRESS", "a name server"),
    many("dns-search", "DOMAIN", "a search domain"),
    many("dns-option", "OPTION", "an option of resolv.conf"),
    many("add-host", "NAME:ADDRESS", "a line of /etc/hosts"),
    switch("no-hosts", "leave /etc/hosts as the image has it"),
    value("hostname", "NAME", "the container's host name (default: its short id)", "h"),
    value("domainname", "NAME", "the container's NIS domain name"),
)
_NAMESPACES = (
    value("pid", "MODE", "private, host, or container:NAME", complete="private|host|pod|container:"),
    value("ipc", "MODE", "private, host, or container:NAME", complete="private|host|pod|container:"),
    value("uts", "MODE", "private or host", complete="private|host|pod"),
    value("cgroupns", "MODE", "private or host", complete="private|host"),
    value("userns", "MODE", "host, auto, keep-id, or container:NAME", complete="host|auto|keep-id|container:"),
    many("uidmap", "INSIDE:OUTSIDE:SIZE", "a range of user ids in a user namespace"),
    many("gidmap", "INSIDE:OUTSIDE:SIZE", "a range of group ids in a user namespace"),
    many("sysctl", "NAME=VALUE", "a kernel setting of the container's namespaces"),
)
_SECURITY = (
    switch("privileged", "all capabilities and devices, nothing masked or filtered: root on this host"),
    many("cap-add", "CAPABILITY", "give a capability, or ALL", complete="capability"),
    many("cap-drop", "CAPABILITY", "take a capability, or ALL", complete="capability"),
    many(
        "security-opt",
        "OPTION",
        "no-new-privileges, seccomp=FILE|unconfined, apparmor=NAME, label=LABEL, mask=PATH, unmask=ALL|PATH, "
        "writable-cgroups",
    ),
)
_CGROUP = (
    value("cgroup-parent", "PATH|SLICE", "the control group, or the systemd slice, above the container's"),
    value("cgroup-manager", "NAME", "who makes the groups", complete="direct|cgroupfs|systemd"),
    value("cgroups", "MODE", "disabled: no control group of its own", complete="enabled|disabled"),
    switch("oom-kill-disable", "stop processes at the memory limit instead of killing (cgroup v1)"),
    value("oom-score-adj", "N", "-1000 to 1000: how likely the kernel picks it when the host runs out of memory"),
)
_HEALTH = (
    value("health-cmd", "COMMAND", "a shell line, or a JSON list of words, that tells by 0 that all is well"),
    value("health-interval", "DURATION", "time between two checks (default 30s)"),
    value("health-timeout", "DURATION", "how long a check may take (default 30s)"),
    value("health-start-period", "DURATION", "how long a bad check does not count after the start"),
    value("health-retries", "N", "bad checks in a row until it is unhealthy (default 3)"),
    value("health-on-failure", "ACTION", "what to do then", complete="none|kill|restart|stop"),
    switch("no-healthcheck", "no check, even if the image has one"),
    value(
        "restart",
        "POLICY",
        "no, always, unless-stopped, or on-failure[:N]",
        complete="no|always|unless-stopped|on-failure",
    ),
)
_LOG = (
    value("log-driver", "NAME", "the form of the log", complete="k8s-file|json-file|none"),
    many("log-opt", "NAME=VALUE", "max-size=SIZE, max-file=N"),
)
_OBJECT = (
    value("name", "NAME", "the container's name (default: one is invented)"),
    many("label", "NAME=VALUE", "a label", "l"),
    many("label-file", "FILE", "a file with one label a line", complete="file"),
    many("annotation", "NAME=VALUE", "an annotation for the runtime and its hooks"),
    value("pod", "NAME", "the pod that it joins", complete="pod"),
    switch("rm", "remove the container when it ends"),
    switch("replace", "remove a container of the same name first"),
    value("cidfile", "FILE", "write the id to a file", complete="file"),
    value("pid-file", "FILE", "write the pid of its first process to a file", complete="file"),
)
REGISTRY = (
    switch("tls-verify", "check certificates, and use no plain HTTP (default: as registries.conf says)"),
    value("authfile", "FILE", "where credentials are kept", complete="file"),
    value("creds", "USER:PASSWORD", "credentials for this command alone"),
)
IMAGE = (
    value("pull", "POLICY", "when to fetch the image (default missing)", complete="always|missing|never|newer"),
    value("platform", "OS/ARCH", "which image of a list, as in linux/arm64"),
    *REGISTRY,
    switch("quiet", "no progress while pulling", "q"),
)

CONTAINER = (
    *_PROCESS,
    *_FILES,
    *_NETWORK,
    *_NAMESPACES,
    *_SECURITY,
    *LIMITS,
    *_CGROUP,
    *_HEALTH,
    *_LOG,
    *_OBJECT,
    *IMAGE,
)

ATTACH = (
    switch("detach", "run in the background, and print the id", "d"),
    many(
        "attach",
        "STREAM",
        "connect stdin, stdout or stderr (default: what -i, -t and -d say)",
        "a",
        "stdin|stdout|stderr",
    ),
    value("detach-keys", "KEYS", "keys that leave the container running (default ctrl-p,ctrl-q); '' for none"),
    switch("sig-proxy", "forward signals to the program (default true)"),
)
