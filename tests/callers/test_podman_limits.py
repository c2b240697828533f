"""podman as root: limits, user namespaces and the options that change what config.json asks for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from callers.children import wait_until
from callers.podman import Podman
from callers.sandbox import CGROUP_ROOT

MIB = 1024 * 1024


@pytest.fixture
def podman(podman_root: Podman) -> Iterator[Podman]:
    """podman with its image; all containers are removed and leaks looked for afterwards."""
    yield from podman_root.one_test()


def cgroup_of(podman: Podman, name: str, controller: str) -> Path:
    """The container's cgroup in one hierarchy (v1 or hybrid), or its only one (v2)."""
    pid = podman.inspect(name, "{{.State.Pid}}")
    lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    for _, controllers, path in lines:
        if controller in controllers.split(","):
            return CGROUP_ROOT / controller / path[1:]
    return CGROUP_ROOT / lines[-1][2][1:]


def read_limit(podman: Podman, name: str, controller: str, v1_name: str, v2_name: str) -> str:
    """The text of the limit's file, whichever version holds the controller."""
    group = cgroup_of(podman, name, controller)
    known = group / v1_name
    return (known if known.exists() else group / v2_name).read_text().strip()


@pytest.mark.parametrize(
    ("option", "controller", "v1_name", "v2_name", "expected"),
    [
        ("--memory=64m", "memory", "memory.limit_in_bytes", "memory.max", {str(64 * MIB)}),
        ("--pids-limit=77", "pids", "pids.max", "pids.max", {"77"}),
        ("--cpus=0.5", "cpu", "cpu.cfs_quota_us", "cpu.max", {"50000", "50000 100000"}),
        ("--cpu-shares=512", "cpu", "cpu.shares", "cpu.weight", {"512", "20", "59"}),
        ("--cpuset-cpus=0", "cpuset", "cpuset.cpus", "cpuset.cpus", {"0"}),
    ],
    ids=["memory", "pids", "cpus", "cpu-shares", "cpuset"],
)
def test_limit_is_in_the_kernel_when_asked_for(
    podman: Podman, option: str, controller: str, v1_name: str, v2_name: str, expected: set[str]
) -> None:
    """A limit given to podman stands in the container's own cgroup."""
    name = podman.start_sleeper(option)
    assert read_limit(podman, name, controller, v1_name, v2_name) in expected


def test_container_is_below_the_parent_in_every_hierarchy(podman: Podman) -> None:
    """All resource hierarchies hold the container below --cgroup-parent."""
    name = podman.start_sleeper()
    pid = podman.inspect(name, "{{.State.Pid}}")
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and not controllers.startswith("name="):
            assert path.startswith(podman.sandbox.cgroup_parent + "/"), line


def test_update_changes_the_limit_when_running(podman: Podman) -> None:
    """`podman update` reaches the kernel through the runtime."""
    name = podman.start_sleeper("--memory=64m")
    podman("update", "--memory=128m", name)
    limit = read_limit(podman, name, "memory", "memory.limit_in_bytes", "memory.max")
    assert limit == str(128 * MIB)


def test_oom_ends_with_137_when_over_the_limit(podman: Podman) -> None:
    """A program that outgrows its memory limit is killed."""
    assert podman.run("--rm", "--memory=16m", command=["tail", "/dev/zero"], code=137).code == 137


def test_uidmap_maps_ids_when_given(podman: Podman) -> None:
    """`--uidmap` makes a user namespace with that mapping."""
    out = podman.run("--rm", "--uidmap", "0:300000:1000", command=["cat", "/proc/self/uid_map"]).out
    assert out.split() == ["0", "300000", "1000"]


def test_userns_auto_takes_a_free_range(podman: Podman) -> None:
    """`--userns=auto` takes ids from the range of the user `containers`."""
    out = podman.run("--rm", "--userns=auto", command=["cat", "/proc/self/uid_map"]).out.split()
    assert out[0] == "0"
    assert 300000 <= int(out[1]) < 300000 + 131072


def test_exec_enters_the_user_namespace_when_mapped(podman: Podman) -> None:
    """`exec` into a container with a user namespace is root there, not outside."""
    name = podman.start_sleeper("--uidmap", "0:300000:1000")
    assert podman("exec", name, "sh", "-c", "id -u; cat /proc/self/uid_map").out.split()[:3] == ["0", "0", "300000"]


def test_pid_host_sees_the_host_when_asked(podman: Podman) -> None:
    """`--pid=host` shares the pid namespace, and kill ends every process of the container."""
    name = podman.run("-d", "--pid=host", command=["sh", "-c", "sleep 1000 & exec sleep 1000"]).out.strip()
    host = podman.sandbox.run(["readlink", "/proc/self/ns/pid"]).out
    assert podman("exec", name, "readlink", "/proc/self/ns/pid").out == host


def test_privileged_has_all_host_capabilities(podman: Podman) -> None:
    """`--privileged` gives the bounding set of the caller."""
    grep = ["grep", "-E", "CapBnd|CapEff", "/proc/self/status"]
    host = podman.sandbox.run(["grep", "CapBnd", "/proc/self/status"]).out.split()[1]
    inside = podman.run("--rm", "--privileged", command=grep).out.split()
    assert inside == ["CapEff:", host, "CapBnd:", host] or inside == ["CapBnd:", host, "CapEff:", host]


def test_default_capabilities_are_few_and_seccomp_filters(podman: Podman) -> None:
    """Without --privileged the sets are podman's defaults and a seccomp filter is on."""
    out = podman.run("--rm", command=["grep", "-E", "CapEff|Seccomp:", "/proc/self/status"]).out.split()
    assert out == ["CapEff:", "00000000a80425fb", "Seccomp:", "2"]


def test_read_only_root_refuses_writes_but_tmpfs_takes_them(podman: Podman) -> None:
    """`--read-only` and `--tmpfs` together."""
    script = "touch /x 2>/dev/null && echo wrote; touch /scratch/x && echo scratch; grep ' /scratch ' /proc/mounts"
    words = podman.run("--rm", "--read-only", "--tmpfs", "/scratch:size=1m,noexec", command=["sh", "-c", script]).out
    lines = words.splitlines()
    assert lines[0] == "scratch"
    assert "size=1024k" in lines[1]
    assert "noexec" in lines[1]


def test_volume_passes_files_both_ways(podman: Podman) -> None:
    """`-v` binds a host directory."""
    shared = podman.sandbox.path("shared")
    shared.mkdir(exist_ok=True)
    (shared / "in").write_text("from outside\n")
    script = "cat /shared/in; echo back > /shared/out"
    assert podman.run("--rm", "-v", "/run/c/shared:/shared", command=["sh", "-c", script]).out == "from outside\n"
    assert (shared / "out").read_text() == "back\n"


def test_options_of_the_process_reach_the_kernel(podman: Podman) -> None:
    """user, groups, workdir, hostname, sysctl, ulimit, umask."""
    options = ["--user", "1000:1000", "--group-add", "77", "--workdir", "/data", "--hostname", "box"]
    options += [
        "--sysctl",
        "net.ipv4.ip_forward=1",
        "--ulimit",
        "nofile=512:512",
        "--ulimit",
        "nproc=1024:1024",
        "--umask",
        "0027",
    ]
    script = "id -u; id -G; pwd; hostname; cat /proc/sys/net/ipv4/ip_forward; ulimit -n; umask"
    out = podman.run("--rm", *options, command=["sh", "-c", script]).out.splitlines()
    assert out == ["1000", "1000 77", "/data", "box", "1", "512", "0027"]


def test_device_is_there_when_added(podman: Podman) -> None:
    """`--device` makes the node and lets it be opened."""
    out = podman.run("--rm", "--device", "/dev/zero:/dev/nought", command=["head", "-c", "3", "/dev/nought"]).out
    assert out == "\0\0\0"


def test_bridge_serves_a_published_port(podman: Podman) -> None:
    """The network that podman makes is the container's: a published port answers."""
    name = podman.start_sleeper("--network", "podman", "-p", "8088:80")
    podman("exec", "-d", name, "httpd", "-p", "80", "-h", "/data")

    def answers() -> bool:
        got = podman.sandbox.run(["busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:8088/readme"], code=None)
        return got.out == "made from busybox\n"

    wait_until(answers, "the published port answers")


def test_container_joins_anothers_namespaces(podman: Podman) -> None:
    """`--network container:`, `--ipc` and `--pid` join by path."""
    name = podman.start_sleeper("--ipc", "shareable")
    script = "for kind in net ipc pid; do readlink /proc/self/ns/$kind; done"
    joined = ["--network", f"container:{name}", "--ipc", f"container:{name}", "--pid", f"container:{name}"]
    out = podman.run("--rm", *joined, command=["sh", "-c", script]).out
    assert out == podman("exec", name, "sh", "-c", script).out
