"""Facts about this host and this caller that a plan depends on: read once, then compilation is pure."""

from __future__ import annotations

import posix

from corral.cgroup.layout import Layout, parse_layout, read_controllers
from corral.linux import paths
from corral.linux.caps import last_cap
from corral.linux.idmap import is_initial_map, read_map
from corral.linux.procfs import read_capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.linux.procfs import Capabilities

# Layouts by the texts that they were read from: those of an engine and of its monitors alternate.
_layouts: dict[tuple[str, str], Layout] = {}
_LAYOUTS_MAX = 8

_HELPER_DIRECTORIES = ("/usr/bin", "/usr/sbin", "/bin", "/usr/local/bin")


class Host:
    """What compilation may know of the world outside config.json.

    ``layout``: the cgroup hierarchies. ``permitted``, ``effective``: the caller's capability masks. ``in_userns``: the
    caller itself lives in a user namespace. ``lsms``: names of the active security modules. ``setgroups_denied``: the
    caller's own namespace forbids setgroups. ``newuidmap``, ``newgidmap``: paths of the set-uid helpers or "".
    ``has_kcore``: the kernel has /proc/kcore.
    """

    __slots__ = (
        "cap_last",
        "effective",
        "egid",
        "euid",
        "has_kcore",
        "in_userns",
        "layout",
        "lsms",
        "newgidmap",
        "newuidmap",
        "permitted",
        "resctrl",
        "setgroups_denied",
    )

    def __init__(
        self,
        layout: Layout,
        *,
        euid: int = 0,
        egid: int = 0,
        permitted: int = (1 << 41) - 1,
        effective: int = (1 << 41) - 1,
        cap_last: int = 40,
        in_userns: bool = False,
        setgroups_denied: bool = False,
        lsms: tuple[str, ...] = (),
        newuidmap: str = "",
        newgidmap: str = "",
        resctrl: str = "",
        has_kcore: bool = True,
    ) -> None:
        self.layout = layout
        self.euid = euid
        self.egid = egid
        self.permitted = permitted
        self.effective = effective
        self.cap_last = cap_last
        self.in_userns = in_userns
        self.setgroups_denied = setgroups_denied
        self.lsms = lsms
        self.newuidmap = newuidmap
        self.newgidmap = newgidmap
        self.resctrl = resctrl
        self.has_kcore = has_kcore

    def has(self, capability: int) -> bool:
        """Whether the caller holds the capability (by number) effectively."""
        return bool(self.effective >> capability & 1)

    @property
    def is_rootless(self) -> bool:
        """The caller is not root of the host: an unprivileged user, or root of some user namespace."""
        return self.euid != 0 or self.in_userns


def read_host(pid: int | str = "self") -> Host:
    """Read the facts for the process ``pid``, which shares our user and namespaces. Raises: OSError without /proc."""
    capabilities: Capabilities = read_capabilities(pid)
    return Host(
        read_layout_of(pid),
        euid=posix.geteuid(),
        egid=posix.getegid(),
        permitted=capabilities.permitted,
        effective=capabilities.effective,
        cap_last=last_cap(),
        in_userns=not is_initial_map(read_map("uid")),
        setgroups_denied=_read_word("/proc/self/setgroups") == "deny",
        lsms=_active_lsms(),
        newuidmap=_find_helper("newuidmap"),
        newgidmap=_find_helper("newgidmap"),
        resctrl="/sys/fs/resctrl" if paths.exists("/sys/fs/resctrl/schemata") else "",
        has_kcore=paths.exists("/proc/kcore"),
    )


def read_layout_of(pid: int | str) -> Layout:
    """The cgroup hierarchies with the groups of ``pid`` in them. A host without any has the mode ``none``."""
    try:
        with open(f"/proc/{pid}/mountinfo", "rb") as file:
            mountinfo = file.read().decode("utf-8", "surrogateescape")
        with open(f"/proc/{pid}/cgroup", "rb") as file:
            groups = file.read().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return Layout(())
    layout = _layouts.get((mountinfo, groups))
    if layout is not None:
        # Who plans again and again sees the same mounts; the controllers of v2 come and go without a trace.
        unified = layout.unified
        if unified is None or unified.controllers == tuple(read_controllers(unified.mount_point).split()):
            return layout
    if len(_layouts) >= _LAYOUTS_MAX:
        _layouts.clear()
    layout = _layouts[mountinfo, groups] = parse_layout(mountinfo, groups, read_controllers)
    return layout


def _active_lsms() -> tuple[str, ...]:
    found = []
    if _read_word("/sys/module/apparmor/parameters/enabled") == "Y":
        found.append("apparmor")
    # selinuxfs is mounted exactly where SELinux is on.
    if paths.exists("/sys/fs/selinux/enforce"):
        found.append("selinux")
    return tuple(found)


def _read_word(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(64).decode("ascii", "replace").strip()
    except OSError:
        return ""


def _find_helper(name: str) -> str:
    for directory in _HELPER_DIRECTORIES:
        path = f"{directory}/{name}"
        if posix.access(path, posix.X_OK):
            return path
    return ""
