"""corral.runtime.record: the reservation of a name, and what later commands read of it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import posix
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from corral.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied, Unsupported
from corral.linux.procfs import read_boot_id, read_stat
from corral.runtime import record as records
from corral.runtime.record import (
    J_COMMIT,
    RUNNING,
    Record,
    is_stale,
    journal_has,
    list_ids,
    remove_tree,
    replace_file,
    reserve,
)

STATE: dict[str, Any] = {"schema": 1, "id": "c1", "cgroups": [], "freezer": None}


def commit(path: Path, kind: int = J_COMMIT) -> None:
    """Append an entry to the journal, as the front does."""
    with (path / "journal").open("ab") as file:
        file.write(struct.pack("<HHIQ", kind, 0, 0, 0))


def make_record(root: Path, name: str = "c1", *, committed: bool = True, **members: Any) -> Path:
    """A record that was made and let go of."""
    reserve(str(root), name, {"state.json": json.dumps({**STATE, **members}).encode()}).close()
    if committed:
        commit(root / name)
    return root / name


def live_as(path: Path, pid: int, *, start_time: int | None = None, boot_id: str | None = None) -> None:
    """Write the record's ``live`` for a process."""
    start = read_stat(pid).start_time_ticks if start_time is None else start_time
    (path / "live").write_text(f"{pid} {start} {boot_id or read_boot_id()} 0\n")


def test_reserve_writes_everything_under_the_name_at_once(tmp_path: Path) -> None:
    """The record is complete when its name appears, its lock is held, and nothing half-made is left."""
    reservation = reserve(str(tmp_path / "root"), "c1", {"a": b"x" * 100_000, "b": b""})

    assert {"a", "b", "journal", "owner.lock"} == set(os.listdir(tmp_path / "root" / "c1"))
    assert b"x" * 100_000 == (tmp_path / "root" / "c1" / "a").read_bytes()
    assert ["c1"] == os.listdir(tmp_path / "root")
    assert not is_stale(reservation.path)
    assert 0o700 == os.stat(reservation.path).st_mode & 0o777
    reservation.close()
    assert is_stale(reservation.path)


def test_reserve_refuses_a_name_that_is_taken(tmp_path: Path) -> None:
    """In runc's words; the loser leaves nothing."""
    make_record(tmp_path)
    with pytest.raises(AlreadyExists, match="create container 'c1': container with given ID already exists") as caught:
        reserve(str(tmp_path), "c1", {})

    assert f"{tmp_path}/c1" == caught.value.path
    assert "choose another id, or remove it: corral-runtime delete c1" == caught.value.hint
    assert ["c1"] == os.listdir(tmp_path)


def test_reserve_gives_the_name_to_one_of_many(tmp_path: Path) -> None:
    """Eight at once: one wins, seven are told, and the record is the winner's."""
    results: list[str] = []

    def take(number: int) -> None:
        try:
            reserve(str(tmp_path), "c1", {"who": str(number).encode()}).close()
            results.append(f"won {number}")
        except AlreadyExists:
            results.append("lost")

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 7 == results.count("lost")
    winner = next(result for result in results if result != "lost")
    assert winner == f"won {(tmp_path / 'c1' / 'who').read_text()}"
    assert ["c1"] == os.listdir(tmp_path)


def test_reserve_leaves_nothing_when_a_file_cannot_be_written(tmp_path: Path) -> None:
    """A half-written record never shows."""
    with pytest.raises(OSError, match="No such file"):
        reserve(str(tmp_path), "c1", {"no/such/folder": b""})

    assert [] == os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["c1", "c2"])
def test_reserve_keeps_no_descriptor_when_it_does_not_succeed(tmp_path: Path, name: str) -> None:
    """A resident planner sees many names that are taken, and discs that are full."""
    make_record(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises((AlreadyExists, OSError)):
            reserve(str(tmp_path), name, {} if name == "c1" else {"a": b"", "no/such": b""})

    assert before == len(os.listdir("/proc/self/fd"))


def test_reserve_tells_a_full_disc_from_a_taken_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the record; only what rename(2) says of a taken name is a taken name."""

    def rename(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(posix, "rename", rename)
    with pytest.raises(OSError, match="No space left") as caught:
        reserve(str(tmp_path), "c1", {})

    assert f"{tmp_path}/c1" == caught.value.filename
    assert [] == os.listdir(tmp_path)


@pytest.mark.parametrize("mode", [0o720, 0o702])
def test_record_that_others_may_write_is_not_believed(tmp_path: Path, mode: int) -> None:
    """What it says is done with our rights."""
    make_record(tmp_path).chmod(mode)
    with pytest.raises(PermissionDenied, match="others may write to it"):
        Record(str(tmp_path), "c1")


def test_two_who_ask_at_once_do_not_take_each_other_for_the_holder(tmp_path: Path) -> None:
    """`list` beside `exec` must not see a running container as created, or a dead maker as alive."""
    path = make_record(tmp_path, committed=False)
    (path / "init.lock").touch()
    with (path / "init.lock").open() as init, (path / "owner.lock").open() as owner:
        fcntl.flock(init, fcntl.LOCK_SH)
        fcntl.flock(owner, fcntl.LOCK_SH)

        assert is_stale(str(path))
        commit(path)
        live_as(path, os.getpid())
        assert RUNNING == Record(str(tmp_path), "c1").status


def test_record_that_is_deleted_meanwhile_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever lists the others goes on with them."""
    path = make_record(tmp_path)
    monkeypatch.setattr(records, "read_stat_or_none", lambda pid: remove_tree(str(path)))
    live_as(path, os.getpid())
    with pytest.raises(NotFound, match="container does not exist"):
        Record(str(tmp_path), "c1")


def test_record_is_stale_only_without_commit_and_without_owner(tmp_path: Path) -> None:
    """The owner's death before the commit is what makes it so."""
    path = make_record(tmp_path, committed=False)
    assert is_stale(str(path))
    lock = os.open(path / "owner.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert not is_stale(str(path))
    os.close(lock)
    commit(path)
    assert not is_stale(str(path))
    assert not is_stale(str(tmp_path / "nothing"))


def test_journal_tolerates_a_torn_last_entry(tmp_path: Path) -> None:
    """A crash in the middle of an append leaves whole entries readable."""
    path = make_record(tmp_path, committed=False)
    with (path / "journal").open("ab") as file:
        file.write(b"\x07\0torn")
    assert not journal_has(str(path), J_COMMIT)

    (path / "journal").write_bytes(struct.pack("<HHIQ", 2, 0, 0, 0) + struct.pack("<HHIQ", 7, 0, 0, 0) + b"\x01")
    assert journal_has(str(path), J_COMMIT)
    assert not journal_has(str(path), 10)


def test_status_follows_the_kernel(tmp_path: Path) -> None:
    """creating, created, running, stopped: by owner lock, journal, init lock and the process itself."""
    path = make_record(tmp_path, committed=False)
    assert ("stale", "creating") == (Record(str(tmp_path), "c1").status, Record(str(tmp_path), "c1").visible_status)
    owner = os.open(path / "owner.lock", os.O_RDWR)
    fcntl.flock(owner, fcntl.LOCK_EX)
    assert "creating" == Record(str(tmp_path), "c1").status
    commit(path)
    os.close(owner)
    assert "stopped" == Record(str(tmp_path), "c1").status
    live_as(path, os.getpid())
    assert ("running", os.getpid()) == (Record(str(tmp_path), "c1").status, Record(str(tmp_path), "c1").pid)
    init = os.open(path / "init.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(init, fcntl.LOCK_EX)
    assert "created" == Record(str(tmp_path), "c1").status
    os.close(init)
    assert "running" == Record(str(tmp_path), "c1").status


@pytest.mark.parametrize(
    ("version", "file", "text"), [(2, "cgroup.events", "populated 1\nfrozen 1\n"), (1, "freezer.state", "FROZEN\n")]
)
def test_frozen_container_is_paused(tmp_path: Path, version: int, file: str, text: str) -> None:
    """Whoever froze it; a freezer that is gone does not count."""
    folder = tmp_path / "group"
    folder.mkdir()
    path = make_record(tmp_path, freezer=[version, str(folder)])
    live_as(path, os.getpid())
    assert "running" == Record(str(tmp_path), "c1").status
    (folder / file).write_text(text)
    assert "paused" == Record(str(tmp_path), "c1").status


@pytest.mark.parametrize("change", [{"start_time": 1}, {"boot_id": "other"}], ids=["pid used again", "rebooted"])
def test_another_process_of_that_pid_is_not_the_container(tmp_path: Path, change: dict[str, Any]) -> None:
    """A pid alone proves nothing."""
    live_as(make_record(tmp_path), os.getpid(), **change)

    assert ("stopped", 0) == (Record(str(tmp_path), "c1").status, Record(str(tmp_path), "c1").pid)


def test_damaged_live_file_is_a_stopped_container(tmp_path: Path) -> None:
    """Nobody is signalled by a guess."""
    (make_record(tmp_path) / "live").write_text("1 2\n")

    assert not Record(str(tmp_path), "c1").is_running


def test_missing_container_is_told_in_runcs_words(tmp_path: Path) -> None:
    """Callers match on them."""
    with pytest.raises(NotFound, match="container 'c1': container does not exist") as caught:
        Record(str(tmp_path), "c1")

    assert "`corral-runtime list` shows all of this state root; --root chooses another" == caught.value.hint


@pytest.mark.parametrize("text", ["[]", "{}", '{"schema": "1"}'])
def test_file_that_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    """The message names the file."""
    (make_record(tmp_path) / "state.json").write_text(text)
    with pytest.raises(InvalidArgument, match=r"read .*/c1/state.json: it is not a record of a container"):
        Record(str(tmp_path), "c1")


def test_record_of_a_later_version_is_refused(tmp_path: Path) -> None:
    """What it means is not ours to guess."""
    make_record(tmp_path, schema=2)
    with pytest.raises(Unsupported, match="container 'c1': its record has the schema 2, newer than 1"):
        Record(str(tmp_path), "c1")


def test_state_is_saved_as_a_whole(tmp_path: Path) -> None:
    """By rename; nothing else is left in the record."""
    path = make_record(tmp_path)
    before = set(os.listdir(path))
    record = Record(str(tmp_path), "c1")
    record.state["resources"] = {"pids": {"limit": 5}}
    record.save_state()

    assert {"pids": {"limit": 5}} == Record(str(tmp_path), "c1").state["resources"]
    assert before == set(os.listdir(path))


def test_large_file_is_replaced_completely(tmp_path: Path) -> None:
    """Not only what one write takes."""
    replace_file(str(tmp_path), "f", b"x" * 1_000_000)

    assert 1_000_000 == (tmp_path / "f").stat().st_size


def test_ids_are_sorted_and_without_what_is_half_made(tmp_path: Path) -> None:
    """Hidden names and folders without a state are not containers."""
    for name in ("b", "a"):
        make_record(tmp_path, name)
    (tmp_path / ".new-x-1").mkdir()
    (tmp_path / "empty").mkdir()

    assert ["a", "b"] == list_ids(str(tmp_path))
    assert [] == list_ids(str(tmp_path / "nothing"))


def test_state_root_of_another_user_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without XDG_RUNTIME_DIR meets the system's state root first."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(posix, "listdir", refuse)
    monkeypatch.setattr(posix, "mkdir", refuse)
    message, hint = "use the state root /run: permission denied", "choose one of your own with --root DIR"
    for call in (lambda: list_ids("/run"), lambda: reserve("/run", "c1", {})):
        with pytest.raises(PermissionDenied) as caught:
            call()
        assert message == caught.value.message
        assert caught.value.hint.startswith(hint)


def test_remove_tree_follows_no_links(tmp_path: Path) -> None:
    """A link in a record loses the link, not what it names."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("")
    inside = tmp_path / "inside" / "deep"
    inside.mkdir(parents=True)
    (inside / "link").symlink_to(outside)
    remove_tree(str(tmp_path / "inside"))
    remove_tree(str(tmp_path / "inside"))

    assert ["outside"] == os.listdir(tmp_path)
    assert (outside / "kept").exists()
