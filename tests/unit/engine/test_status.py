"""corral.engine.status and ps: what is shown when the files say one thing and the kernel another."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from corral.engine import files, leases, status
from corral.engine.filters import Filter
from corral.engine.places import Places
from corral.engine.stopping import stop_signal_of
from corral.errors import InvalidArgument, NotFound
from corral.linux.procfs import read_boot_id
from unit.engine.containers import ID, make


def run(**members: Any) -> dict[str, Any]:
    return {"number": 1, "phase": "started", "boot": read_boot_id(), "started_ns": 1, **members}


def test_a_container_is_configured_when_it_never_ran(places: Places) -> None:
    """No run, no record."""
    make(places)
    facts = status.look(places, ID)
    assert (facts.status, facts.exit()) == ("configured", {})


def test_a_running_container_is_exited_when_nothing_lives(places: Places) -> None:
    """S4.1: a file that says it runs is not believed; its end is pending until it is judged."""
    make(places, state={"runs": 1, "run": run()})
    facts = status.look(places, ID)
    assert (facts.status, facts.exit()["source"], facts.exit()["code"]) == ("exited", "pending", None)


def test_a_container_of_an_earlier_boot_is_exited_unknown(places: Places) -> None:
    """Nothing of it can be alive, and nobody saw its end."""
    make(places, state={"runs": 1, "run": run(boot="another")})
    ended = status.look(places, ID).exit()
    assert (ended["source"], ended["reason"]) == ("unknown", "the host was restarted")


def test_the_exit_record_is_shown_when_it_is_of_this_run(places: Places) -> None:
    """One of an earlier run says nothing."""
    make(places, state={"runs": 2, "run": run()})
    record = {"run": 2, "pid": 5, "status": 3 << 8, "source": "observed", "finished_ns": 7}
    files.write_object(f"{places.container(ID)}/exit", record)
    assert status.look(places, ID).exit()["code"] == 3
    files.write_object(f"{places.container(ID)}/exit", {**record, "run": 1})
    assert status.look(places, ID).exit()["code"] is None


def test_a_start_under_way_is_as_before_it(places: Places) -> None:
    """Until there is an init the container is what it was."""
    make(places, state={"runs": 1, "run": run(phase="intended", started_ns=0)})
    assert status.look(places, ID).status == "configured"


def test_a_removal_is_dead_when_something_stays(places: Places) -> None:
    """removing while it is worked on, dead with the list of what keeps it."""
    make(places, state={"removing": {}})
    assert status.look(places, ID).status == "removing"
    files.write_object(
        f"{places.container(ID)}/state.json",
        {"schema": 1, "removing": {}, "pending": [{"what": "cgroup", "why": "busy"}]},
    )
    facts = status.look(places, ID)
    assert (facts.status, facts.to_json()["pending"][0]["why"]) == ("dead", "busy")


def test_looking_says_so_when_there_is_none(places: Places) -> None:
    """No such container."""
    with pytest.raises(NotFound, match="no such container"):
        status.look(places, ID)


def test_filters_choose_by_what_is_so(places: Places) -> None:
    """Values of one key are alternatives, keys must all hold, labels one by one."""
    make(places, labels={"tier": "web", "x": "1"}, name="shop", state={"runs": 1, "run": run()})
    facts = status.look(places, ID)
    chosen = {
        "name=sho": True,
        "name=other": False,
        "id=aaa": True,
        "label=tier": True,
        "label=tier=db": False,
        "status=exited": True,
        "status=running": False,
        "ancestor=alpine": False,
        "network=none": True,
        "health=none": True,
    }
    assert {text: Filter([text]).matches(facts) for text in chosen} == chosen
    assert Filter(["status=running", "status=exited"]).matches(facts)
    assert not Filter(["name=shop", "status=running"]).matches(facts)
    with pytest.raises(InvalidArgument, match="no filter is called 'colour'"):
        Filter(["colour=red"])


def test_stopping_is_shown_while_its_owner_is_at_it() -> None:
    """The stop of a client that died is not under way any more."""
    owner = {**leases.me(), "deadline_ns": 2**62}
    stop = {"run": 1, "until_ns": 1, "owner": owner}
    assert status._is_stopping({"stop": stop}, 1) is True
    assert status._is_stopping({"stop": {**stop, "owner": {**owner, "start": 1}}}, 1) is False
    assert status._is_stopping({"stop": stop}, 2) is False


@pytest.mark.parametrize(("text", "expected"), [("SIGNO", 15), ("SIGINT", 2), ("", 15)])
def test_a_container_can_be_stopped_whatever_its_image_names_as_stop_signal(
    places: Places, monkeypatch: pytest.MonkeyPatch, text: str, expected: int
) -> None:
    """A word that is no signal, in an image by anybody, is SIGTERM: else neither stop, kill nor rm would work."""
    make(places)
    facts = status.look(places, ID)
    said = {"annotations": {"org.opencontainers.image.stopSignal": text}}
    monkeypatch.setattr(facts, "record", SimpleNamespace(read_config=lambda: said))
    assert stop_signal_of(facts) == expected
