"""corral.runtime.programs and documents: what start, kill, state and delete do without Python."""

from __future__ import annotations

import json
from typing import Any

from corral.runtime.documents import around_pid, hook_state, process_state
from corral.runtime.job import Options
from corral.runtime.plan import Plan
from corral.runtime.programs import compile_programs, resctrl_group
from unit.runtime.jobs import HOSTS, Config, compiled, config, namespaces, ops


def programs(document: Config | None = None, host: str = "v2", options: Options | None = None) -> dict[str, Plan]:
    """The four programs of a container."""
    job = compiled(document or config(), HOSTS[host](), options=options)
    return compile_programs(job, created="2026-01-02T03:04:05Z", owner="root")


def args_of(plan: Plan, op: str) -> tuple[Any, ...]:
    """Arguments of the only step of this kind."""
    found = [step.args for step in plan if step.op == op]
    assert len(found) == 1
    return found[0]


def test_state_document_is_runcs_around_pid_and_status() -> None:
    """Filled in, it is the JSON of ``runc state``, member by member."""
    document = {**config(), "annotations": {"a": '"pid": 0'}}
    head, middle, tail = args_of(programs(document)["state"], "STATE_DOC")

    assert {
        "ociVersion": "1.3.0",
        "id": "c1",
        "pid": 77,
        "status": "running",
        "bundle": "/bundle",
        "rootfs": "/bundle/rootfs",
        "created": "2026-01-02T03:04:05Z",
        "annotations": {"a": '"pid": 0'},
        "owner": "root",
    } == json.loads(f"{head}77{middle}running{tail}")
    head, middle, tail = args_of(programs()["state"], "STATE_DOC")
    assert "annotations" not in json.loads(f"{head}0{middle}stopped{tail}")


def test_delete_ends_processes_then_groups_then_hooks_then_the_record() -> None:
    """What others may still look at goes last; a group goes only after its processes."""
    document = {**config(), "hooks": {"poststop": [{"path": "/h"}]}}

    wanted = ("KILL_INIT", "CG_THAW", "CG_KILL", "CG_REMOVE", "HOOK", "REMOVE_RECORD")

    assert list(wanted) == [step.op for step in programs(document)["delete"] if step.op in wanted]


def test_delete_removes_every_group_of_v1_in_reverse() -> None:
    """The freezer thaws; the processes are counted in one hierarchy."""
    plan = programs(host="v1")["delete"]

    assert list(range(6, -1, -1)) == [step.args[0] for step in plan if step.op == "CG_REMOVE"]
    assert 3 == args_of(plan, "CG_THAW")[0]
    assert (0, 9) == args_of(plan, "CG_KILL")


def test_kill_knows_whether_the_pid_namespace_is_the_containers() -> None:
    """Only then does init's death end all."""
    assert (1,) == args_of(programs()["kill"], "KILL_SCOPE")
    assert (0,) == args_of(programs(config(namespaces=namespaces("mount", "uts")))["kill"], "KILL_SCOPE")
    joined = config(namespaces=namespaces("mount", "uts", pid="/proc/1/ns/pid"))
    assert (0,) == args_of(programs(joined)["kill"], "KILL_SCOPE")


def test_start_relays_readiness_and_runs_poststart() -> None:
    """After the release."""
    options = Options(is_create=True)
    options.notify_socket = "/run/n.sock"
    document = {**config(), "hooks": {"poststart": [{"path": "/h", "timeout": 3}]}}
    plan = programs(document, options=options)["start"]

    wanted = ("RELEASE", "NOTIFY_RELAY", "HOOK")

    assert list(wanted) == [step.op for step in plan if step.op in wanted]
    assert 3000 == args_of(plan, "HOOK")[4]


def test_hook_state_is_json_whatever_the_annotations_hold() -> None:
    """Nothing in them can be taken for the pid's place."""
    annotations = {"x": '"pid":0', "pid": "0"}
    head, tail = hook_state("c1", "creating", "/b", annotations)

    assert {
        "ociVersion": "1.3.0", "id": "c1", "status": "creating", "bundle": "/b", "annotations": annotations, "pid": 5,
    } == json.loads(f"{head}5{tail}")  # fmt: skip


def test_process_state_tells_both_pids() -> None:
    """containerProcessState, for the seccomp agent."""
    head, middle, tail = process_state("c1", "/b", {}, metadata='"pid":0')
    document = json.loads(f"{head}5{middle}5{tail}")

    assert (5, 5, '"pid":0', ["seccompFd"]) == (
        document["pid"], document["state"]["pid"], document["metadata"], document["fds"],
    )  # fmt: skip


def test_document_is_cut_at_its_last_pid() -> None:
    """Which is the member added last."""
    assert ('{"a":"\\"pid\\":0","pid":', "}") == around_pid({"a": '"pid":0', "pid": 0})


def test_resctrl_group_is_the_closid_or_the_id() -> None:
    """The root group is nobody's to remove."""
    host = HOSTS["v1"]()
    host.resctrl = "/sys/fs/resctrl"
    for rdt, path in (
        ({}, "/sys/fs/resctrl/c1"),
        ({"closID": "shared"}, "/sys/fs/resctrl/shared"),
        ({"closID": "/"}, "/sys/fs/resctrl"),
    ):
        job = compiled(config(intelRdt=rdt), host)
        assert path == resctrl_group(job)
        assert ("front RESCTRL_MAKE" in ops(job.plan)) == bool(path)
    assert "" == resctrl_group(compiled(config(), host))
