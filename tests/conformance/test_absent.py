"""What the config asks for and this host cannot give: a clear error, and nothing started."""

from __future__ import annotations

import pytest

from conformance import host as probes
from conformance.harness import Bundle, Runtime
from conformance.runtimes import needs
from conformance.spec import add_mount

pytestmark = needs("absence-refused")


@pytest.mark.skipif(probes.lacking("apparmor") is None, reason="host: has apparmor")
def test_apparmor_profile_without_apparmor_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """A profile that cannot be put on is not silently left out."""
    bundle.process["apparmorProfile"] = "some-profile"
    runtime.refuse(bundle, "apparmor")


@pytest.mark.skipif(probes.lacking("selinux") is None, reason="host: has selinux")
def test_selinux_label_without_selinux_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """A label that cannot be put on is not silently left out."""
    bundle.process["selinuxLabel"] = "system_u:system_r:container_t:s0"
    runtime.refuse(bundle, "selinux")


@pytest.mark.skipif(probes.lacking("resctrl") is None, reason="host: has resctrl")
def test_intel_rdt_without_resctrl_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """Cache and bandwidth shares need a resctrl file system."""
    bundle.linux["intelRdt"] = {"l3CacheSchema": "L3:0=f"}
    runtime.refuse(bundle, "resctrl")


@pytest.mark.skipif(probes.lacking("rdma") is None, reason="host: has rdma")
def test_rdma_without_its_controller_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """S2.4: a limit of a controller that is not there."""
    bundle.resources["rdma"] = {"mlx5_1": {"hcaHandles": 3}}
    runtime.refuse(bundle, "rdma")


@pytest.mark.skipif(probes.lacking("net_prio") is None, reason="host: has net_prio")
def test_network_priority_without_its_controller_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """S2.4: the same for net_prio."""
    bundle.resources["network"] = {"priorities": [{"name": "lo", "priority": 5}]}
    runtime.refuse(bundle, "net_prio")


@pytest.mark.parametrize("option", ["idmap", "ridmap"])
def test_idmap_of_a_new_file_system_is_refused_or_done(runtime: Runtime, bundle: Bundle, option: str) -> None:
    """Without any mapping to take, there is nothing to map by."""
    add_mount(bundle.spec, "/mnt", "tmpfs", "tmpfs", option)
    runtime.refuse(bundle)


@pytest.mark.skipif(probes.lacking("resctrl") is None, reason="host: has resctrl")
@pytest.mark.parametrize("flag", ["--l3-cache-schema", "--mem-bw-schema"])
def test_update_of_a_schema_without_resctrl_is_refused(runtime: Runtime, bundle: Bundle, flag: str) -> None:
    """update tells that there is no resctrl, and the container goes on."""
    with runtime.start(bundle) as c:
        assert runtime("update", flag, "L3:0=f", c.id, check=False).returncode != 0
        assert c.status == "running"


def test_exec_with_an_lsm_that_the_host_lacks_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """exec --apparmor and --process-label do not silently run without."""
    with runtime.start(bundle) as c:
        if probes.lacking("apparmor"):
            assert c.exec("/bin/true", flags=["--apparmor", "some-profile"], check=False).returncode == 255
        if probes.lacking("selinux"):
            label = "system_u:system_r:container_t:s0"
            assert c.exec("/bin/true", flags=["--process-label", label], check=False).returncode == 255
