"""Writable control groups: what a container needs to manage groups of its own, as a plan and done.

One switch, all of it: a leaf for the container's own processes, controllers enabled above it, bounds on how many
groups it makes, ownership in a user namespace. Limits of the container itself stay the host's: their files are not
handed over, and ``nsdelegate`` keeps even root inside off them. Only on pure v2.

Source: cgroup-v2.rst "Delegation", "No Internal Process Constraint", "Mounting"; cgroups(7) "Delegation".
"""

from __future__ import annotations

import os

from corral.cgroup.handles import from_os_error, open_beneath, write_at
from corral.errors import FailedPrecondition, InvalidArgument, Unsupported
from corral.linux.mountinfo import parse_mountinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.cgroup.layout import Layout

__all__ = [
    "DEFAULT_CONTROLLERS",
    "DEFAULT_MAX_DEPTH",
    "DEFAULT_MAX_DESCENDANTS",
    "LEAF",
    "Delegation",
    "check_delegation",
    "enable_delegation",
    "has_nsdelegate",
    "parse_delegate_files",
    "plan_delegation",
    "prepare_delegation",
    "read_delegate_files",
]

# Where init and exec'd processes go, so that the container's top group may have controllers for its children.
LEAF = "init"
DEFAULT_CONTROLLERS = ("cpu", "cpuset", "memory", "pids", "io")
DEFAULT_MAX_DESCENDANTS = 1000
DEFAULT_MAX_DEPTH = 32

# For kernels without /sys/kernel/cgroup/delegate (before 4.15, commit 01ee6cfb1483).
_ALWAYS = ("cgroup.procs", "cgroup.threads", "cgroup.subtree_control")


class Delegation:
    """What is to be done at the container's group ``directory`` (``path`` below ``mount_point``).

    ``leaf`` is the directory for the processes; ``before_attach`` are (file, value) written to the top group before
    anything runs in it; ``after_attach`` those that need the processes to be in the leaf already; ``chown_files`` the
    files handed over in both groups, with the directories, to ``owner`` (uid, gid as the host counts; None: nobody).

    Order, for who executes it: make the group and the leaf, ``before_attach``, ownership; the stub enters the *top*
    group and unshares its cgroup namespace there, or it would take the leaf for its root; then it moves to the leaf;
    then ``after_attach``, for a group with processes gives no controllers to its children.
    """

    __slots__ = ("after_attach", "before_attach", "chown_files", "controllers", "mount_point", "owner", "path")

    def __init__(self, mount_point: str, path: str, *, controllers: tuple[str, ...]) -> None:
        self.mount_point = mount_point
        self.path = path
        self.controllers = controllers
        self.before_attach: tuple[tuple[str, str], ...] = ()
        self.after_attach: tuple[tuple[str, str], ...] = ()
        self.chown_files: tuple[str, ...] = ()
        self.owner: tuple[int, int] | None = None

    @property
    def directory(self) -> str:
        return self.mount_point.rstrip("/") + self.path

    @property
    def leaf(self) -> str:
        return f"{self.directory}/{LEAF}"


def check_delegation(layout: Layout, mountinfo_text: str, *, allow_without_nsdelegate: bool = False) -> None:
    """Whether this host can delegate at all; for the time when a configuration is loaded, not when a container starts.

    Raises: Unsupported on v1 and hybrid hosts; FailedPrecondition for a mount without ``nsdelegate``.
    """
    unified = layout.unified
    if layout.mode != "v2" or unified is None:
        raise Unsupported(
            f"allow writable cgroups: this host's layout is {layout.mode}, and only cgroup v2 can delegate safely",
            hint="boot with systemd.unified_cgroup_hierarchy=1, or switch writable cgroups off",
            phase="cgroup",
        )
    if not allow_without_nsdelegate and not has_nsdelegate(mountinfo_text):
        raise FailedPrecondition(
            f"allow writable cgroups: {unified.mount_point!r} is mounted without 'nsdelegate', so that root in a "
            "container could change the container's own limits",
            hint="mount -o remount,nsdelegate on the host, or allow_without_nsdelegate for containers that you trust",
            path=unified.mount_point,
            phase="cgroup",
        )


def has_nsdelegate(mountinfo_text: str) -> bool:
    """A cgroup2 mount has ``nsdelegate``: an option of the hierarchy, which each of its mounts shows."""
    return any(
        mount.fstype == "cgroup2" and "nsdelegate" in mount.super_options
        for mount in parse_mountinfo("\n".join(line for line in mountinfo_text.splitlines() if " - cgroup2 " in line))
    )


def parse_delegate_files(text: str) -> tuple[str, ...]:
    """The files that the kernel means to be handed over, from the text of /sys/kernel/cgroup/delegate.

    The three that every kernel since 4.14 has are among them whatever the text says.
    """
    names = [line.strip() for line in text.splitlines()]
    plain = [name for name in names if name and "/" not in name and not name.startswith(".")]
    return (*_ALWAYS, *(name for name in plain if name not in _ALWAYS))


def read_delegate_files(path: str = "/sys/kernel/cgroup/delegate") -> tuple[str, ...]:
    """``parse_delegate_files`` of this kernel's list; the three that are always there if it has none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return parse_delegate_files(file.read())
    except OSError:
        return _ALWAYS


def plan_delegation(
    layout: Layout,
    path: str,
    *,
    available: Sequence[str],
    controllers: Sequence[str] | None = None,
    owner: tuple[int, int] | None = None,
    files: Sequence[str] = _ALWAYS,
    max_descendants: int = DEFAULT_MAX_DESCENDANTS,
    max_depth: int = DEFAULT_MAX_DEPTH,
) -> Delegation:
    """The plan for the container's group ``path`` (absolute within the v2 mount). Pure.

    ``available`` is the group's cgroup.controllers. ``controllers`` None: the usual ones, as far as available.
    ``owner`` is container root as the host numbers it, None without a user namespace. Bounds are those of
    cgroup.max.descendants and cgroup.max.depth, the leaf counted.
    Raises: Unsupported when a controller asked for by name is not available; InvalidArgument for impossible bounds.
    """
    unified = layout.unified
    if unified is None:
        raise Unsupported(f"delegate group {path!r}: this host has no cgroup v2 hierarchy", phase="cgroup")
    if max_descendants < 1 or max_depth < 1:
        raise InvalidArgument(
            f"delegate group {path!r}: at most {max_descendants} groups, {max_depth} deep, leave no room for the "
            "container's own",
            hint="give at least 1 for each",
            phase="cgroup",
        )
    wanted = tuple(DEFAULT_CONTROLLERS if controllers is None else dict.fromkeys(controllers))
    missing = [name for name in wanted if name not in available]
    if missing and controllers is not None:
        raise Unsupported(
            f"delegate group {path!r}: controller {missing[0]!r} is not available in it",
            hint=f"it has: {' '.join(available) or 'none'}",
            phase="cgroup",
        )
    plan = Delegation(unified.mount_point, path, controllers=tuple(name for name in wanted if name in available))
    plan.before_attach = (
        ("cgroup.max.descendants", str(max_descendants)),
        ("cgroup.max.depth", str(max_depth)),
    )
    # One a write: the kernel takes all of a write or nothing.
    plan.after_attach = tuple(("cgroup.subtree_control", f"+{name}") for name in plan.controllers)
    plan.owner = owner
    plan.chown_files = tuple(files) if owner is not None else ()
    return plan


def prepare_delegation(plan: Delegation) -> None:
    """Everything that comes before the processes do: leaf, bounds, ownership. The group exists. Idempotent.

    A file of ``chown_files`` that this kernel lacks is passed over.
    Raises: PermissionDenied, NotFound, FailedPrecondition or ResourceExhausted with the path.
    """
    top = _open(plan, plan.path)
    try:
        try:
            os.mkdir(LEAF, 0o755, dir_fd=top)
        except FileExistsError:
            pass
        except OSError as exc:
            raise from_os_error("make group", plan.leaf, exc) from exc
        _write(plan, top, plan.before_attach)
        if plan.owner is not None:
            _hand_over(plan, top, plan.directory)
            leaf = _open(plan, f"{plan.path}/{LEAF}")
            try:
                _hand_over(plan, leaf, plan.leaf)
            finally:
                os.close(leaf)
    finally:
        os.close(top)


def enable_delegation(plan: Delegation) -> None:
    """Give the controllers to the container's children; its processes are in the leaf by now. Idempotent.

    Raises: as ``prepare_delegation``; FailedPrecondition (EBUSY) while a process is still in the top group.
    """
    top = _open(plan, plan.path)
    try:
        _write(plan, top, plan.after_attach)
    finally:
        os.close(top)


def _open(plan: Delegation, path: str) -> int:
    try:
        return open_beneath(plan.mount_point, path)
    except OSError as exc:
        raise from_os_error("open group", plan.mount_point.rstrip("/") + path, exc) from exc


def _write(plan: Delegation, fd: int, writes: Sequence[tuple[str, str]]) -> None:
    for file, value in writes:
        try:
            write_at(fd, file, value)
        except OSError as exc:
            raise from_os_error(f"write {value!r} to", f"{plan.directory}/{file}", exc) from exc


def _hand_over(plan: Delegation, fd: int, directory: str) -> None:
    uid, gid = plan.owner if plan.owner is not None else (-1, -1)
    for name in (".", *plan.chown_files):
        try:
            os.chown(name, uid, gid, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise from_os_error("give away", f"{directory}/{name}".removesuffix("/."), exc) from exc
