"""LOOPBACK, NET_MOVE, HOSTNAME, DOMAINNAME and SYSCTL, each in namespaces made for the test."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.runtime.plan import FRONT
from native.driver import Bench

pytestmark = [
    pytest.mark.requires("root", "cc", "busybox", "net-admin"),
    pytest.mark.skipif(shutil.which("ip") is None, reason="iproute2 makes the devices of these tests"),
]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Steps run in namespaces of their own, of all kinds that they touch."""
    return Bench(tmp_path, namespaces=("--net", "--uts", "--ipc", "--mount", "--propagation", "private"))


class Host:
    """A network namespace that plays the host, and one that plays the container, each held by a sleeper."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.holders = [subprocess.Popen(["unshare", "--net", "sleep", "300"]) for _ in range(2)]
        self.host, self.container = (str(holder.pid) for holder in self.holders)
        bench.namespaces = ()

    def ip(self, where: str, *args: str) -> str:
        """Run ip(8) in one of the namespaces."""
        command = ["nsenter", "-t", where, "-n", "ip", *args]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout

    def device(self, where: str, name: str) -> dict[str, Any]:
        """What ip(8) says about a device and its addresses."""
        (device,) = json.loads(self.ip(where, "-json", "address", "show", "dev", name))
        found: dict[str, Any] = device
        return found

    def move(self, name: str, new_name: str = "") -> str:
        """Run NET_MOVE from host to container; the words of its refusal, or ''."""
        command = self.bench.command([("NET_MOVE", name, new_name or name)], actor=FRONT)
        env = {"DRIVER_INIT_PID": self.container, "ASAN_OPTIONS": "detect_leaks=0"}
        prefix = ["nsenter", "-t", self.host, "-n", *command]
        return subprocess.run(prefix, env=env, capture_output=True, text=True, timeout=60).stderr.strip()


@pytest.fixture
def host(bench: Bench) -> Iterator[Host]:
    """Two namespaces, and in the one that plays the host a device with addresses."""
    pair = Host(bench)
    own = Path("/proc/self/ns/net").readlink()
    try:
        for pid in (pair.host, pair.container):
            while Path(f"/proc/{pid}/ns/net").readlink() == own:
                pass
        pair.ip(pair.host, "link", "add", "dev0", "type", "veth", "peer", "name", "peer0")
        pair.ip(pair.host, "address", "add", "192.0.2.7/24", "broadcast", "192.0.2.255", "dev", "dev0")
        pair.ip(pair.host, "address", "add", "2001:db8::7/64", "dev", "dev0", "nodad")
        pair.ip(pair.host, "address", "add", "169.254.1.1/16", "scope", "link", "dev", "dev0")
        yield pair
    finally:
        for holder in pair.holders:
            holder.kill()
            holder.wait()


def addresses(device: dict[str, Any]) -> list[tuple[str, int]]:
    """The addresses of global scope, sorted."""
    return sorted((a["local"], a["prefixlen"]) for a in device["addr_info"] if a["scope"] == "global")


def test_loopback_is_up(bench: Bench) -> None:
    """In a fresh network namespace lo is down until LOOPBACK."""
    assert "UP" not in bench.run([], "ip", "link", "show", "lo").out.split(">")[0]
    assert "UP" in bench.run([("LOOPBACK", 0)], "ip", "link", "show", "lo").out.split(">")[0]


def test_device_moves_with_its_global_addresses(host: Host) -> None:
    """Permanent addresses of global scope come along, others do not; the link is up."""
    assert host.move("dev0") == ""
    device = host.device(host.container, "dev0")
    assert addresses(device) == [("192.0.2.7", 24), ("2001:db8::7", 64)]
    assert "169.254.1.1" not in json.dumps(device)
    assert next(a["broadcast"] for a in device["addr_info"] if a["family"] == "inet") == "192.0.2.255"
    assert "UP" in device["flags"]
    assert "dev0" not in host.ip(host.host, "link")


def test_device_is_renamed_on_the_way(host: Host) -> None:
    """The new name holds, even if the old one is taken over there."""
    host.ip(host.container, "link", "add", "dev0", "type", "veth", "peer", "name", "peer0")
    assert host.move("dev0", "eth0") == ""
    assert addresses(host.device(host.container, "eth0")) == [("192.0.2.7", 24), ("2001:db8::7", 64)]


def test_name_that_is_taken_is_refused(host: Host) -> None:
    """EEXIST, and the device stays where it was."""
    host.ip(host.container, "link", "add", "dev0", "type", "veth", "peer", "name", "peer0")
    text = host.move("dev0")
    assert text == (
        "move the network device dev0 into the container: "
        "move 'dev0' into the container's network namespace: file exists"
    )
    assert addresses(host.device(host.host, "dev0")) == [("192.0.2.7", 24), ("2001:db8::7", 64)]


def test_missing_device_is_named(host: Host) -> None:
    """ENODEV with the name."""
    assert host.move("none0").endswith("find the network device 'none0': no such device")


# ---- HOSTNAME, DOMAINNAME, SYSCTL -----------------------------------------------------------------------------------


def test_names_of_the_uts_namespace(bench: Bench) -> None:
    """HOSTNAME and DOMAINNAME."""
    steps = [("HOSTNAME", "box"), ("DOMAINNAME", "example.org")]
    out = bench.run(steps, "cat", "/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname").out
    assert out == "box\nexample.org\n"


def test_too_long_hostname_is_refused(bench: Bench) -> None:
    """EINVAL, as sethostname(2) says."""
    assert bench.run([("HOSTNAME", "x" * 65)]).err.endswith("xxx: invalid argument")


def test_sysctl_is_written_in_its_namespace(bench: Bench) -> None:
    """Through a private procfs: one key of the ipc, one of the network namespace."""
    steps = [("PRIVATE_PROC", 0), ("SYSCTL", "kernel/shmmni", "77"), ("SYSCTL", "net/ipv4/ip_default_ttl", "42")]
    assert bench.run(steps, "cat", "/proc/sys/kernel/shmmni", "/proc/sys/net/ipv4/ip_default_ttl").out == "77\n42\n"


def test_sysctl_that_does_not_exist_is_named(bench: Bench) -> None:
    """ENOENT with the path."""
    text = bench.run([("PRIVATE_PROC", 0), ("SYSCTL", "kernel/no_such_key", "1")]).err
    assert text.endswith("open '/proc/sys/kernel/no_such_key': no such file or directory")


def test_sysctl_value_that_is_refused_is_named(bench: Bench) -> None:
    """EINVAL with the key."""
    text = bench.run([("PRIVATE_PROC", 0), ("SYSCTL", "kernel/shmmni", "many")]).err
    assert text.endswith("write '/proc/sys/kernel/shmmni': invalid argument")


@pytest.mark.parametrize("key", ["../sysrq-trigger", "kernel/../../1/comm", "../self/root/etc/x"])
def test_sysctl_never_leaves_proc_sys_by_links(bench: Bench, key: str) -> None:
    """CVE-2025-52881: no magic link is followed, and nothing outside of procfs is reached."""
    steps = [("PRIVATE_PROC", 0), ("SYSCTL", key.replace("sysrq-trigger", "self/cwd/x"), "1")]
    assert bench.run(steps).status == 1


def test_false_proc_is_not_written_to(bench: Bench, tmp_path: Path) -> None:
    """CVE-2025-52881: without a private procfs, a /proc that is something else is refused."""
    (tmp_path / "sys" / "kernel").mkdir(parents=True)
    (tmp_path / "sys" / "kernel" / "shmmni").write_text("untouched")
    steps = [("ROOTFS", "/", 1), ("OPEN_TREE", 70, str(tmp_path), 0), ("ATTACH_TREE", 70, "/proc", 0, 0, 0, 0)]
    assert bench.run([*steps, ("SYSCTL", "kernel/shmmni", "1")]).status == 1
    assert (tmp_path / "sys" / "kernel" / "shmmni").read_text() == "untouched"
