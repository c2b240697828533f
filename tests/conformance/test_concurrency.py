"""Several commands at a time, on one container and on many."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from conformance import cgroups
from conformance.harness import Bundle, Runtime, reap, unique_id, wait_until
from conformance.runtimes import needs

COUNT = 6


def test_many_containers_at_once(runtime: Runtime, bundle: Bundle) -> None:
    """Containers that are made at the same time do not disturb each other."""
    base = bundle.linux["cgroupsPath"]
    bundle.spec["root"]["path"] = str(bundle.rootfs)
    running = []
    for number in range(COUNT):
        bundle.linux["cgroupsPath"] = f"{base}-{number}"
        bundle.shell(f"exit {number}")
        bundle.write()
        config = (bundle.path / "config.json").read_text()
        place = bundle.path / f"b{number}"
        place.mkdir()
        (place / "config.json").write_text(config)
        running.append(runtime.spawn("run", "--bundle", place, unique_id()))
    assert [process.wait(60) for process in running] == list(range(COUNT))


@needs("atomic-create")
def test_two_creates_of_one_id_give_one_container(runtime: Runtime, bundle: Bundle) -> None:
    """Of several creates with one id exactly one wins, and the others say why."""
    bundle.shell("exec sleep 1000")
    name = unique_id()
    base = bundle.linux["cgroupsPath"]
    bundle.spec["root"]["path"] = str(bundle.rootfs)
    processes, files = [], []
    for number in range(3):
        place = bundle.path / f"b{number}"
        place.mkdir()
        bundle.linux["cgroupsPath"] = f"{base}-{number}"
        bundle.write()
        (place / "config.json").write_text((bundle.path / "config.json").read_text())
        file = (place / "output").open("wb")
        files.append(file)
        processes.append(runtime.spawn("create", "--bundle", place, name, stdout=file, stderr=file))
    codes = [process.wait(60) for process in processes]
    for file in files:
        file.close()
    try:
        assert sorted(code != 0 for code in codes) == [False, True, True]
        assert runtime("list", "--quiet").lines == [name]
        losers = [(bundle.path / f"b{n}" / "output").read_text() for n in range(3) if codes[n]]
        assert all("exist" in text for text in losers)
        winner = codes.index(0)
        left = [path.name.removesuffix(".scope") for path in cgroups.find(cgroups.name_of(base))]
        assert {name[-1] for name in left} == {str(winner)}
    finally:
        pid = int(runtime("state", name).json()["pid"])
        runtime("delete", "--force", name)
        reap(pid)


def test_two_deletes_at_once(runtime: Runtime, bundle: Bundle) -> None:
    """Two forced deletes both end, and the container is gone."""
    with runtime.start(bundle) as c:
        assert c.pid
        deletes = [runtime.spawn("delete", "--force", c.id) for _ in range(2)]
        codes = [process.wait(60) for process in deletes]
        assert 0 in codes
        assert runtime("list", "--quiet").stdout == ""


def test_state_during_the_end_of_the_container(runtime: Runtime, bundle: Bundle) -> None:
    """state never fails while a container comes to its end: it is running, then stopped."""
    with runtime.start(bundle) as c:
        c.kill("KILL")
        seen = {c.status for _ in range(3)}
        c.wait()
        assert seen <= {"running", "stopped"}
        assert c.status == "stopped"


def test_kill_while_many_execs_run(runtime: Runtime, bundle: Bundle) -> None:
    """S4.2: the init's end ends every exec, and nothing is left in the group."""
    with runtime.start(bundle) as c:
        group = cgroups.directory(c.pid, "pids")
        execs = [runtime.spawn("exec", c.id, "/bin/sleep", "1000") for _ in range(COUNT)]
        wait_until(lambda: len(cgroups.processes(group)) > COUNT, "all execs run")
        c.kill("KILL")
        assert c.wait() == 137
        assert {process.wait(60) for process in execs} <= {137, 255}
        assert cgroups.processes(group) == []


@pytest.mark.parametrize("when", ["INT", "TERM"])
def test_create_that_is_ended_midway_leaves_no_process(runtime: Runtime, bundle: Bundle, when: str) -> None:
    """A caller's timeout ends create: the init does not stay behind, and delete --force cleans up."""
    go = bundle.path / "in-hook"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f": > {go}; exec sleep 3"], "env": ["PATH=/bin"], "timeout": 2}
    bundle.spec["hooks"] = {"createRuntime": [hook]}
    bundle.shell("exec sleep 1000")
    bundle.write()
    name = unique_id()
    process = runtime.spawn("create", "--bundle", bundle.path, name)
    wait_until(go.exists, "the hook runs")
    process.send_signal(getattr(signal, f"SIG{when}"))
    assert process.wait(30) != 0
    runtime("delete", "--force", name)
    assert runtime("list", "--quiet").stdout == ""
    wait_until(lambda: not living_below(bundle.rootfs), "the init is gone")


def living_below(rootfs: Path) -> list[str]:
    """The processes whose root is this directory."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.readlink(f"/proc/{name}/root") == str(rootfs):
                    found.append(name)
            except OSError:
                continue
    return found


@needs("corral")
def test_two_starts_at_once_start_once(runtime: Runtime, bundle: Bundle) -> None:
    """Of two starts one wins, the other is refused; the program runs once."""
    with runtime.create(bundle, "echo x >> /count; exec sleep 1000") as c:
        codes = sorted(process.wait(60) for process in [runtime.spawn("start", c.id) for _ in range(2)])
        assert codes[0] == 0
        assert codes[1] != 0
        count = bundle.rootfs / "count"
        wait_until(lambda: count.exists() and count.read_text(), "the program has begun")
        assert count.read_text() == "x\n"
