"""corral.oci.shape: types, ranges and words, whatever the document."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from corral.oci.shape import (
    BOOLEAN,
    LINE,
    STRING,
    TEXT,
    UINT64,
    Problem,
    conform,
    integer,
    list_of,
    map_of,
    member_of,
    object_of,
    quote,
    word,
)
from unit.oci.documents import problems_as_pairs

if TYPE_CHECKING:
    from corral.oci.shape import Rule

INNER = object_of({"name": STRING, "size": UINT64}, required=("name",))


@pytest.mark.parametrize(
    ("value", "rule", "message"),
    [
        pytest.param(1, STRING, "want a string, got 1", id="integer for string"),
        pytest.param(None, STRING, "want a string, got null", id="null for string"),
        pytest.param([], STRING, "want a string, got an array", id="array for string"),
        pytest.param({}, TEXT, "want a string, got an object", id="object for text"),
        pytest.param("a\0b", STRING, "NUL character in 'a\\x00b'", id="NUL in string"),
        pytest.param("a\0b", LINE, "NUL character in 'a\\x00b'", id="NUL in line"),
        pytest.param("a\nb", LINE, "line break in 'a\\nb'", id="line break in line"),
        pytest.param(1, BOOLEAN, "want true or false, got 1", id="integer for boolean"),
        pytest.param("true", BOOLEAN, "want true or false, got the string 'true'", id="string for boolean"),
        pytest.param(True, UINT64, "want an integer, got true", id="boolean for integer"),
        pytest.param(1.0, UINT64, "want an integer, got 1.0", id="float for integer"),
        pytest.param("1", UINT64, "want an integer, got the string '1'", id="string for integer"),
        pytest.param(-1, UINT64, "-1 is not between 0 and 18446744073709551615", id="below"),
        pytest.param(2**64, UINT64, "18446744073709551616 is not between 0 and 18446744073709551615", id="above"),
        pytest.param(10**5000, integer(0, 9), "a huge number is not between 0 and 9", id="huge"),
        pytest.param("c", word(("a", "b", "")), "'c' is none of a, b", id="word"),
        pytest.param(1, word(("a",)), "want a string, got 1", id="integer for word"),
        pytest.param({}, list_of(STRING), "want an array, got an object", id="object for array"),
        pytest.param("x", INNER, "want an object, got the string 'x'", id="string for object"),
        pytest.param([], map_of(STRING), "want an object, got an array", id="array for map"),
    ],
)
def test_conform_reports_what_was_wanted_and_what_came(value: object, rule: Rule, message: str) -> None:
    """Each departure is one problem at the pointer given."""
    out: list[Problem] = []
    conform(value, rule, "here", out)

    assert ("here", message) == problems_as_pairs(out)[0]


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("a\nb", STRING),
        ("a\0b", TEXT),
        ("", LINE),
        (False, BOOLEAN),
        (0, UINT64),
        (2**64 - 1, UINT64),
        ("", word(("a", ""))),
        ([], list_of(STRING)),
        (["a", "b"], list_of(STRING)),
        ({"name": "n", "size": 1, "other": None}, INNER),
        ({}, map_of(STRING)),
        ([{"name": "n"}], list_of(INNER)),
    ],
)
def test_conform_returns_the_same_object_when_all_is_well(value: object, rule: Rule) -> None:
    """Nothing is copied on the way of a good document."""
    out: list[Problem] = []

    assert value is conform(value, rule, "here", out)
    assert [] == out


@pytest.mark.parametrize(
    ("value", "rule", "left", "pointers"),
    [
        pytest.param({"name": "n", "size": "x"}, INNER, {"name": "n"}, ["p.size"], id="wrong member goes"),
        pytest.param({"name": "n", "size": None}, INNER, {"name": "n"}, [], id="null member goes silently"),
        pytest.param({"name": None}, INNER, {}, ["p.name"], id="null is no required member"),
        pytest.param({"name": 1}, INNER, {}, ["p.name"], id="a wrong required member is reported once"),
        pytest.param([{"name": "a"}, 7], list_of(INNER), [{"name": "a"}, {}], ["p[1]"], id="indices stay"),
        pytest.param([None], list_of(INNER), [{}], ["p[0]"], id="null item"),
        pytest.param(["a", 1, "\0"], list_of(STRING), None, ["p[1]", "p[2]"], id="a list of words goes as a whole"),
        pytest.param({"a": "b", "c": 1}, map_of(STRING), {"a": "b"}, ['p["c"]'], id="wrong value goes"),
        pytest.param({"a": None}, map_of(STRING), {}, [], id="null value goes silently"),
        pytest.param({"a\0": "b"}, map_of(STRING), {}, ["p"], id="NUL in a name"),
        pytest.param(
            {"in": {"deep": [{"size": -1}]}},
            object_of({"in": object_of({"deep": list_of(INNER)})}),
            {"in": {"deep": [{}]}},
            ["p.in.deep[0].size", "p.in.deep[0].name"],
            id="deep",
        ),
    ],
)
def test_conform_returns_what_can_be_relied_on(value: object, rule: Rule, left: object, pointers: list[str]) -> None:
    """The checks of meaning see no wrong type; the document itself is not touched."""
    before = repr(value)
    out: list[Problem] = []

    assert left == conform(value, rule, "p", out)
    assert pointers == [problem.pointer for problem in out]
    assert before == repr(value)


def test_a_problem_reads_as_pointer_and_message() -> None:
    """As check prints it; a problem of the whole document has no pointer."""
    assert "root.path: missing" == str(Problem("root.path", "missing"))
    assert "missing" == str(Problem("", "missing"))
    assert "Problem('a', 'b', 'c', is_warning=True)" == repr(Problem("a", "b", "c", is_warning=True))
    assert Problem("a", "b") == Problem("a", "b")
    assert Problem("a", "b") != Problem("a", "b", is_warning=True)
    assert Problem("a", "b") != "a: b"


def test_a_pointer_stays_on_one_line_when_a_name_is_odd() -> None:
    """Names of sysctls and the like are the author's."""
    assert 'p["net.x"]' == member_of("p", "net.x")
    assert "p['a\\nb']" == member_of("p", "a\nb")
    assert "p['" + "x" * 77 + "'...]" == member_of("p", "x" * 1000)


def test_quote_shortens_when_the_value_is_long() -> None:
    """A message stays on a line."""
    assert "'" + "x" * 77 + "'..." == quote("x" * 81)
    assert "'" + "x" * 80 + "'" == quote("x" * 80)
    assert "a huge number" == quote(1 << 200)
    assert "7" == quote(7)
