"""S3.2 for containers: whatever goes wrong on the bus has words of its own with the unit's name, ends in bounded time,
and leaves nothing; the same container starts as soon as systemd is well again.

The binary is the real one; systemd is a stand-in that misbehaves as told.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from behaviours import places, stand_in
from behaviours.facts import applies
from conformance import cgroups
from conformance.harness import Bundle, Result, Runtime, unique_id, wait_until
from corral.runtime.scopes import DEADLINE_S
from unit.cgroup.fake_bus import ERROR, UNIT, Refusal

pytestmark = applies("root", "limits")

LAYOUTS = pytest.mark.parametrize("flags", [(), ("--cgroup-layout", "engine")], ids=["scope", "engine"])
# Where no deadline is to be waited for; the machine may be busy with other things.
SOON_S = 15.0


@pytest.fixture
def systemd(runtime: Runtime, directory: Path) -> Iterator[stand_in.ActingSystemd]:
    """One that is well, and that the runtime finds."""
    with stand_in.acting(directory) as made:
        stand_in.look_for(runtime, made)
        yield made


@pytest.fixture
def unit(systemd: stand_in.ActingSystemd, bundle: Bundle) -> str:
    """The name of the unit that the bundle asks for."""
    bundle.resources["memory"] = {"limit": 64 << 20}
    bundle.shell("echo ran")
    return systemd.place(bundle, unique_id())


def refused(runtime: Runtime, bundle: Bundle, *flags: str) -> Result:
    """A create that cannot succeed; afterwards no record, and no group of the unit's name."""
    bundle.write()
    name = unique_id()
    output = bundle.path / f"{name}.output"
    done = runtime("create", "--bundle", bundle.path, *flags, name, check=False, output=output, timeout_s=90)
    assert done.returncode == 1, done
    assert runtime("list", "-q").stdout == ""
    return done


def nothing_left(systemd: stand_in.ActingSystemd, unit: str) -> None:
    """No group and no unit."""
    assert [path for path in systemd.directories(unit) if path.exists()] == []
    assert unit not in systemd.units


Fault = Callable[[stand_in.ActingSystemd, str], None]
FAULTS: dict[str, tuple[Fault, str]] = {
    "refuses": (
        lambda s, unit: s.errors.update(
            StartTransientUnit=[Refusal(f"{ERROR}AccessDenied", "Interactive authentication required.")]
        ),
        "interactive authentication required",
    ),
    "rejects": (lambda s, unit: setattr(s, "auth", [["REJECTED EXTERNAL"]]), "rejects uid 0"),
    "does not know a property": (lambda s, unit: s.unknown.add("Delegate"), "delegate"),
    "does not take a value": (
        lambda s, unit: s.bad_values.update({"MemoryMax", "MemoryLimit"}),
        "linux.resources.memory.limit",
    ),
    "does not know the process": (
        lambda s, unit: s.errors.update(
            StartTransientUnit=[Refusal(f"{UNIT}NoSuchProcess", "Process with ID 1 does not exist.")]
        ),
        "does not exist",
    ),
    "ends the job as failed": (lambda s, unit: setattr(s, "job_result", "failed"), "result 'failed'"),
    "ends the job as canceled": (lambda s, unit: setattr(s, "job_result", "canceled"), "result 'canceled'"),
    "hangs up at the start": (lambda s, unit: s.hang_up.add("StartTransientUnit"), "closed the connection"),
    "talks nonsense": (
        lambda s, unit: setattr(s, "garbage", b"l\1\0\1nonsense, and no message of D-Bus"),
        "absurd size",
    ),
    "puts it elsewhere": (lambda s, unit: setattr(s, "control_group", "/elsewhere/{name}"), "'/elsewhere/"),
}


@LAYOUTS
@pytest.mark.parametrize("fault", FAULTS)
def test_s3_2_fault_has_words_of_its_own_and_leaves_nothing(
    runtime: Runtime, bundle: Bundle, systemd: stand_in.ActingSystemd, unit: str, fault: str, flags: tuple[str, ...]
) -> None:
    """The unit's name, the cause, and soon."""
    break_it, words = FAULTS[fault]
    break_it(systemd, unit)
    start = time.monotonic()
    done = refused(runtime, bundle, *flags)
    assert time.monotonic() - start < SOON_S
    assert unit in done.stderr
    assert words in done.stderr.lower()
    assert "hint: " in done.stderr


def test_s3_2_each_fault_is_told_apart() -> None:
    """No two of the table have the same words."""
    words = [text for _, text in FAULTS.values()]
    assert len(set(words)) == len(words)


@LAYOUTS
def test_s3_2_host_without_systemd(runtime: Runtime, bundle: Bundle, unit: str, flags: tuple[str, ...]) -> None:
    """Told before anything is made, with the way out."""
    stand_in.hide_systemd(runtime)
    done = refused(runtime, bundle, *flags)
    assert f"place the container in unit '{unit}': this host is not run by systemd" in done.stderr
    assert "leave --systemd-cgroup out" in done.stderr


def test_s3_2_nobody_at_the_socket(
    runtime: Runtime, bundle: Bundle, systemd: stand_in.ActingSystemd, unit: str
) -> None:
    """systemd is there, and its socket is not served: both ways that were tried are told."""
    systemd.path.unlink()
    done = refused(runtime, bundle)
    assert unit in done.stderr
    assert "/run/systemd/private" in done.stderr
    assert "/run/dbus/system_bus_socket" in done.stderr


def test_s3_2_no_answer_within_the_deadline(
    runtime: Runtime, bundle: Bundle, systemd: stand_in.ActingSystemd, unit: str
) -> None:
    """A job that never ends: the stated deadline, and not much more; what was asked for is taken back."""
    systemd.job_result = None
    start = time.monotonic()
    done = refused(runtime, bundle, "--cgroup-layout", "engine")
    assert DEADLINE_S <= time.monotonic() - start < DEADLINE_S + SOON_S
    assert unit in done.stderr
    assert "wait for the end of job" in done.stderr
    assert "StopUnit" in systemd.members()


def test_s3_2_start_that_hangs_does_not_delay_others_of_one_planner(
    runtime: Runtime, bundle: Bundle, systemd: stand_in.ActingSystemd, unit: str
) -> None:
    """The resident planner does not wait for systemd itself."""
    bundle.write()
    words = ("create", "--bundle", bundle.path, unique_id())
    with stand_in.resident(runtime):
        systemd.job_result = None
        with runtime.background(*words, stderr=subprocess.DEVNULL) as (hanging, _):
            wait_until(lambda: "StartTransientUnit" in systemd.members(), "the start that hangs")
            systemd.job_result = "done"
            systemd.place(bundle, unique_id())
            start = time.monotonic()
            assert runtime.run(bundle).stdout == "ran\n"
            assert time.monotonic() - start < SOON_S
            assert hanging.poll() is None
            assert hanging.wait(90) == 1


@LAYOUTS
def test_s3_2_systemd_that_executes_itself_anew_is_waited_for(
    runtime: Runtime, bundle: Bundle, systemd: stand_in.ActingSystemd, unit: str, flags: tuple[str, ...]
) -> None:
    """The connection breaks before the job ends; the unit is asked for anew, runs, and the container with it."""
    systemd.hang_up_before_job_ends = True
    assert runtime.run(bundle, None, *flags).stdout == "ran\n"
    assert systemd.members().count("StartTransientUnit") == 1


@LAYOUTS
@pytest.mark.parametrize("fault", ["refuses", "ends the job as failed", "hangs up at the start"])
def test_s3_2_same_unit_starts_when_systemd_is_well_again(
    runtime: Runtime, bundle: Bundle, systemd: stand_in.ActingSystemd, unit: str, fault: str, flags: tuple[str, ...]
) -> None:
    """Nothing of the failed attempt stands in the way: neither a name nor a group."""
    FAULTS[fault][0](systemd, unit)
    refused(runtime, bundle, *flags)
    nothing_left(systemd, unit)
    systemd.job_result = "done"
    assert runtime.run(bundle, None, *flags).stdout == "ran\n"


@LAYOUTS
def test_s0_9_failed_unit_of_that_name_makes_room(
    runtime: Runtime, bundle: Bundle, systemd: stand_in.ActingSystemd, unit: str, flags: tuple[str, ...]
) -> None:
    """reset-failed, and once more."""
    systemd.units[unit] = "failed"
    assert runtime.run(bundle, None, *flags).stdout == "ran\n"
    assert [name for name in systemd.members() if name in ("StartTransientUnit", "ResetFailedUnit")][:3] == [
        "StartTransientUnit",
        "ResetFailedUnit",
        "StartTransientUnit",
    ]


@LAYOUTS
def test_s0_9_active_unit_of_that_name_is_left_alone(
    runtime: Runtime, bundle: Bundle, systemd: stand_in.ActingSystemd, unit: str, flags: tuple[str, ...]
) -> None:
    """An error with its name, and its processes stay where they are."""
    with runtime.start(bundle, "exec sleep 1000", *flags) as first:
        before = places.groups_of(first.pid)
        done = runtime.refuse(bundle, unit, "start unit")
        assert "already" in done.stderr
        assert places.groups_of(first.pid) == before
        assert systemd.units == {unit: "active"}
        assert cgroups.membership(first.pid) != {}


@applies("not-v2")
def test_s2_3_refusal_after_the_scopes_start_leaves_no_group(
    runtime: Runtime, bundle: Bundle, systemd: stand_in.ActingSystemd, unit: str
) -> None:
    """Another hierarchy's group of that name is taken: those of the scope go, and not only once systemd looks."""
    systemd.notices_empty_scopes = False
    foreign = cgroups.hierarchies()["freezer"] / systemd.slice / unit
    foreign.mkdir(parents=True)
    with subprocess.Popen(["sleep", "1000"]) as other:
        (foreign / "cgroup.procs").write_text(str(other.pid))
        done = refused(runtime, bundle)
        other.kill()
    assert f"container's cgroup is not empty: 1 process in '{foreign}'" in done.stderr
    assert [path for path in systemd.directories(unit) if path.exists()] == []


def test_layout_is_known_to_the_commands_that_only_look(runtime: Runtime, bundle: Bundle, unit: str) -> None:
    """`explain` and `check` take the options on which a plan depends, as `create` does."""
    bundle.write()
    assert f"{unit}/container" in runtime("explain", "--cgroup-layout", "engine", bundle.path).stdout
    assert runtime("check", "--cgroup-layout", "engine", bundle.path).stdout == "0 errors, 0 warnings\n"
    done = runtime("check", "--cgroup-layout", "other", bundle.path, check=False)
    assert (done.returncode, "neither 'scope' nor 'engine'" in done.stdout) == (1, True)
