"""The engine's layout of a scope: ``scope/{holder,container}``, exact limits below, and a little more above.

Against the host's systemd where it runs, and against a stand-in that makes the same groups elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from behaviours import facts, places, stand_in
from behaviours.facts import applies
from conformance import cgroups, harness
from conformance.harness import Bundle, Container, Runtime, unique_id, wait_until
from corral.cgroup.layout import read_layout
from corral.cgroup.location import CgroupfsLocation, place
from corral.cgroup.member import Member, members_of
from corral.cgroup.oom import OomCounters, attribute_oom
from corral.cgroup.systemd_layout import MEMORY_ALLOWANCE_BYTES, TASKS_ALLOWANCE

ENGINE = ("--cgroup-layout", "engine")
SLEEP = "exec sleep 1000"
LIMIT = 24 << 20
HOG = "exec dd if=/dev/zero of=/dev/null bs=200M count=1"
pytestmark = applies("root", "limits")


@pytest.fixture
def scope(runtime: Runtime, bundle: Bundle, directory: Path) -> Iterator[str]:
    """The path of the scope that the bundle asks for. systemd removes it when the container's delete has emptied it."""
    if facts.driver() == "systemd":
        path = places.give_place(bundle, "")
        yield path
        wait_until(lambda: all_gone(path), "the end of the scope")
        return
    with stand_in.acting(directory) as systemd:
        stand_in.look_for(runtime, systemd)
        yield f"/{systemd.slice}/{systemd.place(bundle, unique_id())}"


def tracked(path: str) -> Path:
    """A group in the hierarchy by which systemd tracks units."""
    mounted = cgroups.hierarchies()
    return mounted.get("", mounted.get("name=systemd", Path("/none"))) / path.lstrip("/")


def group_at(controller: str, path: str) -> Path:
    """A group in the hierarchy of a controller."""
    return cgroups.hierarchies()[controller] / path.lstrip("/")


def holder_of(scope: str) -> int:
    """The one process of the holder's group."""
    (pid,) = cgroups.processes(tracked(scope) / "holder")
    return pid


def all_gone(scope: str) -> bool:
    """No hierarchy has the scope's group, and nothing but it was in the slice."""
    return places.directories(scope) == []


def test_s0_1_container_is_in_its_leaf_and_the_holder_in_its_own(runtime: Runtime, bundle: Bundle, scope: str) -> None:
    """Scope, holder, container: the scope itself has no process where systemd tracks it."""
    with runtime.start(bundle, SLEEP, *ENGINE) as c:
        assert places.is_at(c.pid, f"{scope}/container")
        assert cgroups.processes(tracked(scope)) == []
        words = Path(f"/proc/{holder_of(scope)}/cmdline").read_bytes().split(b"\0")
        assert words[:3] == [b"corral-runtime", b"holder", c.id.encode()]
    assert wait_until(lambda: all_gone(scope), "the end of the scope")


def test_s0_1_process_of_exec_is_in_the_leaf(runtime: Runtime, bundle: Bundle, scope: str) -> None:
    """As the first one is."""
    script = "echo in; exec sleep 1000"
    with (
        runtime.start(bundle, SLEEP, *ENGINE) as c,
        c.runtime.background("exec", c.id, "/bin/sh", "-c", script) as (front, stdout),
    ):
        assert stdout.readline() == b"in\n"
        inside = [pid for pid in cgroups.processes(tracked(scope) / "container") if pid != c.pid]
        assert [places.is_at(pid, f"{scope}/container") for pid in inside] == [True]
        c.kill("KILL", "--all")
        # It reaps its process, without which the container's pid namespace does not end.
        assert front.wait(harness.DEADLINE_S) == 137


def test_s0_8_exact_limits_stand_on_the_leaf_and_more_on_the_scope(
    runtime: Runtime, bundle: Bundle, scope: str
) -> None:
    """Memory and processes by the stated allowance, so that the leaf is full first."""
    bundle.resources.update(places.LIMITS)
    with runtime.start(bundle, SLEEP, *ENGINE) as c:
        assert places.limits_of(c.pid) == places.LIMITS_READ
        if facts.driver() == "systemd":
            memory = group_at("memory", scope)
            name = "memory.max" if (memory / "memory.max").exists() else "memory.limit_in_bytes"
            assert int((memory / name).read_text()) == (64 << 20) + MEMORY_ALLOWANCE_BYTES
            assert int((group_at("pids", scope) / "pids.max").read_text()) == 40 + TASKS_ALLOWANCE


def reload_systemd() -> None:
    """The one that runs the container's unit."""
    subprocess.run(["systemctl", *(() if facts.is_root() else ("--user",)), "daemon-reload"], check=True, timeout=100)


@applies("systemd-driver")
def test_s0_8_limits_of_both_survive_a_reload_and_an_update(runtime: Runtime, bundle: Bundle, scope: str) -> None:
    """systemd writes the scope's anew; the leaf is none of its business."""
    bundle.resources.update(places.LIMITS)
    with runtime.start(bundle, SLEEP, *ENGINE) as c:
        reload_systemd()
        assert places.limits_of(c.pid) == places.LIMITS_READ
        c.runtime("update", "--pids-limit", "60", c.id)
        reload_systemd()
        assert places.limits_of(c.pid)["pids"] == "60"
        assert int((group_at("pids", scope) / "pids.max").read_text()) == 60 + TASKS_ALLOWANCE


def test_s2_7_stopped_container_keeps_its_scope_until_it_is_deleted(
    runtime: Runtime, bundle: Bundle, scope: str
) -> None:
    """The counters can be read after the end; the delete ends the holder and leaves nothing."""
    with runtime.start(bundle, SLEEP, *ENGINE) as c:
        holder = holder_of(scope)
        c.kill("KILL")
        c.wait()
        assert c.status == "stopped"
        assert cgroups.processes(tracked(scope) / "container") == []
        assert holder_of(scope) == holder
        c.delete()
        assert wait_until(lambda: all_gone(scope), "the end of the scope")
        assert has_ended(holder)


def has_ended(pid: int) -> bool:
    """Gone, or a zombie that whoever adopted it has not looked at yet."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in ("Z", "X")
    return True


def test_s2_7_container_in_the_foreground_leaves_no_holder(runtime: Runtime, bundle: Bundle, scope: str) -> None:
    """`run` waits for the container, then ends what kept its scope."""
    assert runtime.run(bundle, "echo ran", *ENGINE).stdout == "ran\n"
    assert wait_until(lambda: all_gone(scope), "the end of the scope")


def test_s2_7_same_scope_can_be_had_again_at_once(runtime: Runtime, bundle: Bundle, scope: str) -> None:
    """As when a caller restarts a container under its old id."""
    for _ in range(3):
        assert runtime.run(bundle, "echo ran", *ENGINE).stdout == "ran\n"


@pytest.mark.parametrize("step", ["HOLD:after", "SCOPE", "SCOPE:after", "CG_ATTACH", "CG_ATTACH:after", "COMMIT"])
@pytest.mark.parametrize("action", ["errno=5", "kill"])
def test_s2_12_interrupted_start_leaves_no_holder(
    runtime: Runtime, bundle: Bundle, scope: str, step: str, action: str
) -> None:
    """Whatever step is the last one: what was made is undone at once, or by the next delete."""
    bundle.shell("true")
    bundle.write()
    name = unique_id()
    words = ("create", "--bundle", bundle.path, *ENGINE, name)
    done = runtime(
        *words, check=False, env={"CORRAL_FAILPOINT": f"front:{step}:{action}"}, output=bundle.path / "output"
    )
    assert done.returncode != 0
    runtime("delete", "--force", name)
    assert wait_until(lambda: all_gone(scope), "the end of the scope")
    assert wait_until(lambda: not holders(name), "the end of the holder")


@pytest.mark.parametrize("step", ["SCOPE:after", "CG_ATTACH:after", "CG_READ"])
def test_s2_12_gc_ends_the_holder_of_an_interrupted_start(
    runtime: Runtime, bundle: Bundle, scope: str, step: str
) -> None:
    """Without anybody who knows the container's name."""
    bundle.resources["pids"] = {"limit": 40}
    bundle.shell("true")
    bundle.write()
    name = unique_id()
    words = ("create", "--bundle", bundle.path, *ENGINE, name)
    runtime(*words, check=False, env={"CORRAL_FAILPOINT": f"front:{step}:kill"}, output=bundle.path / "output")
    wait_until(lambda: runtime("gc").returncode == 0 and not (runtime.root / name).exists(), "the end of the record")
    assert wait_until(lambda: all_gone(scope), "the end of the scope")
    assert wait_until(lambda: not holders(name), "the end of the holder")


def holders(name: str) -> list[str]:
    """Processes that keep the scope of a container of this name, whether they are in it or not."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().split(b"\0")[1:3] == [b"holder", name.encode()]:
                found.append(path.parent.name)
    return found


def test_s2_7_holder_that_was_killed_does_not_stand_in_the_way(runtime: Runtime, bundle: Bundle, scope: str) -> None:
    """It holds nothing that anybody needs: the container runs on, and is deleted as ever."""
    with runtime.start(bundle, SLEEP, *ENGINE) as c:
        os.kill(holder_of(scope), signal.SIGKILL)
        assert c.status == "running"
        assert c.sh("echo in").stdout == "in\n"
        c.kill("KILL")
        c.wait()
        c.delete()
        assert wait_until(lambda: all_gone(scope), "the end of the scope")


def test_s2_8_paused_container_keeps_its_holder_running(runtime: Runtime, bundle: Bundle, scope: str) -> None:
    """Frozen is the leaf; the forced delete thaws it."""
    with runtime.start(bundle, SLEEP, *ENGINE) as c:
        c.command("pause")
        assert c.status == "paused"
        assert Path(f"/proc/{holder_of(scope)}/stat").read_text().rsplit(")", 1)[1].split()[0] == "S"
        c.delete("--force")
        assert c.wait() == 137
    assert wait_until(lambda: all_gone(scope), "the end of the scope")


def memory_member(path: str) -> Member:
    """A group in the hierarchy that has the memory controller."""
    layout = read_layout()
    members = members_of(layout, place(CgroupfsLocation(path), layout))
    return next(member for member in members if "memory" in member.controllers)


@contextlib.contextmanager
def created_hog(runtime: Runtime, bundle: Bundle, scope: str) -> Iterator[tuple[Container, OomCounters]]:
    """A created container that will run out of its memory, and counters opened before it starts."""
    # No limit on swap: of memory and swap together v1 does not count the hits.
    bundle.resources["memory"] = {"limit": LIMIT}
    with runtime.create(bundle, HOG, *ENGINE) as c, OomCounters(memory_member(f"{scope}/container")) as counters:
        yield c, counters


def test_s4_7_counters_of_an_oom_kill_can_be_read_after_the_end(runtime: Runtime, bundle: Bundle, scope: str) -> None:
    """Killed in its first moments, every time: the holder keeps the scope until the counters are read."""
    for _ in range(10):
        with created_hog(runtime, bundle, scope) as (c, counters):
            before = counters.sample()
            c.start()
            assert c.wait() != 0
            after = counters.sample()
            assert (after[0].is_gone, after[0].kills - before[0].kills) == (False, 1)
            c.delete()
        assert wait_until(lambda: all_gone(scope), "the end of the scope")


@applies("systemd-driver")
def test_s2_7_no_unit_is_left_after_an_oom_kill(runtime: Runtime, bundle: Bundle, scope: str) -> None:
    """Neither active nor failed."""
    with created_hog(runtime, bundle, scope) as (c, _):
        c.start()
        c.wait()
        c.delete()
    words = ["systemctl", *(() if facts.is_root() else ("--user",)), "list-units", "--all", "--no-legend"]
    unit = scope.rpartition("/")[2]

    def listed() -> str:
        return subprocess.run([*words, unit], capture_output=True, text=True, check=True, timeout=100).stdout

    assert wait_until(lambda: not listed(), f"the end of {unit}")


def test_s4_9_limit_that_was_hit_is_the_leafs(runtime: Runtime, bundle: Bundle, scope: str) -> None:
    """Not the scope's, which is above it by the allowance; and the holder lives."""
    with created_hog(runtime, bundle, scope) as (c, counters):
        before = counters.sample()
        c.start()
        c.wait()
        verdict = attribute_oom(before, counters.sample())
        leaf = str(group_at("memory", f"{scope}/container"))
        assert (verdict.whose, verdict.limit_of) == ("own", leaf)
        assert not has_ended(holder_of(scope))


@applies("v2")
def test_s4_9_oom_group_stands_on_the_leaf_alone(runtime: Runtime, bundle: Bundle, scope: str) -> None:
    """The whole container goes at once, the holder and the counters stay."""
    bundle.resources["unified"] = {"memory.oom.group": "1"}
    with created_hog(runtime, bundle, scope) as (c, counters):
        assert (tracked(scope) / "container/memory.oom.group").read_text() == "1\n"
        assert (tracked(scope) / "memory.oom.group").read_text() == "0\n"
        before = counters.sample()
        c.start()
        assert c.wait() == 137
        assert attribute_oom(before, counters.sample()).whose == "own"
        assert not has_ended(holder_of(scope))


def test_effective_limit_is_the_leafs_own(runtime: Runtime, bundle: Bundle, scope: str) -> None:
    """The scope's wider one never binds."""
    bundle.resources["pids"] = {"limit": 40}
    with runtime.start(bundle, SLEEP, *ENGINE) as c:
        found = json.loads(c.runtime("state", "--effective", "--json", c.id).stdout)
        assert [item["bound_by"] for item in found if item["name"] == "pids.max"] == [
            str(group_at("pids", f"{scope}/container"))
        ]


@applies("v2", "nsdelegate")
def test_s1_2_writable_groups_begin_at_the_leaf(runtime: Runtime, bundle: Bundle, scope: str) -> None:
    """What a container may manage lies below its own group, not at the scope."""
    with runtime.start(bundle, SLEEP, *ENGINE, "--cgroup-writable") as c:
        assert places.is_at(c.pid, f"{scope}/container/init")
        assert (tracked(scope) / "container/cgroup.max.depth").read_text() != "max\n"
        assert (tracked(scope) / "cgroup.max.depth").read_text() == "max\n"


@pytest.mark.parametrize(
    ("words", "text"),
    [(("--cgroup-layout", "other"), "neither 'scope' nor 'engine'"), (ENGINE, "the driver is cgroupfs")],
)
def test_layout_that_cannot_be_is_refused(runtime: Runtime, bundle: Bundle, words: tuple[str, str], text: str) -> None:
    """An unknown one, and the engine's where there is no scope."""
    runtime.global_args = []
    bundle.linux["cgroupsPath"] = f"/{unique_id()}"
    assert text in runtime.run(bundle, "true", *words, check=False).stderr
