"""The Python commands on living containers: what they say, and what the kernel has afterwards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from conformance import cgroups
from conformance.harness import Bundle, Container, Runtime, wait_until
from corral.runtime.record import Record

pytestmark = pytest.mark.requires("root", "busybox", "cc")


def limits(container: Container) -> dict[str, str]:
    """Memory, pids and cpu limits as the kernel has them."""
    return {
        "memory": container.cgroup_read("memory.limit_in_bytes", "memory.max"),
        "pids": container.cgroup_read("pids.max"),
        "cpu": container.cgroup_read("cpu.cfs_quota_us", "cpu.max").split()[0],
    }


def saved_resources(runtime: Runtime, container: Container) -> Any:
    """What the record says the limits are."""
    return Record(str(runtime.root), container.id).state.get("resources")


def test_update_changes_what_is_named_and_remembers_it(runtime: Runtime, bundle: Bundle) -> None:
    """A second update starts from the first."""
    bundle.resources.update({"memory": {"limit": 64 << 20}, "pids": {"limit": 50}})
    with runtime.start(bundle) as container:
        container.command("update", "--pids-limit", "20", "--cpu-quota", "50000", "--cpu-period", "100000")
        container.command("update", "--memory", "32M")
        assert {"memory": str(32 << 20), "pids": "20", "cpu": "50000"} == limits(container)
        saved = saved_resources(runtime, container)

    assert ({"limit": 32 << 20}, {"limit": 20}) == (saved["memory"], saved["pids"])


def test_update_that_the_kernel_refuses_changes_nothing(runtime: Runtime, bundle: Bundle) -> None:
    """Memory was written already when the CPU was refused: it is taken back, and the record stays as it was."""
    bundle.resources.update({"memory": {"limit": 64 << 20}, "pids": {"limit": 50}})
    with runtime.start(bundle) as container:
        before = limits(container)
        result = container.command("update", "--memory", "32M", "--cpuset-cpus", "4000", check=False)
        assert (1, before) == (result.returncode, limits(container))
        assert "linux.resources.cpu.cpus" in result.stderr
        assert saved_resources(runtime, container) is None


def test_update_replaces_the_device_rules(runtime: Runtime, bundle: Bundle) -> None:
    """For the running process: what was denied is let through to the (missing) driver, and denied again."""
    bundle.linux["devices"] = [{"path": "/dev/odd", "type": "c", "major": 240, "minor": 99}]
    deny: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    allow = [*deny, {"allow": True, "type": "c", "major": 240, "minor": 99, "access": "r"}]
    with runtime.start(bundle) as container:
        said = []
        for rules in (None, allow, deny):
            if rules is not None:
                container.command("update", "--resources", "-", stdin=json.dumps({"devices": rules}))
            said.append(container.sh(": < /dev/null; : < /dev/odd", check=False).stderr)

    assert ["Operation not permitted", "No such device or address", "Operation not permitted"] == [
        text.strip().rpartition(": ")[2] for text in said
    ]


def test_ps_shows_the_processes_of_the_container_only(runtime: Runtime, bundle: Bundle) -> None:
    """By their pids on the host, in ps's own table with ps's own options."""
    with runtime.start(bundle, "sleep 1000 & exec sleep 2000") as container:
        wait_until(lambda: len(json.loads(runtime("ps", "-f", "json", container.id).stdout)) == 2, "two processes")
        pids = json.loads(runtime("ps", "--format", "json", container.id).stdout)
        assert container.pid in pids
        table = container.command("ps").lines
        assert 3 == len(table)
        assert any(line.endswith("sleep 1000") for line in table)
        assert sorted(pids) == sorted(int(line) for line in container.command("ps", "-o", "pid").lines[1:])


def test_own_table_stands_in_for_ps(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    """Where ps is not installed."""
    with runtime.start(bundle) as container:
        result = container.command("ps", env={"PATH": str(tmp_path)})
        cells = result.lines[1].split()

    assert ["UID", "PID", "PPID"] == result.lines[0].split()[:3]
    assert ("root", str(container.pid), "sleep 1000") == (cells[0], cells[1], " ".join(cells[7:]))


def test_pause_freezes_and_resume_thaws(runtime: Runtime, bundle: Bundle) -> None:
    """Seen in state, list and by the processes; twice is an error in runc's words."""
    with runtime.start(bundle) as container:
        container.command("pause")
        assert "paused" == container.status
        assert ["paused"] == [entry["status"] for entry in runtime("list", "-f", "json").json()]
        assert "container not running" in container.command("pause", check=False).stderr
        container.command("resume")
        assert "running" == container.status
        assert "container not paused" in container.command("resume", check=False).stderr


def test_events_tell_of_an_oom_kill_and_end_with_the_container(runtime: Runtime, bundle: Bundle) -> None:
    """The kill shows although the next sample is an hour away."""
    bundle.resources["memory"] = {"limit": 16 << 20, "swap": 16 << 20}
    with (
        runtime.start(bundle) as container,
        runtime.background("events", "--interval", "1h", container.id) as (
            process,
            out,
        ),
    ):
        wait_until(lambda: "pidfd" in descriptors(process.pid), "the stream to watch")
        container.sh("x=$(head -c 60000000 /dev/zero | tr '\\0' x)", check=False)
        assert {"type": "oom", "id": container.id} == json.loads(out.readline())
        container.kill()
        assert 0 == process.wait(timeout=30)


def descriptors(pid: int) -> str:
    """What a process has open."""
    names = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            names.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            continue
    return " ".join(names)


def test_stats_have_runcs_shape(runtime: Runtime, bundle: Bundle) -> None:
    """One JSON line with the numbers of this very group."""
    bundle.resources["pids"] = {"limit": 77}
    with runtime.start(bundle) as container:
        event = container.command("events", "--stats").json()

    assert ("stats", container.id) == (event["type"], event["id"])
    assert {"current": 1, "limit": 77} == event["data"]["pids"]
    assert event["data"]["memory"]["usage"]["usage"] > 0


@pytest.mark.parametrize(
    "words", [["ps"], ["pause"], ["events", "--stats"], ["update", "--pids-limit", "5"]], ids=lambda words: words[0]
)
def test_container_without_a_cgroup_says_so_with_its_own_exit_code(
    runtime: Runtime, bundle: Bundle, words: list[str]
) -> None:
    """S2.11: no cgroup, the reason, and 3."""
    runtime.driver_args = ["--cgroup-manager", "disabled"]
    bundle.linux["namespaces"] = [n for n in bundle.linux["namespaces"] if n["type"] != "cgroup"]
    with runtime.start(bundle) as container:
        result = container.command(*words, check=False)

    assert 3 == result.returncode
    assert f"container '{container.id}' has no cgroup (the cgroup manager is disabled)" in result.stderr


def test_mounts_come_and_go_in_a_running_container(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    """A bind with its flags and a tmpfs; afterwards neither is left, inside or on the host."""
    source = bundle.host_dir("source")
    (source / "file").write_text("hello\n")
    mounts = [
        {"destination": "/new/bound", "type": "bind", "source": str(source), "options": ["bind", "ro"]},
        {"destination": "/new/fresh", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "noexec"]},
    ]
    (tmp_path / "mounts.json").write_text(json.dumps(mounts))
    with runtime.start(bundle) as container:
        runtime("mounts", "add", container.id, tmp_path / "mounts.json")
        assert "hello\n" == container.sh("cat /new/bound/file").stdout
        assert container.sh(": > /new/bound/file", check=False).returncode != 0
        assert "noexec" in container.sh("grep /new/fresh /proc/mounts").stdout
        runtime("mounts", "remove", container.id, tmp_path / "mounts.json")
        assert "" == container.sh("grep /new/ /proc/mounts", check=False).stdout
        missing = [{"destination": "/x", "source": "/no/such", "options": ["bind"]}]
        (tmp_path / "mounts.json").write_text(json.dumps(missing))
        result = runtime("mounts", "add", container.id, tmp_path / "mounts.json", check=False)
        assert (1, True) == (result.returncode, "no such file or directory" in result.stderr)
        assert [container.pid] == json.loads(runtime("ps", "-f", "json", container.id).stdout)


def test_delete_by_expression_removes_the_matches(runtime: Runtime, bundle: Bundle) -> None:
    """And leaves the others; a running one needs --force."""
    with runtime.start(bundle, id="web-1") as web, runtime.start(cgroup_of(bundle, "db"), id="db-1"):
        assert 1 == runtime("delete", "--regex", "^web", check=False).returncode
        runtime("delete", "--force", "--regex", "^web")
        assert ["db-1"] == runtime("list", "-q").lines
        assert web.wait() in (-1, 128 + signal.SIGKILL)


def cgroup_of(bundle: Bundle, name: str) -> Bundle:
    """The same bundle with another cgroup."""
    bundle.linux["cgroupsPath"] = f"{os.path.dirname(bundle.linux['cgroupsPath'])}/{name}"
    return bundle


def test_gc_finishes_an_interrupted_creation(runtime: Runtime, bundle: Bundle) -> None:
    """The front was killed in the middle: group and record are left, and gc takes them away (S2.12)."""
    bundle.write()
    point = {"CORRAL_FAILPOINT": "front:COMMIT:1:kill"}
    runtime("create", "--bundle", bundle.path, "c1", check=False, env=point)
    group = cgroups.hierarchies()["pids"] / bundle.linux["cgroupsPath"].lstrip("/")
    assert group.exists()
    assert ["creating"] == [entry["status"] for entry in runtime("list", "-f", "json").json()]
    result = runtime("gc", "--json")

    assert [{"name": "c1", "kind": "interrupted", "removed": True}] == result.json()
    assert not group.exists()
    assert "nothing to do\n" == runtime("gc").stdout


def test_gc_leaves_containers_alone(runtime: Runtime, bundle: Bundle) -> None:
    """Created, running and stopped ones are nobody's garbage."""
    with runtime.create(bundle, "exec sleep 1000") as container:
        assert "nothing to do\n" == runtime("gc").stdout
        container.start()
        assert "nothing to do\n" == runtime("gc").stdout
        container.kill()
        wait_until(lambda: container.status == "stopped", "its end")
        assert "nothing to do\n" == runtime("gc").stdout
        assert "stopped" == container.status


def test_check_agrees_with_create(runtime: Runtime, bundle: Bundle) -> None:
    """What check passes can be made; what it refuses cannot; and it leaves nothing."""
    bundle.write()
    result = runtime("check", bundle.path)
    assert "0 errors, 0 warnings\n" == result.stdout
    assert not runtime.root.exists()
    runtime.run(bundle, "true")
    bundle.spec["mounts"].append({"destination": "/x", "source": "/no/such", "options": ["bind"]})
    bundle.write()
    result = runtime("check", bundle.path, check=False)
    assert (1, True) == (result.returncode, "bind /no/such: no such file or directory" in result.stdout)
    assert 1 == runtime.run(bundle, check=False).returncode


def test_check_sees_a_cgroup_that_is_taken(runtime: Runtime, bundle: Bundle) -> None:
    """As create would refuse it."""
    with runtime.start(bundle):
        result = runtime("check", bundle.path, check=False)

    assert (1, True) == (result.returncode, "container's cgroup is not empty" in result.stdout)


def test_explain_tells_the_step_that_an_error_names(runtime: Runtime, bundle: Bundle) -> None:
    """The same words and pointer in the plan and in the failure."""
    bundle.spec["mounts"].append({"destination": "/x", "type": "tmpfs", "options": ["size=potato"]})
    bundle.write()
    number = len(bundle.spec["mounts"]) - 1
    line = f"mount tmpfs on /x  (config mounts[{number}])"
    assert line in runtime("explain", bundle.path).stdout
    error = runtime.run(bundle, check=False).stderr

    assert error.startswith(f"mount tmpfs on /x (config mounts[{number}])")


def test_resident_planner_stops_on_a_signal(runtime: Runtime, bundle: Bundle) -> None:
    """It serves, and ends with exit code 0; containers do not notice."""
    runtime.root.mkdir(mode=0o711)
    planner = runtime.spawn("planner", stdin=subprocess.DEVNULL)
    try:
        wait_until((runtime.root / ".planner.sock").exists, "the planner")
        with runtime.start(bundle) as container:
            planner.send_signal(signal.SIGTERM)
            assert 0 == planner.wait(timeout=30)
            assert "running" == container.status
    finally:
        planner.kill()
        planner.wait()

    assert not (runtime.root / ".planner.sock").exists()


def test_spec_makes_a_bundle_that_runs(runtime: Runtime, bundle: Bundle) -> None:
    """With nothing changed but the terminal and the program."""
    (bundle.path / "config.json").unlink(missing_ok=True)
    runtime("spec", "--bundle", bundle.path)
    document = json.loads((bundle.path / "config.json").read_text())
    document["process"].update({"terminal": False, "args": ["hostname"]})
    document["linux"]["cgroupsPath"] = bundle.linux["cgroupsPath"]
    (bundle.path / "config.json").write_text(json.dumps(document))
    result = runtime("run", "--bundle", bundle.path, "c1")

    assert "corral\n" == result.stdout
    assert shutil.which("ps") is None or [] == runtime("list", "-q").lines


def test_pid_that_is_a_thread_by_now_means_stopped(runtime: Runtime, bundle: Bundle) -> None:
    """The number was given away again, and pidfd_open(2) answers EINVAL for a mere thread."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        with runtime.start(bundle, "true") as container:
            container.wait()
            live = Path(runtime.root) / container.id / "live"
            live.write_text(" ".join([str(thread.native_id), *live.read_text().split()[1:]]) + "\n")
            assert "stopped" == container.command("state").json()["status"]
    finally:
        done.set()
        thread.join()
