"""Images made here: imported, committed, changed by instructions."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from corral.errors import InvalidArgument, NotFound
from corral.image.compose import Making
from corral.image.instructions import apply_changes
from corral.image.platforms import host_platform
from corral.image.store import ImageStore
from unit.image.archives import read_tar
from unit.image.fake_registry import digest_of, layer_tar

ROOTFS = layer_tar({"bin/sh": b"#!", "etc/hosts": b""})


def content_of(store: ImageStore, name: str, number: int = -1) -> dict[str, bytes]:
    """The files of one of the image's layers."""
    with store.open_layer(store.resolve(name).layers[number]) as stream:
        data = b"".join(iter(lambda: stream.read(1 << 20), b""))
        stream.verify()
    return read_tar(data)


def test_imported_tar_is_an_image_of_one_layer(store: ImageStore, tmp_path: Path) -> None:
    """Content, config, history, platform: as `podman import` does."""
    path = tmp_path / "rootfs.tar"
    path.write_bytes(ROOTFS)
    making = Making(name="mine:1", changes=["CMD /bin/sh"], message="from a tar", author="me")
    image = store.import_(str(path), making)
    assert image.names == ["localhost/mine:1"]
    assert [layer.diff_id for layer in image.layers] == [digest_of(ROOTFS)]
    assert image.config == {"command": ["/bin/sh", "-c", "/bin/sh"]}
    assert (image.platform.architecture, image.config_file.author) == (host_platform().architecture, "me")
    assert image.config_file.history()[0]["comment"] == "from a tar"
    assert content_of(store, "mine:1") == {"bin/sh": b"#!", "etc/hosts": b""}


def test_directory_is_imported_with_its_content(store: ImageStore, tmp_path: Path) -> None:
    """A directory's files, not the directory, are the root."""
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/hosts").write_bytes(b"x")
    store.import_(str(tmp_path / "root"), Making(name="mine"))
    assert content_of(store, "mine")["etc/hosts"] == b"x"


def test_descriptor_is_imported_and_left_open(store: ImageStore) -> None:
    """A pipe or a file that somebody else opened."""
    fd = os.memfd_create("rootfs")
    os.write(fd, ROOTFS)
    os.lseek(fd, 0, os.SEEK_SET)
    image = store.import_(fd, Making())
    os.close(fd)
    assert (image.names, image.layers[0].diff_id) == ([], digest_of(ROOTFS))


def test_layer_is_stored_compressed(store: ImageStore) -> None:
    """What is made here takes the room that it takes when it is sent."""
    image = store.commit(io.BytesIO(layer_tar({"zeros": bytes(1 << 20)})), Making(name="z"))
    assert image.layers[0].media_type.endswith("+gzip")
    assert image.size_bytes < 100_000


def test_commit_puts_a_layer_on_its_base(store: ImageStore) -> None:
    """The base's layers, history and config stay; what is new counts over them."""
    base = store.commit(io.BytesIO(ROOTFS), Making(name="base", changes=["ENV A=1 B=2", "USER me"], author="first"))
    top = layer_tar({"new": b"file"})
    making = Making("app", ["ENV B=3", 'LABEL k="v w"'], "added", "second", created_by="/bin/sh")
    image = store.commit(io.BytesIO(top), making, base=base)
    assert [layer.diff_id for layer in image.layers] == [digest_of(ROOTFS), digest_of(top)]
    assert image.config == {"env": ["A=1", "B=3"], "user": "me", "labels": {"k": "v w"}}
    assert [entry["author"] for entry in image.config_file.history()] == ["first", "second"]
    assert image.config_file.history()[-1]["created_by"] == "/bin/sh"
    store.remove("base")
    assert content_of(store, "app", 0) == {"bin/sh": b"#!", "etc/hosts": b""}


def test_change_without_a_layer_is_an_empty_step(store: ImageStore) -> None:
    """A config alone can be changed; the history says that the step has no layer."""
    base = store.commit(io.BytesIO(ROOTFS), Making(name="base"))
    image = store.commit(None, Making(name="app", changes=["CMD ls"]), base=base)
    assert len(image.layers) == 1
    assert [entry["empty_layer"] for entry in image.config_file.history()] == [False, True]


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "there is nothing to read"),
        (b"hello\n", "read the tar archive: it ends within a header"),
        (layer_tar({"etc/file": b"x" * 3000})[:2000], "read the tar archive: it ends within a file's content"),
    ],
    ids=["empty", "no tar", "cut off"],
)
def test_import_of_what_is_no_archive_makes_no_image(
    store: ImageStore, tmp_path: Path, content: bytes, cause: str
) -> None:
    """Said at once, not when a container is started of it; an archive of nothing is one."""
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InvalidArgument) as caught:
        store.import_(str(tmp_path / "file"), Making(name="bad"))
    assert str(caught.value) == f"import the root filesystem: {cause}"
    assert "corral load" in str(caught.value.hint)
    assert store.list() == []
    (tmp_path / "file").write_bytes(bytes(10240))
    assert store.import_(str(tmp_path / "file"), Making()).size_bytes > 0


def test_import_of_nothing_is_not_found(store: ImageStore) -> None:
    """A path that leads nowhere; a name that cannot be one."""
    with pytest.raises(NotFound, match="import /nowhere: no such file"):
        store.import_("/nowhere", Making())
    with pytest.raises(InvalidArgument, match="image reference"):
        store.commit(None, Making(name="No Name"))


@pytest.mark.parametrize(
    ("change", "result"),
    [
        ('CMD ["ls", "-l"]', {"Cmd": ["ls", "-l"]}),
        ("cmd ls -l", {"Cmd": ["/bin/sh", "-c", "ls -l"]}),
        ("CMD=/bin/x", {"Cmd": ["/bin/sh", "-c", "/bin/x"]}),
        ('ENTRYPOINT ["/init"]', {"Entrypoint": ["/init"]}),
        ("ENV A=1 B='x y'", {"Env": ["OLD=1", "A=1", "B=x y"]}),
        ("ENV OLD new value", {"Env": ["OLD=new value"]}),
        ("ENV A=b=c", {"Env": ["OLD=1", "A=b=c"]}),
        ("LABEL a=1 b=2", {"Labels": {"a": "1", "b": "2"}}),
        ("EXPOSE 80 53/udp 1000-1001", {"ExposedPorts": {"80/tcp": {}, "53/udp": {}, "1000/tcp": {}, "1001/tcp": {}}}),
        ("VOLUME /a /b", {"Volumes": {"/a": {}, "/b": {}}}),
        ('VOLUME ["/a b"]', {"Volumes": {"/a b": {}}}),
        ("USER 1000:10", {"User": "1000:10"}),
        ("WORKDIR /srv", {"WorkingDir": "/srv"}),
        ("WORKDIR sub", {"WorkingDir": "/old/sub"}),
        ("STOPSIGNAL SIGINT", {"StopSignal": "SIGINT"}),
        ("ONBUILD RUN x", {"OnBuild": ["RUN x"]}),
        ("HEALTHCHECK NONE", {"Healthcheck": {"Test": ["NONE"]}}),
        (
            "HEALTHCHECK --interval=1m30s --retries=2 CMD curl -f x",
            {"Healthcheck": {"Interval": 90_000_000_000, "Retries": 2, "Test": ["CMD-SHELL", "curl -f x"]}},
        ),
        (
            'HEALTHCHECK --timeout=1.5s CMD ["a", "b"]',
            {"Healthcheck": {"Timeout": 1_500_000_000, "Test": ["CMD", "a", "b"]}},
        ),
    ],
)
def test_instruction_changes_the_config(change: str, result: dict[str, object]) -> None:
    """Each instruction as in a Dockerfile, in both of its forms; the given config is left as it was."""
    before: dict[str, object] = {"Env": ["OLD=1"], "WorkingDir": "/old"}
    assert apply_changes(before, [change]) == {**before, **result}
    assert before == {"Env": ["OLD=1"], "WorkingDir": "/old"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("RUN make", "'RUN' is no instruction for this"),
        ("", "is no instruction"),
        ("CMD", "nothing follows CMD"),
        ("CMD [1]", "not an array of strings"),
        ("CMD [", "not a JSON array"),
        ("ENV A=1 B", "'B' is not NAME=VALUE"),
        ("ENV A='1", "no closing quotation"),
        ("EXPOSE http", "is not PORT"),
        ("EXPOSE 99999", "is not PORT"),
        ("HEALTHCHECK ls", "neither CMD and a command nor NONE"),
        ("HEALTHCHECK --interval=soon CMD ls", "'soon' is not a duration"),
        ("HEALTHCHECK --often CMD ls", "'--often' is no option of HEALTHCHECK"),
    ],
)
def test_instruction_that_makes_no_sense_is_refused(change: str, words: str) -> None:
    """The message quotes the change and says what is wrong with it."""
    with pytest.raises(InvalidArgument, match=words):
        apply_changes({}, [change])
