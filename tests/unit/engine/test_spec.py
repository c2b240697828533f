"""From a definition to config.json: defaults, merging with the image, namespaces, mounts, rights."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from corral.engine.spec import (
    DEFAULT_CAPABILITIES,
    MASKED_PATHS,
    argv,
    bounding_set,
    compile_spec,
    environment,
    runtime_flags,
    stop_signal,
)
from corral.errors import InvalidArgument
from corral.linux.caps import CAPABILITIES
from corral.oci.validate import validate

ID = "ab" * 32


def definition(**parts: Any) -> Any:
    """A definition of ``host`` without network, with ``parts`` put over it."""
    whole: dict[str, Any] = {
        "schema": 1,
        "id": ID,
        "name": "box",
        "created_ns": 0,
        "root": {"kind": "host"},
        "process": {"command": ["true"]},
        "network": {"mode": "none"},
    }
    return {**whole, **parts}


def place(**parts: Any) -> Any:
    """A host with everything; ``parts`` put over it."""
    whole: dict[str, Any] = {
        "rootfs": "/run/corral/containers/x/rootfs",
        "cgroups_path": "/corral/x",
        "account": {"uid": 0, "gid": 0, "groups": [], "home": "/root"},
        "machine": "x86_64",
        "capabilities": list(CAPABILITIES),
        "nofile_hard": 1 << 20,
    }
    return {**whole, **parts}


def spec(image: Any = None, *, at: Any = None, **parts: Any) -> Any:
    """The compiled configuration of ``definition(**parts)``."""
    return compile_spec(definition(**parts), image if image is not None else {}, at or place())


def mounts(config: Any) -> dict[str, Any]:
    """The mounts by destination; each must occur once."""
    found = {mount["destination"]: mount for mount in config["mounts"]}
    assert len(found) == len(config["mounts"])
    return found


def kinds(config: Any) -> dict[str, str | None]:
    """Namespace -> path of the one that is joined, None for a new one."""
    return {item["type"]: item.get("path") for item in config["linux"]["namespaces"]}


FULL = {
    "process": {
        "entrypoint": ["/bin/app"],
        "command": ["-v"],
        "env": ["A=b"],
        "terminal": True,
        "init": True,
        "umask": "0027",
        "ulimits": ["nofile=10:20", "core=unlimited", "nproc=5"],
        "workdir": "/srv",
    },
    "mounts": [
        {"type": "bind", "source": "/srv", "target": "/data", "options": ["ro", "Z"]},
        {"type": "volume", "source": "v", "target": "/data/v"},
        {"type": "tmpfs", "target": "/tmp", "options": ["size=1m", "exec"]},
    ],
    "resources": {
        "memory_bytes": 1 << 26,
        "cpu_quota_us": 50000,
        "cpu_period_us": 100000,
        "cpu_shares": 512,
        "cpuset_cpus": "0-1",
        "pids": 64,
        "blkio_weight": 100,
        "device_limits": [{"kind": "read_bps", "major": 8, "minor": 0, "rate": 1000}],
        "oom_score_adj": 100,
        "unified": {"memory.high": "1000000"},
    },
    "security": {"no_new_privileges": True, "read_only": True, "writable_cgroups": True, "mask": ["/proc/cpuinfo"]},
    "namespaces": {"uid_map": [(0, 100000, 65536)], "gid_map": [(0, 100000, 65536)]},
    "network": {"mode": "bridge"},
    "sysctls": {"net.ipv4.ip_forward": "1"},
    "device_rules": ["c 1:* rwm"],
    "hostname": "inside",
    "domainname": "example.org",
    "shm_bytes": 1 << 20,
    "annotations": {"a": "b"},
    "hooks": {"poststop": [{"path": "/bin/true"}]},
}


@pytest.mark.parametrize(
    ("parts", "at"),
    [
        pytest.param({}, {}, id="smallest"),
        pytest.param(FULL, {"volumes": {"v": "/vol/v"}, "init": "/usr/bin/corral-init"}, id="everything"),
        pytest.param({"security": {"privileged": True}}, {}, id="privileged"),
        pytest.param(
            {
                "namespaces": {"pid": "host", "ipc": "host", "uts": "host", "cgroup": "host"},
                "network": {"mode": "host"},
            },
            {},
            id="the host's namespaces",
        ),
    ],
)
def test_compiled_configuration_is_valid(parts: Any, at: Any) -> None:
    """Whatever is compiled passes the runtime's own validation without a finding."""
    config = spec(at=place(**at), **parts)
    assert [str(problem) for problem in validate(config)] == []


@pytest.mark.parametrize(
    ("process", "image", "expected"),
    [
        pytest.param({"command": ["a"]}, {}, ["a"], id="command"),
        pytest.param({}, {"command": ["i"]}, ["i"], id="the image's command"),
        pytest.param({"command": ["a"]}, {"entrypoint": ["e"], "command": ["i"]}, ["e", "a"], id="command replaced"),
        pytest.param({}, {"entrypoint": ["e"], "command": ["i"]}, ["e", "i"], id="the image's both"),
        pytest.param({"entrypoint": ["x"]}, {"entrypoint": ["e"], "command": ["i"]}, ["x"], id="own entrypoint"),
        pytest.param({"entrypoint": [], "command": ["a"]}, {"entrypoint": ["e"]}, ["a"], id="entrypoint removed"),
    ],
)
def test_argv_joins_entrypoint_and_command_as_docker_does(process: Any, image: Any, expected: list[str]) -> None:
    """An own entrypoint drops the image's command; an own command keeps the image's entrypoint."""
    assert argv(definition(process=process, root={"kind": "image"}), image) == expected


def test_argv_of_host_without_command_is_a_shell() -> None:
    """The host's root has no image to say what runs."""
    assert argv(definition(process={}), {}) == ["/bin/sh"]


def test_argv_without_any_command_is_refused() -> None:
    """The message names the container, the hint the way out."""
    with pytest.raises(InvalidArgument) as caught:
        argv(definition(process={}, root={"kind": "image"}), {})
    assert str(caught.value) == "run 'box': no command given, and the image has none"


def test_environment_merges_defaults_image_and_own_lines() -> None:
    """The last of a name wins, a bare name takes it away, HOME is the account's unless somebody says so."""
    process = {"command": ["x"], "env": ["A=3", "B"], "terminal": True}
    found = environment(definition(process=process), {"env": ["PATH=/bin", "A=1", "B=2"]}, "/home/u")
    assert found == ["PATH=/bin", "container=corral", f"HOSTNAME={ID[:12]}", "TERM=xterm", "A=3", "HOME=/home/u"]


@pytest.mark.parametrize(
    ("security", "expected"),
    [
        pytest.param({}, set(DEFAULT_CAPABILITIES), id="default"),
        pytest.param({"cap_add": ["net_admin"]}, {*DEFAULT_CAPABILITIES, "CAP_NET_ADMIN"}, id="added"),
        pytest.param({"cap_drop": ["CAP_KILL"]}, set(DEFAULT_CAPABILITIES) - {"CAP_KILL"}, id="dropped"),
        pytest.param({"cap_drop": ["all"], "cap_add": ["KILL"]}, {"CAP_KILL"}, id="all but one dropped"),
        pytest.param(
            {"cap_add": ["ALL"], "cap_drop": ["KILL"]}, set(CAPABILITIES) - {"CAP_KILL"}, id="all but one added"
        ),
        pytest.param({"privileged": True}, set(CAPABILITIES), id="privileged"),
    ],
)
def test_bounding_set_follows_the_flags(security: Any, expected: set[str]) -> None:
    """--cap-add and --cap-drop change the default set; what is named beats ALL."""
    assert set(bounding_set(definition(security=security), place())) == expected


def test_unknown_capability_is_refused() -> None:
    """A misspelt capability never passes for one."""
    with pytest.raises(InvalidArgument, match="capability 'NET_ADMN': there is no such capability"):
        bounding_set(definition(security={"cap_add": ["NET_ADMN"]}), place())


def test_other_users_have_only_capabilities_given_by_name() -> None:
    """A user other than root has the bounding set, and of it only what --cap-add names, ambient too."""
    at = place(account={"uid": 5, "gid": 60, "groups": [5], "home": "/"})
    process = spec(at=at, security={"cap_add": ["NET_ADMIN"]})["process"]
    assert process["user"] == {"uid": 5, "gid": 60, "additionalGids": [5]}
    assert process["capabilities"]["effective"] == ["CAP_NET_ADMIN"]
    assert process["capabilities"]["ambient"] == ["CAP_NET_ADMIN"]
    assert len(process["capabilities"]["bounding"]) == len(DEFAULT_CAPABILITIES) + 1


def test_namespaces_are_all_private_by_default() -> None:
    """Everything but the user namespace is the container's own."""
    assert kinds(spec()) == dict.fromkeys(("mount", "pid", "ipc", "uts", "cgroup", "network"))


def test_namespaces_of_others_are_joined_by_path() -> None:
    """What the place knows a path of is joined; ``host`` means no entry at all."""
    at = place(namespaces={"network": "/run/netns/n", "ipc": "/proc/7/ns/ipc"})
    config = spec(
        at=at, network={"mode": "pod"}, namespaces={"ipc": "pod", "uts": "host", "pid": "host", "cgroup": "host"}
    )
    assert kinds(config) == {"mount": None, "network": "/run/netns/n", "ipc": "/proc/7/ns/ipc"}
    assert "hostname" not in config


def test_namespace_of_a_container_that_is_not_running_is_refused() -> None:
    """Nothing is shared with what is not there; a private namespace in its stead would be a lie."""
    with pytest.raises(InvalidArgument, match="share the pid namespace of 'container:7'"):
        spec(namespaces={"pid": "container:7"})


def test_own_mounts_come_last_and_parents_before_children() -> None:
    """The order is that of making: a deeper destination never hides under a later parent."""
    asked = [
        {"type": "bind", "source": "/a", "target": "/x/y/z"},
        {"type": "bind", "source": "/b", "target": "/x/"},
        {"type": "tmpfs", "target": "/x/y"},
    ]
    assert [item["destination"] for item in spec(mounts=asked)["mounts"]][-3:] == ["/x", "/x/y", "/x/y/z"]


def test_bind_is_recursive_and_private_unless_said_otherwise() -> None:
    """The engine's words (Z, U) never reach the kernel."""
    asked = [
        {"type": "bind", "source": "/a", "target": "/a", "options": ["ro", "Z"]},
        {"type": "bind", "source": "/b", "target": "/b", "options": ["bind", "rshared"]},
    ]
    found = mounts(spec(mounts=asked))
    assert found["/a"]["options"] == ["rbind", "rprivate", "ro"]
    assert found["/b"]["options"] == ["bind", "rshared", "rw"]


def test_tmpfs_is_closed_by_default_and_copies_up() -> None:
    """As podman's: nosuid, nodev, noexec unless the opposite is asked for, and the image's content is copied."""
    asked = [{"type": "tmpfs", "target": "/t", "options": ["size=1m", "exec"]}]
    image = {"kind": "image", "image": "i"}
    found = mounts(spec(mounts=asked, root=image))
    assert found["/t"]["options"] == ["size=1m", "exec", "tmpcopyup", "nosuid", "nodev", "rw"]
    asked[0]["options"] = ["notmpcopyup"]
    assert "tmpcopyup" not in mounts(spec(mounts=asked, root=image))["/t"]["options"]


def test_tmpfs_over_a_directory_of_the_host_is_empty() -> None:
    """The host's /tmp is not the container's to have, and may be huge."""
    found = mounts(spec(mounts=[{"type": "tmpfs", "target": "/tmp"}]))
    assert found["/tmp"]["options"] == ["nosuid", "nodev", "noexec", "rw"]


def test_own_mount_on_dev_replaces_all_defaults_beneath() -> None:
    """`-v /dev:/dev` shows the host's, not a private devpts on top of it."""
    found = mounts(spec(mounts=[{"type": "bind", "source": "/dev", "target": "/dev"}]))
    assert sorted(path for path in found if path.startswith("/dev")) == ["/dev"]


def test_unknown_volume_is_refused() -> None:
    """A volume without a directory is never replaced by something empty."""
    with pytest.raises(InvalidArgument, match="mount volume 'v' on /v: it is not known where it is"):
        spec(mounts=[{"type": "volume", "source": "v", "target": "/v"}])


def test_privileged_container_has_nothing_masked_or_filtered() -> None:
    """--privileged: all capabilities and devices, no filter, no mask, writable sysfs."""
    config = spec(security={"privileged": True})
    assert (config["linux"]["maskedPaths"], config["linux"]["readonlyPaths"]) == ([], [])
    assert "seccomp" not in config["linux"]
    assert config["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert "rw" in mounts(config)["/sys"]["options"]


def test_unmask_takes_back_single_paths_or_all() -> None:
    """--security-opt unmask=PATH|ALL."""
    assert spec(security={"unmask": ["ALL"]})["linux"]["maskedPaths"] == []
    left = spec(security={"unmask": ["/proc/kcore"]})["linux"]["maskedPaths"]
    assert left == [path for path in MASKED_PATHS if path != "/proc/kcore"]


def test_default_filter_follows_the_capabilities() -> None:
    """Without CAP_SYS_ADMIN mount is refused and clone may make no namespace; with it both are allowed."""

    def rules(config: Any) -> dict[str, str]:
        return {name: rule["action"] for rule in config["linux"]["seccomp"]["syscalls"] for name in rule["names"]}

    bare = rules(spec())
    assert (bare["mount"], bare["clone3"]) == ("SCMP_ACT_ERRNO", "SCMP_ACT_ERRNO")
    more = rules(spec(security={"cap_add": ["SYS_ADMIN"]}))
    assert (more["mount"], more["clone3"]) == ("SCMP_ACT_ALLOW", "SCMP_ACT_ALLOW")
    assert "seccomp" not in spec(security={"seccomp": "unconfined"})["linux"]


def test_image_decides_what_the_definition_leaves_open() -> None:
    """Working directory, stop signal; the image's word counts only where nothing was said."""
    image = {"workdir": "/app", "stop_signal": "SIGINT"}
    assert spec(image)["process"]["cwd"] == "/app"
    assert spec(image, process={"command": ["x"], "workdir": "/w"})["process"]["cwd"] == "/w"
    assert stop_signal(definition(), image) == "SIGINT"  # type: ignore[arg-type]
    assert stop_signal(definition(process={"stop_signal": "SIGHUP"}), image) == "SIGHUP"  # type: ignore[arg-type]


def test_init_runs_the_command_behind_a_reaper() -> None:
    """--init: corral-init is mounted read-only and gets the command as it is."""
    config = spec(at=place(init="/opt/corral-init"), process={"command": ["sh", "-c", "x"], "init": True})
    assert config["process"]["args"] == ["/run/corral-init", "--", "sh", "-c", "x"]
    assert mounts(config)["/run/corral-init"]["source"] == "/opt/corral-init"


def test_swap_is_bounded_with_memory_where_the_host_can() -> None:
    """As in Docker and Podman: a memory limit without a word on swap allows as much swap again."""
    asked = {"memory_bytes": 1000}
    assert spec(resources=asked)["linux"]["resources"]["memory"] == {"limit": 1000}
    found = spec(at=place(can_limit_swap=True), resources=asked)["linux"]["resources"]["memory"]
    assert found == {"limit": 1000, "swap": 2000}


def test_open_files_have_a_stated_limit() -> None:
    """It does not depend on the shell that started the engine; an own --ulimit wins."""
    assert spec()["process"]["rlimits"] == [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 524288}]
    assert spec(at=place(nofile_hard=500))["process"]["rlimits"][0] == {
        "type": "RLIMIT_NOFILE",
        "soft": 500,
        "hard": 500,
    }
    own = spec(process={"command": ["x"], "ulimits": ["nofile=7:9", "core=-1"]})["process"]["rlimits"]
    assert own == [
        {"type": "RLIMIT_NOFILE", "soft": 7, "hard": 9},
        {"type": "RLIMIT_CORE", "soft": 2**64 - 1, "hard": 2**64 - 1},
    ]


def test_writable_cgroups_are_one_flag_of_the_runtime() -> None:
    """The mount is writable, and the runtime is told to prepare the group for it."""
    asked = definition(security={"writable_cgroups": True})
    assert runtime_flags(asked) == ["--cgroup-writable"]
    assert "rw" in mounts(spec(security={"writable_cgroups": True}))["/sys/fs/cgroup"]["options"]


def test_ping_needs_no_capability_in_a_network_of_ones_own() -> None:
    """The sysctl belongs to the network namespace: nothing is set where that is somebody else's."""
    assert spec()["linux"]["sysctl"] == {"net.ipv4.ping_group_range": "0 0"}
    assert "sysctl" not in spec(network={"mode": "host"})["linux"]


GOLDEN = Path(__file__).parent / "spec_golden.json"


@pytest.mark.parametrize(
    ("name", "parts", "at"),
    [
        ("smallest", {}, {}),
        ("everything", FULL, {"volumes": {"v": "/vol/v"}, "init": "/usr/bin/corral-init"}),
        ("privileged", {"security": {"privileged": True}}, {}),
    ],
)
def test_compiled_configuration_is_the_golden_one(name: str, parts: Any, at: Any) -> None:
    """A change of what containers get shows in this file; the filter is told by its own tests.

    ``CORRAL_GOLDEN=write`` makes it anew.
    """
    config = spec({"env": ["B=image"], "workdir": "/image"}, at=place(**at), **parts)
    config["linux"].pop("seccomp", None)
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("CORRAL_GOLDEN") == "write":
        golden[name] = config
        GOLDEN.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")
    assert json.loads(json.dumps(config)) == golden[name]
