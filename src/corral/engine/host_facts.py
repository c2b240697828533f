"""What ``compile_spec`` wants to know of this host, gathered before it: devices, profiles, rights. Changes nothing.

Source: stat(2), proc(5) "/proc/PID/status", getrlimit(2), seccomp profiles of Docker and Podman ("includes",
"excludes", "archMap"), which are not the runtime's form.
"""

from __future__ import annotations

import errno
import posix

from corral.errors import InvalidArgument, NotFound
from corral.linux.caps import CAPABILITIES, names_of
from corral.oci.json import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from corral.engine.definition import Definition, HostDevice

_FORMAT, _BLOCK, _CHARACTER, _DIRECTORY = 0o170000, 0o060000, 0o020000, 0o040000
# Made by the runtime in every container, or not the host's to give: the console and terminals.
_OWN = frozenset("null zero full random urandom tty console ptmx pts shm mqueue fd stdin stdout stderr core".split())
_PROFILE_BYTES = 1 << 20


def bounding_set() -> list[str]:
    """The capabilities that this process can hand on, in the kernel's order."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"CapBnd:"):
                held = frozenset(names_of(int(line.split()[1], 16)))
                return [name for name in CAPABILITIES if name in held]
    return []


def nofile_hard() -> int:
    """The hard RLIMIT_NOFILE of this process; who may raise it may go up to the kernel's fs.nr_open."""
    with open("/proc/self/limits", "rb") as file:
        for line in file:
            if line.startswith(b"Max open files"):
                text = line.split()[4]
                return int(text) if text.isdigit() else 1 << 20
    return 1024


def can_limit_swap() -> bool:
    """Whether memory + swap can be limited here: swap is compiled in, and accounted."""
    for path in (
        "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes",
        "/sys/fs/cgroup/system.slice/memory.swap.max",
        "/sys/fs/cgroup/init.scope/memory.swap.max",
    ):
        try:
            posix.stat(path)
            return True
        except OSError:
            pass
    return False


def find_devices(definition: Definition) -> list[HostDevice]:
    """The device nodes that ``--device`` and ``--privileged`` ask for. A directory stands for all nodes below it.

    Raises: NotFound, InvalidArgument naming the flag's value.
    """
    found: dict[str, HostDevice] = {}
    if definition.get("security", {}).get("privileged"):
        for device in _below("/dev", "/dev", "rwm"):
            found[device["target"]] = device
    for text in definition.get("devices", []):
        source, target, access = split_device(text)
        try:
            mode = posix.stat(source).st_mode & _FORMAT
        except OSError as exc:
            raise NotFound(
                f"device {text!r}: {posix.strerror(exc.errno or 0).lower()}", hint="name a device node of this host"
            ) from exc
        if mode == _DIRECTORY:
            devices = list(_below(source, target, access))
        else:
            node = _device(source, target, access)
            if node is None:
                raise InvalidArgument(f"device {text!r}: {source} is no device node")
            devices = [node]
        for device in devices:
            found[device["target"]] = device
    return list(found.values())


def split_device(text: str) -> tuple[str, str, str]:
    """``/host[:/inside][:rwm]`` -> (host, inside, access). Raises: InvalidArgument."""
    parts = text.split(":")
    source = parts.pop(0)
    access = parts.pop() if parts and not parts[-1].startswith("/") else "rwm"
    target = parts.pop(0) if parts else source
    if parts or not source.startswith("/") or not access or not set(access) <= set("rwm"):
        raise InvalidArgument(f"device {text!r}: not of the form /HOST[:/INSIDE[:rwm]]")
    return source, target, access


def _device(source: str, target: str, access: str) -> HostDevice | None:
    status = posix.stat(source)
    kind = status.st_mode & _FORMAT
    if kind not in (_BLOCK, _CHARACTER):
        return None
    number = status.st_rdev
    return {
        "source": source,
        "target": target,
        "access": access,
        "type": "b" if kind == _BLOCK else "c",
        "major": posix.major(number),
        "minor": posix.minor(number),
        "mode": status.st_mode & 0o7777,
        "uid": status.st_uid,
        "gid": status.st_gid,
    }


def _below(folder: str, target: str, access: str) -> Iterable[HostDevice]:
    for name in sorted(posix.listdir(folder)):
        if folder == "/dev" and (name in _OWN or name.startswith((".", "tty"))):
            continue
        path = f"{folder}/{name}"
        try:
            mode = posix.lstat(path).st_mode & _FORMAT
            if mode == _DIRECTORY:
                yield from _below(path, f"{target}/{name}", access)
                continue
            device = _device(path, f"{target}/{name}", access) if mode in (_BLOCK, _CHARACTER) else None
        except OSError as exc:
            if exc.errno not in (errno.ENOENT, errno.EACCES, errno.ENXIO):
                raise
            continue  # gone meanwhile, or not for us
        if device is not None:
            yield device


def read_profile(path: str, capabilities: Iterable[str], machine: str) -> dict[str, object]:
    """A seccomp profile from a file, in Docker's or the runtime's form, reduced to the runtime's.

    Raises: NotFound, InvalidArgument naming the file.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_PROFILE_BYTES + 1)
    except OSError as exc:
        raise NotFound(
            f"read the seccomp profile {path}: {(exc.strerror or '').lower()}", hint="--security-opt seccomp=FILE"
        ) from exc
    profile = loads(data, path)
    if not isinstance(profile, dict) or "defaultAction" not in profile:
        raise InvalidArgument(f"read the seccomp profile {path}: it has no defaultAction")
    held = frozenset(capabilities)
    found: dict[str, object] = {
        key: profile[key]
        for key in ("defaultAction", "defaultErrnoRet", "architectures", "flags", "listenerPath", "listenerMetadata")
        if profile.get(key) is not None
    }
    if "architectures" not in found and isinstance(profile.get("archMap"), list):
        found["architectures"] = _architectures(profile["archMap"], machine)
    rules = profile.get("syscalls") or []
    found["syscalls"] = [_plain(rule) for rule in rules if isinstance(rule, dict) and _applies(rule, held, machine)]
    return found


_GO_NAMES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "i686": "x86",
    "s390x": "s390x",
    "riscv64": "riscv64",
}


def _architectures(table: list[object], machine: str) -> list[str]:
    native = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}.get(machine, f"SCMP_ARCH_{machine.upper()}")
    for row in table:
        if isinstance(row, dict) and row.get("architecture") == native:
            return [native, *(row.get("subArchitectures") or [])]
    return [native]


def _applies(rule: dict[str, object], held: frozenset[str], machine: str) -> bool:
    arch = _GO_NAMES.get(machine, machine)
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    assert isinstance(includes, dict)
    assert isinstance(excludes, dict)
    if not set(includes.get("caps") or []) <= held or set(excludes.get("caps") or []) & held:
        return False
    if includes.get("arches") and arch not in includes["arches"]:
        return False
    # "minKernel" is true of every kernel that Corral runs on: profiles name 4.8 at most.
    return arch not in (excludes.get("arches") or [])


def _plain(rule: dict[str, object]) -> dict[str, object]:
    plain = {key: rule[key] for key in ("names", "action", "errnoRet", "args") if rule.get(key) is not None}
    if "names" not in plain and "name" in rule:
        plain["names"] = [rule["name"]]
    return plain
