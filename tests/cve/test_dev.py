"""Flaws by which an image's own /dev steers the runtime."""

from __future__ import annotations

import os
import pty
import subprocess

import pytest

from conformance import spec as specs
from conformance.harness import Bundle, Runtime
from cve.attacks import UNTOUCHED, Sentinel

# What the container may see of a file that belongs to it, before the runtime was led astray.
ORIGINAL = "original\n"


def keep_images_dev(bundle: Bundle) -> None:
    """Leave /dev to the image: no tmpfs of the runtime covers it."""
    for destination in ("/dev/shm", "/dev/pts", "/dev"):
        specs.drop_mount(bundle.spec, destination)


def bind_vault(bundle: Bundle, sentinel: Sentinel) -> None:
    """Show the sentinel inside, writable for root alone; the program is not root."""
    specs.add_bind(bundle.spec, str(sentinel.path), "/vault")
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    specs.set_capabilities(bundle.spec)


@pytest.mark.cve("CVE-2026-41579", "CVE-2026-47766")
def test_cve_2026_41579_dev_that_leads_to_the_host_changes_nothing_there(
    runtime: Runtime, bundle: Bundle, sentinel: Sentinel
) -> None:
    """/dev is a symlink to a directory of the host: no `ptmx` is removed and no link is made there."""
    (bundle.rootfs / "dev").rmdir()
    (bundle.rootfs / "dev").symlink_to(sentinel.path)
    runtime.run(bundle, "true", check=False)
    sentinel.assert_untouched()


@pytest.mark.cve("CVE-2026-41579", "CVE-2026-47766")
def test_cve_2026_47766_dev_that_climbs_to_the_host_changes_nothing_there(
    runtime: Runtime, bundle: Bundle, sentinel: Sentinel
) -> None:
    """The same by way of `..`, and without a mount on /dev."""
    keep_images_dev(bundle)
    (bundle.rootfs / "dev").rmdir()
    (bundle.rootfs / "dev").symlink_to(f"{'../' * 12}{str(sentinel.path)[1:]}")
    runtime.run(bundle, "true", check=False)
    sentinel.assert_untouched()


@pytest.mark.cve("CVE-2025-31133", "CVE-2025-62161")
def test_cve_2025_31133_masked_path_is_empty_when_dev_null_is_the_images(runtime: Runtime, bundle: Bundle) -> None:
    """A masked file shows nothing, also when the image's /dev/null is a symlink to something writable.

    The stand-in for core_pattern is the host name, which is this container's own.
    """
    keep_images_dev(bundle)
    bundle.spec["hostname"] = "guarded"
    (bundle.rootfs / "dev/null").symlink_to("/proc/sys/kernel/hostname")
    bundle.linux["readonlyPaths"] = ["/proc/sys"]
    bundle.linux["maskedPaths"] = ["/proc/timer_list"]
    # Results go to files: without a proper /dev/null the streams themselves may be led astray.
    script = "cat /proc/timer_list > /seen; echo broken > /proc/timer_list; hostname > /name"
    result = runtime.run(bundle, script, check=False)
    if result.returncode == 0 or (bundle.rootfs / "name").exists():
        assert (bundle.rootfs / "seen").read_text() == ""
        assert (bundle.rootfs / "name").read_text() == "guarded\n"


@pytest.mark.cve("CVE-2025-31133")
def test_cve_2025_31133_masking_does_not_use_a_file_of_the_image(runtime: Runtime, bundle: Bundle) -> None:
    """The image's /dev/null is a symlink to a plain file: that file must not stand in for a masked one."""
    keep_images_dev(bundle)
    (bundle.rootfs / "etc/masked").write_text(ORIGINAL)
    (bundle.rootfs / "etc/lure").write_text("lure\n")
    (bundle.rootfs / "dev/null").symlink_to("/etc/lure")
    bundle.linux["maskedPaths"] = ["/etc/masked"]
    runtime.run(bundle, "cat /etc/masked > /seen", check=False)
    seen = bundle.rootfs / "seen"
    assert not seen.exists() or seen.read_text() == ""


@pytest.mark.cve("CVE-2025-52565", "CVE-2026-88264")
def test_cve_2025_52565_console_is_not_redirected_by_the_image(runtime: Runtime, bundle: Bundle) -> None:
    """/dev/console is a symlink of the image: its target is neither emptied nor covered by the terminal."""
    keep_images_dev(bundle)
    specs.add_mount(bundle.spec, "/dev/pts", "devpts", "devpts", "newinstance", "ptmxmode=0666")
    (bundle.rootfs / "etc/target").write_text(ORIGINAL)
    (bundle.rootfs / "dev/console").symlink_to("/etc/target")
    bundle.process["terminal"] = True
    bundle.shell("grep -c ' /etc/target ' /proc/self/mountinfo > /covered; true")
    bundle.write()
    primary, secondary = pty.openpty()
    try:
        argv = runtime.argv("run", "--bundle", bundle.path, f"{bundle.path.parent.name}-console")
        subprocess.run(argv, stdin=secondary, stdout=secondary, stderr=secondary, timeout=30, check=False)
    finally:
        os.close(primary)
        os.close(secondary)
    assert (bundle.rootfs / "etc/target").read_text() == ORIGINAL
    covered = bundle.rootfs / "covered"
    assert not covered.exists() or covered.read_text() == "0\n"


@pytest.mark.cve("CVE-2026-88265")
@pytest.mark.parametrize("null", [True, False], ids=["null", "pipe"])
def test_cve_2026_88265_standard_streams_are_not_led_to_a_file(
    runtime: Runtime, bundle: Bundle, sentinel: Sentinel, null: bool
) -> None:
    """/dev/null of the image leads to a file that the program may not open: it must not become a stream."""
    keep_images_dev(bundle)
    bind_vault(bundle, sentinel)
    (bundle.rootfs / "dev/null").symlink_to("/vault/secret")
    stdin = subprocess.DEVNULL if null else ""
    result = runtime.run(bundle, "cat; echo changed; ls -l /proc/self/fd", check=False, stdin=stdin)
    sentinel.assert_untouched()
    assert UNTOUCHED not in result.stdout
    assert "/vault" not in result.stdout


@pytest.mark.cve("CVE-2026-88265/exec")
def test_cve_2026_88265_exec_streams_are_not_led_to_a_file(
    runtime: Runtime, bundle: Bundle, sentinel: Sentinel
) -> None:
    """The same for `exec`, when the container changes its /dev/null later."""
    bind_vault(bundle, sentinel)
    with runtime.start(bundle) as container:
        dev = f"/proc/{container.pid}/root/dev/null"
        os.unlink(dev)
        os.symlink("/vault/secret", dev)
        result = container.sh("cat; ls -l /proc/self/fd", check=False)
        assert UNTOUCHED not in result.stdout
        assert "/vault" not in result.stdout
    sentinel.assert_untouched()


@pytest.mark.cve("CVE-2025-31133")
def test_device_nodes_of_the_image_do_not_survive_as_defaults(runtime: Runtime, bundle: Bundle) -> None:
    """Without a mount on /dev, a default device that the image has as another kind of file is not trusted."""
    keep_images_dev(bundle)
    (bundle.rootfs / "dev/zero").write_text("not a device\n")
    result = runtime.run(bundle, "head -c 3 /dev/zero", check=False)
    assert "not" not in result.stdout
