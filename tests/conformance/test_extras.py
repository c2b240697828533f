"""What corral has beyond runc: crun's extras, and commands of its own."""

from __future__ import annotations

import contextlib
import json
import os
import select
from typing import TYPE_CHECKING

import pytest

from conformance import cgroups, mountinfo
from conformance.harness import Bundle, Container, Runtime, status_of, unique_id
from conformance.runtimes import needs
from conformance.seccomp import profile, rule
from conformance.spec import add_bind, add_mount, add_namespace
from conformance.terminal import console_socket

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = needs("corral")


def test_config_may_be_another_file(runtime: Runtime, bundle: Bundle) -> None:
    """`--config FILE` is read in place of the bundle's config.json."""
    bundle.shell("echo from-config-json")
    bundle.write()
    bundle.shell("echo from-other")
    other = bundle.path / "other.json"
    other.write_text(json.dumps(bundle.spec))
    done = runtime("run", "--config", other, "--bundle", bundle.path, unique_id())
    assert done.stdout == "from-other\n"


def test_delete_by_regular_expression(runtime: Runtime, bundle: Bundle) -> None:
    """`delete --regex` removes each container whose id matches as a whole, and no other."""
    with runtime.create(bundle, "true") as one:
        bundle.linux["cgroupsPath"] += "b"
        with runtime.create(bundle, "true") as two:
            runtime("delete", "--force", "--regex", one.id)
            assert runtime("list", "--quiet").lines == [two.id]
            runtime("delete", "--force", "--regex", f"{two.id[:-1]}.*")
            assert runtime("list", "--quiet").lines == []


@contextlib.contextmanager
def mounts_file(bundle: Bundle, *entries: Mapping[str, object]) -> Iterator[str]:
    """The file that `mounts add` and `mounts remove` take."""
    path = bundle.path / "mounts.json"
    path.write_text(json.dumps(list(entries)))
    yield str(path)


def test_mount_is_added_to_a_running_container(runtime: Runtime, bundle: Bundle) -> None:
    """`mounts add` brings a directory of the host into the container, `mounts remove` takes it away."""
    source = bundle.host_dir("data")
    (source / "mark").touch()
    entry = {"destination": "/mnt", "type": "bind", "source": str(source), "options": ["bind", "ro"]}
    with runtime.start(bundle) as c, mounts_file(bundle, entry) as path:
        runtime("mounts", "add", c.id, path)
        assert c.exec("/bin/ls", "/mnt").stdout == "mark\n"
        assert "ro" in mountinfo.at(c.proc("mountinfo"), "/mnt").options
        runtime("mounts", "remove", c.id, path)
        assert c.exec("/bin/ls", "/mnt").stdout == ""


def test_mount_added_later_does_not_leave_the_root(runtime: Runtime, bundle: Bundle) -> None:
    """A link in the container cannot turn the destination to the host."""
    (bundle.rootfs / "link").symlink_to(f"../{bundle.path.name}")
    source = bundle.host_dir("data")
    entry = {"destination": "/link/x", "type": "bind", "source": str(source), "options": ["bind"]}
    before = sorted(os.listdir(bundle.path))
    with runtime.start(bundle) as c, mounts_file(bundle, entry) as path:
        runtime("mounts", "add", c.id, path, check=False)
    assert set(os.listdir(bundle.path)) - set(before) <= {"mounts.json", f"{c.id}.output", f"{c.id}.pid", "config.json"}


def test_mount_of_a_stopped_container_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """Without a process there is no mount namespace."""
    entry = {"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"}
    with runtime.start(bundle, "true") as c, mounts_file(bundle, entry) as path:
        c.wait()
        assert runtime("mounts", "add", c.id, path, check=False).returncode == 1


def test_output_of_hooks_goes_to_the_files_of_the_annotations(runtime: Runtime, bundle: Bundle) -> None:
    """run.oci.hooks.stdout and .stderr name files that the hooks' output is appended to."""
    out, err = bundle.path / "hook.out", bundle.path / "hook.err"
    bundle.spec["annotations"] = {"run.oci.hooks.stdout": str(out), "run.oci.hooks.stderr": str(err)}
    script = "echo to-out; echo to-err >&2"
    bundle.spec["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
    runtime.run(bundle, "true")
    assert (out.read_text(), err.read_text()) == ("to-out\n", "to-err\n")


def test_groups_of_the_caller_are_kept_on_request(runtime: Runtime, bundle: Bundle) -> None:
    """run.oci.keep_original_groups=1 leaves the caller's supplementary groups."""
    bundle.spec["annotations"] = {"run.oci.keep_original_groups": "1"}
    runtime.prefix = ["setpriv", "--groups", "4,2000", "--"]
    with runtime.start(bundle) as c:
        assert status_of(c.pid)["Groups"].split() == ["4", "2000"]


def has_ended(pidfd: int) -> bool:
    """Whether the process of a pidfd has ended."""
    ready, _, _ = select.select([pidfd], [], [], 10)
    return bool(ready)


def pid_of(pidfd: int) -> int:
    """The pid behind a pidfd, as this process sees it."""
    with open(f"/proc/self/fdinfo/{pidfd}") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))


def test_pidfd_socket_gets_the_init(runtime: Runtime, bundle: Bundle) -> None:
    """--pidfd-socket sends a pidfd of the init."""
    path = bundle.path / "pidfd.sock"
    with console_socket(path) as receiver, runtime.create(bundle, "true", "--pidfd-socket", str(path)) as c:
        pidfd, _ = receiver.receive()
        try:
            assert pid_of(pidfd) == c.pid
            c.delete("--force")
            assert has_ended(pidfd)
        finally:
            os.close(pidfd)


def test_pidfd_receiver_of_the_annotation(runtime: Runtime, bundle: Bundle) -> None:
    """run.oci.pidfd_receiver=PATH does the same through an annotation."""
    path = bundle.path / "pidfd.sock"
    bundle.spec["annotations"] = {"run.oci.pidfd_receiver": str(path)}
    with console_socket(path) as receiver, runtime.create(bundle, "true") as c:
        pidfd, _ = receiver.receive()
        try:
            assert pid_of(pidfd) == c.pid
        finally:
            os.close(pidfd)


def test_unknown_call_is_an_error_on_request(runtime: Runtime, bundle: Bundle) -> None:
    """run.oci.seccomp_fail_unknown_syscall=1 refuses a profile with a name that is not known here."""
    bundle.spec["annotations"] = {"run.oci.seccomp_fail_unknown_syscall": "1"}
    bundle.linux["seccomp"] = profile(rule(["no_such_call"], "SCMP_ACT_ERRNO"))
    runtime.refuse(bundle, "no_such_call")


def test_explain_shows_the_plan_and_starts_nothing(runtime: Runtime, bundle: Bundle) -> None:
    """`explain` prints the steps with their pointers into config.json, as text and as JSON."""
    add_mount(bundle.spec, "/mnt", "tmpfs", "tmpfs")
    bundle.shell(": > /ran")
    bundle.write()
    text = runtime("explain", "--bundle", bundle.path).stdout
    assert "mounts[4]" in text
    assert json.loads(runtime("explain", "--json", "--bundle", bundle.path).stdout)
    assert not (bundle.rootfs / "ran").exists()
    assert cgroups.find(cgroups.name_of(bundle.linux["cgroupsPath"])) == []
    assert runtime("list", "--quiet").stdout == ""


def test_check_of_a_good_bundle_succeeds(runtime: Runtime, bundle: Bundle) -> None:
    """`check` of a bundle that runs exits 0."""
    bundle.shell("true")
    bundle.write()
    assert runtime("check", "--bundle", bundle.path).returncode == 0


def test_check_reports_all_problems_at_once(runtime: Runtime, bundle: Bundle) -> None:
    """`check` exits non-zero and names every problem by its pointer, not only the first."""
    add_bind(bundle.spec, "/no/such/source", "/mnt")
    bundle.linux["sysctl"] = {"vm.swappiness": "1"}
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOTHING", "soft": 1, "hard": 1}]
    bundle.shell("true")
    bundle.write()
    done = runtime("check", "--bundle", bundle.path, check=False)
    told = done.stdout + done.stderr
    assert done.returncode != 0
    for pointer in ("mounts[4]", "vm.swappiness", "process.rlimits[0]"):
        assert pointer in told


REFUSED: dict[str, tuple[str, object]] = {
    "linux.namespaces[0].type": ("type", 7),
    "linux.resources.pids.limit": ("limit", "many"),
    "process.user.uid": ("uid", -1),
    "mounts[0].destination": ("destination", 3),
    "process.args": ("args", "sh"),
}


@pytest.mark.parametrize("pointer", REFUSED)
def test_wrong_type_is_refused_with_its_pointer(runtime: Runtime, bundle: Bundle, pointer: str) -> None:
    """A value of the wrong type is named by where it stands in config.json."""
    name, value = REFUSED[pointer]
    bundle.shell("true")
    bundle.resources["pids"] = {"limit": 5}
    places = {
        "type": bundle.linux["namespaces"][0],
        "limit": bundle.resources["pids"],
        "uid": bundle.process["user"],
        "destination": bundle.spec["mounts"][0],
        "args": bundle.process,
    }
    places[name][name] = value
    done = runtime.run(bundle, check=False)
    assert done.returncode == 1
    assert pointer in done.stderr


def test_error_of_a_step_has_its_pointer(runtime: Runtime, bundle: Bundle) -> None:
    """What the kernel refuses is told with the entry that asked for it."""
    add_mount(bundle.spec, "/mnt", "tmpfs", "tmpfs", "nosuchoption=1")
    done = runtime.refuse(bundle, "mounts[4]", "/mnt")
    assert "invalid argument" in done.stderr


def test_gc_finds_nothing_where_nothing_is_left(runtime: Runtime, bundle: Bundle) -> None:
    """`gc` leaves living containers alone and exits 0."""
    with runtime.start(bundle) as c:
        runtime("gc")
        assert c.status == "running"
        assert cgroups.directory(c.pid, "pids").exists()


def test_gc_removes_what_a_dead_front_has_left(runtime: Runtime, bundle: Bundle) -> None:
    """A create that was killed midway is finished by gc: no cgroup, no state, and the id is free."""
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID"], "env": ["PATH=/bin"]}
    bundle.spec["hooks"] = {"createRuntime": [hook]}
    bundle.shell("true")
    bundle.write()
    name = unique_id()
    done = runtime("create", "--bundle", bundle.path, name, check=False, output=bundle.path / "out")
    assert done.returncode != 0
    runtime("gc")
    assert runtime("list", "--quiet").stdout == ""
    assert cgroups.find(cgroups.name_of(bundle.linux["cgroupsPath"])) == []
    del bundle.spec["hooks"]
    with runtime.create(bundle, "true", id=name) as c:
        assert c.status == "created"


def test_create_after_a_killed_create_takes_the_id_at_once(runtime: Runtime, bundle: Bundle) -> None:
    """S4.14, S2.12: without any gc, the same id can be created again."""
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID"], "env": ["PATH=/bin"]}
    bundle.spec["hooks"] = {"createRuntime": [hook]}
    bundle.shell("true")
    bundle.write()
    name = unique_id()
    runtime("create", "--bundle", bundle.path, name, check=False, output=bundle.path / "out")
    del bundle.spec["hooks"]
    with runtime.create(bundle, "echo second", id=name) as c:
        c.start()
        assert c.wait() == 0
        assert "second" in c.output


def test_cgroup_manager_disabled_makes_no_group(runtime: Runtime, bundle: Bundle) -> None:
    """--cgroup-manager disabled: the process stays in the caller's group, and delete works."""
    del bundle.linux["cgroupsPath"]
    del bundle.linux["resources"]
    runtime.global_args = ["--cgroup-manager", "disabled"]
    with runtime.start(bundle) as c:
        assert cgroups.membership(c.pid) == cgroups.membership("self")
        assert c.sh("echo in").stdout == "in\n"


def test_journal_survives_in_state_of_a_stopped_container(runtime: Runtime, bundle: Bundle) -> None:
    """Each command on a container works from its record alone: the bundle may be gone."""
    container: Container
    add_namespace(bundle.spec, "network")
    with runtime.start(bundle) as container:
        (bundle.path / "config.json").unlink()
        assert container.status == "running"
        container.kill("KILL")
        assert container.wait() == 137
        container.delete()


def test_long_abstract_names_are_no_obstacle(runtime: Runtime, bundle: Bundle) -> None:
    """A console socket may lie at the longest path that a socket can have."""
    deep = bundle.path
    while len(str(deep)) < 80:
        deep = deep / "deeper"
    deep.mkdir(parents=True, exist_ok=True)
    path = deep / ("s" * (107 - len(str(deep)) - 1))
    bundle.process["terminal"] = True
    with console_socket(path) as console, runtime.create(bundle, "true", "--console-socket", str(path)):
        master, _ = console.receive()
        assert os.isatty(master)
        os.close(master)
