"""What ``--filter`` is told when it is wrong."""

from __future__ import annotations

import pytest

from corral.engine.filters import Filter
from corral.engine.rowfilters import is_wanted
from corral.engine.verbs.events import parse_filters
from corral.errors import InvalidArgument


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
