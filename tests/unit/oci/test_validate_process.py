"""corral.oci.validate_process: the process of config.json and of exec."""

from __future__ import annotations

from typing import Any

import pytest

from corral.oci.shape import Problem
from corral.oci.validate import validate
from corral.oci.validate_process import validate_process
from unit.oci.documents import minimal_process, minimal_spec, problems_as_pairs

CAP = "CAP_KILL"


def test_the_smallest_process_has_no_problems() -> None:
    """A program and a directory; user, env and all else have defaults."""
    assert [] == validate_process(minimal_process())


def test_pointers_start_where_the_caller_says() -> None:
    """exec's own document is the process itself."""
    assert [("args", "missing"), ("cwd", "missing")] == problems_as_pairs(validate_process({}, ""))
    assert [("process.args", "missing"), ("process.cwd", "missing")] == problems_as_pairs(validate_process({}))


def test_the_process_of_a_config_is_checked_too() -> None:
    """The same rules, below process."""
    spec = minimal_spec(process=minimal_process(cwd="tmp"))

    assert [("process.cwd", "'tmp' is not an absolute path")] == problems_as_pairs(validate(spec))


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        pytest.param({"args": []}, ("args", "empty"), id="no program"),
        pytest.param({"args": [""]}, ("args[0]", "empty program name"), id="empty program"),
        pytest.param({"args": ["a", 1]}, ("args[1]", "want a string, got 1"), id="argument of wrong type"),
        pytest.param({"args": ["a", "\0"]}, ("args[1]", "NUL character in '\\x00'"), id="NUL in argument"),
        pytest.param({"args": "true"}, ("args", "want an array, got the string 'true'"), id="args as a string"),
        pytest.param({"cwd": ""}, ("cwd", "'' is not an absolute path"), id="empty cwd"),
        pytest.param({"cwd": "tmp"}, ("cwd", "'tmp' is not an absolute path"), id="relative cwd"),
        pytest.param({"cwd": "/\0"}, ("cwd", "NUL character in '/\\x00'"), id="NUL in cwd"),
        pytest.param({"env": ["A"]}, ("env[0]", "'A' is not of the form NAME=VALUE"), id="no equals sign"),
        pytest.param({"env": ["A=1", ""]}, ("env[1]", "'' is not of the form NAME=VALUE"), id="empty entry"),
        pytest.param({"env": ["=A"]}, ("env[0]", "'=A' has no name before '='"), id="no name"),
        pytest.param({"env": ["A=\0"]}, ("env[0]", "NUL character in 'A=\\x00'"), id="NUL in env"),
        pytest.param({"terminal": 1}, ("terminal", "want true or false, got 1"), id="terminal"),
        pytest.param(
            {"consoleSize": {"height": 65536, "width": 1}},
            ("consoleSize.height", "65536 is not between 0 and 65535"),
            id="console height",
        ),
        pytest.param(
            {"consoleSize": {"height": 1, "width": -1}},
            ("consoleSize.width", "-1 is not between 0 and 65535"),
            id="console width",
        ),
        pytest.param({"user": {"uid": -1}}, ("user.uid", "-1 is not between 0 and 4294967294"), id="negative uid"),
        pytest.param(
            {"user": {"gid": 2**32 - 1}},
            ("user.gid", "4294967295 is not between 0 and 4294967294"),
            id="gid that means unchanged",
        ),
        pytest.param({"user": "root"}, ("user", "want an object, got the string 'root'"), id="user as a string"),
        pytest.param(
            {"user": {"additionalGids": [1, "2"]}},
            ("user.additionalGids[1]", "want an integer, got the string '2'"),
            id="group of wrong type",
        ),
        pytest.param(
            {"user": {"additionalGids": [1] * 65537}},
            ("user.additionalGids", "more than 65536 groups"),
            id="too many groups",
        ),
        pytest.param({"oomScoreAdj": 1001}, ("oomScoreAdj", "1001 is not between -1000 and 1000"), id="oomScoreAdj"),
        pytest.param({"apparmorProfile": "a\nb"}, ("apparmorProfile", "line break in 'a\\nb'"), id="apparmorProfile"),
        pytest.param({"selinuxLabel": "a\nb"}, ("selinuxLabel", "line break in 'a\\nb'"), id="selinuxLabel"),
        pytest.param(
            {"noNewPrivileges": "no"},
            ("noNewPrivileges", "want true or false, got the string 'no'"),
            id="noNewPrivileges",
        ),
        pytest.param(
            {"capabilities": {"effective": [CAP]}},
            ("capabilities.effective[0]", "CAP_KILL is not in the permitted set"),
            id="effective beyond permitted",
        ),
        pytest.param(
            {"capabilities": {"bounding": CAP}},
            ("capabilities.bounding", "want an array, got the string 'CAP_KILL'"),
            id="capability set as a string",
        ),
        pytest.param(
            {"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}},
            ("ioPriority.priority", "8 is not between 0 and 7"),
            id="I/O priority",
        ),
        pytest.param(
            {"ioPriority": {"class": "BE", "priority": 0}},
            ("ioPriority.class", "'BE' is none of IOPRIO_CLASS_RT, IOPRIO_CLASS_BE, IOPRIO_CLASS_IDLE"),
            id="I/O class",
        ),
        pytest.param({"ioPriority": {"priority": 0}}, ("ioPriority.class", "missing"), id="no I/O class"),
        pytest.param(
            {"execCPUAffinity": {"initial": "0-"}},
            ("execCPUAffinity.initial", "'0-' is not a list of CPUs: '0-' is neither a number nor a range"),
            id="initial affinity",
        ),
        pytest.param(
            {"execCPUAffinity": {"final": "0xff"}},
            ("execCPUAffinity.final", "'0xff' is not a list of CPUs: '0xff' is neither a number nor a range"),
            id="final affinity",
        ),
    ],
)
def test_process_members_are_checked(members: dict[str, Any], expected: tuple[str, str]) -> None:
    """One mistake, one problem, at its place."""
    assert [expected] == problems_as_pairs(validate_process(minimal_process(**members), ""))


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        pytest.param(
            [{"type": "RLIMIT_NOFILE", "soft": 2, "hard": 1}],
            [("rlimits[0].soft", "soft limit 2 is above the hard limit 1")],
            id="soft above hard",
        ),
        pytest.param(
            [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}] * 2,
            [("rlimits[1].type", "RLIMIT_CPU is given twice")],
            id="twice",
        ),
        pytest.param(
            [{"type": "RLIMIT_CPU", "soft": -1, "hard": 1}],
            [("rlimits[0].soft", "-1 is not between 0 and 18446744073709551615")],
            id="negative",
        ),
        pytest.param([{"type": "RLIMIT_CPU", "soft": 1}], [("rlimits[0].hard", "missing")], id="no hard limit"),
        pytest.param([{"soft": 2, "hard": 2}], [("rlimits[0].type", "missing")], id="no type"),
    ],
)
def test_rlimits_are_checked(limits: list[dict[str, Any]], expected: list[tuple[str, str]]) -> None:
    """setrlimit(2) would answer EINVAL; duplicates are the specification's MUST."""
    assert expected == problems_as_pairs(validate_process(minimal_process(rlimits=limits), ""))


def test_unknown_rlimits_are_answered_with_the_known() -> None:
    """The message lists them all."""
    process = minimal_process(rlimits=[{"type": "NOFILE", "soft": 1, "hard": 1}])
    (problem,) = validate_process(process)

    assert "process.rlimits[0].type" == problem.pointer
    assert problem.message.startswith("'NOFILE' is none of RLIMIT_CPU, RLIMIT_FSIZE, ")


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        pytest.param({}, ("scheduler.policy", "missing"), id="no policy"),
        pytest.param(
            {"policy": "FIFO"},
            (
                "scheduler.policy",
                "'FIFO' is none of SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_ISO, SCHED_IDLE, "
                "SCHED_DEADLINE",
            ),
            id="unknown policy",
        ),
        pytest.param(
            {"policy": "SCHED_ISO"}, ("scheduler.policy", "no Linux kernel implements SCHED_ISO"), id="SCHED_ISO"
        ),
        pytest.param(
            {"policy": "SCHED_OTHER", "nice": 20}, ("scheduler.nice", "20 is not between -20 and 19"), id="nice"
        ),
        pytest.param(
            {"policy": "SCHED_FIFO"},
            ("scheduler.priority", "SCHED_FIFO needs a priority between 1 and 99, not 0"),
            id="FIFO without priority",
        ),
        pytest.param(
            {"policy": "SCHED_RR", "priority": 100},
            ("scheduler.priority", "SCHED_RR needs a priority between 1 and 99, not 100"),
            id="RR above the range",
        ),
        pytest.param(
            {"policy": "SCHED_OTHER", "priority": 1},
            ("scheduler.priority", "SCHED_OTHER takes no priority, only SCHED_FIFO and SCHED_RR do"),
            id="priority for OTHER",
        ),
        pytest.param(
            {"policy": "SCHED_IDLE", "runtime": 1},
            ("scheduler.runtime", "SCHED_IDLE takes no runtime, only SCHED_DEADLINE does"),
            id="runtime for IDLE",
        ),
        pytest.param(
            {"policy": "SCHED_IDLE", "period": 1},
            ("scheduler.period", "SCHED_IDLE takes no period, only SCHED_DEADLINE does"),
            id="period for IDLE",
        ),
        pytest.param(
            {"policy": "SCHED_DEADLINE"},
            ("scheduler", "want 0 < runtime <= deadline <= period, got 0, 0, 0"),
            id="DEADLINE without times",
        ),
        pytest.param(
            {"policy": "SCHED_DEADLINE", "runtime": 3, "deadline": 2, "period": 4},
            ("scheduler", "want 0 < runtime <= deadline <= period, got 3, 2, 4"),
            id="runtime beyond deadline",
        ),
        pytest.param(
            {"policy": "SCHED_OTHER", "flags": ["RESET"]},
            (
                "scheduler.flags[0]",
                "'RESET' is none of SCHED_FLAG_RESET_ON_FORK, SCHED_FLAG_RECLAIM, SCHED_FLAG_DL_OVERRUN, "
                "SCHED_FLAG_KEEP_POLICY, SCHED_FLAG_KEEP_PARAMS, SCHED_FLAG_UTIL_CLAMP_MIN, SCHED_FLAG_UTIL_CLAMP_MAX",
            ),
            id="unknown flag",
        ),
    ],
)
def test_scheduler_is_checked(scheduler: dict[str, Any], expected: tuple[str, str]) -> None:
    """sched_setattr(2) would answer EINVAL."""
    assert [expected] == problems_as_pairs(validate_process(minimal_process(scheduler=scheduler), ""))


@pytest.mark.parametrize(
    "scheduler",
    [
        {"policy": "SCHED_FIFO", "priority": 99},
        {"policy": "SCHED_RR", "priority": 1},
        {"policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2, "period": 3},
        {"policy": "SCHED_DEADLINE", "runtime": 2, "deadline": 2},
        {"policy": "SCHED_OTHER", "nice": -20, "priority": 0, "runtime": 0},
        {"policy": "SCHED_IDLE"},
    ],
    ids=lambda scheduler: str(scheduler["policy"]),
)
def test_scheduler_takes_what_the_kernel_takes(scheduler: dict[str, Any]) -> None:
    """Each policy with its own parameters."""
    assert [] == validate_process(minimal_process(scheduler=scheduler))


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        pytest.param(
            {"capabilities": {"bounding": ["CAP_FUTURE", "kill"]}},
            [
                ("capabilities.bounding[0]", "unknown capability 'CAP_FUTURE' is ignored"),
                ("capabilities.bounding[1]", "unknown capability 'kill' is ignored"),
            ],
            id="unknown capability",
        ),
        pytest.param(
            {"capabilities": {"permitted": [CAP], "ambient": [CAP]}},
            [
                (
                    "capabilities.ambient",
                    "not raised by the kernel, as not both permitted and inheritable: CAP_KILL",
                )
            ],
            id="ambient without inheritable",
        ),
        pytest.param(
            {"user": {"umask": 0o1000}},
            [("user.umask", "0o1000 has bits beyond 0777, which the kernel drops")],
            id="umask",
        ),
    ],
)
def test_what_runc_ignores_is_a_warning(members: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """The container runs all the same."""
    problems = validate_process(minimal_process(**members), "")

    assert expected == problems_as_pairs(problems)
    assert all(problem.is_warning for problem in problems)


def test_null_members_of_a_process_are_absent() -> None:
    """As Go writes them."""
    names = ("terminal", "consoleSize", "user", "env", "capabilities", "rlimits", "scheduler", "ioPriority")
    process = minimal_process(**dict.fromkeys(names))
    process["capabilities"] = dict.fromkeys(("bounding", "effective", "inheritable", "permitted", "ambient"))

    assert [] == validate_process(process)


def test_a_missing_required_member_says_who_requires_it() -> None:
    """The hint is apart from the message."""
    assert [Problem("process.cwd", "missing", "the runtime specification requires it")] == validate_process(
        {"args": ["a"]}
    )
