"""Pods: what they share is shared in the kernel, and they come and go together."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from corral.engine import names
from corral.engine.reconcile import reconcile
from corral.errors import AlreadyExists, FailedPrecondition, NotFound
from root.engine.conftest import Engine, eventually
from root.engine.test_crash import die_at

pytestmark = pytest.mark.requires("root")


@pytest.fixture
def pod(engine: Engine) -> Any:
    """A pod without a network, removed at the end."""
    made = engine.call("pod_create", {"name": "site", "network": {"mode": "none"}})
    yield made["id"]
    if engine.call("pod_ps"):
        engine.call("pod_rm", "site", force=True)


def namespaces(pid: int) -> dict[str, str]:
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("net", "ipc", "uts", "pid", "mnt")}


def test_members_share_what_the_pod_shares(engine: Engine, pod: str) -> None:
    """net, ipc and uts are one; pid and mounts are each one's own."""
    members = [engine.run("sleep", "1000", pod="site", network={"mode": "pod"}) for _ in range(2)]
    first, second = (namespaces(engine.pid(member)) for member in members)
    assert {kind for kind in first if first[kind] == second[kind]} == {"net", "ipc", "uts"}
    assert engine.call("pod_ps")[0]["status"] == "running"


def test_members_share_dev_shm(engine: Engine, pod: str) -> None:
    """What one writes there the other reads."""
    writer = engine.run("sh", "-c", "echo hello > /dev/shm/x", pod="site", network={"mode": "pod"})
    assert engine.wait(writer)["code"] == 0
    reader = engine.run("cat", "/dev/shm/x", pod="site", network={"mode": "pod"})
    assert engine.wait(reader)["code"] == 0
    assert engine.output(reader) == [b"hello"]


def test_members_are_in_the_pods_cgroup(engine: Engine, pod: str) -> None:
    """One group for the pod, the containers' below it."""
    member = engine.run("sleep", "1000", pod="site", network={"mode": "pod"})
    assert {path.parent.name for path in engine.groups(member)} == {f"pod-{pod}"}


def test_stop_and_start_take_all_members_along(engine: Engine, pod: str) -> None:
    """The one that holds the namespaces starts first and stops last."""
    member = engine.run("sleep", "1000", pod="site", network={"mode": "pod"})
    engine.call("pod_stop", "site", timeout_s=0)
    assert {row["status"] for row in engine.call("pod_inspect", "site")["containers"]} == {"exited"}
    engine.call("pod_start", "site")
    assert {row["status"] for row in engine.call("pod_inspect", "site")["containers"]} == {"running"}
    assert engine.look(member).run == 2


def test_rm_needs_force_when_there_are_members(engine: Engine, pod: str) -> None:
    """Nothing is left afterwards: containers, names, cgroups."""
    member = engine.run("sleep", "1000", pod="site", network={"mode": "pod"})
    groups = [path.parent for path in engine.groups(member)]
    with pytest.raises(FailedPrecondition, match="it has 1 container"):
        engine.call("pod_rm", "site")
    engine.call("pod_rm", "site", force=True)
    assert names.list_ids(engine.places) == []
    assert [path for path in groups if path.exists()] == []
    assert [path.name for path in Path(engine.places.pods).iterdir()] == [".lock"]


def test_a_pod_and_a_container_never_have_one_name(engine: Engine, pod: str) -> None:
    """Names are one space, as users type them."""
    with pytest.raises(AlreadyExists, match=r"pod .* has it"):
        engine.create("true", name="site")


def test_the_holder_is_removed_with_its_pod_only(engine: Engine, pod: str) -> None:
    """It is not shown among containers, and cannot be taken away from under the others."""
    engine.call("pod_start", "site")
    assert engine.call("ps", is_all=True) == []
    infra = engine.call("pod_inspect", "site")["infra"]
    with pytest.raises(FailedPrecondition, match="holds the namespaces of a pod"):
        engine.call("rm", infra, force=True)


@pytest.mark.parametrize("point", ["pod.named", "pod.written", "create.named", "create.renamed"])
def test_s4_14_a_pods_name_is_free_when_its_making_was_interrupted(engine: Engine, point: str) -> None:
    """Killed anywhere: the pod is whole, or its name can be used again at once."""
    request = {"name": "again", "network": {"mode": "none"}}
    assert die_at(engine, point, "pod_create", request) == -9
    reconcile(engine.places)
    try:
        engine.call("pod_create", request)
    except AlreadyExists:
        engine.call("pod_start", "again")
    engine.call("pod_rm", "again", force=True)
    with pytest.raises(NotFound):
        engine.call("pod_inspect", "again")


@pytest.mark.parametrize("point", ["pod.removing", "pod.emptied"])
def test_s4_4_an_interrupted_removal_of_a_pod_is_finished(engine: Engine, pod: str, point: str) -> None:
    """Killed anywhere in pod rm: the next engine finishes it."""
    engine.run("sleep", "1000", pod="site", network={"mode": "pod"})
    assert die_at(engine, point, "pod_rm", "site", force=True) == -9
    reconcile(engine.places)
    eventually(lambda: engine.call("pod_ps") == [])
    assert names.list_ids(engine.places) == []
