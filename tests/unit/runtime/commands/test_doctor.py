"""``doctor``: each check on hosts made of files, and the report."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from corral.cgroup.layout import Layout
from corral.errors import Unavailable
from corral.linux.caps import CAPABILITIES
from corral.runtime.commands import doctor
from corral.runtime.commands.doctor import CHECKS, LIMITED, MISSING, OK, Answer, Check, Sight, examine, render
from corral.runtime.host import Host
from unit.runtime.commands.command_lines import Run

UID = 1234
OWN = "/user.slice/user-1234.slice/user@1234.service/app"
V2 = "30 1 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw{}\n"
V1 = "31 1 0:27 / /sys/fs/cgroup/pids rw shared:5 - cgroup cgroup rw,pids\n"
PROC = "20 1 0:5 / /proc rw,nosuid - proc proc rw\n"


def write(root: Path, path: str, text: str = "") -> None:
    """A file of the made-up host."""
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def v2_host(
    root: Path, options: str = ",nsdelegate", have: tuple[str, ...] = ("memory pids", "pids", "pids", "")
) -> None:
    """A pure v2 host: ``have`` is subtree_control of the root and of each group down to, but not including, ours."""
    write(root, "/proc/self/mountinfo", V2.format(options) + PROC)
    write(root, "/proc/self/cgroup", f"0::{OWN}\n")
    group, given = "/sys/fs/cgroup", "cpu memory pids"
    for part, enabled in zip(["", *OWN.strip("/").split("/")], [*have, ""], strict=True):
        group += f"/{part}" if part else ""
        write(root, f"{group}/cgroup.controllers", given + "\n")
        write(root, f"{group}/cgroup.subtree_control", enabled + "\n")
        write(root, f"{group}/cgroup.procs")
        given = enabled


def v1_host(root: Path) -> None:
    """Only pids, on v1."""
    write(root, "/proc/self/mountinfo", V1 + PROC)
    write(root, "/proc/self/cgroup", "3:pids:/\n")


def sight(root: Path, *, euid: int = UID, environ: dict[str, str] | None = None, **members: Any) -> Sight:
    """A caller on the made-up host."""
    return Sight(Host(Layout(()), euid=euid, **members), environ or {}, uid=euid, root=str(root))


def ask(name: str, seen: Sight) -> Answer:
    """The answer of one check by name."""
    (found,) = [answer for _, answer in examine(seen, [check for check in CHECKS if check.name == name])]
    return found


def test_layout_tells_the_mode_and_every_hierarchy(tmp_path: Path) -> None:
    """v2 is ok without remark; anything else says what it costs; none at all is limited, not vital."""
    assert ask("cgroup layout", sight(tmp_path)).status == LIMITED
    v1_host(tmp_path)
    assert ask("cgroup layout", sight(tmp_path)).text == "v1: pids at /sys/fs/cgroup/pids"
    v2_host(tmp_path)
    answer = ask("cgroup layout", sight(tmp_path))
    assert (answer.status, answer.text, answer.mend) == (OK, "v2: cgroup2 at /sys/fs/cgroup", "")


def test_controllers_tell_which_usual_ones_are_not_there(tmp_path: Path) -> None:
    """io counts as there where v1 has blkio."""
    v2_host(tmp_path)
    assert ask("controllers", sight(tmp_path)).text == "cpu memory pids; not there: cpuset io"


def test_delegation_tells_where_each_controller_stops_and_the_snippet(tmp_path: Path) -> None:
    """The group above us that has it and does not give it on, and the unit's lines that mend it."""
    v2_host(tmp_path, have=("memory pids", "memory pids", "pids", "pids"))
    answer = ask("delegation", sight(tmp_path))
    assert answer.status == LIMITED
    assert answer.text == f"/sys/fs/cgroup{OWN} is ours, with pids"
    stops = "cpu stops at /sys/fs/cgroup; memory stops at /sys/fs/cgroup/user.slice/user-1234.slice"
    assert answer.why == stops
    assert answer.mend.endswith("[Service]\nDelegate=cpu memory pids")


def test_delegation_is_whole_when_every_usual_controller_arrives(tmp_path: Path) -> None:
    """Then there is nothing to mend."""
    v2_host(tmp_path, have=("cpu memory pids",) * 4)
    answer = ask("delegation", sight(tmp_path))
    assert (answer.status, answer.mend) == (OK, "")


def test_delegation_is_missing_when_the_group_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our group belongs to somebody else."""
    v2_host(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    answer = ask("delegation", sight(tmp_path))
    assert (answer.status, "Delegate=" in answer.mend) == (MISSING, True)


def test_delegation_is_impossible_on_v1(tmp_path: Path) -> None:
    """To a user; root needs none."""
    v1_host(tmp_path)
    assert ask("delegation", sight(tmp_path)).text == "nothing can be delegated to a user on a v1 host"
    assert ask("delegation", sight(tmp_path, euid=0)).status == OK


def test_read_only_cgroups_are_told(tmp_path: Path) -> None:
    """As in a container or a build."""
    v2_host(tmp_path)
    write(tmp_path, "/proc/self/mountinfo", V2.format("").replace(" rw,nosuid", " ro,nosuid") + PROC)
    assert ask("delegation", sight(tmp_path, euid=0)).text == "read-only: /sys/fs/cgroup"
    assert ask("driver cgroupfs", sight(tmp_path, euid=0)).status == LIMITED


@pytest.mark.parametrize(("options", "status"), [(",nsdelegate", OK), ("", LIMITED)], ids=["with", "without"])
def test_nsdelegate_is_read_from_the_mount(tmp_path: Path, options: str, status: str) -> None:
    """Without it the answer has the remount that mends it."""
    v2_host(tmp_path, options)
    answer = ask("nsdelegate", sight(tmp_path))
    assert (answer.status, "nsdelegate" in answer.mend) == (status, status == LIMITED)


def test_cgroup_kill_is_looked_for_in_a_group_that_is_not_the_root(tmp_path: Path) -> None:
    """The root group has no such file on any kernel."""
    v2_host(tmp_path)
    assert ask("cgroup.kill", sight(tmp_path)).text.startswith("cannot be told")
    write(tmp_path, f"/sys/fs/cgroup{OWN}/cgroup.events")
    assert ask("cgroup.kill", sight(tmp_path)).text == "no cgroup.kill"
    write(tmp_path, f"/sys/fs/cgroup{OWN}/cgroup.kill")
    assert ask("cgroup.kill", sight(tmp_path)).status == OK


@pytest.mark.parametrize("name", ["system", "user"])
def test_host_without_systemd_is_limited(tmp_path: Path, name: str) -> None:
    """No bus is asked."""
    assert ask(f"driver systemd, {name}", sight(tmp_path)).text == "systemd does not run this host"


@pytest.mark.parametrize("name", ["system", "user"])
def test_systemd_that_does_not_answer_is_told_with_its_reason(tmp_path: Path, name: str) -> None:
    """There is a systemd, but no socket of it."""
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    answer = ask(f"driver systemd, {name}", sight(tmp_path, environ={"XDG_RUNTIME_DIR": str(tmp_path / "no")}))
    assert answer.status == LIMITED
    assert str(tmp_path) in answer.why


@pytest.mark.parametrize("kind", ["uid", "gid"])
def test_subordinate_ids_are_told_by_range(tmp_path: Path, kind: str) -> None:
    """By number as well as by name; without one, the command that adds it."""
    assert f"usermod --add-sub{kind}s" in ask(f"sub{kind}", sight(tmp_path)).mend
    write(tmp_path, f"/etc/sub{kind}", f"other:1:2\n{UID}:100000:65536\n")
    assert ask(f"sub{kind}", sight(tmp_path)).text == "100000-165535"
    assert ask(f"sub{kind}", sight(tmp_path, euid=0)).status == OK


def test_id_helpers_are_needed_by_users_only(tmp_path: Path) -> None:
    """Both, or it is a single mapping."""
    assert ask("newuidmap, newgidmap", sight(tmp_path, newuidmap="/usr/bin/newuidmap")).text == "no newgidmap"
    assert ask("newuidmap, newgidmap", sight(tmp_path, euid=0)).status == OK


def without(*names: str) -> int:
    """All capabilities but these."""
    return (1 << 41) - 1 - sum(1 << CAPABILITIES.index(name) for name in names)


def test_lacking_capabilities_are_named_with_what_they_cost(tmp_path: Path) -> None:
    """SYS_RESOURCE is a limit, SYS_ADMIN the end; a user needs none."""
    limited = ask("capabilities", sight(tmp_path, euid=0, effective=without("CAP_SYS_RESOURCE")))
    assert (limited.status, limited.text) == (LIMITED, "lacking: CAP_SYS_RESOURCE")
    assert "oom_score_adj" in limited.why
    assert ask("capabilities", sight(tmp_path, euid=0, effective=without("CAP_SYS_ADMIN"))).status == MISSING
    assert ask("capabilities", sight(tmp_path, effective=0)).status == OK
    assert ask("capabilities", sight(tmp_path, euid=0)).text == "all"


@pytest.mark.parametrize(
    ("table", "status"),
    [("", MISSING), (PROC.replace("rw,nosuid", "ro"), MISSING), (PROC, OK)],
    ids=["absent", "read-only", "there"],
)
def test_proc_has_to_be_mounted_and_writable(tmp_path: Path, table: str, status: str) -> None:
    """Every container needs it."""
    write(tmp_path, "/proc/self/mountinfo", table)
    assert ask("/proc", sight(tmp_path)).status == status


def test_security_modules_are_the_kernels_list_if_it_can_be_read(tmp_path: Path) -> None:
    """Otherwise those that label processes."""
    assert ask("security modules", sight(tmp_path, lsms=("apparmor",))).text == "apparmor"
    write(tmp_path, "/sys/kernel/security/lsm", "lockdown,capability,bpf\n")
    assert ask("security modules", sight(tmp_path)).text == "lockdown, capability, bpf"


@pytest.mark.parametrize("kind", ["mnt", "time"])
def test_absent_namespace_is_told(tmp_path: Path, kind: str) -> None:
    """A mount namespace is vital; a container can be had without a time namespace."""
    for name in {"mnt", "pid", "net", "ipc", "uts", "user", "cgroup", "time"} - {kind}:
        write(tmp_path, f"/proc/self/ns/{name}")
    assert ask("namespaces", sight(tmp_path)).status == (MISSING if kind == "mnt" else LIMITED)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/proc/sys/user/max_user_namespaces", "0"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0"),
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
    ],
)
def test_switch_that_forbids_user_namespaces_is_named(tmp_path: Path, path: str, value: str) -> None:
    """With the file, its value, and what opens it."""
    assert ask("user namespaces", sight(tmp_path)).status == OK
    write(tmp_path, path, value + "\n")
    answer = ask("user namespaces", sight(tmp_path))
    assert (answer.status, answer.why, bool(answer.mend)) == (MISSING, f"{path} is {value}", True)


def test_user_namespace_that_is_refused_is_told_in_the_words_of_the_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever refuses it: a filter, an LSM."""
    monkeypatch.setattr(doctor, "_try_unshare", lambda: "unshare: not permitted")
    answer = ask("user namespaces", Sight(Host(Layout(()), euid=UID), {}, uid=UID))
    assert answer.status == MISSING
    assert "unshare: not permitted" in answer.why


@pytest.mark.parametrize(("number", "status", "begins"), [(0, OK, "mount_setattr"), (38, LIMITED, "no mount_setattr")])
def test_mount_setattr_is_found_by_a_call_that_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: str, begins: str
) -> None:
    """A kernel before 5.12, or a filter, is told with its own word."""
    monkeypatch.setattr(doctor, "mount_setattr_refusal", lambda: number)
    answer = ask("idmapped mounts", sight(tmp_path))
    assert (answer.status, answer.text.startswith(begins)) == (status, True)
    assert ("function not implemented" in answer.why) == (number == 38)


@pytest.mark.parametrize("policy", ["", "0", "2"])
def test_memfd_policy_is_told(tmp_path: Path, policy: str) -> None:
    """Every policy can be lived with."""
    if policy:
        write(tmp_path, "/proc/sys/vm/memfd_noexec", policy + "\n")
    answer = ask("memfd", sight(tmp_path))
    assert (answer.status, "forbidden" in answer.text) == (OK, policy == "2")


@pytest.mark.parametrize("name", ["openat2", "pidfd", "idmapped mounts", "seccomp", "memfd"])
def test_what_this_kernel_has_is_found_by_trying(tmp_path: Path, name: str) -> None:
    """The tests' own kernel has it, and a descriptor more or less is not left."""
    before = os.listdir("/proc/self/fd")
    assert ask(name, sight(tmp_path)).status in (OK, LIMITED)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_openat2_that_is_refused_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSYS, from the kernel or from a filter."""

    def refuse(*args: object) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(doctor, "openat2", refuse)
    answer = ask("openat2", sight(tmp_path))
    assert (answer.status, answer.why) == (MISSING, "function not implemented")


@pytest.mark.parametrize(
    ("known", "status"), [((), LIMITED), ((0,), LIMITED), ((0, 8), OK)], ids=["none", "filters", "notifications"]
)
def test_seccomp_is_told_by_its_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: tuple[int, ...], status: str
) -> None:
    """No filters, filters, notifications."""
    monkeypatch.setattr(doctor, "is_seccomp_flag_supported", lambda flag: flag in known)
    assert ask("seccomp", sight(tmp_path)).status == status


@pytest.mark.parametrize(
    "error", [Unavailable("ask X: no answer"), OSError(5, "Input/output error"), ValueError("odd")]
)
def test_check_that_meets_an_error_says_so_and_the_rest_go_on(tmp_path: Path, error: Exception) -> None:
    """A report with a hole is better than none."""

    def meet(seen: Sight) -> Answer:
        raise error

    answers = examine(sight(tmp_path), [Check("one", meet), Check("two", lambda seen: Answer(OK, "fine"))])
    assert [(answer.status, answer.text) for _, answer in answers] == [
        (LIMITED, "cannot be told from here"),
        (OK, "fine"),
    ]


def test_report_has_why_and_mend_below_and_a_count(tmp_path: Path) -> None:
    """A line a check."""
    answers = [
        (Check("a", lambda seen: Answer(OK, "")), Answer(OK, "fine")),
        (Check("bb", lambda seen: Answer(OK, "")), Answer(MISSING, "gone", "lost", "find it")),
    ]
    assert render(answers).splitlines() == [
        "ok      a   fine",
        "missing bb  gone",
        "            why:  lost",
        "            mend: find it",
        "1 ok, 0 limited, 1 missing",
    ]


def test_doctor_prints_every_check(run: Run) -> None:
    """As text and as JSON, with the same names."""
    code, text, err = run("doctor")
    as_json_code, document, _ = run("doctor", "--json")
    rows = json.loads(document)["checks"]
    assert [row["name"] for row in rows] == [check.name for check in CHECKS]
    assert [name for name in (row["name"] for row in rows) if name not in text] == []
    assert (code, err) == (as_json_code, "")


@pytest.mark.parametrize(("vital", "code"), [(True, 1), (False, 0)], ids=["vital", "not-vital"])
def test_exit_code_tells_whether_containers_are_possible(
    run: Run, monkeypatch: pytest.MonkeyPatch, vital: bool, code: int
) -> None:
    """Only what every container needs counts."""
    check = Check("x", lambda seen: Answer(MISSING, "gone"), is_vital=vital)
    monkeypatch.setattr(doctor, "CHECKS", (check,))
    assert run("doctor")[0] == code
    assert json.loads(run("doctor", "--json")[1])["ok"] is not vital
