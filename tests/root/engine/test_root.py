"""A container's root: its layers, what it writes, cp, diff and commit, running and stopped."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from corral.engine.places import Places
from corral.engine.rootfs import collect_layers, layer_store
from corral.errors import CorralError, FailedPrecondition, NotFound, Unsupported
from corral.image.compose import Making, add_image
from corral.image.store import ImageStore
from native.driver import make_rootfs
from root.engine.conftest import Engine
from unit.image.tars import archive, entry, folder

pytestmark = pytest.mark.requires("root", "busybox")

USERNS = {"namespaces": {"user": "private", "uid_map": [(0, 100000, 65536)], "gid_map": [(0, 100000, 65536)]}}


@pytest.fixture
def image(engine: Engine, tmp_path: Path) -> str:
    """An image of two layers: busybox, and one that changes it."""
    base = make_rootfs(tmp_path / "base")
    (base / "etc" / "old").write_text("old\n")
    (base / "etc" / "gone").write_text("gone\n")
    made = subprocess.run(
        ["tar", "-C", str(base), "--owner=0", "--group=0", "-cf", "-", "."], capture_output=True, check=True
    )
    top = archive(folder(b"etc"), entry(b"etc/.wh.gone"), entry(b"etc/name", b"top\n"), folder(b"opt"))
    store = ImageStore(engine.places.images)
    below = add_image(store, io.BytesIO(made.stdout), Making(name="base", config={"Env": ["PATH=/bin"]}))
    add_image(store, io.BytesIO(top), Making(name="test"), base=below)
    return "test"


@pytest.fixture(params=["running", "stopped", "userns-running", "userns-stopped"])
def container(request: pytest.FixtureRequest, engine: Engine, image: str) -> str:
    """A container of that image, which wrote something."""
    members: dict[str, Any] = USERNS if request.param.startswith("userns") else {}
    script = "echo new > /etc/new; rm /etc/old; mkdir -p /data/in; echo 1 > /data/in/f; ln -s /data /link; echo up"
    container_id = run(engine, image, "sh", "-c", f"{script}; exec sleep 1000", **members)
    while not engine.output(container_id):
        pass
    if request.param.endswith("stopped"):
        engine.call("stop", container_id, timeout_s=0)
    return container_id


def run(engine: Engine, image: str, *command: str, **members: Any) -> str:
    """Start a container of an image."""
    root = {"kind": "image", "image": image}
    return engine.run(*command, root=root, **members)


def printed(engine: Engine, container_id: str) -> list[bytes]:
    """The words that it wrote."""
    return b"\n".join(engine.output(container_id)).split()


def copy(engine: Engine, source: tuple[str, str | Path], target: tuple[str, str | Path], **how: bool) -> None:
    """`cp`; "" is the host."""
    ends = [{"container": end[0], "path": str(end[1])} for end in (source, target)]
    engine.call("cp", *ends, **how)


def shell(engine: Engine, container_id: str, script: str) -> str:
    """What a shell prints in the container, which is started if it is not running."""
    if not engine.look(container_id).is_live:
        engine.call("start", container_id)
    pid = engine.pid(container_id)
    words = ["nsenter", f"--target={pid}", "--all", "/bin/busybox", "sh", "-ec", script]
    done = subprocess.run(words, capture_output=True, text=True, env={"PATH": "/bin:/usr/bin"}, timeout=60)
    assert done.stderr == ""
    return done.stdout


def test_layers_make_the_root(engine: Engine, image: str) -> None:
    """Upper layers win, whiteouts hide; what is written is in the container's own directory."""
    script = "cat /etc/name /etc/old; ls /etc; echo x > /opt/written"
    container_id = run(engine, image, "sh", "-c", script)
    assert engine.wait(container_id)["code"] == 0
    shown = printed(engine, container_id)
    assert shown[:2] == [b"top", b"old"]
    assert b"gone" not in shown
    upper = Path(engine.places.container(container_id)) / "upper"
    assert (upper / "opt" / "written").read_text() == "x\n"


def test_root_is_in_no_mount_table_but_the_containers(engine: Engine, container: str) -> None:
    """Nothing to unmount, whatever happens to whom."""
    assert engine.places.store not in Path("/proc/self/mountinfo").read_text()


def test_ids_of_layers_are_mapped(engine: Engine, image: str) -> None:
    """Root of the user namespace owns the image's files; what it writes has its real id on disk."""
    container_id = run(engine, image, "sh", "-c", "stat -c %u /etc/old / && echo x > /etc/new", **USERNS)
    assert engine.wait(container_id)["code"] == 0
    assert printed(engine, container_id) == [b"0", b"0"]
    assert (Path(engine.places.container(container_id)) / "upper" / "etc" / "new").stat().st_uid == 100000


def test_diff_tells_what_was_written(engine: Engine, container: str) -> None:
    """And nothing of what the runtime made for mounts."""
    assert [f"{item['kind']} {item['path']}" for item in engine.call("diff", container)] == [
        "A /data", "A /data/in", "A /data/in/f", "C /etc", "A /etc/new", "D /etc/old", "A /link"
    ]  # fmt: skip


def test_diff_of_a_container_that_never_ran(engine: Engine, image: str) -> None:
    """Nothing."""
    container_id = engine.create("true", root={"kind": "image", "image": image})
    assert engine.call("diff", container_id) == []


def test_commit_makes_an_image_of_it(engine: Engine, container: str) -> None:
    """A container of that image has what the first one wrote, with its owners; the container runs on."""
    was_live = engine.look(container).is_live
    made = engine.call("commit", container, {"name": "second", "changes": ["ENV A=1", 'CMD ["sh"]'], "message": "m"})
    assert engine.look(container).is_live == was_live
    assert not was_live or engine.look(container).status == "running"
    # Both streams by one pipe: what comes by two has no order.
    script = "exec 2>&1; cat /etc/new /data/in/f; ls /etc/old; stat -c %u /etc/new; echo $A"
    other = run(engine, "second", "sh", "-c", script)
    engine.wait(other)
    shown = engine.output(other)
    assert shown[:2] == [b"new", b"1"]
    assert b"No such file" in shown[2]
    assert shown[3:5] == [b"0", b"1"]
    assert made["names"] == ["localhost/second:latest"]


def test_cp_to_the_host_follows_no_link_that_a_copy_brought(engine: Engine, container: str, tmp_path: Path) -> None:
    """A container cannot have its files written to where it wants by being copied twice."""
    outside, here = tmp_path / "outside", tmp_path / "here"
    outside.mkdir()
    here.mkdir()
    shell(engine, container, f"mkdir /e; ln -s {outside} /e/x")
    copy(engine, (container, "/e"), ("", here))
    assert (here / "e" / "x").is_symlink()
    shell(engine, container, "rm /e/x; mkdir /e/x; echo evil > /e/x/f")
    with pytest.raises(FailedPrecondition, match="is a link"):
        copy(engine, (container, "/e"), ("", here))
    assert os.listdir(outside) == []


def test_cp_to_the_host_brings_no_program_that_runs_as_root(engine: Engine, container: str, tmp_path: Path) -> None:
    """What belonged to a user of the container belongs to root here: its setuid bit stays behind."""
    shell(engine, container, "echo x > /p; chown 1000:1000 /p; chmod 6755 /p; echo y > /r; chmod 4755 /r")
    for name in ("p", "r"):
        copy(engine, (container, f"/{name}"), ("", tmp_path / name))
        status = (tmp_path / name).stat()
        assert (status.st_uid, status.st_mode & 0o7777) == (0, 0o755)
    copy(engine, (container, "/p"), ("", tmp_path / "kept"), is_archive=True)
    assert (tmp_path / "kept").stat().st_mode & 0o7777 == 0o6755


def test_commit_of_the_hosts_root_is_refused(engine: Engine) -> None:
    """It is no image; the error says what to do instead."""
    container_id = engine.create("true")
    with pytest.raises(FailedPrecondition, match="which is no image"):
        engine.call("commit", container_id, {"name": "x"})


def test_copy_into_a_container(engine: Engine, container: str, tmp_path: Path) -> None:
    """A file under its name and under another, a directory and its content; root's, unless archive says otherwise."""
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d" / "f").write_text("F\n")
    (source / "top").write_text("T\n")
    os.chown(source / "top", 1234, 1234)
    copy(engine, ("", source / "top"), (container, "/data"))
    copy(engine, ("", source / "top"), (container, "/data/renamed"))
    copy(engine, ("", source), (container, "/data"))
    copy(engine, ("", f"{source}/."), (container, "/data/content"))
    copy(engine, ("", source / "top"), (container, "/link/kept"), is_archive=True)
    script = "cd /data; cat top renamed source/d/f content/d/f; stat -c %u top kept renamed"
    assert shell(engine, container, script) == "T\nT\nF\nF\n0\n1234\n0\n"


def test_copy_out_of_a_container(engine: Engine, container: str, tmp_path: Path) -> None:
    """The same to the host, where what is new belongs to the caller; links are copied, or followed."""
    target = tmp_path / "target"
    target.mkdir()
    copy(engine, (container, "/data"), ("", target))
    copy(engine, (container, "/data/."), ("", target / "content"))
    copy(engine, (container, "/etc/new"), ("", target / "file"))
    copy(engine, (container, "/link"), ("", target))
    copy(engine, (container, "/link"), ("", target / "followed"), is_followed=True)
    names = sorted(str(path.relative_to(target)) for path in target.rglob("*"))
    assert names == [
        "content", "content/in", "content/in/f", "data", "data/in", "data/in/f", "file",
        "followed", "followed/in", "followed/in/f", "link",
    ]  # fmt: skip
    assert os.readlink(target / "link") == "/data"
    assert ((target / "file").read_text(), (target / "file").stat().st_uid) == ("new\n", 0)


def test_copy_as_a_tar_stream(engine: Engine, container: str, tmp_path: Path) -> None:
    """Out, with the name as the top of it, and in again."""
    with (tmp_path / "out.tar").open("wb") as file:
        engine.call("cp_to_tar", container, "/data", file.fileno())
    with tarfile.open(tmp_path / "out.tar") as made:
        assert [(info.name, info.uid) for info in made] == [("data", 0), ("data/in", 0), ("data/in/f", 0)]
    with (tmp_path / "out.tar").open("rb") as file:
        engine.call("cp_from_tar", file.fileno(), container, "/opt")
    assert shell(engine, container, "cat /opt/data/in/f") == "1\n"
    assert engine.call("cp_stat", container, "/link")["link"] == "/data"


def test_export_is_the_root_without_what_is_mounted_in_it(engine: Engine, container: str, tmp_path: Path) -> None:
    """What the image and the container have, owned as inside; of mounts the mount points alone; it can be imported."""
    with (tmp_path / "out.tar").open("wb") as file:
        engine.call("export", container, file.fileno())
    with tarfile.open(tmp_path / "out.tar") as made:
        found = {info.name: info for info in made}
        changed = made.extractfile("etc/new")
        assert changed is not None
        assert changed.read() == b"new\n"
    assert found["link"].linkname == "/data"
    assert {"etc/old", "etc/gone"} & set(found) == set()
    assert {(info.uid, info.gid) for name, info in found.items() if not name.startswith(("dev", "proc", "sys"))} == {
        (0, 0)
    }
    assert [name for name in found if name.startswith(("proc/", "sys/", "dev/"))] == []
    assert found["etc/hosts"].size == 0
    assert engine.events(container)[-1] == "export"


@pytest.mark.parametrize(
    ("source", "target", "kind"),
    [
        (("c", "/missing"), ("", "{tmp}"), NotFound),
        (("c", "/etc/new/"), ("", "{tmp}"), FailedPrecondition),
        (("c", "/data"), ("", "{tmp}/file"), FailedPrecondition),
        (("", "{tmp}/file"), ("c", "/missing/"), NotFound),
        (("", "{tmp}/file"), ("c", "/missing/deep/x"), NotFound),
        (("", "{tmp}/missing"), ("c", "/"), NotFound),
        (("", "{tmp}"), ("c", "/etc/new"), FailedPrecondition),
    ],
    ids=["no-source", "no-directory", "onto-file", "no-target", "no-parent", "no-host-file", "into-file"],
)
def test_impossible_copies_are_refused(
    engine: Engine,
    image: str,
    tmp_path: Path,
    source: tuple[str, str],
    target: tuple[str, str],
    kind: type[CorralError],
) -> None:
    """In words; nothing is made."""
    container = run(engine, image, "sh", "-c", "echo 1 > /etc/new; mkdir /data; echo up; exec sleep 1000")
    while not engine.output(container):
        pass
    (tmp_path / "file").write_text("x")
    ends = [(container if end[0] else "", end[1].format(tmp=tmp_path)) for end in (source, target)]
    with pytest.raises(kind):
        copy(engine, ends[0], ends[1])


def test_copy_never_leaves_a_hostile_container(engine: Engine, image: str, tmp_path: Path) -> None:
    """Links of the container that point to the host's files mean its own (CVE-2018-15664, CVE-2019-14271)."""
    secret = tmp_path / "secret"
    secret.write_text("host\n")
    script = f"mkdir -p {tmp_path}; echo inside > {secret}; ln -s {tmp_path} /esc; ln -s {secret} /esc-file; echo up"
    container = run(engine, image, "sh", "-c", f"{script}; exec sleep 1000")
    while not engine.output(container):
        pass
    (tmp_path / "evil").write_text("evil\n")
    copy(engine, ("", tmp_path / "evil"), (container, "/esc/secret"))
    copy(engine, (container, "/esc-file"), ("", tmp_path / "got"), is_followed=True)
    assert secret.read_text() == "host\n"
    assert (tmp_path / "got").read_text() == "evil\n"


def test_container_is_not_started_while_its_root_is_copied_to(engine: Engine, image: str) -> None:
    """One mount per upper directory: whoever comes second waits for the lease."""
    from corral.engine.access import open_container

    container = engine.create("true", root={"kind": "image", "image": image})
    tree, _path = open_container(engine.places, container, "/")
    with tree:
        assert engine.look(container).state["leases"].keys() == {"commit"}
    assert "leases" not in engine.look(container).state


def test_layers_of_a_container_survive_gc(engine: Engine, image: str) -> None:
    """Its image is leased, so its layers stay; without container and image they go."""
    container = run(engine, image, "sleep", "1000")
    ImageStore(engine.places.images).remove(image, force=True)
    ImageStore(engine.places.images).remove("base", force=True)
    collect_layers(engine.places)
    assert shell(engine, container, "cat /etc/name") == "top\n"
    engine.call("rm", container, force=True)
    collect_layers(engine.places)
    assert layer_store(engine.places).snapshots() == []


def test_layers_of_a_mounted_image_stay_until_its_container_goes(engine: Engine, image: str) -> None:
    """Whatever becomes of the image; then gc takes them."""
    mount = {"type": "image", "source": image, "target": "/mnt"}
    container = engine.run("sleep", "1000", mounts=[mount])
    for name in (image, "base"):
        ImageStore(engine.places.images).remove(name, force=True)
    engine.call("gc")
    assert shell(engine, container, "cat /mnt/etc/name") == "top\n"
    engine.call("rm", container, force=True)
    assert "layers" in [row["id"] for row in engine.call("gc")]
    assert layer_store(engine.places).snapshots() == []


def test_prune_frees_unpacked_layers_as_well(engine: Engine, image: str) -> None:
    """What an image takes up is more than its blobs."""
    engine.wait(run(engine, image, "true"))
    unpacked = layer_store(engine.places).usage_bytes()
    assert unpacked > 0
    assert engine.call("system_prune", is_all=True)["freed_bytes"] >= unpacked
    assert layer_store(engine.places).snapshots() == []


def test_capabilities_and_devices_are_unpacked(engine: Engine, tmp_path: Path) -> None:
    """As root: owners, device nodes, file capabilities."""
    from unit.image.tars import pax

    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    data = archive(
        pax((b"SCHILY.xattr.security.capability", capability)),
        entry(b"ping", b"x", uid=b"0000005\0", gid=b"0000006\0", mode=b"0000755\0"),
        entry(b"null", type=b"3", major=b"0000001\0", minor=b"0000003\0", mode=b"0000666\0"),
        entry(b"disk", type=b"4", major=b"0000007\0", minor=b"0000000\0"),
    )
    store = ImageStore(engine.places.images)
    made = add_image(store, io.BytesIO(data), Making(name="devices"))
    path = Path(layer_store(engine.places).ensure(made.layers, store.open_layer)[0])
    status = (path / "ping").stat()
    assert (status.st_uid, status.st_gid, os.getxattr(path / "ping", "security.capability")) == (5, 6, capability)
    assert ((path / "null").stat().st_rdev, (path / "null").stat().st_mode) == (os.makedev(1, 3), 0o20666)
    assert (path / "disk").stat().st_rdev == os.makedev(7, 0)


def test_image_with_a_wrong_layer_starts_nothing(engine: Engine, image: str) -> None:
    """What cannot be unpacked leaves neither container nor layer."""
    store = ImageStore(engine.places.images)
    add_image(store, io.BytesIO(archive(entry(b"../evil"))), Making(name="hostile"))
    with pytest.raises(CorralError, match="'\\.\\.' in it"):
        run(engine, "hostile", "true")
    assert not Path(engine.places.layers, "evil").exists()


def test_host_container_does_not_see_the_store(engine: Engine) -> None:
    """It lies in the layer, with the files of all other containers."""
    container_id = engine.run("ls", "-A", engine.places.store)
    assert engine.wait(container_id)["code"] == 0
    assert engine.output(container_id) == []


def test_size_limit_where_the_file_system_has_none_is_refused(engine: Engine) -> None:
    """In words; a container without its limit is not started."""
    container_id = engine.create("true", storage_bytes=1 << 20)
    with pytest.raises(Unsupported, match="limit the size of container") as caught:
        engine.call("start", container_id)
    assert "prjquota" in caught.value.hint


def test_host_container_does_not_see_the_store_when_a_link_leads_to_it(engine: Engine, tmp_path: Path) -> None:
    """As with /var/lib/corral on another disc."""
    real = engine.places.store
    (tmp_path / "link").symlink_to(real)
    other = Engine(Places(str(tmp_path / "link"), engine.places.run))
    container_id = other.run("ls", "-A", real)
    assert other.wait(container_id)["code"] == 0
    assert other.output(container_id) == []
