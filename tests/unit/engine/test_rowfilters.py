"""What ``--filter`` is told when it is wrong."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from corral.engine import filters
from corral.engine.filters import Filter
from corral.engine.rowfilters import is_wanted
from corral.engine.verbs.events import ACTIONS, parse_filters
from corral.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("status=runing", "did you mean running?"),
        ("health=sick", "one of starting, healthy, unhealthy, none"),
        ("restart-policy=allways", "did you mean always?"),
        ("exited=abc", "as in exited=137"),
        ("until=x", "write it as 2026-01-31T12:00:00, as seconds since 1970, or as 10m for ten minutes ago"),
    ],
)
def test_filter_whose_value_cannot_match_is_refused(text: str, hint: str) -> None:
    """An empty list would say that there are none."""
    with pytest.raises(InvalidArgument) as caught:
        Filter([text])
    assert caught.value.hint == hint


@pytest.mark.parametrize("text", ["type=contaner", "event=strat"])
def test_event_that_never_comes_is_refused(text: str) -> None:
    """Who waits for a misspelt event would wait for ever; Docker's words for ours are taken."""
    with pytest.raises(InvalidArgument):
        parse_filters([text])
    assert parse_filters(["event=die", "type=pod"]) == {"action": ["died"], "type": ["pod"]}


def test_events_that_can_be_asked_for_are_those_that_are_told() -> None:
    """Each name that is written into the journal somewhere is known to the filter, and no other."""
    engine = Path(filters.__file__).parent
    told = {"connect", "disconnect", "pause", "unpause"}  # by a variable
    for path in engine.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("journal.emit", "journal.append_once"):
                words = [item.value for item in node.args if isinstance(item, ast.Constant)]
                told.update(str(word) for word in words[1:2])
    assert told == set(ACTIONS)


@pytest.mark.parametrize(
    ("text", "words"),
    [("bogus=1", "no filter is called 'bogus'"), ("name", "not of the form KEY=VALUE")],
    ids=["unknown", "no value"],
)
def test_filter_that_is_none_says_which_there_are(text: str, words: str) -> None:
    """A key that nobody knows is told from a word that is no filter; both with the keys that there are."""
    for call in (
        lambda: Filter([text]),
        lambda: is_wanted({"name": "a"}, [text], ["name"]),
        lambda: parse_filters([text]),
    ):
        with pytest.raises(InvalidArgument) as caught:
            call()
        assert str(caught.value) == f"read filter {text!r}: {words}"
        assert str(caught.value.hint).startswith("keys: ")
