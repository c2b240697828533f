"""Layers for user namespaces where the kernel cannot map the ids of mounts: copies with the container's own owners."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral.engine import rootfs
from corral.errors import Unsupported
from corral.image.merging import is_whiteout
from corral.image.shifting import shifted_layer
from corral.image.tarwrite import Ids
from root.engine.conftest import Engine
from root.engine.test_root import USERNS, image, printed, run, shell

pytestmark = pytest.mark.requires("root", "busybox")

__all__ = ["image"]

MAPS = ([(0, 100000, 65536)], [(0, 200000, 65536)])


def test_copy_is_the_layer_with_other_owners(tmp_path: Path) -> None:
    """Modes, times, links, whiteouts, marks and capabilities too; made once."""
    layer = tmp_path / "abc" / "diff"
    (layer / "d").mkdir(parents=True, mode=0o710)
    (layer / "d" / "f").write_bytes(b"x" * 100_000)
    os.chown(layer / "d" / "f", 33, 34)
    (layer / "d" / "f").chmod(0o4755)
    os.link(layer / "d" / "f", layer / "same")
    (layer / "link").symlink_to("d")
    os.mknod(layer / "gone", 0o20000, 0)
    os.setxattr(layer / "d", "trusted.overlay.opaque", b"y")
    (layer / "ping").touch()
    os.setxattr(layer / "ping", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    path = Path(shifted_layer(str(tmp_path), str(layer), MAPS, Ids(*MAPS)))
    status = (path / "d" / "f").stat()
    assert (status.st_uid, status.st_gid, status.st_mode, status.st_nlink) == (100033, 200034, 0o104755, 2)
    assert status.st_mtime_ns == (layer / "d" / "f").stat().st_mtime_ns
    assert (path / "same").read_bytes() == b"x" * 100_000
    assert (os.readlink(path / "link"), (path / "link").lstat().st_uid) == ("d", 100000)
    assert is_whiteout((path / "gone").lstat())
    assert os.getxattr(path / "d", "trusted.overlay.opaque") == b"y"
    assert (path / "d").stat().st_mode == 0o40710
    # Version 3: they count in the namespace whose root is 100000.
    assert os.getxattr(path / "ping", "security.capability")[-4:] == (100000).to_bytes(4, "little")
    inode = path.stat().st_ino
    assert Path(shifted_layer(str(tmp_path), str(layer), MAPS, Ids(*MAPS))).stat().st_ino == inode


def test_container_of_copied_layers(engine: Engine, image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks as one with mapped ids does; the copies go with the layer."""
    monkeypatch.setattr(rootfs, "can_map", lambda _places: False)
    container = run(engine, image, "sh", "-c", "stat -c %u /etc/old /; echo x > /etc/new; cat /etc/name", **USERNS)
    assert engine.wait(container)["code"] == 0
    assert printed(engine, container) == [b"0", b"0", b"top"]
    assert [change["path"] for change in engine.call("diff", container)] == ["/etc", "/etc/new"]
    layers = Path(engine.places.layers)
    assert len(list(layers.glob(".shifted-*"))) == 2
    engine.call("rm", container)
    rootfs.layer_store(engine.places).gc(list)
    assert list(layers.glob(".shifted-*")) == []


def test_hosts_root_is_not_copied(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to do instead."""
    monkeypatch.setattr(rootfs, "can_map", lambda _places: False)
    container = engine.create("true", **USERNS)
    with pytest.raises(Unsupported, match="it is not copied"):
        engine.call("start", container)


def test_kernel_is_asked_once(engine: Engine, image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it can: the answer is remembered, and a container starts either way."""
    answer = rootfs.can_map(engine.places)
    monkeypatch.setattr(rootfs, "RootfsPlan", None)
    assert rootfs.can_map(engine.places) == answer
    monkeypatch.undo()
    container = run(engine, image, "sleep", "1000", **USERNS)
    assert shell(engine, container, "stat -c %u /etc/old") == "0\n"
