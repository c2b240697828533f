"""corral.runtime.session: the conversation with a front, which here is a socket."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from corral.errors import FailedPrecondition
from corral.runtime.session import (
    BORN,
    CGROUP,
    FAILED,
    HEADER,
    PLAN,
    READBACK,
    READY,
    RECLAIM,
    REFUSED,
    TEXT,
    VERDICT,
    WARNING,
    Session,
    read_request,
    seal,
)
from unit.runtime.bundles import FakeFront, make_bundle, read_state, use_host, write_config
from unit.runtime.jobs import config

CREATED, JOINED, ABSENT = 2, 3, 4


@pytest.fixture
def front() -> Iterator[FakeFront]:
    """A front that is connected to a session of its own."""
    front = FakeFront()
    yield front
    front.close()


@pytest.fixture
def limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle with a pids limit, on a host with cgroup v2 alone."""
    use_host(monkeypatch, "v2")
    make_bundle(tmp_path, config(resources={"pids": {"limit": 100}}))
    return tmp_path


def create(front: FakeFront, folder: Path, name: str = "c1") -> None:
    """Ask for a container and get its plan."""
    answer = front.request(folder, "--root", f"{folder}/root", "create", "--bundle", "bundle", name)
    assert (answer.kind, answer.n_fds) == (PLAN, 3), answer.texts


def read_step(front: FakeFront, folder: Path) -> int:
    """Create, and the index of the step that reads pids.max back."""
    answer = front.request(folder, "--root", f"{folder}/root", "create", "--bundle", "bundle", "c1")
    return next(n for n, step in enumerate(answer.plan) if step.op == "CG_READ" and step.args[1] == "pids.max")


def test_request_is_answered_with_a_plan_and_a_record(front: FakeFront, limited: Path) -> None:
    """The plan's memfd, the record's directory and its held lock arrive with one message."""
    create(front, limited)

    files = {"config.json", "state.json", "journal", "owner.lock"}
    programs = {"start.plan", "kill.plan", "state.plan", "delete.plan"}
    assert files | programs == set(os.listdir(limited / "root" / "c1"))
    assert not front.session.is_over


def test_limits_in_force_are_committed_and_recorded(front: FakeFront, limited: Path) -> None:
    """With what was asked for read back, the verdict is commit, and the record says what became of each group."""
    step = read_step(front, limited)
    front.tell(CGROUP, value=0 | CREATED << 16)
    front.tell(BORN, value=4711)
    front.tell(READBACK, b"100\n", step=step)
    front.tell(READY)
    answer = front.answer()

    assert (VERDICT, 1) == (answer.kind, answer.value)
    assert "created" == read_state(limited / "root", "c1")["cgroups"][0]["fate"]


def test_limit_not_in_force_is_an_abort_with_the_pointer(front: FakeFront, limited: Path) -> None:
    """A value that reads back differently starts nothing (S0.8): the message says asked, got and where."""
    step = read_step(front, limited)
    front.tell(CGROUP, value=0 | CREATED << 16)
    front.tell(READBACK, b"max\n", step=step)
    front.tell(READY)
    answer = front.answer()

    assert (VERDICT, 0) == (answer.kind, answer.value)
    assert [
        "check pids.max of the container's cgroup (config linux.resources.pids.limit): asked for '100', the kernel has "
        "'max'",
        "the limit is not in force, so nothing was started",
    ] == answer.texts


def test_limit_whose_file_is_missing_is_an_abort(front: FakeFront, limited: Path) -> None:
    """No file, no limit."""
    step = read_step(front, limited)
    front.tell(READBACK, b"", step=step, error=-errno.ENOENT)
    front.tell(READY)
    answer = front.answer()

    assert (VERDICT, 0) == (answer.kind, answer.value)
    assert "no file 'pids.max'" in answer.texts[0]


def test_limit_that_was_never_read_back_is_an_abort(front: FakeFront, limited: Path) -> None:
    """A front that forgets to report proves nothing."""
    create(front, limited)
    front.tell(READY)

    assert 0 == front.answer().value


def test_absent_group_is_recorded_and_warned_of(
    front: FakeFront, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rootless without limits: the container goes without a group, once told, with the reason on record (S2.1)."""
    use_host(monkeypatch, "rootless")
    make_bundle(tmp_path)
    create(front, tmp_path)
    front.tell(CGROUP, value=0 | ABSENT << 16, error=-errno.EROFS)
    front.tell(READY)
    warning, verdict = front.answer(), front.answer()

    assert WARNING == warning.kind
    assert (
        "the container has no cgroup of its own: /sys/fs/cgroup/caller/c1: read-only file system; "
        "it cannot be limited, paused or counted"
    ) == warning.texts[0]
    assert (VERDICT, 1) == (verdict.kind, verdict.value)
    group = read_state(tmp_path / "root", "c1")["cgroups"][0]
    assert ("absent", "read-only file system") == (group["fate"], group["reason"])


def test_joined_group_is_recorded_as_not_ours(front: FakeFront, limited: Path) -> None:
    """What existed before is joined, and delete will leave it (S2.3)."""
    step = read_step(front, limited)
    front.tell(CGROUP, value=0 | JOINED << 16)
    front.tell(READBACK, b"100\n", step=step)
    front.tell(READY)
    front.answer()

    assert "joined" == read_state(limited / "root", "c1")["cgroups"][0]["fate"]


def test_failed_step_gets_a_hint_if_there_is_one(front: FakeFront, limited: Path) -> None:
    """The front has the message; the planner adds what to do about it."""
    answer = front.request(limited, "--root", f"{limited}/root", "create", "--bundle", "bundle", "c1")
    place = next(n for n, step in enumerate(answer.plan) if step.op == "FIND_PROGRAM")
    front.tell(FAILED, b"detail", step=place, error=-errno.ENOENT)
    answer = front.answer()

    assert (VERDICT, 0) == (answer.kind, answer.value)
    assert ["", "process.args[0] is looked up in PATH of process.env, inside the container"] == answer.texts


@pytest.mark.parametrize(("step", "error"), [(0, -errno.EIO), (100000, -errno.ENOENT)], ids=["no hint", "no such step"])
def test_failed_step_without_a_remedy_gets_no_hint(front: FakeFront, limited: Path, step: int, error: int) -> None:
    """Nothing is invented."""
    create(front, limited)
    front.tell(FAILED, step=step, error=error)

    assert ["", ""] == front.answer().texts


def test_refusal_carries_message_hint_kind_and_pointer(front: FakeFront, limited: Path) -> None:
    """What the front prints, and what its log says, arrive apart."""
    document = config()
    document["root"] = {"path": "nowhere"}
    write_config(limited / "bundle", document)
    answer = front.request(limited, "--root", f"{limited}/root", "create", "--bundle", "bundle", "c1")

    assert (REFUSED, 1) == (answer.kind, answer.value)
    assert [
        f"open the rootfs {limited}/bundle/nowhere: no such file or directory (config root.path)",
        "root.path is relative to the bundle, and must be a directory",
        "not-found",
        "root.path",
    ] == answer.texts
    assert not (limited / "root").exists()


def test_exec_is_refused_with_its_own_exit_code(front: FakeFront, tmp_path: Path) -> None:
    """255, as runc's exec."""
    answer = front.request(tmp_path, "--root", f"{tmp_path}/root", "exec", "nobody", "true")

    assert (REFUSED, 255) == (answer.kind, answer.value)
    assert "container 'nobody': container does not exist" == answer.texts[0]


def test_name_of_a_living_owner_is_taken(front: FakeFront, limited: Path) -> None:
    """While the other front holds the lock, the name is not stale."""
    create(front, limited)
    lock = os.open(limited / "root" / "c1" / "owner.lock", os.O_RDWR)
    import fcntl

    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    answer = front.request(limited, "--root", f"{limited}/root", "create", "--bundle", "bundle", "c1")
    os.close(lock)

    assert REFUSED == answer.kind
    assert "create container 'c1': container with given ID already exists" == answer.texts[0]


def test_name_of_a_dead_owner_is_to_be_reclaimed(front: FakeFront, limited: Path) -> None:
    """Nobody holds the lock and nothing was committed: the front undoes the record, and asks again (S4.14)."""
    create(front, limited)
    answer = front.request(limited, "--root", f"{limited}/root", "create", "--bundle", "bundle", "c1")

    assert RECLAIM == answer.kind
    assert f"{limited}/root/c1" == answer.texts[0]


def test_help_of_a_planned_command_is_text(front: FakeFront, tmp_path: Path) -> None:
    """``create --help`` prints, and exits 0."""
    answer = front.request(tmp_path, "create", "--help")

    assert (TEXT, 0) == (answer.kind, answer.value)
    assert "--bundle" in answer.texts[0]


def test_odd_command_line_is_refused_not_dropped(front: FakeFront, tmp_path: Path) -> None:
    """The parser's error reaches the user."""
    answer = front.request(tmp_path, "create", "--wings")

    assert (REFUSED, "create: unknown flag '--wings'") == (answer.kind, answer.texts[0])


def test_system_error_names_command_and_object(
    front: FakeFront, limited: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state root that cannot be made is a message, not a traceback."""
    (limited / "file").write_text("")
    answer = front.request(limited, "--root", f"{limited}/file/root", "create", "--bundle", "bundle", "c1")

    assert (REFUSED, f"plan create: {limited}/file/root: not a directory") == (answer.kind, answer.texts[0])


def test_end_of_the_front_ends_the_session(front: FakeFront) -> None:
    """Nothing is waited for that cannot come."""
    front.ours.close()
    front.session.receive()

    assert front.session.is_over


def test_unknown_message_is_ignored(front: FakeFront) -> None:
    """A later front may say more."""
    front.tell(99, b"news")

    assert not front.session.is_over


def test_exec_and_mounts_commit_without_a_record(front: FakeFront) -> None:
    """READY without a container to make is a commit."""
    front.tell(READY)

    assert (VERDICT, 1) == (front.answer().kind, 1)


def test_shared_session_loads_the_bus_before_its_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resident planner loads it once, not in the child that each container takes, and answers from that child."""
    pytest.importorskip("jeepney")
    for name in [name for name in sys.modules if name.partition(".")[0] == "jeepney"]:
        monkeypatch.delitem(sys.modules, name)
    front = FakeFront()
    front.session = Session(front.theirs, is_shared=True)

    def start(pids: list[int]) -> None:
        raise FailedPrecondition(f"{pids} {os.getpid()}")

    groups = SimpleNamespace(scope=SimpleNamespace(start=start))
    monkeypatch.setattr(front.session, "_prepared", SimpleNamespace(job=SimpleNamespace(groups=groups)), raising=False)
    front.session._start_scope([7])
    assert "jeepney.low_level" in sys.modules
    pids, answering = front.answer().texts[0].rsplit(" ", 1)
    assert ("[7]", True) == (pids, int(answering) != os.getpid())
    front.close()


def test_request_is_read_in_any_encoding() -> None:
    """Bytes that are no UTF-8 come through as surrogates; descriptors and environment by name."""
    fd = seal(b"v=1\0cwd=/tmp/\xff\0fds=3,9\0env=PATH=/bin:/x=y\0env=E=\0arg=run\0arg=\0")
    try:
        caller, argv = read_request(fd)
    finally:
        os.close(fd)

    assert "/tmp/\udcff" == caller.cwd
    assert (3, 9) == caller.open_fds
    assert {"PATH": "/bin:/x=y", "E": ""} == caller.env
    assert ["run", ""] == argv


def test_sealed_memory_cannot_be_changed() -> None:
    """What was checked is what is run."""
    fd = seal(b"plan")
    try:
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
        assert b"plan" == os.pread(fd, 10, 0)
    finally:
        os.close(fd)


def test_header_is_sixteen_bytes() -> None:
    """As C has it."""
    assert 16 == HEADER.size
