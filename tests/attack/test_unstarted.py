"""Containers that were created and not started: what reaches them, and what they leave."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance import spec as specs
from conformance.harness import Bundle, Runtime


@pytest.mark.parametrize("own_pids", [True, False])
@pytest.mark.parametrize(("sig", "code"), [("TERM", 143), ("INT", 130), ("HUP", 129), ("QUIT", 131)])
def test_signal_that_ends_a_program_ends_a_created_container(
    runtime: Runtime, bundle: Bundle, sig: str, code: int, own_pids: bool
) -> None:
    """`podman stop` of it must not wait for its timeout; as pid 1 it would be deaf to all but SIGKILL."""
    if not own_pids:
        specs.drop_namespace(bundle.spec, "pid")
    with runtime.create(bundle, ": > /started; sleep 1000") as c:
        c.kill(sig)
        assert c.wait() == code
        assert c.status == "stopped"
        assert "cannot start a container that has stopped" in c.command("start", check=False).stderr
    assert not (bundle.rootfs / "started").exists()


def test_program_has_none_of_the_handlers_of_its_wait(runtime: Runtime, bundle: Bundle) -> None:
    """What made it mortal before start is gone with the exec."""
    bundle.process["args"] = ["/bin/grep", "-E", "Sig(Ign|Cgt)", "/proc/self/status"]
    told = runtime.run(bundle)
    assert [line.split()[1] for line in told.lines] == ["0" * 16, "0" * 16]


@pytest.mark.parametrize("command", ["list", "features"])
def test_output_that_cannot_be_written_is_no_success(runtime: Runtime, command: str) -> None:
    """A caller that redirects to a full disc is told."""
    with Path("/dev/full").open("wb") as full:
        process = runtime.spawn(command, stdout=full, stderr=full)
        assert process.wait(30) == 1
