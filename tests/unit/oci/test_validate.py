"""corral.oci.validate: the document as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import InvalidArgument
from corral.oci.shape import _LIST, _MAP, _OBJECT, Problem, object_of
from corral.oci.validate import (
    _SPEC_SHAPE,
    drop_nulls,
    normalize,
    to_error,
    validate,
    validate_process,
    validate_resources,
)
from unit.oci.documents import full_spec, linux_spec, minimal_process, minimal_spec, problems_as_pairs

NO_UTS = "set without a uts namespace: it would rename the host"


def test_the_smallest_document_has_no_problems() -> None:
    """A version and a root are enough; linux and process may be absent."""
    assert [] == validate(minimal_spec())


def test_a_document_with_every_member_has_no_problems() -> None:
    """All of runtime-spec 1.3 for Linux is taken."""
    assert [] == validate(full_spec())


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param([], [("", "want an object, got an array")], id="no object"),
        pytest.param(None, [("", "want an object, got null")], id="null"),
        pytest.param({}, [("ociVersion", "missing"), ("root", "missing")], id="empty"),
        pytest.param(minimal_spec(root=None), [("root", "missing")], id="null root"),
        pytest.param(minimal_spec(root={}), [("root.path", "missing")], id="no root.path"),
        pytest.param(minimal_spec(root={"path": ""}), [("root.path", "empty")], id="empty root.path"),
        pytest.param(
            minimal_spec(root={"path": "a\0"}), [("root.path", "NUL character in 'a\\x00'")], id="NUL in root.path"
        ),
        pytest.param(
            minimal_spec(root={"path": "r", "readonly": "yes"}),
            [("root.readonly", "want true or false, got the string 'yes'")],
            id="root.readonly",
        ),
        pytest.param(
            minimal_spec(ociVersion="1.0"), [("ociVersion", "'1.0' is not a version such as 1.3.0")], id="two numbers"
        ),
        pytest.param(
            minimal_spec(ociVersion=""), [("ociVersion", "'' is not a version such as 1.3.0")], id="no version"
        ),
        pytest.param(minimal_spec(ociVersion="2.0.0"), [("ociVersion", "'2.0.0' is not a version 1")], id="version 2"),
        pytest.param(minimal_spec(ociVersion="0.6.0"), [("ociVersion", "'0.6.0' is not a version 1")], id="version 0"),
        pytest.param(minimal_spec(ociVersion=1), [("ociVersion", "want a string, got 1")], id="version of wrong type"),
        pytest.param(minimal_spec(hostname="h"), [("hostname", NO_UTS)], id="hostname without uts"),
        pytest.param(minimal_spec(domainname="d"), [("domainname", NO_UTS)], id="domainname without uts"),
        pytest.param(
            minimal_spec(hostname="h\n", linux={"namespaces": [{"type": "uts"}]}),
            [("hostname", "line break in 'h\\n'")],
            id="line break in hostname",
        ),
        pytest.param(
            minimal_spec(hostname="ä" * 33, linux={"namespaces": [{"type": "uts"}]}),
            [("hostname", f"'{'ä' * 33}' is longer than 64 bytes")],
            id="long hostname",
        ),
        pytest.param(
            minimal_spec(annotations={"a": 1}), [('annotations["a"]', "want a string, got 1")], id="annotation"
        ),
        pytest.param(minimal_spec(annotations=[]), [("annotations", "want an object, got an array")], id="annotations"),
        pytest.param(minimal_spec(linux=1), [("linux", "want an object, got 1")], id="linux"),
    ],
)
def test_validate_reports_the_place_and_the_cause(spec: object, expected: list[tuple[str, str]]) -> None:
    """One problem for one mistake."""
    assert expected == problems_as_pairs(validate(spec))


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(minimal_spec(ociVersion="1.0.2-dev"), id="development version"),
        pytest.param(minimal_spec(ociVersion="1.0.0-rc5+build.1"), id="build metadata"),
        pytest.param(minimal_spec(ociVersion="1.99.0"), id="a later version 1"),
        pytest.param(minimal_spec(hostname="", domainname=""), id="empty names"),
        pytest.param(
            minimal_spec(hostname="h", linux={"namespaces": [{"type": "uts", "path": "/proc/1/ns/uts"}]}),
            id="hostname in a joined namespace",
        ),
        pytest.param(minimal_spec(unknown={"a": 1}, windows=1, vm=[], solaris="", zos=0), id="unknown properties"),
        pytest.param(
            minimal_spec(process=None, mounts=None, hooks=None, annotations=None, linux=None), id="null sections"
        ),
        pytest.param(minimal_spec(annotations={"a": "\0"}), id="an annotation is only text"),
        pytest.param(
            minimal_spec(mounts=[{"destination": "/a", "type": "tmpfs"}, {"destination": "/a", "type": "tmpfs"}]),
            id="duplicate mounts",
        ),
    ],
)
def test_validate_is_as_loose_as_callers_need(spec: dict[str, Any]) -> None:
    """What podman, containerd and docker send is taken."""
    assert [] == validate(spec)


def test_validate_reports_all_problems_at_once() -> None:
    """Not only the first: a user repairs a document once."""
    spec = minimal_spec(
        root={},
        hostname="h",
        process={"args": [], "cwd": "tmp"},
        mounts=[{"destination": ""}],
        linux={"namespaces": [{"type": "uts"}, {"type": "pod"}], "resources": {"pids": {"limit": "many"}}},
    )

    expected = [
        "linux.namespaces[1].type",
        "linux.resources.pids.limit",
        "mounts[0].destination",
        "process.args",
        "process.cwd",
        "root.path",
    ]
    assert expected == sorted(problem.pointer for problem in validate(spec))


def test_an_empty_annotation_name_is_only_warned_of() -> None:
    """The specification forbids it, and it harms nobody."""
    assert [Problem('annotations[""]', "empty name", is_warning=True)] == validate(minimal_spec(annotations={"": "x"}))


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        pytest.param({}, [], id="root by default"),
        pytest.param({"uid": 9, "gid": 9, "additionalGids": [0, 9]}, [], id="inside"),
        pytest.param({"uid": 10}, [("process.user.uid", "10 is not among linux.uidMappings")], id="uid"),
        pytest.param({"gid": 10}, [("process.user.gid", "10 is not among linux.gidMappings")], id="gid"),
        pytest.param(
            {"additionalGids": [1, 99]},
            [("process.user.additionalGids[1]", "99 is not among linux.gidMappings")],
            id="additionalGids",
        ),
    ],
)
def test_ids_must_be_mapped_when_there_are_mappings(user: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """The kernel would answer EINVAL, without saying which."""
    mappings = [{"containerID": 0, "hostID": 1000, "size": 1}, {"containerID": 1, "hostID": 100000, "size": 9}]
    spec = linux_spec(namespaces=[{"type": "user"}], uidMappings=mappings, gidMappings=mappings)
    spec["process"] = minimal_process(user=user)

    assert expected == problems_as_pairs(validate(spec))


def test_half_a_mapping_is_reported_once() -> None:
    """And not again as an id that it does not map."""
    mappings = [{"containerID": 0, "hostID": 1000}]
    spec = linux_spec(namespaces=[{"type": "user"}], uidMappings=mappings, gidMappings=mappings)
    spec["process"] = minimal_process(user={"uid": 5})

    assert [
        ("linux.uidMappings[0].size", "missing"),
        ("linux.gidMappings[0].size", "missing"),
    ] == problems_as_pairs(validate(spec))


def _members(value: Any, rule: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], bool]]:
    """The path of each member of ``value``, at any depth, and whether the shape requires it."""
    kind, inner, required = rule
    if kind == _LIST:
        for index, item in enumerate(value):
            yield from _members(item, inner, (*path, index))
    elif kind in (_MAP, _OBJECT):
        for key, member in value.items():
            yield (*path, key), kind == _OBJECT and key in required
            yield from _members(member, inner if kind == _MAP else inner[key], (*path, key))


def _replace(document: Any, path: tuple[Any, ...], value: object) -> Any:
    document = deepcopy(document)
    at = document
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return document


# Optional members that another member of the full document needs.
_NEEDED = {
    ("linux",),
    ("linux", "devices", 0, "major"),
    ("linux", "devices", 0, "minor"),
    ("linux", "gidMappings"),
    ("linux", "memoryPolicy", "nodes"),
    ("linux", "namespaces"),
    ("linux", "resources", "rdma", "mlx5_1"),
    ("linux", "seccomp", "listenerPath"),
    ("linux", "uidMappings"),
    ("mounts", 1, "gidMappings"),
    ("mounts", 1, "source"),
    ("mounts", 1, "uidMappings"),
    ("process", "capabilities", "permitted"),
}
_SPEC_RULE = object_of(_SPEC_SHAPE, ("ociVersion", "root"))
_PATHS = list(_members(full_spec(), _SPEC_RULE))
_NULLABLE = [path for path, is_required in _PATHS if not is_required and path not in _NEEDED]


@pytest.mark.parametrize("path", _NULLABLE, ids=lambda path: ".".join(map(str, path)))
def test_null_means_absent_for_every_optional_member(path: tuple[Any, ...]) -> None:
    """Go writes null for a nil slice or pointer."""
    errors = [problem for problem in validate(_replace(full_spec(), path, None)) if not problem.is_warning]

    assert [] == errors


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(JSON)
def test_validate_never_raises_on_any_json(document: object) -> None:
    """Every document has an answer: a list of problems."""
    assert all(isinstance(problem, Problem) for problem in validate(document))
    assert all(isinstance(problem, Problem) for problem in validate_process(document))
    assert all(isinstance(problem, Problem) for problem in validate_resources(document))


@given(st.lists(st.tuples(st.sampled_from([path for path, _ in _PATHS]), JSON), min_size=1, max_size=4))
def test_validate_never_raises_on_a_broken_document(changes: list[tuple[tuple[Any, ...], object]]) -> None:
    """Any member of a full document may be replaced by anything; each problem then points into the document."""
    document = full_spec()
    for path, value in changes:
        try:
            document = _replace(document, path, value)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the way there
    before = repr(document)
    for problem in validate(document):
        assert problem.message
        assert problem.pointer.split(".")[0].split("[")[0] in {*document, "ociVersion", "root"}
    assert before == repr(document)


@given(JSON)
def test_drop_nulls_is_idempotent(document: object) -> None:
    """Twice is once, and no object keeps a null member."""
    once = drop_nulls(document)

    assert repr(once) == repr(drop_nulls(once))


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        pytest.param({"a": None, "b": {"c": None, "d": 1}}, {"b": {"d": 1}}, id="members"),
        pytest.param({"a": [{"b": None}, {"c": 1}]}, {"a": [{}, {"c": 1}]}, id="members of items"),
        pytest.param({"a": [None, 1]}, {"a": [None, 1]}, id="items stay"),
        pytest.param({"a": [[{"b": None}]]}, {"a": [[{}]]}, id="arrays in arrays"),
        pytest.param({}, {}, id="empty"),
    ],
)
def test_normalize_drops_null_members_at_any_depth(document: dict[str, Any], expected: dict[str, Any]) -> None:
    """Code behind it never meets null; the document itself stays as it was."""
    before = deepcopy(document)

    assert expected == normalize(document)
    assert before == document


def test_normalize_refuses_when_it_cannot_read_the_document() -> None:
    """No object, and a nesting that only an attacker writes."""
    bomb: dict[str, Any] = {}
    for _ in range(100_000):
        bomb = {"a": bomb}

    with pytest.raises(InvalidArgument, match="read config: want an object at the top"):
        normalize([])
    with pytest.raises(InvalidArgument, match="read config: nested too deeply"):
        normalize(bomb)
    while bomb:  # freed level by level: the interpreter's own recursion has limits too
        bomb = bomb["a"]


@pytest.mark.parametrize(
    ("problems", "message", "hint"),
    [
        pytest.param([Problem("a", "bad", "mend")], "check x: bad", "mend", id="one"),
        pytest.param(
            [Problem("w", "odd", is_warning=True), Problem("a", "bad", "mend"), Problem("b", "worse")],
            "check x: bad",
            "mend; 1 more problem: corral-runtime check lists all",
            id="two and a warning",
        ),
        pytest.param(
            [Problem("a", "bad"), Problem("b", "worse"), Problem("c", "worst")],
            "check x: bad",
            "2 more problems: corral-runtime check lists all",
            id="three without hint",
        ),
    ],
)
def test_to_error_tells_the_first_and_counts_the_others(problems: list[Problem], message: str, hint: str) -> None:
    """The error of create names one place, and where to see the rest."""
    error = to_error(problems, "check x")

    assert error is not None
    assert (message, "a", hint, "config") == (error.message, error.pointer, error.hint, error.phase)


def test_to_error_is_none_when_there_are_only_warnings() -> None:
    """Warnings do not stand in the way."""
    assert to_error([Problem("a", "odd", is_warning=True)]) is None
