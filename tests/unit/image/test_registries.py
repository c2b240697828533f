"""registries.conf: short names, mirrors, blocked and insecure registries."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.errors import InvalidArgument, PermissionDenied
from corral.image.pull import Access
from corral.image.reference import parse_reference
from corral.image.registries import Endpoint, load_registries
from corral.image.store import ImageStore
from unit.image.conftest import PATIENCE
from unit.image.fake_registry import FakeRegistry, digest_of, layer_tar, make_image

D = "sha256:" + "ab" * 32
CONF = """
unqualified-search-registries = ["quay.io", "docker.io"]
[aliases]
"web" = "registry.example.org/web/server"
[[registry]]
prefix = "example.org/team"
location = "internal.example.net/mirrored"
insecure = true
[[registry.mirror]]
location = "near.example.net/m"
[[registry.mirror]]
location = "digests.example.net"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "tags.example.net"
pull-from-mirror = "tag-only"
[[registry]]
prefix = "*.bad.org"
blocked = true
"""


def test_short_name_stands_for_what_is_configured(own_configuration: Path) -> None:
    """An alias decides; else each search registry is tried in order; a complete name is itself."""
    own_configuration.write_text(CONF)
    registries = load_registries()
    found = {text: [str(item) for item in registries.candidates(text)] for text in ("web:1", "a", f"a@{D}", "x.y/a:2")}
    assert found == {
        "web:1": ["registry.example.org/web/server:1"],
        "a": ["quay.io/a:latest", "docker.io/library/a:latest"],
        f"a@{D}": [f"quay.io/a@{D}", f"docker.io/library/a@{D}"],
        "x.y/a:2": ["x.y/a:2"],
    }


def test_short_name_is_docker_hubs_when_nothing_is_configured() -> None:
    """Without configuration, docker.io."""
    assert [str(item) for item in load_registries().candidates("a")] == ["docker.io/library/a:latest"]


def test_mirrors_come_first_and_then_the_place_itself(own_configuration: Path) -> None:
    """The prefix is replaced by the location; mirrors for digests and for tags are kept apart."""
    own_configuration.write_text(CONF)
    registries = load_registries()
    near = Endpoint("near.example.net", "m/app", is_mirror=True)
    own = Endpoint("internal.example.net", "mirrored/app", is_insecure=True)
    tags, digests = (
        Endpoint("tags.example.net", "app", is_mirror=True),
        Endpoint("digests.example.net", "app", is_mirror=True),
    )
    assert registries.endpoints(parse_reference("example.org/team/app:1")) == [near, tags, own]
    assert registries.endpoints(parse_reference(f"example.org/team/app@{D}")) == [near, digests, own]
    assert registries.endpoints(parse_reference("example.org/teamapp")) == [Endpoint("example.org", "teamapp")]


def test_blocked_registry_is_refused_by_its_file(own_configuration: Path) -> None:
    """The message names the registry, the hint the file."""
    own_configuration.write_text(CONF)
    with pytest.raises(PermissionDenied, match=r"registry \*\.bad\.org is blocked") as caught:
        load_registries().endpoints(parse_reference("very.bad.org/a"))
    assert str(own_configuration) in caught.value.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = [", "registries.conf"),
        ("unqualified-search-registries = 'docker.io'", "not an array of strings"),
        ("[[registry]]\nlocation = 7", "not a string"),
        ("[[registry]]\nblocked = true", "neither prefix nor location"),
        ("[[registry]]\nlocation = 'a.b'\ninsecure = 'yes'", "neither true nor false"),
        ("[[registry]]\nlocation = 'a.b'\n[[registry.mirror]]\npull-from-mirror = 'x'", "location: missing"),
        ("[registries.search]\nregistries = ['docker.io']", "version 1"),
        ("registry = 7", "not an array of tables"),
        ("aliases = 7", "not a table"),
    ],
)
def test_damaged_file_is_named(own_configuration: Path, text: str, words: str) -> None:
    """What cannot be understood is an error with path and place."""
    own_configuration.write_text(text)
    with pytest.raises(InvalidArgument, match=words) as caught:
        load_registries()
    assert str(own_configuration) in caught.value.message


def test_pull_takes_the_mirror_and_falls_back(
    store: ImageStore, own_configuration: Path, registry: FakeRegistry
) -> None:
    """The mirror serves the image under its own name; where it lacks it, the registry itself does."""
    made, other = make_image(), make_image(layer_tar({"other": b""}))
    with FakeRegistry() as mirror:
        own_configuration.write_text(
            f'[[registry]]\nlocation = "{registry.host}"\ninsecure = true\n'
            f'[[registry.mirror]]\nlocation = "{mirror.host}/m"\ninsecure = true\n'
        )
        mirror.add("m/a", "1", made)
        registry.add("a", "2", other)
        access = Access(patience=PATIENCE)
        first = store.pull(f"{registry.host}/a:1", access=access)
        assert (first.id, first.names, registry.seen) == (made.id, [f"{registry.host}/a:1"], [])
        assert store.pull(f"{registry.host}/a:2", access=access).id == other.id
        assert [item.path for item in mirror.requests("GET", "/manifests/2")] == ["/v2/m/a/manifests/2"]


def test_mirror_that_breaks_within_a_layer_is_left(
    store: ImageStore, own_configuration: Path, registry: FakeRegistry
) -> None:
    """An image whose layer the mirror lost comes from the registry itself."""
    made = make_image()
    with FakeRegistry() as mirror:
        own_configuration.write_text(
            f'[[registry]]\nlocation = "{registry.host}"\ninsecure = true\n'
            f'[[registry.mirror]]\nlocation = "{mirror.host}"\ninsecure = true\n'
        )
        mirror.add("a", "1", made)
        del mirror.blobs[digest_of(made.layers[0])]
        registry.add("a", "1", made)
        assert store.pull(f"{registry.host}/a:1", access=Access(patience=PATIENCE)).id == made.id


def test_plain_http_is_spoken_only_where_it_is_configured(
    store: ImageStore, registry: FakeRegistry, own_configuration: Path
) -> None:
    """Without configuration a registry without TLS is not talked to."""
    registry.add("a", "1", make_image())
    with pytest.raises(Exception, match="tls") as caught:
        store.pull(f"{registry.host}/a:1", access=Access(patience=PATIENCE))
    assert "insecure = true" in getattr(caught.value, "hint", "")
    own_configuration.write_text(f'[[registry]]\nlocation = "{registry.host}"\ninsecure = true\n')
    assert store.pull(f"{registry.host}/a:1", access=Access(patience=PATIENCE)).names == [f"{registry.host}/a:1"]
