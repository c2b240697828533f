"""The driver against a real systemd on any host: a user's manager of our own, below a cgroup namespace of our own.

The machine's own systemd, if any, is not asked. The tests themselves are those of the virtual machines; they run in a
second pytest, inside the namespaces.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.cgroup.layout import Layout
from corral.cgroup.member import Member
from corral.cgroup.removal import remove_group
from corral.cgroup.systemd_bus import is_systemd_running

ROOT = Path(__file__).resolve().parents[3]
GUEST_TESTS = ROOT / "tests/vm/guest/test_systemd_driver.py"
SYSTEMD = Path("/lib/systemd/systemd")

# Inside new mount, pid, network and cgroup namespaces: a v2 hierarchy with our group as its root, a /run of our own
# with just the units that a manager cannot do without, the manager, then the tests.
SCRIPT = r"""
set -e
mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys
umount -R -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/user/0 /run/units /sys/fs/cgroup/manager /sys/fs/cgroup/tests
for name in basic shutdown exit; do
    printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' $name > /run/units/$name.target
done
export XDG_RUNTIME_DIR=/run/user/0 SYSTEMD_UNIT_PATH=/run/units SYSTEMD_LOG_TARGET=console SYSTEMD_LOG_LEVEL=warning
sh -c 'echo $$ > /sys/fs/cgroup/manager/cgroup.procs; exec "$0" --user --unit=basic.target' "$1" &
echo $$ > /sys/fs/cgroup/tests/cgroup.procs
shift
for turn in $(seq 300); do
    [ ! -S /run/user/0/systemd/private ] || break
    sleep 0.1
done
exec "$@"
"""


@pytest.fixture
def unified(layout: Layout, mark: str) -> Iterator[Member]:
    """A v2 group of the test's own, removed with all that systemd made in it."""
    hierarchy = layout.unified
    assert hierarchy is not None
    member = Member(2, hierarchy.controllers, hierarchy.mount_point, f"/{mark}")
    Path(member.directory).mkdir()
    yield member
    assert list(map(str, remove_group([member], deadline_s=10).pending)) == []


@pytest.mark.requires("root", "cgroup-v2")
@pytest.mark.skipif(not SYSTEMD.exists() or shutil.which("unshare") is None, reason="systemd is not installed")
def test_driver_works_with_a_real_users_manager(unified: Member) -> None:
    """All statements that need no controllers: placement, names taken, units that end, properties that are unknown."""
    if is_systemd_running():
        return  # there, the same tests ask that systemd directly
    own = (
        "echo $$ > $1/cgroup.procs; shift; exec unshare -m -C -p -f -n --kill-child --mount-proc --propagation private"
    )
    tests = [sys.executable, "-m", "pytest", "-q", str(GUEST_TESTS), "-k", "not s0_8 and not s1_2 and not effective"]
    command = ["sh", "-c", f'{own} sh -c "$0" sh "$@"', SCRIPT, unified.directory, str(SYSTEMD), *tests]
    environment = {**os.environ, "CORRAL_VM_HIERARCHY": "v2", "CORRAL_VM_USER": "rootless"}
    environment.pop("DBUS_SESSION_BUS_ADDRESS", None)
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110)
    assert (result.returncode, " passed" in result.stdout, "failed" in result.stdout) == (0, True, False), (
        result.stdout + result.stderr
    )
