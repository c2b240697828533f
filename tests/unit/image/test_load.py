"""Loading archives and layouts, made well and badly."""

from __future__ import annotations

import gzip
import json
import os
import threading
from pathlib import Path

import pytest

from corral.errors import InvalidArgument, NotFound, Unsupported
from corral.image.layer_stream import zstd_module
from corral.image.store import ImageStore
from unit.image.archives import docker_files, oci_files, tar_of, write_folder
from unit.image.fake_registry import MANIFEST, MadeImage, descriptor, digest_of, layer_tar, make_image

TWO = make_image(layer_tar({"a": b"1"}), layer_tar({"b": b"2"}), compress=bytes)


def put(tmp_path: Path, data: bytes) -> str:
    """A file with ``data``."""
    path = tmp_path / "archive.tar"
    path.write_bytes(data)
    return str(path)


def assert_whole(store: ImageStore, made: MadeImage) -> None:
    """The image is there with all of its content, and nothing else is left."""
    image = store.by_id(made.id)
    assert [layer.diff_id for layer in image.layers] == made.diff_ids
    for layer in image.layers:
        with store.open_layer(layer) as stream:
            stream.verify()
    assert [*os.listdir(f"{store.path}/ingest"), *os.listdir(f"{store.path}/work")] == []


def test_docker_archive_is_loaded_with_its_names(store: ImageStore, tmp_path: Path) -> None:
    """Names in a docker-archive have Docker's defaults."""
    images = store.load(put(tmp_path, tar_of(docker_files(TWO, "app:1", "quay.io/team/app:2"))))
    assert [image.id for image in images] == [TWO.id]
    assert images[0].names == ["docker.io/library/app:1", "quay.io/team/app:2"]
    assert_whole(store, TWO)


def test_docker_archive_is_loaded_from_a_pipe(store: ImageStore) -> None:
    """A pipe is read once, to its end, so that the writer is not killed by its closing."""
    data = tar_of(docker_files(TWO, "app:1")) + bytes(1 << 20)
    reading, writing = os.pipe()
    sent = []

    def write() -> None:
        with open(writing, "wb") as file:
            sent.append(file.write(data))

    thread = threading.Thread(target=write)
    thread.start()
    with open(reading, "rb") as file:
        store.load(file.fileno())
    thread.join()
    assert sent == [len(data)]
    assert_whole(store, TWO)


@pytest.mark.parametrize("pack", [gzip.compress, lambda data: zstd_module().compress(data)], ids=["gzip", "zstd"])
def test_compressed_archive_is_loaded(store: ImageStore, tmp_path: Path, pack: object) -> None:
    """`docker save | gzip` is loaded like the plain archive."""
    assert callable(pack)
    store.load(put(tmp_path, pack(tar_of(docker_files(TWO, "app:1")))))
    assert_whole(store, TWO)


def test_layers_may_be_links_to_others(store: ImageStore, tmp_path: Path) -> None:
    """Layers that stand in an archive once are linked elsewhere, as `docker save` does."""
    made = make_image(layer_tar({"a": b"1"}), layer_tar({"a": b"1"}), compress=bytes)
    files = docker_files(made, "app:1")
    files["1/layer.tar"] = "../0/layer.tar"
    store.load(put(tmp_path, tar_of(files)))
    assert_whole(store, made)


@pytest.mark.parametrize("target", ["../1/layer.tar", "/etc/passwd", "../../../../etc/passwd"])
def test_links_that_lead_nowhere_are_refused(store: ImageStore, tmp_path: Path, target: str) -> None:
    """A link is a name inside the archive, never a path of this machine."""
    files = docker_files(TWO, "app:1")
    files["1/layer.tar"] = target
    with pytest.raises(InvalidArgument, match=r"'1/layer\.tar' is missing"):
        store.load(put(tmp_path, tar_of(files)))


def test_oci_archive_keeps_its_digests(store: ImageStore, tmp_path: Path) -> None:
    """An OCI archive's manifest is taken over as it is; containerd's annotation names the image."""
    files = oci_files(TWO, io__containerd__image__name="quay.io/a/b:1", org__opencontainers__image__ref__name="1")
    images = store.load(put(tmp_path, tar_of(files)))
    assert (images[0].digest, images[0].names) == (digest_of(TWO.manifest), ["quay.io/a/b:1"])
    assert_whole(store, TWO)


@pytest.mark.parametrize(
    ("ref", "names"),
    [
        ("docker.io/a/b:2", ["docker.io/a/b:2"]),
        ("app:2", ["localhost/app:2"]),
        ("v3", ["localhost/layout:v3"]),
        ("", []),
    ],
)
def test_layout_names_its_images_by_annotation(store: ImageStore, tmp_path: Path, ref: str, names: list[str]) -> None:
    """A complete name counts as it is; a mere tag belongs to the directory's name."""
    annotations = {"org__opencontainers__image__ref__name": ref} if ref else {}
    folder = write_folder(tmp_path / "layout", oci_files(TWO, **annotations))
    assert store.load(str(folder))[0].names == names
    assert_whole(store, TWO)


def test_given_name_is_for_images_that_bring_none(store: ImageStore, tmp_path: Path) -> None:
    """An archive without names takes the one given."""
    assert store.load(put(tmp_path, tar_of(docker_files(TWO))), name="mine:1")[0].names == ["localhost/mine:1"]


def test_flat_directory_of_skopeo_is_loaded(store: ImageStore, tmp_path: Path) -> None:
    """The directory that `skopeo copy ... dir:` writes: blobs by their digits, one manifest."""
    files = {digest[7:]: data for digest, data in TWO.blobs().items()} | {"manifest.json": TWO.manifest}
    folder = write_folder(tmp_path / "flat", {**files, "version": b"Directory Transport Version: 1.1\n"})
    store.load(str(folder), name="x")
    assert_whole(store, TWO)


def test_new_docker_save_is_loaded_by_both_of_its_indexes(store: ImageStore, tmp_path: Path) -> None:
    """Docker 25 writes an OCI layout and manifest.json: the content is the layout's, names come from both."""
    files = oci_files(TWO, org__opencontainers__image__ref__name="1")
    config = f"blobs/sha256/{TWO.id[7:]}"
    files["manifest.json"] = json.dumps([{"Config": config, "RepoTags": ["app:1"], "Layers": []}]).encode()
    images = store.load(put(tmp_path, tar_of(files)))
    assert "docker.io/library/app:1" in images[0].names
    assert_whole(store, TWO)


def test_index_in_a_layout_is_resolved_by_platform(store: ImageStore, tmp_path: Path) -> None:
    """Of a multi-platform layout the image for this platform is taken, others need not be there."""
    amd = make_image(layer_tar({"amd": b""}))
    inner = {
        "schemaVersion": 2,
        "manifests": [
            descriptor(
                MANIFEST, make_image(architecture="s390x").manifest, platform={"os": "linux", "architecture": "s390x"}
            ),
            descriptor(MANIFEST, amd.manifest, platform={"os": "linux", "architecture": "amd64"}),
        ],
    }
    files = oci_files(amd)
    data = json.dumps(inner).encode()
    files[f"blobs/sha256/{digest_of(data)[7:]}"] = data
    entry = descriptor("application/vnd.oci.image.index.v1+json", data)
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    assert store.load(put(tmp_path, tar_of(files)), platform="linux/amd64")[0].id == amd.id


def test_loading_twice_changes_nothing(store: ImageStore, tmp_path: Path) -> None:
    """The same archive again is the same image."""
    path = put(tmp_path, tar_of(docker_files(TWO, "app:1")))
    first, second = store.load(path)[0], store.load(path)[0]
    assert (second.id, second.digest, second.added_ns) == (first.id, first.digest, first.added_ns)


# ---- what comes wrong ---------------------------------------------------------------------------------


def test_layer_that_is_not_the_configs_is_refused(store: ImageStore, tmp_path: Path) -> None:
    """A layer must have the digest that the config says."""
    files = docker_files(TWO, "app:1")
    files["0/layer.tar"] = layer_tar({"evil": b"1"})
    with pytest.raises(InvalidArgument, match="but its config says"):
        store.load(put(tmp_path, tar_of(files)))
    assert store.list() == []


def test_blob_that_is_not_what_its_name_says_is_refused(store: ImageStore, tmp_path: Path) -> None:
    """In an OCI archive the path is the digest, and it is checked."""
    files = oci_files(TWO)
    files[f"blobs/sha256/{digest_of(TWO.layers[0])[7:]}"] = b"x" * len(TWO.layers[0])
    with pytest.raises(InvalidArgument, match="its content is sha256:"):
        store.load(put(tmp_path, tar_of(files)))
    with pytest.raises(InvalidArgument, match="its content is sha256:"):
        store.load(str(write_folder(tmp_path / "layout", files)))
    assert not store.blobs.has(digest_of(TWO.layers[0]))


def test_missing_blob_is_named(store: ImageStore, tmp_path: Path) -> None:
    """An archive that was saved without a layer says which."""
    files = oci_files(TWO)
    del files[f"blobs/sha256/{digest_of(TWO.layers[1])[7:]}"]
    with pytest.raises(InvalidArgument, match=f"blob {digest_of(TWO.layers[1])} is missing"):
        store.load(put(tmp_path, tar_of(files)))


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        pytest.param(b"", InvalidArgument, "neither a docker-archive nor an oci-archive", id="empty"),
        pytest.param(b"no tar at all" * 100, InvalidArgument, "not a tar archive", id="text"),
        pytest.param(tar_of({"etc/passwd": b"root"}), InvalidArgument, "neither a docker-archive", id="rootfs"),
        pytest.param(tar_of(docker_files(TWO))[:2000], InvalidArgument, r"load .*it ends within", id="cut"),
        pytest.param(tar_of({"manifest.json": b"{}"}), InvalidArgument, "not an array", id="object"),
        pytest.param(tar_of({"manifest.json": b"[]"}), InvalidArgument, "it holds no images", id="no images"),
        pytest.param(tar_of({"manifest.json": b'[{"Config": 7}]'}), InvalidArgument, "not a string", id="type"),
        pytest.param(tar_of({"index.json": b'{"manifests": []}'}), InvalidArgument, "no images", id="empty index"),
        pytest.param(gzip.compress(bytes(80 << 20)), InvalidArgument, "follow the archive's end", id="bomb of zeros"),
        pytest.param(b"BZh91AY&SY" + b"x" * 100, Unsupported, "compressed with bzip2", id="bzip2"),
        pytest.param(gzip.compress(tar_of(docker_files(TWO)))[:-9], InvalidArgument, "breaks off", id="cut gzip"),
    ],
)
def test_what_is_no_archive_of_images_is_refused(
    store: ImageStore, tmp_path: Path, data: bytes, kind: type[Exception], words: str
) -> None:
    """The error says what the file is instead, and nothing is recorded or left on disk."""
    with pytest.raises(kind, match=words):
        store.load(put(tmp_path, data))
    assert (store.list(), list(store.blobs.entries())) == ([], [])


def test_directory_without_an_image_is_refused(store: ImageStore, tmp_path: Path) -> None:
    """Neither index.json nor manifest.json: the hint names import."""
    with pytest.raises(InvalidArgument, match=r"neither index\.json nor manifest\.json") as caught:
        store.load(str(tmp_path))
    assert "corral import" in caught.value.hint


def test_fifo_in_a_layout_does_not_block(store: ImageStore, tmp_path: Path) -> None:
    """What is no regular file is refused and not waited for."""
    os.mkfifo(tmp_path / "index.json")
    with pytest.raises(InvalidArgument, match="is not a file"):
        store.load(str(tmp_path))


def test_absent_file_is_not_found(store: ImageStore) -> None:
    """A path that leads nowhere is NotFound."""
    with pytest.raises(NotFound, match=r"load /nowhere: no such file"):
        store.load("/nowhere")


def test_platforms_beside_each_other_are_one_image(store: ImageStore, tmp_path: Path) -> None:
    """Entries of one name for several platforms: the one for this machine; attestations are no images."""
    amd = make_image(layer_tar({"amd": b""}))
    arm = make_image(layer_tar({"arm": b""}), architecture="arm64")
    files = {**oci_files(arm), **oci_files(amd)}
    name = {"org.opencontainers.image.ref.name": "quay.io/a/b:1"}
    entries = [
        descriptor(
            MANIFEST, made.manifest, annotations=name, platform=dict(zip(("os", "architecture"), on, strict=True))
        )
        for made, on in ((arm, ("linux", "arm64")), (amd, ("linux", "amd64")), (arm, ("unknown", "unknown")))
    ]
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    images = store.load(put(tmp_path, tar_of(files)), platform="linux/amd64")
    assert [(image.id, image.names) for image in images] == [(amd.id, ["quay.io/a/b:1"])]
