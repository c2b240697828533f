"""Containers without a group, and places where none can be had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conformance.harness import Bundle, Runtime

SLEEP = "exec sleep 1000"
# Every cgroup mount read-only, in a mount namespace of the command's own.
READ_ONLY = """
mount --rbind /sys/fs/cgroup /sys/fs/cgroup
for point in $(grep -o ' /sys/fs/cgroup[^ ]*' /proc/self/mountinfo | sort -u); do
    mount -o remount,bind,ro "$point" 2>/dev/null || true
done
"""
# On pure v2, as a container has it: a mount of its own, which shows its own group as the root.
OWN_VIEW = "mount -t cgroup2 cgroup2 /mnt && mount --bind /mnt /sys/fs/cgroup && umount /mnt"


def warnings_of(text: str) -> list[str]:
    """The lines of a command that are warnings."""
    return [line for line in text.splitlines() if line.startswith("warning")]


def live(runtime: Runtime, bundle: Bundle) -> list[Any]:
    """create, start, kill, delete by hand: the results of all four, with the create's last words."""
    with runtime.create(bundle, SLEEP) as c:
        done = [c.created, c.command("start"), c.kill("KILL")]
        c.wait()
        done.append(c.delete())
    return done


def without_cgroup(runtime: Runtime) -> Runtime:
    """The runtime told to make none."""
    runtime.global_args = ["--cgroup-manager", "disabled"]
    return runtime


def no_place(bundle: Bundle) -> Bundle:
    """The bundle without anything that needs a group."""
    bundle.linux.pop("cgroupsPath", None)
    bundle.linux.pop("resources", None)
    return bundle
