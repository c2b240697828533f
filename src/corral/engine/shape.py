"""Whether a definition or a request that a program sends has the shape that everything after takes for granted.

The command line makes its definitions itself; those that come by the library or the service may be anything. One that
is stored wrong would be in the way of every later look at the store, and a limit that is misspelt would be no limit:
what is not known is refused, with the name that was probably meant. The members are those of ``definition.py``, which
a test compares.
"""

from __future__ import annotations

from corral.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    # A word for a plain value; a tuple of the words that may stand there; the members of an object; in a list of one:
    # a list of such.
    Shape = str | tuple[str, ...] | Mapping[str, "Shape"] | list["Shape"]

__all__ = ["EXEC", "NETWORK", "POD", "check_members", "check_shape", "hint_for"]

_HEX, _OCTAL = frozenset("0123456789abcdef"), frozenset("01234567")
_NAME_MAX, _NUMBER_END = 64, 1 << 63
# Every clock of ours can add so much; -1 is what says "never" to some.
_SECONDS_MAX = 1e9
_TEXT, _TEXTS, _MAP, _ANY = "a text", "a list of texts", "an object of texts", "an object"
_BOOL, _INT, _SECONDS = "true or false", "a whole number", "a number of seconds"
_MAPS = "a list of [inside, outside, size]"
_OBJECTS = "a list of objects"

_MOUNT: dict[str, Shape] = {
    "type": ("bind", "volume", "tmpfs", "image"), "target": _TEXT, "source": _TEXT, "options": _TEXTS, "copy_up": _BOOL,
    "is_anonymous": _BOOL,
}  # fmt: skip
_NETWORK: dict[str, Shape] = {
    "mode": ("bridge", "host", "none", "container", "pod", "pasta", "slirp4netns"), "container": _TEXT,
    "options": _TEXTS, "publish_all": _BOOL, "dns": _TEXTS, "dns_search": _TEXTS, "dns_options": _TEXTS,
    "extra_hosts": _TEXTS,
    "attachments": [{"name": _TEXT, "aliases": _TEXTS, "ip": _TEXT, "mac": _TEXT, "interface": _TEXT}],
    "ports": [
        {"host_ip": _TEXT, "host_port": _INT, "container_port": _INT, "protocol": ("tcp", "udp", "sctp")},
    ],
}  # fmt: skip
_RESOURCES: dict[str, Shape] = {
    "memory_bytes": _INT, "memory_swap_bytes": _INT, "memory_reservation_bytes": _INT, "memory_swappiness": _INT,
    "cpu_quota_us": _INT, "cpu_period_us": _INT, "cpu_shares": _INT, "cpuset_cpus": _TEXT, "cpuset_mems": _TEXT,
    "pids": _INT, "blkio_weight": _INT, "oom_kill_disable": _BOOL, "oom_score_adj": _INT, "unified": _MAP,
    "device_limits": [
        {
            "kind": ("read_bps", "write_bps", "read_iops", "write_iops"), "major": _INT, "minor": _INT, "rate": _INT,
        },
    ],
}  # fmt: skip
_PROCESS: dict[str, Shape] = {
    "entrypoint": _TEXTS, "command": _TEXTS, "env": _TEXTS, "user": _TEXT, "groups": _TEXTS, "workdir": _TEXT,
    "terminal": _BOOL, "stdin": _BOOL, "stdin_once": _BOOL, "init": _BOOL, "umask": _TEXT, "ulimits": _TEXTS,
    "stop_signal": _TEXT, "stop_timeout_s": _SECONDS,
}  # fmt: skip
_SECURITY: dict[str, Shape] = {
    "privileged": _BOOL, "cap_add": _TEXTS, "cap_drop": _TEXTS, "no_new_privileges": _BOOL, "seccomp": _TEXT,
    "apparmor": _TEXT, "selinux_label": _TEXT, "unmask": _TEXTS, "mask": _TEXTS, "writable_cgroups": _BOOL,
    "read_only": _BOOL,
}  # fmt: skip
_DEFINITION: dict[str, Shape] = {
    "schema": _INT, "id": _TEXT, "name": _TEXT, "created_ns": _INT,
    "root": {
        "kind": ("image", "host", "rootfs"), "image": _TEXT, "image_id": _TEXT, "path": _TEXT, "is_direct": _BOOL,
    },
    "process": _PROCESS,
    "network": _NETWORK,
    "namespaces": {
        "pid": _TEXT, "ipc": _TEXT, "uts": _TEXT, "cgroup": _TEXT, "user": _TEXT, "uid_map": _MAPS, "gid_map": _MAPS,
    },
    "mounts": [_MOUNT],
    "devices": _TEXTS, "device_rules": _TEXTS,
    "resources": _RESOURCES,
    "security": _SECURITY,
    "health": {
        "command": _TEXTS, "interval_s": _SECONDS, "timeout_s": _SECONDS, "start_period_s": _SECONDS, "retries": _INT,
        "on_failure": ("none", "kill", "restart", "stop"),
    },
    "restart": {"policy": ("no", "always", "on-failure", "unless-stopped"), "max_retries": _INT},
    "log": {"driver": ("k8s-file", "json-file", "none"), "max_bytes": _INT, "files": _INT},
    "labels": _MAP, "annotations": _MAP, "hostname": _TEXT, "domainname": _TEXT, "sysctls": _MAP, "shm_bytes": _INT,
    "no_hosts": _BOOL, "storage_bytes": _INT, "cgroup_parent": _TEXT,
    "cgroup_manager": ("cgroupfs", "systemd", "direct", "disabled"), "pod": _TEXT, "is_infra": _BOOL,
    "auto_remove": _BOOL, "pid_file": _TEXT, "hooks": _ANY,
}  # fmt: skip
# What `exec`, `pod_create` and `network_create` take.
EXEC: dict[str, Shape] = {
    name: _PROCESS[name] for name in ("command", "env", "user", "workdir", "terminal", "stdin")
} | {"privileged": _BOOL}
POD: dict[str, Shape] = {
    "name": _TEXT, "share": _TEXTS, "network": _NETWORK, "labels": _MAP, "hostname": _TEXT, "cgroup_parent": _TEXT,
}  # fmt: skip
NETWORK: dict[str, Shape] = {
    "name": _TEXT, "driver": _TEXT, "subnets": _TEXTS, "gateways": _TEXTS, "internal": _BOOL, "ipv6": _BOOL,
    "options": _MAP, "labels": _MAP,
}  # fmt: skip


def check_shape(definition: Mapping[str, object], operation: str = "create container") -> None:
    """Whether it, or a part of it, can be stored. Raises: InvalidArgument, naming the member."""
    check_members(operation, definition, _DEFINITION)
    mounts = definition.get("mounts", [])
    assert isinstance(mounts, list)
    for number, mount in enumerate(mounts):
        if not mount.get("type") or not mount.get("target"):
            raise InvalidArgument(f"{operation}: mounts[{number}] has no type, or no target")
    chosen = definition.get("id", "")
    assert isinstance(chosen, str)
    if chosen and (len(chosen) != 64 or not _HEX.issuperset(chosen)):
        raise InvalidArgument(f"{operation}: the id {chosen!r} is not one of 64 hexadecimal digits")
    _check_texts(operation, definition)
    _check_numbers(operation, definition)


def _check_texts(operation: str, definition: Mapping[str, Any]) -> None:
    """Texts that are read as something else when it starts, or stops: then nobody who could mend it is there."""
    process = definition.get("process", {})
    if process.get("stop_signal"):
        from corral.engine.signals import parse_signal

        parse_signal(process["stop_signal"])
    mask = process.get("umask", "")
    if not _OCTAL.issuperset(mask) or len(mask) > 4:
        raise InvalidArgument(f"{operation}: process.umask is {mask!r}, which is no octal mode", hint="as in 0022")
    # Whose working directory would it be below? That of the service is nobody's.
    for where, path in (
        ("pid_file", definition.get("pid_file")),
        ("root.path", definition.get("root", {}).get("path")),
    ):
        if path and not path.startswith("/"):
            raise InvalidArgument(f"{operation}: {where} is {path!r}, which is no absolute path")

    if ".." in definition.get("cgroup_parent", "").split("/"):
        where = definition["cgroup_parent"]
        raise InvalidArgument(f"{operation}: cgroup_parent is {where!r}, which has a '..' component")
    for key in ("hostname", "domainname"):
        if len(definition.get(key, "").encode("utf-8", "surrogateescape")) > _NAME_MAX:
            raise InvalidArgument(f"{operation}: {key} has more than the {_NAME_MAX} bytes that the kernel holds")


def _check_numbers(operation: str, definition: Mapping[str, Any]) -> None:
    """Sizes and limits that no kernel takes. -1 is what several of them call none."""
    for where, least, found in (
        ("resources.", -1, definition.get("resources", {})),
        ("", 0, {key: definition.get(key, 0) for key in ("shm_bytes", "storage_bytes")}),
    ):
        for key, value in found.items():
            if isinstance(value, int) and key != "oom_score_adj" and not least <= value < _NUMBER_END:
                raise InvalidArgument(
                    f"{operation}: {where}{key} is {value}, which is out of range",
                    hint=f"a number from {least} to {_NUMBER_END - 1}",
                )


def check_members(operation: str, value: Mapping[str, object], members: Shape, where: str = "") -> None:
    """Whether an object has these members and no other, each of its shape. Raises: InvalidArgument."""
    assert isinstance(members, dict)
    for name, item in value.items():
        if name not in members:
            raise InvalidArgument(f"{operation}: unknown member {where}{name}", hint=hint_for(name, members))
        _check(operation, item, members[name], f"{where}{name}")


def hint_for(name: str, known: Iterable[str]) -> str:
    """Which of the known names was probably meant, or all of them."""
    from difflib import get_close_matches

    close = get_close_matches(name, known, 1, 0.6)
    return f"did you mean {close[0]}?" if close else f"one of {', '.join(known)}"


def _check(operation: str, value: object, shape: Shape, where: str) -> None:
    if isinstance(shape, str):
        if not _fits(value, shape):
            raise InvalidArgument(f"{operation}: {where} is not {shape}")
    elif isinstance(shape, tuple):
        if value not in shape:
            raise InvalidArgument(f"{operation}: {where} is {value!r}", hint=f"one of {', '.join(shape)}")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise InvalidArgument(f"{operation}: {where} is not {_OBJECTS}")
        for number, item in enumerate(value):
            _check(operation, item, shape[0], f"{where}[{number}]")
    elif isinstance(value, dict):
        check_members(operation, value, shape, f"{where}.")
    else:
        raise InvalidArgument(f"{operation}: {where} is not {_ANY}")


def _fits(value: object, wanted: str) -> bool:
    if wanted == _TEXT:
        return isinstance(value, str) and "\0" not in value
    if wanted == _BOOL:
        return isinstance(value, bool)
    if wanted in (_INT, _SECONDS):
        # In JSON true is no number, as in Python it is.
        if isinstance(value, bool) or not isinstance(value, int if wanted == _INT else int | float):
            return False
        return wanted == _INT or -1 <= value <= _SECONDS_MAX
    if wanted == _ANY:
        return isinstance(value, dict)
    if wanted == _MAP:
        return isinstance(value, dict) and all(_fits(item, _TEXT) for item in value.values())
    if not isinstance(value, list | tuple):
        return False
    if wanted == _MAPS:
        return all(
            isinstance(item, list | tuple) and len(item) == 3 and all(_fits(part, _INT) for part in item)
            for item in value
        )
    return all(_fits(item, _TEXT) for item in value)
