"""What a caller hands down without meaning to: descriptors, counts of descriptors, marks in the environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conformance.harness import Bundle, Runtime, wait_until

# The names of what the container's first process holds above 2; of a shell, which opens nothing itself.
LOOK = "for f in /proc/self/fd/*; do n=${f##*/}; test $n -gt 2 && test -e $f && echo $n $(readlink $f); done; echo end"


def held(text: str) -> list[str]:
    """The lines of LOOK, without its own end and what the shell's own pipes are."""
    return [line for line in text.splitlines() if line != "end" and "pipe:" not in line]


@pytest.mark.parametrize("env", [{}, {"LISTEN_PID": "1"}])
@pytest.mark.parametrize("count", ["1", "3", "200"])
def test_run_gives_none_of_its_own_descriptors_when_listen_fds_counts_too_many(
    runtime: Runtime, bundle: Bundle, count: str, env: dict[str, str]
) -> None:
    """CVE-2024-21626: LISTEN_FDS may be left behind by a service; what is not open must not become the front's own."""
    told = runtime.run(bundle, LOOK, env={"LISTEN_FDS": count, **env})

    assert [] == held(told.stdout)


@pytest.mark.parametrize("count", ["3", "200"])
def test_exec_gives_none_of_its_own_descriptors_when_listen_fds_counts_too_many(
    runtime: Runtime, bundle: Bundle, count: str
) -> None:
    """Neither the host's root directory nor a cgroup of it, which is what the front has open then."""
    with runtime.start(bundle) as c:
        told = c.sh(LOOK, env={"LISTEN_FDS": count})

    assert [] == held(told.stdout)


def test_descriptors_that_were_not_asked_for_stay_outside(runtime: Runtime, bundle: Bundle) -> None:
    """Inherited by accident, above and between what is preserved."""
    folder = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    high = os.dup2(folder, 37)
    try:
        told = runtime.run(bundle, LOOK, pass_fds=(folder, high))
    finally:
        os.close(folder)
        os.close(high)

    assert [] == held(told.stdout)


def test_mark_of_the_private_copy_is_not_believed_when_inherited(runtime: Runtime, bundle: Bundle) -> None:
    """CVE-2019-5736: CORRAL_SELF in the environment does not make the file that runs a private copy of itself."""
    bundle.shell("exec sleep 1000")
    env = {"CORRAL_SELF": runtime.path, "CORRAL_FAILPOINT": "front:SPAWN:stop"}
    bundle.write()
    with runtime.background("run", "--bundle", bundle.path, "marked", env=env) as (front, _):
        wait_until(lambda: Path(f"/proc/{front.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "the stop")
        running = os.readlink(f"/proc/{front.pid}/exe")
    runtime("delete", "--force", "marked")

    assert running != runtime.path
