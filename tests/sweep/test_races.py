"""Several commands on one container at once: one wins, the others are told, and nothing is left of any of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep import tally
from sweep.operations import LONG, Making, Stage
from sweep.points import Point
from sweep.scenes import SCENES, make_spec, surroundings
from sweep.world import World

pytestmark = pytest.mark.requires("root", "busybox")

MANY = 6
ROUNDS = 5


@pytest.fixture
def stage(world: World) -> Iterator[Stage]:
    """The plain scene."""
    with surroundings(world, SCENES["plain"]) as (_, listeners):
        yield Stage(world, SCENES["plain"], make_spec(SCENES["plain"], world.path, 0, 0), listeners)


def spawn(world: World, number: int, *args: str) -> tuple[subprocess.Popen[bytes], Path]:
    """A command that runs on its own; its words go to the file."""
    words = world.path / f"race-{number}"
    command = [str(world.runtime), "--root", str(world.root), *args]
    with words.open("wb") as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err)
    return process, words


def test_one_of_many_creates_wins(stage: Stage) -> None:
    """The same id many times at once: one container, and for the others runc's words."""
    world = stage.world
    for _ in range(ROUNDS):
        name = world.new_id()
        stage.configure(name, LONG)
        racing = [spawn(world, number, "create", "--bundle", str(stage.bundle), name) for number in range(MANY)]
        codes = [process.wait(60) for process, _ in racing]
        said = [words.read_text() for _, words in racing]
        assert sorted(codes) == [0] + [1] * (MANY - 1), said
        for code, text in zip(codes, said, strict=True):
            assert code == 0 or "container with given ID already exists" in text, text
        assert world.status(name) == "created"
        assert world.run("delete", "--force", name).code == 0
        assert world.settle() == []
        assert world.leftovers() == []


def test_deletes_and_creates_at_once_end_clean(stage: Stage) -> None:
    """Whatever wins, each command succeeds or says one line why not, and a last delete leaves nothing."""
    world = stage.world
    for _ in range(ROUNDS):
        name = world.new_id()
        stage.make_running(name)
        commands: list[tuple[str, ...]] = []
        for _ in range(MANY // 3):
            commands += [("delete", "--force", name), ("create", "--bundle", str(stage.bundle), name)]
            commands += [("kill", name, "KILL")]
        racing = [spawn(world, number, *command) for number, command in enumerate(commands)]
        for process, words in racing:
            code = process.wait(60)
            lines = [line for line in words.read_text().splitlines() if not line.startswith(("hint: ", "warning: "))]
            assert code in (0, 1), words.read_text()
            assert len(lines) == code, words.read_text()
        assert world.run("delete", "--force", name).code == 0
        assert world.settle() == []
        assert world.leftovers() == []


def test_a_silent_planner_is_not_waited_for_longer_than_its_deadline(stage: Stage) -> None:
    """Stopped before its verdict: after 30 s the front gives up, undoes its work, and says so."""
    if tally.wanted() != "all":
        pytest.skip("requires half a minute: CORRAL_SWEEP=all")
    name = stage.world.new_id()
    stage.configure(name)
    Making("create").play(stage, Point("trace", "none", "", planner="trace"))
    moments = stage.world.trace()["moments"]
    point = Point("silence", "stop", "planner", planner=f"stop {moments.index('message 36') + 1}")
    outcome = stage.run("create", *stage.flags(), name, point=point)
    assert outcome.code == 1
    assert outcome.errors == ["ask for the verdict: the planner gave no verdict"]
    assert stage.world.status(name) == ""
    assert stage.problems + stage.world.settle() + stage.world.leftovers() == []
