"""pause, resume, ps, list, update, events: managing containers that run."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from conformance import cgroups
from conformance.harness import Bundle, Container, Runtime, status_of, wait_until
from conformance.host import host
from conformance.runtimes import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20


@pytest.fixture
def box(runtime: Runtime, bundle: Bundle) -> Iterator[Container]:
    """A running container that counts, so that one can see whether it runs."""
    with runtime.start(bundle, "while :; do echo . >> /ticks; sleep 0.01; done") as c:
        wait_until((bundle.rootfs / "ticks").exists, "the program ticks")
        yield c


def is_frozen(c: Container) -> bool:
    """Whether the kernel says that the container's processes are frozen."""
    if "freezer" in cgroups.hierarchies():
        return c.cgroup_read("freezer.state") == "FROZEN"
    return "frozen 1" in c.cgroup_read("cgroup.events")


def test_pause_freezes_every_process(box: Container) -> None:
    """After pause the group is frozen, and state says `paused`."""
    box.command("pause")
    assert is_frozen(box)
    assert box.status == "paused"
    size = (box.bundle.rootfs / "ticks").stat().st_size
    assert (box.bundle.rootfs / "ticks").stat().st_size == size


def test_resume_thaws_them(box: Container) -> None:
    """After resume the program goes on where it was."""
    box.command("pause")
    box.command("resume")
    assert not is_frozen(box)
    assert box.status == "running"
    size = (box.bundle.rootfs / "ticks").stat().st_size
    wait_until(lambda: (box.bundle.rootfs / "ticks").stat().st_size > size, "the program ticks again")


def test_resume_of_a_running_container_is_refused(box: Container) -> None:
    """Only a paused container can be resumed."""
    done = box.command("resume", check=False)
    assert done.returncode == 1
    assert box.status == "running"


def test_start_of_a_paused_container_is_refused_until_it_is_resumed(runtime: Runtime, bundle: Bundle) -> None:
    """A created container may be paused; start then says so at once, and works after resume."""
    with runtime.create(bundle, "sleep 100") as c:
        c.command("pause")
        done = c.command("start", check=False)
        assert done.returncode == 1
        assert "cannot start a container in the paused state" in done.stderr
        c.command("resume")
        c.command("start")
        assert c.status == "running"


def test_pause_of_a_stopped_container_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """A container without a process cannot be paused."""
    with runtime.start(bundle, "true") as c:
        c.wait()
        assert c.command("pause", check=False).returncode == 1
        assert c.status == "stopped"


def test_delete_force_thaws_a_paused_container(box: Container) -> None:
    """S2.8: a frozen container is deleted by force within the deadline."""
    box.command("pause")
    box.delete("--force")
    assert box.wait() == 137


def test_kill_of_a_paused_container_works_on_resume(box: Container) -> None:
    """A signal to a frozen container counts when it is thawed; SIGKILL ends it."""
    box.command("pause")
    box.kill("KILL")
    if box.status == "paused":
        box.command("resume", check=False)
    assert box.wait() == 137


def test_ps_json_lists_the_pids_of_the_host(runtime: Runtime, bundle: Bundle) -> None:
    """`ps -f json` is a list of the host's pids of all processes of the container."""
    with runtime.start(bundle, "sleep 1000 & echo up; wait") as c:
        c.wait_output("up")
        pids = runtime("ps", "--format", "json", c.id).json()
        assert sorted(pids) == sorted(cgroups.processes(cgroups.directory(c.pid, "pids")))
        assert c.pid in pids
        assert len(pids) == 2


def test_ps_table_has_a_header_and_the_processes(box: Container) -> None:
    """`ps` alone prints ps's table of those processes."""
    lines = box.runtime("ps", box.id).lines
    assert lines[0].split()[:2] == ["UID", "PID"]
    assert str(box.pid) in lines[1].split()


def test_ps_passes_options_to_ps(box: Container) -> None:
    """Further arguments are ps's own."""
    lines = box.runtime("ps", box.id, "-o", "pid,comm").lines
    assert lines[0].split() == ["PID", "COMMAND"]
    assert [str(box.pid), "sh"] in [line.split() for line in lines[1:]]


def test_ps_includes_execs(box: Container) -> None:
    """A process that exec added is listed."""
    process = box.runtime.spawn("exec", box.id, "/bin/sleep", "1000")
    wait_until(lambda: b"sleep\x001000" in commands_of(box), "the exec runs")
    box.kill("KILL")
    box.wait()
    process.wait(30)


def commands_of(c: Container) -> bytes:
    """The command lines of the processes that `ps` lists."""
    told = b""
    for pid in c.runtime("ps", "--format", "json", c.id).json():
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                told += file.read()
        except (FileNotFoundError, ProcessLookupError):
            continue
    return told


def test_list_json_has_the_fields_of_runc(box: Container) -> None:
    """`list -f json` is a list of objects like state's."""
    entries = box.runtime("list", "--format", "json").json()
    assert len(entries) == 1
    entry = entries[0]
    assert (entry["id"], entry["status"], entry["pid"]) == (box.id, "running", box.pid)
    assert entry["bundle"] == str(box.bundle.path)
    assert entry["rootfs"] == str(box.bundle.rootfs)
    assert entry["owner"] == "root"
    assert entry["created"].endswith("Z")


def test_list_quiet_has_ids_only(runtime: Runtime, bundle: Bundle) -> None:
    """`list -q` is one id a line, sorted, of all states."""
    with runtime.create(bundle, "true") as one:
        bundle.linux["cgroupsPath"] += "b"
        with runtime.start(bundle, "true") as two:
            two.wait()
            assert sorted(runtime("list", "--quiet").lines) == sorted([one.id, two.id])
            statuses = {e["id"]: e["status"] for e in runtime("list", "--format", "json").json()}
            assert statuses == {one.id: "created", two.id: "stopped"}


def test_list_table(box: Container) -> None:
    """`list` alone is a table with runc's columns."""
    lines = box.runtime("list").lines
    assert lines[0].split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert lines[1].split()[:4] == [box.id, str(box.pid), "running", str(box.bundle.path)]


def test_list_of_nothing(runtime: Runtime) -> None:
    """A root without containers: no ids, and JSON `null` or an empty list."""
    assert runtime("list", "--quiet").stdout == ""
    assert runtime("list", "--format", "json").json() in (None, [])


def updated(c: Container, resources: dict[str, Any]) -> None:
    """`update --resources -` with this object."""
    c.runtime("update", "--resources", "-", c.id, stdin=json.dumps(resources))


FLAGS = [
    ("--memory", str(40 * MIB), str(40 * MIB), ("memory.limit_in_bytes", "memory.max")),
    ("--memory-reservation", str(20 * MIB), str(20 * MIB), ("memory.soft_limit_in_bytes", "memory.low")),
    ("--pids-limit", "55", "55", ("pids.max",)),
    ("--pids-limit", "-1", "max", ("pids.max",)),
    ("--cpu-share", "333", "333", ("cpu.shares", "cpu.weight")),
    ("--cpu-quota", "30000", "30000", ("cpu.cfs_quota_us", "cpu.max")),
    ("--cpu-period", "70000", "70000", ("cpu.cfs_period_us",)),
    ("--cpuset-cpus", "0", "0", ("cpuset.cpus",)),
    ("--cpuset-mems", "0", "0", ("cpuset.mems",)),
]


@host("memory", "cpu", "pids", "cpuset", "cgroup-v1")
@pytest.mark.parametrize(("flag", "value", "expected", "files"), FLAGS, ids=[f[0] + f[1][:2] for f in FLAGS])
def test_update_flag(
    runtime: Runtime, bundle: Bundle, flag: str, value: str, expected: str, files: tuple[str, ...]
) -> None:
    """Each single flag of update changes its file, and the program goes on."""
    bundle.resources.update({"memory": {"limit": 64 * MIB}, "pids": {"limit": 90}, "cpu": {"quota": 20000}})
    with runtime.start(bundle) as c:
        runtime("update", flag, value, c.id)
        assert c.cgroup_read(*files) == expected
        assert c.status == "running"


@host("cpu-rt")
def test_update_realtime_flags(runtime: Runtime, bundle: Bundle) -> None:
    """--cpu-rt-period is written."""
    with runtime.start(bundle) as c:
        runtime("update", "--cpu-rt-period", "700000", c.id)
        assert c.cgroup_read("cpu.rt_period_us") == "700000"


@host("cpu", "cpu-burst")
@needs("cpu-burst")
def test_update_cpu_burst(runtime: Runtime, bundle: Bundle) -> None:
    """--cpu-burst is written."""
    bundle.resources["cpu"] = {"quota": 50000, "period": 100000}
    with runtime.start(bundle) as c:
        runtime("update", "--cpu-burst", "10000", c.id)
        assert c.cgroup_read("cpu.cfs_burst_us", "cpu.max.burst") == "10000"


@host("cpu")
@needs("cpu-idle")
def test_update_cpu_idle(runtime: Runtime, bundle: Bundle) -> None:
    """--cpu-idle is written."""
    with runtime.start(bundle) as c:
        runtime("update", "--cpu-idle", "1", c.id)
        assert c.cgroup_read("cpu.idle") == "1"


@host("memory-swap")
@pytest.mark.parametrize(("memory", "swap"), [(16, 24), (128, 256), (64, 64)])
def test_update_memory_and_swap_in_either_direction(runtime: Runtime, bundle: Bundle, memory: int, swap: int) -> None:
    """Both limits change in an order that the kernel takes, up as well as down."""
    bundle.resources["memory"] = {"limit": 32 * MIB, "swap": 64 * MIB}
    with runtime.start(bundle) as c:
        updated(c, {"memory": {"limit": memory * MIB, "swap": swap * MIB}})
        assert c.cgroup_read("memory.limit_in_bytes") == str(memory * MIB)
        assert c.cgroup_read("memory.memsw.limit_in_bytes") == str(swap * MIB)


@host("memory", "pids")
def test_update_from_a_file(runtime: Runtime, bundle: Bundle) -> None:
    """--resources FILE changes all that it names, and nothing else."""
    bundle.resources.update({"memory": {"limit": 64 * MIB}, "pids": {"limit": 90}})
    path = bundle.path / "resources.json"
    path.write_text(json.dumps({"memory": {"limit": 48 * MIB}}))
    with runtime.start(bundle) as c:
        runtime("update", "--resources", path, c.id)
        assert c.cgroup_read("memory.limit_in_bytes", "memory.max") == str(48 * MIB)
        assert c.cgroup_read("pids.max") == "90"


@host("pids")
def test_update_from_standard_input(runtime: Runtime, bundle: Bundle) -> None:
    """--resources - reads standard input."""
    with runtime.start(bundle) as c:
        updated(c, {"pids": {"limit": 44}})
        assert c.cgroup_read("pids.max") == "44"


@host("pids")
def test_update_of_a_created_and_of_a_paused_container(runtime: Runtime, bundle: Bundle) -> None:
    """Limits can be changed before start, and while paused, which stays paused."""
    with runtime.create(bundle, "exec sleep 1000") as c:
        runtime("update", "--pids-limit", "33", c.id)
        assert c.cgroup_read("pids.max") == "33"
        c.start()
        c.command("pause")
        runtime("update", "--pids-limit", "34", c.id)
        assert c.cgroup_read("pids.max") == "34"
        assert c.status == "paused"
        c.command("resume")


@host("memory")
def test_update_that_the_kernel_refuses_is_an_error(runtime: Runtime, bundle: Bundle) -> None:
    """A limit below what is in use: non-zero, and the program goes on."""
    with runtime.start(bundle) as c:
        done = runtime("update", "--cpuset-cpus", "900", c.id, check=False)
        assert done.returncode != 0
        assert c.status == "running"
        assert status_of(c.pid)["Cpus_allowed_list"] == status_of("self")["Cpus_allowed_list"]


@host("cgroup-v1")
def test_update_keeps_the_device_rules(runtime: Runtime, bundle: Bundle) -> None:
    """An update of another limit does not open a device."""
    with runtime.start(bundle) as c:
        before = c.cgroup_read("devices.list")
        runtime("update", "--pids-limit", "50", c.id)
        assert c.cgroup_read("devices.list") == before


def test_events_stats_has_the_shape_of_runc(runtime: Runtime, bundle: Bundle) -> None:
    """`events --stats` is one JSON document with the true numbers."""
    bundle.resources.update({"memory": {"limit": 64 * MIB}, "pids": {"limit": 90}})
    with runtime.start(bundle) as c:
        told = runtime("events", "--stats", c.id).json()
        assert (told["type"], told["id"]) == ("stats", c.id)
        data = told["data"]
        assert data["pids"]["current"] == 1
        assert data["pids"]["limit"] == 90
        assert data["memory"]["usage"]["limit"] == 64 * MIB
        assert data["memory"]["usage"]["usage"] > 0
        assert data["cpu"]["usage"]["total"] > 0
        assert set(data["cpu"]) >= {"usage", "throttling"}


def test_events_repeat_at_the_interval(runtime: Runtime, bundle: Bundle) -> None:
    """`events --interval` writes a line a time, until the container is gone."""
    with runtime.start(bundle) as c, runtime.background("events", "--interval", "100ms", c.id) as (process, out):
        assert [json.loads(out.readline())["type"] for _ in range(3)] == ["stats"] * 3
        c.delete("--force")
        assert process.wait(30) == 0


@host("memory")
def test_events_tell_of_an_oom_kill(runtime: Runtime, bundle: Bundle) -> None:
    """An OOM kill in the container is an `oom` event."""
    bundle.resources["memory"] = {"limit": 16 * MIB, "swap": 16 * MIB}
    script = "while [ ! -e /go ]; do sleep 0.01; done; probe touch 64; exec sleep 1000"
    with runtime.start(bundle, script) as c, runtime.background("events", "--interval", "100ms", c.id) as (_, out):
        assert json.loads(out.readline())["type"] == "stats"
        (bundle.rootfs / "go").touch()
        wait_until(lambda: json.loads(out.readline())["type"] == "oom", "an oom event")


def test_events_of_a_stopped_container_are_refused(runtime: Runtime, bundle: Bundle) -> None:
    """A container that has ended has no numbers."""
    with runtime.start(bundle, "true") as c:
        c.wait()
        assert runtime("events", "--stats", c.id, check=False).returncode == 1


def test_kill_all_in_a_paused_container_does_not_hang(box: Container) -> None:
    """kill --all KILL ends frozen processes within the deadline."""
    box.command("pause")
    box.kill("KILL", "--all", check=False)
    if box.status == "paused":
        box.command("resume", check=False)
    assert box.wait() == 137
    assert not os.path.exists(f"/proc/{box.pid}/root/bin")


@host("cgroup-v1", "memory")
def test_update_below_what_is_in_use_is_refused_on_v1(runtime: Runtime, bundle: Bundle) -> None:
    """The kernel refuses a memory limit below the usage; the old one stays."""
    bundle.resources["memory"] = {"limit": 64 * MIB}
    bundle.process["args"] = ["/bin/probe", "hold", "24"]
    with runtime.start(bundle, None) as c:
        c.wait_output("touched")
        # Without swap the kernel finds nothing to take from the program.
        done = runtime("update", "--memory", str(4 * MIB), "--memory-swap", str(4 * MIB), c.id, check=False)
        assert done.returncode != 0
        assert c.cgroup_read("memory.limit_in_bytes") == str(64 * MIB)
        assert c.status == "running"


@host("cgroup-v1", "fuse")
@needs("update-devices")
def test_update_takes_a_new_device_filter(runtime: Runtime, bundle: Bundle) -> None:
    """update --resources with device rules replaces the filter."""
    with runtime.start(bundle) as c:
        rules = [
            {"allow": False, "access": "rwm"},
            {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
        ]
        updated(c, {"devices": rules})
        listed = c.cgroup_read("devices.list").splitlines()
        assert "c 10:229 rwm" in listed
        assert "a *:* rwm" not in listed
