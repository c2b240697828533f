"""Pushes: what is sent, what is not, and how a broken one goes on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral.errors import InvalidArgument, PermissionDenied
from corral.image import uploads
from corral.image.progress import Progress
from corral.image.pull import Access
from corral.image.store import ImageStore
from unit.image.archives import docker_files, tar_of
from unit.image.fake_registry import Answer, FakeRegistry, MadeImage, digest_of, layer_tar, make_image

PLAIN = make_image(layer_tar({"a": b"1" * 50_000}), compress=bytes)
ZIPPED = make_image(layer_tar({"a": os.urandom(300_000)}))


def load(store: ImageStore, made: MadeImage, name: str = "app:1") -> None:
    """Have the image."""
    path = Path(f"{store.path}.tar")
    path.write_bytes(tar_of(docker_files(made, name)))
    store.load(str(path))


def test_pushed_image_is_pulled_again_as_it_was(
    store: ImageStore, registry: FakeRegistry, access: Access, tmp_path: Path
) -> None:
    """What was sent is what the next one gets, under the digest that push returned."""
    load(store, ZIPPED)
    digest = store.push("app:1", f"{registry.host}/a/b:1", access=access)
    other = ImageStore(str(tmp_path / "other"))
    image = other.pull(f"{registry.host}/a/b@{digest}", access=access)
    assert (image.id, [layer.diff_id for layer in image.layers]) == (ZIPPED.id, ZIPPED.diff_ids)
    assert store.resolve("app:1").repo_digests == [f"{registry.host}/a/b@{digest}"]


def test_plain_layers_are_compressed_and_the_image_here_follows(
    store: ImageStore, registry: FakeRegistry, access: Access
) -> None:
    """Layers go compressed; the store keeps the smaller form and the same id."""
    load(store, PLAIN)
    store.push("app:1", f"{registry.host}/a/b:1", access=access)
    image = store.resolve("app:1")
    assert image.id == PLAIN.id
    assert image.layers[0].size < len(PLAIN.layers[0]) / 5
    assert registry.blobs[image.layers[0].digest][:2] == b"\x1f\x8b"
    store.sweep()
    assert not store.blobs.has(digest_of(PLAIN.layers[0]))
    with store.open_layer(image.layers[0]) as stream:
        stream.verify()


def test_second_push_sends_nothing(store: ImageStore, registry: FakeRegistry, access: Access) -> None:
    """What the repository has is not sent."""
    load(store, ZIPPED)
    store.push("app:1", f"{registry.host}/a/b:1", access=access)
    registry.seen.clear()
    seen: list[Progress] = []
    store.push("app:1", f"{registry.host}/a/b:2", access=access, on_progress=seen.append)
    assert [item.path for item in registry.requests("PUT")] == ["/v2/a/b/manifests/2"]
    assert {item.state for item in seen} == {"present"}


def test_blobs_of_another_repository_are_mounted(store: ImageStore, registry: FakeRegistry, access: Access) -> None:
    """The registry copies what it has elsewhere."""
    load(store, ZIPPED)
    store.push("app:1", f"{registry.host}/a/b:1", access=access)
    registry.seen.clear()
    store.push("app:1", f"{registry.host}/c/d:1", access=access)
    assert [item.query["from"] for item in registry.requests("POST")] == [["a/b"], ["a/b"]]
    assert [item.path for item in registry.requests("PUT")] == ["/v2/c/d/manifests/1"]


def test_broken_upload_goes_on_in_pieces(
    store: ImageStore, registry: FakeRegistry, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the whole could not be sent at once, pieces are, and a lost one is sent again."""
    monkeypatch.setattr(uploads, "_PIECE_BYTES", 100_000)
    load(store, ZIPPED)
    data = ZIPPED.layers[0]
    registry.blobs[ZIPPED.id] = ZIPPED.config
    registry.repositories["a/b"] = {ZIPPED.id}
    registry.faults["PUT", "/v2/a/b/blobs/uploads/up0"] = [Answer(503)]
    registry.faults["PATCH", "/v2/a/b/blobs/uploads/up1"] = [Answer(500)]
    store.push("app:1", f"{registry.host}/a/b:1", access=access)
    assert registry.blobs[digest_of(data)] == data
    assert len(registry.requests("PATCH")) == len(data) // 100_000 + 2


def test_push_without_rights_is_permission_denied(store: ImageStore, registry: FakeRegistry, access: Access) -> None:
    """The hint names login."""
    load(store, ZIPPED)
    registry.scheme, registry.password = "basic", "x"
    with pytest.raises(PermissionDenied) as caught:
        store.push("app:1", f"{registry.host}/a/b:1", access=access)
    assert "corral login" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "destination", "words"),
    [
        (ZIPPED.id, "", "an id says not where to"),
        ("mine", "", "its name localhost/mine:latest is a local one"),
        ("mine", f"h.x/a@{ZIPPED.id}", "a digest follows from the content"),
        ("mine", "H X", "image reference"),
    ],
)
def test_push_needs_a_place(store: ImageStore, access: Access, name: str, destination: str, words: str) -> None:
    """An id and a local name do not say where to."""
    load(store, ZIPPED)
    store.tag("app:1", "mine")
    with pytest.raises(InvalidArgument, match=words):
        store.push(name, destination, access=access)


def test_upload_elsewhere_carries_no_credentials(store: ImageStore, registry: FakeRegistry, access: Access) -> None:
    """A registry may take uploads at another host; our token does not go there."""
    load(store, ZIPPED)
    registry.scheme = "bearer"
    with FakeRegistry() as storage:
        storage.uploads.update(up0=b"", up1=b"")
        path = "/v2/a/b/blobs/uploads/"
        registry.faults["POST", path] = [
            answer
            for name in ("up0", "up1")
            for answer in (Answer(202, {"Location": f"http://{storage.host}{path}{name}"}),)
        ]
        registry.token_answer = {"token": "t0ken", "expires_in": 300}
        with_token = Access(is_verified=False, patience=access.patience, parallel=1)
        registry.faults["HEAD", f"/v2/a/b/blobs/{ZIPPED.id}"] = [
            Answer(401, {"WWW-Authenticate": f'Bearer realm="http://{registry.host}/token"'})
        ]
        store.push("app:1", f"{registry.host}/a/b:1", access=with_token)
        assert {item.headers.get("Authorization") for item in storage.seen} == {None}
        assert set(storage.blobs) == {ZIPPED.id, digest_of(ZIPPED.layers[0])}
