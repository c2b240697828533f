"""Debian's docker-registry and skopeo: what one pushes the other pulls, with TLS, passwords and without."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from corral.errors import CorralError, InvalidArgument, PermissionDenied, Unavailable
from corral.image.compose import Making
from corral.image.credentials import Credentials
from corral.image.login import login, logout
from corral.image.manifest import DOCKER_MANIFEST, OCI_MANIFEST
from corral.image.progress import Progress
from corral.image.pull import Access
from corral.image.store import ImageStore
from peers.conftest import PLAIN, Run
from peers.registry import PASSWORD, USER, PeerRegistry, manifest_type
from unit.image.archives import oci_files, tar_of, write_folder
from unit.image.fake_registry import MadeImage, digest_of, layer_tar, make_image

pytestmark = pytest.mark.requires("docker-registry", "skopeo", "htpasswd", "openssl")


@pytest.fixture
def layout(tmp_path: Path, made: MadeImage) -> Path:
    """``made`` as an OCI layout with the tag v1."""
    return write_folder(tmp_path / "layout", oci_files(made, org__opencontainers__image__ref__name="v1"))


def assert_whole(store: ImageStore, name: str, made: MadeImage) -> None:
    """The image is ``made``, down to the last byte of its layers."""
    image = store.resolve(name)
    assert (image.id, [layer.diff_id for layer in image.layers]) == (made.id, made.diff_ids)
    for layer in image.layers:
        with store.open_layer(layer) as stream:
            stream.verify()


@pytest.mark.parametrize(("form", "media_type"), [("oci", OCI_MANIFEST), ("v2s2", DOCKER_MANIFEST)])
def test_what_skopeo_pushed_is_pulled(
    store: ImageStore, plain_registry: PeerRegistry, run: Run, layout: Path, form: str, media_type: str
) -> None:
    """OCI manifests and Docker's schema 2, from a real registry."""
    name = f"{plain_registry.host}/from-skopeo/{form}:v1"
    run("skopeo", "copy", "-q", "--dest-tls-verify=false", "--format", form, f"oci:{layout}:v1", f"docker://{name}")
    image = store.pull(name, access=PLAIN)
    assert image.manifest.media_type == media_type
    assert manifest_type(plain_registry, f"from-skopeo/{form}", "v1") == media_type
    for layer in image.layers:
        with store.open_layer(layer) as stream:
            stream.verify()


def test_what_we_pushed_skopeo_pulls(
    store: ImageStore, plain_registry: PeerRegistry, run: Run, layout: Path, made: MadeImage, tmp_path: Path
) -> None:
    """skopeo finds the digest that push returned, and each blob of it."""
    store.load(str(layout), name="app")
    name = f"{plain_registry.host}/from-corral/app:v2"
    digest = store.push("app", name, access=PLAIN)
    found = json.loads(run("skopeo", "inspect", "--tls-verify=false", f"docker://{name}"))
    assert found["Digest"] == digest
    assert found["Layers"] == [digest_of(data) for data in made.layers]
    run("skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{name}", f"dir:{tmp_path / 'copy'}")
    assert (tmp_path / "copy/manifest.json").read_bytes() == made.manifest


def test_plain_layers_arrive_compressed(
    store: ImageStore, plain_registry: PeerRegistry, run: Run, tmp_path: Path
) -> None:
    """An image loaded without compression is pushed with it, and is the same image for the next one."""
    made = make_image(layer_tar({"zeros": bytes(500_000)}), compress=bytes)
    store.load(str(write_folder(tmp_path / "layout", oci_files(made))), name="plain")
    name = f"{plain_registry.host}/from-corral/plain:1"
    store.push("plain", name, access=PLAIN)
    found = json.loads(run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}"))
    assert found["layers"][0]["size"] < 10_000
    other = ImageStore(str(tmp_path / "other"))
    other.pull(name, access=PLAIN)
    assert_whole(other, name, made)


def test_zstd_layers_are_pulled_and_pushed(
    store: ImageStore, plain_registry: PeerRegistry, run: Run, made: MadeImage, tmp_path: Path, layout: Path
) -> None:
    """Layers that skopeo compressed with zstd are read, and pushed on as they are."""
    first, second = f"{plain_registry.host}/zstd/one:1", f"{plain_registry.host}/zstd/two:1"
    compress = ("--dest-compress-format", "zstd", "--dest-compress")
    run(
        "skopeo",
        "copy",
        "-q",
        "--dest-tls-verify=false",
        "--format",
        "oci",
        *compress,
        f"oci:{layout}:v1",
        f"docker://{first}",
    )
    image = store.pull(first, access=PLAIN)
    assert [layer.diff_id for layer in image.layers] == made.diff_ids
    store.push(first, second, access=PLAIN)
    other = ImageStore(str(tmp_path / "other"))
    assert other.pull(second, access=PLAIN).digest == image.digest


def test_image_of_docker_is_the_base_of_an_oci_image(
    store: ImageStore, plain_registry: PeerRegistry, run: Run, layout: Path, made: MadeImage, tmp_path: Path
) -> None:
    """A layer on top of a schema 2 image: peers read the manifest that comes of it, and convert it."""
    first, second = f"{plain_registry.host}/base/v2s2:1", f"{plain_registry.host}/base/committed:1"
    run("skopeo", "copy", "-q", "--dest-tls-verify=false", "--format", "v2s2", f"oci:{layout}:v1", f"docker://{first}")
    base = store.pull(first, access=PLAIN)
    top = layer_tar({"top": b"1"})
    store.commit(io.BytesIO(top), Making(second), base=base)
    store.push(second, access=PLAIN)
    target = f"docker-archive:{tmp_path / 'out.tar'}:committed:1"
    run("skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{second}", target)
    other = ImageStore(str(tmp_path / "other"))
    assert [layer.diff_id for layer in other.load(str(tmp_path / "out.tar"))[0].layers] == [
        *made.diff_ids,
        digest_of(top),
    ]


def test_blobs_are_mounted_between_repositories(store: ImageStore, plain_registry: PeerRegistry, layout: Path) -> None:
    """A second repository of a real registry gets the blobs without their being sent again."""
    store.load(str(layout), name="app")
    store.push("app", f"{plain_registry.host}/mount/first:1", access=PLAIN)
    seen: list[Progress] = []
    store.push("app", f"{plain_registry.host}/mount/second:1", access=PLAIN, on_progress=seen.append)
    assert {item.state for item in seen} == {"present"}


def test_login_opens_a_registry_with_tls_and_password(
    store: ImageStore, trusted: PeerRegistry, run: Run, layout: Path, made: MadeImage, tmp_path: Path, own_home: Path
) -> None:
    """The authority of certs.d, credentials by login, push, pull; skopeo reads the same file."""
    store.load(str(layout), name="app")
    name = f"{trusted.host}/private/app:1"
    with pytest.raises(PermissionDenied) as caught:
        store.push("app", name)
    assert "corral login" in caught.value.hint
    where = login(trusted.host, Credentials(USER, PASSWORD))
    assert where == str(own_home / "run/containers/auth.json")
    store.push("app", name)
    other = ImageStore(str(tmp_path / "other"))
    other.pull(name)
    assert_whole(other, name, made)
    run("skopeo", "inspect", "--authfile", where, "--cert-dir", str(trusted.certificates), f"docker://{name}")
    logout(trusted.host)
    with pytest.raises(PermissionDenied):
        other.pull(name, policy="always")


def test_credentials_that_skopeo_stored_are_used(
    store: ImageStore, trusted: PeerRegistry, run: Run, layout: Path, own_home: Path
) -> None:
    """`skopeo login` and `corral login` are one."""
    authfile = own_home / "run/containers/auth.json"
    arguments = ("--authfile", authfile, "--cert-dir", str(trusted.certificates), "-u", USER, "--password-stdin")
    run("skopeo", "login", *arguments, trusted.host, data=PASSWORD.encode())
    store.load(str(layout), name="app")
    store.push("app", f"{trusted.host}/private/by-skopeo:1")


def test_wrong_password_is_refused_and_not_shown(store: ImageStore, trusted: PeerRegistry) -> None:
    """Login says that the password is wrong, not which one it was."""
    with pytest.raises(PermissionDenied, match="user name or password is wrong") as caught:
        login(trusted.host, Credentials(USER, "wr0ng-one"))
    assert "wr0ng-one" not in f"{caught.value.message}{caught.value.hint}"


@pytest.mark.parametrize("is_verified", [None, True])
def test_unknown_authority_is_not_trusted(
    store: ImageStore, secure_registry: PeerRegistry, is_verified: bool | None
) -> None:
    """Without the authority's certificate nothing is sent, and the hint names certs.d."""
    access = Access(Credentials(USER, PASSWORD), is_verified=is_verified)
    with pytest.raises(Unavailable, match="tls") as caught:
        store.pull(f"{secure_registry.host}/private/app:1", access=access)
    assert "certs.d" in caught.value.hint


def test_unknown_authority_is_accepted_where_it_is_said(
    store: ImageStore, secure_registry: PeerRegistry, layout: Path
) -> None:
    """--tls-verify=false."""
    store.load(str(layout), name="app")
    access = Access(Credentials(USER, PASSWORD), is_verified=False)
    store.push("app", f"{secure_registry.host}/private/unverified:1", access=access)


def test_certificate_that_is_none_is_named(store: ImageStore, secure_registry: PeerRegistry, own_home: Path) -> None:
    """A damaged file in certs.d is told by its path."""
    folder = own_home / ".config/containers/certs.d" / secure_registry.host
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_text("no certificate")
    with pytest.raises(InvalidArgument, match="not a certificate") as caught:
        store.pull(f"{secure_registry.host}/a:1")
    assert str(folder / "ca.crt") in caught.value.message


def test_many_pulls_of_one_image_from_several_stores_and_threads(
    plain_registry: PeerRegistry, run: Run, layout: Path, made: MadeImage, tmp_path: Path
) -> None:
    """Twelve pulls at once into three stores: each store is whole, and nothing is left over."""
    name = f"{plain_registry.host}/many/app:1"
    run("skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{layout}:v1", f"docker://{name}")
    stores = [ImageStore(str(tmp_path / f"store{number}")) for number in range(3)]
    with ThreadPoolExecutor(12) as pool:
        images = list(pool.map(lambda number: stores[number % 3].pull(name, access=PLAIN), range(12)))
    assert {image.id for image in images} == {made.id}
    for store in stores:
        assert_whole(store, name, made)
        assert store.gc() == 0


def test_archive_goes_through_a_pipe_of_docker_save(store: ImageStore, run: Run, tmp_path: Path, layout: Path) -> None:
    """What skopeo writes as a docker-archive is loaded from a descriptor."""
    run("skopeo", "copy", "-q", f"oci:{layout}:v1", f"docker-archive:{tmp_path / 'a.tar'}:app:1")
    with open(tmp_path / "a.tar", "rb") as file:
        assert store.load(file.fileno())[0].names == ["docker.io/library/app:1"]


def test_unknown_repository_is_told_apart_from_an_unreachable_one(
    store: ImageStore, plain_registry: PeerRegistry
) -> None:
    """The registry's own words, and its status."""
    with pytest.raises(CorralError, match=r"http 404") as caught:
        store.pull(f"{plain_registry.host}/no/such:1", access=PLAIN)
    assert caught.value.kind == "not-found"


def test_tar_of_a_rootfs_is_not_loaded(store: ImageStore, tmp_path: Path) -> None:
    """The error leads to import."""
    (tmp_path / "rootfs.tar").write_bytes(tar_of({"bin/sh": b""}))
    with pytest.raises(InvalidArgument) as caught:
        store.load(str(tmp_path / "rootfs.tar"))
    assert "corral import" in caught.value.hint
