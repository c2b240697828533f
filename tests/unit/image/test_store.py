"""The image store: names, removal, leases, and what a sweep may take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from corral.errors import FailedPrecondition, Internal, InvalidArgument, NotFound, ResourceExhausted
from corral.image.digests import chain_ids
from corral.image.guard import Work
from corral.image.store import ImageStore
from unit.image.archives import docker_files, tar_of
from unit.image.fake_registry import MadeImage, digest_of, layer_tar, make_image

FIRST = make_image(layer_tar({"a": b"1"}), compress=bytes)
SECOND = make_image(layer_tar({"a": b"1"}), layer_tar({"b": b"2"}), compress=bytes)
SRC = Path(__file__).resolve().parents[3] / "src"


def add(store: ImageStore, made: MadeImage, *names: str) -> None:
    """Load the image under these names."""
    path = Path(f"{store.path}.tar")
    path.write_bytes(tar_of(docker_files(made, *names)))
    store.load(str(path))
    path.unlink()


@pytest.fixture
def filled(store: ImageStore) -> ImageStore:
    """FIRST as app:1 and quay.io/x/tool:1, SECOND as app:2."""
    add(store, FIRST, "app:1", "quay.io/x/tool:1")
    add(store, SECOND, "app:2")
    return store


@pytest.mark.parametrize(
    "text",
    ["app:1", "docker.io/library/app:1", "tool:1", "x/tool:1", FIRST.id, FIRST.id[7:19], f"sha256:{FIRST.id[7:13]}"],
)
def test_image_is_found_by_names_and_ids(filled: ImageStore, text: str) -> None:
    """Complete and short names, the end of a name, ids and their beginnings."""
    assert filled.resolve(text).id == FIRST.id


def test_image_is_found_by_its_manifests_digest(filled: ImageStore) -> None:
    """``repository@digest`` finds what has that digest."""
    image = filled.resolve("app:2")
    assert filled.resolve(f"app@{image.digest}").id == SECOND.id
    assert filled.resolve(image.digest).id == SECOND.id


@pytest.mark.parametrize("text", ["nope", "app:9", "0" * 64, "quay.io/app:1", f"app@sha256:{'0' * 64}"])
def test_absent_image_is_not_found(filled: ImageStore, text: str) -> None:
    """The hint says how to get it."""
    with pytest.raises(NotFound, match="not in the store") as caught:
        filled.resolve(text)
    assert f"corral pull {text}" in caught.value.hint


def test_name_that_cannot_be_one_is_refused(filled: ImageStore) -> None:
    """What is neither a name nor an id is an invalid argument, not an absent image."""
    with pytest.raises(InvalidArgument):
        filled.resolve("No Such Name")


def test_short_name_that_ends_several_is_refused(filled: ImageStore) -> None:
    """Two repositories with one ending have to be told apart, unless configuration does."""
    filled.tag("app:1", "a.b/team/thing:1")
    filled.tag("app:2", "c.d/team/thing:1")
    with pytest.raises(InvalidArgument, match="several images have a name that ends so") as caught:
        filled.resolve("team/thing:1")
    assert "a.b/team/thing:1, c.d/team/thing:1" in caught.value.hint


def test_configuration_decides_between_several(filled: ImageStore, own_configuration: Path) -> None:
    """The first search registry that has the name here counts."""
    own_configuration.write_text('unqualified-search-registries = ["c.d", "a.b"]\n')
    filled.tag("app:1", "a.b/team/thing:1")
    filled.tag("app:2", "c.d/team/thing:1")
    assert filled.resolve("team/thing:1").id == SECOND.id


def test_beginning_that_several_ids_have_is_refused(store: ImageStore) -> None:
    """An ambiguous prefix lists the candidates."""
    images = []
    for number in range(20):
        images.append(make_image(layer_tar({str(number): b""}), compress=bytes))
        add(store, images[-1])
    firsts = [image.id[7] for image in images]
    twice = next(letter for letter in firsts if firsts.count(letter) > 1)
    with pytest.raises(InvalidArgument, match=r"\d+ ids begin so"):
        store.resolve(twice)


def test_name_counts_before_an_id(filled: ImageStore) -> None:
    """A repository may be called like the beginning of an id."""
    filled.tag("app:2", f"docker.io/library/{FIRST.id[7:19]}")
    assert filled.resolve(FIRST.id[7:19]).id == SECOND.id


def test_tag_of_a_short_name_is_local(filled: ImageStore) -> None:
    """What is named here without a registry never passes for Docker Hub's."""
    assert filled.tag("app:1", "mine") == "localhost/mine:latest"
    assert filled.resolve("mine").id == FIRST.id
    assert filled.tag("app:2", "mine") == "localhost/mine:latest"
    assert filled.resolve("mine").id == SECOND.id


def test_image_tells_all_that_it_is(filled: ImageStore) -> None:
    """Names, layers with chain ids, size, history."""
    image = filled.resolve("app:2")
    assert image.names == ["docker.io/library/app:2"]
    assert [layer.chain_id for layer in image.layers] == chain_ids(SECOND.diff_ids)
    assert image.top_chain_id == chain_ids(SECOND.diff_ids)[-1]
    assert image.size_bytes == sum(map(len, SECOND.blobs().values()))
    assert filled.history("app:2")[0]["created_by"] == "COPY hello /"
    assert json.loads(json.dumps(image.to_json()))["config"] == {"command": ["/hello"]}


def test_list_has_the_newest_first_and_leaves_out_what_is_broken(filled: ImageStore) -> None:
    """One damaged image does not hide the others; it is told as a problem."""
    assert [image.id for image in filled.list()] == [SECOND.id, FIRST.id]
    os.unlink(filled.blobs.path(FIRST.id))
    assert [image.id for image in filled.list()] == [SECOND.id]
    assert [problem.kind for problem in filled.problems()] == ["not-found"]


def test_content_that_changed_on_disk_is_noticed(filled: ImageStore) -> None:
    """A config whose bytes rotted is an error that names the blob."""
    path = Path(filled.blobs.path(FIRST.id))
    path.chmod(0o600)
    path.write_bytes(b"{}")
    with pytest.raises(Internal, match="its content has changed on disk"):
        filled.resolve("app:1")


# ---- removal ------------------------------------------------------------------------------------------


def test_removing_one_of_several_names_keeps_the_image(filled: ImageStore) -> None:
    """Only the last name takes the image with it, and then its content goes."""
    assert filled.remove("app:1").untagged == ["docker.io/library/app:1"]
    assert filled.resolve("tool:1").id == FIRST.id
    removal = filled.remove("tool:1")
    assert (removal.deleted, removal.freed_bytes > 0) == ([FIRST.id], True)
    assert not filled.blobs.has(FIRST.id)
    assert filled.resolve("app:2").id == SECOND.id


def test_content_that_another_image_shares_stays(filled: ImageStore) -> None:
    """Removing one image leaves the layers of the others."""
    filled.remove(FIRST.id, force=True)
    assert filled.blobs.has(digest_of(FIRST.layers[0]))
    filled.remove("app:2")
    assert list(filled.blobs.entries()) == []


def test_removing_by_id_with_several_names_needs_force(filled: ImageStore) -> None:
    """An id stands for all names at once, which one has to mean."""
    with pytest.raises(FailedPrecondition, match="it has several names"):
        filled.remove(FIRST.id)
    assert sorted(filled.remove(FIRST.id, force=True).untagged) == ["docker.io/library/app:1", "quay.io/x/tool:1"]


def test_leased_image_is_not_removed(filled: ImageStore) -> None:
    """An image in use is refused by its users' names; a lease's end allows it."""
    filled.lease("container-1", "app:2")
    with pytest.raises(FailedPrecondition, match="in use by container-1"):
        filled.remove("app:2")
    filled.release("container-1")
    assert filled.remove("app:2").deleted == [SECOND.id]


def test_forced_removal_keeps_what_a_lease_needs(filled: ImageStore) -> None:
    """With force the name goes, and the content stays until the lease ends."""
    filled.lease("container-1", "app:2")
    filled.remove("app:2", force=True)
    with pytest.raises(NotFound):
        filled.resolve("app:2")
    assert filled.by_id(SECOND.id).config == {"command": ["/hello"]}
    assert filled.chains_in_use() >= set(chain_ids(SECOND.diff_ids))
    filled.release("container-1")
    filled.gc()
    with pytest.raises(NotFound):
        filled.by_id(SECOND.id)
    assert not filled.blobs.has(SECOND.id)


def test_leases_are_told_and_ended_with_their_owners(filled: ImageStore) -> None:
    """gc asks about each owner; those that are gone lose their lease."""
    filled.lease("container-1", "app:1")
    filled.lease("container-2", "app:2")
    filled.lease("container-2", "app:1")
    assert [(item.owner, item.image_id) for item in filled.leases()] == [
        ("container-1", FIRST.id),
        ("container-2", FIRST.id),
    ]
    filled.gc(lambda owner: owner == "container-2")
    assert [item.owner for item in filled.leases()] == ["container-2"]


@pytest.mark.parametrize("owner", ["", "../x", "a/b", ".x", "a b"])
def test_owner_is_only_ever_a_name(filled: ImageStore, owner: str) -> None:
    """An owner becomes a file's name."""
    with pytest.raises(InvalidArgument, match="owner"):
        filled.lease(owner, "app:1")


def test_prune_takes_the_nameless_and_everything_takes_the_unused(filled: ImageStore) -> None:
    """As `docker image prune`, and with -a."""
    filled.untag("app:2")
    filled.lease("container-1", "app:1")
    assert filled.prune().deleted == [SECOND.id]
    assert filled.prune(everything=True).deleted == []
    filled.release("container-1")
    assert filled.prune(everything=True).deleted == [FIRST.id]
    assert list(filled.blobs.entries()) == []


# ---- sweeping beside others ---------------------------------------------------------------------------


def test_sweep_leaves_what_work_under_way_wants(store: ImageStore) -> None:
    """A blob that a pull has said it wants survives, before and after it came; at the work's end it goes."""
    store.blobs.make_directories()
    with Work(store.path) as work:
        work.keep([digest_of(b"early")])
        store.blobs.put(b"early")
        store.blobs.put(b"nobody's")
        store.sweep()
        assert [digest for digest, _size in store.blobs.entries()] == [digest_of(b"early")]
    store.sweep()
    assert list(store.blobs.entries()) == []


def test_work_of_a_killed_process_keeps_nothing(store: ImageStore) -> None:
    """The kernel ends a dead puller's claim; the next sweep removes its file and its blobs."""
    script = (
        f"import sys, os, signal; sys.path.insert(0, {str(SRC)!r})\n"
        "from corral.image.guard import Work; from corral.image.store import ImageStore\n"
        f"store = ImageStore({store.path!r}); store.blobs.make_directories()\n"
        f"work = Work(store.path).__enter__(); work.keep([{digest_of(b'x')!r}]); store.blobs.put(b'x')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-ISE", "-c", script], timeout=60)
    assert len(os.listdir(f"{store.path}/work")) == 1
    store.gc()
    assert (os.listdir(f"{store.path}/work"), list(store.blobs.entries())) == ([], [])


def test_gc_removes_broken_transfers_that_nobody_goes_on_with(store: ImageStore) -> None:
    """A partial blob stays over a sweep, to be taken up again, and goes with gc."""
    store.blobs.make_directories()
    path = Path(store.blobs.partial_path(digest_of(b"abc")))
    path.write_bytes(b"a" * 5000)
    store.sweep()
    assert path.exists()
    assert store.gc() >= 5000
    assert not path.exists()


# ---- damage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}', '{"schema": 1, "names": {"a": "b"}, "images": {}}'])
def test_damaged_refs_are_named_and_nothing_is_swept(filled: ImageStore, text: str) -> None:
    """A truncated refs.json is an error with a way out; no content is thrown away because of it."""
    before = list(filled.blobs.entries())
    path = Path(f"{filled.path}/refs.json")
    path.write_text(text)
    with pytest.raises((InvalidArgument, FailedPrecondition), match=r"refs\.json"):
        filled.list()
    with pytest.raises((InvalidArgument, FailedPrecondition), match=r"refs\.json"):
        filled.gc()
    assert list(filled.blobs.entries()) == before


def test_refs_of_a_newer_version_are_left_alone(filled: ImageStore) -> None:
    """A schema from the future is refused, not rewritten."""
    path = Path(f"{filled.path}/refs.json")
    path.write_text('{"schema": 2}')
    with pytest.raises(FailedPrecondition, match="schema 2") as caught:
        filled.tag("app:1", "x")
    assert "newer version" in caught.value.hint


def test_full_disk_is_resource_exhausted(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC reads as what it is, with what to do, and leaves no half file."""
    import posix

    def full(_fd: int, _data: object) -> int:
        raise OSError(28, "No space left on device")

    store.blobs.make_directories()
    monkeypatch.setattr(posix, "write", full)
    with pytest.raises(ResourceExhausted, match="no space left on device") as caught:
        store.blobs.put(b"abc")
    assert "prune" in caught.value.hint
    assert os.listdir(f"{store.path}/ingest") == []


def test_store_is_the_owners_alone(filled: ImageStore) -> None:
    """Nobody else may look into the store."""
    modes = {oct(os.stat(path).st_mode & 0o777) for path, _folders, _files in os.walk(filled.path)}
    assert modes == {"0o700"}


def test_empty_store_is_no_directory(store: ImageStore) -> None:
    """Reading makes nothing."""
    assert (store.list(), store.leases()) == ([], [])
    assert not os.path.exists(store.path)
