"""An injected fault in each step that needs no other process ends the plan and is described."""

from __future__ import annotations

import pytest

from corral.runtime.steps import STEPS
from native.driver import Bench

pytestmark = pytest.mark.requires("root", "cc", "busybox")

OURS = """
OPEN_TREE IDMAP_TREE ROOT_PROPAGATION ROOTFS MOUNT_FS BIND REMOUNT MKDIR SYMLINK MKNOD MASK READONLY CONSOLE PIVOT
READONLY_ROOT PROPAGATE_ROOT ATTACH_TREE DETACH HOOK HOOK_OUTPUT HOSTNAME DOMAINNAME SYSCTL LOOPBACK NET_MOVE
NOTIFY_LISTEN NOTIFY_RELAY WORKDIR FIND_HOME CG_DEFINE CG_MAKE CG_WRITE CG_READ CG_ATTACH CG_DEVICES CG_REMOVE CG_THAW
CG_KILL RESCTRL_MAKE RESCTRL_REMOVE OOM_SCORE PRLIMIT SCHEDULER IO_PRIORITY CPU_AFFINITY MEMORY_POLICY PERSONALITY UMASK
FIND_PROGRAM CREDENTIALS NO_NEW_PRIVS LSM_LABEL SECCOMP WAIT_START PREPARE_FDS EXEC STATE_DOC RELEASE KILL_SCOPE
KILL_INIT REMOVE_RECORD
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
