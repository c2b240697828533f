"""S1: a container without privilege manages groups of its own below its group, and never rises above its limits."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from behaviours import facts, places
from behaviours.facts import applies
from conformance import cgroups
from conformance.harness import Bundle, Runtime, wait_until
from conformance.rootfs import chown_tree
from conformance.spec import add_bind, add_mount, base_spec, set_capabilities
from corral.cgroup.delegate import (
    DEFAULT_MAX_DEPTH,
    DEFAULT_MAX_DESCENDANTS,
    check_delegation,
    read_delegate_files,
)
from corral.cgroup.layout import read_layout
from corral.errors import FailedPrecondition, Unsupported
from corral.oci.names import CAPABILITY_NAMES as ALL_CAPABILITIES

if TYPE_CHECKING:
    from collections.abc import Callable

ANNOTATION = "run.oci.delegate-cgroup"
LEAF = "own"
OPTIONS = ("nosuid", "noexec", "nodev", "relatime")
TOP = "/sys/fs/cgroup"
SLEEP = "exec sleep 1000"
# Delegation needs pure v2; there a mount with nsdelegate, or a user namespace.
DELEGATES = applies("v2", "root", "nsdelegate", "limits")


def mount_cgroups(bundle: Bundle, *options: str) -> Bundle:
    """The bundle with /sys/fs/cgroup."""
    add_mount(bundle.spec, TOP, "cgroup", "cgroup", *OPTIONS, *options)
    return bundle


@pytest.fixture
def writable(bundle: Bundle) -> Bundle:
    """A bundle whose container may manage groups, is limited itself, and has no capability that matters."""
    mount_cgroups(bundle, "rw")
    bundle.spec.setdefault("annotations", {})[ANNOTATION] = LEAF
    bundle.resources.update(places.LIMITS)
    set_capabilities(bundle.spec, "CAP_KILL", "CAP_CHOWN")
    return bundle


def in_userns(bundle: Bundle) -> Bundle:
    """The same with a user namespace of its own."""
    places.give_user(bundle, with_userns=True)
    return bundle


def top_of(pid: int) -> Path:
    """The container's group, of which the leaf is a child, as the host sees it."""
    leaf = cgroups.directory(pid, "")
    assert leaf.name == LEAF
    return leaf.parent


@applies("cgroup")
def test_s1_1_groups_are_read_only_by_default(runtime: Runtime, bundle: Bundle) -> None:
    """mkdir in any mounted hierarchy: EROFS, the container being without privilege."""
    mount_cgroups(bundle, "ro")
    done = runtime.run(bundle, f"for d in {TOP} {TOP}/*/; do [ -d $d ] && mkdir $d/x 2>&1; done; true")
    assert done.lines
    assert {line.rsplit(": ", 1)[1] for line in done.lines} == {"Read-only file system"}


@DELEGATES
@pytest.mark.parametrize("user", [lambda b: b, in_userns], ids=["plain", "userns"])
def test_s1_2_child_can_be_made_entered_and_limited(
    runtime: Runtime, writable: Bundle, user: Callable[[Bundle], Bundle]
) -> None:
    """Without extra steps by the workload: mkdir, move itself, memory.max, cpu.max, pids.max, and read them back."""
    script = f"""cd {TOP} && mkdir job && echo 1000000 > job/memory.max && echo '10000 100000' > job/cpu.max
        echo 9 > job/pids.max && echo $$ > job/cgroup.procs && cat job/cpu.max job/pids.max && cat /proc/self/cgroup"""
    done = runtime.run(user(writable), script)
    assert done.lines == ["10000 100000", "9", "0::/job"]


@DELEGATES
def test_s1_2_option_grants_it_without_any_annotation(runtime: Runtime, bundle: Bundle) -> None:
    """`--cgroup-writable` is the caller's word, not the configuration's: also where that mounts cgroups read-only."""
    script = f"mkdir {TOP}/job && echo 9 > {TOP}/job/pids.max && cat {TOP}/job/pids.max"
    assert runtime.run(mount_cgroups(bundle, "ro"), script, "--cgroup-writable").lines == ["9"]


@DELEGATES
def test_s1_2_init_is_in_the_inner_leaf_and_controllers_are_enabled(runtime: Runtime, writable: Bundle) -> None:
    """The container's group has no process of its own and gives controllers to its children; inside it is the root."""
    with runtime.start(writable) as c:
        top = top_of(c.pid)
        assert (top / "cgroup.procs").read_text() == ""
        assert {"memory", "cpu", "pids"} <= set((top / "cgroup.subtree_control").read_text().split())
        assert c.sh("cat /proc/1/cgroup").stdout == f"0::/{LEAF}\n"


@DELEGATES
@pytest.mark.parametrize("user", [lambda b: b, in_userns], ids=["plain", "userns"])
@pytest.mark.parametrize("file", ["memory.max", "cpu.max", "pids.max"])
def test_s1_3_own_limits_cannot_be_written_from_inside(
    runtime: Runtime, writable: Bundle, user: Callable[[Bundle], Bundle], file: str
) -> None:
    """The resource files of the container's root group are the host's, for root inside too."""
    done = runtime.run(user(writable), f"echo max > {TOP}/{file} && echo written; cat {TOP}/{file}")
    assert "written" not in done.stdout
    assert done.lines[-1].split()[0] != "max"


def mountinfo(options: str) -> str:
    """A pure v2 host's table."""
    return f"30 1 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw{options}\n"


@applies("v2")
def test_s1_4_mount_without_nsdelegate_is_refused_unless_allowed() -> None:
    """The message says why; only an explicit word of the admin passes it. A handler's load calls this same function."""
    layout = read_layout()
    with pytest.raises(FailedPrecondition, match=r"'nsdelegate'.*own limits"):
        check_delegation(layout, mountinfo(""))
    check_delegation(layout, mountinfo(",nsdelegate"))
    check_delegation(layout, mountinfo(""), allow_without_nsdelegate=True)


@applies("not-v2")
def test_s1_4_and_s1_5_no_layout_but_v2_passes_with_any_word() -> None:
    """On v1 and hybrid `allow_without_nsdelegate` changes nothing."""
    with pytest.raises(Unsupported, match=f"layout is {facts.mode()}"):
        check_delegation(read_layout(), mountinfo(",nsdelegate"), allow_without_nsdelegate=True)


@applies("not-v2", "cgroup")
@pytest.mark.parametrize("how", ["annotation", "option"])
def test_s1_5_flag_is_refused_on_v1_and_hybrid(runtime: Runtime, bundle: Bundle, how: str) -> None:
    """A clear refusal that names the layout, before anything is made. At a handler's load it comes with the engine."""
    mount_cgroups(bundle, "rw")
    flags = []
    if how == "annotation":
        bundle.spec["annotations"] = {ANNOTATION: LEAF}
    else:
        flags = ["--cgroup-writable"]
    done = runtime.run(bundle, ": > /started", *flags, check=False)
    assert done.returncode != 0
    assert not (bundle.rootfs / "started").exists()
    assert "cgroup v2" in done.stderr
    assert facts.mode() in done.stderr


@applies("cgroup", "root", "limits")
@pytest.mark.parametrize("name", ["TasksMax", "MemoryMax", "DeviceAllow"])
def test_s1_6_systemd_property_of_an_annotation_has_no_effect(runtime: Runtime, bundle: Bundle, name: str) -> None:
    """CVE-2024-3154: `org.systemd.property.*` reaches neither systemd nor the kernel."""
    bundle.resources.update(places.LIMITS)
    bundle.spec["annotations"] = {f"org.systemd.property.{name}": "uint64 7"}
    with runtime.start(bundle) as c:
        assert places.limits_of(c.pid) == places.LIMITS_READ
        if facts.driver() == "systemd":
            unit = (
                cgroups.membership(c.pid).get("name=systemd", cgroups.membership(c.pid).get("", "")).rsplit("/", 1)[1]
            )
            words = ["systemctl", "show", "--property", name, unit]
            shown = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
            assert shown != f"{name}=7\n"


@applies("cgroup")
def test_s1_6_annotation_that_nobody_knows_grants_nothing(runtime: Runtime, bundle: Bundle) -> None:
    """Only names of the allow-list count: a name beside the real one leaves the mount read-only, and no leaf."""
    mount_cgroups(bundle, "ro")
    bundle.spec["annotations"] = {"run.oci.delegate-cgroups": LEAF, "cgroup_writable": "true"}
    done = runtime.run(bundle, f"mkdir {TOP}/x 2>&1; cut -d: -f3 /proc/self/cgroup | sort -u")
    assert done.lines[0].endswith("Read-only file system")
    assert LEAF not in done.stdout


@applies("v2", "root", "limits")
def test_s1_7_files_for_delegation_belong_to_the_containers_root(runtime: Runtime, writable: Bundle) -> None:
    """Directory and the kernel's list, as far as it exists; every other file stays the host's."""
    with runtime.start(in_userns(writable)) as c:
        top = top_of(c.pid)
        given = {name for name in read_delegate_files() if (top / name).exists()}
        owners = {path.name: path.stat().st_uid for path in top.iterdir() if stat.S_ISREG(path.lstat().st_mode)}
        assert {name for name, uid in owners.items() if uid == places.USERNS_FIRST_ID} == given
        assert {"cgroup.procs", "cgroup.threads", "cgroup.subtree_control"} <= given
        assert top.stat().st_uid == (top / LEAF).stat().st_uid == places.USERNS_FIRST_ID


@DELEGATES
def test_s1_8_number_and_depth_of_groups_are_bounded(runtime: Runtime, writable: Bundle) -> None:
    """The documented defaults stand in the kernel, and one level too many is refused with EAGAIN."""
    with runtime.start(writable) as c:
        top = top_of(c.pid)
        bounds = [(top / f"cgroup.max.{name}").read_text() for name in ("descendants", "depth")]
        assert bounds == [f"{DEFAULT_MAX_DESCENDANTS}\n", f"{DEFAULT_MAX_DEPTH}\n"]
        script = f"d={TOP}; n=0; while mkdir $d/d 2>/tmp/why; do d=$d/d; n=$((n+1)); done; echo $n; cat /tmp/why"
        said = c.sh(script).lines
        assert said[0] == str(DEFAULT_MAX_DEPTH)
        assert said[1].endswith("Resource temporarily unavailable")


@DELEGATES
def test_s1_9_child_without_limit_is_killed_at_the_containers(runtime: Runtime, writable: Bundle) -> None:
    """A hog in a child with memory.max=max ends by the container's 64 MiB."""
    hog = "dd if=/dev/zero of=/dev/null bs=200M count=1"
    script = f"mkdir {TOP}/c; echo max > {TOP}/c/memory.max; echo $$ > {TOP}/c/cgroup.procs; {hog}; true; {SLEEP}"
    with runtime.start(writable, script) as c:
        events = top_of_any(c.pid) / "memory.events"
        wait_until(lambda: "oom_kill 0" not in events.read_text(), "an OOM kill in the container's group")
        assert int((events.parent / "memory.peak").read_text() if (events.parent / "memory.peak").exists() else 0) <= (
            64 << 20
        )


def top_of_any(pid: int) -> Path:
    """The container's group, whichever child its init is in by now."""
    return cgroups.directory(pid, "").parent


def cgroup_mounts() -> list[str]:
    """The host's cgroup mounts with all their options."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if " - cgroup" in line]


@applies("cgroup", "root")
@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_s1_10_hosts_mount_options_stay_as_they_are(runtime: Runtime, bundle: Bundle, mode: str) -> None:
    """The runtime itself changes none: before, while and after a container, plain and privileged.

    The workload here only looks. A superblock is shared with the host, so a remount by a container with CAP_SYS_ADMIN
    would be the host's: no runtime can undo that, and no test may try it on a machine that others use.
    """
    before = cgroup_mounts()
    mount_cgroups(bundle, mode)
    set_capabilities(bundle.spec, "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE")
    with runtime.start(bundle) as c:
        assert cgroup_mounts() == before
        c.sh("cat /proc/self/mountinfo")
        assert cgroup_mounts() == before
    assert cgroup_mounts() == before


@applies("root", "cgroup")
def test_s1_11_denied_device_stays_denied(runtime: Runtime, bundle: Bundle) -> None:
    """With CAP_MKNOD and without CAP_BPF: the node may not be made, and no file of the group lifts that."""
    bundle.resources["devices"] = [{"allow": False, "access": "rwm"}]
    set_capabilities(bundle.spec, "CAP_MKNOD")
    mount_cgroups(bundle, "rw")
    script = f"""mkdir {TOP}/c {TOP}/devices/c; for d in {TOP} {TOP}/c {TOP}/devices {TOP}/devices/c; do
        echo a > $d/devices.allow; echo $$ > $d/cgroup.procs; done 2>/dev/null
        mknod /tmp/loop b 7 0 && cat /tmp/loop; echo end"""
    done = runtime.run(bundle, script)
    assert "Operation not permitted" in done.stderr
    assert done.lines == ["end"]


@DELEGATES
def test_s1_11_denied_device_cannot_be_opened_from_a_child_group(runtime: Runtime, writable: Bundle) -> None:
    """The program on the container's group binds every group below it."""
    set_capabilities(writable.spec, "CAP_MKNOD")
    script = f"""mkdir {TOP}/c; echo $$ > {TOP}/c/cgroup.procs; cat /proc/self/cgroup
        mknod /tmp/loop b 7 0; cat /tmp/loop || echo no"""
    done = runtime.run(writable, script)
    assert done.lines == ["0::/c", "no"]
    assert "Operation not permitted" in done.stderr


@DELEGATES
def test_s1_12_pinned_cpus_cannot_be_widened_from_inside(runtime: Runtime, writable: Bundle) -> None:
    """Pinned to one CPU: neither its own file nor a child's gives another."""
    last = len(os.sched_getaffinity(0)) - 1
    writable.resources["cpu"] = {**places.LIMITS["cpu"], "cpus": "0"}
    script = f"""echo 0-{last} > {TOP}/cpuset.cpus; mkdir {TOP}/c; echo 0-{last} > {TOP}/c/cpuset.cpus
        echo $$ > {TOP}/c/cgroup.procs; cat {TOP}/c/cpuset.cpus.effective; grep Cpus_allowed_list /proc/self/status"""
    done = runtime.run(writable, script)
    assert done.lines == ["0", "Cpus_allowed_list:\t0"]


@applies("root", "cgroup")
def test_s1_13_exec_follows_init_into_a_child_and_delete_takes_all(runtime: Runtime, bundle: Bundle) -> None:
    """runc#5089, #2356: init was moved below; exec works and stays in the container; delete goes bottom-up."""
    with runtime.start(bundle) as c:
        top = cgroups.directory(c.pid, "pids")
        child = top / "a" / "b"
        child.mkdir(parents=True)
        (child / "cgroup.procs").write_text(str(c.pid))
        if facts.mode() == "v2":
            (top / "cgroup.subtree_control").write_text("+pids")
            (top / "a/cgroup.subtree_control").write_text("+pids")
        pid = c.sh("cat /proc/self/cgroup; true")
        assert pid.returncode == 0
        c.delete("--force")
        assert not top.exists()


@DELEGATES
def test_s1_13_exec_lands_beside_init_when_the_workload_moved_it(runtime: Runtime, writable: Bundle) -> None:
    """Init moved itself to a child of its own making and gave that child's parent controllers."""
    script = f"mkdir {TOP}/mine && echo 1 > {TOP}/mine/cgroup.procs && rmdir {TOP}/{LEAF}; {SLEEP}"
    with runtime.start(writable, script) as c:
        wait_until(lambda: cgroups.directory(c.pid, "").name == "mine", "init in its own group")
        assert c.sh("cat /proc/self/cgroup").stdout == "0::/mine\n"
        top = cgroups.directory(c.pid, "").parent
        c.delete("--force")
        assert not top.exists()


HOST_TREES = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/opt", "/srv")


@DELEGATES
def test_s1_14_runtime_within_a_container_makes_and_limits_its_own(runtime: Runtime, writable: Bundle) -> None:
    """corral in corral: no privilege but that of a user namespace; the inner container has a group and a limit."""
    inner = writable.host_dir("inner")
    tree = inner / "rootfs"
    subprocess.run(["cp", "-a", str(writable.rootfs), str(tree)], check=True, timeout=60)
    config = base_spec()
    config["linux"]["cgroupsPath"] = "/nested"
    config["linux"]["resources"] = {"pids": {"limit": 5}}
    add_mount(config, TOP, "cgroup", "cgroup", *OPTIONS, "ro")
    config["process"]["args"] = ["/bin/cat", f"{TOP}/pids.max"]
    (inner / "config.json").write_text(json.dumps(config))
    in_userns(writable)
    chown_tree(tree, places.USERNS_FIRST_ID, places.USERNS_FIRST_ID)
    for path in [*HOST_TREES, str(Path(runtime.path).parent)]:
        if Path(path).is_dir():
            add_bind(writable.spec, path, path, "rbind", "ro")
    add_bind(writable.spec, str(inner), "/mnt", "rbind", "rw")
    add_mount(writable.spec, "/run", "tmpfs", "tmpfs", "mode=755")
    set_capabilities(writable.spec, *ALL_CAPABILITIES)
    writable.process["env"] = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "XDG_RUNTIME_DIR=/run"]
    writable.process["args"] = [runtime.path, "--root", "/run/state", "run", "--bundle", "/mnt", "nested"]
    writable.resources.pop("memory")
    assert runtime.run(writable).lines == ["5"]


@DELEGATES
def test_s1_15_grant_is_on_record_with_its_controllers(runtime: Runtime, writable: Bundle) -> None:
    """The annotation is in the state, and the delegated controllers are the kernel's own words."""
    with runtime.start(writable) as c:
        assert c.state()["annotations"][ANNOTATION] == LEAF
        assert (top_of(c.pid) / "cgroup.subtree_control").read_text().split() != []


def test_s1_15_features_name_the_annotation(runtime: Runtime) -> None:
    """A caller can find out that this runtime knows it before it asks for it."""
    assert ANNOTATION in str(runtime("features").json()) or ANNOTATION.rsplit(".", 1)[0] + "." in str(
        runtime("features").json()
    )


@applies("cgroup")
def test_s1_16_crios_annotation_grants_nothing_at_the_runtime(runtime: Runtime, bundle: Bundle) -> None:
    """`io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw` counts only for handlers that list it, which is the engine's."""
    mount_cgroups(bundle, "ro")
    bundle.spec["annotations"] = {"io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw": "true"}
    done = runtime.run(bundle, f"mkdir {TOP}/x 2>&1; true")
    assert done.stdout.strip().endswith("Read-only file system")
