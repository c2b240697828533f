"""corral.runtime.prepare: from a command line to a compiled container, and every error on that way."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from corral.cgroup.layout import Hierarchy, Layout
from corral.errors import CorralError, InvalidArgument, Unsupported
from corral.runtime import prepare
from corral.runtime.options import parse
from corral.runtime.prepare import Surroundings, load_job, raise_problems
from corral.runtime.wire import decode
from unit.runtime.bundles import around, make_bundle, read_state, use_host, write_config
from unit.runtime.jobs import config, namespaces


@pytest.fixture(autouse=True)
def _host(monkeypatch: pytest.MonkeyPatch) -> None:
    use_host(monkeypatch, "v2")


def refused(folder: Path, *words: str, **env: str) -> CorralError:
    """Prepare, which has to be refused; the error. Nothing may be left behind."""
    with pytest.raises(CorralError) as caught:
        prepare.prepare(parse(["--root", str(folder / "root"), *words]), around(folder, **env))
    assert not (folder / "root").exists()
    return caught.value


def test_record_holds_all_that_later_commands_need(tmp_path: Path) -> None:
    """Programs, config and state, under the container's name."""
    bundle = make_bundle(tmp_path, {**config(), "annotations": {"a": "b"}})
    prepared = prepare.prepare(parse(["--root", "root", "create", "--bundle", "bundle", "c1"]), around(tmp_path))
    prepared.reservation.close()
    state = read_state(tmp_path / "root", "c1")

    assert {
        "schema": 1,
        "ociVersion": "1.3.0",
        "id": "c1",
        "bundle": str(bundle),
        "rootfs": str(bundle / "rootfs"),
        "annotations": {"a": "b"},
        "cgroupAbsences": [],
        "freezer": [2, "/sys/fs/cgroup/caller/c1"],
        "scope": None,
    } == {key: state[key] for key in state if key not in ("created", "owner", "cgroups")}
    assert ["intended"] == [group["fate"] for group in state["cgroups"]]
    assert (bundle / "config.json").read_bytes() == (tmp_path / "root" / "c1" / "config.json").read_bytes()
    for name in ("start", "kill", "state", "delete"):
        assert len(decode((tmp_path / "root" / "c1" / f"{name}.plan").read_bytes())) > 0
    assert len(decode(prepared.plan)) == len(prepared.job.plan)


def test_missing_config_is_told_with_its_path(tmp_path: Path) -> None:
    """And how to get one."""
    error = refused(tmp_path, "create", "c1")

    assert f"read {tmp_path}/config.json: no such file or directory" == str(error)
    assert "give the bundle's directory with --bundle; `corral-runtime spec` writes a config.json" == error.hint
    assert "not-found" == error.kind


def test_config_flag_names_another_file(tmp_path: Path) -> None:
    """crun's --config."""
    make_bundle(tmp_path)
    error = refused(tmp_path, "create", "--bundle", "bundle", "--config", "other.json", "c1")

    assert f"read {tmp_path}/other.json: no such file or directory" == str(error)
    (tmp_path / "bundle" / "config.json").rename(tmp_path / "other.json")
    job, _ = load_job(parse(["--root", "root", "run", "-b", "bundle", "-f", "other.json", "c1"]), around(tmp_path))
    assert str(tmp_path / "bundle") == job.bundle


def test_config_that_is_a_directory_is_told(tmp_path: Path) -> None:
    """The kernel's words, and the path."""
    make_bundle(tmp_path)
    error = refused(tmp_path, "create", "--bundle", "bundle", "--config", "bundle", "c1")

    assert f"read {tmp_path}/bundle: is a directory" == str(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "parse BUNDLE/config.json: line 1 column 1: unexpected end of data"),
        ('{"root": }', "parse BUNDLE/config.json: line 1 column 10: value expected"),
        ("[]", "validate config.json: want an object, got an array"),
        ("{}", "validate config.json: missing (config ociVersion)"),
    ],
)
def test_config_that_is_no_config_is_told(tmp_path: Path, text: str, message: str) -> None:
    """Where, and what was expected."""
    (make_bundle(tmp_path) / "config.json").write_text(text)
    error = refused(tmp_path, "create", "--bundle", "bundle", "c1")

    assert message.replace("BUNDLE", f"{tmp_path}/bundle") == str(error)
    assert isinstance(error, InvalidArgument)


def test_first_of_many_errors_tells_of_the_others(tmp_path: Path) -> None:
    """`check` shows them all."""
    document = config(resources={"pids": {"limit": "x"}})
    document["hostname"] = 5
    write_config(make_bundle(tmp_path), document)
    error = refused(tmp_path, "create", "--bundle", "bundle", "c1")

    assert "validate config.json: want a string, got 5 (config hostname)" == str(error)
    assert error.hint.endswith("1 more problem: corral-runtime check lists all")


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("nowhere", "open the rootfs {0}/bundle/nowhere: no such file or directory (config root.path)"),
        ("config.json", "open the rootfs {0}/bundle/config.json: not a directory (config root.path)"),
    ],
)
def test_rootfs_that_is_none_is_told(tmp_path: Path, root: str, message: str) -> None:
    """With its absolute path."""
    write_config(make_bundle(tmp_path), {**config(), "root": {"path": root}})
    error = refused(tmp_path, "create", "--bundle", "bundle", "c1")

    assert message.format(tmp_path) == str(error)
    assert "root.path is relative to the bundle, and must be a directory" == error.hint


@pytest.mark.parametrize("name", ["", "a/b", ".."])
def test_id_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    """Before anything is read."""
    make_bundle(tmp_path)

    assert "id" in str(refused(tmp_path, "create", "--bundle", "bundle", name))


def test_path_of_the_systemd_form_is_refused_by_the_cgroupfs_driver(tmp_path: Path) -> None:
    """S0.4: path and driver are named, and it is not read as a directory."""
    write_config(make_bundle(tmp_path), config(cgroupsPath="user.slice:corral:x"))
    error = refused(tmp_path, "create", "--bundle", "bundle", "c1")

    assert (
        "place group at 'user.slice:corral:x' with the cgroupfs driver: it is in the systemd form 'slice:prefix:name' "
        "(config linux.cgroupsPath)"
    ) == str(error)


def test_descriptor_to_preserve_must_be_open(tmp_path: Path) -> None:
    """--preserve-fds counts from 3."""
    make_bundle(tmp_path)
    error = refused(tmp_path, "create", "--bundle", "bundle", "--preserve-fds", "2", "c1")
    line = parse(["--root", "root", "create", "--bundle", "bundle", "--preserve-fds", "2", "c1"])
    job, _ = load_job(line, Surroundings(str(tmp_path), {}, (3, 4)))

    assert "preserve 2 descriptors: descriptor 3 is not open" == str(error)
    assert "--preserve-fds 2 passes descriptors 3 to 4" == error.hint
    assert 2 == job.options.preserve_fds


@pytest.mark.parametrize("number", ["-1", "1025"])
def test_number_of_descriptors_to_preserve_has_bounds(tmp_path: Path, number: str) -> None:
    """Said by the planner, before anything is made."""
    make_bundle(tmp_path)
    error = refused(tmp_path, "create", "--bundle", "bundle", f"--preserve-fds={number}", "c1")

    assert f"preserve {number} descriptors: not between 0 and 1024" == str(error)


def test_descriptors_to_preserve_are_counted_after_the_sockets(tmp_path: Path) -> None:
    """As sd_listen_fds(3) has the first places."""
    make_bundle(tmp_path)
    line = parse(["--root", "root", "create", "--bundle", "bundle", "--preserve-fds", "1", "c1"])
    env = {"LISTEN_FDS": "2"}
    with pytest.raises(CorralError) as caught:
        load_job(line, Surroundings(str(tmp_path), env, (3, 4)))
    job, _ = load_job(line, Surroundings(str(tmp_path), env, (3, 4, 5)))

    assert "preserve 1 descriptors: descriptor 5 is not open" == str(caught.value)
    assert (2, 1) == (job.options.listen_fds, job.options.preserve_fds)


@pytest.mark.parametrize(("text", "number"), [("3", 3), ("", 0), ("x", 0), ("-1", 0), ("99999", 0), ("4", 0)])
def test_listen_fds_count_only_as_a_number_of_open_ones(text: str, number: int) -> None:
    """The environment is anybody's; what is no count, or no descriptor, is none."""
    assert number == prepare.listen_fds(Surroundings("/", {"LISTEN_FDS": text}, (3, 4, 5)))


@pytest.mark.parametrize(("pid", "number"), [("77", 1), ("78", 0), ("", 0)])
def test_listen_fds_of_another_process_do_not_count(pid: str, number: int) -> None:
    """sd_listen_fds(3): LISTEN_PID says whose they are, and a child inherits the environment all the same."""
    env = {"LISTEN_FDS": "1", "LISTEN_PID": pid}

    assert number == prepare.listen_fds(Surroundings("/", env, (3,), pid=77))


def test_terminal_needs_somewhere_to_go(tmp_path: Path) -> None:
    """runc's words, which callers match."""
    document = config()
    document["process"]["terminal"] = True
    write_config(make_bundle(tmp_path), document)
    error = refused(tmp_path, "create", "--bundle", "bundle", "c1")

    assert (
        "open the terminal: cannot allocate tty if runc will detach without setting console socket "
        "(config process.terminal)"
    ) == str(error)
    write_config(tmp_path / "bundle", config())
    error = refused(tmp_path, "create", "--bundle", "bundle", "--console-socket", "s", "c1")
    assert "cannot use console socket if runc will not detach or allocate tty" in str(error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            {"linux": {"mountLabel": "system_u:object_r:x"}},
            "set the mount label 'system_u:object_r:x': selinux is not enabled on this host (config linux.mountLabel)",
            id="mount label",
        ),
        pytest.param(
            {"process": {"selinuxLabel": "a:b:c"}},
            "selinux is not enabled on this host (config process.selinuxLabel)",
            id="process label",
        ),
        pytest.param(
            {"process": {"apparmorProfile": "unconfined-x"}},
            "apparmor is not enabled on this host (config process.apparmorProfile)",
            id="profile",
        ),
        pytest.param(
            {"linux": {"intelRdt": {}}},
            "set up intelRdt: resctrl is not mounted on this host (config linux.intelRdt)",
            id="resctrl",
        ),
        pytest.param(
            {"linux": {"resources": {"network": {"classID": 1}}}},
            "this host has no 'net_cls' cgroup controller (layout v2) (config linux.resources.network.classID)",
            id="controller",
        ),
        pytest.param(
            {"linux": {"namespaces": namespaces("pid"), "maskedPaths": [], "readonlyPaths": []}},
            "the container has no mount namespace, and mounts would be made on the host (config mounts)",
            id="mounts on the host",
        ),
    ],
)
def test_what_this_host_lacks_is_refused_with_the_pointer(
    tmp_path: Path, change: dict[str, dict[str, Any]], message: str
) -> None:
    """The clear error instead of a container that is not what was asked for."""
    document = config()
    document.pop("hostname")
    for section, members in change.items():
        document[section] = {**document[section], **members}
    write_config(make_bundle(tmp_path), document)
    error = refused(tmp_path, "create", "--bundle", "bundle", "c1")

    assert str(error).endswith(message)
    assert error.hint


def test_disabled_manager_refuses_limits_only(tmp_path: Path) -> None:
    """Device rules are no limit, everybody sends them (S2.4); a pids limit is one."""
    words = ["--cgroup-manager", "disabled", "run", "--bundle", "bundle", "c1"]
    make_bundle(tmp_path)
    job, _ = load_job(parse(["--root", "root", *words]), around(tmp_path))
    assert ([], ["the cgroup manager is disabled"]) == (job.problems, job.groups.absences)
    write_config(tmp_path / "bundle", config(resources={"pids": {"limit": 5}}))
    job, _ = load_job(parse(["--root", "root", *words]), around(tmp_path))

    assert [
        "set pids.max to '5': the container has no cgroup for it: the cgroup manager is disabled "
        "(config linux.resources.pids.limit)"
    ] == [str(problem) for problem in job.problems]


def test_view_without_our_own_group_means_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root of a user namespace whose cgroup mount shows other groups than its cgroup namespace has: none to have."""
    host = use_host(monkeypatch, "nested")
    host.layout = Layout((Hierarchy(0, 2, ("pids",), mount_point="/cg", mount_root="/other", own_path="/own"),))
    make_bundle(tmp_path)
    job, _ = load_job(parse(["--root", "root", "run", "--bundle", "bundle", "c1"]), around(tmp_path))

    reason = "resolve cgroup path 'c1': it is relative, and no mounted hierarchy shows this process's own group"
    assert ([], [reason]) == (job.problems, job.groups.absences)
    assert [
        f"the container has no cgroup of its own: {reason}; it cannot be limited, paused or counted"
    ] == job.warnings


def test_unprivileged_user_without_helpers_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mapping more than one id needs newuidmap."""
    host = use_host(monkeypatch, "rootless")
    host.newuidmap = host.newgidmap = ""
    maps = [{"containerID": 0, "hostID": 100000, "size": 10}]
    write_config(
        make_bundle(tmp_path),
        config(namespaces=namespaces("mount", "user", "uts"), uidMappings=maps, gidMappings=maps),
    )
    job, _ = load_job(parse(["--root", "root", "run", "--bundle", "bundle", "c1"]), around(tmp_path))

    assert [
        f"map {kind}s: this needs the program new{kind}map, which is not installed (config linux.{kind}Mappings)"
        for kind in ("uid", "gid")
    ] == [str(problem) for problem in job.problems]
    assert isinstance(job.problems[0], Unsupported)


def test_problems_are_raised_as_the_first_with_a_count() -> None:
    """One error to read, and where to find the rest."""
    raise_problems([])
    with pytest.raises(InvalidArgument) as caught:
        raise_problems([InvalidArgument("one", hint="do this"), InvalidArgument("two"), InvalidArgument("three")])
    assert "do this; and 2 more: `corral-runtime check` shows all" == caught.value.hint
    with pytest.raises(InvalidArgument) as caught:
        raise_problems([InvalidArgument("one")])
    assert "" == caught.value.hint


def test_only_create_and_run_fill_the_seccomp_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """check and explain leave no trace."""
    caches: list[object] = []

    def compile_profile(seccomp: object, *, cache_dir: str | None, **_: object) -> None:
        caches.append(cache_dir)
        raise Unsupported("no libseccomp")

    monkeypatch.setattr("corral.linux.seccomp.compile_profile", compile_profile)
    write_config(make_bundle(tmp_path), config(seccomp={"defaultAction": "SCMP_ACT_ALLOW"}))
    for command in ("create", "run", "check", "explain"):
        line = parse(["--root", "root", command, "--bundle", "bundle"])
        job, _ = load_job(line, around(tmp_path), "c1")
        assert ["no libseccomp"] == [str(problem) for problem in job.problems]

    assert [f"{tmp_path}/root/.seccomp"] * 2 + [None] * 2 == caches


def test_notify_socket_is_shown_inside(tmp_path: Path) -> None:
    """The relay's directory is mounted, and named in the environment."""
    make_bundle(tmp_path)
    job, _ = load_job(
        parse(["--root", "root", "run", "--bundle", "bundle", "c1"]), around(tmp_path, NOTIFY_SOCKET="/run/n.sock")
    )
    execs = [step.args for step in job.plan if step.op == "EXEC"]

    assert "NOTIFY_SOCKET=/run/notify/notify.sock" in execs[0][1]  # type: ignore[operator]
    assert any(step.op == "BIND" and step.args[1] == "/run/notify" for step in job.plan)


def test_owner_is_named_or_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A uid without a name is shown as itself."""
    assert "root" == prepare._user_name(0)
    assert "4000000000" == prepare._user_name(4000000000)


def test_bundle_is_resolved_from_the_callers_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The resident planner stands elsewhere."""
    make_bundle(tmp_path)
    monkeypatch.chdir("/")
    job, raw = load_job(parse(["--root", "root", "run", "--bundle", "bundle/../bundle", "c1"]), around(tmp_path))

    assert (str(tmp_path / "bundle"), os.path.realpath(tmp_path / "bundle" / "rootfs")) == (job.bundle, job.rootfs)
    assert config()["hostname"] == json.loads(raw)["hostname"]


def test_root_of_the_host_is_no_rootfs(tmp_path: Path) -> None:
    """A link to it is one just as little: devices and links would be made in the host's own tree."""
    bundle = make_bundle(tmp_path, config())
    (bundle / "rootfs").rmdir()
    (bundle / "rootfs").symlink_to("/")
    error = refused(tmp_path, "create", "--bundle", "bundle", "c1")

    assert ("use the rootfs /: it is the root of the host itself", "root.path") == (error.message, error.pointer)
