"""A root of layers in the plan: who stacks them, and what forbids it."""

from __future__ import annotations

from corral.runtime.create import compile_create
from corral.runtime.job import Job
from corral.runtime.plan import ACTOR_NAMES, FIRST_TREE_SLOT
from corral.runtime.rootfs import MAX_LAYERS, RootfsPlan, check_layers
from unit.runtime.jobs import HOSTS, config, make_job, namespaces

_MAPS = {"uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}]}
_MAPS["gidMappings"] = _MAPS["uidMappings"]
_WITH_USER = namespaces("pid", "mount", "user")


def layered(host: str, rootfs: RootfsPlan, **linux: object) -> Job:
    """A compiled job whose root has layers."""
    job = make_job(config(**linux), HOSTS[host]())
    check_layers(job, rootfs)
    job.layers = rootfs
    compile_create(job)
    return job


def root_steps(job: Job) -> list[tuple[object, ...]]:
    """Actor, name and arguments of the steps that concern the root."""
    names = ("OVERLAY", "ROOTFS_TREE", "ROOTFS", "PASS_FD")
    return [(ACTOR_NAMES[step.actor], step.op, *step.args) for step in job.plan if step.op in names]


def test_root_of_layers_is_stacked_by_init() -> None:
    """It replaces ROOTFS, at the same place."""
    job = layered("v2", RootfsPlan(("/a", "/b"), "/c", is_volatile=True))
    assert root_steps(job) == [
        ("init", "OVERLAY", FIRST_TREE_SLOT, ("/a", "/b"), "/c", "", 4),
        ("init", "ROOTFS_TREE", "/bundle/rootfs", FIRST_TREE_SLOT),
    ]
    assert job.problems == []


def test_root_of_layers_is_stacked_by_the_front_for_a_user_namespace() -> None:
    """An id mapping cannot be set from inside."""
    job = layered("v2", RootfsPlan(("/a",), "/c", is_mapped=True), namespaces=_WITH_USER, **_MAPS)
    assert root_steps(job)[:3] == [
        ("front", "OVERLAY", FIRST_TREE_SLOT, ("/a",), "/c", "", 1),
        ("init", "PASS_FD", FIRST_TREE_SLOT),
        ("init", "ROOTFS_TREE", "/bundle/rootfs", FIRST_TREE_SLOT),
    ]


def test_root_of_layers_is_stacked_by_init_for_an_unprivileged_caller() -> None:
    """With marks in user attributes: a user namespace has no others."""
    own = {"uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}]}
    job = layered("rootless", RootfsPlan(("/a",)), namespaces=_WITH_USER, **own, gidMappings=own["uidMappings"])
    assert root_steps(job)[0] == ("init", "OVERLAY", FIRST_TREE_SLOT, ("/a",), "", "", 2)


def test_trees_of_mounts_have_other_slots() -> None:
    """No descriptor is in the way of another."""
    mount = {"destination": "/m", "type": "bind", "source": "/srv", "options": ["bind"], **_MAPS}
    job = make_job({**config(), "mounts": [mount]}, HOSTS["v2"]())
    job.layers = RootfsPlan(("/a",))
    compile_create(job)
    slots = [step.args[0] for step in job.plan if step.op in ("OVERLAY", "OPEN_TREE")]
    assert slots == [FIRST_TREE_SLOT, FIRST_TREE_SLOT + 1]


def test_root_of_layers_without_a_mount_namespace_is_refused() -> None:
    """It would be mounted on the host."""
    job = make_job(config(namespaces=namespaces("pid")), HOSTS["v2"]())
    check_layers(job, RootfsPlan(("/a",)))
    assert [str(problem) for problem in job.problems] == [
        "stack the layers: the container has no mount namespace, and they would be mounted on the host "
        "(config linux.namespaces)"
    ]


def test_impossible_layers_are_refused() -> None:
    """None, relative ones, or more than the kernel takes."""
    for rootfs, words in (
        (RootfsPlan(()), "each must be an absolute directory, and one there must be"),
        (RootfsPlan(("a",)), "each must be an absolute directory, and one there must be"),
        (RootfsPlan(("/a",), "w"), "each must be an absolute directory, and one there must be"),
        (RootfsPlan(("/a",) * (MAX_LAYERS + 1)), "501 of them, and the kernel takes at most 500"),
    ):
        job = make_job(config(), HOSTS["v2"]())
        check_layers(job, rootfs)
        assert [problem.message for problem in job.problems] == [f"stack the layers: {words}"]
