"""Flaws by which the runtime writes to, or trusts, a /proc that an image or a volume has made up."""

from __future__ import annotations

import os
import subprocess

import pytest

from conformance import spec as specs
from conformance.harness import Bundle, CommandError, Runtime
from cve.attacks import Sentinel, Swapper

PROC_SHOWS = "test -e /proc/self/status && ! test -L /proc && ! test -e /proc/lure && echo real"


@pytest.mark.cve("CVE-2019-16884")
@pytest.mark.parametrize("destination", ["/proc", "/proc/self", "/proc/self/attr", "/proc/sys", "/proc/./self/../self"])
def test_cve_2019_16884_volume_is_not_mounted_over_proc(runtime: Runtime, bundle: Bundle, destination: str) -> None:
    """A volume on /proc would swallow the labels that the runtime writes there: it is refused."""
    lure = bundle.host_dir("lure")
    (lure / "lure").touch()
    specs.add_bind(bundle.spec, str(lure), destination)
    runtime.refuse(bundle)


@pytest.mark.cve("CVE-2019-16884")
def test_cve_2019_16884_tmpfs_does_not_take_the_place_of_proc(runtime: Runtime, bundle: Bundle) -> None:
    """A tmpfs on /proc itself is refused, whether or not a procfs was there before it."""
    specs.add_mount(bundle.spec, "/proc", "tmpfs", "tmpfs")
    runtime.refuse(bundle)


@pytest.mark.cve("CVE-2023-28642", "CVE-2019-19921", "CVE-2025-54867")
@pytest.mark.parametrize(("name", "kind"), [("proc", "proc"), ("sys", "sysfs")])
@pytest.mark.parametrize("where", ["inside", "outside"])
def test_cve_2023_28642_proc_of_the_image_that_is_a_symlink_is_not_followed(
    runtime: Runtime, bundle: Bundle, sentinel: Sentinel, name: str, kind: str, where: str
) -> None:
    """/proc or /sys as a symlink in the image is refused, or replaced by a directory with the real thing."""
    specs.add_namespace(bundle.spec, "net")
    specs.drop_mount(bundle.spec, f"/{name}")
    specs.add_mount(bundle.spec, f"/{name}", kind, kind)
    (bundle.rootfs / name).rmdir()
    (bundle.rootfs / "lure").mkdir()
    (bundle.rootfs / name).symlink_to("/lure" if where == "inside" else sentinel.path)
    result = runtime.run(bundle, f"test -L /{name} && echo link; grep ' /lure ' /proc/self/mountinfo", check=False)
    assert result.stdout == ""
    sentinel.assert_untouched()


@pytest.mark.cve("CVE-2023-27561", "CVE-2019-19921")
def test_cve_2023_27561_proc_inside_a_volume_is_not_trusted(runtime: Runtime, bundle: Bundle) -> None:
    """/proc of the image leads into a volume that two containers share: no fake procfs takes its place."""
    volume = bundle.host_dir("volume")
    (volume / "proc").mkdir()
    (volume / "proc/lure").touch()
    (bundle.rootfs / "proc").rmdir()
    (bundle.rootfs / "proc").symlink_to("/vol/proc")
    bundle.spec["mounts"].insert(0, specs.add_bind({"mounts": []}, str(volume), "/vol"))
    result = runtime.run(bundle, PROC_SHOWS, check=False)
    assert result.returncode != 0 or result.stdout == "real\n"


@pytest.mark.cve("CVE-2019-19921")
def test_cve_2019_19921_proc_inside_a_volume_that_changes_is_not_trusted(runtime: Runtime, bundle: Bundle) -> None:
    """The same while somebody exchanges the volume's directories: what runs always has a real /proc."""
    volume = bundle.host_dir("volume")
    for name in ("real", "fake"):
        (volume / name).mkdir()
    (volume / "fake/lure").touch()
    (bundle.rootfs / "proc").rmdir()
    (bundle.rootfs / "proc").symlink_to("/vol/real")
    bundle.spec["mounts"].insert(0, specs.add_bind({"mounts": []}, str(volume), "/vol"))
    with Swapper(volume / "real", volume / "fake"):
        for _ in range(20):
            result = runtime.run(bundle, PROC_SHOWS, check=False)
            assert result.returncode != 0 or result.stdout == "real\n"


@pytest.mark.cve("CVE-2025-52881", "CVE-2025-62596")
def test_cve_2025_52881_sysctl_is_not_written_through_the_images_proc(
    runtime: Runtime, bundle: Bundle, sentinel: Sentinel
) -> None:
    """A sysctl goes to the kernel or is refused: it is never written to a file that the image points to.

    The file belongs to root and the program does not run as root; nothing but the runtime could write it.
    """
    specs.drop_mount(bundle.spec, "/proc")
    (bundle.rootfs / "proc/sys/kernel").mkdir(parents=True)
    (bundle.rootfs / "proc/sys/kernel/domainname").symlink_to("/vault/secret")
    specs.add_bind(bundle.spec, str(sentinel.path), "/vault")
    bundle.linux["sysctl"] = {"kernel.domainname": "written.by.the.runtime"}
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    runtime.run(bundle, "true", check=False)
    sentinel.assert_untouched()


@pytest.mark.cve("CVE-2025-52881/tmpfs")
def test_cve_2025_52881_sysctl_does_not_end_up_in_a_tmpfs(runtime: Runtime, bundle: Bundle) -> None:
    """With a tmpfs over /proc/sys, the kernel has the value or the container is refused: it is never lost."""
    specs.add_mount(bundle.spec, "/proc/sys", "tmpfs", "tmpfs")
    bundle.linux["sysctl"] = {"kernel.domainname": "kept"}
    bundle.shell("exec sleep 1000")
    try:
        with runtime.start(bundle) as container:
            # /proc/sys shows the UTS namespace of whoever reads it.
            argv = ["nsenter", "-t", str(container.pid), "-u", "cat", "/proc/sys/kernel/domainname"]
            assert subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True).stdout == "kept\n"
    except CommandError:
        return


@pytest.mark.cve("CVE-2025-52881/name")
@pytest.mark.parametrize("name", ["vm.swappiness", "kernel/../vm/swappiness", "net.ipv4.../../vm/swappiness"])
def test_cve_2025_52881_sysctl_of_the_host_is_refused(runtime: Runtime, bundle: Bundle, name: str) -> None:
    """A sysctl's name can't climb to a setting that is the host's (the kernel takes no such value, if it does)."""
    bundle.linux["sysctl"] = {name: "corral-replay"}
    runtime.refuse(bundle)


@pytest.mark.cve("CVE-2025-52881/payload", "CVE-2025-31133/payload", "CVE-2025-52565/payload")
@pytest.mark.parametrize("target", ["/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern"])
def test_write_redirected_to_the_host_kernel(target: str) -> None:
    """The original payloads: labels and masks that are led to core_pattern or to sysrq-trigger."""
    pytest.skip(f"a runtime with the flaw would write to {target} of this machine: replayed in the VM bench only")


@pytest.mark.cve("CVE-2025-52881/oom")
def test_cve_2025_52881_oom_score_is_not_written_through_the_images_proc(
    runtime: Runtime, bundle: Bundle, sentinel: Sentinel
) -> None:
    """/proc/self of an image without procfs leads to a root-owned file: oomScoreAdj does not end up in it."""
    specs.drop_mount(bundle.spec, "/proc")
    (bundle.rootfs / "proc/self").mkdir(parents=True)
    for name in ("oom_score_adj", "setgroups", "uid_map", "gid_map"):
        os.symlink("/vault/secret", bundle.rootfs / "proc/self" / name)
    (bundle.rootfs / "proc/self/attr").mkdir()
    os.symlink("/vault/secret", bundle.rootfs / "proc/self/attr/exec")
    specs.add_bind(bundle.spec, str(sentinel.path), "/vault")
    bundle.process["oomScoreAdj"] = 500
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    runtime.run(bundle, "true", check=False)
    sentinel.assert_untouched()
