"""Where no cgroup can be had: everything else works, the absence is on record, and what needs one is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sweep.world import Outcome
from userns.conftest import PLACES, Place

pytestmark = pytest.mark.requires("root", "userns", "busybox")

NO_CGROUP = 3


def lines(outcome: Outcome, beginning: str) -> list[str]:
    """The lines of stderr with this beginning."""
    return [line for line in outcome.err.splitlines() if line.startswith(beginning)]


def create(place: Place, spec: dict[str, Any] | None = None) -> tuple[str, Outcome]:
    """A created container, and what was said."""
    name = place.world.new_id()
    bundle = place.configure(spec or place.spec())
    return name, place.run("create", "--bundle", str(bundle), name)


def finish(place: Place, name: str) -> None:
    """Delete by force, and look for leftovers."""
    assert place.run("delete", "--force", name).code == 0
    assert place.world.settle() == []
    assert place.world.leftovers() == []


def status(place: Place, name: str) -> str:
    """The status that the runtime tells in this place."""
    shown = place.run("state", name)
    assert shown.code == 0, shown
    return str(json.loads(shown.out)["status"])


def test_s2_1_a_life_without_cgroup_has_one_warning(place: Place) -> None:
    """create, start, state, kill and delete exit 0 without an error line; create alone warns, exactly once."""
    name, made = create(place)
    assert made.code == 0, made
    assert made.errors == []
    warned = [line for line in made.err.splitlines() if "no cgroup" in line]
    assert len(warned) == (0 if place.name == "disabled" else 1), made.err
    assert status(place, name) == "created"
    for command in (("start", name), ("kill", name, "KILL")):
        done = place.run(*command)
        assert (done.code, done.err) == (0, ""), done
    assert place.world.settle() == []
    assert status(place, name) == "stopped"
    gone = place.run("delete", name)
    assert (gone.code, gone.err) == (0, ""), gone
    assert place.world.leftovers() == []


def test_s2_1_run_and_exec_work_without_cgroup(place: Place) -> None:
    """The program is root of its user namespace, and exec joins it."""
    name = place.world.new_id()
    bundle = place.configure(place.spec())
    made = place.run("run", "--detach", "--bundle", str(bundle), name)
    assert made.code == 0, made
    done = place.run("exec", name, "/bin/id", "-u")
    assert (done.code, done.out, done.err) == (0, "0\n", "")
    finish(place, name)


def test_s2_2_the_absence_is_on_record_with_its_reason(place: Place) -> None:
    """state.json tells of each hierarchy: absent, and why; or why none can be told apart at all."""
    name, made = create(place)
    assert made.code == 0, made
    state = json.loads((place.world.root / name / "state.json").read_text())
    groups = state["cgroups"]
    if place.name == "disabled":
        assert groups == []
        assert state["cgroupAbsences"] == ["the cgroup manager is disabled"]
    elif "resolve cgroup path" in made.err:
        # On pure v2 with a cgroup namespace below the root: its mount shows nothing that is ours.
        assert (groups, place.is_user) == ([], False)
        assert [reason in made.err for reason in state["cgroupAbsences"]] == [True]
    else:
        wanted = {"read-only file system"} if place.name == "nested-read-only" else {"permission denied"}
        assert {group["fate"] for group in groups} == {"absent"}
        assert {group["reason"] for group in groups} <= wanted | {
            "operation not permitted",
            "no such file or directory",
        }
    finish(place, name)


@pytest.mark.parametrize("place", [name for name in PLACES if name != "disabled"], indirect=True)
def test_s2_4_an_explicit_path_without_permission_is_refused(place: Place) -> None:
    """The message names the path and the kernel's answer, the hint the delegation; nothing is left."""
    spec = place.spec()
    spec["linux"]["cgroupsPath"] = f"/{place.world.prefix}/asked"
    name = place.world.new_id()
    bundle = place.world.make_bundle("bundle")
    (bundle / "config.json").write_text(json.dumps(spec))
    made = place.run("create", "--bundle", str(bundle), name)
    assert made.code == 1, made
    assert len(made.errors) == 1
    assert "(config linux.cgroupsPath)" in made.err
    assert f"/{place.world.prefix}" in made.errors[0]
    assert any(word in made.err for word in ("permission denied", "read-only file system")), made.err
    hint = "read-only here" if "read-only" in made.errors[0] else "delegated to this user"
    assert hint in lines(made, "hint: ")[0]
    assert place.world.settle() == []
    assert place.world.leftovers() == []


LIMITS = [
    {"memory": {"limit": 64 << 20}},
    {"pids": {"limit": 10}},
    {"cpu": {"quota": 50000, "period": 100000}},
]


def test_s2_4_a_limit_without_cgroup_is_refused(place: Place) -> None:
    """Never silently unlimited: the config's place and the reason are named."""
    for limit in LIMITS:
        spec = place.spec()
        spec["linux"]["resources"] |= limit
        _, made = create(place, spec)
        assert made.code == 1, made
        assert len(made.errors) == 1
        assert "(config linux." in made.err
        assert lines(made, "hint: ") != []
        assert place.world.settle() == []
        assert place.world.leftovers() == []


def test_s2_10_kill_all_needs_something_that_knows_all(place: Place) -> None:
    """With its own pid namespace all can be killed; with the host's it is refused, and nothing else is hit."""
    name = place.world.new_id()
    spec = place.spec()
    made = place.run("run", "--detach", "--bundle", str(place.configure(spec)), name)
    assert made.code == 0, made
    done = place.run("kill", "--all", name, "KILL")
    assert done.code == 0, done
    assert place.world.settle() == []
    finish(place, name)


def test_s2_11_what_needs_a_cgroup_says_so(place: Place) -> None:
    """`no cgroup (reason)` and an exit code of its own, not a traceback."""
    name = place.world.new_id()
    made = place.run("run", "--detach", "--bundle", str(place.configure(place.spec())), name)
    assert made.code == 0, made
    for command in (("pause",), ("ps",), ("update", "--pids-limit", "10"), ("events", "--stats")):
        done = place.run(*command, name)
        assert done.code == NO_CGROUP, done
        assert f"container {name!r} has no cgroup (" in done.errors[0]
        assert len(done.errors) == 1
    finish(place, name)


def test_s2_6_delete_force_of_an_unknown_id_succeeds(place: Place) -> None:
    """A plain one exits 1 with the words that callers match."""
    assert place.run("delete", "--force", "nobody").code == 0
    gone = place.run("delete", "nobody")
    assert gone.code == 1
    assert "container does not exist" in gone.err


def test_groups_need_more_than_one_mapped_id(place: Place) -> None:
    """Additional groups: refused with their place in the config where setgroups is denied, else they are there."""
    spec = place.spec()
    spec["process"]["user"]["additionalGids"] = [0]
    name, made = create(place, spec)
    if place.name == "ranges":
        assert made.code == 0, made
        finish(place, name)
    else:
        assert made.code == 1, made
        assert "(config process.user.additionalGids)" in made.err
