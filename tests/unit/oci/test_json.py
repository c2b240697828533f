"""corral.oci.json: JSON text to values and back."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import InvalidArgument
from corral.oci import json as oci_json
from corral.oci.json import dumps, loads

# Without half surrogate pairs, which no UTF-8 text contains.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=20)


@given(VALUES, st.sampled_from([None, 0, 1, 4]), st.booleans())
def test_dumps_agrees_with_the_standard_package(value: Any, indent: int | None, sort_keys: bool) -> None:
    """The text is the standard package's, for every value, indentation and order."""
    separators = (",", ":") if indent is None else (",", ": ")
    expected = json.dumps(value, indent=indent, sort_keys=sort_keys, separators=separators)

    assert expected == dumps(value, indent=indent, sort_keys=sort_keys)


@given(VALUES, st.sampled_from([None, 2]), st.booleans())
def test_loads_agrees_with_the_standard_package(value: Any, indent: int | None, ensure_ascii: bool) -> None:
    """A valid document means the same to both."""
    data = json.dumps(value, indent=indent, ensure_ascii=ensure_ascii).encode()

    assert json.loads(data) == loads(b" \t\r\n" + data + b"\n")


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_loads_refuses_only_with_invalid_argument(data: bytes) -> None:
    """Whatever the bytes, the answer is a value or an InvalidArgument."""
    message = "parse json: "
    try:
        loads(data)
    except InvalidArgument as error:
        message = error.message
    assert message.startswith("parse json: ")


@given(VALUES)
def test_the_fallback_agrees_when_the_private_module_is_missing(value: Any) -> None:
    """Without the C pieces the standard package serves, to the same effect."""
    text = json.dumps(value)

    assert oci_json._fast_scanner()(text, 0) == oci_json._slow_scanner()(text, 0)
    assert oci_json._fast_encoder(False)(value) == oci_json._slow_encoder(False)(value)
    assert oci_json._fast_encoder(True)(value) == oci_json._slow_encoder(True)(value)


def test_the_fallback_is_chosen_when_the_private_module_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A private interface that went away costs speed, not function."""

    def missing() -> None:
        raise AttributeError("make_scanner")

    monkeypatch.setattr(oci_json, "_fast_scanner", missing)
    scan, encode, encode_sorted = oci_json._make_codec()

    assert ({"b": 1, "a": [None]}, 20) == scan('{"b": 1, "a":[null]}', 0)
    assert '{"b":1,"a":[]}' == encode({"b": 1, "a": []})
    assert '{"a":[],"b":1}' == encode_sorted({"b": 1, "a": []})


def test_the_fallback_is_chosen_when_the_private_module_misbehaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The codec is tried on a sample before it is trusted."""
    monkeypatch.setattr(oci_json, "_fast_scanner", lambda: lambda text, at: (None, at))

    assert ([1], 3) == oci_json._make_codec()[0]("[1]", 0)


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        pytest.param(b"", "line 1 column 1: unexpected end of data", id="empty"),
        pytest.param(b" \n ", "line 2 column 2: unexpected end of data", id="white space only"),
        pytest.param(b'{"a":', "line 1 column 6: unexpected end of data", id="cut off"),
        pytest.param(b'{"a":}', "line 1 column 6: value expected", id="no value"),
        pytest.param(b"[1,\n]", "line 2 column 1: value expected", id="trailing comma"),
        pytest.param(b"nul", "line 1 column 1: value expected", id="half a word"),
        pytest.param(b'{"a":1}\n x', "line 2 column 2: trailing data after the value", id="trailing data"),
        pytest.param(b"{}{}", "line 1 column 3: trailing data after the value", id="two documents"),
        pytest.param(b"\xef\xbb\xbf{}", "line 1 column 1: byte order mark", id="byte order mark"),
        pytest.param(b'{\n"a":"\xff"}', "line 2 column 6: invalid UTF-8 (invalid start byte)", id="bad utf-8"),
        pytest.param(b'["\xed\xa0\x80"]', "line 1 column 3: invalid UTF-8 (invalid continuation byte)", id="cesu"),
        pytest.param(b'{"NaN":"NaN\\"",\n "a":NaN}', "line 2 column 6: NaN is not JSON", id="nan"),
        pytest.param(b"[-Infinity]", "line 1 column 2: -Infinity is not JSON", id="infinity"),
        pytest.param(b'["\\ud800"]', "line 1 column 3: half a surrogate pair (\\ud800)", id="high surrogate"),
        pytest.param(b'["x\\uDC00"]', "line 1 column 4: half a surrogate pair (\\uDC00)", id="low surrogate"),
        pytest.param(b'["\\ud800\\u0041"]', "line 1 column 3: half a surrogate pair (\\ud800)", id="broken pair"),
        pytest.param(b'["a\nb"]', "line 1 column 4: invalid control character", id="control character"),
        pytest.param(b'"abc', "line 1 column 1: unterminated string", id="unterminated string"),
        pytest.param(b'{"a" 1}', "line 1 column 6: expecting ':' delimiter", id="no colon"),
        pytest.param(b"[1 2]", "line 1 column 4: expecting ',' delimiter", id="no comma"),
        pytest.param(b"{'a':1}", "line 1 column 2: expecting property name enclosed in double quotes", id="quotes"),
        pytest.param(b"1" * 5000, "line 1 column 1: number too long", id="endless number"),
    ],
)
def test_loads_names_line_column_and_cause_when_the_text_is_not_json(data: bytes, cause: str) -> None:
    """An error says where to look."""
    with pytest.raises(InvalidArgument) as caught:
        loads(data)

    assert f"parse json: {cause}" == caught.value.message
    assert caught.value.hint


def test_loads_refuses_deep_nesting_when_it_would_exhaust_the_stack() -> None:
    """A bomb of brackets is an error like any other."""
    with pytest.raises(InvalidArgument) as caught:
        loads(b"[" * 1_000_000)

    assert "parse json: nested too deeply" == caught.value.message


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b'{"a":1,"a":2}', {"a": 2}, id="the last of duplicate keys counts"),
        pytest.param(b"18446744073709551616", 2**64, id="integers beyond 64 bits"),
        pytest.param(b"1.0", 1.0, id="a float stays one"),
        pytest.param(b'"\\ud83d\\ude00"', "\U0001f600", id="a whole surrogate pair"),
        pytest.param(b'"\\\\ud800"', "\\ud800", id="an escaped backslash is no surrogate"),
        pytest.param(b'"\\u0000"', "\0", id="NUL is for the validator"),
    ],
)
def test_loads_takes_the_odd_but_valid(data: bytes, expected: object) -> None:
    """What JSON allows is read."""
    value = loads(data)

    assert expected == value
    assert type(expected) is type(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("indent", [None, 2])
def test_dumps_refuses_what_is_not_json(value: float, indent: int | None) -> None:
    """NaN and infinities have no JSON form."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps([value], indent=indent)


def test_dumps_refuses_objects_when_they_are_not_json_values() -> None:
    """A set is no JSON value."""
    with pytest.raises(TypeError, match="set is not a JSON value"):
        dumps([{1}])


def _run_fresh(*lines: str) -> str:
    source = Path(oci_json.__file__).parents[2]
    program = "\n".join((f"import sys; sys.path.insert(0, {str(source)!r})", *lines))
    answer = subprocess.run([sys.executable, "-ISE", "-c", program], capture_output=True, text=True, check=True)
    return answer.stdout.strip()


def test_importing_and_using_it_leaves_the_slow_packages_out() -> None:
    """The cold path never pays for json and re."""
    loaded = _run_fresh(
        "from corral.oci.json import dumps, loads",
        "dumps(loads(b'{}'), indent=2)",
        "print(sorted({'json', 're', 'typing', 'enum'} & set(sys.modules)))",
    )

    assert "[]" == loaded


def test_loads_names_the_place_when_nobody_has_imported_the_standard_package() -> None:
    """The C scanner raises an exception class that it does not import itself."""
    message = _run_fresh(
        "from corral.oci.json import loads",
        "try: loads(b'{')",
        "except Exception as error: print(error)",
    )

    assert "parse json: line 1 column 2: expecting property name enclosed in double quotes" == message
