"""Limits, as the kernel's own files tell them, on v1, hybrid and v2."""

from __future__ import annotations

import os
from typing import Any

import pytest

from conformance import cgroups
from conformance.harness import Bundle, Runtime, unique_id
from conformance.host import host
from conformance.runtimes import needs

MIB = 1 << 20


def limit_of(runtime: Runtime, bundle: Bundle, resources: dict[str, Any], *names: str) -> str:
    """The first of these cgroup files of a container that was created with these resources."""
    bundle.resources.update(resources)
    with runtime.create(bundle, "true") as c:
        return c.cgroup_read(*names)


@host("memory")
@pytest.mark.parametrize("size", [16 * MIB, 64 * MIB, 1 << 40])
def test_memory_limit(runtime: Runtime, bundle: Bundle, size: int) -> None:
    """memory.limit, in bytes."""
    found = limit_of(runtime, bundle, {"memory": {"limit": size}}, "memory.limit_in_bytes", "memory.max")
    assert found == str(size)


@host("memory")
def test_memory_unlimited(runtime: Runtime, bundle: Bundle) -> None:
    """A limit of -1 is none."""
    found = limit_of(runtime, bundle, {"memory": {"limit": -1}}, "memory.limit_in_bytes", "memory.max")
    assert found in ("max", "9223372036854771712")


@host("memory")
def test_memory_reservation(runtime: Runtime, bundle: Bundle) -> None:
    """memory.reservation is the soft limit, or memory.low."""
    resources = {"memory": {"reservation": 8 * MIB}}
    found = limit_of(runtime, bundle, resources, "memory.soft_limit_in_bytes", "memory.low")
    assert found == str(8 * MIB)


@host("memory-swap")
def test_memory_swap(runtime: Runtime, bundle: Bundle) -> None:
    """memory.swap is memory and swap together."""
    resources = {"memory": {"limit": 32 * MIB, "swap": 48 * MIB}}
    found = limit_of(runtime, bundle, resources, "memory.memsw.limit_in_bytes", "memory.swap.max")
    assert found in (str(48 * MIB), str(16 * MIB))


@host("memory", "cgroup-v1")
def test_memory_swappiness(runtime: Runtime, bundle: Bundle) -> None:
    """memory.swappiness of v1."""
    assert limit_of(runtime, bundle, {"memory": {"swappiness": 30}}, "memory.swappiness") == "30"


@host("memory", "cgroup-v1")
def test_memory_oom_killer_disabled(runtime: Runtime, bundle: Bundle) -> None:
    """memory.disableOOMKiller of v1."""
    resources = {"memory": {"limit": 32 * MIB, "disableOOMKiller": True}}
    assert "oom_kill_disable 1" in limit_of(runtime, bundle, resources, "memory.oom_control")


@host("memory")
def test_memory_limit_holds(runtime: Runtime, bundle: Bundle) -> None:
    """A program that takes more than its limit is killed by the kernel: 137."""
    bundle.resources["memory"] = {"limit": 16 * MIB, "swap": 16 * MIB}
    bundle.process["args"] = ["/bin/probe", "touch", "64"]
    done = runtime.run(bundle, check=False)
    assert done.returncode == 137
    assert "touched" not in done.stdout
    bundle.process["args"] = ["/bin/probe", "touch", "4"]
    assert runtime.run(bundle).stdout == "touched\n"


@host("cpu")
@pytest.mark.parametrize("shares", [2, 512, 1024, 4096])
def test_cpu_shares(runtime: Runtime, bundle: Bundle, shares: int) -> None:
    """cpu.shares on v1; on v2 a weight that grows with it."""
    found = int(limit_of(runtime, bundle, {"cpu": {"shares": shares}}, "cpu.shares", "cpu.weight"))
    assert found == shares if not cgroups.is_v2_only() else 1 <= found <= 10000


@host("cpu")
@pytest.mark.parametrize(("quota", "period"), [(50000, 100000), (20000, 50000), (250000, 100000)])
def test_cpu_quota_and_period(runtime: Runtime, bundle: Bundle, quota: int, period: int) -> None:
    """cpu.quota and cpu.period, in microseconds."""
    bundle.resources["cpu"] = {"quota": quota, "period": period}
    with runtime.create(bundle, "true") as c:
        if cgroups.is_v2_only():
            assert c.cgroup_read("cpu.max") == f"{quota} {period}"
        else:
            assert c.cgroup_read("cpu.cfs_quota_us") == str(quota)
            assert c.cgroup_read("cpu.cfs_period_us") == str(period)


@host("cpu")
def test_cpu_quota_unlimited(runtime: Runtime, bundle: Bundle) -> None:
    """A quota of -1 is none."""
    found = limit_of(runtime, bundle, {"cpu": {"quota": -1}}, "cpu.cfs_quota_us", "cpu.max")
    assert found.split()[0] in ("-1", "max")


@host("cpu", "cpu-burst")
@needs("cpu-burst")
def test_cpu_burst(runtime: Runtime, bundle: Bundle) -> None:
    """cpu.burst, in microseconds."""
    resources = {"cpu": {"quota": 50000, "period": 100000, "burst": 20000}}
    assert limit_of(runtime, bundle, resources, "cpu.cfs_burst_us", "cpu.max.burst") == "20000"


@host("cpu")
@needs("cpu-idle")
def test_cpu_idle(runtime: Runtime, bundle: Bundle) -> None:
    """cpu.idle makes the group's policy SCHED_IDLE."""
    assert limit_of(runtime, bundle, {"cpu": {"idle": 1}}, "cpu.idle") == "1"


@host("cpu", "cpu-rt")
def test_cpu_realtime_period(runtime: Runtime, bundle: Bundle) -> None:
    """cpu.realtimePeriod of v1."""
    assert limit_of(runtime, bundle, {"cpu": {"realtimePeriod": 500000}}, "cpu.rt_period_us") == "500000"


@host("cpuset")
def test_cpuset_cpus(runtime: Runtime, bundle: Bundle) -> None:
    """cpu.cpus is the group's set, and the program's mask."""
    last = max(os.sched_getaffinity(0))
    bundle.resources["cpu"] = {"cpus": str(last)}
    with runtime.start(bundle) as c:
        assert c.cgroup_read("cpuset.cpus") == str(last)
        assert os.sched_getaffinity(c.pid) == {last}


@host("cpuset")
def test_cpuset_mems(runtime: Runtime, bundle: Bundle) -> None:
    """cpu.mems is the group's set of memory nodes."""
    assert limit_of(runtime, bundle, {"cpu": {"mems": "0"}}, "cpuset.mems") == "0"


@host("cpuset")
def test_cpuset_default_is_that_of_the_parent(runtime: Runtime, bundle: Bundle) -> None:
    """Without cpus the group has all of its parent's: on v1 it would be empty, and could hold nobody."""
    with runtime.create(bundle, "true") as c:
        assert os.sched_getaffinity(c.pid) == os.sched_getaffinity(0)
        assert c.cgroup_read("cpuset.effective_cpus", "cpuset.cpus.effective") != ""


@host("cpuset")
def test_cpuset_that_the_host_lacks_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """CPUs that are not there are an error."""
    bundle.resources["cpu"] = {"cpus": "900"}
    runtime.refuse(bundle)


@host("pids")
@pytest.mark.parametrize("limit", [7, 32768])
def test_pids_limit(runtime: Runtime, bundle: Bundle, limit: int) -> None:
    """pids.limit is pids.max."""
    assert limit_of(runtime, bundle, {"pids": {"limit": limit}}, "pids.max") == str(limit)


@host("pids")
def test_pids_unlimited(runtime: Runtime, bundle: Bundle) -> None:
    """A limit of -1 is none."""
    assert limit_of(runtime, bundle, {"pids": {"limit": -1}}, "pids.max") == "max"


@host("pids")
def test_pids_limit_holds(runtime: Runtime, bundle: Bundle) -> None:
    """Beyond the limit fork is refused."""
    bundle.resources["pids"] = {"limit": 5}
    with runtime.start(bundle, "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; echo forked") as c:
        c.wait()
        assert "can't fork" in c.output
        assert "\nforked" not in c.output


@host("blkio-weight")
@needs("blkio-weight-fallback")
def test_blkio_weight(runtime: Runtime, bundle: Bundle) -> None:
    """blockIO.weight, through whichever file this kernel has."""
    found = limit_of(runtime, bundle, {"blockIO": {"weight": 500}}, "blkio.weight", "blkio.bfq.weight", "io.bfq.weight")
    assert found.split()[-1] == "500"


THROTTLE = {
    "throttleReadBpsDevice": ("blkio.throttle.read_bps_device", "rbps"),
    "throttleWriteBpsDevice": ("blkio.throttle.write_bps_device", "wbps"),
    "throttleReadIOPSDevice": ("blkio.throttle.read_iops_device", "riops"),
    "throttleWriteIOPSDevice": ("blkio.throttle.write_iops_device", "wiops"),
}


@host("blkio", "disk")
@pytest.mark.parametrize("name", THROTTLE)
def test_blkio_throttle(runtime: Runtime, bundle: Bundle, name: str) -> None:
    """Each of the four throttles, for one device."""
    numbers = os.stat("/").st_dev
    major, minor = os.major(numbers), os.minor(numbers)
    file, key = THROTTLE[name]
    resources = {"blockIO": {name: [{"major": major, "minor": minor, "rate": 10485760}]}}
    found = limit_of(runtime, bundle, resources, file, "io.max")
    assert found.startswith(f"{major}:{minor} ")
    assert found.endswith("10485760") or f"{key}=10485760" in found


@host("hugetlb")
@needs("hugetlb-on-hybrid")
def test_hugetlb_limit(runtime: Runtime, bundle: Bundle) -> None:
    """hugepageLimits, also where the controller is in the v2 hierarchy of a hybrid host."""
    resources = {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]}
    found = limit_of(runtime, bundle, resources, "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max")
    assert found == str(4 * MIB)


@host("hugetlb")
def test_hugetlb_of_an_unknown_size_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    """A page size that this host does not have is an error."""
    bundle.resources["hugepageLimits"] = [{"pageSize": "3MB", "limit": 4 * MIB}]
    runtime.refuse(bundle)


@host("rdma")
def test_rdma_limit(runtime: Runtime, bundle: Bundle) -> None:
    """rdma limits of a device that is not there are an error of the kernel."""
    bundle.resources["rdma"] = {"no_such_device": {"hcaHandles": 3}}
    runtime.refuse(bundle)


@host("cgroup-v2", "hugetlb")
@needs("unified-on-hybrid")
def test_unified_key(runtime: Runtime, bundle: Bundle) -> None:
    """resources.unified writes its file in the v2 hierarchy, of a hybrid host too."""
    found = limit_of(runtime, bundle, {"unified": {"hugetlb.2MB.max": "2097152"}}, "hugetlb.2MB.max")
    assert found == "2097152"


@host("cgroup-v2")
@needs("unified-on-hybrid")
@pytest.mark.parametrize("key", ["no.such.file", "../cgroup.procs", "memory/x", "nodot"])
def test_unified_key_that_is_wrong_is_refused(runtime: Runtime, bundle: Bundle, key: str) -> None:
    """A key that names no file of the group is an error."""
    bundle.resources["unified"] = {key: "1"}
    runtime.refuse(bundle)


def test_every_hierarchy_has_the_containers_group(runtime: Runtime, bundle: Bundle) -> None:
    """cgroupsPath is the group's path in each hierarchy that has controllers."""
    with runtime.create(bundle, "true") as c:
        member = cgroups.membership(c.pid)
        for name in ("memory", "cpu", "cpuacct", "cpuset", "pids", "devices", "freezer", "blkio"):
            if name in member:
                assert member[name] == cgroups.path_of(bundle.linux["cgroupsPath"]), name


def test_relative_cgroups_path_is_one_group_below_some_parent(runtime: Runtime, bundle: Bundle) -> None:
    """A relative path is resolved once: the container is in one group that ends with it."""
    name = unique_id()
    runtime.driver_args = ()
    bundle.linux["cgroupsPath"] = name
    with runtime.create(bundle, "true") as c:
        assert str(cgroups.directory(c.pid, "pids")).endswith(f"/{name}")
        c.start()
        c.wait()


def test_default_cgroups_path_names_the_container(runtime: Runtime, bundle: Bundle) -> None:
    """Without cgroupsPath the group is named by the container's id."""
    runtime.driver_args = ()
    del bundle.linux["cgroupsPath"]
    with runtime.create(bundle, "true") as c:
        assert cgroups.directory(c.pid, "pids").name == c.id
        assert cgroups.directory(c.pid, "memory").exists()


def test_delete_removes_the_group_with_its_children(runtime: Runtime, bundle: Bundle) -> None:
    """Groups that the container made inside its own go with it."""
    with runtime.start(bundle) as c:
        group = cgroups.directory(c.pid, "pids")
        (group / "a" / "b").mkdir(parents=True)
        c.delete("--force")
        assert not group.exists()


@needs("systemd-form-refused")
def test_systemd_form_is_never_taken_as_a_path(runtime: Runtime, bundle: Bundle) -> None:
    """S0.3, S0.4: `slice:prefix:name` given to the cgroupfs driver makes no directory with a colon."""
    runtime.driver_args = ()
    bundle.linux["cgroupsPath"] = f"corral.slice:test:{unique_id()}"
    done = runtime.run(bundle, "true", check=False)
    left = [path for path in cgroups.find(":") if "corral.slice:test" in path.name]
    for path in left:
        path.rmdir()
    assert done.returncode != 0
    assert left == []


@host("pids")
def test_limits_are_set_before_the_program_runs(runtime: Runtime, bundle: Bundle) -> None:
    """The first instruction of the program is already limited."""
    bundle.resources["pids"] = {"limit": 1}
    bundle.process["args"] = ["/bin/sh", "-c", "(true) && echo forked"]
    done = runtime.run(bundle, check=False)
    assert "forked" not in done.stdout


def test_empty_resources_make_a_group_all_the_same(runtime: Runtime, bundle: Bundle) -> None:
    """Without linux.resources the container has its own group, to be counted and killed by."""
    del bundle.linux["resources"]
    with runtime.create(bundle, "true") as c:
        assert cgroups.processes(cgroups.directory(c.pid, "pids")) == [c.pid]


@pytest.mark.parametrize("name", ["network", "blockIO", "rdma", "memory", "cpu", "pids"])
def test_empty_resource_object_is_no_limit(runtime: Runtime, bundle: Bundle, name: str) -> None:
    """An object without values asks for nothing, and is never an error."""
    bundle.resources[name] = {"limit": -1} if name == "pids" else {}
    assert runtime.run(bundle, "echo ran").stdout == "ran\n"


@host("net_cls")
def test_network_class(runtime: Runtime, bundle: Bundle) -> None:
    """network.classID of v1."""
    assert limit_of(runtime, bundle, {"network": {"classID": 1048577}}, "net_cls.classid") == "1048577"


@needs("missing-controller-refused")
def test_controller_that_the_host_lacks_is_an_error(runtime: Runtime, bundle: Bundle) -> None:
    """S2.4: a limit that cannot be set is refused, never silently dropped."""
    if "net_cls" in cgroups.hierarchies():
        pytest.skip("host: has net_cls")
    bundle.resources["network"] = {"classID": 1048577}
    runtime.refuse(bundle, "net_cls")
