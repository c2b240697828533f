"""``check``: all problems at once, of the document and of this host; and it makes nothing."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from corral.runtime.commands import host_checks
from corral.runtime.commands.host_checks import Facts, Finding, check_host
from unit.runtime.bundles import make_bundle, use_host, write_config
from unit.runtime.commands.command_lines import Run
from unit.runtime.jobs import HOSTS, Config, config, namespaces


@pytest.fixture(autouse=True)
def _host(monkeypatch: pytest.MonkeyPatch) -> None:
    use_host(monkeypatch, "bare")


def with_program(bundle: Path, name: str = "bin/sh", mode: int = 0o755) -> Path:
    """The bundle, with a program in its rootfs."""
    path = bundle / "rootfs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/true\n")
    path.chmod(mode)
    return bundle


def plain(**members: Any) -> Config:
    """A config that nothing is wrong with anywhere."""
    document = config(resources={}, sysctl={})
    document["process"].pop("rlimits", None)
    return {**document, **members}


def findings(tmp_path: Path, document: Config, host: str = "bare") -> list[Finding]:
    """What the host checks say, without a compiled job."""
    bundle = tmp_path / "bundle"
    if not bundle.exists():
        with_program(make_bundle(tmp_path))
    return check_host(Facts(document, str(bundle), HOSTS[host](), None))


def shown(found: list[Finding]) -> list[str]:
    """Severity, pointer and message."""
    return [f"{f.severity} {f.pointer}: {f.message}" for f in found]


def test_good_bundle_has_no_problems(tmp_path: Path, run: Run, root: Path) -> None:
    """Exit code 0, a count, and nothing made: no state root, no cache."""
    bundle = with_program(make_bundle(tmp_path, plain()))
    root.rmdir()
    before = sorted(tmp_path.rglob("*"))

    assert (0, "0 errors, 0 warnings\n", "") == run("check", str(bundle))
    assert (0, "0 errors, 0 warnings\n", "") == run("check", "--bundle", str(bundle))
    assert before == sorted(tmp_path.rglob("*"))


def test_all_problems_are_told_at_once(tmp_path: Path, run: Run) -> None:
    """Of validation, errors and warnings, and of the host although the document is invalid."""
    document = plain(root={"path": "nowhere"}, hooks={"prestart": [{"path": "/no/hook"}]})
    document["linux"]["resources"] = {"pids": {"limit": "x"}}
    document["process"]["capabilities"] = {"bounding": ["CAP_FLY"]}
    document["mounts"].append({"destination": "/x", "source": "/no/source", "options": ["bind"]})
    number = len(document["mounts"]) - 1
    code, out, _ = run("check", str(make_bundle(tmp_path, document)))

    assert 1 == code
    assert [
        "error: linux.resources.pids.limit: want an integer, got the string 'x'",
        f"error: root.path: open the rootfs {tmp_path}/bundle/nowhere: no such file or directory",
        f"error: mounts[{number}].source: bind /no/source: no such file or directory",
        "error: hooks.prestart[0].path: run the hook /no/hook: no such file or directory",
        "warning: process.capabilities.bounding[0]: unknown capability 'CAP_FLY' is ignored",
        "4 errors, 1 warning",
    ] == [line for line in out.splitlines() if not line.startswith("  hint: ")]


def test_problems_of_compilation_are_told_with_the_rest(tmp_path: Path, run: Run) -> None:
    """What the host lacks, and what does not fit together."""
    document = plain(root={"path": "nowhere"})
    document["linux"] = {**document["linux"], "intelRdt": {}, "cgroupsPath": "a:b:c", "mountLabel": "l"}
    code, out, _ = run("check", "--json", str(make_bundle(tmp_path, document)))
    result = json.loads(out)

    assert (1, False, f"{tmp_path}/bundle") == (code, result["ok"], result["bundle"])
    assert ["root.path", "linux.cgroupsPath", "linux.mountLabel", "linux.intelRdt"] == [
        problem["pointer"] for problem in result["problems"]
    ]
    assert {"severity", "pointer", "message", "hint", "kind"} == set(result["problems"][0])


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "error: parse BUNDLE/config.json: line 1 column 2"), ("[]", "error: want an object, got an array")],
)
def test_file_that_is_no_config_is_one_problem(tmp_path: Path, run: Run, text: str, message: str) -> None:
    """Nothing else can be said of it."""
    (make_bundle(tmp_path) / "config.json").write_text(text)
    code, out, err = run("check", str(tmp_path / "bundle"))

    assert (1, "") == (code, err)
    assert out.startswith(message.replace("BUNDLE", f"{tmp_path}/bundle"))
    assert out.endswith("1 error, 0 warnings\n")


def test_missing_bundle_is_a_problem_too(tmp_path: Path, run: Run) -> None:
    """Not a traceback, and not a different form of output."""
    code, out, _ = run("check", "--json", str(tmp_path / "none"))

    assert (1, "not-found") == (code, json.loads(out)["problems"][0]["kind"])


def test_mount_sources_are_looked_up_from_the_bundle(tmp_path: Path) -> None:
    """Relative to it; a link counts as itself only for copy-symlink."""
    with_program(make_bundle(tmp_path), "x")
    (tmp_path / "bundle" / "link").symlink_to("/no/where")
    mounts = [
        {"destination": "/a", "type": "bind", "source": "rootfs"},
        {"destination": "/b", "source": "link", "options": ["rbind"]},
        {"destination": "/c", "source": "link", "options": ["bind", "copy-symlink"]},
        {"destination": "/d", "type": "tmpfs"},
        {"destination": "/e", "type": "nofs"},
        "no mount",
        {"destination": "/f", "type": "bind", "source": 5, "options": "x"},
    ]

    assert [
        f"error mounts[1].source: bind {tmp_path}/bundle/link: no such file or directory",
        "warning mounts[4].type: the running kernel does not list the filesystem 'nofs'; it may be a module not loaded "
        "yet",
    ] == shown(findings(tmp_path, {"mounts": mounts}))


def test_namespaces_must_be_there_and_of_their_type(tmp_path: Path) -> None:
    """The kernel knows what a file's type is."""
    paths = namespaces("pid", network="/proc/self/ns/net", uts="/proc/self/ns/net", ipc="/no/ns", mount="/etc/passwd")

    assert [
        "error linux.namespaces[2].path: join /proc/self/ns/net: it is a network namespace, not a uts namespace",
        "error linux.namespaces[3].path: join /no/ns: no such file or directory",
        "error linux.namespaces[4].path: join /etc/passwd: it is no namespace, not a mount namespace",
    ] == shown(findings(tmp_path, {"linux": {"namespaces": paths}}))


def test_hooks_must_be_programs(tmp_path: Path) -> None:
    """Those of the runtime on the host; startContainer's inside, where a mount may still bring it."""
    document = {
        "root": {"path": "rootfs"},
        "hooks": {
            "createRuntime": [{"path": "/bin/sh"}, {"path": "/no"}, {"path": "/etc/passwd"}, {"path": "/etc"}],
            "startContainer": [{"path": "/bin/sh"}, {"path": "/bin/none"}],
            "poststop": "x",
        },
    }

    assert [
        "error hooks.createRuntime[1].path: run the hook /no: no such file or directory",
        "error hooks.createRuntime[2].path: run the hook /etc/passwd: not executable",
        "error hooks.createRuntime[3].path: run the hook /etc: not executable",
        "warning hooks.startContainer[1].path: run /bin/none inside the rootfs: no such file or directory",
    ] == shown(findings(tmp_path, document))


@pytest.mark.parametrize(
    ("args", "env", "message"),
    [
        (["sh"], ["PATH=/sbin:/bin"], ""),
        (["/bin/sh"], [], ""),
        (["./bin/sh"], [], ""),
        (["sh"], [], ""),
        (["zork"], ["PATH=/bin"], "run 'zork' inside the rootfs: no such file or directory"),
        (["zork"], ["PATH=/bin:/sbin"], "run 'zork' inside the rootfs: not found in PATH"),
        (["/bin/data"], [], "run '/bin/data' inside the rootfs: not executable"),
        (["/bin"], [], "run '/bin' inside the rootfs: not a regular file"),
        (["/escape"], [], "run '/escape' inside the rootfs: no such file or directory"),
        (["/data/tool"], [], ""),
        ([], [], ""),
        ("sh", [], ""),
    ],
)
def test_program_is_looked_up_inside(tmp_path: Path, args: Any, env: list[str], message: str) -> None:
    """Links end inside the rootfs; below a mount nothing can be said; a missing one is only a warning."""
    bundle = with_program(with_program(make_bundle(tmp_path)), "bin/data", 0o644)
    (bundle / "rootfs" / "escape").symlink_to("/etc/passwd")
    document = {
        "root": {"path": "rootfs"},
        "process": {"args": args, "env": env, "cwd": "/"},
        "mounts": [{"destination": "/data", "type": "tmpfs"}],
    }
    found = shown(findings(tmp_path, document))

    assert ([f"warning process.args[0]: {message}"] if message else []) == found


def test_limit_above_the_callers_needs_a_capability(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CAP_SYS_RESOURCE; without it, prlimit would refuse."""
    monkeypatch.setattr("resource.getrlimit", lambda which: (5, 100 if which == 7 else -1))
    limits = [
        {"type": "RLIMIT_NOFILE", "soft": 1, "hard": 101},
        {"type": "RLIMIT_NOFILE", "soft": 1, "hard": (1 << 64) - 1},
        {"type": "RLIMIT_NOFILE", "soft": 1, "hard": 100},
        {"type": "RLIMIT_CORE", "soft": 1, "hard": 1 << 40},
        {"type": "RLIMIT_FLY", "hard": 1},
        {"type": "RLIMIT_NOFILE", "hard": "x"},
    ]
    cause = "the caller's own hard limit is 100, and it lacks CAP_SYS_RESOURCE"

    assert [
        f"error process.rlimits[0].hard: raise RLIMIT_NOFILE to 101: {cause}",
        f"error process.rlimits[1].hard: raise RLIMIT_NOFILE to unlimited: {cause}",
    ] == shown(findings(tmp_path, {"process": {"rlimits": limits}}, "rootless"))
    assert [] == findings(tmp_path, {"process": {"rlimits": limits}})


def test_ids_must_exist_in_the_callers_own_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nested: only what is mapped can be mapped further."""
    monkeypatch.setattr(host_checks, "read_map", lambda kind: [(0, 100000, 1000), (1000, 5, 1)])
    maps = [{"containerID": 0, "hostID": 900, "size": size} for size in (101, 102)] + [{"hostID": "x"}]
    document = {"linux": {"uidMappings": maps}}

    assert [
        "error linux.uidMappings[1]: map uids 900 to 1001: the caller's own user namespace lacks some"
    ] == shown(findings(tmp_path, document, "nested"))  # fmt: skip
    assert [] == findings(tmp_path, document)


def test_devices_are_bound_in_a_user_namespace(tmp_path: Path) -> None:
    """So they must be there; elsewhere they are made."""
    devices = [{"path": "/dev/null", "type": "c"}, {"path": "/dev/none", "type": "c"}, {"path": "/dev/p", "type": "p"}]
    document = {"linux": {"devices": devices, "namespaces": namespaces("user")}}

    assert ["error linux.devices[1].path: bind the device /dev/none: no such file or directory"] == shown(
        findings(tmp_path, document)
    )
    assert [] == findings(tmp_path, {"linux": {"devices": devices}})
    assert 1 == len(findings(tmp_path, {"linux": {"devices": devices}}, "rootless"))


def test_interfaces_sysctls_and_the_agent_are_looked_up(tmp_path: Path) -> None:
    """What is missing is told by its name."""
    agent = socket.socket(socket.AF_UNIX)
    agent.bind(str(tmp_path / "agent"))
    document: Config = {
        "linux": {
            "netDevices": {"lo": {}, "nodev9": {}},
            "sysctl": {"kernel.hostname": "x", "net.no.such": "1"},
            "seccomp": {"listenerPath": str(tmp_path / "agent")},
        }
    }
    expected = [
        "error linux.netDevices[\"nodev9\"]: move the interface 'nodev9': no such device",
        'warning linux.sysctl["net.no.such"]: this kernel has no such sysctl outside the container',
    ]

    assert expected == shown(findings(tmp_path, document))
    agent.close()
    document["linux"]["seccomp"]["listenerPath"] = "/etc/passwd"
    assert shown(findings(tmp_path, document))[-1].endswith("connect to /etc/passwd: not a socket")
    document["linux"]["seccomp"]["listenerPath"] = "/no/agent"
    assert shown(findings(tmp_path, document))[-1].endswith("connect to /no/agent: no such file or directory")


def test_group_that_is_taken_or_cannot_be_made_is_told(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An explicit path: populated, or below what may not be written to."""
    host = use_host(monkeypatch, "v2")
    hierarchy = host.layout.hierarchies[0]
    hierarchy.mount_point = str(tmp_path / "cg")
    (tmp_path / "cg" / "taken").mkdir(parents=True)
    for name in ("cgroup.procs", "cgroup.events"):
        (tmp_path / "cg" / "taken" / name).write_text("1\n")
    document = plain()
    document["linux"]["cgroupsPath"] = "/taken"
    code, out, _ = run("check", str(with_program(make_bundle(tmp_path, document))))
    assert (1, True) == (code, "error: linux.cgroupsPath: use group " in out)
    assert "container's cgroup is not empty" in out

    monkeypatch.setattr(os, "access", lambda path, mode: False)
    document["linux"]["cgroupsPath"] = "/new/one"
    write_config(tmp_path / "bundle", document)
    _, out, _ = run("check", str(tmp_path / "bundle"))
    assert f"make the cgroup {tmp_path}/cg/new/one: {tmp_path}/cg is not writable for this caller" in out


def test_group_that_need_not_be_is_only_warned_of(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rootless, without limits and without a path: the container goes without (S2.1)."""
    host = use_host(monkeypatch, "rootless")
    host.layout.hierarchies[0].mount_point = str(tmp_path / "cg")
    (tmp_path / "cg").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    document = plain()
    document["process"].pop("capabilities")
    code, out, _ = run("check", str(with_program(make_bundle(tmp_path, document))))
    directory = tmp_path / "cg"

    assert 0 == code
    assert [
        f"warning: the container gets no cgroup of its own: {directory}/caller/example: {directory} is not writable "
        "for this caller",
        "  hint: then it cannot be limited, paused or counted",
        "0 errors, 1 warning",
    ] == out.splitlines()


def test_nothing_in_a_document_makes_a_traceback(tmp_path: Path) -> None:
    """Every member of the wrong type: validation tells, the host checks pass it over."""
    wrong: list[Any] = [5, "x", [], {}, None, True, [[]], [{}], {"a": 5}]
    names = ("mounts", "hooks", "process", "linux", "root")
    inner = (
        "namespaces",
        "sysctl",
        "netDevices",
        "devices",
        "seccomp",
        "uidMappings",
        "rlimits",
        "args",
        "env",
        "path",
    )
    for value in wrong:
        for name in names:
            findings(tmp_path, {name: value}, "nested")
        for name in inner:
            findings(tmp_path, {"linux": {name: value}, "process": {name: value}, "root": {name: value}}, "nested")
