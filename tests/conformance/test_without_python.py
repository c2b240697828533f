"""corral alone: what runs without Python, and with a resident planner."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conformance.harness import Bundle, Runtime
from conformance.residents import answers, resident_planner
from conformance.runtimes import needs

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

pytestmark = [needs("corral"), pytest.mark.cold]


@pytest.fixture
def crippled(runtime: Runtime, directory: Path) -> Runtime:
    """The binary alone, in a directory without the planner: as after a broken upgrade of Python."""
    alone = directory / "alone"
    alone.mkdir()
    program = shutil.copy(runtime.path, alone / "corral-runtime")
    return dataclasses.replace(runtime, path=str(program))


def test_life_cycle_of_a_made_container_needs_no_python(runtime: Runtime, crippled: Runtime, bundle: Bundle) -> None:
    """start, state, kill and delete run from what create has left, without any interpreter."""
    with runtime.create(bundle, "exec sleep 1000") as c:
        assert crippled("state", c.id).json()["status"] == "created"
        crippled("start", c.id)
        assert crippled("state", c.id).json()["status"] == "running"
        crippled("kill", c.id, "KILL")
        assert c.wait() == 137
        assert crippled("state", c.id).json()["status"] == "stopped"
        crippled("delete", c.id)
        assert runtime("list", "--quiet").stdout == ""


def test_delete_force_needs_no_python(runtime: Runtime, crippled: Runtime, bundle: Bundle) -> None:
    """A running container is ended and removed, its poststop hook included."""
    done = bundle.path / "poststop"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f": > {done}"]}
    bundle.spec["hooks"] = {"poststop": [hook]}
    with runtime.start(bundle) as c:
        crippled("delete", "--force", c.id)
        assert c.wait() == 137
        assert done.exists()


def test_create_without_a_planner_is_a_clear_error(crippled: Runtime, bundle: Bundle) -> None:
    """The missing part is named, and nothing is left."""
    done = crippled.run(bundle, "true", check=False)
    assert done.returncode == 1
    assert "planner" in done.stderr


@pytest.fixture
def resident(runtime: Runtime) -> Iterator[subprocess.Popen[bytes]]:
    """A planner that stays, for this state root."""
    with resident_planner(runtime) as process:
        yield process


def test_resident_planner_makes_the_same_container(
    runtime: Runtime, bundle: Bundle, resident: subprocess.Popen[bytes]
) -> None:
    """run, create, start, exec, kill and delete give the same as without it."""
    bundle.spec["hostname"] = "planned"
    bundle.resources["pids"] = {"limit": 50}
    assert runtime.run(bundle, "hostname; exit 7", check=False).stdout == "planned\n"
    with runtime.create(bundle, "exec sleep 1000") as c:
        c.start()
        assert c.cgroup_read("pids.max") == "50"
        assert c.sh("hostname; exit 0").stdout == "planned\n"
        c.kill("KILL")
        assert c.wait() == 137
        c.delete()
    assert resident.poll() is None


def test_resident_planner_needs_no_interpreter_per_call(
    runtime: Runtime, crippled: Runtime, bundle: Bundle, resident: subprocess.Popen[bytes]
) -> None:
    """With it, a binary without a cold planner runs containers: nothing else answers."""
    assert crippled.run(bundle, "echo planned").stdout == "planned\n"
    assert resident.poll() is None
    assert runtime.root.exists()


def test_refusal_of_the_resident_planner_is_told(
    runtime: Runtime, bundle: Bundle, resident: subprocess.Popen[bytes]
) -> None:
    """An error of the config comes through with its pointer, and the planner goes on."""
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOTHING", "soft": 1, "hard": 1}]
    runtime.refuse(bundle, "process.rlimits[0]")
    del bundle.process["rlimits"]
    assert runtime.run(bundle, "echo again").stdout == "again\n"
    assert resident.poll() is None


def test_dead_planner_is_not_waited_for(runtime: Runtime, bundle: Bundle, resident: subprocess.Popen[bytes]) -> None:
    """A planner that was killed leaves its socket: the next call is a cold one."""
    resident.send_signal(signal.SIGKILL)
    resident.wait()
    assert runtime.run(bundle, "echo cold").stdout == "cold\n"


def test_socket_that_is_no_planner_is_not_believed(runtime: Runtime, bundle: Bundle) -> None:
    """Whoever listens there and says nothing sensible is left alone."""
    runtime.root.mkdir(mode=0o700, exist_ok=True)
    path = runtime.root / ".planner.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(str(path))
        server.listen()
        server.settimeout(0)
        server.close()
        assert runtime.run(bundle, "echo cold").stdout == "cold\n"
    path.unlink(missing_ok=True)


def test_planner_ends_on_sigterm_and_takes_its_socket_away(
    runtime: Runtime, bundle: Bundle, resident: subprocess.Popen[bytes]
) -> None:
    """SIGTERM ends it cleanly."""
    path = runtime.root / ".planner.sock"
    resident.send_signal(signal.SIGTERM)
    resident.wait(30)
    assert not answers(path)
    assert runtime.run(bundle, "echo cold").stdout == "cold\n"
    assert Path("/proc/self").exists()
