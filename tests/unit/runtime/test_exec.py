"""corral.runtime.exec_: one more process in a container, compiled from the container's config and the flags."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from corral.errors import CorralError
from corral.runtime import exec_
from corral.runtime.exec_ import prepare_exec
from corral.runtime.options import parse
from corral.runtime.plan import Plan
from corral.runtime.prepare import Surroundings
from unit.runtime.bundles import around
from unit.runtime.jobs import HOSTS, config, namespaces, ops
from unit.runtime.test_record import commit, live_as, make_record

GROUP = {
    "version": 2,
    "controllers": ["memory", "pids"],
    "mount_point": "/sys/fs/cgroup",
    "path": "/caller/c1",
    "inode": 0,
    "hierarchy": "cgroup2",
    "fate": "created",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state root with the running container c1, whose process is this one."""
    monkeypatch.setattr(exec_, "read_host", lambda _: HOSTS["v2"]())
    path = make_record(tmp_path, cgroups=[GROUP])
    (path / "config.json").write_text(json.dumps(config()))
    live_as(path, os.getpid())
    return tmp_path


def plan_of(folder: Path, *words: str, **env: str) -> Plan:
    """The plan of an exec."""
    return prepare_exec(parse(["--root", str(folder), "exec", *words]), around(folder, **env))


def refused(folder: Path, *words: str) -> CorralError:
    """The error of an exec."""
    with pytest.raises(CorralError) as caught:
        plan_of(folder, *words)
    return caught.value


def args_of(plan: Plan, op: str) -> list[Any]:
    """Arguments of the only step of this kind."""
    found = [step.args for step in plan if step.op == op]
    assert len(found) == 1, found
    return list(found[0])


def test_exec_joins_and_is_placed_before_it_may_do_anything(folder: Path) -> None:
    """Stage, namespaces, birth, cgroup, and only then init's first step."""
    plan = plan_of(folder, "c1", "ls", "-l")

    assert [
        "front FRONT_MODE",
        "front CG_DEFINE",
        "front STAGE",
        "stage JOIN_CONTAINER",
        "stage FORK",
        "front CG_ATTACH",
        "front PRLIMIT",
        "init SYNC",
    ] == ops(plan)[:8]
    assert ["ls", "-l"] == args_of(plan, "EXEC")[0]
    assert os.getpid() == args_of(plan, "JOIN_CONTAINER")[0]


def test_flags_lie_over_the_containers_process(folder: Path) -> None:
    """Environment, directory, user and capabilities."""
    plan = plan_of(
        folder, "-e", "A=b", "--cwd", "/w", "-u", "5:6", "-g", "7", "--cap", "CAP_SYS_PTRACE", "--no-new-privs",
        "c1", "sh",
    )  # fmt: skip

    assert "A=b" in args_of(plan, "EXEC")[1]
    assert {"/w"} == {step.args[0] for step in plan if step.op == "WORKDIR"}
    uid, gid, groups, bounding = args_of(plan, "CREDENTIALS")[:4]
    assert (5, 6, b"\x07\0\0\0") == (uid, gid, groups)
    assert bounding >> 19 & 1
    assert "init NO_NEW_PRIVS" in ops(plan)


def test_process_file_replaces_all(folder: Path) -> None:
    """--process FILE is the whole process, terminal included."""
    document = {"args": ["id"], "cwd": "/tmp", "user": {"uid": 9, "gid": 9}, "env": ["X=y"], "umask": 0}
    (folder / "p.json").write_text(json.dumps(document))
    plan = plan_of(folder, "--process", "p.json", "c1")

    assert [["id"], ["X=y"]] == args_of(plan, "EXEC")[:2]
    assert "init CONSOLE" in ops(plan_of(folder, "--process", "p.json", "--tty", "c1"))


@pytest.mark.parametrize(
    ("words", "path"),
    [
        ("c1 sh", "/caller/c1"),
        ("--cgroup sub/deep c1 sh", "/caller/c1/sub/deep"),
        ("--cgroup pids:/sub c1 sh", "/caller/c1/sub"),
        ("--cgroup net_cls:/sub c1 sh", "/caller/c1"),
        ("--cgroup / c1 sh", "/caller/c1"),
    ],
)
def test_cgroup_flag_chooses_a_sub_group(folder: Path, words: str, path: str) -> None:
    """[CONTROLLER:]PATH below the container's own."""
    assert path == args_of(plan_of(folder, *words.split()), "CG_DEFINE")[3]


def test_group_that_the_container_has_not_is_not_joined(folder: Path) -> None:
    """Absent is absent."""
    record = make_record(folder, "c2", cgroups=[{**GROUP, "fate": "absent"}])
    (record / "config.json").write_text(json.dumps(config()))
    live_as(record, os.getpid())

    assert not [name for name in ops(plan_of(folder, "c2", "sh")) if "CG_" in name]


def test_user_namespace_is_entered_as_its_root(folder: Path) -> None:
    """Before the session, the keyring and everything else."""
    (folder / "c1" / "config.json").write_text(json.dumps(config(namespaces=namespaces("mount", "user"))))

    assert ["init SYNC", "init BECOME_ROOT", "init SESSION"] == [
        name for name in ops(plan_of(folder, "c1", "sh")) if name.startswith("init")
    ][:3]


def test_listen_fds_go_into_the_environment(folder: Path) -> None:
    """sd_listen_fds(3), for an exec'd program too."""
    line = parse(["--root", str(folder), "exec", "c1", "sh"])
    plan = prepare_exec(line, Surroundings(str(folder), {"LISTEN_FDS": "2"}, (3, 4)))

    assert ["LISTEN_FDS=2", "LISTEN_PID=1"] == args_of(plan, "EXEC")[1][-2:]
    assert [2] == args_of(plan, "PREPARE_FDS")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("c1", "exec: the program is missing"),
        ("nobody sh", "container 'nobody': container does not exist"),
        ("--user x c1 sh", "exec: flag --user: 'x' is not a number"),
        ("--user 1:y c1 sh", "exec: flag --user: '1:y' is not a number"),
        ("-g z c1 sh", "exec: flag --additional-gids: 'z' is not a number"),
        ("--cgroup ../x c1 sh", "exec: flag --cgroup: '../x' has a '..' component"),
        ("--process nofile c1", "nofile: no such file or directory"),
        ("-t -d c1 sh", "exec: cannot allocate tty if runc will detach without setting console socket"),
        ("-d --console-socket s c1 sh", "exec: cannot use console socket if runc will not detach or allocate tty"),
        ("--apparmor p c1 sh", "apparmor is not enabled on this host"),
        ("--process-label a:b:c c1 sh", "selinux is not enabled on this host"),
        ("--preserve-fds 1 c1 sh", "preserve 1 descriptors: descriptor 3 is not open"),
        ("--cwd rel c1 sh", "process.cwd"),
    ],
)
def test_exec_that_cannot_be_is_refused(folder: Path, words: str, message: str) -> None:
    """Each in words that name what is wrong."""
    assert message in str(refused(folder, *words.split()))


def test_unknown_capability_is_left_out_with_a_warning(folder: Path) -> None:
    """runtime-spec: a runtime should warn of capabilities that it does not know, and go on."""
    texts = [str(step.args[0]) for step in plan_of(folder, "--cap", "CAP_FLY", "c1", "sh") if step.op == "WARN"]

    assert len(texts) == 1
    assert "CAP_FLY" in texts[0]


def test_exec_needs_a_living_container(tmp_path: Path) -> None:
    """Stopped, interrupted, paused: each has its own words, runc's where callers match."""
    path = make_record(tmp_path, committed=False)
    assert "exec in container 'c1': its creation was interrupted" == str(refused(tmp_path, "c1", "sh"))
    commit(path)
    error = refused(tmp_path, "c1", "sh")
    assert "exec in container 'c1': cannot exec in a stopped container: container not running" == str(error)


def test_exec_in_a_paused_container_is_refused_unless_asked_for(folder: Path) -> None:
    """--ignore-paused waits in the freezer."""
    (folder / "freezer.state").write_text("FROZEN\n")
    record = make_record(folder, "c3", freezer=[1, str(folder)], cgroups=[])
    (record / "config.json").write_text(json.dumps(config()))
    live_as(record, os.getpid())

    assert "exec in container 'c3': cannot exec in a paused container" == str(refused(folder, "c3", "sh"))
    assert len(plan_of(folder, "--ignore-paused", "c3", "sh")) > 0


def test_process_file_with_errors_is_refused_with_the_pointer(folder: Path) -> None:
    """As a config would be."""
    (folder / "p.json").write_text('{"args": [], "cwd": "/"}')

    assert "process.args" in str(refused(folder, "--process", "p.json", "c1"))
