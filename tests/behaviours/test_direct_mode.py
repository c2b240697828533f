"""Direct mode: one delegated parent, and below it plain directories that the cgroupfs driver makes, with no D-Bus call.

With the host's systemd where it runs (the parent is a scope), and with a directory elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from behaviours import facts, places, stand_in
from behaviours.facts import applies
from conformance import cgroups
from conformance.harness import Bundle, Runtime, unique_id, wait_until
from corral.cgroup.direct import (
    DelegatedParent,
    ensure_delegated_parent,
    remove_delegated_parent,
    verify_delegated_parent,
)
from corral.cgroup.layout import Layout, read_layout
from corral.cgroup.location import CgroupfsLocation, SystemdLocation
from corral.cgroup.systemd_bus import Manager, system_manager
from corral.errors import FailedPrecondition, InvalidArgument, NotFound

pytestmark = applies("root", "limits")
LONG_S = 60.0
SLEEP = "exec sleep 1000"
HAS_UNIT = applies("systemd-driver")


class Store:
    """Where a test's parent is, and the processes that may hold it."""

    def __init__(self, runtime: str) -> None:
        self.runtime = runtime
        self.layout: Layout = read_layout()
        self.manager: Manager | None = system_manager() if facts.driver() == "systemd" else None
        name = unique_id()
        self.location: SystemdLocation | CgroupfsLocation = CgroupfsLocation(f"/{name}")
        if self.manager is not None:
            self.location = SystemdLocation(f"corraltest{os.getpid()}.slice", "", name)
        self._holders: list[subprocess.Popen[bytes]] = []
        self._made: list[DelegatedParent] = []

    def holder(self) -> int:
        """A process that stays, as the runtime's own holder does once it is told to."""
        process = subprocess.Popen([self.runtime, "holder", unique_id()], stdin=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(b"+")
        process.stdin.close()
        self._holders.append(process)
        return process.pid

    def ensure(self, *, holder_pid: int | None = None, manager: Manager | None = None) -> DelegatedParent:
        """The parent, with a new process to hold it unless one is given."""
        pid = self.holder() if holder_pid is None else holder_pid
        used = manager or self.manager
        parent = ensure_delegated_parent(self.location, self.layout, holder_pid=pid, manager=used, deadline_s=LONG_S)
        self._made.append(parent)
        return parent

    def remove(self, parent: DelegatedParent) -> None:
        """End the holders, and the parent."""
        self.end_holders()
        result = remove_delegated_parent(parent, self.layout, manager=self.manager, deadline_s=LONG_S)
        assert list(map(str, result.pending)) == []

    def end_holders(self) -> None:
        """Kill and reap them."""
        for process in self._holders:
            process.kill()
            process.wait()

    def close(self) -> None:
        """Leave nothing, whatever the test did."""
        self.end_holders()
        for parent in self._made:
            self.remove(parent)
        if self.manager is not None:
            assert isinstance(self.location, SystemdLocation)
            self.manager.stop_unit(self.location.slice, deadline_s=LONG_S)
            self.manager.close()


@pytest.fixture
def store(runtime_path: str) -> Iterator[Store]:
    """A place for a parent; removed afterwards."""
    made = Store(runtime_path)
    yield made
    made.close()


@pytest.fixture
def parent(store: Store, runtime: Runtime) -> DelegatedParent:
    """A parent, and a runtime that places containers below it as the engine does: without systemd."""
    stand_in.hide_systemd(runtime)
    runtime.global_args = ["--cgroup-manager", "cgroupfs"]
    return store.ensure()


def put_below(bundle: Bundle, parent: DelegatedParent) -> str:
    """Let the bundle's container be one of the parent's; where it has to be."""
    bundle.linux["cgroupsPath"] = str(parent.location(unique_id()))
    bundle.resources.update(places.LIMITS)
    return str(bundle.linux["cgroupsPath"])


def test_s0_1_container_lies_below_the_parent_without_any_bus(
    runtime: Runtime, bundle: Bundle, parent: DelegatedParent
) -> None:
    """One directory in each hierarchy, with its limits; systemd's sockets are out of sight."""
    path = put_below(bundle, parent)
    with runtime.start(bundle, SLEEP) as c:
        assert places.is_at(c.pid, path)
        assert places.limits_of(c.pid) == places.LIMITS_READ
        c.delete("--force")
    assert places.directories(path) == []


def test_s2_3_parent_stays_when_its_last_container_goes(
    runtime: Runtime, bundle: Bundle, parent: DelegatedParent, store: Store
) -> None:
    """It is the store's, and no container's to remove."""
    put_below(bundle, parent)
    assert runtime.run(bundle, "echo ran").stdout == "ran\n"
    verify_delegated_parent(parent, store.layout)


@applies("v2")
def test_controllers_are_there_for_the_groups_below(parent: DelegatedParent) -> None:
    """What a scope of systemd's can have at all."""
    assert {"cpu", "cpuset", "io", "memory", "pids"} <= set(parent.controllers)
    group = Path("/sys/fs/cgroup" + parent.path)
    assert (group / "cgroup.procs").read_text() == ""
    assert len(cgroups.processes(Path("/sys/fs/cgroup" + parent.holder_path))) == 1


@HAS_UNIT
def test_s0_8_reload_and_reexecution_of_systemd_change_nothing(
    runtime: Runtime, bundle: Bundle, parent: DelegatedParent, store: Store
) -> None:
    """The container runs on, in its group, with its limits, and so does what is made afterwards."""
    path = put_below(bundle, parent)
    with runtime.start(bundle, SLEEP) as c:
        for words in (["daemon-reload"], ["daemon-reexec"], ["daemon-reload"]):
            subprocess.run(["systemctl", *words], check=True, timeout=100)
        assert places.is_at(c.pid, path)
        assert places.limits_of(c.pid) == places.LIMITS_READ
        assert c.status == "running"
        verify_delegated_parent(parent, store.layout)
        put_below(bundle, parent)
        assert runtime.run(bundle, "echo ran").stdout == "ran\n"


@HAS_UNIT
def test_parent_has_no_limit_of_processes(parent: DelegatedParent) -> None:
    """systemd's default for one unit is not meant for a whole store."""
    assert (cgroups.hierarchies()["pids"] / parent.path.lstrip("/") / "pids.max").read_text() == "max\n"


def test_second_caller_gets_the_same_parent(parent: DelegatedParent, store: Store) -> None:
    """Nothing is made anew, and its own process is not needed."""
    again = store.ensure(holder_pid=0)
    assert (parent.is_new, again.is_new) == (True, False)
    assert (again.path, again.unit, again.controllers) == (parent.path, parent.unit, parent.controllers)
    assert again.made == []


def test_two_callers_at_once_end_with_one_parent(store: Store) -> None:
    """Whoever is first makes it; the others' processes hold nothing of it, or do no harm in its leaf."""
    found: list[DelegatedParent] = []
    failures: list[Exception] = []

    def call(pid: int) -> None:
        try:
            with system_manager() if store.manager is not None else contextlib.nullcontext() as manager:
                found.append(store.ensure(holder_pid=pid, manager=manager))
        except Exception as exc:
            failures.append(exc)

    threads = [threading.Thread(target=call, args=(store.holder(),)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len({(parent.path, parent.controllers) for parent in found}) == 1
    if store.manager is not None:
        assert sum(parent.is_new for parent in found) == 1
    verify_delegated_parent(found[0], store.layout)


def test_s2_2_parent_in_use_is_not_removed(
    runtime: Runtime, bundle: Bundle, parent: DelegatedParent, store: Store
) -> None:
    """Not before the last container is gone; then with all that was made for it, and again without harm."""
    path = put_below(bundle, parent)
    with runtime.start(bundle, SLEEP) as c:
        with pytest.raises(FailedPrecondition, match=path.rpartition("/")[2]):
            remove_delegated_parent(parent, store.layout, manager=store.manager, deadline_s=LONG_S)
        assert c.status == "running"
    store.remove(DelegatedParent.from_record(parent.to_record()))
    assert wait_until(lambda: places.directories(parent.path) == [], "the end of the parent")
    store.remove(parent)
    with pytest.raises(NotFound):
        verify_delegated_parent(parent, store.layout)


@HAS_UNIT
def test_scope_outlives_its_holder_while_a_container_runs(
    runtime: Runtime, bundle: Bundle, parent: DelegatedParent, store: Store
) -> None:
    """A new holder can be given to it; without, it ends with its last process."""
    put_below(bundle, parent)
    with runtime.start(bundle, SLEEP) as c:
        store.end_holders()
        again = store.ensure()
        assert (again.is_new, c.status) == (False, "running")


@applies("v2")
def test_stranger_in_the_parent_is_noticed_and_moved(parent: DelegatedParent, store: Store) -> None:
    """A group whose children have controllers may hold no process, so nobody can be there; a changed group is told."""
    group = Path("/sys/fs/cgroup" + parent.path)
    (group / "cgroup.subtree_control").write_text("-memory")
    with pytest.raises(FailedPrecondition, match="controller 'memory' is not enabled"):
        verify_delegated_parent(parent, store.layout)
    assert store.ensure(holder_pid=0).controllers != ()
    verify_delegated_parent(parent, store.layout)


@pytest.mark.parametrize("name", ["holder", "", "a/b", ".."])
def test_name_that_is_no_containers_is_refused(parent: DelegatedParent, name: str) -> None:
    """The holder's, and what is no name of a directory."""
    with pytest.raises(InvalidArgument):
        parent.location(name)


@HAS_UNIT
def test_unit_that_is_not_delegated_is_not_adopted(store: Store) -> None:
    """Another program's scope of that name is left alone."""
    assert store.manager is not None
    assert isinstance(store.location, SystemdLocation)
    store.manager.start_transient_scope(store.location.unit, [store.holder()], [], deadline_s=LONG_S)
    with pytest.raises(FailedPrecondition, match="is not delegated"):
        store.ensure()
    store.manager.stop_unit(store.location.unit, deadline_s=LONG_S)


@HAS_UNIT
def test_nobody_to_hold_it_is_an_error(store: Store) -> None:
    """A scope needs a process at birth."""
    with pytest.raises(NotFound, match="no process was given to hold it"):
        store.ensure(holder_pid=0)
