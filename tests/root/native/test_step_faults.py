"""An injected fault in each step of mounts, devices, console, hooks and network ends the plan and is described."""

from __future__ import annotations

import pytest

from corral.runtime.steps import STEPS
from native.driver import Bench

pytestmark = pytest.mark.requires("root", "cc", "busybox")

OURS = """
OPEN_TREE IDMAP_TREE ROOT_PROPAGATION ROOTFS MOUNT_FS BIND REMOUNT MKDIR SYMLINK MKNOD MASK READONLY CONSOLE PIVOT
READONLY_ROOT PROPAGATE_ROOT ATTACH_TREE DETACH HOOK HOOK_OUTPUT HOSTNAME DOMAINNAME SYSCTL LOOPBACK NET_MOVE
NOTIFY_LISTEN NOTIFY_RELAY WORKDIR FIND_HOME
""".split()
BLANK = {"i": 0, "s": "text", "v": ["word"], "b": b"blob"}


@pytest.mark.parametrize("op", OURS)
def test_injected_fault_is_described(bench: Bench, op: str) -> None:
    """CORRAL_FAILPOINT=init:OP:errno=5: the step does not run, the error is the description and the cause."""
    step = (op, *(BLANK[kind] for kind in STEPS[op][1]))
    result = bench.run([step], CORRAL_FAILPOINT=f"init:{op}:errno=5")
    text = STEPS[op][2]
    for number, kind in enumerate(STEPS[op][1]):
        text = text.replace(f"{{{number}}}", {"i": "0", "s": "text", "v": "word", "b": "<4 bytes>"}[kind])
    assert (result.status, result.err) == (1, f"{text}: input/output error")
