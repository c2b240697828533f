"""The steps of births and namespaces, run by the real front: SPAWN, STAGE, FORK, JOIN_*, UNSHARE, ID_MAPS."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from root.native.front import (
    EXEC,
    NEWCGROUP,
    NEWIPC,
    NEWNET,
    NEWNS,
    NEWPID,
    NEWTIME,
    NEWUSER,
    NEWUTS,
    Front,
    wait_until,
)
from root.native.groups import GroupBench

pytestmark = pytest.mark.requires("root", "cc")

MAP = "0 100000 1000\\n"


@pytest.fixture
def front(tmp_path: Path) -> Front:
    """A front whose planner the test writes."""
    return Front(tmp_path)


@pytest.fixture
def neighbour() -> Iterator[int]:
    """The pid of a process in uts, ipc, net and mount namespaces of its own."""
    process = subprocess.Popen(["unshare", "--uts", "--ipc", "--net", "--mount", "sleep", "1000"])
    wait_until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n")
    yield process.pid
    process.kill()
    process.wait(10)


def run_steps(front: Front, steps: str, failpoint: str = "") -> tuple[int, str, str]:
    """Run a plan of these steps after FRONT_MODE; status, output, first line of the errors."""
    front.scenario(f'request(); answer([("front", "FRONT_MODE", {EXEC}, 0), {steps}]); serve()')
    result = front.run("exec", **({"CORRAL_FAILPOINT": failpoint} if failpoint else {}))
    return result.status, result.out, result.err.splitlines()[0] if result.err else ""


def start_time(pid: int) -> int:
    """Field 22 of the process's stat."""
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])


def test_spawn_makes_the_namespaces_that_it_is_told_to(front: Front) -> None:
    """Each flag of SPAWN is one new namespace; the others stay the caller's."""
    kinds = "ipc mnt net pid uts user cgroup"
    steps = f'("front", "SPAWN", {NEWPID | NEWNS | NEWUTS | NEWNET | NEWIPC}, -1), sync("x"),'
    status, out, err = run_steps(
        front, steps + f'*run("sh", "-c", "cd /proc/self/ns; for k in {kinds}; do readlink $k; done")'
    )
    assert (status, err) == (0, "")
    own = [os.readlink(f"/proc/self/ns/{kind}") for kind in kinds.split()]
    changed = [kind for kind, mine, other in zip(kinds.split(), own, out.split(), strict=True) if mine != other]
    assert changed == ["ipc", "mnt", "net", "pid", "uts"]


def test_spawn_is_refused_when_flags_would_share_memory(front: Front) -> None:
    """CLONE_VM and its like would make two processes of one: not for a plan to ask."""
    assert run_steps(front, '("front", "SPAWN", 0x100, -1)')[2] == (
        "clone the container's first process: flags 0x100, cgroup -1: invalid argument"
    )


def test_second_birth_is_refused(front: Front) -> None:
    """One plan, one init."""
    assert run_steps(front, '("front", "SPAWN", 0, -1), ("front", "SPAWN", 0, -1)')[2] == (
        "clone the container's first process: a process was born already: protocol error"
    )


def test_stage_forks_init_as_the_fronts_child_in_new_namespaces(front: Front) -> None:
    """UNSHARE in the stage, FORK with CLONE_PARENT: init is in them, maps and clock are what the front wrote."""
    steps = f"""
        ("front", "STAGE", 0), ("stage", "UNSHARE", {NEWUSER | NEWTIME | NEWUTS}), ("stage", "SYNC", "maps"),
        ("front", "ID_MAPS", 0, "{MAP}", "{MAP}", "", "", ""), ("front", "TIME_OFFSETS", "boottime 5000000 0\\n"),
        ("stage", "SYNC", "mapped"), ("stage", "FORK", {NEWPID}, 0), sync("birth"), ("init", "BECOME_ROOT", 1),
        *run("sh", "-c", "id -u; echo $$; cat /proc/self/uid_map; cat /proc/uptime")
    """
    status, out, err = run_steps(front, steps)
    assert (status, err) == (0, "")
    uid, pid, uid_map, uptime = out.splitlines()
    assert (uid, pid, uid_map.split()) == ("0", "1", ["0", "100000", "1000"])
    assert float(uptime.split()[0]) > 5_000_000


def test_setgroups_is_denied_when_the_plan_says_so(front: Front) -> None:
    """ID_MAPS writes `setgroups` first."""
    steps = f"""
        ("front", "SPAWN", {NEWUSER}, -1), ("init", "SYNC", "x"),
        ("front", "WARN", "careful"),
        ("front", "ID_MAPS", 1, "0 0 1\\n", "0 0 1\\n", "deny", "", ""), sync("y"),
        *run("cat", "/proc/self/setgroups")
    """
    assert run_steps(front, steps) == (0, "deny\n", "warning: careful")


def test_id_maps_come_from_the_helpers_when_the_plan_names_them(front: Front) -> None:
    """newuidmap and newgidmap get the pid and the map's numbers as arguments, and no environment."""
    helper = front.folder / "helper"
    helper.write_text('#!/bin/sh\nprintf "%s\\n" "${0##*/} $2 $3 $4 $#" >>"${0%/*}/calls"\n[ -z "$HOME" ]\n')
    helper.chmod(0o755)
    steps = f"""
        ("front", "SPAWN", {NEWUSER}, -1), sync("x"),
        ("front", "ID_MAPS", 1, "0 5 1\\n", "0 6 1\\n", "", "{helper}", "{helper}"), sync("y"), *run("true")
    """
    run_steps(front, steps)
    assert (front.folder / "calls").read_text() == "helper 0 6 1 4\nhelper 0 5 1 4\n"


@pytest.mark.parametrize(
    ("script", "words"),
    [("echo no such range >&2; exit 1", "no such range"), ("exit 2", "it exited with an error")],
)
def test_helpers_words_are_quoted_when_it_refuses(front: Front, script: str, words: str) -> None:
    """The user learns what newuidmap said."""
    helper = front.folder / "helper"
    helper.write_text(f"#!/bin/sh\n{script}\n")
    helper.chmod(0o755)
    steps = f"""
        ("front", "SPAWN", {NEWUSER}, -1), sync("x"),
        ("front", "ID_MAPS", 1, "0 5 1\\n", "", "", "{helper}", ""), sync("y"), *run("true")
    """
    assert run_steps(front, steps) == (255, "", f"write the id mappings: {helper}: {words}")


def test_map_that_the_kernel_refuses_is_named(front: Front) -> None:
    """A malformed map: which file, which text."""
    steps = f"""
        ("front", "SPAWN", {NEWUSER}, -1), sync("x"), ("front", "ID_MAPS", 1, "0 0\\n", "", "", "", ""), sync("y")
    """
    status, _, err = run_steps(front, steps)
    assert status == 255
    assert err.startswith("write the id mappings: write '0 0")


def test_paths_are_joined_by_stage_and_current_ones_are_skipped(front: Front, neighbour: int) -> None:
    """JOIN_PATHS: the neighbour's uts and net; our own user namespace, named too, is no error."""
    steps = f"""
        ("front", "STAGE", 0),
        ("stage", "JOIN_PATHS", ["uts:/proc/{neighbour}/ns/uts", "net:/proc/{neighbour}/ns/net",
        "user:/proc/self/ns/user"]),
        ("stage", "FORK", {NEWPID}, 0), sync("birth"), *run("readlink", "/proc/self/ns/uts", "/proc/self/ns/net")
    """
    status, out, err = run_steps(front, steps)
    assert (status, err) == (0, "")
    assert out.split() == [os.readlink(f"/proc/{neighbour}/ns/{kind}") for kind in ("uts", "net")]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("net:/nowhere", "open '/nowhere': no such file or directory"),
        ("net:/proc/self/ns/uts", "join the net namespace /proc/self/ns/uts: invalid argument"),
        ("moon:/proc/self/ns/uts", "namespace 'moon:/proc/self/ns/uts': invalid argument"),
    ],
)
def test_namespace_path_that_is_none_is_named(front: Front, entry: str, words: str) -> None:
    """Absent, of another kind, of no kind."""
    steps = f'("front", "STAGE", 0), ("stage", "JOIN_PATHS", ["{entry}"]), ("stage", "FORK", 0, 0), sync("x")'
    status, _, err = run_steps(front, steps)
    assert (status, err) == (255, f"join the namespaces given by path: {words}")


def test_container_is_joined_by_pid_and_start_time(front: Front, neighbour: int) -> None:
    """JOIN_CONTAINER: the namespaces of exactly that process."""
    steps = f"""
        ("front", "STAGE", 0),
        ("stage", "JOIN_CONTAINER", {neighbour}, {start_time(neighbour)}, {NEWUTS | NEWNS | NEWIPC}),
        ("stage", "FORK", 0, 0), sync("birth"),
        *run("readlink", "/proc/self/ns/uts", "/proc/self/ns/mnt", "/proc/self/ns/net")
    """
    status, out, err = run_steps(front, steps)
    assert (status, err) == (0, "")
    assert out.split()[:2] == [os.readlink(f"/proc/{neighbour}/ns/{kind}") for kind in ("uts", "mnt")]
    assert out.split()[2] == os.readlink("/proc/self/ns/net")


def test_container_is_not_joined_when_the_pid_is_another_process(front: Front, neighbour: int) -> None:
    """A recycled pid has another start time."""
    steps = f"""
        ("front", "STAGE", 0), ("stage", "JOIN_CONTAINER", {neighbour}, {start_time(neighbour) + 1}, {NEWUTS}),
        ("stage", "FORK", 0, 0), sync("birth"), *run("true")
    """
    status, _, err = run_steps(front, steps)
    assert (status, err) == (
        255,
        f"join the namespaces of process {neighbour}: container not running: no such process",
    )


def test_joining_process_cannot_be_traced_by_those_inside(front: Front, neighbour: int) -> None:
    """From the first join until exec the stage and init are not dumpable: their /proc files belong to root alone."""
    steps = f"""
        ("front", "STAGE", 0), ("stage", "JOIN_CONTAINER", {neighbour}, {start_time(neighbour)}, {NEWUTS}),
        ("stage", "FORK", 0, 0), sync("birth"), ("front", "PID_FILE", HERE + "/pid"),
        ("front", "CONSOLE_CONNECT", HERE + "/socket", 1), ("front", "COMMIT", 0), sync("x"), *run("true")
    """
    steps = " ".join(steps.split())
    front.scenario(
        f"""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(HERE + "/socket")
        listener.listen(1)
        request()
        answer([("front", "FRONT_MODE", {EXEC}, 0), {steps}])
        listener.accept()
        pid = open(HERE + "/pid").read()
        os.setgid(1234)
        os.setuid(1234)
        try:
            os.listdir(f"/proc/{{pid}}/fd")
        except PermissionError:
            send(54, b"refused")
        serve()
        """
    )
    assert "refused" in front.run("exec").err


def test_cgroup_namespace_is_unshared_by_init_itself(front: Front) -> None:
    """UNSHARE as a step of init: after the move, so that its root is right."""
    steps = f"""
        ("front", "SPAWN", 0, -1), sync("x"), ("init", "UNSHARE", {NEWCGROUP}), *run("readlink", "/proc/self/ns/cgroup")
    """
    status, out, _ = run_steps(front, steps)
    assert status == 0
    assert out.strip() != os.readlink("/proc/self/ns/cgroup")


def test_unshare_is_named_when_the_kernel_refuses(front: Front) -> None:
    """Flags that no kernel knows."""
    steps = '("front", "SPAWN", 0, -1), sync("x"), ("init", "UNSHARE", 3), *run("true")'
    assert run_steps(front, steps)[2] == "unshare namespaces: unshare 0x3: invalid argument"


def test_session_is_new_and_has_a_keyring_of_its_own(front: Front) -> None:
    """SESSION: pid is the session's leader, and the host's session keyring is not ours."""
    script = "cut -d' ' -f6 /proc/$$/stat | grep -c $$; grep _ses.test /proc/keys | grep -o 'perm [0-9a-f]*'"
    steps = f'("front", "SPAWN", 0, -1), sync("x"), ("init", "SESSION", "_ses.test"), *run("sh", "-c", {script!r})'
    _, out, err = run_steps(front, steps)
    expected = "1\nperm 3f010000\n" if Path("/proc/keys").exists() else "1\n"
    assert (out, err) == (expected, "")


def test_private_proc_is_of_the_new_pid_namespace(front: Front) -> None:
    """PRIVATE_PROC then a write through it: SYSCTL works although /proc is not mounted anew."""
    steps = f"""
        ("front", "SPAWN", {NEWPID | NEWNS | NEWUTS}, -1), sync("x"), ("init", "PRIVATE_PROC", 0),
        ("init", "SYSCTL", "kernel/domainname", "corral.test"), *run("cat", "/proc/sys/kernel/domainname")
    """
    assert run_steps(front, steps) == (0, "corral.test\n", "")


def test_become_root_is_refused_outside_of_a_map(front: Front) -> None:
    """Without uid 0 in the map there is no root to become."""
    steps = f"""
        ("front", "SPAWN", {NEWUSER}, -1), sync("x"),
        ("front", "ID_MAPS", 1, "5 5 1\\n", "0 0 1\\n", "", "", ""), sync("y"),
        ("init", "BECOME_ROOT", 0), *run("true")
    """
    assert run_steps(front, steps)[2] == "become root of the user namespace: setresuid 0: invalid argument"


@pytest.mark.parametrize(
    "failpoint",
    [
        "stage:UNSHARE:errno=28",
        "stage:FORK:errno=11",
        "stage:SYNC:kill",
        "stage:FORK:kill",
        "front:ID_MAPS:errno=1",
        "front:TIME_OFFSETS:errno=13",
        "front:FORK:errno=5",
        "front:FORK:after:errno=5",
        "init:BECOME_ROOT:errno=1",
        "init:SYNC:kill",
    ],
)
def test_no_process_is_left_when_a_birth_is_cut_short(front: Front, failpoint: str) -> None:
    """Whichever party fails or dies, at whichever step: the front reaps both (the leak check looks)."""
    steps = f"""
        ("front", "STAGE", 0), ("stage", "UNSHARE", {NEWUSER | NEWTIME}), ("stage", "SYNC", "maps"),
        ("front", "ID_MAPS", 0, "0 0 9\\n", "0 0 9\\n", "", "", ""), ("front", "TIME_OFFSETS", "boottime 5 0\\n"),
        ("stage", "SYNC", "mapped"), ("stage", "FORK", {NEWPID}, 0), sync("birth"),
        ("init", "BECOME_ROOT", 1), *run("true")
    """
    status, _, err = run_steps(front, steps, failpoint)
    assert status == 255
    assert err


@pytest.mark.parametrize("step", ["front:STAGE:after:kill", "front:FORK:after:kill", "front:TIME_OFFSETS:kill"])
def test_children_end_when_the_front_is_killed(front: Front, step: str) -> None:
    """The end of the socket ends stage and init (the leak check looks)."""
    steps = f"""
        ("front", "STAGE", 0), ("stage", "UNSHARE", {NEWTIME}), ("stage", "SYNC", "maps"),
        ("front", "TIME_OFFSETS", "boottime 5 0\\n"), ("stage", "SYNC", "mapped"), ("stage", "FORK", {NEWPID}, 0),
        sync("birth"), *run("true")
    """
    status, _, _ = run_steps(front, steps, step)
    assert status == -signal.SIGKILL
    wait_until(lambda: not find_children(front))


# A planner that gives its verdict when init has ended, so that what the front does next meets a closed socket.
LATE_VERDICT = """
def ended():
    for pid in open(f"/proc/{os.getppid()}/task/{os.getppid()}/children").read().split():
        if "(corral:init) Z" in open(f"/proc/{pid}/stat").read():
            return True
    return False
"""


@pytest.mark.parametrize("later", ["attach", "attach, attach", 'sync("place")'])
def test_inits_own_words_are_told_when_it_ended_with_messages_unread(
    front: Front, later: str, group: GroupBench
) -> None:
    """The front hands over descriptors ahead of init; it tells what init said of its end, and of which step."""
    group.directory.mkdir(parents=True)
    front.scenario(
        LATE_VERDICT
        + f"""
attach = ("init", "CG_ATTACH", 0, 0)
define = ("front", "CG_DEFINE", 0, 1, {group.mount!r}, {group.path!r}, 0)
request()
steps = [define, ("front", "SPAWN", 0, -1), attach, attach, ("front", "COMMIT", 0), {later}, sync("end"), *run("true")]
answer([("front", "FRONT_MODE", {EXEC}, 0), *steps])
while receive()[0] != 36:
    pass
while not ended():
    pass
send(53, b"\\0\\0", 1)
serve()
"""
    )
    result = front.run("exec", CORRAL_FAILPOINT="init:CG_ATTACH:errno=28")
    assert (result.status, result.err) == (255, "move the process into cgroup 0: no space left on device")


def find_children(front: Front) -> list[str]:
    """Processes that still run this test's copy of the program."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            comm = (entry / "comm").read_text().strip()
            if comm.startswith("corral:") and str(front.folder) in (entry / "cmdline").read_text():
                found.append(comm)
        except OSError:
            continue
    return found
