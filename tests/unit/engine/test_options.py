"""Options named as in Podman and Docker, to a definition."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from corral.cli.container_flags import CONTAINER, IMAGE
from corral.engine import option_names
from corral.engine.option_mounts import parse_mounts, parse_ports
from corral.engine.option_names import check_options
from corral.engine.option_process import parse_signal, parse_ulimit
from corral.engine.option_values import parse_duration, parse_environment, parse_size
from corral.engine.options import DEFAULT_PIDS, definition_from
from corral.errors import CorralError, InvalidArgument, NotFound


def definition(image: str = "host", command: tuple[str, ...] = (), **options: Any) -> Any:
    """The definition for options; underscores stand for dashes."""
    given = {name.replace("_", "-"): value for name, value in options.items()}
    return definition_from(given, image, command, environ={"HOME": "/h", "X_A": "1", "X_B": "2"}, cwd="/srv")


def refused(**options: Any) -> InvalidArgument:
    """The error that options come to."""
    with pytest.raises(InvalidArgument) as caught:
        definition(**options)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("10b", 10), ("64k", 65536), ("1m", 1 << 20), ("1.5g", 3 << 29), ("2GB", 2 << 30), ("1MiB", 1 << 20)],
)
def test_sizes_are_powers_of_1024(text: str, expected: int) -> None:
    """Docker's units, in any case."""
    assert parse_size("memory", text) == expected


@pytest.mark.parametrize("text", ["", "m", "1x", "-1m", "1 m m", "1e3", "٣"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """Flag, value and remedy."""
    with pytest.raises(InvalidArgument, match="not a size") as caught:
        parse_size("memory", text)
    assert "512m" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "expected"), [("10", 10), ("1.5s", 1.5), ("500ms", 0.5), ("1m30s", 90), ("2h", 7200), ("1h1m1s", 3661)]
)
def test_durations_are_seconds(text: str, expected: float) -> None:
    """Go's notation, and bare seconds."""
    assert parse_duration("time", text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "s", "1q", "m1", "-1s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """As for sizes."""
    with pytest.raises(InvalidArgument, match="not a"):
        parse_duration("time", text)


def test_smallest_definition_leaves_everything_at_its_default() -> None:
    """`corral run host`: no network, a bound on processes, nothing else."""
    found = definition()
    assert found["root"] == {"kind": "host"}
    assert found["network"] == {"mode": "none"}
    assert found["resources"] == {"pids": DEFAULT_PIDS}
    assert sorted(found) == ["created_ns", "id", "name", "network", "process", "resources", "root", "schema"]


def test_image_gets_a_bridge_and_rootless_pasta() -> None:
    """The default network; a pod's member shares the pod's."""
    assert definition("alpine")["network"]["mode"] == "bridge"
    assert definition("alpine", pod="p")["network"]["mode"] == "pod"
    found = definition_from({}, "alpine", (), environ={}, is_rootless=True)
    assert (found["network"]["mode"], "resources" in found) == ("pasta", False)


def test_limits_are_numbers_of_the_kernel() -> None:
    """--cpus becomes quota and period; -1 is no bound."""
    found = definition(memory="64m", memory_swap="-1", cpus="1.5", pids_limit="-1", cpu_shares="512")["resources"]
    assert found == {
        "memory_bytes": 1 << 26,
        "memory_swap_bytes": -1,
        "cpu_period_us": 100000,
        "cpu_quota_us": 150000,
        "cpu_shares": 512,
        "pids": -1,
    }


def test_process_is_taken_as_it_was_given() -> None:
    """Command, user, terminal, entrypoint as one word or as JSON."""
    found = definition("i", ("a", "b"), user="1:2", tty=True, interactive=True, entrypoint='["x", "y"]', init=True)
    assert found["process"] == {
        "command": ["a", "b"],
        "user": "1:2",
        "terminal": True,
        "stdin": True,
        "init": True,
        "entrypoint": ["x", "y"],
    }
    assert definition("i", entrypoint="a b")["process"]["entrypoint"] == ["a b"]
    assert definition("i", entrypoint="")["process"]["entrypoint"] == []


def test_environment_merges_files_shell_and_flags(tmp_path: Path) -> None:
    """Files first, then -e; a name takes the shell's value; PREFIX* takes many; comments are skipped."""
    (tmp_path / "env").write_text("# c\nA=1\n\nX_A\nNOT_THERE\n  B=x y\n")
    options = {"env-file": [f"{tmp_path}/env"], "env": ["A=2", "X_*", "NONE"], "unsetenv": ["B"]}
    found = parse_environment(options, {"X_A": "1", "X_B": "2"})
    assert found == ["A=1", "X_A=1", "B=x y", "A=2", "X_A=1", "X_B=2", "B"]


def test_volumes_have_three_forms(tmp_path: Path) -> None:
    """A host directory, a name, a place alone; relative paths are the caller's."""
    (tmp_path / "src").mkdir()
    found = parse_mounts({"volume": ["./src:/a:ro,Z", "data:/b:nocopy", "/c", f"{tmp_path}:/d/"]}, str(tmp_path))
    assert found == [
        {"type": "bind", "source": f"{tmp_path}/src", "target": "/a", "options": ["ro", "Z"]},
        {"type": "volume", "source": "data", "target": "/b", "copy_up": False},
        {"type": "volume", "source": "", "target": "/c", "is_anonymous": True},
        {"type": "bind", "source": str(tmp_path), "target": "/d"},
    ]


def test_mount_in_words_means_the_same() -> None:
    """--mount type=...,source=...,target=..., with Docker's and Podman's words."""
    texts = [
        "type=bind,src=/usr,dst=/a,readonly,bind-propagation=rslave",
        "type=volume,source=v,target=/b,ro=false",
        "type=tmpfs,destination=/c,tmpfs-size=1m,tmpfs-mode=700",
    ]
    assert parse_mounts({"mount": texts}, "/") == [
        {"type": "bind", "source": "/usr", "target": "/a", "options": ["ro", "rslave"]},
        {"type": "volume", "source": "v", "target": "/b", "options": ["rw"]},
        {"type": "tmpfs", "target": "/c", "options": ["size=1048576", "mode=700"]},
    ]


def test_read_only_root_keeps_writable_places() -> None:
    """--read-only mounts /run, /tmp and /var/tmp, unless told not to, or something is mounted there."""
    targets = [item["target"] for item in definition(read_only=True, tmpfs=["/tmp"])["mounts"]]
    assert sorted(targets) == ["/run", "/tmp", "/var/tmp"]
    assert "mounts" not in definition(read_only=True, read_only_tmpfs=False)


@pytest.mark.parametrize(
    ("option", "value", "cause"),
    [
        ("volume", ["a:b:c:d"], "not of the form"),
        ("volume", ["data:rel"], "is not absolute"),
        ("volume", ["data:/"], "the container's root"),
        ("volume", ["in valid:/x"], "neither a volume's name nor a host path"),
        ("volume", ["data:/x:r0"], "'r0' is no option"),
        ("volume", ["data:/x:O"], "O, an overlay above it, is not supported"),
        ("mount", ["type=bind,source=/usr,target=/x,bind-propagation=ro"], "'ro' is no propagation"),
        ("mount", ["type=nfs,target=/x"], "type 'nfs' is unknown"),
        ("mount", ["type=bind,target=/x"], "without a source"),
        ("mount", ["type=bind,source=/usr,target=/x,colour=red"], "unknown word 'colour'"),
        ("tmpfs", ["/t:size=many"], "not a size"),
        ("publish", ["0:80"], "'0' is no port"),
        ("publish", ["80-81:80"], "different lengths"),
        ("publish", ["80:80/xyz"], "protocol 'xyz' is unknown"),
        ("name", "-x", "not a name"),
        ("workdir", "rel", "not absolute"),
        ("restart", "sometimes", "no such choice"),
        ("restart", "always:3", "takes no count"),
        ("ulimit", ["nofile=5:3"], "above the hard one"),
        ("ulimit", ["nothing=1"], "is no resource limit"),
        ("security_opt", ["colour=red"], "unknown option"),
        ("memory", "lots", "not a size"),
        ("cpus", "0", "not a number in range"),
        ("network", ["none", "bridge"], "excludes other networks"),
        ("add_host", ["a"], "not of the form"),
        ("dns", ["one.one"], "no IP address"),
        ("dns", ["192.0.2.53\nnameserver 192.0.2.66"], "no IP address"),
        ("dns_search", ["example.org\nnameserver 192.0.2.66"], "more than one word"),
        ("dns_option", ["ndots:1 rotate"], "more than one word"),
        ("label_file", ["/nonexistent"], "no such file"),
        ("stop_signal", "NOPE", "no such signal"),
        ("log_opt", ["max-size=x"], "not a size"),
        ("log_opt", ["colour=red"], "unknown option"),
        ("health_retries", "0", "not a number in range"),
        ("userns", "sometimes", "no such choice"),
        ("pid", "container:", "no such choice"),
        ("umask", "9", "not an octal mode"),
        ("device_cgroup_rule", ["x"], "not a rule"),
        ("sysctl", ["a"], "not of the form"),
    ],
)
def test_wrong_value_names_flag_value_and_remedy(option: str, value: Any, cause: str) -> None:
    """Every error says which flag, which value, why, and what to write instead."""
    with pytest.raises(CorralError) as caught:
        definition("alpine", **{option: value})
    first = value[0] if isinstance(value, list) else value
    assert str(caught.value).startswith(f"--{option.replace('_', '-')} ")
    assert cause in str(caught.value)
    assert repr(first) in str(caught.value) or first.partition("=")[2] in str(caught.value)
    assert caught.value.hint


def test_bind_of_a_missing_directory_is_refused_at_once() -> None:
    """Nothing is made on the host for a name that was mistyped."""
    with pytest.raises(NotFound, match="--volume '/nonexistent/x:/x': /nonexistent/x: no such file or directory"):
        definition(volume=["/nonexistent/x:/x"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", [("", 0, 80, "tcp")]),
        ("8080:80", [("", 8080, 80, "tcp")]),
        (":80/udp", [("", 0, 80, "udp")]),
        ("127.0.0.1:8080:80", [("127.0.0.1", 8080, 80, "tcp")]),
        ("[::1]:8080:80/sctp", [("::1", 8080, 80, "sctp")]),
        ("127.0.0.1::80", [("127.0.0.1", 0, 80, "tcp")]),
        ("8000-8001:80-81", [("", 8000, 80, "tcp"), ("", 8001, 81, "tcp")]),
    ],
)
def test_ports_have_many_forms(text: str, expected: list[tuple[str, int, int, str]]) -> None:
    """[IP:][HOST:]CONTAINER[/PROTOCOL], and ranges."""
    found = parse_ports([text])
    assert [(p["host_ip"], p["host_port"], p["container_port"], p["protocol"]) for p in found] == expected


def test_ports_of_a_host_root_bring_a_network() -> None:
    """`corral run -p 80 host`: publishing says that a network is wanted."""
    assert definition(publish=["80"])["network"]["mode"] == "bridge"
    assert "no use with --network none" in str(refused(publish=["80"], network=["none"]))


def test_networks_take_words_behind_the_name() -> None:
    """--network NAME:ip=...,alias=..., and --network-alias for all of them."""
    found = definition("i", network=["back:ip=10.1.0.2,alias=db", "front"], network_alias=["web"])["network"]
    assert found["attachments"] == [
        {"name": "back", "ip": "10.1.0.2", "aliases": ["db", "web"]},
        {"name": "front", "aliases": ["web"]},
    ]
    assert definition("i", network=["container:x"])["network"] == {"mode": "container", "container": "x"}


def test_security_options_come_together() -> None:
    """--security-opt in both notations, capabilities as lists."""
    found = definition(
        cap_add=["net_admin,SYS_TIME"],
        cap_drop=["ALL"],
        security_opt=["no-new-privileges", "seccomp=profile.json", "unmask=/proc/a:/proc/b", "writable-cgroups=true"],
    )["security"]
    assert found == {
        "cap_add": ["net_admin", "SYS_TIME"],
        "cap_drop": ["ALL"],
        "no_new_privileges": True,
        "seccomp": "/srv/profile.json",
        "unmask": ["/proc/a", "/proc/b"],
        "writable_cgroups": True,
    }


def test_health_and_restart_and_log() -> None:
    """Times in seconds, commands as in an image."""
    found = definition(
        health_cmd="curl x",
        health_interval="5s",
        health_retries="2",
        restart="on-failure:3",
        log_driver="json-file",
        log_opt=["max-size=1m", "max-file=2"],
    )
    assert found["health"] == {"command": ["CMD-SHELL", "curl x"], "interval_s": 5, "retries": 2}
    assert found["restart"] == {"policy": "on-failure", "max_retries": 3}
    assert found["log"] == {"driver": "json-file", "max_bytes": 1 << 20, "files": 2}
    assert definition(no_healthcheck=True)["health"] == {"command": ["NONE"]}


def test_rootfs_is_a_directory_as_it_is_or_below_an_overlay(tmp_path: Path) -> None:
    """--rootfs DIR writes to it, DIR:O does not."""
    assert definition(str(tmp_path), rootfs=True)["root"] == {
        "kind": "rootfs",
        "path": str(tmp_path),
        "is_direct": True,
    }
    assert definition(f"{tmp_path}:O", rootfs=True)["root"]["is_direct"] is False
    assert "not a directory" in str(refused(image=f"{tmp_path}/none", rootfs=True))


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"rm": True, "restart": "always"}, "--restart 'always': excludes --rm"),
        ({"hostname": "x", "uts": "host"}, "--hostname 'x': excludes --uts host"),
        ({"sysctl": ["net.a=1"], "network": ["host"]}, "--sysctl 'net.a': excludes --network host"),
        ({"cpus": "1", "cpu_quota": "1000"}, "--cpus '1': excludes --cpu-quota"),
    ],
)
def test_options_that_exclude_each_other_are_refused(options: Any, cause: str) -> None:
    """What one says makes the other impossible."""
    assert str(refused(**options)) == cause


@pytest.mark.parametrize(
    ("text", "expected"),
    [("TERM", "SIGTERM"), ("sigint", "SIGINT"), ("9", "SIGKILL"), ("RTMIN+3", "SIGRTMIN+3"), ("37", "SIGRTMIN+3")],
)
def test_signals_have_names_and_numbers(text: str, expected: str) -> None:
    """Any of the usual notations."""
    assert parse_signal("stop-signal", text) == expected


def test_ulimit_is_written_in_one_form() -> None:
    """Soft and hard, -1 for none."""
    assert parse_ulimit("NOFILE=10") == "nofile=10:10"
    assert parse_ulimit("core=0:unlimited") == "core=0:-1"


def test_io_limits_name_the_device_by_number() -> None:
    """The kernel knows devices by numbers."""
    found = definition(device_read_bps=["/dev/null:1m"])["resources"]["device_limits"]
    number = os.stat("/dev/null").st_rdev
    assert found == [{"kind": "read_bps", "major": os.major(number), "minor": os.minor(number), "rate": 1 << 20}]


def test_user_namespace_maps_may_be_given_once_for_both() -> None:
    """--uidmap alone is for groups, too."""
    found = definition(uidmap=["0:100000:65536"])["namespaces"]
    assert found == {"uid_map": [(0, 100000, 65536)], "gid_map": [(0, 100000, 65536)]}


@pytest.mark.parametrize("value", ["a:1.2.3.4\n6.6.6.6 evil", "a b:1.2.3.4", "a", ":1.2.3.4", "a:"])
def test_added_host_is_refused_when_it_is_not_one_word(value: str) -> None:
    """It becomes one line of /etc/hosts."""
    assert "--add-host" in str(refused(**{"add-host": [value]}))


def test_storage_opt_bounds_the_writable_layer() -> None:
    """`size=` is all that there is, as in Docker and Podman."""
    assert definition(storage_opt=["size=10m"])["storage_bytes"] == 10 << 20
    assert str(refused(storage_opt=["inodes=5"])) == "--storage-opt 'inodes=5': unknown option 'inodes'"


def test_a_programs_options_are_refused_when_there_is_none_such() -> None:
    """`memmory=` from Python must not mean no limit; the hint has the name that was meant."""
    with pytest.raises(InvalidArgument) as caught:
        check_options({"memmory": "64m"})
    assert str(caught.value) == "option 'memmory': there is none such"
    assert caught.value.hint == "did you mean memory?"


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"memory": None}, "memory=None: it takes a text or a number"),
        ({"memory": True}, "memory=True: it takes a text or a number"),
        ({"rm": "yes"}, "rm='yes': it takes True or False"),
        ({"env": {"A": "1"}}, "env={'A': '1'}: it takes a text, or a list of texts"),
    ],
)
def test_a_programs_options_are_refused_when_they_are_of_another_type(options: dict[str, Any], cause: str) -> None:
    """What would be taken for absent."""
    with pytest.raises(InvalidArgument) as caught:
        check_options(options)
    assert str(caught.value) == f"option {cause}"


def test_a_programs_numbers_are_options_as_texts_are() -> None:
    """`pids_limit=100` is a limit."""
    found = check_options({"pids_limit": 100, "cpus": 0.5, "env": "A=1", "rm": True})
    assert found == {"pids-limit": "100", "cpus": "0.5", "env": ["A=1"], "rm": True}


def test_a_program_has_all_options_that_the_command_line_has() -> None:
    """But for those that are about the command itself."""
    flags = {flag.name: flag.kind for flag in CONTAINER if flag not in IMAGE}
    for name in ("replace", "cidfile"):
        del flags[name]
    known = [("bool", option_names.SWITCHES), ("value", option_names.VALUES), ("many", option_names.MANY)]
    assert flags == {name: kind for kind, names in known for name in names}
