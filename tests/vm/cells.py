"""What a cell is, how it is named, and which tests run in which one. Data only.

A name is ``HIERARCHY-KERNEL[-systemd][-rootless][-userns]``: ``v2-6.1``, ``v1-5.10-systemd-rootless``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

__all__ = ["HIERARCHIES", "Cell", "Selection", "all_selections", "default_selections", "parse_cell"]

ROOT = Path(__file__).resolve().parents[2]

# Command line of the kernel for each way in which systemd mounts the hierarchies.
HIERARCHIES = {
    "v2": "systemd.unified_cgroup_hierarchy=1",
    # Controllers on v1, systemd's own tracking on an empty v2 hierarchy.
    "hybrid": "systemd.unified_cgroup_hierarchy=0",
    "v1": "systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1",
}
SERIES = ("6.1", "5.10", "6.12")
OTHERS = SERIES[1:]


@dataclass(frozen=True, slots=True)
class Cell:
    """A machine, and what the tests in it are told through the environment."""

    hierarchy: str
    kernel: str
    driver: str = "cgroupfs"
    is_rootless: bool = False
    has_userns: bool = False

    @property
    def name(self) -> str:
        """The cell's name, which ``parse_cell`` reads."""
        words = [self.hierarchy, self.kernel]
        words += ["systemd"] if self.driver == "systemd" else []
        words += ["rootless"] if self.is_rootless else []
        words += ["userns"] if self.has_userns else []
        return "-".join(words)

    @property
    def machine(self) -> tuple[str, str]:
        """Cells with the same machine can share one boot."""
        return self.hierarchy, self.kernel

    @property
    def environment(self) -> dict[str, str]:
        """What tests inside may read."""
        return {
            "CORRAL_VM_CELL": self.name,
            "CORRAL_VM_HIERARCHY": self.hierarchy,
            "CORRAL_VM_KERNEL": self.kernel,
            "CORRAL_VM_DRIVER": self.driver,
            "CORRAL_VM_USER": "rootless" if self.is_rootless else "root",
            "CORRAL_VM_USERNS": "1" if self.has_userns else "0",
        }

    @property
    def impossible(self) -> str:
        """A pattern of the reasons for which a test may be skipped inside: the hierarchy has no such thing."""
        version = "v2" if self.hierarchy == "v2" else "v1"
        return rf"cgroup {version} (has no|cannot) "

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of the markers ``requires`` and ``host`` that this cell lacks by what it is.

        A test that asks for one of them is not selected here. Anything else that is lacking makes a skip, and inside
        a skip is a failure.
        """
        missing = ["kvm", "selinux", "resctrl", "cpu-rt"]
        if self.hierarchy == "v2":
            missing += ["cgroup-v1", "net_cls", "net_prio", "blkio", "memory-swap", "cpu-burst"]
        else:
            missing += ["cgroup-v2-only"]
        if self.hierarchy == "v1":
            missing += ["cgroup-v2"]
        if self.is_rootless:
            missing += ["root", "net-admin", "oom-score-lowering"]
        return tuple(missing)


@dataclass(frozen=True, slots=True)
class Selection:
    """Arguments of pytest to run in a cell, and how long that may take at most."""

    cell: Cell
    arguments: tuple[str, ...]
    limit_s: float = 600
    # Parallel pytest processes; each machine has two processors.
    shards: int = 1


def parse_cell(name: str) -> Cell:
    """Read a cell's name.

    Raises:
        ValueError: a word that is not known, or none for the hierarchy or kernel.
    """
    hierarchy, _, rest = name.partition("-")
    kernel, *options = rest.split("-")
    unknown = [word for word in options if word not in ("cgroupfs", "systemd", "rootless", "userns", "root")]
    if hierarchy not in HIERARCHIES or kernel not in SERIES or unknown:
        raise ValueError(
            f"cell {name!r}: not like {{{'|'.join(HIERARCHIES)}}}-{{{'|'.join(SERIES)}}}[-systemd][-rootless][-userns]"
        )
    driver = "systemd" if "systemd" in options else "cgroupfs"
    return Cell(hierarchy, kernel, driver, "rootless" in options, "userns" in options)


# The machine itself is what its name says.
ENVIRONMENT = ("tests/vm/guest/test_environment.py",)
# What must hold in every cell: the tests that are made for machines, and those named after statements about cgroups.
_STATEMENT_FOLDERS = ("tests/vm/guest", "tests/behaviours", "tests/root/cgroup", "tests/userns")
_STATEMENTS = "guest or test_s0_ or test_s1_ or test_s2_"
_SUITES = ("tests/vm/guest", "tests/behaviours", "tests/root/cgroup", "tests/userns", "tests/conformance")


def _present(folders: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in folders if (ROOT / name).is_dir())


def _statements(name: str) -> Selection:
    return Selection(parse_cell(name), (*_present(_STATEMENT_FOLDERS), "-k", _STATEMENTS), shards=2)


def _everything(name: str, limit_s: float) -> Selection:
    return Selection(parse_cell(name), _present(_SUITES), limit_s, shards=2)


def default_selections() -> list[Selection]:
    """What `make test-vm` runs: each kind of machine once, the suites as a whole on the first."""
    return [
        _everything("v2-6.1", 900),
        *map(_statements, ("v2-6.1-systemd", "v2-6.1-systemd-rootless", "v1-6.1", "v1-6.1-systemd")),
        *map(_statements, ("v2-5.10-systemd", "v2-6.12-systemd")),
    ]


def all_selections() -> list[Selection]:
    """Every cell (ALL=1), and all suites once per machine; cells of one machine follow each other and share a boot."""
    found = []
    for hierarchy, kernel in (
        ("v2", "6.1"),
        ("v1", "6.1"),
        ("hybrid", "6.1"),
        *itertools.product(("v2", "v1"), OTHERS),
    ):
        for driver, is_rootless, has_userns in itertools.product(("cgroupfs", "systemd"), (False, True), (False, True)):
            cell = Cell(hierarchy, kernel, driver, is_rootless, has_userns)
            is_first = driver == "cgroupfs" and not is_rootless and not has_userns
            found.append(_everything(cell.name, 2400) if is_first else _statements(cell.name))
    return found
