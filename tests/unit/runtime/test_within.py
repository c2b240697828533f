"""Plans of corral-within: new ids, those of a process, and a root of layers."""

from __future__ import annotations

from corral.runtime.plan import ACTOR_NAMES
from corral.runtime.rootfs import RootfsPlan
from corral.runtime.wire import decode
from corral.runtime.within import Within
from unit.runtime.jobs import HOSTS

MAPS = [(0, 1000, 1), (1, 100000, 65536)]
NEWNS, NEWUSER, NEWPID = 0x20000, 0x10000000, 0x20000000


def steps(where: Within, host: str = "v2") -> list[tuple[str, str]]:
    """Actor and name of each step."""
    plan = decode(where.compile(["/bin/true", "x"], ["A=1"], HOSTS[host](), n_fds=2))
    return [(ACTOR_NAMES[step.actor], step.op) for step in plan]


END = [("init", "PREPARE_FDS"), ("init", "FIND_PROGRAM"), ("init", "EXEC")]


def test_new_user_namespace() -> None:
    """The maps are written before the process runs, by the helpers where the caller may not."""
    where = Within(MAPS, MAPS)
    begin = [
        ("front", "FRONT_MODE"),
        ("front", "SPAWN"),
        ("front", "ID_MAPS"),
        ("init", "SYNC"),
        ("init", "BECOME_ROOT"),
    ]
    assert steps(where) == begin + END
    plan = decode(where.compile(["/bin/true"], [], HOSTS["rootless"]()))
    assert plan.steps[1].args[0] == NEWUSER
    assert plan.steps[2].args[3:] == ("", "/usr/bin/newuidmap", "/usr/bin/newgidmap")


def test_user_namespace_of_a_process() -> None:
    """It is joined by the stage, which knows the process by its start time too."""
    found = steps(Within(join=(77, 1234)))
    assert found[1:4] == [("front", "STAGE"), ("stage", "JOIN_CONTAINER"), ("stage", "FORK")]


def test_root_of_layers() -> None:
    """In a mount namespace of the process's own; for a user namespace root's front stacks them."""
    rootfs = RootfsPlan(("/a", "/b"), "/w", is_mapped=True)
    assert ("init", "OVERLAY") in steps(Within(rootfs=rootfs, path="/sys"))
    mapped = Within([(0, 100000, 65536)], [(0, 100000, 65536)], rootfs=rootfs, path="/sys")
    assert ("front", "OVERLAY") in steps(mapped)
    plan = decode(mapped.compile(["/bin/true"], [], HOSTS["v2"]()))
    assert plan.steps[1].args[0] == NEWUSER | NEWNS
    assert [step.args for step in plan if step.op == "ROOTFS_TREE"] == [("/sys", 72)]
    assert ("init", "OVERLAY") in steps(Within(MAPS, MAPS, rootfs=rootfs, path="/sys"), "rootless")


def test_root_of_fuse_overlayfs_ends_with_the_program() -> None:
    """Its process would hold the mount namespace that holds it: a pid namespace ends both."""
    rootfs = RootfsPlan(("/a", "/b"), "/w", fuse="/usr/bin/fuse-overlayfs")
    plan = decode(Within(MAPS, MAPS, rootfs=rootfs, path="/sys").compile(["/bin/true"], [], HOSTS["rootless"]()))
    assert plan.steps[1].args[0] == NEWUSER | NEWNS | NEWPID
    found = decode(Within(rootfs=rootfs, path="/sys", join=(77, 1)).compile(["/bin/true"], [], HOSTS["rootless"]()))
    assert [step.args[0] for step in found if step.op == "FORK"] == [NEWNS | NEWPID]
