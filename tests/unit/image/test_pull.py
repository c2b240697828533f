"""Pulls, from a registry that also does the wrong thing."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from corral.errors import (
    CorralError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
    Unsupported,
)
from corral.image import registry as registry_module
from corral.image.http import Patience
from corral.image.manifest import MAX_MANIFEST_BYTES
from corral.image.progress import Cancel, Cancelled, Progress
from corral.image.pull import Access
from corral.image.store import ImageStore
from unit.image.fake_registry import (
    MANIFEST,
    Answer,
    FakeRegistry,
    MadeImage,
    descriptor,
    digest_of,
    layer_tar,
    make_image,
)

BIG = layer_tar({"big": os.urandom(3 << 20)})


def blob_path(image: MadeImage, number: int = 0, repository: str = "a/b") -> str:
    """The path of a layer's blob in the registry."""
    return f"/v2/{repository}/blobs/{digest_of(image.layers[number])}"


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll the condition."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def leftovers(store: ImageStore) -> list[str]:
    """What lies in the store's folders for things under way."""
    return [*os.listdir(f"{store.path}/ingest"), *os.listdir(f"{store.path}/work")]


def test_pull_brings_a_complete_image(store: ImageStore, registry: FakeRegistry, access: Access) -> None:
    """Names, digests, config, layers: all as the registry has it, verified, and nothing else is left."""
    made = make_image(layer_tar({"a": b"1"}), layer_tar({"b": b"2"}))
    registry.add("a/b", "v1", made)
    image = store.pull(f"{registry.host}/a/b:v1", access=access)
    assert image.id == made.id
    assert image.names == [f"{registry.host}/a/b:v1"]
    assert image.repo_digests == [f"{registry.host}/a/b@{digest_of(made.manifest)}"]
    assert image.config == {"command": ["/hello"]}
    assert [layer.diff_id for layer in image.layers] == made.diff_ids
    assert sorted(digest for digest, _size in store.blobs.entries()) == sorted(
        [*made.blobs(), digest_of(made.manifest)]
    )
    assert leftovers(store) == []
    for layer in image.layers:
        with store.open_layer(layer) as stream:
            stream.verify()


def test_pull_chooses_the_platform_from_an_index(store: ImageStore, registry: FakeRegistry, access: Access) -> None:
    """Of an index the image for the platform is fetched, and no other one."""
    arm = make_image(layer_tar({"arm": b""}), architecture="arm64")
    amd = make_image(layer_tar({"amd": b""}))
    data = registry.add_index("a/b", "v1", {"linux/amd64": amd, "linux/arm64/v8": arm})
    image = store.pull(f"{registry.host}/a/b:v1", access=access, platform="linux/arm64")
    assert image.id == arm.id
    assert f"{registry.host}/a/b@{digest_of(data)}" in image.repo_digests
    assert not store.blobs.has(amd.id)


def test_pull_names_the_platforms_when_none_fits(store: ImageStore, registry: FakeRegistry, access: Access) -> None:
    """An index without the platform says in the hint what there is."""
    registry.add_index("a/b", "v1", {"linux/s390x": make_image(architecture="s390x")})
    with pytest.raises(NotFound, match="none is for linux/ppc64le") as caught:
        store.pull(f"{registry.host}/a/b:v1", access=access, platform="ppc64le")
    assert "linux/s390x" in caught.value.hint


def test_pull_refuses_an_image_of_another_architecture(
    store: ImageStore, registry: FakeRegistry, access: Access
) -> None:
    """A single manifest for another machine is refused, unless that platform was asked for."""
    registry.add("a/b", "v1", make_image(architecture="s390x"))
    with pytest.raises(NotFound, match="it is for linux/s390x") as caught:
        store.pull(f"{registry.host}/a/b:v1", access=access)
    assert "--platform linux/s390x" in caught.value.hint
    assert store.pull(f"{registry.host}/a/b:v1", access=access, platform="s390x").platform.architecture == "s390x"


def test_pull_by_digest_gives_no_name(store: ImageStore, registry: FakeRegistry, access: Access) -> None:
    """An image pulled by digest has no tag; its digest finds it."""
    made = make_image()
    registry.add("a/b", "v1", made)
    name = f"{registry.host}/a/b@{digest_of(made.manifest)}"
    assert store.pull(name, access=access).names == []
    assert store.resolve(name).id == made.id


def test_pull_by_sha512_is_verified_by_it(store: ImageStore, registry: FakeRegistry, access: Access) -> None:
    """Any algorithm of the specification is understood, and checked."""
    made = make_image()
    registry.add("a/b", "v1", made)
    digest = f"sha512:{hashlib.sha512(made.manifest).hexdigest()}"
    registry.manifests["a/b", digest] = (MANIFEST, made.manifest)
    assert store.pull(f"{registry.host}/a/b@{digest}", access=access).id == made.id
    registry.manifests["a/b", digest] = (MANIFEST, make_image(layer_tar({"x": b""})).manifest)
    with pytest.raises(InvalidArgument, match="its content is sha512:"):
        store.pull(f"{registry.host}/a/b@{digest}", access=access, policy="always")


# ---- policies -----------------------------------------------------------------------------------------


def test_missing_asks_no_registry_when_the_image_is_here(
    store: ImageStore, registry: FakeRegistry, access: Access
) -> None:
    """The default policy needs no network for what is here."""
    registry.add("a/b", "v1", make_image())
    name = f"{registry.host}/a/b:v1"
    first = store.pull(name, access=access)
    before = len(registry.seen)
    assert store.pull(name, access=access).id == first.id
    assert len(registry.seen) == before


def test_never_takes_only_what_is_here(store: ImageStore, registry: FakeRegistry, access: Access) -> None:
    """With the policy never, an absent image is an error and no request."""
    registry.add("a/b", "v1", make_image())
    with pytest.raises(NotFound, match="not to be pulled"):
        store.pull(f"{registry.host}/a/b:v1", access=access, policy="never")
    assert registry.seen == []


def test_always_moves_the_tag_to_the_new_image(store: ImageStore, registry: FakeRegistry, access: Access) -> None:
    """After the tag moved in the registry, always brings the new image, and the old one stays without a name."""
    name = f"{registry.host}/a/b:v1"
    registry.add("a/b", "v1", make_image())
    old = store.pull(name, access=access)
    registry.add("a/b", "v1", make_image(layer_tar({"new": b""})))
    assert store.pull(name, access=access).id == old.id
    new = store.pull(name, access=access, policy="always")
    assert (store.resolve(name).id, store.by_id(old.id).names) == (new.id, [])


def test_newer_fetches_only_when_the_digest_differs(store: ImageStore, registry: FakeRegistry, access: Access) -> None:
    """Newer asks for the digest alone, and is content with the local image where the registry is gone."""
    name = f"{registry.host}/a/b:v1"
    registry.add("a/b", "v1", make_image())
    old = store.pull(name, access=access)
    registry.seen.clear()
    assert store.pull(name, access=access, policy="newer").id == old.id
    assert [item.method for item in registry.seen if "manifests" in item.path] == ["HEAD"]
    registry.add("a/b", "v1", make_image(layer_tar({"new": b""})))
    new = store.pull(name, access=access, policy="newer")
    assert new.id != old.id
    registry.manifests.clear()
    assert store.pull(name, access=access, policy="newer").id == new.id


# ---- what comes wrong ---------------------------------------------------------------------------------


def test_pull_resumes_where_the_connection_broke(store: ImageStore, registry: FakeRegistry, access: Access) -> None:
    """A connection that breaks in the middle is taken up at the byte that is missing."""
    made = make_image(BIG, compress=bytes)
    registry.add("a/b", "v1", made)
    registry.faults["GET", blob_path(made)] = [Answer(body=BIG, cut=1_500_000), Answer(503), Answer(429)]
    store.pull(f"{registry.host}/a/b:v1", access=access)
    ranges = [item.headers.get("Range", "") for item in registry.requests("GET", digest_of(BIG))]
    assert ranges == ["", "bytes=1500000-", "bytes=1500000-", "bytes=1500000-"]


def test_next_pull_goes_on_from_what_the_last_one_left(
    store: ImageStore, registry: FakeRegistry, access: Access
) -> None:
    """What was fetched before a pull was given up is not fetched again."""
    made = make_image(BIG, compress=bytes)
    registry.add("a/b", "v1", made)
    registry.faults["GET", blob_path(made)] = [Answer(body=BIG, cut=1_000_000), Answer(404)]
    with pytest.raises(NotFound):
        store.pull(f"{registry.host}/a/b:v1", access=access)
    assert os.path.getsize(store.blobs.partial_path(digest_of(BIG))) == 1_000_000
    store.pull(f"{registry.host}/a/b:v1", access=access)
    assert registry.requests("GET", digest_of(BIG))[-1].headers["Range"] == "bytes=1000000-"
    assert leftovers(store) == []


def test_pull_begins_again_when_the_registry_has_no_ranges(
    store: ImageStore, registry: FakeRegistry, access: Access
) -> None:
    """A registry that always answers with the whole blob gets it through as well."""
    made = make_image(BIG, compress=bytes)
    registry.add("a/b", "v1", made)
    registry.has_ranges = False
    registry.faults["GET", blob_path(made)] = [Answer(body=BIG, cut=2_000_000)]
    assert store.pull(f"{registry.host}/a/b:v1", access=access).id == made.id


def test_pull_starts_over_when_what_was_left_is_damaged(
    store: ImageStore, registry: FakeRegistry, access: Access
) -> None:
    """Bytes of a broken transfer that rotted on disk cost one more transfer, not an error."""
    made = make_image(BIG, compress=bytes)
    registry.add("a/b", "v1", made)
    store.blobs.make_directories()
    Path(store.blobs.partial_path(digest_of(BIG))).write_bytes(b"x" * 1_000_000)
    assert store.pull(f"{registry.host}/a/b:v1", access=access).id == made.id


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        pytest.param(Answer(body=b"y" * len(BIG)), InvalidArgument, "its content is sha256:", id="wrong content"),
        pytest.param(Answer(body=BIG + b"more"), InvalidArgument, "more than the", id="too long"),
        pytest.param(Answer(404), NotFound, "http 404", id="absent"),
        pytest.param(Answer(403), PermissionDenied, "http 403", id="forbidden"),
        pytest.param(
            Answer(302, {"Location": "file:///etc/passwd"}), InvalidArgument, "redirects to 'file'", id="file"
        ),
    ],
)
def test_hostile_blob_is_refused_and_leaves_nothing(
    store: ImageStore, registry: FakeRegistry, access: Access, answer: Answer, kind: type[CorralError], words: str
) -> None:
    """Content that is not what its digest says never gets into the store, and no image is recorded."""
    made = make_image(BIG, compress=bytes)
    registry.add("a/b", "v1", made)
    registry.faults["GET", blob_path(made)] = [answer] * 9
    with pytest.raises(kind, match=words):
        store.pull(f"{registry.host}/a/b:v1", access=access)
    assert (store.list(), store.blobs.has(digest_of(BIG))) == ([], False)
    assert leftovers(store) == []


def test_blob_that_always_ends_early_is_given_up(store: ImageStore, registry: FakeRegistry, access: Access) -> None:
    """A registry that never brings anything new is Unavailable after so many tries."""
    made = make_image(BIG, compress=bytes)
    registry.add("a/b", "v1", made)
    registry.has_ranges = False
    registry.faults["GET", blob_path(made)] = [Answer(body=BIG, cut=100_000)] * 50
    with pytest.raises(Unavailable, match="get blob"):
        store.pull(f"{registry.host}/a/b:v1", access=access)
    assert len(registry.requests("GET", digest_of(BIG))) <= 5


def test_redirects_in_a_circle_end(store: ImageStore, registry: FakeRegistry, access: Access) -> None:
    """After five redirects it is over."""
    made = make_image()
    registry.add("a/b", "v1", made)
    path = blob_path(made)
    registry.faults["GET", path] = [Answer(302, {"Location": path})] * 50
    with pytest.raises(InvalidArgument, match="more than 5 redirects"):
        store.pull(f"{registry.host}/a/b:v1", access=access)


def test_redirect_to_another_host_carries_no_credentials(
    store: ImageStore, registry: FakeRegistry, access: Access
) -> None:
    """What a storage host is asked for, it is asked for without our token."""
    made = make_image()
    registry.add("a/b", "v1", made)
    registry.scheme = "bearer"
    with FakeRegistry() as storage:
        storage.add("x", "y", made)
        target = f"http://{storage.host}/v2/x/blobs/{digest_of(made.layers[0])}?signature=s3cret"
        registry.faults["GET", blob_path(made)] = [Answer(307, {"Location": target})]
        store.pull(f"{registry.host}/a/b:v1", access=access)
        assert [item.headers.get("Authorization") for item in storage.seen] == [None]
    assert registry.requests("GET", "/manifests/v1")[-1].headers["Authorization"] == "Bearer t0ken"


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        pytest.param(b"{", InvalidArgument, "parse manifest", id="no json"),
        pytest.param(b"[]", InvalidArgument, "not an object", id="no object"),
        pytest.param(b"{}", InvalidArgument, "neither a manifest nor an index", id="empty"),
        pytest.param(b'{"schemaVersion": 1}', Unsupported, "schema 1", id="schema 1"),
        pytest.param(b'{"manifests": [], "layers": []}', InvalidArgument, "both an index and a manifest", id="both"),
        pytest.param(b" " * (MAX_MANIFEST_BYTES + 1), InvalidArgument, "larger than", id="huge"),
        pytest.param(
            json.dumps({"config": {"mediaType": "x/y", "digest": digest_of(b""), "size": 0}, "layers": []}).encode(),
            Unsupported,
            "no container image",
            id="artifact",
        ),
        pytest.param(
            json.dumps({"config": {"digest": "sha256:../../../../etc/passwd", "size": 1}, "layers": []}).encode(),
            InvalidArgument,
            "is not a digest",
            id="path in digest",
        ),
        pytest.param(
            json.dumps({"config": descriptor("x", b""), "layers": [{"digest": digest_of(b""), "size": -1}]}).encode(),
            Unsupported,
            "no container image",
            id="config first",
        ),
    ],
)
def test_hostile_manifest_is_refused(
    store: ImageStore, registry: FakeRegistry, access: Access, data: bytes, kind: type[CorralError], words: str
) -> None:
    """A manifest that makes no sense is an error that says why."""
    registry.add_manifest("a/b", "v1", data, MANIFEST)
    with pytest.raises(kind, match=words):
        store.pull(f"{registry.host}/a/b:v1", access=access)


def test_config_with_other_layers_than_the_manifest_is_refused(
    store: ImageStore, registry: FakeRegistry, access: Access
) -> None:
    """Config and manifest must speak of the same number of layers."""
    made = make_image()
    value = json.loads(made.manifest)
    value["layers"] *= 2
    made.manifest = json.dumps(value).encode()
    registry.add("a/b", "v1", made)
    with pytest.raises(InvalidArgument, match="its config has 1 layers, its manifest 2"):
        store.pull(f"{registry.host}/a/b:v1", access=access)


def test_pull_of_an_unknown_tag_gives_the_registrys_words(
    store: ImageStore, registry: FakeRegistry, access: Access
) -> None:
    """NotFound, with what the registry said."""
    with pytest.raises(NotFound, match=r"manifest_unknown: manifest unknown \(http 404\)"):
        store.pull(f"{registry.host}/a/b:v9", access=access)


def test_pull_from_nobody_is_unavailable(store: ImageStore) -> None:
    """Where nobody listens, that is said at once."""
    with FakeRegistry() as gone:
        host = gone.host
    with pytest.raises(Unavailable, match="no connection"):
        store.pull(f"{host}/a/b:v1", access=Access(is_verified=False, patience=Patience(tries=2, first_wait_s=0.001)))


# ---- side by side -------------------------------------------------------------------------------------


def test_pulls_of_one_image_at_once_fetch_each_blob_once(
    store: ImageStore, registry: FakeRegistry, access: Access
) -> None:
    """Eight pulls of one image cost one."""
    made = make_image(BIG, layer_tar({"b": os.urandom(100_000)}), compress=bytes)
    registry.add("a/b", "v1", made)
    with ThreadPoolExecutor(8) as pool:
        ids = {image.id for image in pool.map(lambda _: store.pull(f"{registry.host}/a/b:v1", access=access), range(8))}
    assert ids == {made.id}
    assert [len(registry.requests("GET", digest)) for digest in made.blobs()] == [1, 1, 1]
    assert leftovers(store) == []


def test_layers_that_are_here_are_not_fetched(store: ImageStore, registry: FakeRegistry, access: Access) -> None:
    """A second image that shares a layer costs only what differs."""
    shared = layer_tar({"shared": b"1"})
    first, second = make_image(shared), make_image(shared, layer_tar({"top": b"2"}))
    registry.add("a/b", "v1", first)
    registry.add("a/b", "v2", second)
    store.pull(f"{registry.host}/a/b:v1", access=access)
    seen: list[Progress] = []
    store.pull(f"{registry.host}/a/b:v2", access=access, on_progress=seen.append)
    assert len(registry.requests("GET", digest_of(first.layers[0]))) == 1
    assert {item.state for item in seen if item.digest == digest_of(first.layers[0])} == {"present"}
    last = {item.digest: item for item in seen}[digest_of(second.layers[1])]
    assert (last.state, last.done_bytes, last.total_bytes) == ("done", len(second.layers[1]), len(second.layers[1]))


def test_cancel_ends_a_pull_and_keeps_what_it_has(store: ImageStore, registry: FakeRegistry, access: Access) -> None:
    """A cancelled pull says so; the next one goes on."""
    made = make_image(BIG, compress=bytes)
    registry.add("a/b", "v1", made)
    cancel = Cancel()

    def on_progress(progress: Progress) -> None:
        if progress.what == "layer" and progress.state == "moving":
            cancel.set()

    with pytest.raises(Cancelled):
        store.pull(f"{registry.host}/a/b:v1", access=access, on_progress=on_progress, cancel=cancel)
    assert os.listdir(f"{store.path}/work") == []
    assert store.pull(f"{registry.host}/a/b:v1", access=access).id == made.id


def test_pull_waits_for_another_one_and_can_be_cancelled_meanwhile(
    store: ImageStore, registry: FakeRegistry, access: Access
) -> None:
    """While somebody else holds the blob, progress says so, and Ctrl-C works."""
    from corral.image.ingest import claim
    from corral.image.manifest import Descriptor

    made = make_image()
    registry.add("a/b", "v1", made)
    layer = made.layers[0]
    store.blobs.make_directories()
    held = claim(store.blobs, Descriptor("", digest_of(layer), len(layer)), Cancel())
    assert held is not None
    cancel, waiting = Cancel(), threading.Event()

    def on_progress(progress: Progress) -> None:
        if progress.state == "elsewhere":
            waiting.set()
            cancel.set()

    with held, pytest.raises(Cancelled):
        store.pull(f"{registry.host}/a/b:v1", access=access, on_progress=on_progress, cancel=cancel)
    assert waiting.is_set()


def test_cancel_does_not_wait_for_a_silent_registry(store: ImageStore, registry: FakeRegistry, access: Access) -> None:
    """A registry that keeps the connection open and sends nothing more does not hold a pull that is cancelled."""
    made = make_image(BIG, compress=bytes)
    registry.add("a/b", "v1", made)
    registry.hangs_after_short_answers = True
    registry.faults["GET", blob_path(made)] = [Answer(body=BIG[:1000], length=len(BIG))]
    cancel = Cancel()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            store.pull(f"{registry.host}/a/b:v1", access=access, cancel=cancel)
        except CorralError as exc:
            failures.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    partial = Path(store.blobs.partial_path(digest_of(BIG)))
    wait_until(lambda: partial.exists() and partial.stat().st_size == 1000)
    cancel.set()
    thread.join(timeout=30)
    assert [type(exc) for exc in failures] == [Cancelled]


def test_registry_that_drips_is_given_up(
    store: ImageStore, registry: FakeRegistry, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less than a kilobyte a second over a whole minute counts as a broken connection."""
    monkeypatch.setattr(registry_module, "_WINDOW_S", 0.0)
    monkeypatch.setattr(registry_module, "_WINDOW_BYTES", 1 << 40)
    made = make_image(BIG, compress=bytes)
    registry.add("a/b", "v1", made)
    with pytest.raises(Unavailable, match=r"bytes in 0 s"):
        store.pull(f"{registry.host}/a/b:v1", access=access)


def test_full_disk_ends_a_pull_that_goes_on_later(
    store: ImageStore, registry: FakeRegistry, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOSPC within a layer is ResourceExhausted; with room again, the pull goes on from there."""
    made = make_image(BIG, compress=bytes)
    registry.add("a/b", "v1", made)
    write = os.pwrite

    def full(fd: int, data: bytes, offset: int) -> int:
        if offset > 1 << 20:
            raise OSError(28, "No space left on device")
        return write(fd, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(ResourceExhausted, match="no space left on device") as caught:
            store.pull(f"{registry.host}/a/b:v1", access=access)
    assert "prune" in caught.value.hint
    store.pull(f"{registry.host}/a/b:v1", access=access)
    assert int(registry.requests("GET", digest_of(BIG))[-1].headers["Range"][6:-1]) > 1 << 20
