"""Refusals: their words, which callers match on, their exit codes, their place, and that nothing stays."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from conformance import cgroups
from conformance.harness import Bundle, Runtime, driver, unique_id
from conformance.runtimes import needs
from conformance.spec import add_mount

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_unknown_container_has_runcs_words(runtime: Runtime, bundle: Bundle) -> None:
    """`state` of an unknown id: exit 1 and `container does not exist`, which callers match on."""
    done = runtime("state", "nobody", check=False)
    assert done.returncode == 1
    assert "container does not exist" in done.stderr
    assert done.stdout == ""


UNKNOWN = [
    ("start", "nobody"),
    ("kill", "nobody", "KILL"),
    ("delete", "nobody"),
    ("pause", "nobody"),
    ("resume", "nobody"),
    ("ps", "nobody"),
    ("update", "--pids-limit", "10", "nobody"),
    ("events", "--stats", "nobody"),
]


@pytest.mark.parametrize("command", UNKNOWN, ids=[c[0] for c in UNKNOWN])
def test_command_on_an_unknown_container_is_refused(runtime: Runtime, command: tuple[str, ...]) -> None:
    """Every command on an unknown id exits 1 with the same words."""
    done = runtime(*command, check=False)
    assert done.returncode == 1
    assert "container does not exist" in done.stderr


def test_exec_on_an_unknown_container_exits_255(runtime: Runtime) -> None:
    """exec's own errors are 255, so that they differ from the program's codes."""
    done = runtime("exec", "nobody", "true", check=False)
    assert done.returncode == 255
    assert "container does not exist" in done.stderr


def test_delete_force_of_an_unknown_container_succeeds(runtime: Runtime) -> None:
    """`delete --force` of what is not there exits 0."""
    assert runtime("delete", "--force", "nobody").returncode == 0


def test_missing_program_is_reported_at_create(runtime: Runtime, bundle: Bundle) -> None:
    """A program that is not there fails `create`, with the kernel's words, and leaves nothing."""
    bundle.process["args"] = ["/no/such/program"]
    bundle.write()
    name = unique_id()
    out = bundle.path / "out"
    done = runtime("create", "--bundle", bundle.path, name, check=False, output=out)
    assert done.returncode == 1
    assert "no such file or directory" in done.stderr
    assert runtime("state", name, check=False).returncode == 1


def test_missing_program_in_the_path_is_reported_at_create(runtime: Runtime, bundle: Bundle) -> None:
    """A bare name that PATH does not have: `executable file not found in $PATH`, as podman matches."""
    bundle.process["args"] = ["nosuchprogram"]
    done = runtime.run(bundle, check=False)
    assert done.returncode == 1
    assert "executable file not found in $PATH" in done.stderr


def test_program_without_permission_is_reported(runtime: Runtime, bundle: Bundle) -> None:
    """A file that is not executable: `permission denied`."""
    (bundle.rootfs / "plain").write_text("x")
    bundle.process["args"] = ["/plain"]
    done = runtime.run(bundle, check=False)
    assert done.returncode == 1
    assert "permission denied" in done.stderr


def test_same_id_twice_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """An id in use: `already exists`, and the first container goes on."""
    with runtime.start(bundle) as c:
        done = runtime("create", "--bundle", bundle.path, c.id, check=False)
        assert done.returncode == 1
        assert "already exists" in done.stderr
        assert c.status == "running"


def test_kill_of_a_stopped_container_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """`container not running`: callers take this as already dead."""
    with runtime.start(bundle, "true") as c:
        c.wait()
        done = c.kill("TERM", check=False)
        assert done.returncode == 1
        assert "container not running" in done.stderr


def test_exec_in_a_stopped_container_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """exec needs a live init: 255, and the word `stopped`."""
    with runtime.start(bundle, "true") as c:
        c.wait()
        done = c.exec("true", check=False)
        assert done.returncode == 255
        assert "stopped container" in done.stderr or "container not running" in done.stderr


def test_exec_in_a_created_container_runs(runtime: Runtime, bundle: Bundle) -> None:
    """Before start, exec is possible, as with runc: the namespaces are there."""
    with runtime.create(bundle, "true") as c:
        assert c.exec("/bin/echo", "in").stdout == "in\n"
        assert c.status == "created"


def test_start_of_a_stopped_container_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """`start` of a container that has ended exits 1."""
    with runtime.start(bundle, "true") as c:
        c.wait()
        done = c.command("start", check=False)
        assert done.returncode == 1
        assert "stopped" in done.stderr


def test_unknown_signal_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """A signal that does not exist is named, and nothing is sent."""
    with runtime.start(bundle) as c:
        done = c.kill("SIGNOSUCH", check=False)
        assert done.returncode == 1
        assert "NOSUCH" in done.stderr
        assert c.status == "running"


@pytest.mark.parametrize("name", ["", "a/b", "../x", "..", ".", "a b", "a\nb"])
def test_wrong_id_is_refused(runtime: Runtime, bundle: Bundle, name: str) -> None:
    """An id is a plain name: nothing is made outside of the state root."""
    bundle.shell(": > /ran")
    bundle.write()
    before = sorted(os.listdir(runtime.root.parent))
    done = runtime("run", "--bundle", bundle.path, name, check=False)
    assert done.returncode != 0
    assert not (bundle.rootfs / "ran").exists()
    assert set(os.listdir(runtime.root.parent)) - set(before) <= {"state"}


@pytest.mark.parametrize("command", ["state", "kill", "delete", "start"])
def test_id_that_is_a_path_does_not_leave_the_root(runtime: Runtime, bundle: Bundle, command: str) -> None:
    """No command follows `..` in an id to a state that lies elsewhere."""
    with runtime.start(bundle) as c:
        other = Runtime(runtime.path, runtime.root.parent / "other", runtime.name)
        done = other(command, f"../state/{c.id}", check=False)
        assert done.returncode != 0
        assert c.status == "running"


def test_missing_config_is_named(runtime: Runtime, bundle: Bundle) -> None:
    """A bundle without config.json: the file is named."""
    done = runtime("create", "--bundle", bundle.path, unique_id(), check=False)
    assert done.returncode == 1
    assert "config.json" in done.stderr


def test_missing_bundle_is_named(runtime: Runtime, directory: Path) -> None:
    """A bundle directory that is not there is named."""
    done = runtime("create", "--bundle", directory / "nowhere", unique_id(), check=False)
    assert done.returncode == 1
    assert "nowhere" in done.stderr


NULL = pytest.param("null", marks=needs("strict-config"))


@pytest.mark.parametrize("text", ["", "{", "[]", NULL, '{"ociVersion": 7}', "\xff\xfe", "{}"])
def test_broken_config_is_refused(runtime: Runtime, bundle: Bundle, text: str) -> None:
    """What is not a config is an error, and never a crash."""
    (bundle.path / "config.json").write_bytes(text.encode("latin-1"))
    done = runtime("run", "--bundle", bundle.path, unique_id(), check=False)
    assert done.returncode == 1
    assert done.stderr.strip() != ""
    assert "goroutine" not in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_rootfs_is_named(runtime: Runtime, bundle: Bundle) -> None:
    """A root.path that is not there is named."""
    bundle.spec["root"]["path"] = "no-such-rootfs"
    bundle.write()
    done = runtime("run", "--bundle", bundle.path, unique_id(), check=False)
    assert done.returncode == 1
    assert "no-such-rootfs" in done.stderr


WRONG: dict[str, Callable[[Bundle], object]] = {
    "mount-without-destination": lambda b: add_mount(b.spec, "", "tmpfs", "x"),
    "cwd-relative": lambda b: b.process.update(cwd="relative"),
    "args-empty": lambda b: b.process.update(args=[]),
    "memory-too-small": lambda b: b.resources.update(memory={"limit": 4096}),
}


@pytest.mark.parametrize("case", [*WRONG, pytest.param("version-2", marks=needs("strict-config"))])
def test_wrong_value_is_refused(runtime: Runtime, bundle: Bundle, case: str) -> None:
    """A value that makes no container is refused before the program runs."""
    if case == "version-2":
        bundle.spec["ociVersion"] = "2.0.0"
    else:
        WRONG[case](bundle)
    bundle.write()
    name = unique_id()
    done = runtime("run", "--bundle", bundle.path, name, check=False)
    assert done.returncode != 0
    assert runtime("state", name, check=False).returncode == 1


def test_log_has_the_error_as_text(runtime: Runtime, bundle: Bundle) -> None:
    """`--log` gets the error as text by default, and standard error has it too."""
    log = bundle.path / "log"
    runtime.global_args = ["--log", str(log)]
    done = runtime("state", "nobody", check=False)
    assert done.returncode == 1
    assert "container does not exist" in log.read_text()
    assert "container does not exist" in done.stderr


@pytest.mark.parametrize("command", [["state", "nobody"], ["start", "nobody"], ["kill", "nobody", "9"]])
def test_json_log_has_exactly_one_line(runtime: Runtime, bundle: Bundle, command: list[str]) -> None:
    """With --log-format json an error is one JSON document: podman parses the file as a whole."""
    log = bundle.path / "log"
    runtime.global_args = ["--log", str(log), "--log-format", "json"]
    runtime(*command, check=False)
    lines = log.read_text().splitlines()
    assert len(lines) == 1
    entry = json.loads(lines[0])
    assert entry["level"] == "error"
    assert "container does not exist" in entry["msg"]
    assert entry["time"][10] == "T"


def test_json_log_of_a_refused_create_is_one_document(runtime: Runtime, bundle: Bundle) -> None:
    """The error that podman shows for a missing program is the only error line."""
    log = bundle.path / "log"
    runtime.global_args = ["--log", str(log), "--log-format", "json"]
    bundle.process["args"] = ["/no/such/program"]
    runtime.run(bundle, check=False)
    errors = [json.loads(line) for line in log.read_text().splitlines()]
    assert [e["level"] for e in errors if e["level"] == "error"] == ["error"]
    assert "no such file or directory" in errors[-1]["msg"]


def test_log_is_empty_after_success(runtime: Runtime, bundle: Bundle) -> None:
    """Without --debug, a success writes nothing into the log."""
    log = bundle.path / "log"
    runtime.global_args = ["--log", str(log), "--log-format", "json"]
    runtime.run(bundle, "true")
    assert not log.exists() or log.read_text() == ""


def test_wrong_log_format_is_refused(runtime: Runtime) -> None:
    """Only text and json exist."""
    runtime.global_args = ["--log-format", "xml"]
    done = runtime("list", check=False)
    assert done.returncode != 0
    assert "xml" in done.stderr


BAD_LINES = [["nosuchcommand"], ["state"], ["kill"], ["create", "a", "b"], ["run", "--no-such-flag", "x"]]


@pytest.mark.parametrize("args", BAD_LINES, ids=["unknown", "state", "kill", "create", "flag"])
def test_wrong_command_line_is_refused(runtime: Runtime, args: list[str]) -> None:
    """A wrong command line exits non-zero and does nothing."""
    done = runtime(*args, check=False)
    assert done.returncode != 0
    assert (done.stderr + done.stdout).strip() != ""


def test_failed_create_leaves_no_cgroup(runtime: Runtime, bundle: Bundle) -> None:
    """An error late in create takes the cgroups away again, and frees the id."""
    bundle.process["args"] = ["/no/such/program"]
    runtime.run(bundle, check=False)
    assert cgroups.find(cgroups.name_of(bundle.linux["cgroupsPath"])) == []
    bundle.shell("echo ran")
    assert runtime.run(bundle).stdout == "ran\n"


@needs("exclusive-cgroup")
def test_cgroup_in_use_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """A second container in a group with processes: `container's cgroup is not empty`, or the unit is there already."""
    reason = {"cgroupfs": "container's cgroup is not empty", "systemd": "already loaded"}[driver()]
    with runtime.start(bundle) as c:
        done = runtime.run(bundle, "true", check=False)
        assert done.returncode != 0
        assert reason in done.stderr
        assert c.status == "running"


def test_second_container_may_not_start_in_a_frozen_group(runtime: Runtime, bundle: Bundle) -> None:
    """A frozen group would hang the new container: it is refused."""
    with runtime.start(bundle) as c:
        c.command("pause")
        done = runtime.run(bundle, "true", check=False)
        assert done.returncode != 0
        assert c.status == "paused"
        c.command("resume")
