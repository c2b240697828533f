"""What the engine is asked for in the sweep, and what must be true of it afterwards, whoever died on the way."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corral.engine import leases, ledger, names
from corral.engine.reconcile import reconcile
from corral.errors import AlreadyExists, CorralError, FailedPrecondition, NotFound
from root.engine.conftest import Engine, eventually
from sweep.engine_points import moment_faults, step_faults
from sweep.engine_victim import NO_FAULT, VICTIMS, Fault, Outcome, play, processes_of

# What a keeper holds of containers.
HELD_FOR_OTHERS = ("pipe:", "anon_inode:[pidfd]", "/dev/pt")
SOON_S = 45.0
CODE = 7
# Says when it can be asked to end, so that its code tells whether it was asked, or killed.
WORKLOAD = f"trap 'exit {CODE}' TERM; echo run >> /mnt/runs; sleep 100000 & wait"


@dataclass
class Stage:
    """One store in which point after point is played, and what was wrong in the present one."""

    engine: Engine
    path: Path
    prefix: str
    problems: list[str] = field(default_factory=list)

    def expect(self, condition: object, problem: str) -> None:
        """Note a broken promise."""
        if not condition:
            self.problems.append(problem)

    @property
    def store(self) -> str:
        return self.engine.places.store

    @property
    def runs(self) -> Path:
        """The file in which each run of the workload writes a line."""
        return self.path / "shared" / "runs"

    def workload(self, **members: Any) -> dict[str, Any]:
        """A definition of a container named "it"."""
        mount = {"type": "bind", "source": str(self.path / "shared"), "target": "/mnt"}
        return self.engine.request("sh", "-c", WORKLOAD, name="it", mounts=[mount], **members)

    def count_runs(self) -> int:
        """How often the workload has begun since the point did."""
        return len(self.runs.read_text().splitlines()) if self.runs.exists() else 0

    def find_or_none(self, name: str = "it") -> str | None:
        """The id of a container of this name."""
        try:
            return names.find_id(self.engine.places, name)
        except NotFound:
            return None

    def run_workload(self) -> str:
        """A running container whose trap is set."""
        container: str = self.engine.call("run", self.workload())["id"]
        eventually(lambda: self.count_runs() >= 1, SOON_S)
        return container

    def victim(self, fault: Fault, action: Callable[[], Any], *, is_writing: bool = False) -> Outcome:
        """Do it in a process of its own, with the fault."""
        outcome = play(self.store, fault, action, self.path / "report.json", is_writing=is_writing)
        self.expect(not outcome.trace, f"a traceback: {outcome.trace}")
        is_met = not outcome.moments or len(outcome.moments) >= fault.at
        if "engine" in fault.victims and is_met:
            self.expect(outcome.code == -9, f"the engine was to be killed: {outcome}")
        elif fault == NO_FAULT:
            self.expect(outcome.code == 0, f"refused without a fault: {outcome.refusal}")
        return outcome

    def recover(self) -> None:
        """After a broken promise: what the next point is to begin with."""
        self.engine.close()

    def prove_connected(self, container: str) -> None:
        """That a container that runs has the network it is to have: here none."""

    def settle(self) -> None:
        """What the next engine does first, when nobody is at work on a container: that it would leave alone."""
        eventually(lambda: not self._is_at_work(), SOON_S)
        for row in reconcile(self.engine.places):
            self.expect(not row.get("why"), f"reconciliation: {row}")

    def _is_at_work(self) -> bool:
        places = self.engine.places
        states = [ledger.read(places, container) for container in names.list_ids(places)]
        return any(leases.is_owned(entry) for state in states for entry in state.get("leases", {}).values())

    # ---- what is left -----------------------------------------------------------------------------------------

    def leftovers(self) -> list[str]:
        """What stands in the store, the run directory, the cgroups, the mounts and the process table."""
        places = self.engine.places
        folders = (places.containers, places.names, places.pods, f"{places.run}/containers", places.runtime_root)
        found = []
        for folder in folders:
            kept = {".lock", ".parents", ".seccomp"}
            found += [f"{folder}/{name}" for name in sorted(set(os.listdir(folder)) - kept)]
        found += [f"process {pid}" for pid in processes_of(self.store, "monitor")]
        for pid in processes_of(self.store, "keeper"):
            with contextlib.suppress(OSError):
                held = sorted(os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))
                found += [f"the keeper's {item}" for item in held if item.startswith(HELD_FOR_OTHERS)]
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        found += [f"mount {line}" for line in mounts if self.store in line]
        for line in mounts:
            left, _, right = line.partition(" - ")
            parent = Path(left.split(" ", 5)[4]) / self.prefix
            if right.split(" ", 1)[0] in ("cgroup", "cgroup2") and parent.is_dir():
                found += [f"cgroup {path}" for path in parent.iterdir() if path.is_dir() and path.name != "holder"]
        return found

    def prove_clean(self) -> None:
        """After everything was removed nothing is left, and the keeper holds nothing for anybody."""
        left: list[str] = []

        def is_clean() -> bool:
            left[:] = self.leftovers()
            return not left

        try:
            eventually(is_clean, SOON_S)
        except AssertionError:
            self.problems += [f"left: {item}" for item in left]

    def remove_all(self) -> None:
        """Remove what a point made, as a person would: rm --force, again if the first was refused."""
        for pod in self.engine.call("pod_ps"):
            self.engine.call("pod_rm", pod["id"], force=True)
        for container in names.list_ids(self.engine.places):
            self.remove(container)

    def remove(self, container: str) -> None:
        """rm --force; a container that is just being removed is waited for."""
        try:
            self.engine.call("rm", container, force=True)
        except NotFound:
            return
        except CorralError as exc:
            self.problems.append(f"rm: {exc}")


class Operation:
    """One verb. ``play`` prepares, has a victim do it with the fault, and proves the promises."""

    name = ""
    has_steps = False
    # Whether there are other processes of ours that can die.
    has_others = True

    def points(self, stage: Stage) -> Iterator[Fault]:
        """Every fault there is for it, from a run without one. The first run is another: it starts the keeper."""
        self.play(stage, NO_FAULT)
        outcome = self.play(stage, NO_FAULT)
        yield from moment_faults(outcome.moments, tuple(VICTIMS) if self.has_others else ("engine",))
        if self.has_steps:
            yield from step_faults(outcome.steps)

    def play(self, stage: Stage, fault: Fault) -> Outcome:
        """The whole of one point."""
        stage.runs.unlink(missing_ok=True)
        outcome = self.do(stage, fault)
        stage.remove_all()
        stage.prove_clean()
        return outcome

    def do(self, stage: Stage, fault: Fault) -> Outcome:
        """Prepare, do it, check."""
        raise NotImplementedError


def prove_running(stage: Stage, container: str, fault: Fault, *, runs: int = 1) -> None:
    """It runs, once; asked to end it does so with its own code, told once."""
    engine = stage.engine
    facts = engine.look(container)
    stage.expect(facts.status == "running", f"it is {facts.status}, error {facts.state.get('error')!r}")
    if facts.status != "running":
        return
    eventually(lambda: stage.count_runs() >= runs, SOON_S)
    stage.expect(stage.count_runs() <= max(facts.run, runs), f"{stage.count_runs()} copies began in {facts.run} runs")
    eventually(lambda: len(engine.call("top", container)) == 2, SOON_S)
    stage.prove_connected(container)
    prove_stoppable(stage, container, fault)


def prove_ran(stage: Stage, container: str, runs: int) -> None:
    """What was said to run does so, or its end is told: a fault after the word was given may end it as well."""
    ends = 0

    def is_true() -> bool:
        nonlocal ends
        ends = stage.engine.events(container).count("died")
        return stage.count_runs() >= runs or ends == runs

    try:
        eventually(is_true, SOON_S)
    except AssertionError:
        stage.problems.append(f"it was said to run: {stage.count_runs()} began, {ends} ends told")


def prove_stoppable(stage: Stage, container: str, fault: Fault) -> None:
    """``stop`` ends it with the code of its trap; unknown only when both who could see it were killed."""
    end = stage.engine.call("stop", container)["exit"]
    prove_code(stage, container, end, fault)


def prove_code(stage: Stage, container: str, end: dict[str, Any], fault: Fault, code: int = CODE) -> None:
    """The code is the real one, or stated as unknown; the end was told once."""
    allowed = (code, None) if fault.may_lose_the_end else (code,)
    stage.expect(end.get("code", "none") in allowed, f"it ended with {end}")
    stage.expect((end.get("code") is None) == (end.get("source") == "unknown"), f"code and source differ: {end}")
    facts = stage.engine.look(container)
    stage.expect(facts.status == "exited", f"after the stop it is {facts.status}")
    told = [event for event in stage.engine.events(container) if event == "died"]
    stage.expect(len(told) <= facts.run, f"{len(told)} ends were told of {facts.run} runs")
    stage.expect("died" in told, "its end was not told")


class Creating(Operation):
    """create: afterwards it is there, whole, or its name is free."""

    name = "create"
    has_others = False

    def do(self, stage: Stage, fault: Fault) -> Outcome:
        request = stage.workload()
        outcome = stage.victim(fault, lambda: stage.engine.call("create", request))
        stage.settle()
        if outcome.code > 0:
            stage.expect(stage.find_or_none() is None, "refused, and yet it is there")
        with contextlib.suppress(AlreadyExists):
            stage.engine.call("create", request)
        container = stage.find_or_none()
        assert container is not None
        stage.expect(len(names.list_ids(stage.engine.places)) == 1, "there are two")
        stage.engine.call("start", container)
        prove_running(stage, container, NO_FAULT)
        return outcome


class Running(Operation):
    """run: afterwards it runs, or the same can be asked for at once. ``--rm``: a refused one is gone."""

    has_steps = True

    def __init__(self, *, auto_remove: bool = False) -> None:
        self.name = "run-rm" if auto_remove else "run"
        self.auto_remove = auto_remove

    def do(self, stage: Stage, fault: Fault) -> Outcome:
        request = stage.workload(auto_remove=True) if self.auto_remove else stage.workload()
        outcome = stage.victim(fault, lambda: stage.engine.call("run", request))
        stage.settle()
        container = stage.find_or_none()
        if container is not None and outcome.code == 0:
            prove_ran(stage, container, 1)
        if self.auto_remove and container is not None and "died" in stage.engine.events(container):
            eventually(lambda: stage.find_or_none() is None, SOON_S)
            container = None
        if container is None:
            # Gone as it was to go after its end; that may have been the fault's doing, and is then on file.
            ran = outcome.code == 0 and outcome.result is not None and stage.engine.events(outcome.result["id"])
            stage.expect(outcome.code != 0 or "died" in (ran or []), "it was said to run, and is not there")
            container = stage.engine.call("run", request)["id"]
        stage.engine.call("start", container)
        if not self.auto_remove:
            prove_running(stage, container, fault)
            return outcome
        eventually(lambda: stage.count_runs() >= 1, SOON_S)
        end = stage.engine.call("stop", container)["exit"]
        stage.expect(end.get("code") in ((CODE, None) if fault.may_lose_the_end else (CODE,)), f"it ended with {end}")
        eventually(lambda: stage.find_or_none() is None, SOON_S)
        return outcome


class Starting(Operation):
    """start of a container that ran before: the old end stays true until the new run is there."""

    name = "start"

    def do(self, stage: Stage, fault: Fault) -> Outcome:
        container = stage.run_workload()
        stage.engine.call("stop", container)
        outcome = stage.victim(fault, lambda: stage.engine.call("start", container))
        stage.settle()
        facts = stage.engine.look(container)
        stage.expect(facts.status in ("running", "exited"), f"it is {facts.status}")
        if outcome.code == 0:
            prove_ran(stage, container, 2)
        stage.engine.call("start", container)
        prove_running(stage, container, fault, runs=2)
        return outcome


class Executing(Operation):
    """exec: the container goes on, and the next exec works. ``--detach``: nobody waits for it."""

    has_steps = True

    def __init__(self, *, is_detached: bool = False) -> None:
        self.name = "exec-detach" if is_detached else "exec"
        self.is_detached = is_detached

    def do(self, stage: Stage, fault: Fault) -> Outcome:
        container = stage.run_workload()
        init = stage.engine.pid(container)
        request = {"command": ["sh", "-c", "exit 8"]}
        outcome = stage.victim(
            fault, lambda: stage.engine.call("exec", container, request, is_detached=self.is_detached)
        )
        if outcome.code == 0 and not self.is_detached:
            code = outcome.result["exit"]["code"]
            # Its process may have been the one that was killed.
            allowed = (8, 137, None) if fault.victims or fault.failpoint else (8,)
            stage.expect(code in allowed, f"the exec ended with {outcome.result}")
        stage.settle()
        again = stage.engine.call("exec", container, request)
        stage.expect(again["exit"]["code"] == 8, f"the next exec ended with {again}")
        stage.expect(stage.engine.pid(container) == init, "it is another process")
        prove_running(stage, container, fault)
        return outcome


class Stopping(Operation):
    """stop: one that was begun is finished, the code is the trap's; or SIGKILL's, with no grace."""

    def __init__(self, *, is_kill: bool = False) -> None:
        self.name = "stop-now" if is_kill else "stop"
        self.is_kill = is_kill

    def do(self, stage: Stage, fault: Fault) -> Outcome:
        container = stage.run_workload()
        grace = 0.0 if self.is_kill else None
        outcome = stage.victim(fault, lambda: stage.engine.call("stop", container, timeout_s=grace))
        stage.settle()
        if outcome.code == 0:
            stage.expect(stage.engine.look(container).status == "exited", "it was said to have ended")
        end = stage.engine.call("stop", container, timeout_s=grace)["exit"]
        prove_code(stage, container, end, fault, 137 if self.is_kill else CODE)
        return outcome


class Killing(Operation):
    """kill: the signal is sent or can be sent; the end is followed up."""

    name = "kill"

    def do(self, stage: Stage, fault: Fault) -> Outcome:
        container = stage.run_workload()
        outcome = stage.victim(fault, lambda: stage.engine.call("kill", container))
        stage.settle()
        with contextlib.suppress(FailedPrecondition):
            stage.engine.call("kill", container)
        end = stage.engine.wait(container)
        prove_code(stage, container, end, fault, 137)
        return outcome


class Removing(Operation):
    """rm: it is there or it is gone; asked again it is gone, and its name is free."""

    def __init__(self, *, force: bool = False) -> None:
        self.name = "rm-force" if force else "rm"
        self.force = force

    def do(self, stage: Stage, fault: Fault) -> Outcome:
        container = stage.run_workload()
        if not self.force:
            stage.engine.call("stop", container)
        outcome = stage.victim(fault, lambda: stage.engine.call("rm", container, force=self.force))
        stage.settle()
        if outcome.code == 0:
            stage.expect(stage.find_or_none() is None, "it was said to be gone")
        with contextlib.suppress(NotFound):
            stage.engine.call("rm", container, force=True)
        stage.expect(stage.engine.call("create", stage.workload())["name"] == "it", "its name is taken")
        return outcome


class Restarting(Operation):
    """restart: it runs again, or it can be started."""

    name = "restart"

    def do(self, stage: Stage, fault: Fault) -> Outcome:
        container = stage.run_workload()
        outcome = stage.victim(fault, lambda: stage.engine.call("restart", container))
        stage.settle()
        if outcome.code == 0:
            prove_ran(stage, container, 2)
        stage.engine.call("start", container)
        prove_running(stage, container, fault)
        return outcome


class Pausing(Operation):
    """pause and unpause: it is frozen or it is not, and it can be made to go on."""

    def __init__(self, verb: str) -> None:
        self.name = verb

    def do(self, stage: Stage, fault: Fault) -> Outcome:
        container = stage.run_workload()
        if self.name == "unpause":
            stage.engine.call("pause", container)
        outcome = stage.victim(fault, lambda: stage.engine.call(self.name, container))
        stage.settle()
        if outcome.code == 0:
            expected = "paused" if self.name == "pause" else "running"
            stage.expect(stage.engine.look(container).status == expected, f"it was said to be {expected}")
        stage.engine.call("unpause", container)
        prove_running(stage, container, fault)
        return outcome


class Renaming(Operation):
    """rename: one name, the old one or the new one."""

    name = "rename"
    has_others = False

    def do(self, stage: Stage, fault: Fault) -> Outcome:
        container = stage.engine.call("create", stage.workload())["id"]
        outcome = stage.victim(fault, lambda: stage.engine.call("rename", container, "that"))
        stage.settle()
        held = sorted(name for name in os.listdir(stage.engine.places.names) if not name.startswith("."))
        stage.expect(held in (["it"], ["that"]), f"its names are {held}")
        stage.expect(held == [stage.engine.look(container).definition["name"]], f"its names are {held}")
        stage.engine.call("rename", container, "that")
        stage.expect(stage.find_or_none("that") == container, "it has not the new name")
        stage.engine.call("create", stage.workload())
        return outcome


class Podding(Operation):
    """pod create, with a container that starts it, and pod rm."""

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self.has_others = verb == "pod_rm"
        self.name = verb.replace("_", "-")

    def do(self, stage: Stage, fault: Fault) -> Outcome:
        engine = stage.engine
        if self.verb == "pod_create":
            outcome = stage.victim(fault, lambda: engine.call("pod_create", {"name": "pod"}))
            stage.settle()
            with contextlib.suppress(AlreadyExists):
                engine.call("pod_create", {"name": "pod"})
            engine.call("pod_start", "pod")
            stage.expect(len(engine.call("pod_ps")) == 1, "there are two")
            engine.call("pod_rm", "pod", force=True)
            return outcome
        engine.call("pod_create", {"name": "pod"})
        engine.call("pod_start", "pod")
        outcome = stage.victim(fault, lambda: engine.call("pod_rm", "pod", force=True))
        stage.settle()
        with contextlib.suppress(NotFound):
            engine.call("pod_rm", "pod", force=True)
        stage.expect(engine.call("pod_ps") == [], "it is not gone")
        engine.call("pod_create", {"name": "pod"})
        return outcome


OPERATIONS: tuple[Operation, ...] = (
    Creating(),
    Running(),
    Running(auto_remove=True),
    Starting(),
    Executing(),
    Executing(is_detached=True),
    Stopping(),
    Stopping(is_kill=True),
    Killing(),
    Removing(),
    Removing(force=True),
    Restarting(),
    Pausing("pause"),
    Pausing("unpause"),
    Renaming(),
    Podding("pod_create"),
    Podding("pod_rm"),
)
