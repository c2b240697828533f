"""The engine's layout of a scope, as a plan."""

from __future__ import annotations

import pytest

from corral.runtime import scopes
from corral.runtime.job import Job, Options
from corral.runtime.programs import compile_programs
from unit.runtime.jobs import HOSTS, compiled, config, layout_v1


@pytest.fixture(autouse=True)
def systemd_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host is run by systemd, whatever this one is run by."""
    monkeypatch.setattr(scopes, "is_systemd_running", lambda: True)


def engine_job(host: str, **annotations: str) -> Job:
    """A container in a scope, laid out as the engine does it."""
    options = Options(is_create=True)
    options.cgroup_layout = "engine"
    document = config(cgroupsPath="pods.slice:c:one", resources={"memory": {"limit": 1 << 26}, "pids": {"limit": 9}})
    document["annotations"] = annotations
    return compiled(document, HOSTS[host](), options=options, manager="systemd")


def steps_of(job: Job, *names: str) -> list[tuple[object, ...]]:
    """Steps of these kinds, with their first arguments."""
    return [(step.op, *step.args[:2]) for step in job.plan if step.op in names]


def test_holder_is_placed_before_the_container_and_both_before_any_controller() -> None:
    """On v2: a group with processes of its own gives no controllers to its children."""
    job = engine_job("v2")
    assert steps_of(job, "HOLD", "SPAWN", "SCOPE", "CG_MAKE", "CG_ATTACH") == [
        ("SPAWN", job.new_flags & ~0x02000000, -1),
        ("HOLD", "c1"),
        ("SCOPE", "c-one.scope"),
        ("CG_MAKE", 1, 8),
        ("CG_MAKE", 3, 0),
        ("CG_ATTACH", 3, 2),
        ("CG_MAKE", 0, 8),
        ("CG_ATTACH", 0, 0),
        ("CG_MAKE", 0, 8),
        ("CG_ATTACH", 0, 0),
    ]
    paths = {step.args[0]: step.args[3] for step in job.plan if step.op == "CG_DEFINE"}
    assert paths == {
        0: "/pods.slice/c-one.scope/container",
        1: "/pods.slice/c-one.scope",
        3: "/pods.slice/c-one.scope/holder",
    }


def test_limits_are_exact_in_the_files_and_wider_in_the_properties() -> None:
    """The same writes, rendered twice."""
    job = engine_job("v2")
    assert job.groups.scope is not None
    told = {item.name: item.value for item in job.groups.scope.properties}
    assert (told["MemoryMax"], told["TasksMax"]) == ((1 << 26) + (16 << 20), 9 + 8)
    written = {step.args[1]: step.args[2] for step in job.plan if step.op == "CG_WRITE"}
    assert (written["memory.max"], written["pids.max"]) == (str(1 << 26), "9")
    assert told["OOMPolicy"] == "continue"


def test_leaf_is_in_every_hierarchy_of_a_hybrid_host() -> None:
    """The holder only where systemd tracks the unit."""
    job = engine_job("hybrid")
    assert {path for _, _, path in job.groups.members} == {"/pods.slice/c-one.scope/container"}
    assert job.groups.holder is not None
    assert job.groups.holder[1].version == 2


def test_host_without_the_tracking_hierarchy_has_no_place_for_a_holder() -> None:
    """v1 controllers alone, which a systemd host never is: nobody is moved, and the unit ends with its processes."""
    assert layout_v1().hierarchy_for("name=systemd") is None
    assert engine_job("v1").groups.holder is None


def test_delete_ends_the_holder_before_it_removes_the_groups() -> None:
    """Leaf, then holder, then scope."""
    plan = compile_programs(engine_job("v2"), created="", owner="root")["delete"]
    steps = [(step.op, step.args[0]) for step in plan if step.op in ("CG_KILL", "CG_REMOVE")]
    assert steps == [("CG_KILL", 0), ("CG_KILL", 3), ("CG_REMOVE", 0), ("CG_REMOVE", 3), ("CG_REMOVE", 1)]


def test_annotation_gives_the_leaf_another_name() -> None:
    """CRI-O's default is the layout's own."""
    job = engine_job("v2", **{"run.oci.systemd.subgroup": "other"})
    assert [path for _, _, path in job.groups.members] == ["/pods.slice/c-one.scope/other"]


def test_name_of_the_holder_is_not_the_leafs() -> None:
    """Two groups of one name cannot be."""
    job = engine_job("v2", **{"run.oci.systemd.subgroup": "holder"})
    assert [str(problem) for problem in job.problems] == [
        "make the sub-group 'holder': this is not a group's name (config annotations[\"run.oci.systemd.subgroup\"])"
    ]


def test_record_tells_the_layout() -> None:
    """An update must know what to allow the scope."""
    job = engine_job("v2")
    assert job.groups.scope is not None
    assert job.groups.scope.to_record() == {"unit": "c-one.scope", "layout": "engine", "isUser": False}
