"""What a cell is, how it is named, and which tests run in which one. Data only.

A name is ``HIERARCHY-KERNEL[-systemd][-rootless][-userns]``: ``v2-6.1``, ``v1-5.10-systemd-rootless``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

__all__ = ["HIERARCHIES", "Batch", "Cell", "Selection", "all_batches", "default_batches", "parse_cell"]

# Command line of the kernel for each way in which systemd mounts the hierarchies.
HIERARCHIES = {
    "v2": "systemd.unified_cgroup_hierarchy=1",
    # Controllers on v1, systemd's own tracking on an empty v2 hierarchy.
    "hybrid": "systemd.unified_cgroup_hierarchy=0",
    "v1": "systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1",
}
SERIES = ("6.1", "5.10", "6.12")


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
        """A pattern of the reasons for which a test may be skipped inside.

        The hierarchy has no such thing, or the test is about hosts that lack what this one has.
        """
        version = "v2" if self.hierarchy == "v2" else "v1"
        no_v2 = "|this host has no cgroup v2 hierarchy" if self.hierarchy == "v1" else ""
        return rf"cgroup {version} (has no|cannot) |host: has {no_v2}"

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
        if self.kernel == "5.10":
            missing += ["idmap"]
        if self.is_rootless:
            missing += ["root", "net-admin", "oom-score-lowering"]
        return tuple(missing)


@dataclass(frozen=True, slots=True)
class Selection:
    """Arguments of pytest to run in a cell, and how long that may take at most."""

    cell: Cell
    arguments: tuple[str, ...]
    # Against what never ends, on a host that is busy with other things; a test that hangs is noticed sooner.
    limit_s: float = 3600
    # Between two messages: longer than the longest time limit of a test inside.
    silence_s: float = 400
    # Each part is a pytest process of its own, which runs every ``of``-th test; others run in other machines.
    parts: tuple[int, ...] = (0,)
    of: int = 1
    # What the tests are told beside what the cell tells them.
    more_environment: tuple[tuple[str, str], ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """All that tests inside may read."""
        return {**self.cell.environment, **dict(self.more_environment)}

    @property
    def name(self) -> str:
        """The cell's name, and which parts these are if they are not all."""
        missing = len(self.parts) < self.of
        return self.cell.name + (f"+{','.join(str(part + 1) for part in self.parts)}of{self.of}" if missing else "")


# Selections that follow each other on one machine, booted once.
Batch = tuple[Selection, ...]


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
_CELL_FOLDERS = ("tests/vm/guest", "tests/behaviours")
# What neither driver nor user changes.
_MACHINE_FOLDERS = ("tests/root/cgroup", "tests/userns")
# Of the engine: who ran out of memory, by either driver; where all are; sizes on file systems that can bound them.
_OOM = ("tests/sweep/test_engine_oom.py",)
_PLACES = ("tests/root/engine/test_statements.py",)
_QUOTAS = ("tests/root/engine/test_quota.py", "tests/root/linux/test_quota.py")
_STATEMENTS = "guest or test_s0_ or test_s1_ or test_s2_ or test_s4_7 or test_quota.py"
# Places without privilege that are the same whatever the host's groups are; the host itself has them all.
_ELSEWHERE = ("[ranges]", "[root-in-userns]", "[disabled]")
# Of each scene: fourteen rounds in a cell by default, 56 with ALL=1 and on the host, 1,001 in `make sweep`.
_FEW_ROUNDS = (("CORRAL_OOM_ROUNDS", "2"),)
# A user of its own cannot be had twice: a rootless container has a user namespace anyhow.
_KINDS = ("", "-userns", "-rootless", "-systemd", "-systemd-userns", "-systemd-rootless")
# A bus that stands in for systemd's, and the generator of a page, which are the same everywhere.
_SAME_EVERYWHERE = ("tests/behaviours/test_dbus_faults.py", "tests/behaviours/test_table.py")
# Layouts of groups of their own: a real systemd is what counts.
_LAYOUTS = ("tests/behaviours/test_engine_layout.py", "tests/behaviours/test_direct_mode.py")
# The library's driver alone, whatever the runtime's containers are made with.
_LIBRARY = ("tests/vm/guest/test_systemd_driver.py",)
# The engine's containers as units; the runtime's part of it is shown by the layouts.
_ENGINE = ("tests/vm/guest/test_engine_systemd.py",)
# One planner for all cases, not an interpreter for each call. The suite runs cold on the host and with ALL=1, the
# statements in the cells without user namespaces.
_RESIDENT = "--resident"
# Programs in Go take minutes under emulation.
_CALLERS = ("tests/behaviours/test_failures.py", "tests/behaviours/test_s1_14_podman.py")


def _statements(name: str) -> Selection:
    """The tests named after statements, without what this machine or another cell shows as well."""
    cell = parse_cell(name)
    is_root = not cell.is_rootless and not cell.has_userns
    is_first = is_root and cell.driver == "systemd" and cell.kernel == "6.1"
    left_out = [*_SAME_EVERYWHERE]
    left_out += () if cell.driver == "systemd" and not cell.has_userns else _LIBRARY
    left_out += () if is_first else (*_LAYOUTS, *_ENGINE)
    left_out += () if is_first and cell.hierarchy == "v2" else _CALLERS
    more: tuple[str, ...] = ()
    if is_root and cell.driver == "cgroupfs":
        more = (*_MACHINE_FOLDERS, *_QUOTAS) if cell.hierarchy == "v2" else _MACHINE_FOLDERS[:1]
        more = (*more, *_PLACES)
    if is_root and cell.kernel == "6.1" and cell.hierarchy == "v2":
        more = (*more, *_OOM)
    ignored = (f"--ignore={file}" for file in left_out)
    options = (_RESIDENT,) if cell.has_userns else ()
    wanted = f"({_STATEMENTS}) and not ({' or '.join(_ELSEWHERE)})"
    return Selection(cell, (*_CELL_FOLDERS, *more, *ignored, *options, "-k", wanted), more_environment=_FEW_ROUNDS)


def _all_statements(name: str) -> Selection:
    return Selection(
        parse_cell(name), (*_CELL_FOLDERS, *_MACHINE_FOLDERS, *_PLACES, *_QUOTAS, *_OOM, "-k", _STATEMENTS)
    )


def _conformance(name: str, part: int, of: int, *options: str) -> Selection:
    return Selection(parse_cell(name), ("tests/conformance", *options), parts=(part,), of=of)


def default_batches() -> list[Batch]:
    """What `make test` runs: the black-box suite with systemd's driver, and the statements in all kinds of cells.

    The longest first, since the machines run side by side.
    """
    halves = [_conformance("v2-6.1-systemd", part, 2, _RESIDENT) for part in range(2)]
    return [
        (halves[0], *(_statements("v2-6.1" + kind) for kind in _KINDS[:3])),
        (halves[1], *(_statements("v2-6.1" + kind) for kind in _KINDS[3:])),
        tuple(_statements("v1-6.1" + kind) for kind in _KINDS[:3]),
        tuple(_statements("v1-6.1" + kind) for kind in _KINDS[3:]),
        (_statements("v2-5.10-systemd"),),
        (_statements("v2-6.12-systemd"),),
    ]


def all_batches() -> list[Batch]:
    """Every cell, and the black-box suite with both drivers on every machine (ALL=1)."""
    found: list[Batch] = []
    for kernel, hierarchy in itertools.product(SERIES, HIERARCHIES):
        machine = f"{hierarchy}-{kernel}"
        found += [(_conformance(machine + driver, part, 2),) for driver in ("", "-systemd") for part in range(2)]
        found += [tuple(_all_statements(machine + kind) for kind in kinds) for kinds in (_KINDS[:3], _KINDS[3:])]
    return found
