"""Direct mode: what is refused before anything is touched, and the record. The rest needs a kernel, and systemd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.cgroup.direct import DelegatedParent, ensure_delegated_parent
from corral.cgroup.layout import Layout
from corral.cgroup.location import CgroupfsLocation, SystemdLocation
from corral.cgroup.member import Member
from corral.cgroup.systemd_bus import Manager
from corral.cgroup.systemd_properties import INFINITY
from corral.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from unit.cgroup.fake_bus import FakeSystemd

NAME = "corral-store.scope"
WHERE = SystemdLocation("", "corral", "store")
EMPTY = Layout(())


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[FakeSystemd]:
    """A systemd that is well."""
    (tmp_path / "systemd").mkdir()
    made = FakeSystemd(tmp_path / "systemd" / "private")
    yield made
    made.close()


@pytest.fixture
def manager(systemd: FakeSystemd) -> Iterator[Manager]:
    """Connected to it."""
    with Manager([str(systemd.path)], is_user=False) as made:
        systemd.manager_group = ""
        yield made


def ensure(manager: Manager, *, holder_pid: int = 77) -> DelegatedParent:
    """On a host without hierarchies: the unit alone."""
    return ensure_delegated_parent(WHERE, EMPTY, holder_pid=holder_pid, manager=manager, deadline_s=5)


def test_new_scope_has_the_holder_and_no_limit_of_processes(manager: Manager, systemd: FakeSystemd) -> None:
    """Delegated, with its accounting on."""
    parent = ensure(manager)
    told = systemd.properties[NAME]
    assert (told["PIDs"], told["Delegate"], told["TasksMax"]) == ([77], True, INFINITY)
    assert (parent.path, parent.unit, parent.is_new) == (f"/system.slice/{NAME}", NAME, True)


def test_running_scope_is_adopted_without_a_holder(manager: Manager, systemd: FakeSystemd) -> None:
    """And is not started again."""
    ensure(manager)
    again = ensure(manager, holder_pid=0)
    assert (again.is_new, systemd.members().count("StartTransientUnit")) == (False, 1)


def test_scope_that_is_lost_to_another_caller_is_adopted(
    manager: Manager, systemd: FakeSystemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen absent, and there at the start: the other's counts."""
    usual = systemd._on_StartTransientUnit

    def start(name: str, mode: str, properties: Any, aux: Any) -> tuple[str, tuple[Any, ...]]:
        if name not in systemd.units:
            usual(name, mode, properties, aux)
        return usual(name, mode, properties, aux)

    monkeypatch.setattr(systemd, "_on_StartTransientUnit", start)
    assert not ensure(manager).is_new


def test_unit_that_is_not_delegated_is_refused(manager: Manager, systemd: FakeSystemd) -> None:
    """Somebody else's."""
    systemd.units[NAME] = "active"
    with pytest.raises(FailedPrecondition, match="is not delegated"):
        ensure(manager)


def test_unit_elsewhere_is_refused(manager: Manager, systemd: FakeSystemd) -> None:
    """Groups made at the computed place would not be its."""
    systemd.control_group = "/elsewhere/{name}"
    with pytest.raises(FailedPrecondition, match=f"not at '/system.slice/{NAME}'"):
        ensure(manager)


def test_nobody_to_hold_it_is_an_error(manager: Manager, systemd: FakeSystemd) -> None:
    """A scope needs a process at its birth."""
    with pytest.raises(NotFound, match="no process was given"):
        ensure(manager, holder_pid=0)


def test_name_that_is_never_free_is_an_error_in_time(manager: Manager, systemd: FakeSystemd) -> None:
    """A unit that is neither active nor gone."""
    systemd.units[NAME] = "deactivating"
    with pytest.raises(AlreadyExists):
        ensure_delegated_parent(WHERE, EMPTY, holder_pid=77, manager=manager, deadline_s=0.3)


@pytest.mark.parametrize("location", [CgroupfsLocation("a/b"), SystemdLocation("", "", "a.slice"), WHERE])
def test_place_that_cannot_be_a_parent_is_refused(
    location: CgroupfsLocation | SystemdLocation, manager: Manager, systemd: FakeSystemd
) -> None:
    """A relative path, a slice, and a unit without a manager."""
    given = None if location is WHERE else manager
    with pytest.raises(InvalidArgument, match="make delegated parent"):
        ensure_delegated_parent(location, EMPTY, holder_pid=1, manager=given)


def test_record_brings_the_parent_back() -> None:
    """All that a later removal needs."""
    made = [Member(2, ("cpu",), "/sys/fs/cgroup", "/a")]
    parent = DelegatedParent("/a/b.scope", "b.scope", controllers=("cpu",), made=made, is_new=True)
    back = DelegatedParent.from_record(parent.to_record())
    assert back.to_record() == parent.to_record()
    assert (back.is_new, back.holder_path) == (False, "/a/b.scope/holder")


@pytest.mark.parametrize("change", [{"path": ""}, {"unit": None}, {"controllers": "cpu"}, {"made": None}])
def test_record_of_another_kind_is_refused(change: dict[str, object]) -> None:
    """A field that is missing or wrong."""
    record = DelegatedParent("/a", "", controllers=(), made=[], is_new=True).to_record()
    with pytest.raises(InvalidArgument, match="delegated parent"):
        DelegatedParent.from_record({**record, **change})
