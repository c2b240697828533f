"""``doctor``: what this host and this caller offer to containers, what is lacking and how to mend it. Changes nothing.

Each check is data: a name, the function that looks, and the privilege with which it sees everything. Where that leaves
no trace a check tries the thing itself; none looks at the kernel's version.
"""

from __future__ import annotations

import os
import sys

from corral.cgroup.layout import parse_layout
from corral.cgroup.systemd_bus import is_systemd_running, system_manager, user_manager
from corral.errors import CorralError
from corral.linux.caps import CAPABILITIES
from corral.linux.idmap import owner_names, parse_subids
from corral.linux.mountinfo import mount_at, parse_mountinfo
from corral.linux.seccomp_profile import FLAG_NEW_LISTENER
from corral.linux.syscalls import is_seccomp_flag_supported, mount_setattr_refusal, openat2
from corral.oci.json import dumps
from corral.runtime.host import read_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from corral.cgroup.layout import Hierarchy, Layout
    from corral.runtime.host import Host
    from corral.runtime.options import CommandLine

OK, LIMITED, MISSING = "ok", "limited", "missing"
DEADLINE_S = 3.0
# What limits of containers usually need; the rest of what a kernel has is rare.
USUAL = ("cpu", "cpuset", "io", "memory", "pids")
UNIT_SNIPPET = "[Service]\nDelegate={}"


class Answer:
    """What a check found: ``status``, in words, why it is so, and how to mend it ("" where nothing is to mend)."""

    __slots__ = ("mend", "status", "text", "why")

    def __init__(self, status: str, text: str, why: str = "", mend: str = "") -> None:
        self.status = status
        self.text = text
        self.why = why
        self.mend = mend


class Check:
    """``is_vital``: where this is missing no container can be made at all. ``privilege`` is only told to the reader."""

    __slots__ = ("is_vital", "look", "name", "privilege")

    def __init__(
        self, name: str, look: Callable[[Sight], Answer], privilege: str = "none", *, is_vital: bool = False
    ) -> None:
        self.name = name
        self.look = look
        self.privilege = privilege
        self.is_vital = is_vital


class Sight:
    """What the checks look at. ``root`` stands before every path that is read, for tests."""

    __slots__ = ("environ", "host", "root", "uid")

    def __init__(self, host: Host, environ: Mapping[str, str], *, uid: int, root: str = "") -> None:
        self.host = host
        self.environ = environ
        self.uid = uid
        self.root = root

    def text(self, path: str) -> str:
        """A file's text without its last newline; "" if it cannot be read."""
        try:
            with open(self.root + path, "rb") as file:
                return file.read().decode("utf-8", "surrogateescape").rstrip("\n")
        except OSError:
            return ""

    def exists(self, path: str) -> bool:
        return os.path.exists(self.root + path)

    @property
    def layout(self) -> Layout:
        """The hierarchies, read below ``root``."""
        return parse_layout(
            self.text("/proc/self/mountinfo"),
            self.text("/proc/self/cgroup"),
            lambda directory: self.text(f"{directory}/cgroup.controllers"),
        )


def run(line: CommandLine) -> int:
    """Print every check. Exit code 1 if something is missing that every container needs."""
    sight = Sight(read_host(), dict(os.environ), uid=os.geteuid())
    answers = examine(sight)
    is_fine = not any(check.is_vital and answer.status == MISSING for check, answer in answers)
    sys.stdout.write(as_json(answers, is_fine) if line.flag("json") else render(answers))
    return 0 if is_fine else 1


def examine(sight: Sight, checks: Sequence[Check] | None = None) -> list[tuple[Check, Answer]]:
    """Ask every check, in order. One that meets an error of the host says so, and the others go on."""
    answers = []
    for check in CHECKS if checks is None else checks:
        try:
            answer = check.look(sight)
        except (CorralError, OSError, ValueError) as exc:
            answer = Answer(LIMITED, "cannot be told from here", str(exc).lower())
        answers.append((check, answer))
    return answers


def as_json(answers: Sequence[tuple[Check, Answer]], is_fine: bool) -> str:
    """One document: ``ok`` and a list of checks."""
    rows = [
        {
            "name": check.name,
            "status": answer.status,
            "text": answer.text,
            "why": answer.why,
            "mend": answer.mend,
            "privilege": check.privilege,
            "vital": check.is_vital,
        }
        for check, answer in answers
    ]
    return dumps({"ok": is_fine, "checks": rows}, indent=2) + "\n"


def render(answers: Sequence[tuple[Check, Answer]]) -> str:
    """A line for each check; below it, where it is not ok, why and what mends it."""
    width = max(len(check.name) for check, _ in answers)
    lines = []
    for check, answer in answers:
        lines.append(f"{answer.status:8}{check.name.ljust(width)}  {answer.text}")
        for word, told in (("why", answer.why), ("mend", answer.mend)):
            if told:
                rest = told.replace("\n", "\n" + " " * (width + 16))
                lines.append(f"{'':8}{'':{width}}  {word + ':':6}{rest}")
    counts = [sum(answer.status == status for _, answer in answers) for status in (OK, LIMITED, MISSING)]
    lines.append(f"{counts[0]} ok, {counts[1]} limited, {counts[2]} missing")
    return "\n".join(lines) + "\n"


# Control groups.


def _layout(sight: Sight) -> Answer:
    layout = sight.layout
    if layout.mode == "none":
        return Answer(
            LIMITED,
            "no cgroup hierarchy is mounted",
            "containers get no limits and cannot be paused",
            "mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup",
        )
    text = layout.mode + ": " + "; ".join(f"{h.label} at {h.mount_point}" for h in layout.hierarchies)
    if layout.mode == "v2":
        return Answer(OK, text)
    return Answer(
        OK,
        text,
        "writable cgroups and unprivileged limits need pure v2",
        "boot with systemd.unified_cgroup_hierarchy=1",
    )


def _controllers(sight: Sight) -> Answer:
    layout = sight.layout
    found = {name for hierarchy in layout.hierarchies for name in hierarchy.controllers}
    # v1's name of the same thing.
    lacking = [name for name in USUAL if name not in found and not (name == "io" and "blkio" in found)]
    text = " ".join(sorted(name for name in found if not name.startswith("name="))) or "none"
    if not lacking:
        return Answer(OK, text)
    return Answer(
        LIMITED,
        f"{text}; not there: {' '.join(lacking)}",
        "the kernel lacks them, switched them off, or does not give them to the root seen from here",
        "look at /proc/cgroups, and at cgroup_disable= and cgroup_enable= on the kernel's command line",
    )


def _delegation(sight: Sight) -> Answer:
    layout = sight.layout
    read_only = [h.mount_point for h in layout.hierarchies if h.is_read_only]
    if layout.hierarchies and len(read_only) == len(layout.hierarchies):
        return Answer(
            MISSING,
            f"read-only: {' '.join(read_only)}",
            "containers without limits go without a cgroup, others are refused",
            "mount it read-write, or use a runtime of the host",
        )
    if not sight.host.is_rootless:
        return Answer(OK, "root may make groups in every hierarchy" if layout.hierarchies else "nothing to delegate")
    unified = layout.unified
    if unified is None or layout.mode != "v2":
        return Answer(
            LIMITED,
            f"nothing can be delegated to a user on a {layout.mode} host",
            "v1 controllers cannot be handed over safely",
            "boot with systemd.unified_cgroup_hierarchy=1",
        )
    return _delegated_to_user(sight, unified)


def _delegated_to_user(sight: Sight, unified: Hierarchy) -> Answer:
    own = unified.visible_own_path
    if own is None:
        return Answer(LIMITED, "our own group is not below the mount", "a bind of another part of the tree", "")
    directory = unified.directory(own)
    is_ours = _is_ours(sight, unified) and os.access(f"{sight.root}{directory}/cgroup.procs", os.W_OK)
    here = sight.text(f"{directory}/cgroup.controllers").split()
    absent = [name for name in USUAL if name in unified.controllers and name not in here]
    snippet = UNIT_SNIPPET.format(" ".join(name for name in USUAL if name in unified.controllers))
    mend = f"in a drop-in of user@{sight.uid}.service, or of the unit that starts us:\n{snippet}"
    if not is_ours:
        return Answer(MISSING, f"{directory} belongs to somebody else", "groups cannot be made below it", mend)
    if not absent:
        return Answer(OK, f"{directory} is ours, with {' '.join(here)}")
    stops = "; ".join(f"{name} stops at {_stop(sight, unified, own, name)}" for name in absent)
    return Answer(LIMITED, f"{directory} is ours, with {' '.join(here) or 'no controllers'}", stops, mend)


def _stop(sight: Sight, unified: Hierarchy, path: str, name: str) -> str:
    """The group above ``path`` that has the controller and does not give it to its children."""
    group = ""
    for part in ["", *path.strip("/").split("/")]:
        group = f"{group}/{part}" if part else group
        directory = unified.directory(group or "/")
        if name not in sight.text(f"{directory}/cgroup.subtree_control").split():
            return directory
    return unified.directory(path)


def _nsdelegate(sight: Sight) -> Answer:
    unified = sight.layout.unified
    if unified is None or sight.layout.mode != "v2":
        return Answer(LIMITED, "writable cgroups are not possible", "they need pure cgroup v2")
    mount = mount_at(parse_mountinfo(sight.text("/proc/self/mountinfo")), unified.mount_point)
    if mount is not None and "nsdelegate" in mount.super_options:
        return Answer(OK, f"{unified.mount_point} is mounted with nsdelegate")
    return Answer(
        LIMITED,
        f"{unified.mount_point} is mounted without nsdelegate",
        "writable cgroups are allowed in containers with a user namespace only",
        f"mount -o remount,nsdelegate {unified.mount_point}",
    )


def _cgroup_kill(sight: Sight) -> Answer:
    unified = sight.layout.unified
    if unified is None:
        return Answer(LIMITED, "no cgroup v2 hierarchy", "processes are frozen and killed one by one")
    own = unified.visible_own_path or "/"
    top = unified.directory("/")
    # The root group has no such file.
    candidates = [unified.directory(own)] + [f"{top}/{name}" for name in _names(sight, top)]
    groups = [path for path in candidates if sight.exists(f"{path}/cgroup.events")]
    if any(sight.exists(f"{path}/cgroup.kill") for path in groups):
        return Answer(OK, "cgroup.kill")
    if not groups:
        return Answer(LIMITED, "cannot be told: no group but the root is visible", "it is tried at each kill")
    return Answer(LIMITED, "no cgroup.kill", "kernels before 5.14 lack it: freeze, signal all, thaw instead")


def _names(sight: Sight, directory: str) -> list[str]:
    try:
        return sorted(os.listdir(sight.root + directory))
    except OSError:
        return []


def _cgroupfs(sight: Sight) -> Answer:
    layout = sight.layout
    usable = [h.label for h in layout.hierarchies if not h.is_read_only and _is_ours(sight, h)]
    if usable:
        return Answer(OK, f"groups can be made in: {' '.join(usable)}")
    return Answer(
        LIMITED,
        "groups can be made in no hierarchy",
        "containers go without a cgroup, unless they ask for limits",
        "see delegation",
    )


def _is_ours(sight: Sight, hierarchy: Hierarchy) -> bool:
    own = hierarchy.visible_own_path
    return os.access(sight.root + hierarchy.directory(own if own is not None else "/"), os.W_OK)


def _systemd_system(sight: Sight) -> Answer:
    if not is_systemd_running(sight.root):
        return Answer(LIMITED, "systemd does not run this host", "--systemd-cgroup is refused; cgroupfs is the driver")
    with system_manager(sight.root) as manager:
        return Answer(OK, f"systemd {manager.version(deadline_s=DEADLINE_S)[1]} answers")


def _systemd_user(sight: Sight) -> Answer:
    if not is_systemd_running(sight.root):
        return Answer(LIMITED, "systemd does not run this host", "there is no manager of the user's")
    if not sight.host.is_rootless:
        return Answer(OK, "not needed: root uses the system's manager")
    with user_manager(sight.environ) as manager:
        return Answer(OK, f"systemd {manager.version(deadline_s=DEADLINE_S)[1]} answers")


# Ids, capabilities, mounts.


def _subids(kind: str) -> Callable[[Sight], Answer]:
    def look(sight: Sight) -> Answer:
        ranges = parse_subids(sight.text(f"/etc/sub{kind}"), owner_names(sight.uid))
        names = owner_names(sight.uid)
        if ranges:
            return Answer(OK, "; ".join(f"{start}-{start + count - 1}" for start, count in ranges))
        if not sight.host.is_rootless:
            return Answer(OK, f"/etc/sub{kind} has none for {names[-1]}; root needs none")
        return Answer(
            LIMITED,
            f"/etc/sub{kind} has no range for {names[-1]}",
            "only the caller's own id can be mapped",
            f"usermod --add-sub{kind}s 100000-165535 {names[-1]}",
        )

    return look


def _id_helpers(sight: Sight) -> Answer:
    absent = [name for name in ("newuidmap", "newgidmap") if not getattr(sight.host, name)]
    if not absent:
        return Answer(OK, f"{sight.host.newuidmap}, {sight.host.newgidmap}")
    status = LIMITED if sight.host.is_rootless else OK
    return Answer(status, f"no {' and no '.join(absent)}", "users get a single mapping", "apt-get install uidmap")


def _capabilities(sight: Sight) -> Answer:
    lacking = [name for number, name in enumerate(CAPABILITIES) if not sight.host.has(number)]
    lacking = [name for name in lacking if CAPABILITIES.index(name) <= sight.host.cap_last]
    if not lacking:
        return Answer(OK, "all")
    if sight.host.is_rootless:
        return Answer(OK, "those of a user namespace" if sight.host.in_userns else "none needed: a user namespace's do")
    if "CAP_SYS_ADMIN" in lacking:
        return Answer(MISSING, f"lacking: {' '.join(lacking)}", "namespaces and mounts need CAP_SYS_ADMIN", "grant it")
    why = "what needs them is refused or clamped"
    if "CAP_SYS_RESOURCE" in lacking:
        why = "oom_score_adj below the host's is clamped, higher hard rlimits are refused"
    return Answer(LIMITED, f"lacking: {' '.join(lacking)}", why, "grant them to whoever calls the runtime")


def _proc(sight: Sight) -> Answer:
    mount = mount_at(parse_mountinfo(sight.text("/proc/self/mountinfo")), "/proc")
    if mount is None or mount.fstype != "proc":
        return Answer(MISSING, "/proc is not mounted", "no runtime works without it", "mount -t proc proc /proc")
    if "ro" in mount.options:
        return Answer(
            MISSING, "/proc is read-only", "id maps and oom_score_adj cannot be written", "mount -o remount,rw /proc"
        )
    return Answer(OK, "mounted, writable")


def _lsms(sight: Sight) -> Answer:
    listed = sight.text("/sys/kernel/security/lsm")
    text = ", ".join(listed.split(",")) if listed else ", ".join(sight.host.lsms) or "none that labels processes"
    return Answer(OK, text, "" if listed else "securityfs is not mounted: only AppArmor and SELinux were looked for")


# The kernel, by trying.


def _openat2(sight: Sight) -> Answer:
    del sight
    try:
        os.close(openat2(-100, ".", os.O_PATH, 0, 0x08))
    except OSError as exc:
        return Answer(MISSING, "no openat2", (exc.strerror or "").lower(), "linux 5.6 has it; a filter may hide it")
    return Answer(OK, "openat2 resolves within a root")


def _pidfd(sight: Sight) -> Answer:
    from signal import pidfd_send_signal

    del sight
    try:
        fd = os.pidfd_open(os.getpid())
        try:
            pidfd_send_signal(fd, 0)
        finally:
            os.close(fd)
    except OSError as exc:
        return Answer(MISSING, "no pidfd", (exc.strerror or "").lower(), "linux 5.3 has it; a filter may hide it")
    return Answer(OK, "pidfd_open, pidfd_send_signal")


def _mount_setattr(sight: Sight) -> Answer:
    del sight
    number = mount_setattr_refusal()
    if number == 0:
        return Answer(OK, "mount_setattr; which file systems take an idmap shows when one is mounted")
    why = f"no idmapped mounts; recursive options go mount by mount ({os.strerror(number).lower()})"
    return Answer(LIMITED, "no mount_setattr", why, "linux 5.12 has it; a filter may hide it")


def _namespaces(sight: Sight) -> Answer:
    kinds = ("mnt", "pid", "net", "ipc", "uts", "user", "cgroup", "time")
    lacking = [kind for kind in kinds if not sight.exists(f"/proc/self/ns/{kind}")]
    if "mnt" in lacking:
        return Answer(MISSING, "no mount namespaces", "every container has one", "a kernel with CONFIG_NAMESPACES")
    if lacking:
        return Answer(
            LIMITED, f"not in this kernel: {' '.join(lacking)}", "configurations that ask for them are refused"
        )
    return Answer(OK, " ".join(kinds))


def _user_namespaces(sight: Sight) -> Answer:
    refusal = _try_unshare() if not sight.root else ""
    limits = {
        "/proc/sys/user/max_user_namespaces": ("0", "sysctl user.max_user_namespaces=15000"),
        "/proc/sys/kernel/unprivileged_userns_clone": ("0", "sysctl kernel.unprivileged_userns_clone=1"),
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
            "1",
            "an AppArmor profile with `userns,` for the runtime",
        ),
    }
    closed = [(path, mend) for path, (value, mend) in limits.items() if sight.text(path) == value]
    if not closed and not refusal:
        return Answer(OK, "allowed")
    why = "; ".join([f"{path} is {sight.text(path)}" for path, _ in closed] + ([refusal] if refusal else []))
    mend = "; ".join(mend for _, mend in closed) or "ask what confines this process (seccomp, an LSM)"
    if not sight.host.is_rootless and not refusal:
        return Answer(OK, "allowed to root; not to everybody", why, mend)
    return Answer(MISSING if sight.host.is_rootless else LIMITED, "refused", why, mend)


def _try_unshare() -> str:
    """Why a user namespace is refused to us, "" if it is not. A program makes one and ends: nothing of it stays."""
    from subprocess import DEVNULL, PIPE, TimeoutExpired
    from subprocess import run as run_program

    try:
        done = run_program(
            ["unshare", "--user", "true"], stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, timeout=DEADLINE_S
        )
    except FileNotFoundError:
        return ""
    except TimeoutExpired:
        return "unshare(1) did not come to an end"
    return "" if done.returncode == 0 else done.stderr.decode("utf-8", "replace").strip()


def _seccomp(sight: Sight) -> Answer:
    del sight
    if not is_seccomp_flag_supported(0):
        return Answer(LIMITED, "no seccomp filters", "configurations with linux.seccomp are refused")
    if not is_seccomp_flag_supported(FLAG_NEW_LISTENER):
        return Answer(LIMITED, "filters, without notifications", "SCMP_ACT_NOTIFY is refused", "linux 5.0")
    return Answer(OK, "filters and notifications")


def _memfd(sight: Sight) -> Answer:
    policy = sight.text("/proc/sys/vm/memfd_noexec")
    if policy == "2":
        return Answer(OK, "executable memfds are forbidden", "the runtime uses a sealed copy in a file instead")
    try:
        os.close(os.memfd_create("corral-doctor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
    except OSError as exc:
        return Answer(MISSING, "no memfds", (exc.strerror or "").lower(), "linux 3.17; a filter may hide it")
    return Answer(OK, f"allowed (vm.memfd_noexec={policy})" if policy else "allowed; this kernel has no policy")


CHECKS: tuple[Check, ...] = (
    Check("cgroup layout", _layout),
    Check("controllers", _controllers),
    Check("delegation", _delegation),
    Check("nsdelegate", _nsdelegate),
    Check("cgroup.kill", _cgroup_kill),
    Check("driver cgroupfs", _cgroupfs),
    Check("driver systemd, system", _systemd_system),
    Check("driver systemd, user", _systemd_user),
    Check("subuid", _subids("uid")),
    Check("subgid", _subids("gid")),
    Check("newuidmap, newgidmap", _id_helpers),
    Check("capabilities", _capabilities, is_vital=True),
    Check("/proc", _proc, is_vital=True),
    Check("security modules", _lsms, "root, if securityfs is not mounted for all"),
    Check("namespaces", _namespaces, is_vital=True),
    Check("user namespaces", _user_namespaces),
    Check("openat2", _openat2, is_vital=True),
    Check("pidfd", _pidfd, is_vital=True),
    Check("idmapped mounts", _mount_setattr),
    Check("seccomp", _seccomp),
    Check("memfd", _memfd, is_vital=True),
)
