"""``delete --regex``, ``pause``, ``resume`` and ``mounts``: what Python says of them before anything is done."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from corral.errors import CorralError
from corral.runtime.commands import delete
from corral.runtime.commands.mounts import prepare_mounts
from corral.runtime.options import parse
from corral.runtime.plan import Plan
from unit.runtime.bundles import around
from unit.runtime.commands.command_lines import GROUP, Run, make_container
from unit.runtime.jobs import config, namespaces, ops
from unit.runtime.test_record import live_as


@pytest.fixture
def front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A front beside the launcher that writes down how it was called, and refuses the container "stuck"."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = '#!/bin/sh\necho "$@" >> "$(dirname "$0")/log"\ncase "$*" in *stuck*) exit 1;; esac\n'
    (folder / "corral-runtime").write_text(script)
    (folder / "corral-runtime").chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(folder / "corral-planner")])
    return folder


def test_every_match_is_deleted_by_the_front(run: Run, root: Path, front: Path) -> None:
    """In order, with the root and the caller's force."""
    for name in ("web-2", "db", "web-1"):
        make_container(root, name)
    assert 0 == run("delete", "--regex", "^web-")[0]
    assert 0 == run("delete", "--force", "--regex", "b")[0]

    assert [
        f"--root {root} delete web-1",
        f"--root {root} delete web-2",
        f"--root {root} delete --force db",
        f"--root {root} delete --force web-1",
        f"--root {root} delete --force web-2",
    ] == (front / "log").read_text().splitlines()


def test_one_that_refuses_does_not_spare_the_others(run: Run, root: Path, front: Path) -> None:
    """The exit code tells."""
    for name in ("a", "stuck", "z"):
        make_container(root, name)

    assert 1 == run("delete", "--regex", ".")[0]
    assert 3 == len((front / "log").read_text().splitlines())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--regex", "("], "delete: flag --regex: '(': "),
        (["--regex"], "delete: the regular expression is missing"),
    ],
)
def test_odd_expression_is_refused(run: Run, words: list[str], message: str) -> None:
    """Before anything is deleted."""
    code, _, err = run("delete", *words)

    assert (1, True) == (code, err.startswith(message))


def test_no_match_is_nothing_to_do(run: Run, root: Path) -> None:
    """As with crun."""
    make_container(root, "a")

    assert (0, "", "") == run("delete", "--regex", "^b$")


def test_missing_front_is_told(run: Run, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the path where it should be."""
    make_container(root, "a")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "corral-planner")])

    assert f"run {tmp_path}/{delete.FRONT}: no such file or directory" in run("delete", "--regex", "a")[2]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("pause", "pause container 'c1': container not running: it is stopped\n"),
        ("resume", "resume container 'c1': container not paused: it is stopped\n"),
    ],
)
def test_stopped_container_is_neither_paused_nor_resumed(run: Run, root: Path, command: str, message: str) -> None:
    """runc's words."""
    make_container(root)
    code, _, err = run(command, "c1")

    assert (1, True) == (code, err.startswith(message))


def test_running_container_is_not_resumed(run: Run, root: Path) -> None:
    """runc's words."""
    live_as(make_container(root), os.getpid())

    assert "resume container 'c1': container not paused: it is running" in run("resume", "c1")[2]


def test_pause_needs_a_group(run: Run, root: Path) -> None:
    """S2.11: exit code 3, with the reason."""
    live_as(make_container(root, cgroups=[{**GROUP, "fate": "absent", "reason": "permission denied"}]), os.getpid())
    code, _, err = run("pause", "c1")

    assert (3, True) == (code, err.startswith("container 'c1' has no cgroup (cgroup2: permission denied)\n"))


@pytest.fixture
def container(root: Path) -> Path:
    """A living container whose process is this one."""
    path = make_container(root)
    (path / "config.json").write_text(json.dumps(config(namespaces=namespaces("mount", "pid"))))
    live_as(path, os.getpid())
    return path


def plan_of(root: Path, verb: str, mounts: object, name: str = "c1") -> Plan:
    """The plan of ``mounts``."""
    (root.parent / "m.json").write_text(json.dumps(mounts))
    return prepare_mounts(parse(["--root", str(root), "mounts", verb, name, "m.json"]), around(root.parent))


MOUNTS = [
    {"destination": "/a", "type": "bind", "source": "src", "options": ["rbind", "ro"]},
    {"destination": "b", "type": "tmpfs", "options": ["size=1m", "nosuid"]},
    {"destination": "/c", "source": "/abs", "options": ["bind"]},
]


def test_sources_are_opened_outside_and_attached_inside(root: Path, container: Path) -> None:
    """By the front before the child exists; a relative source is the caller's, a relative target the root's."""
    plan = plan_of(root, "add", MOUNTS)

    assert [
        "front FRONT_MODE",
        "front OPEN_TREE",
        "front OPEN_TREE",
        "front STAGE",
        "stage JOIN_CONTAINER",
        "stage FORK",
        "init SYNC",
        "init PRIVATE_PROC",
        "init BIND",
        "init MOUNT_FS",
        "init BIND",
        "init SYNC",
    ] == ops(plan)
    opened = [step.args for step in plan if step.op == "OPEN_TREE"]
    assert [(72, f"{root.parent}/src", 1), (73, "/abs", 0)] == opened
    assert [("/a", 72), ("/c", 73)] == [(step.args[1], step.args[7]) for step in plan if step.op == "BIND"]
    assert ["/b"] == [step.args[2] for step in plan if step.op == "MOUNT_FS"]
    assert ["mounts[0]", "mounts[1]", "mounts[2]"] == [s.pointer for s in plan if s.op in ("BIND", "MOUNT_FS")]


def test_mounts_are_removed_in_reverse_order(root: Path, container: Path) -> None:
    """What lies on top goes first; sources do not count, and an object with ``mounts`` will do."""
    plan = plan_of(root, "remove", {"mounts": [{"destination": "/a"}, {"destination": "/a/b"}]})

    assert [("/a/b",), ("/a",)] == [step.args for step in plan if step.op == "DETACH"]
    assert ["mounts[1]", "mounts[0]"] == [step.pointer for step in plan if step.op == "DETACH"]


def test_user_namespace_is_entered_as_its_root(root: Path, container: Path) -> None:
    """Or the child could not mount."""
    (container / "config.json").write_text(json.dumps(config(namespaces=namespaces("mount", "user"))))

    assert "init BECOME_ROOT" in ops(plan_of(root, "add", MOUNTS))


@pytest.mark.parametrize(
    ("verb", "mounts", "name", "message"),
    [
        ("fly", [], "c1", "mounts: want add or remove, an id and a file"),
        ("add", [], "c2", "container 'c2': container does not exist"),
        ("add", 5, "c1", "read mounts: want an array, got 5 (config mounts)"),
        ("add", [{}], "c1", "read mounts: missing (config mounts[0].destination)"),
        ("add", [{"destination": "/a", "options": ["remount"]}], "c1",
         "add /a: remounts, links and mapped ids are for new containers only (config mounts[0])"),
        ("add", [{"destination": f"/{n}", "source": "/s", "options": ["bind"]} for n in range(441)], "c1",
         "add mounts: too many for one call (config mounts[440])"),
    ],
)  # fmt: skip
def test_odd_mounts_are_refused(
    root: Path, container: Path, verb: str, mounts: object, name: str, message: str
) -> None:
    """Before a process is made."""
    with pytest.raises(CorralError) as caught:
        plan_of(root, verb, mounts, name)

    assert message in str(caught.value)


def test_mounts_need_a_file_a_living_container_and_a_namespace(root: Path, container: Path) -> None:
    """Without the last, they would be the host's."""
    with pytest.raises(CorralError, match=r"/none.json: no such file or directory"):
        prepare_mounts(parse(["--root", str(root), "mounts", "add", "c1", "none.json"]), around(root.parent))
    (container / "config.json").write_text(json.dumps(config(namespaces=namespaces("pid"))))
    with pytest.raises(CorralError, match="it has no mount namespace, so they would be made on the host"):
        plan_of(root, "add", [])
    (container / "live").unlink()
    with pytest.raises(CorralError, match="add mounts of container 'c1': container not running"):
        plan_of(root, "add", [])


def test_mounts_run_by_python_alone_are_refused(run: Run) -> None:
    """Only the executor enters namespaces."""
    assert "mounts: this is the front's to run" in run("mounts", "add", "c1", "f")[2]
