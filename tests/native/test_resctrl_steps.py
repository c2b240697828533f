"""RESCTRL_MAKE and RESCTRL_REMOVE on a folder that stands for /sys/fs/resctrl: hardly any machine has a real one."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from corral.runtime.plan import FRONT
from native.driver import Bench

pytestmark = pytest.mark.requires("cc")

MAY_MAKE, MONITOR = 1, 2
RESCTRL = 8
GROUP, MONITORING = 0, 1
INTENDED, CREATED, FOREIGN = 0, 1, 2


class Resctrl:
    """A folder with one group, ``shared``, made by others; and a record with a journal."""

    def __init__(self, folder: Path) -> None:
        self.bench = Bench(folder)
        self.top = folder / "resctrl"
        self.record = folder / "root" / "id"
        self.record.mkdir(parents=True)
        (self.record / "journal").touch()
        self.shared = self.top / "shared"
        (self.shared / "mon_groups").mkdir(parents=True)
        (self.shared / "schemata").write_text("    MB:0=100;1= 50\n    L3:0=00f;1=0ff\n")
        (self.shared / "tasks").touch()

    def run(self, *steps: tuple[object, ...], failpoint: str = "") -> tuple[int, str]:
        """Exit status and words of the front's steps, for the process of this very test."""
        more = {"CORRAL_FAILPOINT": failpoint} if failpoint else {}
        result = self.bench.run(
            list(steps), actor=FRONT, DRIVER_INIT_PID=str(os.getpid()), DRIVER_RECORD=str(self.record), **more
        )
        return result.status, result.err

    def journal(self) -> list[tuple[int, int, int]]:
        """(kind, id, value) of every entry."""
        raw = (self.record / "journal").read_bytes()
        return [(kind, number, value) for kind, number, value, _ in struct.iter_unpack("<HHIQ", raw)]


@pytest.fixture
def resctrl(tmp_path: Path) -> Resctrl:
    """A fake resctrl filesystem."""
    return Resctrl(tmp_path)


def test_process_joins_a_group_when_its_schema_is_the_same(resctrl: Resctrl) -> None:
    """Leading zeros and blanks do not matter; the schemata are not written, the group is not ours."""
    step = ("RESCTRL_MAKE", str(resctrl.shared), "L3:0=f;1=ff\nMB:0=100;1=50\n", "c1", MAY_MAKE)
    assert resctrl.run(step) == (0, "")
    assert (resctrl.shared / "tasks").read_text() == str(os.getpid())
    assert resctrl.journal() == []
    assert resctrl.run(("RESCTRL_REMOVE", str(resctrl.shared))) == (0, "")
    assert resctrl.shared.is_dir()


@pytest.mark.parametrize("line", ["L3:0=f;1=fe", "L3:0=f", "L2:0=f", "MB:0=100;1=500"])
def test_group_is_refused_when_its_schema_is_another(resctrl: Resctrl, line: str) -> None:
    """The specification forbids to change what others set up; the line is named."""
    status, words = resctrl.run(("RESCTRL_MAKE", str(resctrl.shared), f"{line}\n", "c1", MAY_MAKE))
    assert (status, f"exists and does not have the schema '{line}'" in words) == (1, True)
    assert (resctrl.shared / "tasks").read_text() == ""


def test_group_must_exist_when_it_may_not_be_made(resctrl: Resctrl) -> None:
    """closID without a schema names a group of the host's."""
    status, words = resctrl.run(("RESCTRL_MAKE", str(resctrl.top / "absent"), "", "c1", 0))
    assert (status, words.endswith("absent': no such file or directory")) == (1, True)
    assert not (resctrl.top / "absent").exists()


def test_made_group_is_journalled_before_and_after_and_removed(resctrl: Resctrl) -> None:
    """A plain folder has no schemata file, so the step ends there; what it made is undone."""
    path = resctrl.top / "c1"
    status, words = resctrl.run(("RESCTRL_MAKE", str(path), "L3:0=f\n", "c1", MAY_MAKE))
    assert (status, "schemata': no such file or directory" in words) == (1, True)
    assert resctrl.journal() == [(RESCTRL, GROUP, INTENDED), (RESCTRL, GROUP, CREATED)]
    assert resctrl.run(("RESCTRL_REMOVE", str(path)), ("RESCTRL_REMOVE", str(path))) == (0, "")
    assert not path.exists()


def test_monitoring_group_is_made_and_removed_alone(resctrl: Resctrl) -> None:
    """The group that was joined stays."""
    step = ("RESCTRL_MAKE", str(resctrl.shared), "", "c1", MONITOR)
    monitor = resctrl.shared / "mon_groups" / "c1"
    assert resctrl.run(step)[0] == 1  # a plain folder gets no tasks file
    assert resctrl.journal() == [(RESCTRL, MONITORING, INTENDED), (RESCTRL, MONITORING, CREATED)]
    removals = [("RESCTRL_REMOVE", str(monitor)), ("RESCTRL_REMOVE", str(resctrl.shared))]
    assert resctrl.run(*removals) == (0, "")
    assert (monitor.exists(), resctrl.shared.is_dir()) == (False, True)


@pytest.mark.parametrize("container_id", ["a/b", "x" * 300])
def test_id_is_refused_when_it_is_no_name(resctrl: Resctrl, container_id: str) -> None:
    """It becomes a directory."""
    step = ("RESCTRL_MAKE", str(resctrl.shared), "", container_id, MONITOR)
    assert resctrl.run(step)[1].endswith("invalid argument")


def test_faults_are_reported_when_injected(resctrl: Resctrl) -> None:
    """Either step ends with the errno of its failpoint."""
    step = ("RESCTRL_MAKE", str(resctrl.shared), "", "c1", 0)
    assert resctrl.run(step, failpoint="front:RESCTRL_MAKE:errno=28") == (
        1,
        f"set up the resctrl group {resctrl.shared}: no space left on device",
    )
    removal = ("RESCTRL_REMOVE", str(resctrl.shared))
    assert resctrl.run(removal, failpoint="front:RESCTRL_REMOVE:errno=16")[0] == 1
