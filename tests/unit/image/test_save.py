"""Saving: what we write, others and we ourselves read back."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from corral.errors import AlreadyExists, InvalidArgument, NotFound
from corral.image.save import FORMATS, Format
from corral.image.store import ImageStore
from unit.image.archives import docker_files, read_tar, tar_of
from unit.image.fake_registry import digest_of, layer_tar, make_image

GZIPPED = make_image(layer_tar({"a": b"1" * 5000}), layer_tar({"b": b"2"}))


@pytest.fixture
def loaded(store: ImageStore, tmp_path: Path) -> ImageStore:
    """A store with GZIPPED as app:1 and app:2."""
    path = tmp_path / "in.tar"
    path.write_bytes(tar_of(docker_files(GZIPPED, "app:1", "app:2")))
    store.load(str(path))
    return store


@pytest.mark.parametrize("archive", FORMATS)
def test_saved_image_is_loaded_again_as_it_was(loaded: ImageStore, tmp_path: Path, archive: Format) -> None:
    """Each format keeps id, names and content."""
    target = str(tmp_path / "out")
    loaded.save(["app:1", "app:2"], target, archive=archive)
    other = ImageStore(str(tmp_path / "other"))
    image = other.load(target)[0]
    assert (image.id, image.names) == (GZIPPED.id, ["docker.io/library/app:1", "docker.io/library/app:2"])
    for layer in image.layers:
        with other.open_layer(layer) as stream:
            stream.verify()


def test_docker_archive_has_plain_layers_named_by_what_they_are(loaded: ImageStore, tmp_path: Path) -> None:
    """Old readers want layers without compression."""
    loaded.save(["app:1"], str(tmp_path / "out.tar"))
    files = read_tar((tmp_path / "out.tar").read_bytes())
    names = [f"{diff_id[7:]}.tar" for diff_id in GZIPPED.diff_ids]
    assert json.loads(files["manifest.json"]) == [
        {"Config": f"{GZIPPED.id[7:]}.json", "RepoTags": ["docker.io/library/app:1"], "Layers": names}
    ]
    assert [digest_of(files[name]) for name in names] == GZIPPED.diff_ids


def test_saving_twice_gives_the_same_bytes(loaded: ImageStore, tmp_path: Path) -> None:
    """No times and no chance in what is written."""
    for archive in ("docker-archive", "oci-archive"):
        loaded.save(["app:1"], str(tmp_path / "one"), archive=archive)
        loaded.save(["app:1"], str(tmp_path / "two"), archive=archive)
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_images_are_saved_to_a_pipe(loaded: ImageStore, tmp_path: Path) -> None:
    """A descriptor is written to and left open."""
    with open(tmp_path / "out.tar", "wb") as file:
        loaded.save(["app:1"], file.fileno())
        assert os.fstat(file.fileno()).st_size > 0
    assert ImageStore(str(tmp_path / "other")).load(str(tmp_path / "out.tar"))[0].id == GZIPPED.id


def test_image_saved_by_id_has_no_name(loaded: ImageStore, tmp_path: Path) -> None:
    """Only the names that were asked for are written."""
    loaded.save([GZIPPED.id], str(tmp_path / "out.tar"))
    assert ImageStore(str(tmp_path / "other")).load(str(tmp_path / "out.tar"))[0].names == []


def test_archive_at_a_path_is_all_or_nothing(loaded: ImageStore, tmp_path: Path) -> None:
    """If saving breaks off, the old file is as it was and nothing new is there."""
    target = tmp_path / "out.tar"
    target.write_bytes(b"old")
    image = loaded.resolve("app:1")
    path = loaded.blobs.path(image.layers[1].digest)
    os.chmod(path, 0o600)
    Path(path).write_bytes(b"rotten")
    with pytest.raises(InvalidArgument):
        loaded.save(["app:1"], str(target), archive="oci-archive")
    assert (target.read_bytes(), sorted(os.listdir(tmp_path))) == (b"old", ["home", "images", "in.tar", "out.tar"])


def test_directory_that_holds_something_is_left_alone(loaded: ImageStore, tmp_path: Path) -> None:
    """A layout is written to a directory of its own."""
    with pytest.raises(AlreadyExists, match="it exists"):
        loaded.save(["app:1"], str(tmp_path), archive="oci-dir")


@pytest.mark.parametrize(
    ("names", "archive", "kind"),
    [([], "docker-archive", InvalidArgument), (["app:1"], "zip", InvalidArgument), (["no"], "oci-dir", NotFound)],
)
def test_save_refuses_what_makes_no_sense(
    loaded: ImageStore, tmp_path: Path, names: list[str], archive: Format, kind: type[Exception]
) -> None:
    """No names, unknown formats, absent images."""
    with pytest.raises(kind):
        loaded.save(names, str(tmp_path / "out"), archive=archive)
    assert not (tmp_path / "out").exists()
