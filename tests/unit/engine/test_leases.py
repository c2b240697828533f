"""corral.engine.leases and ledger: who is at work, and what is on file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral.engine import leases, ledger
from corral.engine.places import Places
from corral.engine.stopping import intend_stop
from corral.errors import FailedPrecondition, NotFound, ResourceExhausted, Timeout
from unit.engine.containers import ID, make


def test_a_lease_excludes_others_while_it_is_held(places: Places) -> None:
    """Start, settle and remove exclude each other; the error names the process that is at work."""
    make(places)
    with leases.acquire(places, ID, "start", deadline_s=60), pytest.raises(Timeout, match=f"process {os.getpid()}"):
        leases.acquire(places, ID, "remove", deadline_s=60)
    leases.acquire(places, ID, "remove", deadline_s=60).close()
    assert "leases" not in ledger.read(places, ID)


def test_a_lease_is_void_when_its_owner_died(places: Places) -> None:
    """Whoever comes next takes it."""
    dead = {**leases.me(), "pid": 0x3FFFFFFE, "deadline_ns": 2**62, "token": "x"}
    make(places, state={"leases": {"start": dead}})
    with leases.acquire(places, ID, "start", deadline_s=60):
        assert leases.is_owned(ledger.read(places, ID)["leases"]["start"])
    assert "leases" not in ledger.read(places, ID)


def test_what_a_dead_owner_left_is_on_record_when_another_operation_comes_first(places: Places) -> None:
    """An end is followed up beside a start or a restart that broke off: whoever finishes those still finds them."""
    dead = {**leases.me(), "pid": 0x3FFFFFFE, "deadline_ns": 2**62, "token": "x"}
    broken = {"start": dead, "restart": {**dead, "arguments": {"signal": "HUP"}}}
    make(places, state={"leases": broken})
    with leases.acquire(places, ID, "settle", deadline_s=60):
        pass
    assert ledger.read(places, ID)["leases"] == broken


def test_a_restart_that_broke_off_is_forgotten_when_a_stop_is_asked_for(places: Places) -> None:
    """What was asked for last counts; one whose owner lives goes on."""
    dead = {**leases.me(), "pid": 0x3FFFFFFE, "deadline_ns": 2**62, "token": "x"}
    make(places, state={"leases": {"restart": dead}})
    intend_stop(places, ID, 1.0)
    assert "leases" not in ledger.read(places, ID)
    with leases.acquire(places, ID, "restart", deadline_s=60):
        intend_stop(places, ID, 1.0)
        assert "restart" in ledger.read(places, ID)["leases"]


def test_a_lease_is_void_when_the_pid_was_used_again(places: Places) -> None:
    """The start time tells two processes with one pid apart."""
    reused = {**leases.me(), "start": 1, "deadline_ns": 2**62}
    assert leases.is_owned(reused) is False


def test_a_lease_is_void_when_the_host_was_restarted(places: Places) -> None:
    """Of another boot nothing lives."""
    assert leases.is_owned({**leases.me(), "boot": "another", "deadline_ns": 2**62}) is False


def test_a_lease_is_believed_when_its_owner_is_in_another_pid_namespace() -> None:
    """Its pid means nothing here, so its deadline decides."""
    elsewhere = {**leases.me(), "pidns": 1, "pid": 0x3FFFFFFE}
    assert leases.is_owned({**elsewhere, "deadline_ns": 2**62}) is True
    assert leases.is_owned({**elsewhere, "deadline_ns": 1}) is False


def test_a_lease_is_lost_when_its_deadline_is_over(places: Places) -> None:
    """Who was stopped for too long finds out before it goes on."""
    make(places)
    with leases.acquire(places, ID, "start", deadline_s=0) as late:
        taken = leases.acquire(places, ID, "start", deadline_s=60)
        with pytest.raises(FailedPrecondition, match="another process took the work over"):
            late.check()
        taken.close()


def test_closing_a_lost_lease_spares_the_new_owner(places: Places) -> None:
    """A late owner gives back nothing that is not its own."""
    make(places)
    late = leases.acquire(places, ID, "start", deadline_s=0)
    held = leases.acquire(places, ID, "start", deadline_s=60)
    late.close()
    held.check()
    held.close()


def test_an_update_is_written_when_the_block_ends(places: Places) -> None:
    """And not when it raised, nor when nothing changed."""
    make(places)
    with ledger.Update(places, ID) as state:
        state["runs"] = 1
    before = os.stat(f"{places.container(ID)}/state.json").st_ino
    with ledger.Update(places, ID):
        pass
    with pytest.raises(KeyError), ledger.Update(places, ID) as state:
        state["runs"] = state["no such member"]
    assert os.stat(f"{places.container(ID)}/state.json").st_ino == before
    assert ledger.read(places, ID)["runs"] == 1


def test_a_cut_off_state_counts_as_empty(places: Places) -> None:
    """The kernel and the records say the rest."""
    make(places)
    Path(places.container(ID), "state.json").write_text('{"schema":1,"ru')
    assert ledger.read(places, ID) == {"schema": 1}


def test_an_update_says_so_when_the_container_is_gone(places: Places) -> None:
    """No file of a removed container is made again."""
    with pytest.raises(NotFound, match="it was removed"), ledger.Update(places, ID):
        pass
    assert not os.path.exists(places.container(ID))


def test_an_update_tells_the_cause_when_the_disc_is_full(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old state stays whole."""
    make(places, state={"runs": 1})

    def full(fd: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("corral.engine.files.posix.write", full)
    with pytest.raises(ResourceExhausted, match="no space left on device"), ledger.Update(places, ID) as state:
        state["runs"] = 2
    monkeypatch.undo()
    assert ledger.read(places, ID)["runs"] == 1
    assert sorted(os.listdir(places.container(ID))) == ["definition.json", "lock", "state.json"]


def test_a_resource_has_one_row_when_its_fate_changes() -> None:
    """intended, then created, then removed: the last word counts."""
    state: dict[str, object] = {}
    ledger.note_resource(state, "netns", "/run/netns/x", "intended")
    ledger.note_resource(state, "netns", "/run/netns/x", "absent", "operation not permitted")
    assert state["resources"] == [
        {"kind": "netns", "name": "/run/netns/x", "fate": "absent", "why": "operation not permitted"}
    ]
