"""Random sequences of verbs by several clients at once, compared with a model of what a container is.

One verb at a time has to do what the model says, to the error's kind. Several at once have to leave a state that some
order of them leads to, with the same invariants. ``CORRAL_SWEEP=all`` plays longer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from corral.engine import journal, names
from corral.engine.places import Places
from corral.errors import NotFound
from engine_model.client import Client
from root.engine.conftest import Engine, eventually, remove_groups

pytestmark = [pytest.mark.requires("root"), pytest.mark.timeout(3600), pytest.mark.usefixtures("no_leaks")]

NAMES = ("one", "two", "three")
CLIENTS = 3
EXAMPLES, STEPS = (100, 40) if os.environ.get("CORRAL_SWEEP") == "all" else (6, 25)
ABSENT, CONFIGURED, RUNNING, PAUSED, EXITED = "absent", "configured", "running", "paused", "exited"
OK, REFUSED, NOT_THERE, TAKEN = "", "FailedPrecondition", "NotFound", "AlreadyExists"

# Verb -> status before -> (what is said, status after). What is not named is NotFound when absent, else refused.
RULES: dict[str, dict[str, tuple[str, str]]] = {
    "create": {
        ABSENT: (OK, CONFIGURED),
        **{status: (TAKEN, status) for status in (CONFIGURED, RUNNING, PAUSED, EXITED)},
    },
    "start": {CONFIGURED: (OK, RUNNING), EXITED: (OK, RUNNING), RUNNING: (OK, RUNNING)},
    "stop": {CONFIGURED: (OK, CONFIGURED), EXITED: (OK, EXITED), RUNNING: (OK, EXITED), PAUSED: (OK, EXITED)},
    "kill": {RUNNING: (OK, EXITED), PAUSED: (OK, EXITED)},
    "pause": {RUNNING: (OK, PAUSED), PAUSED: (OK, PAUSED)},
    "unpause": {RUNNING: (OK, RUNNING), PAUSED: (OK, RUNNING)},
    "rm": {CONFIGURED: (OK, ABSENT), EXITED: (OK, ABSENT)},
    "rm_force": dict.fromkeys((CONFIGURED, RUNNING, PAUSED, EXITED), (OK, ABSENT)),
    "exec": {RUNNING: (OK, RUNNING)},
}
VERBS = tuple(RULES)


def expected(verb: str, before: str) -> tuple[str, str]:
    """What a verb says and does to a container in this state."""
    if before == ABSENT and verb != "create":
        return NOT_THERE, ABSENT
    return RULES[verb].get(before, (REFUSED, before))


class Store:
    """What all examples share: a store and its clients."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.clients = [Client(engine.places.store) for _ in range(CLIENTS)]

    def ask(self, client: int, verb: str, name: str) -> None:
        """Begin a verb on the container of this name."""
        arguments: dict[str, tuple[list[Any], dict[str, Any]]] = {
            "create": ([self.engine.request("sleep", "1000", name=name)], {}),
            "stop": ([name], {"timeout_s": 0}),
            "rm_force": ([name], {"force": True}),
            "exec": ([name, {"command": ["sh", "-c", "exit 8"]}], {}),
        }
        given, options = arguments.get(verb, ([name], {}))
        self.clients[client].ask("rm" if verb == "rm_force" else verb, *given, **options)

    def status(self, name: str) -> str:
        """What the engine says of it, as this process sees it."""
        try:
            return self.engine.look(names.find_id(self.engine.places, name)).status
        except NotFound:
            return ABSENT

    def close(self) -> None:
        """End the clients."""
        for client in self.clients:
            client.close()


def machine(store: Store) -> type[RuleBasedStateMachine]:
    """The state machine over a store."""

    class Model(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.status = dict.fromkeys(NAMES, ABSENT)

        @rule(client=st.integers(0, CLIENTS - 1), verb=st.sampled_from(VERBS), name=st.sampled_from(NAMES))
        def one(self, client: int, verb: str, name: str) -> None:
            before = self.status[name]
            said, after = expected(verb, before)
            store.ask(client, verb, name)
            kind, text = store.clients[client].answer()
            assert (verb, before, kind) == (verb, before, said), text
            if verb == "exec" and kind == OK:
                assert text["exit"]["code"] == 8
            if verb == "kill" and kind == OK:
                eventually(lambda: store.status(name) == after)
            self.status[name] = after

        @rule(verbs=st.lists(st.sampled_from(VERBS), min_size=CLIENTS, max_size=CLIENTS), name=st.sampled_from(NAMES))
        def several(self, verbs: list[str], name: str) -> None:
            for number, verb in enumerate(verbs):
                store.ask(number, verb, name)
            answers = [client.answer() for client in store.clients]
            assert [text for kind, text in answers if kind in ("killed", "OSError", "Internal")] == []
            eventually(lambda: store.status(name) in (ABSENT, CONFIGURED, RUNNING, PAUSED, EXITED))
            if "kill" in verbs:
                eventually(lambda: not _is_dying(store, name))
            self.status[name] = store.status(name)

        @invariant()
        def states_agree(self) -> None:
            assert {name: store.status(name) for name in NAMES} == self.status

        @invariant()
        def what_lives_is_what_runs(self) -> None:
            rows = {row["name"]: row["status"] for row in store.engine.call("ps", is_all=True)}
            assert rows == {name: status for name, status in self.status.items() if status != ABSENT}

        @invariant()
        def events_have_no_gap(self) -> None:
            numbers = [event["n"] for event in journal.read(store.engine.places)]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True

        def teardown(self) -> None:
            for container in names.list_ids(store.engine.places):
                store.engine.call("rm", container, force=True)

    return Model


def _is_dying(store: Store, name: str) -> bool:
    """Its init was killed and its end is not seen yet: the status is about to change."""
    try:
        container = names.find_id(store.engine.places, name)
        facts = store.engine.look(container)
    except NotFound:
        return False
    stop = facts.state.get("stop", {})
    return facts.is_live and stop.get("by") == "kill" and stop.get("run") == facts.run


@pytest.fixture
def store(tmp_path: Path, mark: str, no_leaks: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store with its clients; all of it gone afterwards."""
    monkeypatch.setenv("CORRAL_CGROUP_PARENT", f"/{mark}")
    places = Places(str(tmp_path / "store"))
    places.prepare()
    store = Store(Engine(places))
    yield store
    store.close()
    store.engine.close()
    remove_groups(mark)


def test_the_engine_does_what_the_model_says(store: Store) -> None:
    """Any sequence of verbs, one at a time and several at once, by three processes."""
    run_state_machine_as_test(
        machine(store),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
