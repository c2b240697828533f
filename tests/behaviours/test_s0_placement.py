"""S0: every process is in the group that was asked for, whatever else its configuration says (containerd#11589)."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from behaviours import facts, places
from behaviours.facts import applies
from conformance.harness import Bundle, Runtime, reap, unique_id, wait_until
from conformance.spec import add_namespace, map_ids
from corral.cgroup.location import SystemdLocation, parse_cgroups_path
from corral.cgroup.slices import place_unit
from corral.errors import CorralError, InvalidArgument
from corral.runtime.groups import choose_manager
from corral.runtime.options import COMMAND_FLAGS, FLAG, NUMBER, REPEAT, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

USERNS = pytest.mark.parametrize("userns", [False, True], ids=["plain", "userns"])
SLEEP = "exec sleep 1000"


def with_user(bundle: Bundle, userns: bool) -> Bundle:
    """The bundle, with a user namespace of root's making if that is asked for and possible."""
    if userns and facts.is_root():
        places.give_user(bundle, with_userns=True)
    return bundle


@contextmanager
def exec_sleeper(runtime: Runtime, name: str, bundle: Bundle) -> Iterator[int]:
    """The pid of a sleeper that `exec` leaves in the container; killed and reaped: the pid namespace waits for that."""
    file = bundle.path / "exec.pid"
    output = bundle.path / "exec.output"
    runtime("exec", "--detach", "--pid-file", file, name, "/bin/sleep", "1000", output=output)
    pid = int(file.read_text())
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        reap(pid)


@applies("cgroup")
@USERNS
def test_s0_1_init_and_execed_process_are_in_the_computed_group(
    runtime: Runtime, bundle: Bundle, cgroup_parent: str, userns: bool
) -> None:
    """Path from what was asked = path in the kernel, in every hierarchy, for init and for an exec'd process."""
    path = places.give_place(bundle, cgroup_parent)
    with runtime.start(with_user(bundle, userns)) as c:
        assert places.is_at(c.pid, path), places.groups_of(c.pid)
        with exec_sleeper(runtime, c.id, bundle) as other:
            assert places.is_at(other, path), places.groups_of(other)


@applies("cgroup", "root")
@USERNS
def test_s0_1_pause_and_workload_are_each_in_their_own_group(
    runtime: Runtime, bundle: Bundle, cgroup_parent: str, userns: bool
) -> None:
    """A workload joins its sandbox's namespaces, not its cgroup: as a pod's containers do."""
    with_user(bundle, userns)
    first = places.give_place(bundle, cgroup_parent)
    with runtime.start(bundle) as pause:
        second = places.give_place(bundle, cgroup_parent)
        kinds = ("ipc", "uts") + (("user",) if userns else ())
        for kind in kinds:
            add_namespace(bundle.spec, kind, f"/proc/{pause.pid}/ns/{kind}")
        if userns:
            bundle.linux.pop("uidMappings")
            bundle.linux.pop("gidMappings")
        with runtime.start(bundle) as work:
            assert (places.is_at(pause.pid, first), places.is_at(work.pid, second)) == (True, True)


@applies("root")
def test_s0_1_container_that_cannot_be_placed_does_not_start(runtime: Runtime, bundle: Bundle) -> None:
    """The kernel refuses the move of the blocked stub: an error, and the program never ran."""
    bundle.shell(": > /started")
    bundle.write()
    point = {"CORRAL_FAILPOINT": "front:CG_ATTACH:errno=16"}
    done = runtime("run", "--bundle", bundle.path, unique_id(), check=False, env=point)
    assert done.returncode != 0
    assert not (bundle.rootfs / "started").exists()


POD_SLICE = "kubepods-besteffort-pod{}.slice"


@pytest.mark.parametrize("pod", ["1", "a_b_c"])
def test_s0_2_scope_lies_under_the_pods_slice(pod: str) -> None:
    """`slice:cri-corral:ID` is cri-corral-ID.scope, below a slice that is nested as systemd nests slices."""
    location = parse_cgroups_path(f"{POD_SLICE.format(pod)}:cri-corral:id", driver="systemd", container_id="id")
    assert isinstance(location, SystemdLocation)
    above = f"/kubepods.slice/kubepods-besteffort.slice/{POD_SLICE.format(pod)}"
    assert place_unit(location, is_user=False, manager_path="").path == f"{above}/cri-corral-id.scope"


@applies("systemd-driver", "root")
@USERNS
def test_s0_2_pods_container_is_in_its_scope(runtime: Runtime, bundle: Bundle, userns: bool) -> None:
    """The same path with and without user namespace, read from the kernel, in the tree that kubelet makes."""
    slice_name = POD_SLICE.format(os.getpid())
    name = unique_id()
    bundle.linux["cgroupsPath"] = f"{slice_name}:cri-corral:{name}"
    try:
        with runtime.start(with_user(bundle, userns), id=name) as c:
            path = f"/kubepods.slice/kubepods-besteffort.slice/{slice_name}/cri-corral-{name}.scope"
            assert places.is_at(c.pid, path), places.groups_of(c.pid)
    finally:
        subprocess.run(["systemctl", "stop", slice_name, "kubepods.slice"], check=True, timeout=60)


@applies("cgroup")
def test_s0_3_no_group_with_a_colon_is_ever_made(runtime: Runtime, bundle: Bundle) -> None:
    """While a container runs, after a refusal, and after its end."""
    before = places.walk()
    with runtime.start(bundle):
        assert places.names_with_colon(places.walk() - before) == []
    bundle.linux["cgroupsPath"] = f"x.slice:ct:{unique_id()}"
    if facts.driver() == "cgroupfs":
        runtime.run(bundle, check=False)
    assert places.names_with_colon(places.walk() - before) == []


@pytest.mark.parametrize(
    ("manager", "path"),
    [("cgroupfs", "kubepods-podX.slice:cri-containerd:abc"), ("systemd", "/kubepods/podX/abc")],
    ids=["systemd-form-to-cgroupfs", "path-to-systemd"],
)
def test_s0_4_form_of_the_other_driver_is_refused(runtime: Runtime, bundle: Bundle, manager: str, path: str) -> None:
    """The error names both, path and driver; nothing ran, and no group was made of it."""
    before = places.walk()
    runtime.global_args = ["--cgroup-manager", manager]
    bundle.linux["cgroupsPath"] = path
    runtime.refuse(bundle, path, manager)
    made = {group for group in places.walk() - before if "podX" in group.name}
    assert made == set()


def test_s0_4_colons_are_never_a_relative_path() -> None:
    """In the library: two colons and no leading slash is the systemd form for every driver."""
    with pytest.raises(InvalidArgument, match="cgroupfs"):
        parse_cgroups_path("a.slice:b:c", driver="cgroupfs", container_id="x")


VALUES = {FLAG: ("",), NUMBER: ("=3",), REPEAT: ("=a", "=b"), "value": ("=text", "=/a/path")}
FLAGS = sorted(COMMAND_FLAGS["create"])


@given(extra=st.lists(st.sampled_from(FLAGS), unique=True), systemd=st.booleans(), data=st.data())
def test_s0_5_no_option_of_a_task_changes_another(extra: list[str], systemd: bool, data: st.DataObject) -> None:
    """Over every flag of create: the global options, driver first, and all other flags stay as they were.

    The record of a task's options as a shim holds it comes with the engine; this is the runtime's command line.
    """
    base = ["--root", "/r", *(["--systemd-cgroup"] if systemd else []), "create"]
    words = [f"--{name}{data.draw(st.sampled_from(VALUES[COMMAND_FLAGS['create'][name]]))}" for name in extra]
    plain, full = parse([*base, "id"]), parse([*base, *words, "id"])
    assert {name: value for name, value in full.values.items() if name not in extra} == plain.values
    managers = [choose_manager(x.text("cgroup-manager"), systemd_flag=x.flag("systemd-cgroup")) for x in (plain, full)]
    assert managers == ["systemd" if systemd else "cgroupfs"] * 2


@applies("root", "cgroupfs-driver")
def test_s0_5_process_options_leave_the_groups_steps_as_they_are(runtime: Runtime, bundle: Bundle) -> None:
    """Another user, terminal or capability: the compiled steps of the groups are byte for byte the same."""

    def group_steps() -> list[Any]:
        bundle.write()
        steps = runtime("explain", "--json", "--bundle", bundle.path).json()["steps"]
        return [(s["op"], s["arguments"]) for s in steps if s["op"].startswith("CG_")]

    bundle.resources.update(places.LIMITS)
    plain = group_steps()
    assert plain
    edits: list[dict[str, Any]] = [
        {"user": {"uid": 1000, "gid": 1000}},
        {"noNewPrivileges": True},
        {"terminal": True},
        {"oomScoreAdj": 900},
        {"env": ["A=B"]},
    ]
    for edit in edits:
        bundle.process.update(edit)
        assert group_steps() == plain, edit


@applies("root", "cgroup")
def test_s0_6_pipes_can_be_opened_anew_and_the_place_is_right(
    runtime: Runtime, bundle: Bundle, cgroup_parent: str
) -> None:
    """In a user namespace: the stdio pipes belong to the container's user, and the group is the one asked for."""
    path = places.give_place(bundle, cgroup_parent)
    map_ids(bundle.spec, places.USERNS_FIRST_ID)
    bundle.process["user"] = {"uid": 5, "gid": 6}
    bundle.shell(f"for f in /proc/self/fd/1 /dev/stdout; do (echo yes > $f) || echo no; done; {SLEEP}")
    bundle.write()
    file, name = bundle.path / "p", unique_id()
    with runtime.background("run", "--bundle", bundle.path, "--pid-file", file, name, stderr=subprocess.DEVNULL) as (
        _,
        out,
    ):
        try:
            lines = [out.readline(), out.readline()]
            owner = os.fstat(out.fileno())
            pid = int(file.read_text())
            assert lines == [b"yes\n", b"yes\n"]
            assert (owner.st_uid, owner.st_gid) == (places.USERNS_FIRST_ID + 5, places.USERNS_FIRST_ID + 6)
            assert places.is_at(pid, path)
        finally:
            runtime("delete", "--force", name, check=False)


def test_s0_7_binary_that_runs_is_the_one_configured(runtime: Runtime, bundle: Bundle) -> None:
    """The running program's bytes are those of the path that the caller was given, not of another one on PATH.

    A handler's `binary` is the engine's; the callers' tests record what podman and containerd really execute.
    """
    bundle.shell(SLEEP)
    bundle.write()
    name = unique_id()
    with runtime.background("run", "--bundle", bundle.path, name, stderr=subprocess.DEVNULL) as (front, _):
        try:
            wait_until(lambda: runtime("state", name, check=False).returncode == 0, "the container")
            running = hashlib.sha256(Path(f"/proc/{front.pid}/exe").read_bytes()).hexdigest()
        finally:
            runtime("delete", "--force", name, check=False)
    assert running == hashlib.sha256(Path(runtime.path).read_bytes()).hexdigest()


@applies("limits")
@USERNS
def test_s0_8_limits_in_the_real_leaf_are_those_requested(runtime: Runtime, bundle: Bundle, userns: bool) -> None:
    """memory, cpu and pids, read from the group that /proc/PID/cgroup names."""
    bundle.resources.update(places.LIMITS)
    with runtime.start(with_user(bundle, userns)) as c:
        assert places.limits_of(c.pid) == places.LIMITS_READ


@applies("systemd-driver")
def test_s0_9_active_unit_of_that_name_is_an_error(runtime: Runtime, bundle: Bundle) -> None:
    """The second container of the same unit is refused, never started elsewhere; the first keeps running."""
    with runtime.start(bundle) as first:
        before = places.groups_of(first.pid)
        done = runtime.refuse(bundle, "unit")
        assert bundle.linux["cgroupsPath"].rsplit(":", 1)[1] in done.stderr
        assert places.groups_of(first.pid) == before


@applies("root", "limits")
def test_s0_10_placement_is_complete_before_anything_else_runs(
    runtime: Runtime, bundle: Bundle, cgroup_parent: str
) -> None:
    """At the first hook the stub is in its groups, limited, and is nothing but our own blocked program."""
    path = places.give_place(bundle, cgroup_parent)
    bundle.resources.update(places.LIMITS)
    seen = bundle.path / "seen"
    script = (
        "pid=$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p'); "
        f"cat /proc/$pid/cgroup > {seen}; echo >> {seen}; readlink /proc/$pid/exe >> {seen}"
    )
    bundle.spec["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
    with runtime.create(bundle, "true") as c:
        membership, program = seen.read_text().split("\n\n")
        assert {line.split(":", 2)[2] for line in membership.splitlines()} >= {path}
        assert "busybox" not in program
        assert places.is_at(c.pid, path)
        assert places.limits_of(c.pid) == places.LIMITS_READ


@applies("root", "limits")
def test_s0_10_first_instruction_of_the_program_is_limited(runtime: Runtime, bundle: Bundle) -> None:
    """With one process allowed the program cannot fork even once."""
    bundle.resources["pids"] = {"limit": 1}
    done = runtime.run(bundle, "(true) && echo forked", check=False)
    assert "forked" not in done.stdout


@applies("root", "cgroup")
def test_s0_10_runtime_itself_is_not_charged_to_the_container(runtime: Runtime, bundle: Bundle) -> None:
    """The front that waits for a container in the foreground stays where its caller put it; a list can be printed."""
    bundle.shell(SLEEP)
    bundle.write()
    name, file = unique_id(), bundle.path / "p"
    flags = ("--bundle", bundle.path, "--pid-file", file)
    with runtime.background("run", *flags, name, stderr=subprocess.DEVNULL) as (front, _):
        try:
            wait_until(lambda: file.exists() and file.read_text(), "the pid file")
            assert places.groups_of(front.pid) == places.groups_of("self")
            charged = runtime("ps", "--format", "json", name).json()
            assert charged == [int(file.read_text())]
        finally:
            runtime("delete", "--force", name, check=False)


@pytest.mark.cold
@pytest.mark.parametrize(
    "words",
    [["--no-such-option", "list"], ["--cgroup-manager"], ["create", "--no-such-option", "x"]],
    ids=["global", "value-missing", "command"],
)
def test_s0_11_option_that_is_not_understood_is_refused_at_once(runtime: Runtime, words: list[str]) -> None:
    """Before any state exists, by name. Handlers' generic options and their check at load come with the engine."""
    done = runtime(*words, check=False)
    assert done.returncode != 0
    assert "--no-such-option" in done.stderr or "--cgroup-manager" in done.stderr
    assert not runtime.root.exists() or list(runtime.root.iterdir()) == []


@pytest.mark.parametrize("value", ["cgroups", "Systemd"])
def test_s0_11_cgroup_manager_that_is_none_is_refused(runtime: Runtime, bundle: Bundle, value: str) -> None:
    """A driver that does not exist is an error that names it, not a fall-back to another."""
    runtime.global_args = ["--cgroup-manager", value]
    runtime.refuse(bundle, value)


@applies("cgroup")
def test_s0_12_walk_finds_every_container_under_its_parent_and_nothing_afterwards(
    runtime: Runtime, bundle: Bundle, cgroup_parent: str
) -> None:
    """Three containers: each in its place, no literal `slice:prefix:name`, no leaf left. The `audit` command itself
    comes with its issue; this is the walk that it will do."""
    before = places.walk()
    with ExitStack() as stack:
        expected = {}
        for _ in range(3):
            path = places.give_place(bundle, cgroup_parent)
            expected[stack.enter_context(runtime.start(bundle)).pid] = path
        assert [pid for pid, path in expected.items() if not places.is_at(pid, path)] == []
        assert places.names_with_colon(places.walk() - before) == []
    leaves = {name.rsplit("/", 1)[1] for name in expected.values()}
    assert [group for group in places.walk() if group.name in leaves] == []


@applies("cgroupfs-driver", "root")
def test_s0_12_empty_leaf_of_a_crash_is_found_and_removed(runtime: Runtime, bundle: Bundle) -> None:
    """What a killed creation leaves is in the ledger: `gc` names it, and the group is gone."""
    bundle.write()
    name = unique_id()
    runtime("create", "--bundle", bundle.path, name, check=False, env={"CORRAL_FAILPOINT": "front:COMMIT:1:kill"})
    assert places.directories(bundle.linux["cgroupsPath"]) != []
    assert [entry["name"] for entry in runtime("gc", "--json").json()] == [name]
    assert places.directories(bundle.linux["cgroupsPath"]) == []


def test_s0_placement_errors_are_typed() -> None:
    """A refusal has the pointer into config.json, and a hint."""
    with pytest.raises(CorralError) as caught:
        parse_cgroups_path("a.slice:b:c", driver="cgroupfs", container_id="x")
    assert (caught.value.pointer, bool(caught.value.hint)) == ("linux.cgroupsPath", True)
