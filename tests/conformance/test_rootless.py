"""Rootless: an unprivileged user's own containers, with one mapped id and with ranges."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conformance.harness import Bundle, Runtime, namespace_of, parse_status, reap, status_of
from conformance.holders import in_private_mounts
from conformance.host import host
from conformance.rootfs import chown_tree
from conformance.runtimes import needs
from conformance.spec import add_bind, add_mount, add_namespace, drop_mount, drop_namespace, rootless

if TYPE_CHECKING:
    from conformance.harness import Container

UID = GID = 48611

# A planner that root has started is not the planner of an unprivileged user.
pytestmark = [host("root", "userns"), pytest.mark.cold]


@pytest.fixture
def user(runtime: Runtime, bundle: Bundle, directory: Path) -> Runtime:
    """The runtime as an unprivileged user, who owns the bundle and a state root."""
    runtime.uid, runtime.gid = UID, GID
    # Nobody has started a systemd for this user.
    runtime.driver_args = ()
    home = directory / "home"
    home.mkdir()
    for path in (home, bundle.path, directory):
        os.chown(path, UID, GID)
    chown_tree(bundle.rootfs, UID, GID)
    runtime.env = {"XDG_RUNTIME_DIR": str(home), "HOME": str(home)}
    rootless(bundle.spec, UID, GID)
    add_namespace(bundle.spec, "network")
    # With one mapped id there is no group 5 for devpts.
    return runtime


def test_rootless_run(user: Runtime, bundle: Bundle) -> None:
    """An unprivileged user runs a program as root of a user namespace."""
    done = user.run(bundle, "id -u; id -g; cat /proc/self/uid_map")
    assert done.lines[:2] == ["0", "0"]
    assert done.lines[2].split() == ["0", str(UID), "1"]


def test_rootless_process_is_the_users(user: Runtime, bundle: Bundle) -> None:
    """On the host the process has the user's ids, and no others."""
    with user.start(bundle) as c:
        status = status_of(c.pid)
        assert status["Uid"].split() == [str(UID)] * 4
        assert status["Gid"].split() == [str(GID)] * 4
        assert namespace_of(c.pid, "user") != namespace_of("self", "user")


def test_rootless_setgroups_is_denied(user: Runtime, bundle: Bundle) -> None:
    """With a single mapping the kernel demands that setgroups is denied."""
    with user.start(bundle) as c:
        assert c.proc("setgroups") == "deny\n"


def test_rootless_life_cycle(user: Runtime, bundle: Bundle) -> None:
    """create, start, state, exec, kill and delete without any privilege."""
    with user.create(bundle, "exec sleep 1000") as c:
        assert c.status == "created"
        c.start()
        assert c.status == "running"
        assert c.sh("id -u; echo $$").lines[0] == "0"
        c.kill("KILL")
        assert c.wait() == 137
        assert c.status == "stopped"
        c.delete()
        assert c.command("state", check=False).returncode == 1


def test_rootless_state_root_is_in_the_runtime_directory(user: Runtime, bundle: Bundle) -> None:
    """Without --root the state lies below XDG_RUNTIME_DIR."""
    bundle.shell("exec sleep 1000")
    bundle.write()
    home = Path(user.env["XDG_RUNTIME_DIR"])
    program, name = user.path, f"{bundle.path.parent.name}-x"
    plain = Runtime(program, user.root, user.name, user.version, user.env, uid=UID, gid=GID)
    plain.prefix = ["sh", "-c", 'shift 3; exec "$0" "$@"', program]
    # argv is PROGRAM --root DIR ARGS: the wrapper takes away the middle.
    plain("run", "--detach", "--pid-file", bundle.path / "p", "--bundle", bundle.path, name, output=bundle.path / "o")
    try:
        found = [path for path, names, _ in os.walk(home) if name in names]
        assert len(found) == 1
        assert plain("state", name).json()["status"] == "running"
    finally:
        plain("delete", "--force", name)


def test_rootless_mounts(user: Runtime, bundle: Bundle) -> None:
    """tmpfs, bind, read-only and masked paths work without privilege."""
    source = bundle.host_dir("data")
    os.chown(source, UID, GID)
    add_bind(bundle.spec, str(source), "/mnt", "ro")
    add_mount(bundle.spec, "/tmp", "tmpfs", "tmpfs", "size=1m")
    bundle.linux["maskedPaths"] = ["/proc/kcore", "/var"]
    bundle.linux["readonlyPaths"] = ["/proc/sys"]
    done = user.run(bundle, "> /tmp/x; > /mnt/x || echo locked; ls /var; > /var/x || echo masked; echo x > /dev/null")
    assert done.lines == ["locked", "masked"]


def test_rootless_devices_are_bound(user: Runtime, bundle: Bundle) -> None:
    """The default devices are the host's, by bind mount."""
    done = user.run(bundle, "head -c 2 /dev/zero | wc -c; stat -c %t:%T /dev/null /dev/full /dev/tty")
    assert done.lines == ["2", "1:3", "1:7", "5:0"]


def test_rootless_exec_pid_namespace(user: Runtime, bundle: Bundle) -> None:
    """exec joins all namespaces of the user's container."""
    with user.start(bundle) as c:
        told = c.sh("for n in user pid mnt net uts ipc; do readlink /proc/self/ns/$n; done").lines
        assert told == [namespace_of(c.pid, n) for n in ("user", "pid", "mnt", "net", "uts", "ipc")]


def test_rootless_hostname(user: Runtime, bundle: Bundle) -> None:
    """The uts namespace is the user's own."""
    bundle.spec["hostname"] = "mine"
    assert user.run(bundle, "hostname").stdout == "mine\n"


def test_rootless_with_the_hosts_network(user: Runtime, bundle: Bundle) -> None:
    """Without a network namespace, the host's is seen."""
    drop_namespace(bundle.spec, "network")
    assert user.run(bundle, "readlink /proc/self/ns/net").stdout.strip() == namespace_of("self", "net")


def test_rootless_capabilities_are_full_inside(user: Runtime, bundle: Bundle) -> None:
    """Root of the namespace has the capabilities that the config gives it."""
    found = parse_status(user.run(bundle, "cat /proc/self/status").stdout)
    assert int(found["CapEff"], 16) == 1 << 5 | 1 << 10 | 1 << 29


def test_rootless_oom_score_is_not_lowered(user: Runtime, bundle: Bundle) -> None:
    """A higher oomScoreAdj is set; an unprivileged user may do that."""
    bundle.process["oomScoreAdj"] = 500
    assert user.run(bundle, "cat /proc/self/oom_score_adj").stdout == "500\n"


def test_rootless_cgroups_path_that_cannot_be_had_is_refused(user: Runtime, bundle: Bundle) -> None:
    """S2.4: a limit that was asked for and cannot be set is an error."""
    bundle.linux["cgroupsPath"] = "/corral-nobody/x"
    bundle.linux["resources"] = {"pids": {"limit": 10}}
    user.refuse(bundle)


def test_rootless_user_without_mapping_is_refused(user: Runtime, bundle: Bundle) -> None:
    """process.user has to be mapped."""
    bundle.process["user"] = {"uid": 1, "gid": 1}
    user.refuse(bundle)


def test_rootless_additional_groups_are_refused(user: Runtime, bundle: Bundle) -> None:
    """Where setgroups is denied, additionalGids cannot be had."""
    bundle.process["user"]["additionalGids"] = [1]
    user.refuse(bundle)


def test_rootless_foreign_mapping_is_refused(user: Runtime, bundle: Bundle) -> None:
    """Nobody maps ids that are not theirs."""
    bundle.linux["uidMappings"] = [{"containerID": 0, "hostID": 0, "size": 1}]
    user.refuse(bundle)


def with_ranges(user: Runtime, bundle: Bundle) -> None:
    """Give the user ids 700000 to 765535, by files that only the wrapped runtime sees."""
    for name, line in (("passwd", f"tester:x:{UID}:{GID}::/:/bin/sh\n"), ("group", f"tester:x:{GID}:\n")):
        (bundle.path / name).write_text(Path(f"/etc/{name}").read_text() + line)
    (bundle.path / "subid").write_text("tester:700000:65536\n")
    binds = [("passwd", "passwd"), ("group", "group"), ("subid", "subuid"), ("subid", "subgid")]
    setup = "".join(f"mount --bind {bundle.path / name} /etc/{to}\n" for name, to in binds)
    setpriv = f'set -- setpriv --reuid={UID} --regid={GID} --clear-groups -- "$@"\n'
    user.uid = None
    user.prefix = in_private_mounts(setup + setpriv)
    bundle.linux["uidMappings"] = [
        {"containerID": 0, "hostID": UID, "size": 1},
        {"containerID": 1, "hostID": 700000, "size": 65536},
    ]
    bundle.linux["gidMappings"] = [dict(entry) for entry in bundle.linux["uidMappings"]]


@host("newuidmap")
def test_newuidmap_gives_ranges(user: Runtime, bundle: Bundle) -> None:
    """With /etc/subuid and newuidmap, several ids are mapped, and usable."""
    with_ranges(user, bundle)
    with user.start(bundle) as c:
        assert c.proc("uid_map").split() == ["0", str(UID), "1", "1", "700000", "65536"]
        assert c.proc("gid_map").split() == ["0", str(GID), "1", "1", "700000", "65536"]


@host("newuidmap")
def test_newuidmap_allows_other_users(user: Runtime, bundle: Bundle) -> None:
    """A process of another mapped user."""
    with_ranges(user, bundle)
    bundle.process["user"] = {"uid": 5, "gid": 6}
    with user.start(bundle) as c:
        status = status_of(c.pid)
        assert status["Uid"].split() == ["700004"] * 4
        assert status["Gid"].split() == ["700005"] * 4


@host("newuidmap")
@needs("rootless-additional-groups")
def test_newuidmap_allows_additional_groups(user: Runtime, bundle: Bundle) -> None:
    """With groups mapped by newgidmap, setgroups is allowed, and supplementary groups can be had."""
    with_ranges(user, bundle)
    bundle.process["user"] = {"uid": 5, "gid": 6, "additionalGids": [7]}
    with user.start(bundle) as c:
        assert status_of(c.pid)["Groups"].split() == ["700006"]


@host("newuidmap")
def test_newuidmap_exec_with_another_user(user: Runtime, bundle: Bundle) -> None:
    """exec --user takes any mapped id."""
    with_ranges(user, bundle)
    with user.start(bundle) as c:
        assert c.sh("id -u; id -g", "--user", "9:9").lines == ["9", "9"]


@host("newuidmap")
def test_newuidmap_that_refuses_is_an_error(user: Runtime, bundle: Bundle) -> None:
    """A range that /etc/subuid does not give is refused."""
    with_ranges(user, bundle)
    bundle.linux["uidMappings"][1]["hostID"] = 900000
    bundle.shell(": > /started")
    done = user.run(bundle, check=False)
    assert done.returncode != 0
    assert not (bundle.rootfs / "started").exists()


@needs("no-cgroup-recorded")
def test_rootless_container_without_cgroup_is_told_so(user: Runtime, bundle: Bundle) -> None:
    """S2.11: ps and pause of a container without a cgroup say that it has none."""
    with user.start(bundle) as c:
        done = c.command("pause", check=False)
        assert done.returncode != 0
        assert "cgroup" in done.stderr
        assert "Traceback" not in done.stderr


@needs("no-cgroup-recorded")
def test_rootless_kill_all_without_group_and_pid_namespace_says_so(user: Runtime, bundle: Bundle) -> None:
    """S2.10: with neither a cgroup nor a pid namespace, nobody can tell which processes are all."""
    drop_namespace(bundle.spec, "pid")
    drop_mount(bundle.spec, "/proc")
    with user.start(bundle) as c:
        done = c.kill("KILL", "--all", check=False)
        assert "cgroup" in done.stderr
        if done.returncode == 0:
            assert c.wait() == 137


@needs("xdg-for-nested-root")
def test_root_of_a_user_namespace_has_its_state_in_the_runtime_directory(
    runtime: Runtime, bundle: Bundle, directory: Path
) -> None:
    """uid 0 in a user namespace is not the host's root: XDG_RUNTIME_DIR counts for it too."""
    home = directory / "home"
    home.mkdir()
    bundle.linux.pop("cgroupsPath")
    bundle.linux.pop("resources")
    drop_namespace(bundle.spec, "cgroup")
    bundle.shell("exec sleep 1000")
    bundle.write()
    name = f"{directory.name}-n"
    nested = Runtime(runtime.path, runtime.root, runtime.name, runtime.version, {"XDG_RUNTIME_DIR": str(home)})
    # argv is PROGRAM --root DIR ARGS: the wrapper takes away the middle, and is root of a new user namespace.
    inner = ["unshare", "--user", "--map-root-user", "sh", "-c", 'shift 3; exec "$0" "$@"', runtime.path]
    nested.prefix = [*inner]
    nested.global_args = ["--cgroup-manager", "disabled"]
    nested("run", "--detach", "--pid-file", bundle.path / "p", "--bundle", bundle.path, name, output=bundle.path / "o")
    found = [path for path, names, _ in os.walk(home) if name in names]
    pid = int((bundle.path / "p").read_text())
    os.kill(pid, signal.SIGKILL)
    reap(pid)
    nested("delete", "--force", name)
    assert len(found) == 1


def test_rootless_delete_without_a_cgroup_leaves_nothing(user: Runtime, bundle: Bundle) -> None:
    """S2: deleting a container that never had a cgroup is a plain success."""
    container: Container
    with user.start(bundle, "exit 0") as container:
        container.wait()
        assert container.delete().returncode == 0
