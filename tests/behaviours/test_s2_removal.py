"""S2: only what is ours is undone, all of it, once, and never beyond (runc#4518)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from behaviours import facts, places
from behaviours.facts import applies
from behaviours.groupless import READ_ONLY, SLEEP, live, warnings_of
from conformance import cgroups
from conformance.harness import Bundle, Container, Runtime, unique_id, wait_until
from conformance.holders import in_private_mounts
from conformance.rootfs import chown_tree
from conformance.spec import rootless
from corral.cgroup.group import Group, open_group
from corral.cgroup.layout import read_layout
from corral.cgroup.location import CgroupfsLocation, place
from corral.cgroup.member import Member, members_of
from corral.cgroup.removal import remove_group
from corral.errors import Timeout
from unit.cgroup.test_removal import S2_5, Rmdir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UID = GID = 48612
ROOT = applies("root")
CGROUPFS = applies("root", "cgroupfs-driver")
# Another user's state root: a planner of ours does not answer there.
COLD = pytest.mark.cold
AS_USER = f'setpriv --reuid {UID} --regid {GID} --clear-groups --inh-caps=-all -- "$@"'


def state_of(c: Container) -> Any:
    """The runtime's own record."""
    return json.loads((c.runtime.root / c.id / "state.json").read_text())


def fates(c: Container) -> set[str]:
    """What the record says of the groups."""
    return {group["fate"] for group in state_of(c)["cgroups"]}


@pytest.fixture
def user(runtime: Runtime, bundle: Bundle, directory: Path) -> Runtime:
    """The runtime as an unprivileged user who sees every cgroup mount read-only."""
    home = directory / "home"
    home.mkdir()
    for path in (home, bundle.path, directory):
        os.chown(path, UID, GID)
    chown_tree(bundle.rootfs, UID, GID)
    runtime.env = {"XDG_RUNTIME_DIR": str(home), "HOME": str(home)}
    runtime.global_args = ()
    runtime.prefix = [*in_private_mounts(READ_ONLY)[:-2], f"{READ_ONLY}\nexec {AS_USER}", "sh"]
    rootless(bundle.spec, UID, GID)
    return runtime


@ROOT
@COLD
def test_s2_1_life_without_a_cgroup_is_without_error(user: Runtime, bundle: Bundle) -> None:
    """Rootless, read-only, no limits, no path: every command exits 0, one warning at create, no other line at all."""
    created, *others = live(user, bundle)
    assert [done.returncode for done in (created, *others)] == [0, 0, 0, 0]
    assert len(warnings_of(created.stderr)) == 1
    assert "cgroup" in created.stderr
    assert [done.stderr for done in others] == ["", "", ""]


@applies("user")
def test_s2_1_users_container_lives_and_goes_without_error(runtime: Runtime, bundle: Bundle) -> None:
    """As whatever user these tests run: with a delegated group, with a user's manager, or with neither."""
    for done in live(runtime, bundle):
        assert done.returncode == 0


@CGROUPFS
def test_s2_2_record_says_created(runtime: Runtime, bundle: Bundle) -> None:
    """Every group that we made is on record as created, and delete removes exactly those."""
    with runtime.start(bundle) as c:
        assert fates(c) == {"created"}
        assert state_of(c)["cgroupAbsences"] == []
        c.delete("--force")
        assert places.directories(bundle.linux["cgroupsPath"]) == []


@CGROUPFS
def test_s2_2_record_says_joined(runtime: Runtime, bundle: Bundle, existing: str) -> None:
    """A group that was there is on record as joined."""
    bundle.linux["cgroupsPath"] = existing
    with runtime.start(bundle) as c:
        assert fates(c) == {"joined"}


@ROOT
@COLD
def test_s2_2_record_says_absent_and_why(user: Runtime, bundle: Bundle) -> None:
    """No group could be had: each is on record as absent, with the kernel's reason."""
    with user.start(bundle) as c:
        groups = state_of(c)["cgroups"]
        assert {group["fate"].split()[0].split("(")[0].rstrip(":") for group in groups} <= {"absent"}
        assert "read-only file system" in json.dumps(state_of(c)).lower()


@pytest.fixture
def existing(cgroup_parent: str) -> Iterator[str]:
    """An empty group that is not ours, in every hierarchy; it has to survive the test."""
    path = f"{cgroup_parent}/{unique_id()}"
    made = []
    for top in set(cgroups.hierarchies().values()):
        group = top / path.lstrip("/")
        group.mkdir(parents=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            for directory in (group.parent, group):
                if (top / name).exists() and (directory / name).exists():
                    (directory / name).write_text((top / name).read_text())
        made.append(group)
    yield path
    assert [group for group in made if not group.is_dir()] == []
    for group in made:
        group.rmdir()


@CGROUPFS
def test_s2_3_populated_group_is_refused(runtime: Runtime, bundle: Bundle, existing: str) -> None:
    """With the words that callers match on; whoever is in it is not touched."""
    sleeper = subprocess.Popen(["sleep", "1000"])
    try:
        for group in places.directories(existing):
            (group / "cgroup.procs").write_text(str(sleeper.pid))
        bundle.linux["cgroupsPath"] = existing
        runtime.refuse(bundle, "container's cgroup is not empty")
        assert sleeper.poll() is None
        assert set(places.groups_of(sleeper.pid).values()) == {existing}
    finally:
        sleeper.kill()
        sleeper.wait()


@CGROUPFS
def test_s2_3_empty_group_is_used_and_never_removed(runtime: Runtime, bundle: Bundle, existing: str) -> None:
    """The fixture looks for it afterwards, in every hierarchy."""
    bundle.linux["cgroupsPath"] = existing
    with runtime.start(bundle) as c:
        assert places.is_at(c.pid, existing)


@CGROUPFS
def test_s2_3_parents_of_our_making_go_with_the_last_container(
    runtime: Runtime, bundle: Bundle, cgroup_parent: str
) -> None:
    """a/b/1 and a/b/2: the first delete leaves a/b, the second takes b and a; a parent of others' stays."""
    top = f"{cgroup_parent}/{unique_id()}"
    bundle.linux["cgroupsPath"] = f"{top}/b/1"
    with runtime.start(bundle) as first:
        bundle.linux["cgroupsPath"] = f"{top}/b/2"
        with runtime.start(bundle) as second:
            first.delete("--force")
            assert places.is_at(second.pid, f"{top}/b/2")
            second.delete("--force")
    assert places.directories(top) == []


@CGROUPFS
def test_s2_3_containers_made_at_once_below_one_new_parent_all_start(
    runtime: Runtime, bundle: Bundle, cgroup_parent: str
) -> None:
    """A lost race for mkdir of the parent, or for its removal, is tried again."""
    top = f"{cgroup_parent}/{unique_id()}"
    bundle.shell("true")
    fronts = []
    for number in range(6):
        folder = bundle.path / str(number)
        folder.mkdir()
        bundle.linux["cgroupsPath"] = f"{top}/p/{number}"
        spec = {**bundle.spec, "root": {"path": str(bundle.rootfs)}}
        (folder / "config.json").write_text(json.dumps(spec))
        fronts.append(runtime.spawn("run", "--bundle", folder, unique_id(), stdin=subprocess.DEVNULL))
    assert [front.wait(60) for front in fronts] == [0] * 6
    assert places.directories(top) == []


@ROOT
@COLD
def test_s2_4_explicit_path_without_permission_is_an_error(user: Runtime, bundle: Bundle) -> None:
    """It names the path, the errno, and what mends it."""
    bundle.linux["cgroupsPath"] = "/corral-not-permitted/x"
    done = user.refuse(bundle, "/corral-not-permitted", "read-only file system")
    assert "hint" in done.stderr


@ROOT
@COLD
@pytest.mark.parametrize("explicit", [False, True], ids=["no-path", "path"])
def test_s2_4_limit_without_permission_is_an_error(user: Runtime, bundle: Bundle, explicit: bool) -> None:
    """Never silently unlimited."""
    if explicit:
        bundle.linux["cgroupsPath"] = "/corral-not-permitted/x"
    bundle.linux["resources"] = {"pids": {"limit": 20}}
    done = user.refuse(bundle)
    assert "cgroup" in done.stderr


@ROOT
@COLD
def test_s2_4_device_rules_alone_are_no_limit(user: Runtime, bundle: Bundle) -> None:
    """Every caller sends them; without a group they are dropped."""
    bundle.linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    assert user.run(bundle, "echo ran").stdout == "ran\n"


@pytest.mark.parametrize(("rmdir", "outcome"), S2_5.values(), ids=S2_5.keys())
def test_s2_5_only_missing_counts_as_gone(tmp_path: Path, rmdir: Rmdir, outcome: str | int) -> None:
    """The table of rmdir's outcomes, on a plain directory with an injected rmdir."""
    group = tmp_path / "g"
    group.mkdir()
    result = remove_group([Member(2, (), str(tmp_path), "/g")], deadline_s=0.2, rmdir=rmdir)
    if isinstance(outcome, int):
        assert [pending.errno for pending in result.pending] == [outcome]
    else:
        assert result.is_done
        assert not group.exists()


@CGROUPFS
def test_s2_5_busy_for_ever_ends_in_bounded_time_with_the_survivors(existing: str) -> None:
    """A living process in the group: it is told by pid, name and state, and nobody is killed."""
    sleeper = subprocess.Popen(["sleep", "1000"])
    members = members_of(read_layout(), place(CgroupfsLocation(existing), read_layout()))
    try:
        for group in places.directories(existing):
            (group / "cgroup.procs").write_text(str(sleeper.pid))
        result = remove_group(members, deadline_s=0.3)
        assert len(result.pending) == len(members)
        assert {s.pid for p in result.pending for s in p.survivors} == {sleeper.pid}
        assert all(f"pid {sleeper.pid} (sleep) state" in str(pending) for pending in result.pending)
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


@CGROUPFS
def test_s2_6_failed_removal_does_not_stop_the_rest(runtime: Runtime, bundle: Bundle) -> None:
    """Exit 1 with what is pending; poststop ran, once; a second delete does only the rest."""
    out = bundle.path / "hooks"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo x >> {out}"]}
    bundle.spec["hooks"] = {"poststop": [hook]}
    with runtime.start(bundle) as c:
        c.kill("KILL")
        c.wait()
        first = c.runtime("delete", c.id, check=False, env={"CORRAL_FAILPOINT": "front:CG_REMOVE:errno=16"})
        assert (first.returncode, out.read_text()) == (1, "x\n")
        assert "device or resource busy" in first.stderr
        assert (runtime.root / c.id / "pending").read_text() != ""
        second = c.delete()
        assert (second.returncode, out.read_text()) == (0, "x\n")
        assert places.directories(bundle.linux["cgroupsPath"]) == []
        assert not (runtime.root / c.id).exists()


@pytest.mark.parametrize(("flags", "code"), [(["--force"], 0), ([], 1)], ids=["force", "plain"])
def test_s2_6_unknown_container(runtime: Runtime, flags: list[str], code: int) -> None:
    """By force it is a success; otherwise the words that callers match on."""
    done = runtime("delete", *flags, "no-such-container", check=False)
    assert done.returncode == code
    assert ("container does not exist" in done.stderr) == (code == 1)


@applies("systemd-driver", "limits")
@pytest.mark.parametrize("oom", [False, True], ids=["killed", "oom"])
def test_s2_7_no_unit_is_left(runtime: Runtime, bundle: Bundle, oom: bool) -> None:
    """Stopped and reset: neither an active nor a failed unit, also after an OOM kill (runc#3780, crun#1138)."""
    bundle.resources["memory"] = {"limit": 16 << 20}
    script = "dd if=/dev/zero of=/dev/null bs=100M count=1; exit 1" if oom else SLEEP
    with runtime.start(bundle, script) as c:
        unit = "ct-" + bundle.linux["cgroupsPath"].rsplit(":", 1)[1] + ".scope"
        if not oom:
            c.kill("KILL")
        c.wait()
        c.delete()
    words = ["systemctl", *(() if facts.is_root() else ("--user",)), "list-units", "--all", "--no-legend", unit]
    # On v1 systemd is told of the end of a group by a program that the kernel starts.
    wait_until(lambda: not subprocess.run(words, capture_output=True, check=True, timeout=60).stdout, "no unit")


@applies("systemd-driver", "cgroup")
def test_s2_7_unit_of_the_same_name_can_be_had_again_at_once(runtime: Runtime, bundle: Bundle) -> None:
    """As when a caller restarts a container under its old id."""
    for _ in range(3):
        assert runtime.run(bundle, "echo ran").stdout == "ran\n"


@applies("root", "cgroup")
def test_s2_8_forced_delete_of_a_paused_container(runtime: Runtime, bundle: Bundle) -> None:
    """Thawed, killed, gone."""
    with runtime.start(bundle) as c:
        group = cgroups.directory(c.pid, "pids")
        c.command("pause")
        c.delete("--force")
        assert c.wait() == 137
        assert not group.exists()


def too_late(freeze: Callable[[Group, float], None]) -> Callable[[Group, float], None]:
    """The same, but it ends with an error when the kernel has stopped everything."""

    def frozen(group: Group, until: float) -> None:
        freeze(group, until)
        assert group.state() == "frozen"
        raise Timeout("freeze group: too late")

    return frozen


@CGROUPFS
def test_s2_8_error_while_freezing_leaves_the_group_thawed(existing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong with the processes stopped already: they run again."""
    sleeper = subprocess.Popen(["sleep", "1000"])
    members = members_of(read_layout(), place(CgroupfsLocation(existing), read_layout()))
    try:
        for group in places.directories(existing):
            (group / "cgroup.procs").write_text(str(sleeper.pid))
        for name in ("_freeze_v1", "_freeze_v2"):
            monkeypatch.setattr(Group, name, too_late(getattr(Group, name)))
        with open_group(members) as group_:
            with pytest.raises(Timeout):
                group_.freeze(deadline_s=5)
            assert group_.state() == "running"
    finally:
        sleeper.kill()
        sleeper.wait()


@CGROUPFS
def test_s2_9_group_of_the_same_name_but_another_inode_stays(runtime: Runtime, bundle: Bundle) -> None:
    """Ours was removed and somebody made one of that name: delete leaves it, and is content."""
    with runtime.start(bundle) as c:
        c.kill("KILL")
        c.wait()
        others = places.directories(bundle.linux["cgroupsPath"])
        for group in others:
            group.rmdir()
            group.mkdir()
        try:
            c.delete("--force", check=False)
            assert [group for group in others if not group.is_dir()] == []
        finally:
            for group in others:
                group.rmdir()


@CGROUPFS
def test_s2_9_group_whose_name_only_begins_alike_stays(runtime: Runtime, bundle: Bundle) -> None:
    """runc#5351: `x` is not `xy`."""
    with runtime.start(bundle) as c:
        groups = places.directories(bundle.linux["cgroupsPath"])
        others = [group.with_name(group.name + "y") for group in groups]
        for group in others:
            group.mkdir()
        c.delete("--force")
        assert [group for group in others if not group.is_dir()] == []
        for group in others:
            group.rmdir()


CRASHES = ["CG_MAKE:1:after", "CG_MAKE:2:after", "CG_ATTACH:1", "COMMIT:1", "COMMIT:1:after"]


@CGROUPFS
@pytest.mark.parametrize("command", ["delete", "gc", "create"])
@pytest.mark.parametrize("point", CRASHES)
def test_s2_12_crash_leaves_nothing_for_long(runtime: Runtime, bundle: Bundle, point: str, command: str) -> None:
    """SIGKILL between mkdir and the record's end: the next delete, gc or create finds the groups and removes them."""
    bundle.write()
    name, path = unique_id(), bundle.linux["cgroupsPath"]
    if facts.mode() == "v2" and point.startswith("CG_MAKE:2"):
        point = "CG_MAKE:1:after"
    runtime("create", "--bundle", bundle.path, name, check=False, env={"CORRAL_FAILPOINT": f"front:{point}:kill"})
    assert places.directories(path) != []
    if command == "gc":
        runtime("gc")
    elif command == "delete":
        runtime("delete", "--force", name)
    else:
        with runtime.create(bundle, SLEEP, id=name) as c:
            assert places.is_at(c.pid, path)
    wait_until(lambda: places.directories(path) == [], "the groups to go", 10)
    wait_until(lambda: not any(name in entry for entry in os.listdir(runtime.root)), "the record to go", 10)
