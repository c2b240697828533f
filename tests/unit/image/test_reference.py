"""Image references: what people write, and what it means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import InvalidArgument
from corral.image.digests import chain_ids, digest_of, is_digest, parse_digest
from corral.image.reference import id_prefix_or_none, is_short_name, is_tag, parse_reference

D = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("alpine", "docker.io/library/alpine:latest"),
        ("alpine:3.19", "docker.io/library/alpine:3.19"),
        ("team/app", "docker.io/team/app:latest"),
        ("docker.io/alpine", "docker.io/library/alpine:latest"),
        ("index.docker.io/library/alpine:1", "docker.io/library/alpine:1"),
        ("registry-1.docker.io/a/b", "docker.io/a/b:latest"),
        ("quay.io/a", "quay.io/a:latest"),
        ("localhost/a", "localhost/a:latest"),
        ("localhost:5000/a/b/c:v1", "localhost:5000/a/b/c:v1"),
        ("registry:5000/a", "registry:5000/a:latest"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        ("EXAMPLE/a", "EXAMPLE/a:latest"),
        ("a.b/c__d/e-f---g:T_1.x-", "a.b/c__d/e-f---g:T_1.x-"),
        (f"alpine@{D}", f"docker.io/library/alpine@{D}"),
        (f"alpine:3@{D}", f"docker.io/library/alpine:3@{D}"),
    ],
)
def test_reference_has_dockers_defaults(text: str, meant: str) -> None:
    """A reference is completed as every Docker user expects."""
    assert str(parse_reference(text)) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":tag",
        "@" + D,
        "a:",
        "a:.x",
        "a:" + "t" * 129,
        "Alpine",
        "a//b",
        "/a",
        "a/",
        "a..b",
        "a___b",
        "-a",
        "a-",
        "a b",
        "a\n",
        "ä",
        "a@sha256:12",
        "a@md5:" + "0" * 32,
        "a@" + D.upper(),
        "h:99999/a",
        "h:x/a",
        "-h.x/a",
        "a.b/../c",
        "a.b/%2e%2e/c",
        "https://a.b/c",
        "ab" * 32,
        "x" * 256,
    ],
)
def test_reference_is_refused_when_it_breaks_the_grammar(text: str) -> None:
    """What the grammar does not know is refused, with the text in the message."""
    with pytest.raises(InvalidArgument, match=r"^(parse|read) image reference") as caught:
        parse_reference(text)
    assert caught.value.hint


@given(st.text(max_size=40))
def test_reference_is_parsed_or_refused_for_any_text(text: str) -> None:
    """Whatever is written, the answer is a reference that reads the same once more, or InvalidArgument."""
    try:
        reference = parse_reference(text)
    except InvalidArgument:
        return
    assert parse_reference(str(reference)) == reference


def test_short_names_are_those_without_a_registry() -> None:
    """A first component with a dot, a colon or of the name localhost is a registry."""
    found = [is_short_name(text) for text in ("a", "a:1", "a/b", "a.b/c", "a:5/c", "localhost/c", "a.b", f"a@{D}")]
    assert found == [True, True, True, False, False, False, True, True]


def test_tag_and_id_prefix_are_told_from_other_text() -> None:
    """Tags begin with a letter, digit or underscore; ids are hexadecimal."""
    assert [is_tag(text) for text in ("v1", "_x", ".x", "", "a b")] == [True, True, False, False, False]
    assert [id_prefix_or_none(text) for text in ("ab12", "sha256:ab", D, "xyz", "")] == [
        "ab12",
        "ab",
        "ab" * 32,
        None,
        None,
    ]


@pytest.mark.parametrize(
    "text", ["sha256:../../etc", "sha256:" + "g" * 64, "sha256:" + "a" * 63, "SHA256:" + "a" * 64, 7, None]
)
def test_digest_is_refused_when_it_could_lead_elsewhere(text: object) -> None:
    """Only algorithm and digits ever become part of a path."""
    assert not is_digest(text)
    with pytest.raises(InvalidArgument, match="is not a digest"):
        parse_digest(text)


def test_chain_ids_follow_the_specification() -> None:
    """ChainID(L0|...|Ln) = digest(ChainID(L0|...|Ln-1) + " " + DiffID(Ln))."""
    first, second = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    assert chain_ids([first, second]) == [first, digest_of(f"{first} {second}".encode())]
    assert chain_ids([]) == []
