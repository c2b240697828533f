"""Rules of corral.cgroup.systemd_bus and dbus_peer, against a stand-in that misbehaves as told."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.cgroup.systemd_bus import Manager, is_systemd_running, system_manager, user_manager
from corral.cgroup.systemd_properties import UnitProperty
from corral.errors import (
    AlreadyExists,
    CorralError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Timeout,
    Unavailable,
    Unsupported,
)
from unit.cgroup.fake_bus import ERROR, UNIT, FakeSystemd, Refusal

NAME = "corral-a.scope"
LIMIT = UnitProperty("MemoryMax", "t", 4096, pointer="linux.resources.memory.limit")
POLICY = UnitProperty("OOMPolicy", "s", "continue", is_optional=True)
# Long enough for a busy machine; no test waits for it to pass.
LONG_S = 60.0
# Short enough to wait for.
SHORT_S = 0.15


def test_scope_is_started_with_its_pids_and_properties(manager: Manager, systemd: FakeSystemd) -> None:
    """The unit has all that was asked, and its group is the one that systemd tells."""
    started = manager.start_transient_scope(NAME, [12, 13], [LIMIT, POLICY], deadline_s=LONG_S)
    assert (started.name, started.control_group, started.dropped) == (NAME, f"/system.slice/{NAME}", ())
    assert systemd.properties[NAME] == {"PIDs": [12, 13], "MemoryMax": 4096, "OOMPolicy": "continue"}
    assert repr(started) == f"StartedUnit('{NAME}' at '/system.slice/{NAME}')"


def test_end_of_the_job_is_asked_for_before_the_job_is_made(manager: Manager, systemd: FakeSystemd) -> None:
    """A job may end before the reply is read; whoever subscribes afterwards waits for ever."""
    manager.start_transient_scope(NAME, [1], [], deadline_s=LONG_S)
    members = systemd.members()
    assert members.index("Subscribe") < members.index("StartTransientUnit")
    has_bus = not str(systemd.path).endswith("private")
    assert [name for name in members if name in ("Hello", "AddMatch")] == (["Hello", "AddMatch"] if has_bus else [])


def test_second_operation_uses_the_same_connection(manager: Manager, systemd: FakeSystemd) -> None:
    """One authentication and one subscription for many units."""
    for name in ("a.scope", "b.scope"):
        manager.start_transient_scope(name, [1], [], deadline_s=LONG_S)
    assert (systemd.members().count("AUTH EXTERNAL"), systemd.members().count("Subscribe")) == (1, 1)


def test_slice_is_started_without_pids(manager: Manager, systemd: FakeSystemd) -> None:
    """A slice holds groups, not processes."""
    manager.start_transient_slice("a-b.slice", [LIMIT], deadline_s=LONG_S)
    assert systemd.properties["a-b.slice"] == {"MemoryMax": 4096}


def test_unknown_optional_property_is_left_out_and_told(manager: Manager, systemd: FakeSystemd) -> None:
    """No version is asked for: what this systemd does not know is found out by trying."""
    systemd.unknown = {"OOMPolicy", "AllowedCPUs"}
    cpus = UnitProperty("AllowedCPUs", "ay", b"\1", is_optional=True)
    started = manager.start_transient_scope(NAME, [1], [POLICY, LIMIT, cpus], deadline_s=LONG_S)
    assert started.dropped == ("OOMPolicy", "AllowedCPUs")
    assert systemd.properties[NAME] == {"PIDs": [1], "MemoryMax": 4096}


def test_value_that_an_old_systemd_refuses_is_left_out_if_optional(manager: Manager, systemd: FakeSystemd) -> None:
    """CPUWeight=0 is idle since 252, and out of range before."""
    systemd.bad_values = {"CPUWeight"}
    idle = UnitProperty("CPUWeight", "t", 0, is_optional=True)
    assert manager.start_transient_scope(NAME, [1], [idle], deadline_s=LONG_S).dropped == ("CPUWeight",)


def test_s3_2_unknown_property_is_an_error_of_its_own(manager: Manager, systemd: FakeSystemd) -> None:
    """A limit is never dropped: the error names unit, property and the place in the config."""
    systemd.unknown = {"MemoryMax"}
    with pytest.raises(Unsupported) as caught:
        manager.start_transient_scope(NAME, [1], [LIMIT], deadline_s=LONG_S)
    assert caught.value.message == f"start unit '{NAME}': cannot set property MemoryMax, or unknown property"
    assert caught.value.pointer == "linux.resources.memory.limit"
    assert systemd.units == {}


def test_s3_2_value_that_systemd_refuses_is_an_error_of_its_own(manager: Manager, systemd: FakeSystemd) -> None:
    """A wrong value is the request's fault."""
    systemd.bad_values = {"MemoryMax"}
    with pytest.raises(InvalidArgument, match="out of range") as caught:
        manager.start_transient_scope(NAME, [1], [LIMIT], deadline_s=LONG_S)
    assert caught.value.pointer == "linux.resources.memory.limit"


def test_s0_9_failed_unit_of_that_name_is_reset_and_the_start_tried_once_more(
    manager: Manager, systemd: FakeSystemd
) -> None:
    """What an earlier container left behind does not keep its name."""
    systemd.units[NAME] = "failed"
    manager.start_transient_scope(NAME, [1], [], deadline_s=LONG_S)
    assert systemd.units[NAME] == "active"
    assert systemd.members().count("StartTransientUnit") == 2


def test_s0_9_active_unit_of_that_name_is_an_error_and_left_alone(manager: Manager, systemd: FakeSystemd) -> None:
    """It is somebody's: never join it, never stop it."""
    systemd.units[NAME] = "active"
    with pytest.raises(AlreadyExists, match=f"start unit '{NAME}': unit {NAME} was already loaded"):
        manager.start_transient_scope(NAME, [1], [], deadline_s=LONG_S)
    assert systemd.units == {NAME: "active"}
    assert systemd.members().count("StartTransientUnit") == 2


@pytest.mark.parametrize("result", ["failed", "timeout", "canceled", "dependency", "skipped"])
def test_s3_2_job_that_does_not_end_well_is_an_error_and_the_unit_is_gone(
    manager: Manager, systemd: FakeSystemd, result: str
) -> None:
    """Only "done" means that the processes are in the scope."""
    systemd.job_result = result
    with pytest.raises(FailedPrecondition, match=f"start unit '{NAME}': systemd's job ended with result '{result}'"):
        manager.start_transient_scope(NAME, [1], [], deadline_s=LONG_S)
    assert systemd.units == {}


@pytest.mark.parametrize("member", ["Subscribe", "StartTransientUnit", "GetUnit"])
def test_s3_2_no_answer_ends_within_the_deadline(manager: Manager, systemd: FakeSystemd, member: str) -> None:
    """A hanging systemd costs the deadline, not more, and the text says what was waited for."""
    systemd.mute = {member}
    begin = time.monotonic()
    with pytest.raises(Timeout, match=f"start unit '{NAME}': .*: no answer") as caught:
        manager.start_transient_scope(NAME, [1], [], deadline_s=SHORT_S)
    assert time.monotonic() - begin < 30
    assert "list-jobs" in caught.value.hint


def test_s3_2_job_that_never_ends_times_out_and_is_stopped(manager: Manager, systemd: FakeSystemd) -> None:
    """The stop goes out on the same connection, behind the start."""
    systemd.job_result = None
    with pytest.raises(Timeout, match="the end of job 1"):
        manager.start_transient_scope(NAME, [1], [], deadline_s=SHORT_S)
    assert systemd.has_stopped.wait(30)
    assert systemd.members()[-1] == "StopUnit"


@pytest.mark.parametrize("member", ["Subscribe", "StartTransientUnit"])
def test_s3_2_closed_connection_is_an_error_of_its_own(manager: Manager, systemd: FakeSystemd, member: str) -> None:
    """systemd went away before it answered."""
    systemd.hang_up = {member}
    with pytest.raises(Unavailable, match=f"start unit '{NAME}': .*the peer closed the connection"):
        manager.start_transient_scope(NAME, [1], [], deadline_s=LONG_S)


def test_unit_that_runs_after_systemd_restarted_counts_as_started(manager: Manager, systemd: FakeSystemd) -> None:
    """A manager that executes itself anew keeps its jobs: the state of the unit decides."""
    systemd.hang_up_before_job_ends = True
    assert manager.start_transient_scope(NAME, [1], [], deadline_s=LONG_S).control_group == f"/system.slice/{NAME}"


def test_unit_that_does_not_run_after_a_restart_is_an_error(manager: Manager, systemd: FakeSystemd) -> None:
    """And nothing of it stays."""
    systemd.hang_up_before_job_ends = True
    systemd.job_result = "failed"
    with pytest.raises(Unavailable, match="the peer closed the connection"):
        manager.start_transient_scope(NAME, [1], [], deadline_s=LONG_S)
    assert systemd.units == {}


def test_broken_connection_is_made_anew_by_the_next_operation(manager: Manager, systemd: FakeSystemd) -> None:
    """One interruption does not spoil the object."""
    systemd.hang_up = {"StartTransientUnit"}
    with pytest.raises(Unavailable):
        manager.start_transient_scope(NAME, [1], [], deadline_s=LONG_S)
    assert manager.start_transient_scope(NAME, [1], [], deadline_s=LONG_S).name == NAME


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (f"{ERROR}AccessDenied", PermissionDenied),
        (f"{ERROR}InteractiveAuthorizationRequired", PermissionDenied),
        (f"{ERROR}ServiceUnknown", Unavailable),
        (f"{ERROR}NoReply", Timeout),
        (f"{ERROR}LimitsExceeded", ResourceExhausted),
        (f"{ERROR}UnknownMethod", Unsupported),
        (f"{UNIT}UnitMasked", FailedPrecondition),
        ("org.example.Anything", FailedPrecondition),
    ],
)
def test_s3_2_each_refusal_has_its_kind_and_names_the_unit(
    manager: Manager, systemd: FakeSystemd, name: str, kind: type[CorralError]
) -> None:
    """The caller can tell them apart without reading."""
    systemd.errors["StartTransientUnit"] = [Refusal(name, "Not today.")]
    with pytest.raises(kind) as caught:
        manager.start_transient_scope(NAME, [1], [], deadline_s=LONG_S)
    assert caught.value.message == f"start unit '{NAME}': not today"
    assert type(caught.value) is kind


def test_unit_that_ended_at_once_is_an_error(manager: Manager, systemd: FakeSystemd) -> None:
    """Started, and collected before its group could be read: the processes are gone."""
    systemd.errors["GetUnit"] = [Refusal(f"{UNIT}NoSuchUnit", "Unit not loaded.")]
    with pytest.raises(FailedPrecondition, match=f"start unit '{NAME}': it ended at once"):
        manager.start_transient_scope(NAME, [1], [], deadline_s=LONG_S)


def test_unit_whose_group_cannot_be_read_is_stopped_again(manager: Manager, systemd: FakeSystemd) -> None:
    """No half success."""
    systemd.errors["Get"] = [Refusal(f"{ERROR}AccessDenied", "No.")]
    with pytest.raises(PermissionDenied, match="start unit"):
        manager.start_transient_scope(NAME, [1], [], deadline_s=LONG_S)
    assert systemd.units == {}


def test_stop_is_idempotent(manager: Manager, systemd: FakeSystemd) -> None:
    """A unit that is not there is stopped; the answer tells the difference."""
    systemd.units[NAME] = "active"
    assert manager.stop_unit(NAME, deadline_s=LONG_S)
    assert not manager.stop_unit(NAME, deadline_s=LONG_S)
    assert not manager.reset_failed(NAME, deadline_s=LONG_S)


@pytest.mark.parametrize(("operation", "member"), [("stop", "StopUnit"), ("read", "GetUnit")])
def test_errors_of_other_operations_name_the_unit_too(
    manager: Manager, systemd: FakeSystemd, operation: str, member: str
) -> None:
    """Whatever is done, the text says what and to which unit."""
    systemd.errors[member] = [Refusal(f"{ERROR}AccessDenied", "Access denied")]
    act = manager.stop_unit if operation == "stop" else manager.control_group
    with pytest.raises(PermissionDenied, match=f"{operation} .*'{NAME}': access denied"):
        act(NAME, deadline_s=LONG_S)


def test_properties_of_a_running_unit_are_changed(manager: Manager, systemd: FakeSystemd) -> None:
    """For an update; optional ones may be unknown, the unit may not."""
    systemd.units[NAME] = "active"
    systemd.unknown = {"OOMPolicy"}
    assert manager.set_unit_properties(NAME, [POLICY, LIMIT], deadline_s=LONG_S) == ("OOMPolicy",)
    assert systemd.properties[NAME] == {"MemoryMax": 4096}
    with pytest.raises(NotFound, match=r"set properties of unit 'x\.scope': unit x\.scope not loaded"):
        manager.set_unit_properties("x.scope", [LIMIT], deadline_s=LONG_S)


def test_property_is_known_by_the_settings_name_too(manager: Manager, systemd: FakeSystemd) -> None:
    """Texts on time values have the unit file's name, which ends in Sec, for the property's USec."""
    systemd.bad_values = {"CPUQuotaPeriodUSec"}
    systemd.value_texts = {"CPUQuotaPeriodUSec": "CPUQuotaPeriodSec= value out of range"}
    period = UnitProperty("CPUQuotaPeriodUSec", "t", 1, is_optional=True)
    assert manager.start_transient_scope(NAME, [1], [LIMIT, period], deadline_s=LONG_S).dropped == (period.name,)


def test_refusal_that_names_no_property_of_ours_is_told_as_it_is(manager: Manager, systemd: FakeSystemd) -> None:
    """Nothing is left out on a guess, and an error without a text has its name."""
    systemd.errors["StartTransientUnit"] = [Refusal(f"{ERROR}InvalidArgs", "")]
    with pytest.raises(InvalidArgument, match=f"start unit '{NAME}': org.freedesktop.DBus.Error.InvalidArgs"):
        manager.start_transient_scope(NAME, [1], [POLICY], deadline_s=LONG_S)


def test_update_that_is_refused_names_the_place_in_the_config(manager: Manager, systemd: FakeSystemd) -> None:
    """As at the start."""
    systemd.units[NAME] = "active"
    systemd.unknown = {"MemoryMax"}
    with pytest.raises(Unsupported, match=f"set properties of unit '{NAME}'") as caught:
        manager.set_unit_properties(NAME, [LIMIT], deadline_s=LONG_S)
    assert caught.value.pointer == LIMIT.pointer


@pytest.mark.parametrize("member", ["SetUnitProperties", "StopUnit", "AttachProcessesToUnit", "Get"])
def test_every_operation_ends_within_its_deadline(manager: Manager, systemd: FakeSystemd, member: str) -> None:
    """Whatever is not answered."""
    systemd.units[NAME] = "active"
    systemd.mute = {member}
    act: Callable[[], object] = {
        "SetUnitProperties": lambda: manager.set_unit_properties(NAME, [LIMIT], deadline_s=SHORT_S),
        "StopUnit": lambda: manager.stop_unit(NAME, deadline_s=SHORT_S),
        "AttachProcessesToUnit": lambda: manager.attach_pids(NAME, "/", [1], deadline_s=SHORT_S),
        "Get": lambda: manager.control_group(NAME, deadline_s=SHORT_S),
    }[member]
    with pytest.raises(Timeout, match=f"unit '{NAME}': wait for {member}"):
        act()


def test_stop_job_that_does_not_end_well_is_an_error(manager: Manager, systemd: FakeSystemd) -> None:
    """The unit may still be there."""
    systemd.units[NAME] = "active"
    systemd.stop_result = "timeout"
    with pytest.raises(FailedPrecondition, match=f"stop unit '{NAME}': systemd's job ended with result 'timeout'"):
        manager.stop_unit(NAME, deadline_s=LONG_S)


def test_connection_that_is_subscribed_already_is_used(manager: Manager, systemd: FakeSystemd) -> None:
    """Another part of the program may have asked on the same bus name."""
    systemd.errors["Subscribe"] = [Refusal(f"{UNIT}AlreadySubscribed", "Client is already subscribed.")]
    assert manager.start_transient_scope(NAME, [1], [], deadline_s=LONG_S).name == NAME


def test_refused_subscription_is_told_before_anything_is_started(manager: Manager, systemd: FakeSystemd) -> None:
    """Nothing to undo."""
    systemd.errors["Subscribe"] = [Refusal(f"{ERROR}AccessDenied", "Access denied")]
    with pytest.raises(PermissionDenied, match=f"start unit '{NAME}': access denied"):
        manager.start_transient_scope(NAME, [1], [], deadline_s=LONG_S)
    assert "StartTransientUnit" not in systemd.members()


def test_bus_that_refuses_the_greeting_is_told(tmp_path: Path) -> None:
    """Too many connections, for instance."""
    fake = FakeSystemd(tmp_path / "bus")
    fake.errors["Hello"] = [Refusal(f"{ERROR}LimitsExceeded", "The maximum number of connections is reached.")]
    try:
        with Manager([str(fake.path)]) as manager, pytest.raises(ResourceExhausted, match="maximum number"):
            manager.version(deadline_s=LONG_S)
    finally:
        fake.close()


def test_systemd_that_does_not_come_back_is_told(manager: Manager, systemd: FakeSystemd) -> None:
    """The state of the unit stays unknown; the deadline ends the asking."""
    systemd.hang_up_before_job_ends = True
    systemd.auth = [systemd.auth[0], ["REJECTED"]]
    with pytest.raises(Unavailable, match=f"start unit '{NAME}': .*closed the connection"):
        manager.start_transient_scope(NAME, [1], [], deadline_s=SHORT_S)


def test_what_systemd_tells_of_itself_and_of_units_is_read(manager: Manager, systemd: FakeSystemd) -> None:
    """Version, own group, a unit's group and state."""
    systemd.units[NAME] = "active"
    assert manager.version(deadline_s=LONG_S) == (252, "252.30-1~deb12u2")
    assert manager.manager_path(deadline_s=LONG_S) == "/user.slice/user-7.slice/user@7.service"
    assert manager.control_group(NAME, deadline_s=LONG_S) == f"/system.slice/{NAME}"
    assert manager.active_state(NAME, deadline_s=LONG_S) == "active"
    with pytest.raises(NotFound, match="not loaded"):
        manager.active_state("x.scope", deadline_s=LONG_S)


def test_pids_are_attached_below_a_unit(manager: Manager, systemd: FakeSystemd) -> None:
    """For exec under a user's manager."""
    systemd.units[NAME] = "active"
    manager.attach_pids(NAME, "/container", [5], deadline_s=LONG_S)
    assert systemd.calls[-1] == ("AttachProcessesToUnit", (NAME, "/container", [5]))


def test_first_socket_that_answers_is_used(systemd: FakeSystemd, tmp_path: Path) -> None:
    """systemd's own socket is not everywhere; the bus is not either."""
    with Manager([str(tmp_path / "absent"), str(systemd.path)]) as manager:
        assert manager.version(deadline_s=LONG_S)[0] == 252


def test_s3_2_missing_sockets_are_told_all(tmp_path: Path) -> None:
    """The error names each place that was tried."""
    with Manager([f"{tmp_path}/a", f"{tmp_path}/b"]) as manager, pytest.raises(Unavailable) as caught:
        manager.start_transient_scope(NAME, [1], [], deadline_s=LONG_S)
    assert caught.value.message == (
        f"start unit '{NAME}': connect to '{tmp_path}/a': no such file or directory; "
        f"connect to '{tmp_path}/b': no such file or directory"
    )


def test_s3_2_host_without_systemd_is_told(tmp_path: Path) -> None:
    """Not a matter of sockets: there is no systemd here."""
    assert not is_systemd_running(str(tmp_path))
    with system_manager(str(tmp_path)) as manager, pytest.raises(Unsupported) as caught:
        manager.start_transient_scope(NAME, [1], [], deadline_s=LONG_S)
    assert caught.value.message == (
        f"start unit '{NAME}': reach systemd: this host is not run by it (no directory '/run/systemd/system')"
    )
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert is_systemd_running(str(tmp_path))
    with system_manager(str(tmp_path)) as manager, pytest.raises(Unavailable, match="system_bus_socket"):
        manager.version(deadline_s=LONG_S)


def test_users_manager_is_found_by_the_environment(systemd: FakeSystemd) -> None:
    """XDG_RUNTIME_DIR, or the address of the session bus."""
    runtime = str(systemd.path).removesuffix("/systemd/private").removesuffix("/bus")
    for environ in ({"XDG_RUNTIME_DIR": runtime}, {"DBUS_SESSION_BUS_ADDRESS": f"unix:path={systemd.path},guid=1"}):
        with user_manager(environ) as manager:
            assert manager.is_user
            assert manager.version(deadline_s=LONG_S)[0] == 252


def test_environment_without_a_users_manager_is_told() -> None:
    """Relative directories and other transports lead nowhere."""
    with pytest.raises(FailedPrecondition, match="XDG_RUNTIME_DIR"):
        user_manager({"XDG_RUNTIME_DIR": "x", "DBUS_SESSION_BUS_ADDRESS": "tcp:host=x"})
