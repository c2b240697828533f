"""corral.oci.validate_mounts: mounts, hooks, and id mappings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.oci.shape import Problem
from corral.oci.validate import validate
from corral.oci.validate_mounts import check_mappings
from unit.oci.documents import minimal_spec, problems_as_pairs

ONE = [{"containerID": 0, "hostID": 1000, "size": 1}]


def _mapping(container: int, host: int, size: int) -> Any:
    return {"containerID": container, "hostID": host, "size": size}


@pytest.mark.parametrize(
    ("mount", "expected"),
    [
        pytest.param({}, [("mounts[0].destination", "missing")], id="no destination"),
        pytest.param({"destination": ""}, [("mounts[0].destination", "empty")], id="empty destination"),
        pytest.param(
            {"destination": 7}, [("mounts[0].destination", "want a string, got 7")], id="destination of wrong type"
        ),
        pytest.param(
            {"destination": "/a\0"}, [("mounts[0].destination", "NUL character in '/a\\x00'")], id="NUL in destination"
        ),
        pytest.param(
            {"destination": "/a", "source": "\0"},
            [("mounts[0].source", "NUL character in '\\x00'")],
            id="NUL in source",
        ),
        pytest.param(
            {"destination": "/a", "options": ["ro", "x\0"]},
            [("mounts[0].options[1]", "NUL character in 'x\\x00'")],
            id="NUL in option",
        ),
        pytest.param(
            {"destination": "/a", "options": "ro"},
            [("mounts[0].options", "want an array, got the string 'ro'")],
            id="options as a string",
        ),
        pytest.param(
            {"destination": "/a", "options": ["bind"]},
            [("mounts[0].source", "missing, but a bind mount needs it")],
            id="bind without source",
        ),
        pytest.param(
            {"destination": "/a", "type": "bind", "source": ""},
            [("mounts[0].source", "missing, but a bind mount needs it")],
            id="type bind without source",
        ),
        pytest.param(
            {"destination": "/a", "type": "tmpfs", "uidMappings": ONE, "gidMappings": ONE},
            [("mounts[0].uidMappings", "id mappings on a mount that is not a bind mount")],
            id="idmap without bind",
        ),
        pytest.param(
            {"destination": "/a", "source": "/b", "options": ["bind"], "uidMappings": ONE},
            [("mounts[0].gidMappings", "missing, but the other kind of id mapping is given")],
            id="uid mappings alone",
        ),
        pytest.param(
            {"destination": "/a", "source": "/b", "options": ["bind"], "gidMappings": ONE, "uidMappings": []},
            [("mounts[0].uidMappings", "missing, but the other kind of id mapping is given")],
            id="gid mappings alone",
        ),
        pytest.param(
            {"destination": "/a", "source": "/b", "options": ["rbind", "ridmap"]},
            [("mounts[0].options", "option ridmap without id mappings needs a user namespace to take them from")],
            id="ridmap without mappings",
        ),
        pytest.param(
            {
                "destination": "/a",
                "source": "/b",
                "options": ["bind"],
                "uidMappings": [{"containerID": 0, "hostID": 0, "size": 0}],
                "gidMappings": [{"containerID": 0, "size": 1}],
            },
            [("mounts[0].gidMappings[0].hostID", "missing"), ("mounts[0].uidMappings[0].size", "0 ids")],
            id="broken mappings",
        ),
    ],
)
def test_mounts_are_checked(mount: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """One mistake, one problem, at its place."""
    assert expected == problems_as_pairs(validate(minimal_spec(mounts=[mount])))


def test_idmap_needs_a_bind_mount_when_a_user_namespace_lends_its_mappings() -> None:
    """The option alone takes the container's mappings."""
    mount = {"destination": "/a", "type": "tmpfs", "options": ["idmap"]}
    linux = {"namespaces": [{"type": "user"}], "uidMappings": ONE, "gidMappings": ONE}

    expected = [("mounts[0].options", "option idmap on a mount that is not a bind mount")]
    assert expected == problems_as_pairs(validate(minimal_spec(mounts=[mount], linux=linux)))


@pytest.mark.parametrize(
    "mount",
    [
        pytest.param({"destination": "/a", "type": None, "source": None, "options": None}, id="nulls"),
        pytest.param({"destination": "/a", "type": "bind", "source": "b"}, id="source relative to the bundle"),
        pytest.param({"destination": "/a", "type": "tmpfs", "options": ["", "size=1"]}, id="empty option"),
        pytest.param(
            {"destination": "/a", "source": "/b", "options": ["bind"], "uidMappings": ONE, "gidMappings": ONE},
            id="idmap without a user namespace",
        ),
        pytest.param(
            {"destination": "/a", "source": "/b", "options": ["bind"], "uidMappings": [], "gidMappings": None},
            id="empty mappings",
        ),
    ],
)
def test_mounts_take_what_callers_send(mount: dict[str, Any]) -> None:
    """Empty and null are absent."""
    assert [] == validate(minimal_spec(mounts=[mount]))


def test_an_unknown_option_of_a_bind_mount_is_only_warned_of() -> None:
    """The kernel would not say that it ignores what was perhaps meant as `ro`."""
    message = "unknown option 'read-only,x' is ignored: a bind mount takes no data"

    assert [Problem("mounts[0].options", message, is_warning=True)] == validate(
        minimal_spec(mounts=[{"destination": "/d", "source": "/s", "options": ["rbind", "read-only", "x", "nosuid"]}])
    )


def test_a_relative_destination_is_only_warned_of() -> None:
    """As runc does: deprecated, and taken as relative to the root."""
    message = "'data' is not absolute, it is taken as relative to /"

    assert [Problem("mounts[0].destination", message, is_warning=True)] == validate(
        minimal_spec(mounts=[{"destination": "data", "type": "tmpfs"}])
    )


@pytest.mark.parametrize(
    ("mappings", "expected"),
    [
        pytest.param([_mapping(0, 1, 0)], [("m[0].size", "0 ids")], id="empty extent"),
        pytest.param(
            [_mapping(1, 5, 2**32 - 1)],
            [("m[0].size", "hostID 5 + size 4294967295 exceeds 32 bits")],
            id="host side beyond 32 bits",
        ),
        pytest.param(
            [_mapping(2, 0, 2**32 - 1)],
            [("m[0].size", "containerID 2 + size 4294967295 exceeds 32 bits")],
            id="container side beyond 32 bits",
        ),
        pytest.param(
            [_mapping(0, 1000, 10), _mapping(9, 2000, 1)],
            [("m[1].containerID", "overlaps with m[0]")],
            id="container ids overlap",
        ),
        pytest.param(
            [_mapping(0, 1005, 1), _mapping(1, 1000, 10)],
            [("m[1].hostID", "overlaps with m[0]")],
            id="host ids overlap",
        ),
        pytest.param(
            [_mapping(0, 0, 100), _mapping(10, 200, 1), _mapping(50, 300, 1)],
            [("m[1].containerID", "overlaps with m[0]"), ("m[2].containerID", "overlaps with m[0]")],
            id="two inside one",
        ),
        pytest.param(
            [_mapping(index, index, 1) for index in range(341)],
            [("m", "341 extents, the kernel takes at most 340")],
            id="too many",
        ),
        pytest.param([_mapping(index, index, 1) for index in range(340)], [], id="as many as go"),
        pytest.param([_mapping(10, 0, 1), _mapping(0, 1, 10)], [], id="adjacent, in any order"),
        pytest.param([_mapping(0, 0, 2**32 - 1)], [], id="the whole range"),
        pytest.param([], [], id="none"),
    ],
)
def test_mappings_are_checked_as_the_kernel_would(mappings: Any, expected: list[tuple[str, str]]) -> None:
    """kernel/user_namespace.c map_write"""
    out: list[Problem] = []
    check_mappings(mappings, "m", out)

    assert expected == problems_as_pairs(out)


@given(st.lists(st.builds(_mapping, st.integers(0, 30), st.integers(0, 30), st.integers(1, 8)), max_size=6))
def test_mappings_are_free_of_problems_exactly_when_no_id_is_used_twice(mappings: Any) -> None:
    """Compared with sets of single ids."""
    out: list[Problem] = []
    check_mappings(mappings, "m", out)

    def has_duplicates(side: str) -> bool:
        ids = [mapping[side] + offset for mapping in mappings for offset in range(mapping["size"])]
        return len(ids) != len(set(ids))

    assert (has_duplicates("containerID"), has_duplicates("hostID")) == (
        any(problem.pointer.endswith("containerID") for problem in out),
        any(problem.pointer.endswith("hostID") for problem in out),
    )


@pytest.mark.parametrize(
    "kind", ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
)
@pytest.mark.parametrize(
    ("hook", "member", "message"),
    [
        pytest.param({}, ".path", "missing", id="no path"),
        pytest.param({"path": "hook"}, ".path", "'hook' is not an absolute path", id="relative"),
        pytest.param({"path": ""}, ".path", "'' is not an absolute path", id="empty"),
        pytest.param({"path": "/h", "timeout": 0}, ".timeout", "0 is not between 1 and 2147483647", id="timeout 0"),
        pytest.param({"path": "/h", "timeout": 1.5}, ".timeout", "want an integer, got 1.5", id="fraction"),
        pytest.param({"path": "/h", "args": ["\0"]}, ".args[0]", "NUL character in '\\x00'", id="NUL"),
        pytest.param({"path": "/h", "env": 1}, ".env", "want an array, got 1", id="env"),
        pytest.param("/h", "", "want an object, got the string '/h'", id="no object"),
    ],
)
def test_hooks_are_checked(kind: str, hook: object, member: str, message: str) -> None:
    """All six kinds alike."""
    expected = [(f"hooks.{kind}[0]{member}", message)]

    assert expected == problems_as_pairs(validate(minimal_spec(hooks={kind: [hook]})))


def test_hooks_may_be_null_when_there_are_none() -> None:
    """Go writes null for a nil slice."""
    assert [] == validate(minimal_spec(hooks={"prestart": None, "poststop": [{"path": "/h", "timeout": None}]}))
