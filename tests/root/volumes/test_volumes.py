"""Volumes with real containers: what outlives them, what they get from the image, what goes with them."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from native.driver import make_rootfs
from root.cli.conftest import Cli
from root.engine.conftest import engine

__all__ = ["engine"]

pytestmark = [pytest.mark.requires("root", "cc", "busybox"), pytest.mark.timeout(300)]


@pytest.fixture
def cli(engine: object) -> Cli:
    """The program, on the test's store."""
    return Cli(engine)  # type: ignore[arg-type]


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """A root filesystem with a directory of another owner, which has a file."""
    root = make_rootfs(tmp_path / "base")
    folder = root / "srv" / "data"
    folder.mkdir(parents=True)
    (folder / "seed").write_text("seed\n")
    os.chown(folder / "seed", 7, 8)
    os.chown(folder, 9, 10)
    folder.chmod(0o2751)
    return root


def run(cli: Cli, *words: str) -> str:
    return cli("run", "--rm", "--network", "none", *words).stdout


def test_named_volume_outlives_its_containers(cli: Cli) -> None:
    """It is made by the first that names it, and has its content for the next."""
    run(cli, "-v", "data:/mnt", "host", "sh", "-c", "echo kept > /mnt/file")
    assert run(cli, "-v", "data:/mnt:ro", "host", "cat", "/mnt/file") == "kept\n"
    assert cli("volume", "ls", "-q").stdout == "data\n"


def test_anonymous_volume_goes_with_rm_and_stays_without(cli: Cli) -> None:
    """As Docker: `run --rm` and `rm -v` take it along, `rm` does not."""
    run(cli, "-v", "/mnt", "host", "true")
    assert cli("volume", "ls", "-q").stdout == ""
    for words, left in (("-v",), 0), ((), 1):
        made = cli("create", "-v", "/mnt", "--network", "none", "host", "true").stdout.strip()
        cli("rm", *words, made)
        assert len(cli("volume", "ls", "-q").stdout.split()) == left


@pytest.mark.parametrize("words", [(), ("--userns", "auto")], ids=["plain", "user namespace"])
def test_fresh_volume_is_filled_from_the_image(cli: Cli, rootfs: Path, words: tuple[str, ...]) -> None:
    """With owners and modes, of the directory too, as they are seen inside; once only, and not with nocopy."""
    look = ("busybox", "stat", "-c", "%n %u:%g %a", "/srv/data", "/srv/data/seed")
    seen = run(cli, *words, "-v", "v:/srv/data", "--rootfs", f"{rootfs}:O", "--", *look)
    assert seen == "/srv/data 9:10 2751\n/srv/data/seed 7:8 644\n"
    run(cli, "-v", "v:/srv/data", "--rootfs", f"{rootfs}:O", "--", "busybox", "rm", "/srv/data/seed")
    again = run(cli, "-v", "v:/srv/data", "--rootfs", f"{rootfs}:O", "--", "busybox", "ls", "/srv/data")
    assert again == ""
    bare = run(cli, "-v", "w:/srv/data:nocopy", "--rootfs", f"{rootfs}:O", "--", "busybox", "ls", "/srv/data")
    assert bare == ""


def test_link_in_the_image_does_not_lead_out_of_it(cli: Cli, rootfs: Path) -> None:
    """A target whose way is a link to /etc copies the image's /etc, never this host's."""
    (rootfs / "etc" / "mine").write_text("image\n")
    (rootfs / "lure").symlink_to("/etc")
    run(cli, "-v", "v:/lure", "--rootfs", f"{rootfs}:O", "--", "busybox", "true")
    path = Path(json.loads(cli("volume", "inspect", "v").stdout)[0]["path"])
    assert (path / "mine").read_text() == "image\n"
    assert not (path / "shadow").exists()


def test_option_u_gives_a_file_to_the_user(cli: Cli, tmp_path: Path) -> None:
    """A bind of a file keeps its mode."""
    path = tmp_path / "secret"
    path.write_text("x")
    path.chmod(0o640)
    assert run(cli, "-v", f"{path}:/mnt/secret:U", "--user", "12:34", "host", "cat", "/mnt/secret") == "x"
    assert (path.stat().st_uid, path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (12, 34, 0o640)


def test_option_u_gives_the_volume_to_the_user(cli: Cli) -> None:
    """The whole tree, to the ids that the container's user has."""
    run(cli, "-v", "v:/mnt", "host", "sh", "-c", "mkdir /mnt/a; touch /mnt/a/b")
    run(cli, "-v", "v:/mnt:U", "--user", "12:34", "host", "true")
    path = Path(json.loads(cli("volume", "inspect", "v").stdout)[0]["path"])
    assert {(item.stat().st_uid, item.stat().st_gid) for item in (path, path / "a", path / "a" / "b")} == {(12, 34)}


def test_volume_can_be_a_filesystem_or_a_directory_elsewhere(cli: Cli, tmp_path: Path) -> None:
    """Mounted in the container alone; the host's mounts are as before."""
    there = tmp_path / "there"
    there.mkdir()
    cli("volume", "create", "fast", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,mode=1777")
    cli("volume", "create", "there", "-o", "type=none", "-o", "o=bind", "-o", f"device={there}")
    out = run(cli, "-v", "fast:/a", "-v", "there:/b", "host", "sh", "-c", "touch /b/x; grep ' /a ' /proc/mounts")
    assert "size=1024k" in out
    assert (there / "x").exists()
    cli("volume", "rm", "fast", "there")
    assert (there / "x").exists()


def test_volume_in_use_is_refused_by_name(cli: Cli) -> None:
    """And removed once nobody has it; --force forgives a missing one."""
    cli("create", "--name", "c", "-v", "data:/mnt", "--network", "none", "host", "true")
    assert "container 'c' has it" in cli("volume", "rm", "data", code=None).stderr
    cli("rm", "c")
    cli("volume", "rm", "data")
    assert cli("volume", "rm", "data", code=None).returncode != 0
    cli("volume", "rm", "--force", "data")


def test_volume_directory_is_open_to_a_users_container(cli: Cli) -> None:
    """Written by the root of a user namespace, which owns what was made for it."""
    run(cli, "--userns", "auto", "-v", "v:/mnt", "host", "sh", "-c", "echo x > /mnt/f")
    path = Path(json.loads(cli("volume", "inspect", "v").stdout)[0]["path"])
    info = (path / "f").stat()
    assert info.st_uid == path.stat().st_uid != 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
