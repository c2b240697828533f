"""Archives and layouts between Corral, podman, skopeo and umoci, in both directions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from corral.image.compose import Making
from corral.image.save import Format
from corral.image.store import ImageStore
from peers.conftest import Run
from unit.image.archives import docker_files, tar_of
from unit.image.fake_registry import MadeImage, digest_of

pytestmark = pytest.mark.requires("podman", "skopeo", "umoci")
NAME = "docker.io/library/app:1"


def podman_image(podman: Run, name: str) -> dict[str, object]:
    """What podman knows of an image."""
    found = json.loads(podman("image", "inspect", name))[0]
    assert isinstance(found, dict)
    return found


@pytest.fixture
def loaded(store: ImageStore, made: MadeImage, tmp_path: Path) -> ImageStore:
    """A store with ``made`` as app:1."""
    path = tmp_path / "made.tar"
    path.write_bytes(tar_of(docker_files(made, "app:1")))
    store.load(str(path))
    return store


@pytest.mark.parametrize("archive", ["docker-archive", "oci-archive", "oci-dir"])
def test_what_we_save_podman_loads(
    loaded: ImageStore, podman: Run, made: MadeImage, tmp_path: Path, archive: Format
) -> None:
    """podman has the same id and layers, and from an archive the same name (it names layouts by their path)."""
    loaded.save(["app:1"], str(tmp_path / "out"), archive=archive)
    podman("load", "-q", "-i", tmp_path / "out")
    image = podman_image(podman, made.id.partition(":")[2])
    names = [f"localhost{tmp_path}/out:latest"] if archive == "oci-dir" else [NAME]
    assert image["RepoTags"] == names
    assert image["RootFS"] == {"Type": "layers", "Layers": made.diff_ids}


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci-dir", "docker-dir"])
def test_what_podman_saves_we_load(loaded: ImageStore, podman: Run, made: MadeImage, tmp_path: Path, form: str) -> None:
    """The same content under the same name, in each of podman's formats."""
    loaded.save(["app:1"], str(tmp_path / "in.tar"))
    podman("load", "-q", "-i", tmp_path / "in.tar")
    podman("save", "-q", "--format", form, "-o", tmp_path / "out", NAME)
    other = ImageStore(str(tmp_path / "other"))
    image = other.load(str(tmp_path / "out"), name="app:1")[0]
    assert [layer.diff_id for layer in image.layers] == made.diff_ids
    assert other.resolve("app:1").id == image.id
    for layer in image.layers:
        with other.open_layer(layer) as stream:
            stream.verify()


def test_several_images_of_podman_are_loaded_at_once(
    loaded: ImageStore, podman: Run, made: MadeImage, tmp_path: Path
) -> None:
    """`podman save -m` writes several images into one docker-archive."""
    base = loaded.resolve("app:1")
    second = loaded.commit(None, Making(name="docker.io/library/app:2", changes=["ENV B=2"]), base=base)
    loaded.save(["app:1", "app:2"], str(tmp_path / "in.tar"))
    podman("load", "-q", "-i", tmp_path / "in.tar")
    podman("save", "-q", "-m", "-o", tmp_path / "out.tar", NAME, "docker.io/library/app:2")
    images = ImageStore(str(tmp_path / "other")).load(str(tmp_path / "out.tar"))
    assert {image.id for image in images} == {made.id, second.id}


def test_image_made_here_runs_through_podman_and_back(store: ImageStore, podman: Run, tmp_path: Path) -> None:
    """An imported directory, changed by instructions, means the same to podman."""
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/motd").write_text("hello\n")
    making = Making("local/made:1", ['CMD ["cat", "/etc/motd"]', "ENV A=b", "EXPOSE 80", "WORKDIR /etc", "LABEL k=v"])
    image = store.import_(str(tmp_path / "root"), making)
    store.save(["local/made:1"], str(tmp_path / "out.tar"))
    podman("load", "-q", "-i", tmp_path / "out.tar")
    found = podman_image(podman, "localhost/local/made:1")
    assert found["Id"] == image.id.partition(":")[2]
    config = found["Config"]
    assert isinstance(config, dict)
    assert config["Cmd"] == ["cat", "/etc/motd"]
    assert (config["Env"], config["WorkingDir"], config["Labels"]) == (["A=b"], "/etc", {"k": "v"})
    mounted = Path(podman("image", "mount", "localhost/local/made:1").strip())
    assert (mounted / "etc/motd").read_text() == "hello\n"
    podman("image", "umount", "localhost/local/made:1")


@pytest.mark.parametrize("archive", ["oci-archive", "oci-dir"])
def test_what_we_save_skopeo_finds_by_tag(
    loaded: ImageStore, run: Run, made: MadeImage, tmp_path: Path, archive: Format
) -> None:
    """`oci:DIR:TAG` and `oci-archive:FILE:TAG` name the image; its manifest is the one here."""
    loaded.save(["app:1"], str(tmp_path / "out"), archive=archive)
    transport = "oci" if archive == "oci-dir" else archive
    raw = run("skopeo", "inspect", "--raw", f"{transport}:{tmp_path / 'out'}:1")
    assert digest_of(raw.encode()) == loaded.resolve("app:1").digest


def test_layout_that_umoci_made_is_loaded(store: ImageStore, run: Run, tmp_path: Path) -> None:
    """An image that umoci built layer by layer, configuration included."""
    layout, bundle = tmp_path / "umoci", tmp_path / "bundle"
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:v1")
    run("umoci", "unpack", "--image", f"{layout}:v1", bundle)
    (bundle / "rootfs/etc").mkdir()
    (bundle / "rootfs/etc/made-by").write_text("umoci\n")
    run("umoci", "repack", "--image", f"{layout}:v1", bundle)
    run("umoci", "config", "--image", f"{layout}:v1", "--config.cmd", "ls", "--config.env", "A=b", "--config.user", "7")
    image = store.load(str(layout), name="umoci:v1")[0]
    assert image.config == {"command": ["ls"], "env": ["A=b"], "user": "7"}
    assert len(image.layers) == 1
    with store.open_layer(image.layers[0]) as stream:
        stream.verify()


def test_layout_that_we_saved_umoci_unpacks(loaded: ImageStore, run: Run, tmp_path: Path) -> None:
    """umoci verifies every digest of the layout and unpacks its files."""
    loaded.save(["app:1"], str(tmp_path / "layout"), archive="oci-dir")
    run("umoci", "unpack", "--image", f"{tmp_path / 'layout'}:1", tmp_path / "bundle")
    assert (tmp_path / "bundle/rootfs/hello").read_text() == "world\n"
