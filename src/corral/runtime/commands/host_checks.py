"""What a config.json needs of this host, looked up without making anything: for ``check``.

The document may be invalid elsewhere, so nothing here trusts its shape: what has the wrong type is passed over, since
validation has told of it already.
"""

from __future__ import annotations

import os
import stat

from corral.cgroup.group import inspect_existing
from corral.cgroup.member import Member
from corral.errors import CorralError
from corral.linux.beneath import open_path
from corral.linux.idmap import first_unavailable, read_map
from corral.oci.names import NAMESPACES, sysctl_path
from corral.oci.shape import member_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.runtime.host import Host
    from corral.runtime.job import Job

CAP_SYS_RESOURCE = 24
_NS_GET_NSTYPE = 0xB703
_UNLIMITED = (1 << 64) - 1


_NO_CONTROLS = dict.fromkeys((*range(32), 127), " ")


class Finding:
    """One problem. ``severity`` is ``error`` (no container can be made) or ``warning``; ``kind`` that of the error."""

    __slots__ = ("hint", "kind", "message", "pointer", "severity")

    def __init__(
        self, severity: str, message: str, pointer: str = "", hint: str = "", *, kind: str = "invalid-argument"
    ) -> None:
        self.severity = severity
        # One line each, whatever path they quote.
        self.message = message.translate(_NO_CONTROLS)
        self.pointer = pointer.translate(_NO_CONTROLS)
        self.hint = hint
        self.kind = kind

    def to_json(self) -> dict[str, str]:
        """Its members; ``kind`` only for errors."""
        members = {
            "severity": self.severity,
            "pointer": self.pointer,
            "message": self.message,
            "hint": self.hint,
            "kind": self.kind,
        }
        return {key: value for key, value in members.items() if key != "kind" or self.severity == "error"}


def from_error(error: CorralError) -> Finding:
    """An error that creation would end with."""
    return Finding("error", error.message, error.pointer, error.hint, kind=error.kind)


class Facts:
    """What is looked at. ``job``: the compiled container, None if the document is invalid."""

    __slots__ = ("bundle", "document", "host", "job", "linux", "rootfs")

    def __init__(self, document: dict[str, object], bundle: str, host: Host, job: Job | None) -> None:
        self.document = document
        self.bundle = bundle
        self.host = host
        self.job = job
        linux = document.get("linux")
        self.linux: dict[str, object] = linux if isinstance(linux, dict) else {}
        root = document.get("root")
        path = _word(root, "path") if isinstance(root, dict) else ""
        self.rootfs = os.path.realpath(os.path.join(bundle, path)) if path else ""

    @property
    def has_user_namespace(self) -> bool:
        return any(item.get("type") == "user" for _, item in _objects(self.linux, "namespaces"))


def check_host(facts: Facts) -> list[Finding]:
    """All findings about this host, topic by topic."""
    found: list[Finding] = []
    for check in _CHECKS:
        found.extend(check(facts))
    return found


def _objects(owner: dict[str, object], name: str) -> Iterator[tuple[int, dict[str, object]]]:
    items = owner.get(name)
    if isinstance(items, list):
        for number, item in enumerate(items):
            if isinstance(item, dict):
                yield number, item


def _word(owner: dict[str, object], name: str) -> str:
    value = owner.get(name)
    return value if isinstance(value, str) and "\0" not in value else ""


def _words(owner: dict[str, object], name: str) -> list[str]:
    items = owner.get(name)
    return [item for item in items if isinstance(item, str)] if isinstance(items, list) else []


def _missing(path: str) -> str:
    """Why ``path`` cannot be reached, "" if it can."""
    try:
        os.stat(path)
    except OSError as exc:
        return (exc.strerror or str(exc)).lower()
    return ""


def _check_rootfs(facts: Facts) -> Iterator[Finding]:
    # With a job, compilation has looked.
    if facts.job is None and facts.rootfs and not os.path.isdir(facts.rootfs):
        cause = _missing(facts.rootfs) or "not a directory"
        yield Finding("error", f"open the rootfs {facts.rootfs}: {cause}", "root.path", kind="not-found")


def _check_mounts(facts: Facts) -> Iterator[Finding]:
    known = _filesystems()
    for number, mount in _objects(facts.document, "mounts"):
        options = _words(mount, "options")
        kind = _word(mount, "type")
        if kind == "bind" or "bind" in options or "rbind" in options:
            source = os.path.normpath(os.path.join(facts.bundle, _word(mount, "source")))
            is_there = os.path.lexists(source) if "copy-symlink" in options else not _missing(source)
            if not is_there:
                yield Finding(
                    "error",
                    f"bind {source}: {_missing(source)}",
                    f"mounts[{number}].source",
                    "a bind mount needs an existing source",
                    kind="not-found",
                )
        elif known and kind and kind not in known and kind not in ("none", "cgroup", "cgroup2"):
            yield Finding(
                "warning",
                f"the running kernel does not list the filesystem {kind!r}; it may be a module not loaded yet",
                f"mounts[{number}].type",
            )


def _filesystems() -> frozenset[str]:
    try:
        with open("/proc/filesystems", encoding="utf-8") as file:
            return frozenset(line.split()[-1] for line in file if line.strip())
    except OSError:
        return frozenset()


def _check_namespaces(facts: Facts) -> Iterator[Finding]:
    for number, namespace in _objects(facts.linux, "namespaces"):
        path, kind = _word(namespace, "path"), _word(namespace, "type")
        if not path or kind not in NAMESPACES:
            continue
        pointer = f"linux.namespaces[{number}].path"
        cause = _missing(path)
        if cause:
            yield Finding(
                "error", f"join {path}: {cause}", pointer, "the process that held it may have ended", kind="not-found"
            )
            continue
        found = _namespace_type(path)
        if found != NAMESPACES[kind][0]:
            names = [name for name, (flag, *_) in NAMESPACES.items() if flag == found]
            what = f"a {names[0]} namespace" if names else "no namespace"
            yield Finding("error", f"join {path}: it is {what}, not a {kind} namespace", pointer)


def _namespace_type(path: str) -> int:
    """The CLONE_NEW* flag of the namespace at ``path``, 0 if it is none. Source: ioctl_ns(2)."""
    import fcntl

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return 0
    try:
        return fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError:
        return 0
    finally:
        os.close(fd)


def _check_hooks(facts: Facts) -> Iterator[Finding]:
    hooks = facts.document.get("hooks")
    if not isinstance(hooks, dict):
        return
    for kind in hooks:
        for number, hook in _objects(hooks, kind):
            path, pointer = _word(hook, "path"), f"hooks.{kind}[{number}].path"
            if not path:
                continue
            if kind == "startContainer":
                cause = _not_executable_inside(facts, path)
                if cause:
                    yield Finding("warning", f"run {path} inside the rootfs: {cause}", pointer)
                continue
            cause = _missing(path) or ("" if os.access(path, os.X_OK) and os.path.isfile(path) else "not executable")
            if cause:
                yield Finding("error", f"run the hook {path}: {cause}", pointer, kind="not-found")


def _not_executable_inside(facts: Facts, path: str) -> str:
    """Why ``path`` is no program inside the rootfs, "" if it is one or this cannot be told."""
    try:
        root = os.open(facts.rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        fd = open_path(root, path)
    except PermissionError:
        return ""
    except OSError as exc:
        return (exc.strerror or str(exc)).lower()
    finally:
        os.close(root)
    mode = os.fstat(fd).st_mode
    os.close(fd)
    if not stat.S_ISREG(mode):
        return "not a regular file"
    return "" if mode & 0o111 else "not executable"


def _check_program(facts: Facts) -> Iterator[Finding]:
    process = facts.document.get("process")
    if not isinstance(process, dict) or not os.path.isdir(facts.rootfs):
        return
    args, env = _words(process, "args"), _words(process, "env")
    if not args or not args[0]:
        return
    if "/" in args[0]:
        candidates = [os.path.normpath(os.path.join(_word(process, "cwd") or "/", args[0]))]
    else:
        search = next((entry[5:] for entry in reversed(env) if entry.startswith("PATH=")), "")
        # Without a PATH, the executor looks where execvp does.
        candidates = [os.path.join(folder or "/", args[0]) for folder in (search or "/bin:/usr/bin").split(":")]
    targets = [_word(mount, "destination").rstrip("/") for _, mount in _objects(facts.document, "mounts")]
    if any(path.startswith(target + "/") or path == target for path in candidates for target in targets if target):
        # A mount may bring it.
        return
    causes = [_not_executable_inside(facts, path) for path in candidates]
    if all(causes):
        yield Finding(
            "warning",
            f"run {args[0]!r} inside the rootfs: {causes[0] if len(causes) == 1 else 'not found in PATH'}",
            "process.args[0]",
            "hooks may still bring it; otherwise create will refuse",
        )


def _check_limits_of_process(facts: Facts) -> Iterator[Finding]:
    process = facts.document.get("process")
    if not isinstance(process, dict) or facts.host.has(CAP_SYS_RESOURCE):
        return
    import resource

    for number, limit in _objects(process, "rlimits"):
        name, hard = _word(limit, "type"), limit.get("hard")
        which = getattr(resource, name, None) if name.startswith("RLIMIT_") else None
        if not isinstance(which, int) or not isinstance(hard, int):
            continue
        own = resource.getrlimit(which)[1]
        if own != resource.RLIM_INFINITY and hard > own:
            shown = "unlimited" if hard >= _UNLIMITED else hard
            yield Finding(
                "error",
                f"raise {name} to {shown}: the caller's own hard limit is {own}, and it lacks CAP_SYS_RESOURCE",
                f"process.rlimits[{number}].hard",
                kind="permission-denied",
            )


def _check_mappings(facts: Facts) -> Iterator[Finding]:
    """In a user namespace, only ids that exist in it can be mapped further."""
    if not facts.host.in_userns:
        return
    for kind in ("uid", "gid"):
        own = [(inside, size) for inside, _, size in read_map(kind)]
        for number, item in _objects(facts.linux, f"{kind}Mappings"):
            first, size = item.get("hostID"), item.get("size")
            if not isinstance(first, int) or not isinstance(size, int):
                continue
            if first_unavailable([(0, first, size)], own, own_id=-1):
                yield Finding(
                    "error",
                    f"map {kind}s {first} to {first + size - 1}: the caller's own user namespace lacks some",
                    f"linux.{kind}Mappings[{number}]",
                    kind="permission-denied",
                )


def _check_devices(facts: Facts) -> Iterator[Finding]:
    if not (facts.has_user_namespace or facts.host.is_rootless):
        return
    for number, device in _objects(facts.linux, "devices"):
        path = _word(device, "path")
        if path and _word(device, "type") != "p" and _missing(path):
            yield Finding(
                "error",
                f"bind the device {path}: {_missing(path)}",
                f"linux.devices[{number}].path",
                "in a user namespace devices are bound from the host, not made",
                kind="not-found",
            )


def _check_net_devices(facts: Facts) -> Iterator[Finding]:
    devices = facts.linux.get("netDevices")
    if not isinstance(devices, dict):
        return
    for name in devices:
        if name and "/" not in name and not os.path.lexists(f"/sys/class/net/{name}"):
            yield Finding(
                "error",
                f"move the interface {name!r}: no such device",
                member_of("linux.netDevices", name),
                kind="not-found",
            )


def _check_sysctls(facts: Facts) -> Iterator[Finding]:
    sysctls = facts.linux.get("sysctl")
    if not isinstance(sysctls, dict):
        return
    for key in sysctls:
        if key and "\0" not in key and _missing(f"/proc/sys/{sysctl_path(key)}"):
            yield Finding(
                "warning", "this kernel has no such sysctl outside the container", member_of("linux.sysctl", key)
            )


def _check_seccomp_agent(facts: Facts) -> Iterator[Finding]:
    seccomp = facts.linux.get("seccomp")
    path = _word(seccomp, "listenerPath") if isinstance(seccomp, dict) else ""
    if not path:
        return
    cause = _missing(path)
    if not cause and not stat.S_ISSOCK(os.stat(path).st_mode):
        cause = "not a socket"
    if cause:
        yield Finding(
            "error",
            f"connect to {path}: {cause}",
            "linux.seccomp.listenerPath",
            "the agent must listen before the container is made",
            kind="not-found",
        )


def _check_cgroups(facts: Facts) -> Iterator[Finding]:
    job = facts.job
    if job is None:
        return
    limited = {number for number, write in job.groups.writes if write.controller != "devices"}
    if job.groups.is_explicit:
        members = [Member(h.version, h.controllers, h.mount_point, path) for _, h, path in job.groups.members]
        try:
            inspect_existing(members).raise_unless_free()
        except CorralError as exc:
            yield Finding("error", exc.message, "linux.cgroupsPath", exc.hint, kind=exc.kind)
    absent = ""
    for number, hierarchy, path in job.groups.members:
        needed = number in limited or job.groups.is_explicit or not job.host.is_rootless
        directory = hierarchy.directory(path)
        above = directory
        while not os.path.isdir(above) and above != "/":
            above = os.path.dirname(above)
        if os.access(above, os.W_OK):
            continue
        if not needed:
            absent = absent or f"{directory}: {above} is not writable for this caller"
        else:
            yield Finding(
                "error",
                f"make the cgroup {directory}: {above} is not writable for this caller",
                "linux.cgroupsPath",
                "have it delegated, or drop the limits and cgroupsPath",
                kind="permission-denied",
            )
    if absent:
        message = f"the container gets no cgroup of its own: {absent}"
        yield Finding("warning", message, "", "then it cannot be limited, paused or counted")


_CHECKS = (
    _check_rootfs,
    _check_mounts,
    _check_namespaces,
    _check_hooks,
    _check_program,
    _check_limits_of_process,
    _check_mappings,
    _check_devices,
    _check_net_devices,
    _check_sysctls,
    _check_seccomp_agent,
    _check_cgroups,
)
