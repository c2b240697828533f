"""Users of a root filesystem that is not mounted: layers, whiteouts, hostile links."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral.engine.accounts import resolve_account
from corral.engine.layered import read_layered
from corral.errors import InvalidArgument

PASSWD = "root:x:0:0::/root:/bin/sh\nann:x:1000:100::/home/ann:/bin/sh\nbare:x:7:7:::/bin/sh\n"
GROUP = "root:x:0:\nusers:x:100:\nwheel:x:10:ann,bob\nvideo:x:44:ann\n"


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    """One layer with accounts."""
    folder = tmp_path / "lower"
    (folder / "etc").mkdir(parents=True)
    (folder / "etc" / "passwd").write_text(PASSWD)
    (folder / "etc" / "group").write_text(GROUP)
    return folder


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        pytest.param("", (0, 0, [], "/root"), id="nothing is root"),
        pytest.param("ann", (1000, 100, [10, 44], "/home/ann"), id="name"),
        pytest.param("1000", (1000, 100, [10, 44], "/home/ann"), id="number of an account"),
        pytest.param("4242", (4242, 0, [], "/"), id="number of nobody"),
        pytest.param("ann:wheel", (1000, 10, [], "/home/ann"), id="with a group"),
        pytest.param("ann:77", (1000, 77, [], "/home/ann"), id="with a number of no group"),
        pytest.param("ann:", (1000, 100, [10, 44], "/home/ann"), id="with an empty group"),
        pytest.param("bare", (7, 7, [], "/"), id="without a home"),
    ],
)
def test_user_is_resolved_by_the_images_own_files(
    layer: Path, user: str, expected: tuple[int, int, list[int], str]
) -> None:
    """A group that is given replaces all groups of the account, as in Docker and Podman."""
    found = resolve_account([str(layer)], user)
    assert (found["uid"], found["gid"], found["groups"], found["home"]) == expected


def test_group_add_takes_names_and_numbers_once_each(layer: Path) -> None:
    """--group-add adds to the account's groups; the primary one is not repeated."""
    assert resolve_account([str(layer)], "ann", ["5", "video", "users"])["groups"] == [10, 44, 5]


@pytest.mark.parametrize(("user", "groups"), [("eve", []), ("ann:eves", []), ("ann", ["eves"])])
def test_unknown_names_are_refused(layer: Path, user: str, groups: list[str]) -> None:
    """Only numbers may be unknown."""
    with pytest.raises(InvalidArgument, match="has no such name"):
        resolve_account([str(layer)], user, groups)


def test_upper_layers_hide_lower_ones(layer: Path, tmp_path: Path) -> None:
    """The first layer that has the file counts, and each layer may add directories."""
    upper = tmp_path / "upper"
    (upper / "etc").mkdir(parents=True)
    (upper / "etc" / "passwd").write_text("ann:x:1:2::/:\n")
    assert resolve_account([str(upper), str(layer)], "ann:users")["uid"] == 1
    assert resolve_account([str(upper), str(layer)], "ann:users")["gid"] == 100


def test_links_stay_inside_the_layers(layer: Path, tmp_path: Path) -> None:
    """An absolute link, or one full of .., is followed from the container's root, never from the host's."""
    (layer / "a").symlink_to("/etc/passwd")
    (layer / "b").symlink_to("../../../../../../etc/passwd")
    (layer / "c").symlink_to(tmp_path / "secret")
    (tmp_path / "secret").write_text("host")
    assert read_layered([str(layer)], "/a", 4) == b"root"
    assert read_layered([str(layer)], "/b", 4) == b"root"
    assert read_layered([str(layer)], "/c", 4) is None


def test_link_in_circles_is_no_file(layer: Path) -> None:
    """A loop ends."""
    (layer / "x").symlink_to("y")
    (layer / "y").symlink_to("x")
    assert read_layered([str(layer)], "/x", 10) is None


def test_what_is_no_regular_file_is_not_opened(layer: Path) -> None:
    """A FIFO in place of passwd would block whoever opens it."""
    os.mkfifo(layer / "fifo")
    assert read_layered([str(layer)], "/fifo", 10) is None
    assert read_layered([str(layer)], "/etc", 10) is None
    assert read_layered([str(layer)], "/none/passwd", 10) is None


def test_file_over_a_directory_ends_the_search(layer: Path, tmp_path: Path) -> None:
    """A file in an upper layer hides the directory of that name with all its content."""
    upper = tmp_path / "upper"
    upper.mkdir()
    (upper / "etc").write_text("")
    assert read_layered([str(upper), str(layer)], "/etc/passwd", 10) is None


def test_no_descriptor_stays_open(layer: Path) -> None:
    """All of them are closed, found or not."""
    before = os.listdir("/proc/self/fd")
    read_layered([str(layer), str(layer)], "/etc/passwd", 10)
    read_layered([str(layer), str(layer)], "/etc/none/x", 10)
    assert os.listdir("/proc/self/fd") == before
