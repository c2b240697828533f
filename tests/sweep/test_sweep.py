"""The crash sweep: SIGKILL and errors at every step of every operation, and the promises that hold all the same.

By default a subset, drawn by ``CORRAL_SWEEP_SEED`` (default: the commit). ``CORRAL_SWEEP=all`` sweeps everything, any
other value the points whose names contain it.
"""

from __future__ import annotations

import os

import pytest

from corral.runtime.steps import STEPS
from sweep import engine_files, tally
from sweep.operations import Executing, Making, Mounting, Operation, Programs, Stage, Starting
from sweep.points import choose
from sweep.scenes import SCENES, Scene, make_spec, surroundings
from sweep.world import World

USER = 1000
# Points of each operation in the subset.
SHARE = int(os.environ.get("CORRAL_SWEEP_SHARE", "9"))
CREATE, RUN, RUN_DETACHED = Making("create"), Making("run"), Making("run", detach=True)
EXEC, EXEC_DETACHED = Executing(), Executing("--detach")
DELETE = Programs("delete", is_running=False)
DELETE_FORCE = Programs("delete", "--force")
OPERATIONS: tuple[tuple[str, Operation], ...] = (
    *((scene, CREATE) for scene in SCENES),
    *((scene, Starting()) for scene in ("plain", "hooks", "settings", "notify", "rootless")),
    *((scene, RUN) for scene in ("plain", "hooks", "joined", "rootless")),
    *((scene, RUN_DETACHED) for scene in ("plain", "user", "settings")),
    *((scene, EXEC) for scene in ("plain", "user", "settings", "rootless")),
    ("plain", EXEC_DETACHED),
    *((scene, Mounting("add")) for scene in ("plain", "user")),
    ("plain", Mounting("remove")),
    *((scene, DELETE) for scene in ("plain", "hooks", "rootless")),
    *((scene, DELETE_FORCE) for scene in ("plain", "hooks", "user")),
    ("plain", Programs("kill")),
    ("plain", Programs("kill", "--all")),
    ("joined", Programs("kill", "--all")),
    ("plain", Programs("state")),
)


def open_stage(world: World, scene: Scene) -> None:
    """What a scene needs of its world."""
    world.env |= {name: value.format(path=world.path) for name, value in scene.env}
    if scene.is_rootless:
        world.user = USER
        home = world.path / "home"
        home.mkdir()
        os.chown(home, USER, USER)
        world.path.chmod(0o777)
        world.env |= {"HOME": str(home), "XDG_RUNTIME_DIR": str(home)}


def sweep(stage: Stage, operation: Operation) -> list[str]:
    """Play the chosen points of an operation; the broken promises of each, in words."""
    name = f"{operation.name}/{stage.scene.name}"
    points = list(operation.points(stage))
    broken = [f"{name} without a fault: {problem}" for problem in stage.problems]
    chosen = choose(points, tally.wanted(), SHARE, f"{tally.seed()} {name}")
    tally.COUNTS[name] = (len(chosen), len(points))
    tally.KNOWN_OPS.update(point.op for point in points)
    for point in chosen:
        tally.OPS.add(point.op)
        stage.problems = []
        said: object = ""
        try:
            said = operation.play(stage, point)
        except (AssertionError, OSError, ValueError) as error:
            stage.problems.append(f"{type(error).__name__}: {error}")
        if stage.problems:
            listed = "\n    ".join(stage.problems)
            broken.append(f"{name} at {point.name}:\n    {listed}\n    outcome: {said}")
            print(broken[-1], flush=True)
            stage.world.clean()
    return broken


@pytest.mark.requires("root", "busybox")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("scene", "operation"), OPERATIONS, ids=[f"{o.name}-{scene}" for scene, o in OPERATIONS])
def test_s4_14_nothing_is_lost_when_it_dies_at_any_step(scene: str, operation: Operation, world: World) -> None:
    """No process, cgroup, mount or name is left; the same create works at once; errors are one line and a hint."""
    chosen = SCENES[scene]
    open_stage(world, chosen)
    with surroundings(world, chosen) as (holder, listeners):
        spec = make_spec(chosen, world.path, holder, world.user)
        stage = Stage(world, chosen, spec, listeners, holder)
        broken = sweep(stage, operation)
    assert broken == [], f"{len(broken)} points, CORRAL_SWEEP_SEED={tally.seed()}\n" + "\n".join(broken)


# Steps that no operation of the sweep has on every host, and where they are tested instead.
ELSEWHERE = {
    "HOLD": "needs systemd: tests/behaviours/test_engine_layout.py kills it at and after it, in machines that have it",
    "OVERLAY_FUSE": "needs a kernel that gives user namespaces no overlay: tests/userns/test_engine_root.py",
    "CG_DEVICES": "pure v2: the filter is a program there",
    "CG_CHOWN": "delegation needs a host that grants it",
    "LSM_LABEL": "needs AppArmor or SELinux in the kernel",
    "MEMORY_POLICY": "needs a kernel with NUMA",
    "NET_MOVE": "needs a network device to give away: tests/root/native/test_net.py",
    "RESCTRL_MAKE": "needs a processor with resctrl",
    "RESCTRL_REMOVE": "needs a processor with resctrl",
    "SCOPE": "needs systemd: tests/vm",
}
# In the vocabulary, driven by tests/root/native; no plan of today has them.
UNUSED = {"ATTACH_TREE", "MKDIR"}


def test_every_step_of_the_executor_is_swept() -> None:
    """A step that is added to steps.def comes into a scene, or into a verb of the engine; or it is explained here."""
    if len(tally.COUNTS) < len(OPERATIONS) or len(tally.ENGINE) < len(engine_files.OPERATIONS):
        return  # Only some of the operations were asked for.
    missing = set(STEPS) - tally.KNOWN_OPS - UNUSED
    assert missing <= set(ELSEWHERE), sorted(missing - set(ELSEWHERE))
