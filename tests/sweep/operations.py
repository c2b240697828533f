"""The operations that are swept: how each begins, what may come out of it, and how the world has to be afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from conformance import spec as specs
from sweep.points import FRONT, Point, planner_points, program_points, read_steps, step_points
from sweep.scenes import Listeners, Scene
from sweep.world import Outcome, World

TRACE = Point("trace", "none", "", planner="trace")
BANNED = ("traceback", "failed", "unable to", "internal error", "errno ")
LONG = ["/bin/sleep", "100000"]


@dataclass
class Stage:
    """One scene on one world: what every operation is given."""

    world: World
    scene: Scene
    spec: specs.Spec
    listeners: Listeners
    holder: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def bundle(self) -> Path:
        """The scene's bundle."""
        return self.world.make_bundle(f"bundle-{self.scene.name}")

    def flags(self) -> list[str]:
        """The flags of create and run."""
        return ["--bundle", str(self.bundle), *(flag.format(path=self.world.path) for flag in self.scene.flags)]

    def run(self, *args: str, point: Point | None = None) -> Outcome:
        """A command, with the faults of ``point``."""
        if point is not None and point.planner:
            self.world.set_fault(point.planner)
        # What only proves something is spared the start of an interpreter; what is hit is hit both ways.
        if point is None or point.is_resident:
            self.world.start_planner()
        else:
            self.world.hide_planner()
        try:
            failpoint = point.failpoint if point is not None else ""
            return self.world.run(*args, failpoint=failpoint, global_args=self.scene.global_args)
        finally:
            self.world.set_fault("")
            self.listeners.drain()

    def configure(self, name: str, args: list[str] | None = None) -> None:
        """Write config.json for the container ``name``."""
        spec = json.loads(json.dumps(self.spec))
        if args is not None:
            spec["process"]["args"] = args
        self.world.write_config(self.bundle, spec, name)

    def expect(self, holds: bool, what: str) -> None:
        """Note a broken promise."""
        if not holds:
            self.problems.append(what)

    def make_running(self, name: str) -> None:
        """A detached container that stays."""
        self.configure(name, LONG)
        made = self.run("run", "--detach", *self.flags(), name)
        assert made.code == 0, made

    def make_created(self, name: str, args: list[str] | None = None) -> Outcome:
        """A created container."""
        self.configure(name, args)
        return self.run("create", *self.flags(), name)


def check_words(stage: Stage, outcome: Outcome, *, may_warn: bool = True) -> None:
    """An error is one line with one hint at most, once in the log, and never a traceback."""
    text = outcome.err.lower()
    for word in BANNED:
        stage.expect(word not in text, f"the words say {word!r}")
    if outcome.code > 0:
        stage.expect(len(outcome.errors) == 1, f"{len(outcome.errors)} lines of error")
        stage.expect(sum(line.startswith("hint: ") for line in outcome.err.splitlines()) <= 1, "several hints")
        entries = [json.loads(line) for line in outcome.log.splitlines()]
        told = [entry["msg"] for entry in entries if entry["level"] == "error"]
        stage.expect(told == outcome.errors, f"the log says {told}")
    elif outcome.code == 0:
        stage.expect(not outcome.errors, "an error, and exit code 0")
    if not may_warn:
        stage.expect("warning: " not in outcome.err, "a warning")


class Operation:
    """One operation of one scene."""

    name = ""

    def points(self, stage: Stage) -> Iterator[Point]:
        """Enumerate its crash points, from a run without faults."""
        raise NotImplementedError

    def play(self, stage: Stage, point: Point) -> Outcome:
        """Do it with the point's fault, and note in ``stage.problems`` what is not as promised."""
        raise NotImplementedError


def prove_usable(stage: Stage, name: str, *, may_exist: bool) -> None:
    """The same create again, at once; then the whole life of the container, and nothing left."""
    if stage.world.state_names():
        listed = stage.run("list", "--format", "json")
        stage.expect(listed.code == 0, f"list: {listed}")
    made = stage.make_created(name)
    if made.code != 0 and may_exist:
        stage.expect("container with given ID already exists" in made.err, f"create again: {made}")
        gone = stage.run("delete", "--force", name)
        stage.expect(gone.code == 0, f"delete --force: {gone}")
        made = stage.make_created(name)
    stage.expect(made.code == 0, f"create again: {made}")
    if made.code == 0:
        stage.expect(stage.world.status(name) == "created", "create again: it is not created")
        started = stage.run("start", name)
        stage.expect(started.code == 0, f"start: {started}")
    prove_removable(stage, name)


def prove_removable(stage: Stage, name: str) -> None:
    """Whatever state it is in: delete --force works, and nothing of it stays."""
    gone = stage.run("delete", "--force", name)
    stage.expect(gone.code == 0 and not gone.errors, f"delete --force: {gone}")
    prove_clean(stage)


def prove_clean(stage: Stage) -> None:
    """No process, cgroup, mount or state of any container."""
    stage.problems += stage.world.settle()
    names = stage.world.state_names()
    if names:
        # A planner that died while it wrote leaves a directory that only gc may remove.
        stage.expect(all(item.startswith((".new-", ".parents")) for item in names), f"state: {sorted(names)}")
        stage.world.age_leftovers()
        swept = stage.run("gc")
        stage.expect(swept.code == 0, f"gc: {swept}")
    stage.problems += stage.world.leftovers()


class Making(Operation):
    """create, run and run --detach."""

    def __init__(self, command: str, *, detach: bool = False) -> None:
        self.command = command
        self.detach = detach
        self.name = "run-detach" if detach else command

    def _argv(self, stage: Stage, name: str) -> list[str]:
        return [self.command, *(("--detach",) if self.detach else ()), *stage.flags(), name]

    def points(self, stage: Stage) -> Iterator[Point]:
        """Every step until the command's end, every moment of the planner, every step of the undo."""
        self.play(stage, TRACE)
        # Once more: the first may have filled a cache, which takes moments of its own.
        self.play(stage, TRACE)
        trace = stage.world.trace()
        steps = read_steps(trace["plan"])
        ops = [op for _, op, _, _ in steps]
        end = ops.index("WAIT_START") if "WAIT_START" in ops else len(ops)
        yield from (point for point in step_points(steps) if point.index < end)
        yield from planner_points(trace["moments"])
        undo = read_steps(trace["programs"]["delete"])
        yield from program_points(undo, f"front:COMMIT:errno={5}")
        if self.command == "create":
            yield from (replace(point, name=f"reclaim: {point.name}", index=-2) for point in program_points(undo, ""))

    def play(self, stage: Stage, point: Point) -> Outcome:
        """Make it; then everything must be there, or nothing, or something that the next create takes over."""
        name = stage.world.new_id()
        stage.configure(name)
        if point.index == -2:
            # A front that died before the end: the next one undoes its work, and is hit while it does.
            died = stage.run(*self._argv(stage, name), point=Point("", "kill", "front", failpoint="front:COMMIT:kill"))
            stage.expect(died.code == -9, f"was to die: {died}")
        outcome = stage.run(*self._argv(stage, name), point=point)
        self._judge(stage, point, outcome, name)
        return outcome

    def _judge(self, stage: Stage, point: Point, outcome: Outcome, name: str) -> None:
        check_words(stage, outcome)
        if point.kills_front:
            stage.expect(outcome.code == -9, "the front was to be killed")
            prove_usable(stage, name, may_exist=point.op == "DONE" or self._is_late(point))
            return
        if point.action == "none":
            stage.expect(outcome.code == 0, "was to succeed")
        if point.must_be_refused:
            stage.expect(outcome.code > 0, "was to be refused")
        if point.is_first_planner:
            stage.expect(outcome.code == 0, "a second planner was to help")
        if outcome.code == 0:
            wanted = ("created", "stopped") if self.command == "create" else ("running", "stopped")
            status = stage.world.status(name)
            gone = self.command == "run" and not self.detach
            stage.expect(status == "" if gone else status in wanted, f"it is {status!r}")
            prove_removable(stage, name)
        elif self._ended_itself(point, outcome):
            prove_removable(stage, name)
        else:
            # Only a fault in the undo itself may leave a record; and even that record does not reserve the name.
            if not self._is_in_undo(point):
                stage.expect(stage.world.status(name) == "", "it exists, though it was refused")
                prove_clean(stage)
            prove_usable(stage, name, may_exist=False)

    def _is_in_undo(self, point: Point) -> bool:
        # A planner that dies with its record written leaves the same: something for the next create to take over.
        return point.name.endswith("in the undo") or (point.victim == "planner" and point.action == "kill")

    def _is_late(self, point: Point) -> bool:
        # What a planner does to its front after the verdict may come after DONE.
        return point.op.startswith("after message") or (self.command == "run" and point.victim != "front")

    def _ended_itself(self, point: Point, outcome: Outcome) -> bool:
        # `run` passes the code of a program that was killed before it could begin.
        return self.command == "run" and point.victim == "init" and outcome.code == 137


class Starting(Operation):
    """start: the program, and the steps of init that wait for it."""

    name = "start"

    def points(self, stage: Stage) -> Iterator[Point]:
        """The program's steps, and init's from WAIT_START on (set at create)."""
        self.play(stage, TRACE)
        trace = stage.world.trace()
        yield from step_points(read_steps(trace["programs"]["start"]))
        steps = read_steps(trace["plan"])
        first = [op for _, op, _, _ in steps].index("WAIT_START")
        yield from (point for point in step_points(steps) if point.index >= first)

    def play(self, stage: Stage, point: Point) -> Outcome:
        """Create and start it; afterwards it runs, has ended, or can be started again."""
        name = stage.world.new_id()
        # With a notify socket, start waits until the program is ready or has ended.
        ends = point.victim != "front" or bool(stage.scene.env)
        stage.configure(name, None if ends else LONG)
        at_create = point if point.victim in ("init", "") else None
        made = stage.run("create", *stage.flags(), name, point=at_create)
        stage.expect(made.code == 0, f"create: {made}")
        outcome = stage.run("start", name, point=None if at_create else point)
        check_words(stage, outcome)
        status = stage.world.status(name)
        if point.kills_front:
            stage.expect(outcome.code == -9, "the front was to be killed")
            stage.expect(status in ("created", "running") or (ends and status == "stopped"), f"it is {status!r}")
            if status == "created":
                again = stage.run("start", name)
                stage.expect(again.code == 0, f"start again: {again}")
        elif point.must_be_refused:
            stage.expect(outcome.code > 0, "was to be refused")
        elif point.action == "none":
            stage.expect(outcome.code == 0, f"start: {outcome}")
        prove_removable(stage, name)
        return outcome


class Executing(Operation):
    """exec and exec --detach in a running container."""

    def __init__(self, *flags: str) -> None:
        self.flags = flags
        self.name = "-".join(("exec", *(flag.strip("-") for flag in flags if not flag.startswith("/"))))

    def points(self, stage: Stage) -> Iterator[Point]:
        """Every step of the plan and every moment of the planner."""
        self.play(stage, TRACE)
        trace = stage.world.trace()
        yield from step_points(read_steps(trace["plan"]))
        yield from planner_points(trace["moments"])

    def play(self, stage: Stage, point: Point) -> Outcome:
        """Whatever becomes of the exec, the container is as before, and another exec works."""
        name = stage.world.new_id()
        stage.make_running(name)
        outcome = stage.run("exec", *self.flags, name, "/bin/true", point=point)
        check_words(stage, outcome) if outcome.code != 137 else None
        if point.kills_front:
            # exec waits for no verdict: the front may have ended before the planner could kill it.
            stage.expect(outcome.code in ((-9, 0) if point.planner else (-9,)), "the front was to be killed")
        elif point.must_be_refused:
            stage.expect(outcome.code == 255, "was to be refused with 255")
        elif point.is_first_planner:
            stage.expect(outcome.code == 0, "a second planner was to help")
        elif point.action == "none":
            stage.expect(outcome.code == 0, "was to succeed")
        stage.problems += stage.world.settle(expected=1)
        stage.expect(stage.world.status(name) == "running", "the container does not run any more")
        again = stage.run("exec", name, "/bin/true")
        stage.expect(again.code == 0, f"exec again: {again}")
        prove_removable(stage, name)
        return outcome


class Mounting(Operation):
    """mounts add and mounts remove, in a running container."""

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self.name = f"mounts-{verb}"

    def _file(self, stage: Stage) -> str:
        path = stage.world.path / "mounts.json"
        path.write_text(json.dumps([{"destination": "/var", "type": "tmpfs", "source": "tmpfs"}]))
        return str(path)

    def points(self, stage: Stage) -> Iterator[Point]:
        """Every step of the plan and every moment of the planner."""
        self.play(stage, TRACE)
        trace = stage.world.trace()
        yield from step_points(read_steps(trace["plan"]))
        yield from planner_points(trace["moments"])

    def play(self, stage: Stage, point: Point) -> Outcome:
        """Whatever becomes of it, the container runs on, the same works again, and what was mounted can be removed."""
        name = stage.world.new_id()
        stage.make_running(name)
        if self.verb == "remove":
            there = stage.run("mounts", "add", name, self._file(stage))
            assert there.code == 0, there
        outcome = stage.run("mounts", self.verb, name, self._file(stage), point=point)
        check_words(stage, outcome)
        if point.kills_front:
            stage.expect(outcome.code == -9, "the front was to be killed")
        elif point.must_be_refused:
            stage.expect(outcome.code > 0, "was to be refused")
        elif point.action == "none" or point.is_first_planner:
            stage.expect(outcome.code == 0, "was to succeed")
        stage.problems += stage.world.settle(expected=1)
        stage.expect(stage.world.status(name) == "running", "the container does not run any more")
        for verb in ("add", "remove"):
            again = stage.run("mounts", verb, name, self._file(stage))
            stage.expect(again.code == 0, f"{verb}: {again}")
        prove_removable(stage, name)
        return outcome


class Programs(Operation):
    """kill, kill --all, state, delete and delete --force: pre-rendered programs of a container."""

    def __init__(self, *command: str, program: str = "", is_running: bool = True) -> None:
        self.command = command
        self.program = program or command[0]
        self.is_running = is_running
        self.name = "-".join(word.strip("-") for word in command)

    def _argv(self, name: str) -> list[str]:
        signal = ["KILL"] if self.command[0] == "kill" else []
        return [*self.command, name, *signal]

    def _begin(self, stage: Stage, name: str, point: Point) -> None:
        (stage.world.path / "hooks.txt").unlink(missing_ok=True)
        if self.is_running:
            stage.configure(name, LONG)
            made = stage.run("run", "--detach", *stage.flags(), name, point=TRACE if point is TRACE else None)
        else:
            stage.configure(name)
            made = stage.run("run", "--keep", *stage.flags(), name, point=TRACE if point is TRACE else None)
        assert made.code == 0, made

    def points(self, stage: Stage) -> Iterator[Point]:
        """Every step of the program."""
        self.play(stage, TRACE)
        yield from step_points(read_steps(stage.world.trace()["programs"][self.program]), actors=(FRONT,))

    def play(self, stage: Stage, point: Point) -> Outcome:
        """Hit it; afterwards the command can be repeated, and ends what it began."""
        name = stage.world.new_id()
        self._begin(stage, name, point)
        outcome = stage.run(*self._argv(name), point=point)
        check_words(stage, outcome)
        if point.kills_front:
            stage.expect(outcome.code == -9, "the front was to be killed")
        elif point.action == "none":
            stage.expect(outcome.code == 0, "was to succeed")
        elif point.must_be_refused and point.op != "HOOK_OUTPUT":
            stage.expect(outcome.code > 0, "was to be refused")
        status = stage.world.status(name)
        stage.expect(status != "paused", "it was left frozen")
        if self.program == "delete":
            self._finish(stage, name, point, outcome, status)
        elif self.program == "state":
            stage.expect(status == "running", f"it is {status!r}")
        else:
            again = stage.run(*self._argv(name))
            known = again.code == 0 or "not running" in again.err or "already finished" in again.err
            stage.expect(known, f"again: {again}")
            stage.problems += stage.world.settle()
        prove_removable(stage, name)
        return outcome

    def _finish(self, stage: Stage, name: str, point: Point, outcome: Outcome, status: str) -> None:
        if outcome.code == 0:
            stage.expect(status == "", f"deleted, and yet {status!r}")
        elif status:
            again = stage.run("delete", "--force", name)
            stage.expect(again.code == 0, f"delete again: {again}")
        stage.expect(stage.world.status(name) == "", "it is not gone after the second delete")
        hooks = stage.world.path / "hooks.txt"
        if hooks.exists():
            ran = hooks.read_text().count("poststop")
            stage.expect(ran <= 1, f"the poststop hook ran {ran} times")
            stage.expect(ran == 1 or point.op == "HOOK" or point.kills_front, "the poststop hook did not run")
        prove_clean(stage)
        prove_usable(stage, name, may_exist=False)
