"""The engine's pure decisions: restart, health, OOM, exits, signals, times, failpoints."""

from __future__ import annotations

from typing import Any

import pytest

from corral.engine import exits, failpoints, health, oom, restart, signals, times
from corral.engine.counters import counter_files
from corral.errors import InvalidArgument

MS = 1_000_000


def decide(policy: str, code: int | None, *, row: int = 0, lasted_s: float = 1, **state: Any) -> Any:
    definition = {"restart": {"policy": policy, "max_retries": state.pop("bound", 0)}}
    run = {"started_ns": 1, "lasted_ns": int(lasted_s * 1e9)}
    known = {"runs": 1, "run": run, "restart": {"count": row, "row": row}, **state}
    return restart.after_exit(definition, known, {"code": code})


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        ("no", 1, False),
        ("always", 0, True),
        ("unless-stopped", 0, True),
        ("on-failure", 1, True),
        ("on-failure", 0, False),
        ("on-failure", None, True),
    ],
)
def test_policies_decide_by_the_code(policy: str, code: int | None, again: bool) -> None:
    """An end that nobody saw is no success."""
    assert (decide(policy, code) is not None) == again


def test_restart_pauses_double_up_to_a_minute() -> None:
    """100 ms, 200 ms ... 60 s; anew after a run of ten seconds."""
    delays = [decide("always", 1, row=row)["delay_ms"] for row in (0, 1, 2, 9, 10, 1000)]
    assert delays == [100, 200, 400, 51200, 60000, 60000]
    assert decide("always", 1, row=8, lasted_s=10)["delay_ms"] == 100


def test_no_restart_when_someone_stopped_it() -> None:
    """A stop of this run counts, one of an earlier run does not."""
    assert decide("always", 0, stop={"run": 1}) is None
    assert decide("always", 0, stop={"run": 0}) is not None


def test_no_restart_when_the_bound_is_reached() -> None:
    """max_retries counts restarts in a row."""
    assert decide("on-failure", 1, row=2, bound=3) is not None
    assert decide("on-failure", 1, row=3, bound=3) is None


def test_boot_starts_what_policies_want() -> None:
    """always: also what was stopped; unless-stopped: not that; neither what never ran."""
    ran = {"runs": 1}
    stopped = {"runs": 1, "stop": {"run": 1}}
    shown = [
        restart.wants_start_at_boot({"restart": {"policy": policy}}, state)
        for policy in ("no", "always", "unless-stopped")
        for state in (ran, stopped, {})
    ]
    assert shown == [False, False, False, True, True, False, True, False, False]


def test_health_needs_failures_in_a_row() -> None:
    """retries in a row make it unhealthy; one success makes it healthy; the start period forgives."""
    asked = {"retries": 2, "start_period_s": 5.0}
    assert health.judge(asked, {"status": "starting", "failing": 0}, 1, up_s=1) == ("starting", 0)
    assert health.judge(asked, {"status": "starting", "failing": 0}, 1, up_s=9) == ("starting", 1)
    assert health.judge(asked, {"status": "healthy", "failing": 1}, 1, up_s=9) == ("unhealthy", 2)
    assert health.judge(asked, {"status": "unhealthy", "failing": 7}, 0, up_s=9) == ("healthy", 0)


def test_health_commands_have_their_forms() -> None:
    """As an image writes them."""
    assert health.command_of(["CMD", "a", "b"]) == ["a", "b"]
    assert health.command_of(["CMD-SHELL", "a | b"]) == ["/bin/sh", "-c", "a | b"]
    assert health.command_of(["NONE"]) == []


def counters(before: dict[str, Any], after: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"path": path, "before": before[path], "after": after[path]} for path in before]


OWN = "/cg/corral/x/memory.events"
LOCAL = "/cg/corral/x/memory.events.local"
ABOVE = "/cg/corral/memory.events.local"
QUIET = {OWN: {"oom": 0, "oom_kill": 0}, LOCAL: {"oom": 0, "oom_kill": 0}, ABOVE: {"oom": 0, "oom_kill": 0}}


def kill_line(pid: int, group: str = "/corral/x", limit: str = "/corral/x") -> str:
    return (
        "6,1,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,"
        f"oom_memcg={limit},task_memcg={group},task=a,pid={pid},uid=0"
    )


def test_oom_owner_is_the_group_whose_own_limit_was_hit() -> None:
    """S4.9: memory.events.local tells own from ancestor."""
    own = counters(QUIET, {OWN: {"oom": 1, "oom_kill": 1}, LOCAL: {"oom": 1, "oom_kill": 1}, ABOVE: QUIET[ABOVE]})
    above = counters(QUIET, {OWN: {"oom": 0, "oom_kill": 1}, LOCAL: {"oom": 0, "oom_kill": 1}, ABOVE: {"oom": 1}})
    judged = [oom.judge(item, pid=7, signal=9, kills=None) for item in (own, above)]
    assert [item["whose"] for item in judged] == ["own", "ancestor"]
    assert judged[1]["limit_of"] == "/cg/corral"


def test_oom_victim_is_what_the_log_says() -> None:
    """init, a child, or unknown where the log has no word of it."""
    hit = counters(QUIET, {OWN: {"oom": 1, "oom_kill": 1}, LOCAL: {"oom": 1, "oom_kill": 1}, ABOVE: QUIET[ABOVE]})
    lines = {"init": kill_line(7), "child": kill_line(8), "unknown": kill_line(7, group="/corral/y")}
    for victim, line in lines.items():
        found = oom.judge(hit, pid=7, signal=9, kills=oom.parse_kills(line, "x"))
        assert (found["victim"], found["init_killed"]) == (victim, victim != "child")


def test_oom_is_no_reason_when_init_ended_otherwise() -> None:
    """S4.8: exit 143 is never an OOM kill."""
    hit = counters(QUIET, {OWN: {"oom": 1, "oom_kill": 1}, LOCAL: {"oom": 1, "oom_kill": 1}, ABOVE: QUIET[ABOVE]})
    assert oom.judge(hit, pid=7, signal=15, kills=None)["init_killed"] is False


def test_oom_is_none_when_nothing_was_killed() -> None:
    """Counters that did not rise, or that are gone."""
    assert oom.judge(counters(QUIET, QUIET), pid=7, signal=9, kills=None) == {
        "kills": 0,
        "whose": "none",
        "init_killed": False,
    }
    gone = [{"path": path, "before": value, "after": {}} for path, value in QUIET.items()]
    assert oom.judge(gone, pid=7, signal=9, kills=None)["kills"] == 0


def test_oom_owner_comes_from_the_log_when_v1_does_not_count() -> None:
    """On v1 hits may not be counted; the log names the group."""
    v1 = [{"path": "/m/corral/x/memory.oom_control", "before": {"oom_kill": 0}, "after": {"oom_kill": 1}}]
    shown = [
        oom.judge(v1, pid=7, signal=9, kills=oom.parse_kills(kill_line(7, limit=limit), "x"))["whose"]
        for limit in ("/corral/x", "/corral", "/corral/x/inner", "")
    ]
    assert shown == ["own", "ancestor", "below", "host"]


def test_counter_files_keep_to_the_monitors_bound() -> None:
    """The group's own first, then what tells of limits above, the root never."""
    assert counter_files(2, "/cg", "/corral/s/x") == [
        "/cg/corral/s/x/memory.events",
        "/cg/corral/s/x/memory.events.local",
        "/cg/corral/s/memory.events.local",
        "/cg/corral/memory.events.local",
    ]
    assert len(counter_files(1, "/cg", "/a/b/c/d/e")) == 8


@pytest.mark.parametrize(("status", "code"), [(0, 0), (3 << 8, 3), (9, 137), (0x80 | 11, 139)])
def test_exit_codes_are_a_shells(status: int, code: int) -> None:
    """128 + signal, also with a core dump."""
    assert exits.exit_code_of(status) == code


def test_an_unknown_end_has_no_code() -> None:
    """S4.3: never invented."""
    shown = exits.to_exit({"run": 1, "pid": 5, "status": None, "source": "unknown", "finished_ns": 9})
    assert (shown["code"], shown["source"], "signal" in shown) == (None, "unknown", False)


@pytest.mark.parametrize(
    ("text", "number"), [("TERM", 15), ("SIGKILL", 9), ("sigusr1", 10), ("15", 15), ("RTMIN+3", 37), ("SIGRTMAX", 64)]
)
def test_signals_are_read_by_name_or_number(text: str, number: int) -> None:
    """As kill(1) takes them."""
    assert signals.parse_signal(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "FOO", "SIG", "RTMIN+99", "-1", "_BLOCK"])
def test_signals_are_refused_when_there_are_none(text: str) -> None:
    """The value is named."""
    with pytest.raises(InvalidArgument, match="there is no such signal"):
        signals.parse_signal(text)


def test_times_are_moments_or_durations() -> None:
    """As --since takes them."""
    assert times.parse_time("10m", now_ns=600 * 10**9) == 0
    assert times.parse_time("1700000000.5") == 1_700_000_000_500_000_000
    assert times.parse_time("1970-01-01T00:00:10+00:00") == 10 * 10**9
    assert times.parse_duration("1h2m3s") == 3723 * 10**9
    assert times.parse_duration("1500ms") == 1500 * MS
    with pytest.raises(InvalidArgument, match="neither a moment nor a duration"):
        times.parse_time("yesterday")


def test_failpoints_are_read_from_their_text() -> None:
    """Those of the engine; the rest is other actors'."""
    text = "front:3:kill,engine:start.created:2:stop,engine:x:errno=28"
    assert [(p.name, p.left, p.action) for p in failpoints.parse(text)] == [
        ("start.created", 2, "stop"),
        ("x", 1, "errno=28"),
    ]
    assert failpoints.without_own(text) == "front:3:kill"
    with pytest.raises(InvalidArgument, match="is not a failpoint"):
        failpoints.parse("engine:x")


def test_a_failpoint_strikes_at_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time, once."""
    monkeypatch.setattr(failpoints, "_points", failpoints.parse("engine:here:2:errno=5"))
    failpoints.failpoint("here")
    failpoints.failpoint("there")
    with pytest.raises(OSError, match="failpoint here") as caught:
        failpoints.failpoint("here")
    assert caught.value.errno == 5
    failpoints.failpoint("here")
