"""The store of unpacked layers: made once, by whoever comes first, and never half."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.errors import CorralError, InvalidArgument, NotFound
from corral.image import snapshots
from corral.image.digests import chain_ids, digest_of
from corral.image.layer_stream import LayerStream
from corral.image.snapshots import LayerStore
from unit.image.tars import archive, entry, folder, listing


class Layer:
    """A layer of an image, whose blob is a file."""

    def __init__(self, path: Path, diff_id: str, chain_id: str) -> None:
        self.path = path
        self.digest = digest_of(path.read_bytes())
        self.diff_id = diff_id
        self.chain_id = chain_id


class Images:
    """Layers by the name of the image, and how often each was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reads: list[str] = []
        self.gate: threading.Event | None = None

    def image(self, *tars: bytes) -> list[Layer]:
        layers = []
        diff_ids = [digest_of(data) for data in tars]
        for data, diff_id, chain in zip(tars, diff_ids, chain_ids(diff_ids), strict=True):
            path = self.path / diff_id[7:20]
            path.write_bytes(data)
            layers.append(Layer(path, diff_id, chain))
        return layers

    def open(self, layer: Layer) -> LayerStream:
        self.reads.append(layer.chain_id)
        if self.gate is not None:
            assert self.gate.wait(30)
        return LayerStream(os.open(layer.path, os.O_RDONLY), layer.digest, layer.diff_id)


@pytest.fixture
def images(tmp_path: Path) -> Images:
    (tmp_path / "blobs").mkdir()
    return Images(tmp_path / "blobs")


@pytest.fixture
def store(tmp_path: Path) -> LayerStore:
    return LayerStore(str(tmp_path / "layers"), marks="user")


@contextlib.contextmanager
def booted(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    """As if the machine had this boot id."""
    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "read_boot_id", lambda: name)
        yield


@pytest.fixture(autouse=True)
def _own_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Archives made by hand belong to root: here they belong to whoever runs the tests."""
    if os.geteuid() != 0:
        monkeypatch.setattr(os, "fchown", lambda *_: None)


def test_layers_are_unpacked_once(store: LayerStore, images: Images) -> None:
    """Directories come topmost first; the second time nothing is read."""
    layers = images.image(archive(entry(b"a", b"1")), archive(entry(b"b", b"2")), archive(entry(b"c")))
    done: list[str] = []
    found = store.ensure(layers, images.open, on_done=done.append)
    assert [listing(Path(path)) for path in found] == [["c"], ["b"], ["a"]]
    assert sorted(done) == sorted(layer.chain_id for layer in layers)
    assert store.ensure(layers, images.open) == found
    assert len(images.reads) == 3
    assert store.find([layer.chain_id for layer in reversed(layers)]) == found
    assert [snapshot.size_bytes for snapshot in store.snapshots()].count(1) == 2
    assert store.usage_bytes() == 2


def test_layers_of_two_images_are_shared(store: LayerStore, images: Images) -> None:
    """The same layers below are the same directories; the same layer above others is another."""
    base, top = archive(entry(b"base")), archive(entry(b"top"))
    first = store.ensure(images.image(base, top), images.open)
    second = store.ensure(images.image(base, archive(entry(b"other")), top), images.open)
    assert first[-1] == second[-1]
    assert first[0] != second[0]
    assert len(images.reads) == 4


def test_wrong_diff_id_leaves_nothing(store: LayerStore, images: Images) -> None:
    """What is unpacked is not what the image promised."""
    layers = images.image(archive(entry(b"a")))
    layers[0].diff_id = digest_of(b"another")
    with pytest.raises(InvalidArgument) as caught:
        store.ensure(layers, images.open)
    assert "but the image's config says" in str(caught.value)
    assert store.snapshots() == []
    assert store.find([layers[0].chain_id]) is None


def test_data_behind_the_archive_counts(store: LayerStore, images: Images) -> None:
    """The digest covers what follows the end too."""
    layers = images.image(archive(entry(b"a")) + b"x" * 100_000)
    assert len(store.ensure(layers, images.open)) == 1


def test_error_in_one_layer_ends_the_others(store: LayerStore, images: Images) -> None:
    """The first error is told; complete layers stay, the next try makes the rest."""
    good, bad = archive(entry(b"a")), archive(entry(b"../evil"))
    with pytest.raises(InvalidArgument) as caught:
        store.ensure(images.image(good, bad, good), images.open)
    assert "'..' in it" in str(caught.value)
    assert len(store.ensure(images.image(good, good), images.open)) == 2


def test_check_ends_the_work(store: LayerStore, images: Images) -> None:
    """Its error is the caller's own."""

    def stop() -> None:
        raise CorralError("pull image: cancelled")

    with pytest.raises(CorralError, match="cancelled"):
        store.ensure(images.image(archive(entry(b"a"))), images.open, check=stop)


def test_concurrent_callers_join(store: LayerStore, images: Images) -> None:
    """Each layer is read once, and everybody gets it."""
    layers = images.image(*[archive(entry(b"%d" % n, b"x" * 1000)) for n in range(4)])
    images.gate = threading.Event()
    results: list[list[str]] = []
    threads = [threading.Thread(target=lambda: results.append(store.ensure(layers, images.open))) for _ in range(6)]
    for thread in threads:
        thread.start()
    images.gate.set()
    for thread in threads:
        thread.join()
    assert sorted(images.reads) == sorted(layer.chain_id for layer in layers)
    assert len(results) == 6
    assert all(result == results[0] for result in results)


def test_directory_of_a_dead_process_is_used_anew(store: LayerStore, images: Images, tmp_path: Path) -> None:
    """Nobody holds its lock; what is in it is not trusted."""
    layers = images.image(archive(entry(b"a")))
    left = tmp_path / "layers" / f".new-{layers[0].chain_id[7:]}"
    (left / "diff" / "rubbish").mkdir(parents=True)
    (left / "layer.json").write_text("{}")
    assert listing(Path(store.ensure(layers, images.open)[0])) == ["a"]
    assert sorted(os.listdir(tmp_path / "layers")) == sorted([layers[0].chain_id[7:], "lock"])


def test_directories_that_a_layer_passes_through_look_as_below(store: LayerStore, images: Images) -> None:
    """/tmp stays as it was, though the upper layer has only a file in it."""
    below = archive(entry(b"tmp", type=b"5", mode=b"0001777\0"), folder(b"etc"))
    above = archive(entry(b"tmp/x"), entry(b"fresh/y"))
    top = Path(store.ensure(images.image(below, archive(entry(b"z")), above), images.open)[0])
    assert stat.S_IMODE((top / "tmp").stat().st_mode) == 0o1777
    assert stat.S_IMODE((top / "fresh").stat().st_mode) == 0o755


def test_opaque_layer_hides_all_below(store: LayerStore, images: Images) -> None:
    """They are not even mounted."""
    layers = images.image(archive(entry(b"a")), archive(entry(b".wh..wh..opq"), entry(b"b")), archive(entry(b"c")))
    assert [listing(Path(path)) for path in store.ensure(layers, images.open)] == [["c"], ["b"]]


def test_layer_that_may_not_have_reached_the_disk_is_made_again(
    tmp_path: Path, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made in an earlier boot and never synced: a crash of the machine may have emptied its files."""
    layers = images.image(archive(entry(b"a")), archive(entry(b"b")))
    with booted(monkeypatch, "first"):
        LayerStore(str(tmp_path / "layers"), marks="user").ensure(layers[:1], images.open)
        assert LayerStore(str(tmp_path / "layers"), marks="user").sync() == 1
        LayerStore(str(tmp_path / "layers"), marks="user").ensure(layers, images.open)
    with booted(monkeypatch, "second"):
        store = LayerStore(str(tmp_path / "layers"), marks="user")
        assert store.find([layers[0].chain_id]) is not None
        assert store.find([layers[1].chain_id]) is None
        assert listing(Path(store.ensure(layers, images.open)[0])) == ["b"]
    assert images.reads.count(layers[0].chain_id) == 1
    assert images.reads.count(layers[1].chain_id) == 2


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"schema": 99}'], ids=["empty", "cut", "list", "newer"])
def test_record_that_cannot_be_read_is_no_layer(store: LayerStore, images: Images, text: bytes) -> None:
    """As a crash of the machine may leave it."""
    layers = images.image(archive(entry(b"a")))
    found = store.ensure(layers, images.open)
    Path(found[0]).parent.joinpath("layer.json").write_bytes(text)
    assert store.find([layers[0].chain_id]) is None
    assert store.ensure(layers, images.open) == found


def test_gc_removes_what_nobody_keeps(store: LayerStore, images: Images, tmp_path: Path) -> None:
    """Layers, and what dead processes left; not what somebody is making now."""
    kept = images.image(archive(entry(b"kept")))
    store.ensure(kept, images.open)
    store.ensure(images.image(archive(entry(b"gone", b"12345"))), images.open)
    (tmp_path / "layers" / ".new-dead" / "diff").mkdir(parents=True)
    (tmp_path / "layers" / ".new-alive").mkdir()
    held = os.open(tmp_path / "layers" / ".new-alive", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert store.gc(lambda: [kept[0].chain_id]) == 5
    assert sorted(os.listdir(tmp_path / "layers")) == sorted([".new-alive", "lock", kept[0].chain_id[7:]])
    os.close(held)


def test_remove_is_idempotent(store: LayerStore, images: Images) -> None:
    """A layer that is not there is fine."""
    layers = images.image(archive(entry(b"a")))
    store.ensure(layers, images.open)
    store.remove(layers[0].chain_id)
    store.remove(layers[0].chain_id)
    assert store.snapshots() == []
    with pytest.raises(NotFound):
        store.get(layers[0].chain_id)


def test_gc_of_a_store_that_was_never_used(store: LayerStore) -> None:
    """There is nothing to do."""
    assert store.gc(list) == 0


@pytest.mark.parametrize("chain", ["", "sha256:", "sha256:../x", "x"])
def test_chain_id_that_is_no_digest_is_refused(store: LayerStore, chain: str) -> None:
    """It would become a path."""
    with pytest.raises(InvalidArgument):
        store.find([chain])
