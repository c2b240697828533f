"""Flaws by which an image or a volume steers the runtime's mounts and new files out of the rootfs."""

from __future__ import annotations

import os

import pytest

from conformance import spec as specs
from conformance.harness import Bundle, Runtime
from cve.attacks import Sentinel, Swapper

RACES = 60
MOUNTS_PER_RACE = 40


@pytest.mark.cve("CVE-2019-18837", "CVE-2019-19921")
@pytest.mark.parametrize("climb", [False, True], ids=["absolute", "dotdot"])
def test_cve_2019_18837_destination_below_a_symlink_stays_inside(
    runtime: Runtime, bundle: Bundle, sentinel: Sentinel, climb: bool
) -> None:
    """A mount below a symlink of the image is made inside the rootfs, or refused."""
    target = f"{'../' * 12}{str(sentinel.path)[1:]}" if climb else str(sentinel.path)
    (bundle.rootfs / "link").symlink_to(target)
    specs.add_mount(bundle.spec, "/link/made", "tmpfs", "tmpfs")
    specs.add_bind(bundle.spec, "/etc/hostname", "/link/file")
    runtime.run(bundle, "true", check=False)
    sentinel.assert_untouched()


@pytest.mark.cve("CVE-2021-30465")
def test_cve_2021_30465_destination_in_a_volume_that_changes_stays_inside(
    runtime: Runtime, bundle: Bundle, sentinel: Sentinel
) -> None:
    """While a volume's directory is exchanged for a symlink to the host, no mount lands on the host's side.

    A mount that the runtime reports as made has to be seen by the container, wherever the name led.
    """
    volume = bundle.host_dir("volume")
    (volume / "sub").mkdir()
    (volume / "lure").symlink_to(sentinel.path)
    specs.add_bind(bundle.spec, str(volume), "/vol")
    specs.add_mount(bundle.spec, "/vol/sub", "tmpfs", "tmpfs", "size=12k")
    with Swapper(volume / "sub", volume / "lure"):
        for _ in range(RACES // 2):
            result = runtime.run(bundle, "grep -c size=12k /proc/self/mountinfo", check=False)
            assert result.returncode != 0 or result.stdout == "1\n"
    sentinel.assert_untouched()


@pytest.mark.cve("CVE-2024-45310")
def test_cve_2024_45310_mountpoints_in_a_volume_that_changes_are_not_made_outside(
    runtime: Runtime, bundle: Bundle, sentinel: Sentinel
) -> None:
    """While a volume's directory is exchanged for a symlink to the host, no mountpoint is created there.

    runc 1.1.5 loses about one round in five, so that it wins them all does not happen.
    """
    volume = bundle.host_dir("volume")
    (volume / "sub").mkdir()
    (volume / "lure").symlink_to(sentinel.path)
    specs.add_bind(bundle.spec, str(volume), "/vol")
    mounts = bundle.spec["mounts"]
    for race in range(RACES):
        # New names each time: a mountpoint that is there already needs no making.
        bundle.spec["mounts"] = list(mounts)
        for number in range(MOUNTS_PER_RACE):
            specs.add_mount(bundle.spec, f"/vol/sub/{race}.{number}/deep", "tmpfs", "tmpfs", "size=4k")
        with Swapper(volume / "sub", volume / "lure"):
            runtime.run(bundle, "true", check=False)
        sentinel.assert_untouched()


@pytest.mark.cve("CVE-2019-18837")
def test_cve_2019_18837_file_mountpoint_below_a_symlink_is_not_made_outside(
    runtime: Runtime, bundle: Bundle, sentinel: Sentinel
) -> None:
    """The mountpoint of a bound file, whose last name is a dangling symlink to the host, stays inside."""
    (bundle.rootfs / "etc/file").symlink_to(sentinel.path / "new")
    specs.add_bind(bundle.spec, "/etc/hostname", "/etc/file")
    runtime.run(bundle, "true", check=False)
    sentinel.assert_untouched()


@pytest.mark.cve("CVE-2026-55686")
def test_cve_2026_55686_working_directory_below_a_symlink_is_not_made_outside(
    runtime: Runtime, bundle: Bundle, sentinel: Sentinel
) -> None:
    """A missing working directory is created inside, also when the image leads its path to the host."""
    (bundle.rootfs / "link").symlink_to(f"{'../' * 12}{str(sentinel.path)[1:]}")
    bundle.process["cwd"] = "/link/made"
    runtime.run(bundle, "true", check=False)
    sentinel.assert_untouched()


@pytest.mark.cve("CVE-2019-18837")
def test_rootfs_mask_and_readonly_paths_do_not_follow_links_out(
    runtime: Runtime, bundle: Bundle, sentinel: Sentinel
) -> None:
    """Masked and read-only paths that are symlinks change nothing on the host."""
    (bundle.rootfs / "link").symlink_to(sentinel.path)
    bundle.linux["maskedPaths"] = ["/link/secret", "/link"]
    bundle.linux["readonlyPaths"] = ["/link/ptmx", "/link"]
    runtime.run(bundle, "true", check=False)
    sentinel.assert_untouched()
    assert os.access(sentinel.secret, os.W_OK)


@pytest.mark.cve("CVE-2021-30465")
def test_tmpcopyup_does_not_copy_from_the_host(runtime: Runtime, bundle: Bundle, sentinel: Sentinel) -> None:
    """`tmpcopyup` fills a tmpfs from the image: a symlink there does not bring the host's files in."""
    (bundle.rootfs / "copied").symlink_to(sentinel.path)
    specs.add_mount(bundle.spec, "/copied", "tmpfs", "tmpfs", "tmpcopyup")
    result = runtime.run(bundle, "cat /copied/secret", check=False)
    assert "untouched" not in result.stdout
    sentinel.assert_untouched()


@pytest.mark.cve("CVE-2023-25809")
def test_cve_2023_25809_cgroups_are_read_only_without_a_cgroup_namespace(runtime: Runtime, bundle: Bundle) -> None:
    """In a user namespace that shares the host's cgroup namespace, every cgroup mount is read-only.

    mkdir on a read-only mount says so before it looks at permissions, so nothing is ever made.
    """
    specs.map_ids(bundle.spec, 300000)
    os.chown(bundle.rootfs, 300000, 300000)
    specs.drop_namespace(bundle.spec, "cgroup")
    specs.add_bind(bundle.spec, "/sys", "/sys", "rbind", "ro", "nosuid", "noexec", "nodev")
    specs.add_mount(bundle.spec, "/sys/fs/cgroup", "cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev")
    script = "for d in /sys/fs/cgroup /sys/fs/cgroup/*/; do mkdir $d/corral-replay 2>&1; done; true"
    bundle.path.chmod(0o755)
    result = runtime.run(bundle, script)
    assert result.lines != []
    assert [line for line in result.lines if "Read-only" not in line] == []
