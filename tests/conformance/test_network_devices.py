"""linux.netDevices: devices of the host that move into the container's network namespace."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conformance.harness import Bundle, Runtime
from conformance.holders import hold
from conformance.host import host
from conformance.runtimes import needs
from conformance.spec import add_namespace, drop_namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [needs("net-devices"), host("root", "ip")]

SETUP = (
    "ip link set lo up; ip link add eve0 type veth peer name eve1; ip addr add 192.0.2.7/24 dev eve0; "
    "ip -6 addr add 2001:db8::7/64 dev eve0 nodad; ip link set eve0 mtu 1400; ip link set eve0 up; ip link set eve1 up"
)


@pytest.fixture
def outside(runtime: Runtime) -> Iterator[str]:
    """A network namespace that stands for the host's, with a device to give; the runtime is run in it."""
    with hold("--net", setup=SETUP) as pid:
        runtime.prefix = ["nsenter", f"--net=/proc/{pid}/ns/net", "--"]
        yield str(pid)


def links_of(pid: str) -> str:
    """The devices of a process's network namespace."""
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-br", "link"]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout


def test_device_moves_into_the_container(runtime: Runtime, bundle: Bundle, outside: str) -> None:
    """The device is in the container, and no longer with the host."""
    add_namespace(bundle.spec, "network")
    bundle.linux["netDevices"] = {"eve0": {}}
    with runtime.start(bundle) as c:
        assert "eve0" in c.sh("ip link show").stdout
        assert "eve0@" not in links_of(outside)
        assert "eve1" in links_of(outside)


def test_device_is_renamed(runtime: Runtime, bundle: Bundle, outside: str) -> None:
    """`name` is the device's name in the container."""
    add_namespace(bundle.spec, "network")
    bundle.linux["netDevices"] = {"eve0": {"name": "eth7"}}
    names = runtime.run(bundle, "ip -o link show | cut -d: -f2 | cut -d@ -f1").stdout.split()
    assert names == ["lo", "eth7"]
    assert outside


def test_device_keeps_its_addresses_and_mtu(runtime: Runtime, bundle: Bundle, outside: str) -> None:
    """Global addresses and the MTU are what they were, and the device is up."""
    add_namespace(bundle.spec, "network")
    bundle.linux["netDevices"] = {"eve0": {"name": "eth7"}}
    told = runtime.run(bundle, "ip addr show eth7").stdout
    assert "192.0.2.7/24" in told
    assert "2001:db8::7/64" in told
    assert "mtu 1400" in told
    assert ",UP" in told
    assert outside


def test_device_in_a_namespace_given_by_path(runtime: Runtime, bundle: Bundle, outside: str) -> None:
    """As in a pod: the network namespace exists before."""
    with hold("--net", setup="ip link set lo up") as pid:
        add_namespace(bundle.spec, "network", f"/proc/{pid}/ns/net")
        bundle.linux["netDevices"] = {"eve0": {}}
        assert "eve0" in runtime.run(bundle, "ip link show").stdout
        assert "eve0@" not in links_of(outside)
        assert "eve0" in links_of(str(pid))


WRONG = {
    "missing": {"nodev9": {}},
    "name-too-long": {"eve0": {"name": "abcdefghijklmnopq"}},
    "name-with-slash": {"eve0": {"name": "a/b"}},
    "name-taken": {"eve0": {"name": "lo"}},
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_device_is_refused(runtime: Runtime, bundle: Bundle, outside: str, case: str) -> None:
    """A device that cannot be moved is an error, and stays with the host."""
    add_namespace(bundle.spec, "network")
    bundle.linux["netDevices"] = WRONG[case]
    runtime.refuse(bundle)
    assert Path(f"/proc/{outside}").exists()


def test_device_without_a_network_namespace_is_refused(runtime: Runtime, bundle: Bundle, outside: str) -> None:
    """Without a network namespace of its own the container would keep nothing apart."""
    drop_namespace(bundle.spec, "network")
    bundle.linux["netDevices"] = {"eve0": {"name": "eth7"}}
    runtime.refuse(bundle)
    assert "eve0" in links_of(outside)
    assert os.path.exists(f"/proc/{outside}")
